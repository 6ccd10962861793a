//! What Offshoot starts of itself: compiler, spawner, slot, executor. Not for people.

use offshoot_host::executor;
use offshoot_host::launch::executor_main;
use offshoot_net::UdpNetwork;
use offshoot_sandbox::slots::{ProcessSlots, slot_main, spawner_main};
use offshoot_store::SystemStores;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs a hidden subcommand, if the first argument is one.
pub(crate) fn run() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next()?;
    let name = arguments.next().unwrap_or_default();
    Some(match command.as_str() {
        "compile" => ExitCode::from(offshoot_sandbox::compile::child_main() as u8),
        "spawner" => ended("spawner", spawner_main()),
        "slot" => ended("slot", slot_main()),
        "executor" => run_executor(&name),
        _ => return None,
    })
}

fn ended<E: std::fmt::Display>(what: &str, result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offshoot {what}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_executor(name: &str) -> ExitCode {
    crate::log_to_stderr("info");
    let slots = match ProcessSlots::new(name) {
        Ok(slots) => slots,
        Err(error) => return ended("executor", Err(format!("starting the spawner: {error}"))),
    };
    let ports =
        executor::Ports { network: Arc::new(UdpNetwork), slots, stores: Arc::new(SystemStores) };
    let run = executor_main(|start, code, description, ready, shutdown| {
        executor::run(start, code, description, ports, ready, shutdown)
    });
    ended("executor", run)
}
