//! Workers that are told to leave, on a disk that does not always take it.

use crate::support::*;
use offshoot_net::Role;
use offshoot_proto::cluster::{FromClient, ToClient, ToWorker, WorkerState};
use std::fs;

const ADMIN: &str = "admin";
const MODULE: &[u8] = b"\0asm the module";

async fn ask(master: &TestMaster, message: FromClient) -> ToClient {
    let admin = master.peer(Role::Tenant(ADMIN.to_owned())).await;
    admin.control().await.ask(message).await
}

fn drain(worker: &str) -> FromClient {
    FromClient::Drain { worker: worker_id(worker), within_millis: 60_000 }
}

async fn states(master: &TestMaster) -> Vec<WorkerState> {
    match ask(master, FromClient::ListWorkers).await {
        ToClient::Workers(rows) => rows.iter().map(|row| row.state).collect(),
        other => panic!("{other:?}"),
    }
}

/// A worker in use, so that it does not leave at once.
async fn used_worker(master: &TestMaster) -> (Peer, Control, Peer, Control) {
    let (worker, mut control) = master.worker("w1").await;
    let driver = master.tenant(ADMIN).await;
    let mut job = driver.control().await;
    job.register(1, app(MODULE)).await;
    crate::modules::put(&driver, MODULE).await;
    control.launch().await;
    (worker, control, driver, job)
}

#[tokio::test]
async fn an_order_that_cannot_be_written_down_is_refused_and_leaves_nothing_behind() {
    let master = TestMaster::start().await;
    let _used = used_worker(&master).await;
    let staged = master.directory.path().join("drains.staged");
    fs::create_dir(&staged).unwrap();
    let ToClient::Refused { reason } = ask(&master, drain("w1")).await else { panic!("drained") };
    let path = master.directory.path().join("drains");
    assert!(reason.starts_with("worker w1 is not drained: "), "{reason}");
    assert!(reason.contains(path.to_str().unwrap()), "{reason}");
    assert_eq!(states(&master).await, [WorkerState::Alive]);
    fs::remove_dir(&staged).unwrap();
    let master = master.restart().await;
    assert_eq!(states(&master).await, [], "nobody is awaited");
}

#[tokio::test]
async fn who_is_to_leave_is_so_after_a_restart_and_who_has_left_is_not() {
    let master = TestMaster::start().await;
    let (_idle, mut idle) = master.worker("w0").await;
    assert_eq!(ask(&master, drain("w0")).await, ToClient::Done);
    assert_eq!(idle.recv::<ToWorker>().await, ToWorker::Leave);
    let master = master.restart().await;
    assert_eq!(states(&master).await, [], "w0 is not awaited");
    let _used = used_worker(&master).await;
    assert_eq!(ask(&master, drain("w1")).await, ToClient::Done);
    let master = master.restart().await;
    assert_eq!(states(&master).await, [WorkerState::Draining], "w1 is");
}
