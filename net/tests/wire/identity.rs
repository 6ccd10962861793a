//! Who gets in: every way in which a certificate can be wrong ends in a refusal.

use crate::support::*;
use offshoot_net::{Accepts, ConnectError, Expected, HandshakeError, Role, RoleKind, Validity};
use offshoot_proto::hello::{ALPN_CLUSTER, Hello, PROTOCOL_VERSION, Purpose, Welcome};
use quinn::ConnectionError;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Dials with `shown`: the peer must be turned away by TLS and told no reason.
async fn assert_refused(case: &str, authority: &offshoot_net::Authority, shown: Option<&HandMade>) {
    let mut listener = listen(authority, Role::Master).await;
    let client = BareClient::new(authority.certificate(), shown, ALPN_CLUSTER);
    // A TLS 1.3 client is done before the server has seen its certificate.
    let ended = match client.dial(listener.address).await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    let ConnectionError::ConnectionClosed(close) = ended else { panic!("{case}: {ended}") };
    let code = u64::from(close.error_code);
    assert!((0x100..=0x1ff).contains(&code), "{case}: {close}");
    let told = String::from_utf8_lossy(&close.reason).to_lowercase();
    for secret in ["uri", "issuer", "expired", "usage", "offshoot://", "endentity", "name"] {
        assert!(!told.contains(secret), "{case}: the peer was told {told:?}");
    }
    let result = listener.next().await;
    assert!(matches!(result, Err(HandshakeError::Tls { .. })), "{case}: {result:?}");
}

#[tokio::test]
async fn a_hand_made_certificate_without_fault_is_welcome() {
    let (authority, issuer) = stolen_authority();
    let mut listener = listen(&authority, Role::Master).await;
    let connection = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let cluster = authority.cluster().to_string();
    let hello = Hello { version: PROTOCOL_VERSION, cluster, purpose: Purpose::Control };
    assert_eq!(ask::<_, Welcome>(&connection, &hello).await, Welcome::Accepted);
    assert_eq!(listener.next().await.unwrap().peer(), &worker("w1"));
}

#[tokio::test]
async fn a_certificate_with_one_fault_is_refused() {
    type Change = fn(&mut CertificateParams);
    let faults: [(&str, Change); 12] = [
        ("expired", |params| params.not_after = (now() - DAY).into()),
        ("not yet valid", |params| params.not_before = (now() + DAY).into()),
        ("two URIs", |params| params.subject_alt_names.push(uri("https://example.org/"))),
        ("the same URI twice", |params| {
            let again = params.subject_alt_names[1].clone();
            params.subject_alt_names.push(again);
        }),
        ("no URI", |params| params.subject_alt_names.truncate(1)),
        ("no role", |params| {
            params.subject_alt_names[1] = uri("offshoot://0123456789abcdef/");
        }),
        ("another cluster", |params| {
            params.subject_alt_names[1] = uri("offshoot://0123456789abcdef/worker/w1");
        }),
        ("another kind's name", |params| {
            params.subject_alt_names[0] = SanType::DnsName("master.offshoot".try_into().unwrap());
        }),
        ("for clients only", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        ("for servers only", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("for anything", |params| params.extended_key_usages.clear()),
        ("an authority", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ];
    let (authority, issuer) = stolen_authority();
    for (case, change) in faults {
        let shown = hand_made(&issuer, authority.cluster(), change);
        assert_refused(case, &authority, Some(&shown)).await;
    }
}

#[tokio::test]
async fn without_a_certificate_of_the_authority_nobody_gets_in() {
    let (authority, _) = stolen_authority();
    let (_, other_issuer) = stolen_authority();
    assert_refused("no certificate", &authority, None).await;
    let foreign = hand_made(&other_issuer, authority.cluster(), |_| {});
    assert_refused("another authority", &authority, Some(&foreign)).await;
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let own_issuer = Issuer::new(CertificateParams::default(), key);
    let own = hand_made(&own_issuer, authority.cluster(), |_| {});
    assert_refused("self-made", &authority, Some(&own)).await;
}

#[tokio::test]
async fn the_authoritys_own_key_and_certificate_are_no_identity() {
    let (authority, issuer) = stolen_authority();
    let key = issuer.key().serialize_der();
    let key = KeyPair::try_from(key).unwrap();
    let shown = HandMade { certificate: authority.certificate().to_vec(), key };
    assert_refused("the authority", &authority, Some(&shown)).await;
}

#[tokio::test]
async fn both_ends_know_who_the_other_is() {
    let (dialled, accepted, _listener, _dialler) = connected(Purpose::Control).await;
    assert_eq!(dialled.peer(), &Role::Master);
    assert_eq!(accepted.peer(), &worker("w1"));
    assert!(accepted.peer_not_after() > now() + DAY / 2);
    assert_eq!((dialled.purpose(), accepted.purpose()), (Purpose::Control, Purpose::Control));
}

#[tokio::test]
async fn a_dialler_accepts_only_whom_it_expects() {
    let authority = authority();
    let listener = listen(&authority, worker("w1")).await;
    let dialler = dialler(&authority, Role::Master).await;
    let dial = |expected: Expected| dialler.connect(listener.address, expected, Purpose::Control);
    assert!(dial(RoleKind::Worker.into()).await.is_ok());
    assert!(dial(worker("w1").into()).await.is_ok());
    for expected in [RoleKind::Master.into(), Role::Master.into(), worker("w2").into()] {
        let error = dial(expected).await.unwrap_err();
        let ConnectError::WrongPeer { found, .. } = &error else { panic!("{error}") };
        assert_eq!(found, &worker("w1"));
    }
}

#[tokio::test]
async fn a_dialler_trusts_no_server_of_another_cluster_and_none_that_expired() {
    let (ours, theirs) = (authority(), authority());
    let validity = Validity { not_before: now() - 2 * DAY, not_after: now() - DAY };
    let expired = ours.mint(&Role::Master, validity).unwrap();
    let dialler = dialler(&ours, worker("w1")).await;
    for credential in [mint(&theirs, Role::Master), expired] {
        let listener = listen_with(credential, |_, _| Ok(())).await;
        let error = dialler.connect(listener.address, Role::Master, Purpose::Control).await;
        assert!(matches!(error, Err(ConnectError::Untrusted { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_role_that_is_not_authorised_gets_the_sentence() {
    let authority = authority();
    let mut listener = listen_with(mint(&authority, Role::Master), |role, purpose| match role {
        Role::Tenant(_) => Ok(()),
        other => Err(format!("{other} may not open {purpose:?} connections")),
    })
    .await;
    let tenant = dialler(&authority, Role::Tenant("ada".into())).await;
    assert!(tenant.connect(listener.address, Role::Master, Purpose::Data).await.is_ok());
    assert!(listener.next().await.is_ok());
    let worker = dialler(&authority, worker("w1")).await;
    let error = worker.connect(listener.address, Role::Master, Purpose::Data).await.unwrap_err();
    let ConnectError::Refused { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "worker/w1 may not open Data connections");
    let result = listener.next().await;
    assert!(matches!(result, Err(HandshakeError::Refused { .. })), "{result:?}");
}

#[tokio::test]
async fn a_renewed_credential_is_shown_from_then_on() {
    let authority = authority();
    let mut listener = listen(&authority, Role::Master).await;
    let dialler = dialler(&authority, worker("w1")).await;
    let longer = Validity::lasting(3 * DAY, now());
    let renewed = authority.mint(&worker("w1"), longer).unwrap();
    dialler.set_credential(renewed).unwrap();
    let _held = dialler.connect(listener.address, Role::Master, Purpose::Control).await.unwrap();
    assert!(listener.next().await.unwrap().peer_not_after() > now() + 2 * DAY);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_accepts_nothing_cannot_be_reached() {
    let authority = authority();
    let silent = bind(mint(&authority, Role::Master), Accepts::Nothing).await;
    let dialler = dialler(&authority, worker("w1")).await;
    let address = silent.local_address().unwrap();
    let error = dialler.connect(address, Role::Master, Purpose::Control).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}
