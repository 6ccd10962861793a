//! Tokens make workers, each one only.

use crate::support::*;
use offshoot_net::{JoinToken, NewKey, Role, RoleKind, UdpNetwork, join};
use offshoot_proto::cluster::{FromWorker, ToWorker};
use std::time::{Duration, SystemTime};

async fn refusal(master: &TestMaster, token: &JoinToken) -> String {
    let address = master.master.local_address();
    join(&UdpNetwork, address, token).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_token_makes_one_worker_which_can_register() {
    let master = TestMaster::start().await;
    let address = master.master.local_address();
    let token = master.token();
    let credential = join(&UdpNetwork, address, &token).await.unwrap();
    let Role::Worker(id) = credential.role().clone() else {
        panic!("a worker");
    };
    let digits = id.0.strip_prefix("worker-").unwrap();
    assert!(digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));

    let again = refusal(&master, &token).await;
    assert!(again.contains(&format!("has been used already, by {id}")), "{again}");

    let mut control = Peer::bind(&master, credential).await.control().await;
    control.send(&FromWorker::Register(worker_info(&id.0))).await;
    assert!(matches!(control.recv::<ToWorker>().await, ToWorker::Registered { .. }));
}

#[tokio::test]
async fn a_restart_does_not_make_a_token_good_again() {
    let master = TestMaster::start().await;
    let token = master.token();
    join(&UdpNetwork, master.master.local_address(), &token).await.unwrap();
    let master = master.restart().await;
    let again = refusal(&master, &token).await;
    assert!(again.contains("has been used already"), "{again}");
    let fresh = master.token();
    join(&UdpNetwork, master.master.local_address(), &fresh).await.unwrap();
}

#[tokio::test]
async fn an_expired_token_is_refused_and_not_used_up() {
    let master = TestMaster::start().await;
    let authority = master.master.authority();
    let past = SystemTime::now() - Duration::from_secs(7200);
    let lifetime = Duration::from_secs(3600);
    let token = JoinToken::mint(authority, RoleKind::Worker, past, lifetime).unwrap();
    let reason = refusal(&master, &token).await;
    assert!(reason.contains("the token expired 36"), "{reason}");
    let redeemed = std::fs::read_to_string(master.directory.path().join("redeemed")).unwrap();
    assert_eq!(redeemed, "");
}

#[tokio::test]
async fn a_worker_renews_its_certificate() {
    let master = TestMaster::start().await;
    let (_peer, mut worker) = master.worker("w1").await;
    let key = NewKey::generate().unwrap();
    let signing_request = key.signing_request().unwrap();
    worker.send(&FromWorker::Renew { signing_request }).await;
    let ToWorker::Renewed { certificate } = worker.recv().await else {
        panic!("renewed");
    };
    let authority = master.master.authority().certificate().to_vec();
    let credential = key.into_credential(certificate, authority).unwrap();
    assert_eq!(*credential.role(), Role::Worker(worker_id("w1")));
    let signing_request = b"not a request".to_vec();
    worker.send(&FromWorker::Renew { signing_request }).await;
    assert!(matches!(worker.recv::<ToWorker>().await, ToWorker::Refused { .. }));
    assert_eq!(worker.next::<ToWorker>().await, None);
}
