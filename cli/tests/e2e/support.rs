//! Processes of a cluster that end with the test, and what may be asked of them.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take that a person would wait for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a busy machine may take to have nothing of an application left.
const IDLE_WITHIN: Duration = Duration::from_secs(20);

/// A master and workers.
pub(crate) struct Cluster {
    pub(crate) directory: TempDir,
    pub(crate) address: String,
    pub(crate) master: Daemon,
    pub(crate) workers: Vec<Daemon>,
}

/// A process that runs until it is told to stop.
pub(crate) struct Daemon {
    child: Child,
    /// Lines of its standard error.
    #[expect(
        clippy::disallowed_types,
        reason = "a test has a thread to wait with, and no runtime"
    )]
    lines: mpsc::Receiver<String>,
}

/// A process as `/proc` shows it.
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
    /// Its command line.
    name: String,
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A module of the guest examples.
pub(crate) fn guest(name: &str) -> PathBuf {
    offshoot_tests::guests::module(name)
}

/// The program, with nothing of this process's environment that matters to it.
pub(crate) fn offshoot(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offshoot"));
    let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"OFFSHOOT_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("XDG_CONFIG_HOME", directory.join("config"));
    command.env("OFFSHOOT_CACHE", directory.join("cache")).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Said {
    Said::of(command.output().unwrap())
}

/// Runs `offshoot submit` with an embedded cluster.
pub(crate) fn submit<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> Said {
    let mut command = offshoot(directory);
    command.arg("submit").args(arguments);
    run(command)
}

/// Runs a command that keeps its temporary files in `scratch`. Neither a process nor a file of it
/// is there afterwards: it is a process group of its own.
pub(crate) fn run_and_leave_nothing(mut command: Command, scratch: &Path) -> Said {
    command.env("TMPDIR", scratch).process_group(0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let group = child.id();
    let said = finish(child);
    let deadline = Instant::now() + IDLE_WITHIN;
    loop {
        let files = scratch.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let mut left: Vec<String> = files.map(|path| path.display().to_string()).collect();
        let running = processes().into_iter().filter(|process| process.group == group);
        left.extend(running.map(|process| process.name));
        if left.is_empty() {
            return said;
        }
        assert!(Instant::now() < deadline, "{said:?} left {left:?}");
    }
}

// === impl Cluster ===

impl Cluster {
    /// So many workers with so many cores each, all registered.
    pub(crate) fn start(workers: usize, cores: u32) -> Self {
        Self::start_with(&[], workers, cores)
    }

    /// The same with flags of the master.
    pub(crate) fn start_with(flags: &[&str], workers: usize, cores: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = offshoot(directory.path());
        command.args(["master", "--listen", "127.0.0.1:0", "--dir"]);
        command.arg(directory.path().join("master")).args(flags);
        let (master, line) = Daemon::start(command, "listening on ");
        let address = line.split("listening on ").nth(1).unwrap().trim().to_owned();
        let mut cluster = Self { directory, address, master, workers: Vec::new() };
        for number in 0..workers {
            let worker = cluster.start_worker(&format!("worker-{number}"), cores);
            cluster.workers.push(worker);
        }
        cluster
    }

    /// Starts the master again, with what it has on disk.
    pub(crate) fn restart_master(&mut self) {
        let mut command = offshoot(self.directory.path());
        command.args(["master", "--listen", &self.address, "--dir"]);
        command.arg(self.directory.path().join("master"));
        self.master = Daemon::start(command, "listening on ").0;
    }

    pub(crate) fn start_worker(&self, name: &str, cores: u32) -> Daemon {
        let token = self.token();
        let mut command = offshoot(self.directory.path());
        command.args(["worker", "--master", &self.address, "--token", &token, "--cores"]);
        command.args([&cores.to_string(), "--memory", "4GiB", "--dir"]);
        command.arg(self.directory.path().join(name));
        Daemon::start(command, " registered with ").0
    }

    pub(crate) fn token(&self) -> String {
        let mut command = offshoot(self.directory.path());
        command.args(["token", "worker", "--dir"]).arg(self.directory.path().join("master"));
        let said = run(command);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out.trim().to_owned()
    }

    /// A command that knows the cluster from its environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = offshoot(self.directory.path());
        let credential = self.directory.path().join("master/admin.credential");
        command.env("OFFSHOOT_MASTER", &self.address).env("OFFSHOOT_CREDENTIAL", credential);
        command
    }

    pub(crate) fn submit<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        let mut command = self.command();
        command.arg("submit").args(arguments);
        run(command)
    }

    /// `offshoot workers --json` or `apps --json`.
    pub(crate) fn list(&self, what: &str) -> Vec<Value> {
        let mut command = self.command();
        command.args([what, "--json"]);
        let said = run(command);
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }

    fn worker_directory(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("worker-{number}"))
    }

    /// Waits until no core is in use, no file of an application is there and no process beneath
    /// a worker runs; fails with what is left then. On an idle machine it takes less than 5 s.
    pub(crate) fn wait_until_idle(&self) {
        let limit = IDLE_WITHIN;
        let deadline = Instant::now() + limit;
        loop {
            let left = self.what_is_left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "after {limit:?} there is still: {left:?}");
        }
    }

    fn what_is_left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for row in self.list("workers") {
            if row["cores_used"] != 0 || row["memory_used_bytes"] != 0 {
                left.push(row.to_string());
            }
        }
        for (number, worker) in self.workers.iter().enumerate() {
            left.extend(worker.descendants().into_iter().map(|(_, name)| name));
            for name in ["apps", "trash"] {
                let directory = self.worker_directory(number).join(name);
                let entries = directory.read_dir().into_iter().flatten().flatten();
                left.extend(entries.map(|entry| entry.path().display().to_string()));
            }
        }
        left
    }

    /// Waits for a process beneath a worker whose command line contains `text`; its id.
    pub(crate) fn wait_for_process(&self, text: &str) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.workers.iter().flat_map(Daemon::descendants);
            if let Some((pid, _)) = all.into_iter().find(|(_, name)| name.contains(text)) {
                return pid;
            }
            assert!(Instant::now() < deadline, "no process {text:?} within {PATIENCE:?}");
        }
    }
}

// === impl Daemon ===

impl Daemon {
    /// Starts a process and waits for a line of its standard error that contains `text`.
    pub(crate) fn start(command: Command, text: &str) -> (Self, String) {
        let daemon = Self::spawn(command);
        let line = daemon.wait_for(text);
        (daemon, line)
    }

    /// Starts a process.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        // Reads to the end, so that the process never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines: receiver }
    }

    /// Waits for a further line of its standard error that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.lines_until(text).pop().unwrap()
    }

    /// Waits for a further line of its standard error that contains `text`: all lines to that.
    pub(crate) fn lines_until(&self, text: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error} waiting for {text:?}; it said: {seen:#?}"),
            }
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// All further lines of its standard error; it has to end.
    pub(crate) fn last_words(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        signal(self.pid(), "TERM");
        self.child.wait().unwrap().code()
    }

    /// Processes beneath this one, with their command lines.
    pub(crate) fn descendants(&self) -> Vec<(u32, String)> {
        let mut parents = vec![self.pid()];
        let mut found = Vec::new();
        let all = processes();
        while let Some(parent) = parents.pop() {
            for Process { pid, name, .. } in all.iter().filter(|p| p.parent == parent) {
                parents.push(*pid);
                found.push((*pid, name.clone()));
            }
        }
        found
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.pid(), "TERM");
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.child.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    let _ = self.child.kill();
                }
                std::thread::yield_now();
            }
        }
    }
}

/// Waits until something holds; fails with what is seen instead.
pub(crate) fn wait_until(holds: impl Fn() -> bool, seen: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?}: {}", seen());
    }
}

/// Waits until a process has used a fifth of a second of processor time.
pub(crate) fn wait_until_busy(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(11)?.parse::<u64>().ok()
    };
    while ticks().is_none_or(|ticks| ticks < 20) {
        assert!(Instant::now() < deadline, "process {pid} has nothing to do");
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

/// Every process that has not ended.
fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name may hold anything; what follows its last parenthesis does not.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            let name = std::fs::read(entry.path().join("cmdline")).ok()?;
            let name = String::from_utf8_lossy(&name).replace('\0', " ");
            (state != "Z").then_some(Process { pid, parent, group, name })
        })
        .collect()
}

// === impl Said ===

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Failed with this exit code, and one line that contains `text`.
    pub(crate) fn failed(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "standard output is for results: {self:?}");
        let line = self.err.strip_suffix('\n');
        let line = line.unwrap_or_else(|| panic!("an unfinished line: {self:?}"));
        assert!(!line.contains('\n'), "more than a line: {}", self.err);
        assert!(line.contains(text), "no {text:?} in {line:?}");
    }

    /// Ended with 0; what it wrote to standard output.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

/// Waits for a child that is to be ended by a signal or by itself.
pub(crate) fn finish(mut child: Child) -> Said {
    let mut out = String::new();
    let mut err = String::new();
    if let Some(mut stream) = child.stdout.take() {
        stream.read_to_string(&mut out).unwrap();
    }
    if let Some(mut stream) = child.stderr.take() {
        stream.read_to_string(&mut err).unwrap();
    }
    Said { code: child.wait().unwrap().code(), out, err }
}
