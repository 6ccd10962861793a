//! Who may talk to the master, and as whom.

use crate::support::*;
use offshoot_net::{Closed, Role};
use offshoot_proto::cluster::{FromClient, FromWorker, ToWorker};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber};

#[tokio::test]
async fn executors_and_drivers_have_no_business_with_a_master() {
    let master = TestMaster::start().await;
    let executor = ExecutorId { app: AppId(1), number: ExecutorNumber(0) };
    let roles = [
        (Role::Driver(AppId(1)), "driver"),
        (Role::Executor(executor), "executor"),
        (Role::Master, "master"),
    ];
    for (role, name) in roles {
        let peer = master.peer(role).await;
        for purpose in [Purpose::Control, Purpose::Data] {
            let refused = peer.refusal(purpose).await;
            let reason = format!("permission denied: role {name} may not connect to a master");
            assert!(refused.contains(&reason), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_worker_cannot_be_another() {
    let master = TestMaster::start().await;
    let peer = master.peer(Role::Worker(worker_id("w1"))).await;
    let mut control = peer.control().await;
    control.send(&FromWorker::Register(worker_info("w2"))).await;
    let refused = control.recv::<ToWorker>().await;
    let reason = "worker id is \"w2\", but the certificate is for w1".to_owned();
    assert_eq!(refused, ToWorker::Refused { reason });
    assert_eq!(control.next::<ToWorker>().await, None);
}

#[tokio::test]
async fn a_worker_that_speaks_as_a_tenant_is_cut_and_others_are_not() {
    let master = TestMaster::start().await;
    let (_other, mut other) = master.worker("w2").await;
    let (_peer, mut worker) = master.worker("w1").await;
    // As a frame of a worker this has bytes left over.
    let app = app(b"module");
    worker.send(&register(1, app, vec![0; 64])).await;
    let closed = worker.connection.closed().await;
    assert!(matches!(closed, Closed::ByPeer { .. }), "{closed}");
    other.send(&FromWorker::Heartbeat).await;
    assert_eq!(other.recv::<ToWorker>().await, ToWorker::Heartbeat);
}

#[tokio::test]
async fn peers_are_told_when_the_master_stops() {
    let master = TestMaster::start().await;
    let (_peer, worker) = master.worker("w1").await;
    let mut tool = master.tenant("ada").await.control().await;
    tool.ask(FromClient::ListApps).await;
    master.master.shutdown().await;
    for connection in [worker.connection, tool.connection] {
        match connection.closed().await {
            Closed::ByPeer { reason, .. } => assert_eq!(reason, "the master stops"),
            other => panic!("{other}"),
        }
    }
}
