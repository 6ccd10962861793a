//! A cluster on this machine, made of the processes that a real one is made of.

use crate::keeper::{Keeper, Kept};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a process may take until it says that it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How often its log is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Lines of a log that are shown when a process fails.
const LOG_LINES_SHOWN: usize = 10;

/// A master and workers on loopback, with their own temporary directory.
pub(crate) struct LocalCluster {
    keeper: Keeper,
    offshoot: PathBuf,
    master: String,
    processes: Vec<Member>,
}

/// A long-running process of the cluster.
pub(crate) struct Member {
    /// `master`, `worker-1` and so on.
    pub(crate) name: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
    kept: Kept,
}

// === impl LocalCluster ===

impl LocalCluster {
    /// Starts a master and workers, and waits until all are ready.
    pub(crate) fn start(offshoot: &Path, workers: u32, cores: u32) -> Result<Self> {
        let keeper = Keeper::start()?;
        let mut cluster = Self {
            keeper,
            offshoot: offshoot.to_owned(),
            master: String::new(),
            processes: Vec::new(),
        };
        let state = cluster.directory().join("master");
        let mut command = cluster.offshoot(["master", "--listen", "127.0.0.1:0", "--dir"]);
        command.arg(&state);
        let master = cluster.member("master", &mut command)?;
        cluster.master = cluster
            .wait_for(master, |line| Some(line.strip_prefix("listening on ")?.to_owned()))?;
        for number in 1..=workers {
            cluster.start_worker(&format!("worker-{number}"), cores, &state)?;
        }
        Ok(cluster)
    }

    fn start_worker(&mut self, name: &str, cores: u32, state: &Path) -> Result<()> {
        let mut command = self.offshoot(["token", "worker", "--dir"]);
        let output = command.arg(state).stderr(Stdio::inherit()).output();
        let output = output.context("starting offshoot token")?;
        ensure!(output.status.success(), "offshoot token worker: {}", output.status);
        let token = String::from_utf8(output.stdout).context("reading a join token")?;

        let mut command = self.offshoot(["worker", "--master", &self.master]);
        command.args(["--token", token.trim(), "--listen", "127.0.0.1:0"]);
        command.args(["--cores", &cores.to_string(), "--dir"]).arg(self.directory().join(name));
        let worker = self.member(name, &mut command)?;
        self.wait_for(worker, |line| {
            (line.starts_with("worker ") && line.contains(" registered with ")).then_some(())
        })
    }

    /// The temporary directory; gone with the cluster.
    pub(crate) fn directory(&self) -> &Path {
        self.keeper.directory()
    }

    /// The master's address.
    pub(crate) fn master(&self) -> &str {
        &self.master
    }

    /// The long-running processes.
    pub(crate) fn members(&self) -> &[Member] {
        &self.processes
    }

    /// `offshoot submit` to this cluster; options and the job are for the caller to add.
    pub(crate) fn submit(&self) -> Command {
        let mut command = self.offshoot(["submit", "--master", &self.master, "--credential"]);
        command.arg(self.directory().join("master/admin.credential"));
        command
    }

    /// Starts a process that ends with the cluster at the latest.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<Kept> {
        self.keeper.spawn(command)
    }

    /// Runs a command to its end; its standard output. What it says on standard error is shown
    /// if it fails.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<String> {
        let (out, err) = (self.directory().join("stdout"), self.directory().join("stderr"));
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        let kept = self.spawn(command)?;
        let status = self.keeper.child(kept).wait()?;
        ensure!(status.success(), "{status}: {}", last_lines(&err).trim());
        fs::read_to_string(&out).context("reading standard output")
    }

    /// Runs a command to its end; when each line of its standard output came.
    pub(crate) fn run_timing_lines(&mut self, command: &mut Command) -> Result<Vec<Instant>> {
        let err = self.directory().join("stderr");
        command.stdout(Stdio::piped()).stderr(File::create(&err)?);
        let kept = self.spawn(command)?;
        let stdout = self.keeper.child(kept).stdout.take().context("a pipe was asked for")?;
        let mut times = Vec::new();
        for line in BufReader::new(stdout).lines() {
            line.context("reading standard output")?;
            times.push(Instant::now());
        }
        let status = self.keeper.child(kept).wait()?;
        ensure!(status.success(), "{status}: {}", last_lines(&err).trim());
        Ok(times)
    }

    /// Waits for a process that was started by [`LocalCluster::spawn`].
    pub(crate) fn wait(&mut self, kept: Kept) -> Result<()> {
        let status = self.keeper.child(kept).wait()?;
        ensure!(status.success(), "the job ended with {status}");
        Ok(())
    }

    /// The process id of a process that was started by [`LocalCluster::spawn`].
    pub(crate) fn pid(&mut self, kept: Kept) -> u32 {
        self.keeper.child(kept).id()
    }

    /// Kills a process that was started by [`LocalCluster::spawn`].
    pub(crate) fn kill(&mut self, kept: Kept) -> Result<()> {
        let child = self.keeper.child(kept);
        child.kill().context("killing a job")?;
        child.wait().map(drop).context("waiting for a killed job")
    }

    fn offshoot(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.offshoot);
        // Not the user's cluster, and a module cache that is empty when the cluster starts.
        command.args(arguments).env_remove("OFFSHOOT_MASTER").env_remove("OFFSHOOT_CREDENTIAL");
        command.env("OFFSHOOT_CONFIG", "/dev/null");
        command.env("OFFSHOOT_CACHE", self.directory().join("cache"));
        command
    }

    fn member(&mut self, name: &str, command: &mut Command) -> Result<usize> {
        let log = self.directory().join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let kept = self.keeper.spawn(command.stdout(Stdio::null()).stderr(file))?;
        let pid = self.keeper.child(kept).id();
        self.processes.push(Member { name: name.to_owned(), pid, kept, log });
        Ok(self.processes.len() - 1)
    }

    /// Waits until a line of a member's log says what is wanted.
    fn wait_for<T>(&mut self, member: usize, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let Member { name, kept, log, .. } = &self.processes[member];
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let ended = self.keeper.child(*kept).try_wait()?;
            let text = fs::read_to_string(log).unwrap_or_default();
            // The last line may still be on its way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(found) = whole.lines().find_map(&wanted) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("{name} ended with {status}:\n{}", last_lines(log));
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} is not ready after {} s; it said:\n{}",
                    READY_DEADLINE.as_secs(),
                    last_lines(log)
                );
            }
            sleep(LOOK_INTERVAL);
        }
    }
}

/// The end of a log, for a person.
fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
