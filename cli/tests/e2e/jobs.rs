//! Every guest example and fixture, on two workers and embedded.

use crate::support::{Cluster, guest, submit};
use std::fs;

#[test]
fn the_operations_give_what_iterators_give() {
    let cluster = Cluster::start(2, 2);
    let lines = |name: &str| cluster.submit(&[guest(name)]).ok();
    let group: String = (0..10)
        .map(|key| {
            let values: Vec<String> = (0..10).map(|n| (n * 10 + key).to_string()).collect();
            format!("{key}\t{}\n", values.join(","))
        })
        .collect();
    assert_eq!(lines("group"), group);
    assert_eq!(lines("join_small"), "1\tone\t10\n1\tone\t11\n3\tthree\t30\n");
    assert_eq!(lines("two_jobs"), "1 2\n");
    assert_eq!(lines("stack_pointer"), "0\n");
    let union = lines("union_take");
    assert!(union.contains("partitions 8\ncount 35\n"), "{union}");
    assert!(union.contains("reduce Some(10645)\n"), "{union}");
    cluster.wait_until_idle();
}

#[test]
fn every_task_is_a_fresh_fork() {
    let cluster = Cluster::start(1, 2);
    for arguments in [vec!["300", "3"], vec!["300", "2", "--grow"]] {
        let mut all = vec![guest("noop").into_os_string()];
        all.extend(arguments.iter().map(Into::into));
        let out = cluster.submit(&all).ok();
        assert_eq!(out.lines().next(), Some("0"), "{out}");
        assert!(out.lines().last().unwrap().contains("tasks/s"), "{out}");
    }
    for write in [None, Some("--write")] {
        let mut all = vec![guest("lookup").into_os_string(), "8".into(), "50".into()];
        all.extend(write.map(Into::into));
        let out = cluster.submit(&all).ok();
        assert!(out.lines().last().unwrap().parse::<f64>().is_ok_and(|s| s > 0.0), "{out}");
    }
}

#[test]
fn without_a_master_the_cluster_is_embedded_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = crate::support::offshoot(directory.path());
    command.env("TMPDIR", &temporary).arg("submit").arg(guest("pi")).args(["100000", "4"]);
    let out = crate::support::run(command).ok();
    assert!(out.starts_with("pi is roughly 3.1"), "{out}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the directory is gone");
}

#[test]
fn a_plain_command_runs_and_its_code_is_the_code() {
    let directory = tempfile::tempdir().unwrap();
    let out = submit(directory.path(), &[guest("hello")]).ok();
    assert_eq!(out, "hello from a plain command\n");
    for code in ["0", "7", "42"] {
        let module = guest("main_exit").into_os_string();
        let said = submit(directory.path(), &[module, code.into()]);
        assert_eq!(said.code, Some(code.parse().unwrap()), "{said:?}");
    }
}

#[test]
fn files_are_there_when_they_are_granted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("note.txt");
    fs::write(&path, "some words\n").unwrap();
    let arguments = [
        "--allow-read".into(),
        path.clone().into_os_string(),
        guest("read_file").into(),
        path.into(),
    ];
    let said = submit(directory.path(), &arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    let denied = submit(directory.path(), &arguments[2..]);
    assert!(denied.out.contains("main\tPermission denied"), "{denied:?}");
    assert!(denied.err.contains("add --allow-read"), "{denied:?}");
}

#[test]
fn a_new_job_builds_and_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = crate::support::offshoot(directory.path());
    command.current_dir(directory.path()).args(["new", "my-job"]);
    crate::support::run(command).ok();
    let mut command = crate::support::offshoot(directory.path());
    command.current_dir(directory.path().join("my-job")).args(["build", "--release"]);
    let module = crate::support::run(command).ok();
    let out = submit(directory.path(), &[module.trim()]).ok();
    assert_eq!(out, "500000 of 1000000 numbers are even\n");
    let mut command = crate::support::offshoot(directory.path());
    command.current_dir(directory.path()).args(["new", "my-job"]);
    let again = crate::support::run(command);
    assert_eq!(again.code, Some(2), "{again:?}");
}

#[test]
fn large_results_come_whole_or_not_at_all() {
    let cluster = Cluster::start(2, 1);
    let job = |rest: &[&str]| {
        let mut all: Vec<std::ffi::OsString> = rest.iter().map(Into::into).collect();
        all.push(guest("large_results").into());
        all.extend(["3000".into(), "6".into()]);
        cluster.submit(&all)
    };
    assert_eq!(job(&[]).ok(), "18432000 true\n");
    let said = job(&["--conf", "max-result-size=10m"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("max-result-size"), "{said:?}");
    let said = job(&["--conf", "max-result-size=1m"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("limit 1048576"), "{said:?}");
    cluster.wait_until_idle();
}

#[test]
fn a_task_has_the_memory_that_its_job_says() {
    let directory = tempfile::tempdir().unwrap();
    let job = |limit: &str| {
        let conf = format!("task-memory={limit}");
        let module = guest("hungry_task").into_os_string();
        submit(directory.path(), &["--conf".into(), conf.into(), module, "64".into(), "1".into()])
    };
    assert_eq!(job("128m").ok(), "[67108864]\n");
    let said = job("32m");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("out of memory: asked for"), "{said:?}");
    let mut arguments: Vec<std::ffi::OsString> = vec!["--executor-memory".into(), "64m".into()];
    arguments.extend([guest("lookup").into(), "128".into(), "4".into()]);
    let said = submit(directory.path(), &arguments);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("--executor-memory") && said.err.contains("--driver-memory"));
}

#[test]
fn a_task_writes_no_more_than_its_job_says() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["output", "shuffle"] {
        let place = directory.path().join(kind);
        fs::create_dir(&place).unwrap();
        let path = place.join("written");
        let temporary = place.join("tmp");
        fs::create_dir(&temporary).unwrap();
        let job = |limit: &str| {
            let mut command = crate::support::offshoot(directory.path());
            command.env("TMPDIR", &temporary).args(["submit", "--conf", limit]);
            command.arg("--allow-write").arg(&place);
            command.arg(guest("full_disk")).arg(kind).arg(&path).arg("8");
            crate::support::run(command)
        };
        let said = job("task-disk-max=2m");
        assert_eq!(said.code, Some(1), "{kind}: {said:?}");
        assert!(said.err.contains("wrote too much to disk: "), "{kind}: {said:?}");
        let advice = "limit 2097152 (raise it with --conf task-disk-max=SIZE";
        assert!(said.err.contains(advice), "{kind}: {said:?}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{kind}: scratch is gone");
        assert!(!path.exists(), "{kind}: nothing is left");
        let said = job("app-disk-max=2m");
        assert_eq!(said.code, Some(1), "{kind}: {said:?}");
        let advice = "limit 2097152 (raise it with --conf app-disk-max=SIZE";
        assert!(said.err.contains(advice), "{kind}: {said:?}");
        assert!(!path.exists(), "{kind}: nothing is left");
        job("task-disk-max=64m").ok();
    }
}

/// A module built once against `offshoot1`. It runs for ever after: if this test fails, the ABI
/// has changed, and the change belongs into a module of another name.
#[test]
fn a_module_of_the_first_day_still_runs() {
    let directory = tempfile::tempdir().unwrap();
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/abi1-join.wasm");
    assert_eq!(submit(directory.path(), &[module]).ok(), "1\tone\t10\n1\tone\t11\n3\tthree\t30\n");
}
