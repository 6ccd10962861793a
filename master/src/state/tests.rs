//! What survives a restart, and what is refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ports::SystemClock;
use offshoot_proto::id::{AppId, Epoch, WorkerId};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;

fn open(directory: &Path) -> Result<State, StateError> {
    State::open(directory, &SystemClock)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn redemption(worker: &str, expires: SystemTime) -> Redemption {
    Redemption {
        worker: WorkerId(worker.to_owned()),
        key: [9; 32],
        expires: expires.duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}

#[test]
fn each_start_is_a_new_epoch_and_no_application_comes_twice() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("new").join("state");
    let mut state = open(&directory).unwrap();
    assert_eq!((state.counters.epoch(), state.counters.next_app()), (Epoch(1), AppId(1)));
    state.counters.use_app(AppId(1)).unwrap();
    state.counters.use_app(AppId(2)).unwrap();
    state.counters.use_app(AppId(1)).unwrap();
    let cluster = state.authority().cluster().clone();
    drop(state);
    let state = open(&directory).unwrap();
    assert_eq!((state.counters.epoch(), state.counters.next_app()), (Epoch(2), AppId(3)));
    assert_eq!(*state.authority().cluster(), cluster);
}

#[test]
fn only_the_owner_can_read_what_is_secret() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let state = open(&directory).unwrap();
    assert_eq!(mode(&directory), 0o700);
    let admin = state.admin_credential();
    assert_eq!(mode(&admin), 0o600);
    let credential = Credential::load(&admin).unwrap();
    assert_eq!(*credential.role(), Role::Tenant("admin".to_owned()));
    drop(state);
    let before = fs::read(&admin).unwrap();
    drop(open(&directory).unwrap());
    assert_eq!(fs::read(&admin).unwrap(), before, "a good credential is kept");
    fs::write(&admin, "garbage").unwrap();
    drop(open(&directory).unwrap());
    assert!(Credential::load(&admin).is_ok(), "a bad one is replaced");
}

#[test]
fn a_second_master_is_told_who_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err().to_string();
    let process = format!("is locked by process {} on ", std::process::id());
    assert!(error.contains(&process), "{error}");
    drop(first);
    open(directory.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("state")).unwrap_err().to_string();
    assert!(error.contains("file/state"), "{error}");
    assert!(error.contains("choose one that this user may write"), "{error}");
}

/// The error after `counters` has been rewritten.
fn with_counters(change: impl Fn(&str) -> String) -> StateError {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let path = directory.path().join("counters");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(&text)).unwrap();
    open(directory.path()).unwrap_err()
}

#[test]
fn newer_foreign_and_damaged_state_is_refused() {
    let newer = with_counters(|text| text.replace("version 1", "version 7"));
    assert!(matches!(newer, StateError::Version { found: 7, supported: 1, .. }), "{newer}");
    let foreign = with_counters(|text| {
        let cluster = text.lines().nth(1).unwrap().to_owned();
        text.replace(&cluster, "cluster 0123456789abcdef")
    });
    assert!(matches!(foreign, StateError::OtherCluster { .. }), "{foreign}");
    let empty = with_counters(|_| String::new());
    assert!(matches!(empty, StateError::Damaged { line: 1, .. }), "{empty}");
    let damaged = with_counters(|text| text.replace("epoch 1", "epoch one"));
    assert!(matches!(damaged, StateError::Damaged { line: 3, .. }), "{damaged}");
}

#[test]
fn redeemed_tokens_are_remembered_until_long_after_they_expire() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 60 * 60);
    let mut state = open(directory.path()).unwrap();
    let (fresh, old) = (redemption("w-1", now + day), redemption("w-2", now - 8 * day));
    state.redeemed.record([1; 16], fresh.clone()).unwrap();
    state.redeemed.record([2; 16], old).unwrap();
    drop(state);
    let state = open(directory.path()).unwrap();
    assert_eq!(state.redeemed.find(&[1; 16]), Some(&fresh));
    assert_eq!(state.redeemed.find(&[2; 16]), None);
}

#[test]
fn a_line_that_a_crash_cut_short_is_dropped_and_a_damaged_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("redeemed");
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let mut state = open(directory.path()).unwrap();
    state.redeemed.record([1; 16], redemption("w-1", expires)).unwrap();
    drop(state);
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
    let mut state = open(directory.path()).unwrap();
    state.redeemed.record([3; 16], redemption("w-3", expires)).unwrap();
    drop(state);
    let state = open(directory.path()).unwrap();
    assert!(state.redeemed.find(&[1; 16]).is_some() && state.redeemed.find(&[3; 16]).is_some());
    drop(state);
    fs::write(&path, format!("{whole}{}\n", &whole[..40])).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, StateError::Damaged { line: 2, .. }), "{error}");
}

#[test]
fn who_is_to_leave_is_remembered_and_a_file_that_is_not_understood_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("drains");
    let now = UNIX_EPOCH + Duration::from_secs(1_000);
    let (worker, minute) = (WorkerId("w-1".to_owned()), Duration::from_secs(60));
    let state = open(directory.path()).unwrap();
    assert_eq!(state.drains.1, Drains::default(), "nobody, without a file");
    state.drains.0.save(&Drains::until([(worker.clone(), minute)].into(), now)).unwrap();
    drop(state);
    assert_eq!(mode(&path), 0o600);
    let state = open(directory.path()).unwrap();
    assert_eq!(state.drains.1.clone().left(now).collect::<Vec<_>>(), [(worker, minute)]);
    drop(state);
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("/drains"), "{error}");
        error
    };
    let newer = refused("version 2\n");
    assert!(matches!(newer, StateError::Version { found: 2, supported: 1, .. }), "{newer}");
    let short = refused("version 1\ndrain w-1 until 106").to_string();
    assert!(short.contains("line 2: it is cut short"), "{short}");
    assert!(short.contains("delete the file: then no worker is to leave"), "{short}");
    let garbage = refused("version 1\ndrain nobody\n");
    assert!(matches!(garbage, StateError::DamagedDrains { line: 2, .. }), "{garbage}");
}
