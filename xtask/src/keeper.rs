//! Leaves nothing behind, however this program ends.
//!
//! ```text
//!   xtask ──stdin: "directory PATH", "process PID"──► keeper (a process, not in our group)
//!     │ spawns                                           │ at the end of its standard input:
//!     └──► master, workers, submit ◄──── SIGTERM ────────┘ stops them, removes the directory
//! ```
//!
//! The end of the standard input comes with success, an error, Ctrl-C and `kill -9` alike, so
//! there is one way to clean up and no signal handler.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long all processes together may take to end before they are killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A temporary directory and the processes that use it. Both are gone when this is.
pub(crate) struct Keeper {
    process: Child,
    orders: Option<ChildStdin>,
    directory: PathBuf,
    children: Vec<Child>,
}

/// Names a process of a [`Keeper`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept(usize);

// === impl Keeper ===

impl Keeper {
    /// Starts the keeping process and makes the directory.
    pub(crate) fn start() -> Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let mut process = Command::new(program)
            .arg("keeper")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the keeper")?;
        let orders = process.stdin.take();
        let directory = tempfile::Builder::new()
            .prefix("offshoot-")
            .tempdir()
            .context("making a temporary directory")?
            .keep();
        let mut keeper = Self { process, orders, directory, children: Vec::new() };
        keeper.order(&format!("directory {}", keeper.directory.display()))?;
        Ok(keeper)
    }

    /// The temporary directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a process that lives no longer than the keeper.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<Kept> {
        let started = command.stdin(Stdio::null()).spawn();
        let child = started
            .with_context(|| format!("starting {}", Path::new(command.get_program()).display()))?;
        let id = child.id();
        self.children.push(child);
        self.order(&format!("process {id}"))?;
        Ok(Kept(self.children.len() - 1))
    }

    /// A process that was started here.
    pub(crate) fn child(&mut self, kept: Kept) -> &mut Child {
        &mut self.children[kept.0]
    }

    fn order(&mut self, line: &str) -> Result<()> {
        let orders = self.orders.as_mut().expect("open until the keeper is dropped");
        writeln!(orders, "{line}").context("telling the keeper what to keep")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        // A child that cannot be waited for has been waited for; there is nobody to tell.
        for child in std::iter::once(&mut self.process).chain(&mut self.children) {
            child.wait().ok();
        }
    }
}

/// The keeping process: reads what there is to keep, then stops and removes it.
pub(crate) fn run() -> Result<()> {
    let mut processes = Vec::new();
    let mut directories = Vec::new();
    for line in io::stdin().lines() {
        let line = line.context("reading what to keep")?;
        match line.split_once(' ') {
            Some(("directory", path)) => directories.push(PathBuf::from(path)),
            Some(("process", id)) => {
                let id = id.parse().ok().and_then(Pid::from_raw).context("not a process id")?;
                // One that has ended and been waited for needs no stopping.
                processes.extend(pidfd_open(id, PidfdFlags::empty()).ok());
            }
            _ => bail!("cannot keep {line:?}"),
        }
    }
    stop(&processes);
    for directory in directories {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    Ok(())
}

/// Stops the processes, the last one first: workers before their master.
fn stop(processes: &[OwnedFd]) {
    let deadline = Instant::now() + STOP_DEADLINE;
    for process in processes.iter().rev() {
        // A failure means that it has ended.
        pidfd_send_signal(process, Signal::TERM).ok();
        if !wait(process, deadline.saturating_duration_since(Instant::now())) {
            pidfd_send_signal(process, Signal::KILL).ok();
            wait(process, STOP_DEADLINE);
        }
    }
}

/// Whether a process ends within this time.
fn wait(process: &OwnedFd, time: Duration) -> bool {
    let time = Timespec::try_from(time).expect("a few seconds fit");
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0)
}
