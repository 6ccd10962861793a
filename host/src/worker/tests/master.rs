//! A worker and its master: registration, loss, refusal, renewal, other peers.

use super::support::{Stage, TestMaster, exists, soon};
use crate::launch::test_support::executor;
use offshoot_net::{
    Accepts, ConnectError, Credential, Endpoint, Role, RoleKind, UdpNetwork, Validity,
};
use offshoot_proto::cluster::{FromWorker, ToWorker};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{AppId, Epoch, WorkerId};
use std::fs;
use std::net::Ipv4Addr;
use std::time::SystemTime;

#[tokio::test]
async fn a_worker_registers_what_it_has() {
    let mut master = TestMaster::start().await;
    let mut stage = Stage::start(master.config()).await;
    let (_control, info) = master.registered().await;
    assert_eq!(info.id, WorkerId("w1".to_owned()));
    assert_eq!(info.address, stage.worker.local_address());
    assert_eq!((info.cores, info.memory_bytes), (4, 1 << 30));
    assert_eq!(info.executors, []);
    soon(stage.worker.registered()).await;
}

#[tokio::test]
async fn executors_go_on_while_the_master_is_away() {
    let mut master = TestMaster::start().await;
    let (stage, mut control, mut actor) = master.launched().await;
    let address = "127.0.0.1:4001".parse().unwrap();
    actor.ready.send(Ok(address)).unwrap();
    control.hear().await;
    drop(control);
    let (mut control, info) = master.registered().await;
    let held: Vec<_> = info.executors.iter().map(|e| (e.id, e.address)).collect();
    assert_eq!(held, [(executor(1, 0), Some(address))]);
    control.settle().await;
    assert!(actor.told.try_recv().is_err(), "it is told nothing");
    drop(stage);
}

#[tokio::test]
async fn a_refused_worker_ends_with_the_masters_reason() {
    let mut master = TestMaster::start().await;
    let mut stage = Stage::start(master.config()).await;
    let mut control = master.control().await;
    control.hear().await;
    let reason = "cores is 4096; it must be from 1 to 8".to_owned();
    control.say(&ToWorker::Refused { reason }).await;
    let ended = soon(stage.worker.ended()).await.unwrap_err();
    let expected = "the master refused this worker: cores is 4096; it must be from 1 to 8";
    assert_eq!(ended.reason, expected);
    assert_eq!(stage.worker.ended().await, Err(ended), "asked again, the same");
}

#[tokio::test]
async fn a_master_of_another_cluster_is_not_served() {
    let master = TestMaster::start().await;
    let other = TestMaster::start().await;
    let mut config = master.config();
    config.master = other.config().master;
    let mut stage = Stage::start(config).await;
    let ended = soon(stage.worker.ended()).await.unwrap_err();
    assert!(ended.reason.contains("is not a member of this cluster"), "{ended}");
}

#[tokio::test]
async fn what_an_earlier_worker_left_is_deleted_once_the_master_has_accepted() {
    let mut master = TestMaster::start().await;
    let (stage, _control, actor) = master.launched().await;
    let left = actor.start.app_directory.join("shuffle/data");
    fs::write(&left, "x").unwrap();
    let task = tokio::spawn(stage.worker.shutdown());
    actor.end.send("stopped".to_owned()).unwrap();
    soon(task).await.unwrap().unwrap();
    let _stage = Stage::start(master.config()).await;
    let mut control = master.control().await;
    control.hear().await;
    assert!(exists(&left), "nothing is deleted for a master that may be the wrong one");
    control.say(&ToWorker::Registered { epoch: Epoch(2) }).await;
    control.settle().await;
    assert!(!exists(&actor.start.app_directory));
}

#[tokio::test]
async fn a_certificate_is_renewed_used_and_kept() {
    let mut master = TestMaster::start().await;
    let mut config = master.config();
    let path = master.directory.path().join("worker.pem");
    config.credential_file = Some(path.clone());
    let old = config.credential.clone();
    let stage = Stage::start_at(config, old.not_after().unwrap()).await;
    let (mut control, _) = master.registered().await;
    let FromWorker::Renew { signing_request } = control.hear().await else {
        panic!("the certificate has expired")
    };
    *stage.clock.0.lock().unwrap() = SystemTime::now();
    let validity = Validity::of_node(SystemTime::now());
    let issued = master.authority.issue(old.role(), &signing_request, validity);
    let certificate = issued.unwrap();
    control.say(&ToWorker::Renewed { certificate: certificate.clone() }).await;
    control.settle().await;
    let saved = Credential::load(&path).unwrap();
    assert_eq!(saved.certificate(), certificate);
    assert_eq!(saved.role(), old.role());
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_not_used() {
    let mut master = TestMaster::start().await;
    let mut config = master.config();
    let path = master.directory.path().join("worker.pem");
    config.credential_file = Some(path.clone());
    let now = config.credential.not_after().unwrap();
    let _stage = Stage::start_at(config, now).await;
    let (mut control, _) = master.registered().await;
    let FromWorker::Renew { signing_request } = control.hear().await else {
        panic!("the certificate has expired")
    };
    let validity = Validity::of_node(SystemTime::now());
    let role = Role::Worker(WorkerId("w2".to_owned()));
    let certificate = master.authority.issue(&role, &signing_request, validity).unwrap();
    control.say(&ToWorker::Renewed { certificate }).await;
    control.settle().await;
    assert!(!exists(&path));
}

#[tokio::test]
async fn a_driver_may_watch_the_workers_of_its_executors_and_no_others() {
    let mut master = TestMaster::start().await;
    let (stage, _control, actor) = master.launched().await;
    let worker = stage.worker.local_address();
    let dial = async |role: Role, purpose| {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let credential = master.credential(&role);
        let endpoint = Endpoint::bind(&UdpNetwork, any, credential, Accepts::Nothing);
        let endpoint = endpoint.await.unwrap();
        let connected = endpoint.connect(worker, RoleKind::Worker, purpose).await;
        connected.map(|connection| (endpoint, connection))
    };
    let (_endpoint, watched) = dial(Role::Driver(AppId(1)), Purpose::Control).await.unwrap();
    let Err(ConnectError::Refused { reason, .. }) =
        dial(Role::Driver(AppId(2)), Purpose::Control).await
    else {
        panic!("application 2 does not run here")
    };
    assert_eq!(reason, "app-2 does not run on this worker");
    let tenant = dial(Role::Tenant("ada".to_owned()), Purpose::Data).await;
    assert!(matches!(tenant, Err(ConnectError::Refused { .. })));
    assert_eq!(watched.close_reason(), None);
    // The end of the worker is known at once.
    drop(stage);
    actor.end.send("stopped".to_owned()).unwrap();
    soon(watched.closed()).await;
}
