//! Applications from registration to their end, as drivers and workers see them.

use crate::support::*;
use offshoot_master::cluster::Leases;
use offshoot_net::{Credential, NewKey, Role};
use offshoot_proto::cluster::{
    AppRow, AppState, FromClient, FromWorker, ToClient, ToWorker, WorkerState,
};
use offshoot_proto::frame;
use offshoot_proto::id::AppId;
use std::net::Ipv4Addr;
use std::time::Duration;

const MODULE: &[u8] = b"\0asm the module";

#[tokio::test]
async fn an_application_lives_from_registration_to_its_end() {
    let master = TestMaster::start().await;
    let (_worker, mut worker) = master.worker("w1").await;
    let ada = master.tenant("ada").await;
    let mut driver = ada.control().await;
    let (app_id, wants_module) = driver.register(1, app(MODULE)).await;
    assert_eq!((app_id, wants_module), (AppId(1), true));
    crate::modules::put(&ada, MODULE).await;

    let order = worker.launch().await;
    assert_eq!((order.cores, order.memory_bytes), (4, GIB));
    assert_eq!(order.app, app(MODULE));
    let credential: Credential = frame::from_bytes(&order.credential).unwrap();
    assert_eq!(*credential.role(), Role::Executor(order.executor));
    credential.check().unwrap();

    let executor = order.executor;
    let address = (Ipv4Addr::UNSPECIFIED, 7001).into();
    worker.send(&FromWorker::ExecutorReady { executor, address }).await;
    let ToClient::ExecutorAdded(info) = driver.recv().await else {
        panic!("an executor listens");
    };
    assert_eq!(info.address, (Ipv4Addr::LOCALHOST, 7001).into());
    assert_eq!(info.worker_address, (Ipv4Addr::LOCALHOST, 7000).into());
    assert_eq!(driver.ask(FromClient::Heartbeat).await, ToClient::Heartbeat);

    driver.send(&FromClient::Finished { succeeded: true }).await;
    assert_eq!(driver.next::<ToClient>().await, None, "the master closes the connection");
    assert_eq!(worker.recv::<ToWorker>().await, ToWorker::Kill(executor));
    assert_eq!(worker.recv::<ToWorker>().await, ToWorker::Forget(app_id));
    worker.send(&FromWorker::Heartbeat).await;
    assert_eq!(worker.recv::<ToWorker>().await, ToWorker::Heartbeat);
    master.master.shutdown().await;
}

#[tokio::test]
async fn a_driver_gets_a_certificate_for_its_own_key() {
    let master = TestMaster::start().await;
    let mut driver = master.tenant("ada").await.control().await;
    let key = NewKey::generate().unwrap();
    let signing_request = key.signing_request().unwrap();
    let answer = driver.ask(register(1, app(MODULE), signing_request)).await;
    let ToClient::Registered { certificate, .. } = answer else {
        panic!("{answer:?}");
    };
    let authority = master.master.authority().certificate().to_vec();
    let credential = key.into_credential(certificate, authority).unwrap();
    assert_eq!(*credential.role(), Role::Driver(AppId(1)));
    credential.check().unwrap();
}

#[tokio::test]
async fn a_driver_with_a_false_signing_request_is_refused() {
    let master = TestMaster::start().await;
    let mut driver = master.tenant("ada").await.control().await;
    driver.send(&register(1, app(MODULE), b"not a request".to_vec())).await;
    let reason = driver.refused().await;
    assert!(reason.contains("cannot register app-1: the signing request"), "{reason}");
}

#[tokio::test]
async fn impossible_requests_are_refused_with_a_sentence() {
    let master = TestMaster::start().await;
    let mut driver = master.tenant("ada").await.control().await;
    let mut none = app(MODULE);
    none.request.executor_cores = Some(0);
    driver.send(&register(1, none, Vec::new())).await;
    let reason = driver.refused().await;
    assert_eq!(reason, "executor-cores is 0; it must be from 1 to 4096");
}

#[tokio::test]
async fn the_same_key_is_the_same_application_on_another_connection() {
    let master = TestMaster::start().await;
    let ada = master.tenant("ada").await;
    let mut first = ada.control().await;
    let (id, _) = first.register(7, app(MODULE)).await;
    let mut second = ada.control().await;
    assert_eq!(second.register(7, app(MODULE)).await.0, id);
    assert_eq!(first.next::<ToClient>().await, None, "the older connection is closed");
}

#[tokio::test]
async fn a_waiting_driver_hears_what_it_waits_for() {
    let master = TestMaster::start().await;
    let ada = master.tenant("ada").await;
    crate::modules::put(&ada, MODULE).await;
    let mut driver = ada.control().await;
    let (_, wants_module) = driver.register(1, app(MODULE)).await;
    assert!(!wants_module);
    assert_eq!(
        driver.recv::<ToClient>().await,
        ToClient::Waiting(offshoot_proto::waiting::WaitReason::NoWorkers)
    );
    let (_worker, mut worker) = master.worker("w1").await;
    worker.launch().await;
}

#[tokio::test]
async fn a_silent_driver_loses_its_application() {
    let leases = Leases { driver: Duration::from_millis(200), ..Leases::default() };
    let master = start_in(tempfile::tempdir().unwrap(), leases).await;
    let ada = master.tenant("ada").await;
    let mut driver = ada.control().await;
    driver.register(1, app(MODULE)).await;
    let reason = driver.refused().await;
    assert_eq!(reason, "app-1 is lost: nothing heard from its driver for 0.2 s");
    let rows = list_apps(&mut ada.control().await).await;
    assert_eq!(rows[0].state, AppState::Lost);
}

#[tokio::test]
async fn a_silent_worker_is_lost() {
    let leases = Leases { worker: Duration::from_millis(200), ..Leases::default() };
    let master = start_in(tempfile::tempdir().unwrap(), leases).await;
    let (_peer, mut worker) = master.worker("w1").await;
    assert_eq!(worker.next::<ToWorker>().await, None);
    let mut tool = master.tenant("ada").await.control().await;
    let ToClient::Workers(rows) = tool.ask(FromClient::ListWorkers).await else {
        panic!("rows");
    };
    assert_eq!(rows[0].state, WorkerState::Lost);
}

async fn list_apps(tool: &mut Control) -> Vec<AppRow> {
    match tool.ask(FromClient::ListApps).await {
        ToClient::Apps(rows) => rows,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tenants_see_their_own_applications_and_the_admin_all() {
    let master = TestMaster::start().await;
    let (ada, bob) = (master.tenant("ada").await, master.tenant("bob").await);
    let mut driver = ada.control().await;
    let (id, _) = driver.register(1, app(MODULE)).await;
    assert!(list_apps(&mut bob.control().await).await.is_empty());
    for name in ["ada", "admin"] {
        let rows = list_apps(&mut master.tenant(name).await.control().await).await;
        let shown: Vec<_> = rows.iter().map(|row| (row.id, &row.tenant[..])).collect();
        assert_eq!(shown, [(id, "ada")]);
    }
}

#[tokio::test]
async fn no_application_id_comes_twice_and_epochs_rise() {
    let master = TestMaster::start().await;
    let mut driver = master.tenant("ada").await.control().await;
    assert_eq!(driver.register(1, app(MODULE)).await.0, AppId(1));
    let master = master.restart().await;
    let mut driver = master.tenant("ada").await.control().await;
    assert_eq!(driver.register(1, app(MODULE)).await.0, AppId(2));
    let peer = master.peer(Role::Worker(worker_id("w1"))).await;
    let mut control = peer.control().await;
    control.send(&FromWorker::Register(worker_info("w1"))).await;
    let ToWorker::Registered { epoch } = control.recv().await else {
        panic!("registered");
    };
    assert_eq!(epoch.0, 2);
}
