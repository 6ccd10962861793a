//! Joining: what a token buys, and what buys nothing.

use crate::support::*;
use offshoot_net::{
    Accepts, Arrival, Authority, ConnectError, Credential, Endpoint, JoinError, JoinToken, Role,
    RoleKind, TOKEN_LIFETIME, UdpNetwork, join,
};
use offshoot_proto::hello::Purpose;
use offshoot_proto::hello::{ALPN_CLUSTER, ALPN_JOIN, JoinReply, JoinRequest, PROTOCOL_VERSION};
use offshoot_proto::id::WorkerId;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// A master that serves joins and remembers which nonce was redeemed by which key.
struct Master {
    authority: Authority,
    endpoint: Endpoint,
    address: SocketAddr,
    redeemed: RefCell<BTreeMap<[u8; 16], Vec<u8>>>,
}

impl Master {
    async fn new(authority: Authority) -> Self {
        let endpoint = bind(mint(&authority, Role::Master), Accepts::MembersAndJoins).await;
        let address = endpoint.local_address().unwrap();
        Self { authority, endpoint, address, redeemed: RefCell::default() }
    }

    fn token(&self, role: RoleKind) -> JoinToken {
        JoinToken::mint(&self.authority, role, now(), TOKEN_LIFETIME).unwrap()
    }

    async fn serve_one(&self, now: SystemTime) -> Result<WorkerId, JoinError> {
        let Some(Arrival::Joining(joining)) = self.endpoint.accept().await else {
            panic!("no join came");
        };
        let redeem = async |claims: offshoot_net::TokenClaims, key: Vec<u8>| {
            let mut redeemed = self.redeemed.borrow_mut();
            let first = redeemed.entry(claims.nonce).or_insert_with(|| key.clone());
            if *first == key { Ok(WorkerId("w1".into())) } else { Err("already used".to_owned()) }
        };
        joining.serve(&self.authority, now, redeem).await
    }

    async fn join(
        &self,
        token: &JoinToken,
        now: SystemTime,
    ) -> (Result<Credential, JoinError>, Result<WorkerId, JoinError>) {
        tokio::join!(join(&UdpNetwork, self.address, token), self.serve_one(now))
    }
}

fn refusal(result: Result<Credential, JoinError>) -> String {
    match result {
        Err(JoinError::Connect(ConnectError::Refused { reason, .. })) => reason,
        other => panic!("{other:?}"),
    }
}

/// A self-signed certificate, as joining processes show.
fn self_made() -> HandMade {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["joining.offshoot".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    HandMade { certificate, key }
}

#[tokio::test]
async fn a_token_makes_a_worker_that_the_master_knows() {
    let master = Master::new(authority()).await;
    let token: JoinToken = master.token(RoleKind::Worker).to_string().parse().unwrap();
    let (joined, served) = master.join(&token, now()).await;
    let credential = joined.unwrap();
    assert_eq!(served.unwrap(), WorkerId("w1".into()));
    assert_eq!(
        (credential.role(), credential.cluster()),
        (&worker("w1"), master.authority.cluster())
    );
    let endpoint = bind(credential, Accepts::Members).await;
    let accepting = async {
        let Some(Arrival::Member(incoming)) = master.endpoint.accept().await else { panic!() };
        incoming.handshake(|_, _| Ok(())).await.unwrap()
    };
    let dialling = endpoint.connect(master.address, Role::Master, Purpose::Control);
    let (accepted, dialled) = tokio::join!(accepting, dialling);
    assert_eq!(accepted.peer(), &worker("w1"));
    assert!(dialled.is_ok());
}

#[tokio::test]
async fn a_token_is_good_for_one_key() {
    let master = Master::new(authority()).await;
    let token = master.token(RoleKind::Worker);
    assert!(master.join(&token, now()).await.0.is_ok());
    let (joined, served) = master.join(&token, now()).await;
    assert_eq!(refusal(joined), "already used");
    assert!(matches!(served, Err(JoinError::Refused { .. })), "{served:?}");
}

#[tokio::test]
async fn a_token_that_expired_or_is_for_another_role_is_refused_unredeemed() {
    let master = Master::new(authority()).await;
    let late = now() + TOKEN_LIFETIME + Duration::from_secs(1);
    let (joined, _) = master.join(&master.token(RoleKind::Worker), late).await;
    let reason = refusal(joined);
    assert!(reason.contains("expired"), "{reason}");
    let (joined, _) = master.join(&master.token(RoleKind::Tenant), now()).await;
    let reason = refusal(joined);
    assert!(reason.contains("only a worker"), "{reason}");
    assert!(master.redeemed.borrow().is_empty());
}

#[tokio::test]
async fn a_false_master_is_not_told_the_token() {
    let (false_master, true_authority) = (Master::new(authority()).await, authority());
    let token = JoinToken::mint(&true_authority, RoleKind::Worker, now(), TOKEN_LIFETIME).unwrap();
    let (joined, served) = false_master.join(&token, now()).await;
    let untrusted = matches!(joined, Err(JoinError::Connect(ConnectError::Untrusted { .. })));
    assert!(untrusted, "{joined:?}");
    assert!(matches!(served, Err(JoinError::Peer { .. })), "{served:?}");
}

#[tokio::test]
async fn a_member_that_is_no_master_cannot_take_a_token() {
    let authority = authority();
    let token = JoinToken::mint(&authority, RoleKind::Worker, now(), TOKEN_LIFETIME).unwrap();
    let impostor = bind(mint(&authority, worker("w9")), Accepts::MembersAndJoins).await;
    let address = impostor.local_address().unwrap();
    let accepting = async {
        let Some(Arrival::Joining(joining)) = impostor.accept().await else { panic!() };
        joining.serve(&authority, now(), async |_, _| Ok(WorkerId("w1".into()))).await
    };
    let (joined, served) = tokio::join!(join(&UdpNetwork, address, &token), accepting);
    assert!(matches!(joined, Err(JoinError::Connect(ConnectError::Untrusted { .. }))));
    assert!(matches!(served, Err(JoinError::Peer { .. })), "{served:?}");
}

#[tokio::test]
async fn only_the_master_serves_joins() {
    let authority = authority();
    let token = JoinToken::mint(&authority, RoleKind::Worker, now(), TOKEN_LIFETIME).unwrap();
    let listener = listen(&authority, worker("w1")).await;
    let error = join(&UdpNetwork, listener.address, &token).await.unwrap_err();
    let JoinError::Connect(ConnectError::Unreachable { reason, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(reason, "it takes no more connections now, or none of this kind");
}

#[tokio::test]
async fn a_signing_request_of_another_key_gets_nothing() {
    let master = Master::new(authority()).await;
    let shown = self_made();
    let client =
        BareClient::new(master.authority.certificate(), Some(&shown), ALPN_JOIN).marked(b'J');
    let stolen = offshoot_net::NewKey::generate().unwrap().signing_request().unwrap();
    let request = |version, signing_request| JoinRequest {
        version,
        token: master.token(RoleKind::Worker).to_string(),
        signing_request,
    };
    let own = CertificateParams::default().serialize_request(&shown.key).unwrap().der().to_vec();
    let mut forged = own.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (version, request_bytes, word) in [
        (PROTOCOL_VERSION, stolen, "not for the key"),
        (PROTOCOL_VERSION, forged, "not valid"),
        (PROTOCOL_VERSION, Vec::new(), "not valid"),
        (99, own.clone(), "version 99"),
    ] {
        let asking = async {
            let connection = client.dial(master.address).await.unwrap();
            let reply: JoinReply = ask(&connection, &request(version, request_bytes)).await;
            connection.close(0_u32.into(), b"");
            reply
        };
        let (reply, _) = tokio::join!(asking, master.serve_one(now()));
        let JoinReply::Refused { reason } = reply else { panic!("{word}: {reply:?}") };
        assert!(reason.contains(word), "{reason}");
    }
    assert!(master.redeemed.borrow().is_empty());
    let asking = async {
        let connection = client.dial(master.address).await.unwrap();
        let reply: JoinReply = ask(&connection, &request(PROTOCOL_VERSION, own)).await;
        connection.close(0_u32.into(), b"");
        reply
    };
    let (reply, _) = tokio::join!(asking, master.serve_one(now()));
    assert!(matches!(reply, JoinReply::Joined { .. }), "{reply:?}");
}

#[tokio::test]
async fn the_mark_of_a_join_opens_no_other_door() {
    let master = Master::new(authority()).await;
    let shown = self_made();
    let certificate = master.authority.certificate().to_vec();
    // The lock of members, asked for the protocol of joining.
    let member = BareClient::new(&certificate, Some(&shown), ALPN_JOIN);
    let accepting = async {
        let Some(Arrival::Member(incoming)) = master.endpoint.accept().await else { panic!() };
        incoming.handshake(|_, _| Ok(())).await
    };
    let (dialled, accepted) = tokio::join!(member.dial(master.address), accepting);
    assert!(dialled.is_err() && accepted.is_err(), "{dialled:?} {accepted:?}");
    // The lock of joins, asked for the protocol of members.
    let marked = BareClient::new(&certificate, Some(&shown), ALPN_CLUSTER).marked(b'J');
    let (dialled, served) = tokio::join!(marked.dial(master.address), master.serve_one(now()));
    assert!(dialled.is_err() && served.is_err(), "{dialled:?} {served:?}");
}

#[tokio::test(start_paused = true)]
async fn a_joining_process_that_asks_for_nothing_is_cut() {
    let master = Master::new(authority()).await;
    let shown = self_made();
    let client =
        BareClient::new(master.authority.certificate(), Some(&shown), ALPN_JOIN).marked(b'J');
    let silence = async {
        let connection = client.dial(master.address).await.unwrap();
        connection.closed().await
    };
    let (_, served) = tokio::join!(silence, master.serve_one(now()));
    assert!(matches!(served, Err(JoinError::Peer { .. })), "{served:?}");
}
