//! What a person gets wrong: one clear line each, the right exit code, nothing left running.

use crate::support::{Cluster, Said, guest, offshoot, run, run_and_leave_nothing};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

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
        (words(&[&guest("main_panic")]), 101, "main panicked at fixtures/src/bin/main_panic.rs:9"),
        (words(&[&guest("task_panic")]), 1, "partition 2 does not like its number"),
        (words(&[&guest("action_in_task")]), 1, "actions run in main; this is a task of node"),
    ]);
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    for (arguments, code, text) in cases {
        let mut command = offshoot(directory.path());
        command.arg("submit").args(&arguments);
        run_and_leave_nothing(command, &scratch).failed(code, text);
    }
}

/// Where nobody may read, a user of the system is told so by whoever opens: this command, its
/// driver, or an executor.
#[test]
fn what_may_not_be_opened_is_told_in_a_line() {
    let nobody = Nobody::new();
    let top = nobody.directory.path();
    let wordcount = nobody.readable(&guest("wordcount"), "wordcount.wasm");
    let sort = nobody.readable(&guest("sort"), "sort.wasm");
    let text = top.join("text");
    fs::write(&text, "some words\n").unwrap();
    let (closed, open) = (top.join("closed"), top.join("open"));
    fs::create_dir(&open).unwrap();
    for file in ["secret", "module.wasm"] {
        let path = open.join(file);
        fs::write(&path, "a secret\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("file"), "").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // What this command opens, and what the job does: the first two are not tried by a guest.
    let (refused, denied) = ("Permission denied", "permission denied");
    let cases = [
        (words(&[&open.join("module.wasm")]), 2, refused),
        (words(&[&"--allow-read", &closed.join("file"), &wordcount, &"x"]), 2, refused),
        (words(&[&"--allow-read", &closed, &wordcount, &closed]), 1, denied),
        (words(&[&"--allow-read", &open, &wordcount, &open.join("secret")]), 1, denied),
        (
            words(&[
                &"--allow-read",
                &text,
                &"--allow-write",
                &closed,
                &sort,
                &text,
                &closed.join("out"),
            ]),
            1,
            denied,
        ),
    ];
    for (arguments, code, said) in cases {
        nobody.submit(&arguments).failed(code, said);
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
}

/// A user whom permissions hold: the one that runs the tests, or if that is root another one, with
/// copies of what is to be run.
struct Nobody {
    directory: TempDir,
    is_root: bool,
}

impl Nobody {
    const UID: u32 = 65_534;

    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let nobody = Self { directory, is_root };
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(nobody.directory.path(), open).unwrap();
        for own in ["cache", "scratch"] {
            let own = nobody.directory.path().join(own);
            fs::create_dir(&own).unwrap();
            if is_root {
                chown(own, Some(Self::UID), Some(Self::UID)).unwrap();
            }
        }
        nobody.readable(Path::new(env!("CARGO_BIN_EXE_offshoot")), "offshoot");
        nobody
    }

    fn readable(&self, file: &Path, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::copy(file, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn submit(&self, arguments: &[OsString]) -> Said {
        let top = self.directory.path();
        let mut command = Command::new(top.join("offshoot"));
        command.env_clear().env("OFFSHOOT_CACHE", top.join("cache")).stdin(Stdio::null());
        command.current_dir("/").arg("submit").args(arguments);
        if self.is_root {
            command.uid(Self::UID).gid(Self::UID);
        }
        run_and_leave_nothing(command, &top.join("scratch"))
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
        said.failed(code, text);
    }
}

#[test]
fn a_failed_job_leaves_a_cluster_as_it_was() {
    let cluster = Cluster::start(2, 1);
    for name in ["task_exit", "task_panic", "action_in_task"] {
        cluster.submit(&[guest(name)]).failed(1, " (2 attempts, on worker-");
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
