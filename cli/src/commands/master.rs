//! `offshoot master`.

use crate::failure::Failure;
use crate::parse;
use crate::signals::Stop;
use clap::Args;
use offshoot_master::ports::{Ports, SystemClock};
use offshoot_master::server::{self, Config};
use offshoot_master::state::State;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Flags of `offshoot master`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 for any.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::address)]
    listen: SocketAddr,
    /// The cluster's key, modules and state. Made at the first start; keep it private.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let state = State::open(&arguments.dir, &SystemClock).map_err(Failure::usage)?;
    let credential = state.admin_credential();
    crate::runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let config = Config { listen: arguments.listen, leases: Default::default() };
        let served = server::serve(state, config, Ports::system()).await;
        let mut master = served.map_err(Failure::usage)?;
        eprintln!("listening on {}", master.local_address());
        eprintln!("the first credential is {}", credential.display());
        tokio::select! {
            biased;
            () = stop.asked() => master.shutdown().await,
            () = master.ended() => return Err(Failure::local("the master has ended")),
        }
        Ok(ExitCode::SUCCESS)
    })
}
