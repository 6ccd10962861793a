//! Processes that are killed: nothing is left, and what can go on goes on.

use crate::support::{Cluster, Daemon, finish, guest, signal};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A job that runs until it is killed: tasks of a second and more.
fn long_job(cluster: &Cluster) -> Child {
    let mut command = cluster.command();
    command.arg("submit").arg(guest("pi")).args(["100000000000", "64"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_killed_submit_leaves_nothing() {
    let cluster = Cluster::start(2, 1);
    let mut submit = long_job(&cluster);
    cluster.wait_for_process("offshoot slot app-1/0/0");
    submit.kill().unwrap();
    submit.wait().unwrap();
    cluster.wait_until_idle();
    let apps = cluster.list("apps");
    assert_eq!(apps[0]["state"], "lost", "{apps:?}");
    cluster.submit(&[guest("two_jobs")]).ok();
}

#[test]
fn an_interrupted_submit_leaves_nothing() {
    let cluster = Cluster::start(1, 2);
    let submit = long_job(&cluster);
    cluster.wait_for_process("offshoot slot app-1/0/1");
    signal(submit.id(), "INT");
    let said = finish(submit);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("stopped"), "{said:?}");
    cluster.wait_until_idle();
}

#[test]
fn a_killed_executor_is_replaced_and_the_result_is_right() {
    let cluster = Cluster::start(2, 1);
    let mut command = cluster.command();
    command.arg("submit").arg(guest("pi")).args(["400000000", "16"]);
    let submit = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cluster.wait_for_process("offshoot slot app-1/0/0");
    let executor = cluster.wait_for_process("offshoot executor app-1/0");
    signal(executor, "KILL");
    let out = finish(submit).ok();
    assert!(out.starts_with("pi is roughly 3.141"), "{out}");
    cluster.wait_until_idle();
}

#[test]
fn a_killed_slot_costs_an_attempt_and_no_executor() {
    let cluster = Cluster::start(1, 1);
    let mut command = cluster.command();
    command.arg("submit").arg(guest("pi")).args(["400000000", "8"]);
    let submit = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let slot = cluster.wait_for_process("offshoot slot app-1/0/0");
    let executor = cluster.wait_for_process("offshoot executor app-1/0");
    signal(slot, "KILL");
    let again = cluster.wait_for_process("offshoot executor app-1/0");
    assert_eq!(executor, again, "the executor goes on");
    let out = finish(submit).ok();
    assert!(out.starts_with("pi is roughly 3.141"), "{out}");
}

#[test]
fn a_killed_worker_takes_its_children_along() {
    let mut cluster = Cluster::start(2, 1);
    let mut submit = long_job(&cluster);
    cluster.wait_for_process("offshoot slot app-1/0/0");
    cluster.wait_for_process("offshoot slot app-1/1/0");
    let children: Vec<u32> = cluster.workers[0].descendants().iter().map(|(pid, _)| *pid).collect();
    assert!(!children.is_empty());
    cluster.workers[0].kill();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let alive = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("offshoot") && !stat.contains(") Z ")
    };
    while children.iter().any(alive) {
        assert!(std::time::Instant::now() < deadline, "children of a killed worker run on");
    }
    submit.kill().unwrap();
    submit.wait().unwrap();
}

#[test]
fn a_running_job_does_not_need_the_master() {
    let mut cluster = Cluster::start(1, 1);
    let mut command = cluster.command();
    command.arg("submit").arg(guest("pi")).args(["400000000", "8"]);
    let submit = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Computing: the driver knows its executor by now.
    let slot = cluster.wait_for_process("offshoot slot app-1/0/0");
    crate::support::wait_until_busy(slot);
    cluster.master.kill();
    let out = finish(submit).ok();
    assert!(out.starts_with("pi is roughly 3.141"), "{out}");
}

#[test]
fn an_executor_says_what_it_has_done_however_it_ends() {
    let mut cluster = Cluster::start(1, 1);
    let mut submit = long_job(&cluster);
    let slot = cluster.wait_for_process("offshoot slot app-1/0/0");
    crate::support::wait_until_busy(slot);
    // Its worker takes it along; the driver did not tell it to end.
    assert_eq!(cluster.workers[0].terminate(), Some(0));
    submit.kill().unwrap();
    submit.wait().unwrap();
    let lines = cluster.workers[0].last_words();
    let said = lines.iter().filter(|line| line.contains("executor app-1/0 ends: "));
    assert_eq!(said.count(), 1, "{lines:#?}");
}

#[test]
fn a_driver_without_executors_says_that_it_waits_for_its_master_and_goes_on() {
    let mut cluster = Cluster::start(0, 1);
    let mut command = cluster.command();
    command.arg("submit").arg(guest("pi")).args(["1000", "2"]);
    let (mut submit, _) = Daemon::start(command, "offshoot: waiting: the cluster has no workers");
    cluster.master.kill();
    submit.wait_for("offshoot: waiting: the master is gone");
    cluster.restart_master();
    submit.wait_for("offshoot: the master is back");
    let _worker = cluster.start_worker("worker-0", 1);
    assert_eq!(submit.wait(), Some(0));
}

#[test]
fn daemons_end_in_order() {
    let mut cluster = Cluster::start(1, 1);
    cluster.submit(&[guest("two_jobs")]).ok();
    assert_eq!(cluster.workers[0].terminate(), Some(0));
    assert_eq!(cluster.master.terminate(), Some(0));
}
