//! Who gets how much of a cluster that several use: Spark standalone's examples as processes.

use crate::support::{Cluster, Daemon, guest, offshoot, signal};
use std::process::{Command, Stdio};

/// `submit` with flags of a job of 64 tasks that runs until it is killed.
fn long_job(cluster: &Cluster, flags: &[&str]) -> Command {
    let mut command = cluster.command();
    // All at once, as Spark does without dynamic allocation.
    command.args(["submit", "--conf", "dynamic-allocation.enabled=false"]).args(flags);
    command.arg(guest("pi")).args(["100000000000", "64"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The cores of the executors of the last application, on each worker that has any; greatest first.
fn executors(cluster: &Cluster) -> Vec<Vec<u64>> {
    let apps = cluster.list("apps");
    let mut workers = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for executor in apps.last().unwrap()["executors"].as_array().unwrap() {
        let on = workers.entry(executor["worker"].to_string()).or_default();
        on.push(executor["cores"].as_u64().unwrap());
    }
    let mut all: Vec<_> = workers.into_values().collect();
    all.sort_by(|a, b| b.cmp(a));
    all
}

/// Runs a job with these flags until it has executors: which.
fn placed(cluster: &Cluster, flags: &[&str]) -> Vec<Vec<u64>> {
    let before = cluster.list("apps").len();
    let mut submit = long_job(cluster, flags).spawn().unwrap();
    cluster.wait_for_process(&format!("offshoot executor app-{}/0", before + 1));
    let found = executors(cluster);
    signal(submit.id(), "INT");
    submit.wait().unwrap();
    cluster.wait_until_idle();
    found
}

#[test]
fn the_five_examples_on_five_workers_of_eight_cores() {
    let cluster = Cluster::start(5, 8);
    let flags = |executor: &'static str, total: &'static str| {
        ["--executor-cores", executor, "--total-executor-cores", total]
    };
    assert_eq!(placed(&cluster, &[]), vec![vec![8]; 5]);
    let impossible = |flags: &[&str], text: &str| {
        let mut command = cluster.command();
        command.arg("submit").args(flags).arg(guest("pi")).args(["1000", "2"]);
        crate::support::run(command).failed(3, text);
        assert_eq!(executors(&cluster), Vec::<Vec<u64>>::new());
    };
    let text = "asked for 10 cores per executor, but the largest worker has 8 cores; lower \
         --executor-cores, or wait for a larger worker with --wait";
    impossible(&flags("10", "10"), text);
    impossible(&flags("10", "50"), text);
    impossible(&flags("50", "50"), "asked for 50 cores per executor, but the largest worker has 8");
    impossible(&flags("50", "10"), "executor-cores 50 is more than total-executor-cores 10");

    assert_eq!(placed(&cluster, &["--executor-cores", "4"]), vec![vec![4, 4]; 5]);
    assert_eq!(placed(&cluster, &flags("3", "10")), vec![vec![3]; 3]);
    let even = [3, 3, 2, 2, 2].map(|cores| vec![cores]);
    assert_eq!(placed(&cluster, &["--total-executor-cores", "12"]), even);
    let limited = ["--executor-cores", "2", "--num-executors", "3"];
    assert_eq!(placed(&cluster, &limited), vec![vec![2]; 3]);
}

#[test]
fn a_consolidating_master_with_default_cores() {
    let flags = ["--consolidate", "--default-cores", "12", "--worker-selection-policy=worker-id"];
    let cluster = Cluster::start_with(&flags, 3, 8);
    assert_eq!(placed(&cluster, &[]), [vec![8], vec![4]]);
    let eight = ["--executor-cores", "4", "--total-executor-cores", "8"];
    assert_eq!(placed(&cluster, &eight), [vec![4, 4]]);
}

#[test]
fn what_no_worker_can_hold_waits_for_one_that_can_if_that_is_asked_for() {
    let cluster = Cluster::start(1, 1);
    let memory = ["--executor-memory", "5GiB"];
    let mut command = cluster.command();
    command.arg("submit").args(memory).arg(guest("pi")).args(["1000", "2"]);
    crate::support::run(command)
        .failed(3, "asked for 5 GiB per executor, but the largest worker has 4 GiB; lower");
    let mut command = cluster.command();
    command.args(["submit", "--wait", "--executor-cores", "2"]);
    command.arg(guest("pi")).args(["1000", "2"]);
    let (mut submit, line) = Daemon::start(command, "offshoot: waiting: ");
    let text = "asked for 2 cores per executor, but the largest worker has 1 core";
    assert!(line.contains(text), "{line}");
    let _larger = cluster.start_worker("larger", 2);
    assert_eq!(submit.wait(), Some(0));
}

#[test]
fn a_job_that_has_lost_the_only_worker_that_is_large_enough_waits_for_another() {
    let mut cluster = Cluster::start(1, 1);
    let larger = cluster.start_worker("larger", 2);
    cluster.workers.push(larger);
    let mut command = cluster.command();
    command.args(["submit", "--executor-cores", "2"]).arg(guest("pi"));
    command.args(["400000000", "16"]);
    let mut submit = Daemon::spawn(command);
    let slot = cluster.wait_for_process("offshoot slot app-1/0/1");
    crate::support::wait_until_busy(slot);
    cluster.workers[1].kill();
    let line = submit.wait_for("offshoot: waiting: ");
    assert!(
        line.contains("asked for 2 cores per executor, but the largest worker has 1"),
        "{line}"
    );
    let _another = cluster.start_worker("another", 2);
    assert_eq!(submit.wait(), Some(0));
}

#[test]
fn waiting_in_this_process_is_of_no_use_and_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = offshoot(directory.path());
    command.args(["submit", "--wait"]).arg(guest("pi")).args(["1000", "2"]);
    crate::support::run(command).failed(2, "--wait: a cluster in this process");
}

#[test]
fn a_job_that_others_keep_waiting_says_who_has_what() {
    let cluster = Cluster::start(1, 2);
    let mut first = long_job(&cluster, &[]).spawn().unwrap();
    cluster.wait_for_process("offshoot executor app-1/0");
    let mut command = cluster.command();
    command.args(["submit", "--executor-cores", "1"]).arg(guest("pi")).args(["1000", "2"]);
    let (mut second, line) = Daemon::start(command, "offshoot: waiting: ");
    let text = "asked for 1 core per executor, but no worker has more than 0 cores free; in use: \
         2 cores by app-1 of admin";
    assert!(line.contains(text), "{line}");
    signal(first.id(), "INT");
    first.wait().unwrap();
    assert_eq!(second.wait(), Some(0));
}
