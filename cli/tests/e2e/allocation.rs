//! Executors come with the work and go without it.

use crate::support::{Cluster, Daemon, guest, signal};
use std::process::Command;

/// A job of 1,000 tasks, then of none until a file is there, then of 1,000 again.
fn pausing(cluster: &Cluster, steps: &str, flags: &[&str]) -> Command {
    let mut command = cluster.command();
    let go_on = cluster.directory.path().join("go-on");
    command.env("RUST_LOG", "info").arg("submit").args(flags);
    command.args(["--conf", "dynamic-allocation.executor-idle-timeout=300ms", "--allow-read"]);
    command.arg(cluster.directory.path()).arg(guest("pausing")).args(["1000", steps]).arg(go_on);
    command
}

/// Seconds since the start, executors wanted and executors running, of a line that says so.
fn change(line: &str) -> Option<(f64, u32, u32)> {
    let text = line.split("executors: wanted ").nth(1)?;
    let (wanted, text) = text.split_once(", running ")?;
    let (running, text) = text.split_once(", after ")?;
    let seconds = text.strip_suffix(" s")?;
    Some((seconds.parse().ok()?, wanted.parse().ok()?, running.parse().ok()?))
}

/// The changes up to one that `last` describes.
fn changes_until(submit: &Daemon, last: &str) -> Vec<(f64, u32, u32)> {
    submit.lines_until(last).iter().filter_map(|line| change(line)).collect()
}

fn show(changes: &[(f64, u32, u32)]) {
    println!("     s  wanted  running");
    for (seconds, wanted, running) in changes {
        println!("{seconds:>6.3}  {wanted:>6}  {running:>7}");
    }
}

/// The state of the last application: its cores and executors.
fn held(cluster: &Cluster) -> (u64, usize) {
    let apps = cluster.list("apps");
    let Some(app) = apps.last() else {
        return (0, 0);
    };
    (app["cores"].as_u64().unwrap(), app["executors"].as_array().unwrap().len())
}

fn wait_until_held(cluster: &Cluster, expected: (u64, usize)) {
    crate::support::wait_until(|| held(cluster) == expected, || format!("{:?}", held(cluster)));
}

#[test]
fn a_thousand_tasks_take_eight_executors_and_an_idle_driver_none() {
    let cluster = Cluster::start(1, 8);
    let flags = ["--executor-cores", "1", "--executor-memory", "64MiB"];
    let max = ["--conf", "dynamic-allocation.max-executors=8"];
    let command = pausing(&cluster, "3000000", &[&flags[..], &max].concat());
    let mut submit = Daemon::spawn(command);
    let mut changes = changes_until(&submit, "wanted 8, running 8");
    wait_until_held(&cluster, (8, 8));
    changes.extend(changes_until(&submit, "wanted 0, running 0"));
    show(&changes);
    wait_until_held(&cluster, (0, 0));
    assert!(changes.iter().all(|(_, wanted, running)| *wanted <= 8 && *running <= 8));
    let wanted: Vec<u32> = changes.iter().map(|(_, wanted, _)| *wanted).collect();
    let mut ramp = wanted.clone();
    ramp.dedup();
    assert_eq!(ramp[..5], [0, 1, 3, 7, 8], "{changes:?}");
    assert!(ramp[5..].is_sorted_by(|a, b| a > b), "{changes:?}");

    std::fs::write(cluster.directory.path().join("go-on"), "").unwrap();
    let again = changes_until(&submit, "wanted 8, running 8");
    show(&again);
    assert_eq!(submit.wait(), Some(0));
    cluster.wait_until_idle();
}

#[test]
fn the_first_example_needs_forty_tasks_for_five_whole_workers() {
    let cluster = Cluster::start(5, 8);
    let mut command = cluster.command();
    command.arg("submit").arg(guest("pi")).args(["100000000000", "64"]);
    let mut submit = Daemon::spawn(command);
    wait_until_held(&cluster, (40, 5));
    signal(submit.pid(), "INT");
    submit.wait();
    cluster.wait_until_idle();
}

#[test]
fn tasks_of_several_cores_have_them() {
    let cluster = Cluster::start(1, 8);
    let flags = ["--executor-cores", "5", "--conf", "task-cores=2"];
    let mut command = cluster.command();
    command.arg("submit").args(flags).arg(guest("pi")).args(["100000000000", "64"]);
    let mut submit = Daemon::spawn(command);
    cluster.wait_for_process("offshoot slot app-1/0/1");
    let slots = cluster.workers[0].descendants();
    let slots = slots.iter().filter(|(_, name)| name.contains("offshoot slot app-1/0/"));
    assert_eq!(slots.count(), 2, "5 cores are 2 tasks");
    signal(submit.pid(), "INT");
    submit.wait();
    let large = ["--conf", "spark.task.cpus=9"];
    let refused = |flags: &[&str]| {
        let mut command = cluster.command();
        command.arg("submit").args(flags).arg(guest("pi")).args(["1000", "2"]);
        crate::support::run(command)
    };
    refused(&large).failed(3, "asked for 9 cores per executor, but the largest worker has 8 cores");
    let text = "task-cores 9 is more than executor-cores 5; lower the first or raise the second";
    refused(&[&large[..], &flags[..2]].concat()).failed(2, text);
    let contrary = ["--num-executors", "9", "--conf", "dynamic-allocation.max-executors=8"];
    refused(&contrary).failed(2, "num-executors 9 is more than dynamic-allocation.max-executors 8");
}

#[test]
fn an_idle_driver_keeps_its_minimum() {
    let cluster = Cluster::start(1, 2);
    let flags = ["--executor-cores", "1", "--conf", "dynamic-allocation.min-executors=1"];
    let mut submit = Daemon::spawn(pausing(&cluster, "1000", &flags));
    submit.wait_for("wanted 1, running 1");
    wait_until_held(&cluster, (1, 1));
    std::fs::write(cluster.directory.path().join("go-on"), "").unwrap();
    assert_eq!(submit.wait(), Some(0));
}

#[test]
fn an_application_gives_back_what_another_tenant_is_owed() {
    let cluster = Cluster::start(1, 8);
    let credential = cluster.directory.path().join("bob.credential");
    let mut add = cluster.command();
    add.args(["tenant", "add", "bob", "--out"]).arg(&credential);
    crate::support::run(add).ok();
    let flags = ["submit", "--executor-cores", "1", "--executor-memory", "64MiB"];
    let mut command = cluster.command();
    command.env("RUST_LOG", "info").args(flags).arg(guest("noop")).args(["1000000", "1000"]);
    let mut first = Daemon::spawn(command);
    wait_until_held(&cluster, (8, 8));

    let mut command = cluster.command();
    command.env("OFFSHOOT_CREDENTIAL", &credential).args(flags);
    command.arg(guest("pi")).args(["100000000000", "64"]);
    let mut second = Daemon::spawn(command);
    let cores = || {
        let apps = cluster.list("apps");
        apps.iter().map(|app| app["cores"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    crate::support::wait_until(|| cores() == [4, 4], || format!("{:?}", cores()));
    first.wait_for("released");
    // Whoever is alone has all of it again.
    signal(second.pid(), "INT");
    second.wait();
    crate::support::wait_until(|| cores()[0] == 8, || format!("{:?}", cores()));
    signal(first.pid(), "INT");
    first.wait();
    let words = first.last_words();
    assert!(!words.iter().any(|line| line.contains("is gone")), "{words:#?}");
    cluster.wait_until_idle();
}
