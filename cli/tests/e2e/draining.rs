//! Workers that leave while they are in use.

use crate::support::{Cluster, Said, finish, guest, run};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

impl Cluster {
    /// Drains the worker of this number, and waits until it has ended.
    fn drain(&mut self, number: usize) {
        let said = self.drain_with(&[&self.worker_id(number)]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains("has left"), "{said:?}");
        assert_eq!(self.workers[number].wait(), Some(0));
        let left: Vec<_> = self.list("workers").iter().map(|row| row["state"].clone()).collect();
        assert_eq!(left, ["alive"]);
    }

    fn drain_with(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        command.arg("drain").args(arguments);
        run(command)
    }

    /// As its credential names it.
    fn worker_id(&self, number: usize) -> String {
        let file = self.directory.path().join(format!("worker-{number}/worker.credential"));
        let text = fs::read_to_string(file).unwrap();
        let ids =
            self.list("workers").into_iter().map(|row| row["id"].as_str().unwrap().to_owned());
        ids.into_iter().find(|id| text.lines().next().unwrap().contains(id)).unwrap()
    }
}

/// Runs a job that waits for a file, drains worker 0 meanwhile, and returns what it said before
/// and after.
fn drain_between(module: &str, arguments: &[&str]) -> (String, Vec<String>) {
    let mut cluster = Cluster::start(2, 1);
    let directory: PathBuf = cluster.directory.path().join("granted");
    fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    let mut command = cluster.command();
    command.args(["submit", "--allow-write", path]).arg(guest(module)).arg(path).args(arguments);
    let mut child: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let before = lines.next().unwrap();
    cluster.drain(0);
    fs::write(directory.join("go"), "").unwrap();
    let after = lines.collect();
    let said = finish(child);
    assert_eq!(said.code, Some(0), "{said:?}");
    cluster.workers.remove(0);
    (before, after)
}

#[test]
fn what_is_kept_goes_elsewhere_and_is_not_computed_again() {
    for level in ["memory", "disk"] {
        let (before, after) = drain_between("kept", &["8", level]);
        assert_eq!(before, "count 1000 computed 8");
        assert_eq!(after, ["sum 332833500 computed 8", "max Some(998001) computed 8"], "{level}");
    }
}

#[test]
fn what_is_shuffled_goes_elsewhere_and_is_not_computed_again() {
    let (before, after) = drain_between("shuffled", &["8"]);
    assert_eq!(before, "keys 100 computed 8");
    assert_eq!(after, ["sum 7998000 computed 8"]);
}

#[test]
fn under_load_no_task_fails_and_all_are_done() {
    let mut cluster = Cluster::start(2, 2);
    let mut command = cluster.command();
    let flags = ["--conf", "task-max-failures=1", "--executor-cores", "1"];
    command.arg("submit").args(flags).arg(guest("equal_tasks")).args(["4000", "5"]);
    let job = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while cluster.list("apps").first().is_none_or(|app| app["cores"] != 4) {}
    cluster.drain(0);
    let output = job.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"4000\n"[..]), "{said}");
}

#[test]
fn what_does_not_end_is_stopped_at_the_deadline() {
    let mut cluster = Cluster::start(2, 1);
    let mut command = cluster.command();
    command.args(["submit", "--conf", "task-max-failures=1"]).arg(guest("equal_tasks"));
    command.args(["8", "1000000"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut job = command.spawn().unwrap();
    while cluster.list("apps").first().is_none_or(|app| app["cores"] != 2) {}
    let said = cluster.drain_with(&["--within", "1s", &cluster.worker_id(0)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(cluster.workers[0].wait(), Some(0));
    assert_eq!(job.try_wait().unwrap(), None, "that counts as no failure");
    crate::support::signal(job.id(), "INT");
    job.wait().unwrap();
}

#[test]
fn what_cannot_be_drained_says_so() {
    let cluster = Cluster::start(1, 1);
    cluster.drain_with(&["nobody"]).failed(3, "there is no worker nobody; see `offshoot workers`");
    cluster.drain_with(&["--within", "soon", "x"]).failed(2, "write it as 100ms, 1s, 5min or 2h");
    cluster.drain_with(&["--within", "1000h", "x"]).failed(3, "at most 604800 s to leave");
    let id = cluster.worker_id(0);
    assert_eq!(cluster.drain_with(&["--no-wait", &id]).code, Some(0));
    let left: Vec<Value> = cluster.list("workers");
    assert!(left.iter().all(|row| row["state"] != "alive"), "{left:?}");
}
