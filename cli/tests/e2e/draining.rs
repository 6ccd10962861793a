//! Workers that leave while they are in use.

use crate::support::{Cluster, Daemon, Said, finish, guest, run, signal};
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
/// and after, and how many of its tasks said that they compute something.
fn drain_between(module: &str, arguments: &[&str]) -> (String, Vec<String>, usize) {
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
    cluster.workers[1].terminate();
    let lines = cluster.workers.iter().flat_map(|worker| worker.last_words());
    let computed = lines.filter(|line| line.contains("computes")).count();
    (before, after, computed)
}

#[test]
fn what_is_kept_goes_elsewhere_and_is_not_computed_again() {
    for level in ["memory", "disk"] {
        let (before, after, computed) = drain_between("kept", &["8", level]);
        assert_eq!(before, "count 1000 computed 8");
        assert_eq!(after, ["sum 332833500 computed 8", "max Some(998001) computed 8"], "{level}");
        assert_eq!(computed, 8, "{level}");
    }
}

#[test]
fn what_is_shuffled_goes_elsewhere_and_is_not_computed_again() {
    let (before, after, computed) = drain_between("shuffled", &["8", "100000"]);
    assert_eq!((&before[..], &after[..]), ("keys 100", &["sum 7998000".to_owned()][..]));
    assert_eq!(computed, 8);
}

#[test]
fn a_drain_goes_on_when_the_master_is_killed_and_started_again() {
    let mut cluster = Cluster::start(2, 1);
    let directory: PathBuf = cluster.directory.path().join("granted");
    fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    let mut command = cluster.command();
    // The other executor is there until the end: it has what is copied.
    let stays = ["--conf", "dynamic-allocation.executor-idle-timeout=10min"];
    command.args(["submit", "--allow-write", path]).args(stays).arg(guest("shuffled"));
    command.args([path, "8", "1000000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut job = command.spawn().unwrap();
    let mut lines = BufReader::new(job.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = cluster.workers[0].lines_until("computes");
    // This task does not end before it may.
    let processes = cluster.workers[0].descendants();
    let slot = processes.iter().find(|(_, name)| name.contains("offshoot slot app-1/")).unwrap().0;
    signal(slot, "STOP");
    let mut command = cluster.command();
    command.arg("drain").arg(cluster.worker_id(0));
    let (mut drain, _) = Daemon::start(command, ": 1 cores in use");
    cluster.master.kill();
    drain.wait_for("waiting: the master is gone");
    cluster.restart_master();
    drain.wait_for("the master is back");
    signal(slot, "CONT");
    drain.wait_for("has left");
    assert_eq!(drain.wait(), Some(0));
    said.extend(cluster.workers[0].lines_until("drained: the master lets this worker go"));
    assert_eq!(cluster.workers[0].wait(), Some(0));
    let left: Vec<_> = cluster.list("workers").iter().map(|row| row["state"].clone()).collect();
    assert_eq!(left, ["alive"]);
    let kept = fs::read_to_string(cluster.directory.path().join("master/drains")).unwrap();
    assert_eq!(kept, "version 1\n", "it is to leave no more");
    // What was written there is elsewhere.
    assert_eq!(lines.next().unwrap(), "keys 100");
    fs::write(directory.join("go"), "").unwrap();
    assert_eq!(lines.collect::<Vec<_>>(), ["sum 7998000"]);
    let ended = finish(job);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    cluster.workers[1].terminate();
    said.extend(cluster.workers.iter().flat_map(|worker| worker.last_words()));
    assert_eq!(said.iter().filter(|line| line.contains("computes")).count(), 8);
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
    signal(job.id(), "INT");
    job.wait().unwrap();
}

#[test]
fn what_cannot_be_drained_says_so() {
    let cluster = Cluster::start(1, 1);
    cluster.drain_with(&["nobody"]).failed(3, "there is no worker nobody; see `offshoot workers`");
    cluster.drain_with(&["--within", "soon", "x"]).failed(2, "write it as 100ms, 5min or a");
    cluster.drain_with(&["--within", "1000h", "x"]).failed(3, "at most 604800 s to leave");
    let id = cluster.worker_id(0);
    assert_eq!(cluster.drain_with(&["--no-wait", &id]).code, Some(0));
    let left: Vec<Value> = cluster.list("workers");
    assert!(left.iter().all(|row| row["state"] != "alive"), "{left:?}");
}
