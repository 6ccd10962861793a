//! What a person gets wrong: one clear line each, the right exit code, nothing left running.

use crate::support::{Cluster, guest, offshoot, run, submit};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Arguments of `submit`, its exit code, and what standard error must hold.
type Case = (Vec<OsString>, i32, &'static str);

fn words(list: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    list.iter().map(|item| item.as_ref().to_owned()).collect()
}

fn modules(directory: &Path) -> Vec<Case> {
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let no_task = r#"(module
        (import "offshoot1" "job_submit" (func (param i32 i32) (result i32)))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let unknown = r#"(module
        (import "env" "launch" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    vec![
        (words(&[&directory.join("none.wasm")]), 2, "No such file"),
        (words(&[&file("empty.wasm", b"")]), 2, "not wasm (magic the file is empty)"),
        (words(&[&file("elf.wasm", b"\x7fELF\x02\x01")]), 2, "not wasm (magic 7f 45 4c 46)"),
        (words(&[&file("cut.wasm", b"\0asm\x01\0\0\0\x01\x7f")]), 2, "InvalidModule"),
        (
            words(&[&file("task.wat", &wat(no_task))]),
            2,
            "MissingExport: offshoot_task(i32, i32) -> i64",
        ),
        (words(&[&file("import.wat", &wat(unknown))]), 2, "UnknownImport: env::launch"),
    ]
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn what_cannot_be_submitted_is_told_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut cases = modules(directory.path());
    let pi = guest("pi");
    cases.extend([
        (words(&[&"--conf", &"task-memroy=1g", &pi]), 2, "did you mean task-memory?"),
        (words(&[&"--conf", &"task-memory=10gb5", &pi]), 2, "expected a size"),
        (words(&[&"--executor-memory", &"10gb5", &pi]), 2, "is not a size"),
        (words(&[&"--executor-cores", &"0", &pi]), 2, "0 is not in 1..=4096"),
        (words(&[&"--allow-read", &"/no/such/path", &pi]), 2, "--allow-read /no/such/path"),
        (words(&[&"--master", &"127.0.0.1:1", &pi]), 2, "needs a credential"),
        (words(&[&"--master", &"nonsense", &pi]), 2, "ADDR:PORT"),
        (words(&[&pi, &"many", &"tasks"]), 2, "usage: pi"),
        (words(&[&guest("wordcount")]), 2, "usage: wordcount"),
        (words(&[&guest("wordcount"), &"/etc/hostname"]), 1, "--allow-read"),
        (words(&[&guest("task_exit")]), 1, "task called exit(3)"),
        (words(&[&guest("task_panic")]), 1, "partition 2 does not like its number"),
        (words(&[&guest("action_in_task")]), 1, "actions run in main; this is a task of node"),
    ]);
    for (arguments, code, text) in cases {
        let said = submit(directory.path(), &arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.err.contains(text), "{arguments:?}: {said:?}");
        assert_eq!(said.out, "", "{arguments:?}: standard output is the guest's");
    }
}

#[test]
fn daemons_refuse_what_they_cannot_use() {
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let master = |path: &Path| words(&[&"master", &"--listen", &"127.0.0.1:0", &"--dir", &path]);
    let worker = ["worker", "--master", "127.0.0.1:1", "--dir"];
    let worker = |rest: &[&str]| {
        let mut all: Vec<OsString> = worker.iter().map(Into::into).collect();
        all.push(directory.path().join("worker").into_os_string());
        all.extend(rest.iter().map(Into::into));
        all
    };
    let cases = [
        (master(&file.join("below")), 2, "file"),
        (words(&[&"token", &"worker", &"--dir", &directory.path().join("none")]), 2, "none"),
        (worker(&[]), 2, "--token"),
        (worker(&["--token", "offshoot-join-1-00"]), 2, "not a join token"),
        (worker(&["--memory", "10gb5"]), 2, "is not a size"),
        (worker(&["--executor-ports", "9-3"]), 2, "A-B"),
        (words(&[&"workers"]), 2, "--master"),
        (words(&[&"mster"]), 2, "master"),
    ];
    for (arguments, code, text) in cases {
        let mut command = offshoot(directory.path());
        command.args(&arguments);
        let said = run(command);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.err.contains(text), "{arguments:?}: {said:?}");
    }
}

#[test]
fn a_failed_job_leaves_a_cluster_as_it_was() {
    let cluster = Cluster::start(2, 1);
    for name in ["task_exit", "task_panic", "action_in_task"] {
        let said = cluster.submit(&[guest(name)]);
        assert_eq!(said.code, Some(1), "{said:?}");
        cluster.wait_until_idle();
    }
}

#[test]
fn strangers_are_refused() {
    let cluster = Cluster::start(1, 1);
    let other = Cluster::start(0, 1);
    let credential = other.directory.path().join("master/admin.credential");
    let mut command = cluster.command();
    command.env("OFFSHOOT_CREDENTIAL", credential).arg("workers");
    let said = run(command);
    assert_eq!(said.code, Some(3), "{said:?}");
    // A worker's identity is no tenant's.
    let mut command = cluster.command();
    let worker = cluster.directory.path().join("worker-0/worker.credential");
    command.env("OFFSHOOT_CREDENTIAL", worker).arg("submit").arg(guest("pi")).args(["1000", "2"]);
    let said = run(command);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("may not"), "{said:?}");
    // A token is good once, and for its own cluster.
    let token = cluster.token();
    for (master, code) in [(&other.address, 3), (&cluster.address, 0)] {
        let mut command = offshoot(cluster.directory.path());
        let directory = cluster.directory.path().join(format!("joined-{code}"));
        command.args(["worker", "--master", master, "--token", &token, "--cores", "1", "--dir"]);
        command.arg(&directory);
        if code == 0 {
            let (mut daemon, _) = crate::support::Daemon::start(command, " registered with ");
            assert_eq!(daemon.terminate(), Some(0));
        } else {
            let said = run(command);
            assert_eq!(said.code, Some(code), "{said:?}");
        }
    }
    let mut command = offshoot(cluster.directory.path());
    command.args(["worker", "--master", &cluster.address, "--token", &token, "--dir"]);
    let said = run({
        command.arg(cluster.directory.path().join("again"));
        command
    });
    assert_eq!(said.code, Some(3), "{said:?}");
}
