//! Executors by the thousand, whose credentials are made a few at a time.

use crate::support::*;
use offshoot_net::Role;
use offshoot_proto::cluster::{AppSpec, FromClient, FromWorker, ToClient, ToWorker};
use offshoot_proto::id::AppId;
use std::collections::BTreeSet;

const MODULE: &[u8] = b"\0asm the module";
/// To launch so many takes so long that what is heard meanwhile is heard before the last.
const CORES: u32 = 2000;

/// A large worker, and an application that wants all of it; the module is not there yet.
async fn large(master: &TestMaster) -> (Peer, Control, Peer, Control) {
    let peer = master.peer(Role::Worker(worker_id("w1"))).await;
    let mut worker = peer.control().await;
    let mut info = worker_info("w1");
    (info.cores, info.memory_bytes) = (CORES, u64::from(CORES) * GIB);
    worker.send(&FromWorker::Register(info)).await;
    assert!(matches!(worker.recv::<ToWorker>().await, ToWorker::Registered { .. }));
    let ada = master.tenant("ada").await;
    let mut driver = ada.control().await;
    let mut spec: AppSpec = app(MODULE);
    spec.request.executor_cores = Some(1);
    assert_eq!(driver.register(1, spec).await, (AppId(1), true));
    (peer, worker, ada, driver)
}

#[tokio::test]
async fn all_are_launched_once_and_in_their_order() {
    let master = TestMaster::start().await;
    let (_peer, mut worker, ada, _driver) = large(&master).await;
    crate::modules::put(&ada, MODULE).await;
    for number in 0..CORES {
        assert_eq!(worker.launch().await.executor.number.0, number);
    }
    worker.send(&FromWorker::Heartbeat).await;
    assert_eq!(worker.recv::<ToWorker>().await, ToWorker::Heartbeat);
    master.master.shutdown().await;
}

#[tokio::test]
async fn what_ends_before_it_is_launched_is_not_launched_and_holds_no_core() {
    let master = TestMaster::start().await;
    let (_peer, mut worker, ada, mut driver) = large(&master).await;
    crate::modules::put(&ada, MODULE).await;
    let first = worker.launch().await.executor;
    driver.send(&FromClient::Finished { succeeded: true }).await;
    let (mut launched, mut killed) = (BTreeSet::from([first]), BTreeSet::new());
    loop {
        match worker.recv().await {
            ToWorker::Launch(order) => assert!(launched.insert(order.executor)),
            ToWorker::Kill(executor) => assert!(killed.insert(executor)),
            ToWorker::Forget(app) => break assert_eq!(app, AppId(1)),
            other => panic!("{other:?}"),
        }
    }
    assert!(launched.is_subset(&killed), "what runs is told to stop");
    // The core listens after every few: many are not launched yet when it hears of the end.
    assert_eq!(killed.len(), CORES as usize);
    assert!(launched.len() < killed.len(), "all were launched before: nothing was tried");
    for executor in launched {
        let reason = "killed".to_owned();
        worker.send(&FromWorker::ExecutorGone { executor, reason }).await;
    }
    let mut admin = master.tenant("admin").await.control().await;
    loop {
        let ToClient::Workers(rows) = admin.ask(FromClient::ListWorkers).await else {
            panic!("rows of workers");
        };
        if rows[0].cores_used == 0 {
            break;
        }
    }
    worker.send(&FromWorker::Heartbeat).await;
    assert_eq!(worker.recv::<ToWorker>().await, ToWorker::Heartbeat, "nothing comes after");
    master.master.shutdown().await;
}
