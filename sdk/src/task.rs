//! Where the program is: in `main`, or in a task; and how a task ends when it cannot go on.

use crate::{node, raw};
use core::cell::Cell;
use core::fmt;
use offshoot_proto::id::{NodeId, Partition};
use std::panic::{self, PanicHookInfo};

thread_local! {
    /// What this fork computes; nothing in `main`.
    static CURRENT: Cell<Option<(NodeId, Partition)>> = const { Cell::new(None) };
    /// What is left to do when this task has computed its partition.
    static AT_END: Cell<Option<fn()>> = const { Cell::new(None) };
    static HOOK_INSTALLED: Cell<bool> = const { Cell::new(false) };
}

/// The task that this fork is.
pub(crate) fn current() -> Option<(NodeId, Partition)> {
    CURRENT.get()
}

/// Computes a partition of a node, called by the host in a fork of the driver.
#[cfg_attr(
    not(any(target_family = "wasm", test)),
    allow(dead_code, reason = "nobody runs tasks of a native program")
)]
pub(crate) fn run(node: u32, partition: u32) {
    CURRENT.set(Some((NodeId(node), Partition(partition))));
    match node::computation(NodeId(node)) {
        Some(compute) => compute(partition),
        None => fail(format_args!("node {node} is not one of this driver's")),
    }
    if let Some(finish) = AT_END.take() {
        finish();
    }
    CURRENT.set(None);
}

/// Has this task end with a call of `finish`.
pub(crate) fn at_end(finish: fn()) {
    AT_END.set(Some(finish));
}

/// Back to `main`: only a host in the same process needs it.
#[cfg(test)]
pub(crate) fn leave() {
    CURRENT.set(None);
}

/// Panics in a task: what follows is for `main` only.
#[track_caller]
pub(crate) fn require_main() {
    if let Some((node, _)) = current() {
        panic!("actions run in main; this is a task of node {node}");
    }
}

/// Ends the task with a message that needs no source line: the data or the host is at fault.
pub(crate) fn fail(message: fmt::Arguments<'_>) -> ! {
    if cfg!(test) || current().is_none() {
        panic!("{message}");
    }
    raw::task_fail(message.to_string().as_bytes());
    std::process::abort()
}

/// Exit code of a `main` that panics, as of a native program.
#[cfg(target_family = "wasm")]
const PANICKED: i32 = 101;

/// From now on a panic in a task tells the host its message and place. One in `main` is printed.
pub(crate) fn install_panic_hook() {
    if HOOK_INSTALLED.replace(true) {
        return;
    }
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if current().is_some() {
            raw::task_fail(describe(info).as_bytes());
        } else {
            end_main(info, &print);
        }
    }));
}

/// Prints the panic in one line and ends the program. If it aborted, the host would tell of that,
/// too, with the frames of Rust's own panic handling.
#[cfg(target_family = "wasm")]
fn end_main(info: &PanicHookInfo<'_>, _: &dyn Fn(&PanicHookInfo<'_>)) {
    // Not by `str::replace`: it would be a hundredth of a small job's module.
    let mut text = info.to_string().into_bytes();
    let mut ends = text.iter_mut().filter(|byte| **byte == b'\n');
    if let Some(end) = ends.next() {
        *end = b' ';
    }
    ends.for_each(|end| *end = b';');
    let text = [b"main ", &text[..], b"\n"].concat();
    // Nobody is told that nobody can be told.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), &text);
    std::process::exit(PANICKED);
}

/// A native program goes on as Rust programs do.
#[cfg(not(target_family = "wasm"))]
fn end_main(info: &PanicHookInfo<'_>, print: &dyn Fn(&PanicHookInfo<'_>)) {
    print(info);
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let mut text = info.to_string();
    let message = info.payload_as_str().unwrap_or_default();
    if message.starts_with("RefCell already") || message.starts_with("already ") {
        text.push_str(
            "\na task starts as main stood in the action: what main had borrowed is borrowed here",
        );
    }
    text
}
