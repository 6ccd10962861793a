//! Executors from the order to the last word about them.

use super::support::{Stage, TestMaster, exists, hash_of, order_of, soon};
use crate::launch::test_support::executor;
use offshoot_proto::cluster::{FromWorker, ToWorker};
use offshoot_proto::id::{AppId, WorkerId};
use std::fs;

#[tokio::test]
async fn an_executor_gets_its_order_a_directory_and_a_range_of_ports() {
    let mut master = TestMaster::start().await;
    let (stage, mut control, actor) = master.launched().await;
    let start = &actor.start;
    assert_eq!(start.launch, order_of(executor(1, 0), b"module"));
    assert_eq!(start.worker, WorkerId("w1".to_owned()));
    assert_eq!(start.worker_address, stage.worker.local_address());
    assert_eq!(start.listen, stage.worker.local_address().ip());
    assert_eq!(start.ports, Some((4001, 4010)));
    assert_eq!(start.app_directory, master.app_directory(1));
    assert!(exists(&start.app_directory.join("shuffle")));
    assert!(exists(&start.app_directory.join("spill")));
    let address = "127.0.0.1:4001".parse().unwrap();
    actor.ready.send(Ok(address)).unwrap();
    let ready = FromWorker::ExecutorReady { executor: executor(1, 0), address };
    assert_eq!(control.hear().await, ready);
    actor.end.send("ended by signal 9".to_owned()).unwrap();
    assert_eq!(control.hear_gone(executor(1, 0)).await, "ended by signal 9");
}

#[tokio::test]
async fn an_executor_that_cannot_begin_is_killed_and_its_reason_told() {
    let mut master = TestMaster::start().await;
    let (_stage, mut control, mut actor) = master.launched().await;
    let reason = "cannot listen on 127.0.0.1, ports 4001 to 4010".to_owned();
    actor.ready.send(Err(reason.clone())).unwrap();
    assert_eq!(soon(actor.told.recv()).await, Some("kill"));
    actor.end.send("ended by signal 9".to_owned()).unwrap();
    assert_eq!(control.hear_gone(executor(1, 0)).await, reason);
}

#[tokio::test]
async fn a_module_that_the_master_does_not_have_ends_the_launch() {
    let mut master = TestMaster::start().await;
    let _stage = Stage::start(master.config()).await;
    let (mut control, _) = master.registered().await;
    control.launch(order_of(executor(1, 0), b"absent")).await;
    let reason = control.hear_gone(executor(1, 0)).await;
    let hash = hash_of(b"absent");
    assert_eq!(reason, format!("the master has no module {hash}: upload it first"));
}

#[tokio::test]
async fn a_module_with_other_bytes_is_not_compiled() {
    let mut master = TestMaster::start().await;
    let hash = hash_of(b"module");
    master.modules.lock().unwrap().insert(hash, b"M0dule".to_vec());
    let _stage = Stage::start(master.config()).await;
    let (mut control, _) = master.registered().await;
    control.launch(order_of(executor(1, 0), b"module")).await;
    let reason = control.hear_gone(executor(1, 0)).await;
    let found = hash_of(b"M0dule");
    let expected = format!("module {hash} arrived damaged: its bytes have the hash {found}");
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn a_module_over_the_limit_is_not_read() {
    let mut master = TestMaster::start().await;
    let hash = hash_of(b"module");
    let large = vec![0; (32 << 20) + 1];
    master.modules.lock().unwrap().insert(hash, large);
    let _stage = Stage::start(master.config()).await;
    let (mut control, _) = master.registered().await;
    control.launch(order_of(executor(1, 0), b"module")).await;
    let reason = control.hear_gone(executor(1, 0)).await;
    assert_eq!(reason, format!("module {hash} has 33554433 bytes, the limit is 33554432"));
}

#[tokio::test]
async fn an_application_that_has_ended_leaves_no_executor_and_no_file() {
    let mut master = TestMaster::start().await;
    let (_stage, mut control, mut actor) = master.launched().await;
    let directory = actor.start.app_directory.clone();
    fs::write(directory.join("shuffle/data"), "x").unwrap();
    control.say(&ToWorker::Forget(AppId(1))).await;
    assert_eq!(actor.told().await, "stop");
    control.settle().await;
    assert!(exists(&directory), "its executor may still write");
    actor.end.send("stopped".to_owned()).unwrap();
    let reason = control.hear_gone(executor(1, 0)).await;
    assert_eq!(reason, "its application has ended");
    control.settle().await;
    assert!(!exists(&directory));
}

#[tokio::test]
async fn a_worker_that_stops_ends_its_executors_and_says_so() {
    let mut master = TestMaster::start().await;
    let (stage, mut control, mut actor) = master.launched().await;
    let stopping = tokio::spawn(stage.worker.shutdown());
    assert_eq!(actor.told().await, "stop");
    assert!(!stopping.is_finished());
    actor.end.send("stopped".to_owned()).unwrap();
    assert_eq!(control.hear_gone(executor(1, 0)).await, "its worker stops");
    drop(control);
    assert_eq!(soon(stopping).await.unwrap(), Ok(()));
}
