//! The keeper leaves nothing behind, whoever stops talking to it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

fn keeper() -> Child {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("keeper")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A process that runs until it is stopped.
fn endless() -> Child {
    Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn processes_and_directories_are_gone_when_the_input_ends() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "content").unwrap();
    let mut kept = [endless(), endless()];
    let mut not_kept = endless();

    let mut keeper = keeper();
    let mut orders = keeper.stdin.take().unwrap();
    writeln!(orders, "directory {}", directory.path().display()).unwrap();
    for process in &kept {
        writeln!(orders, "process {}", process.id()).unwrap();
    }
    drop(orders);

    assert!(keeper.wait().unwrap().success());
    assert!(!directory.path().exists());
    for process in &mut kept {
        assert_eq!(process.wait().unwrap().signal(), Some(15));
    }
    assert_eq!(not_kept.try_wait().unwrap(), None);
    not_kept.kill().unwrap();
    not_kept.wait().unwrap();
}

#[test]
fn an_order_that_makes_no_sense_is_an_error() {
    let mut keeper = keeper();
    writeln!(keeper.stdin.take().unwrap(), "process everything").unwrap();
    assert!(!keeper.wait().unwrap().success());
}
