//! Authorities and credentials as files, and what they refuse.

use crate::support::*;
use offshoot_net::{
    Authority, AuthorityError, Credential, CredentialError, NewKey, Role, Validity,
};
use offshoot_proto::frame;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn an_authority_is_created_once_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Authority::open(directory.path()).unwrap_err();
    assert!(matches!(missing, AuthorityError::Missing { .. }), "{missing}");
    let created = Authority::open_or_create(directory.path(), now()).unwrap();
    let again = Authority::create(directory.path(), now()).unwrap_err();
    assert!(matches!(again, AuthorityError::Exists { .. }), "{again}");
    let opened = Authority::open_or_create(directory.path(), now()).unwrap();
    assert_eq!(opened.cluster(), created.cluster());
    assert_eq!(opened.certificate(), created.certificate());
    let file = directory.path().join("authority.pem");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    // What one signs holds with the other: the key is the same.
    let credential = mint(&opened, Role::Master);
    assert_eq!(credential.authority(), created.certificate());
}

#[test]
fn an_authority_with_another_key_does_not_open() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let texts = directories.each_ref().map(|directory| {
        Authority::create(directory.path(), now()).unwrap();
        fs::read_to_string(directory.path().join("authority.pem")).unwrap()
    });
    let split = |text: &str| text.find("-----BEGIN PRIVATE KEY").unwrap();
    let mixed = format!("{}{}", &texts[0][..split(&texts[0])], &texts[1][split(&texts[1])..]);
    fs::write(directories[0].path().join("authority.pem"), mixed).unwrap();
    let error = Authority::open(directories[0].path()).unwrap_err().to_string();
    assert!(error.contains("authority.pem") && error.contains("key is not"), "{error}");
}

#[test]
fn a_credential_survives_its_file_and_its_frame() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ada.pem");
    let authority = authority();
    let role = Role::Tenant("ada".into());
    let credential = authority.mint(&role, Validity::of_tenant(now())).unwrap();
    credential.save(&path).unwrap();
    credential.save(&path).unwrap();
    assert_eq!(Credential::load(&path).unwrap(), credential);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let sent = frame::to_bytes(&credential);
    let received: Credential = frame::from_bytes(&sent).unwrap();
    assert_eq!(received, credential);
    assert!(received.check().is_ok());
}

#[test]
fn a_credential_file_that_is_not_one_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w1.pem");
    let credential = mint(&authority(), worker("w1"));
    credential.save(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let cut = text.rfind("-----BEGIN").unwrap();
    for (content, word) in [
        (&text[..cut], "1 CERTIFICATE blocks"),
        ("", "0 CERTIFICATE blocks"),
        (&text.replace("PRIVATE KEY", "CERTIFICATE"), "3 CERTIFICATE blocks"),
    ] {
        fs::write(&path, content).unwrap();
        let error = Credential::load(&path).unwrap_err().to_string();
        assert!(error.contains("w1.pem") && error.contains(word), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Credential::load(&path).unwrap_err();
    assert!(matches!(error, CredentialError::Permissions { mode: 0o644, .. }), "{error}");
}

#[test]
fn a_credential_of_parts_that_do_not_fit_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let key = NewKey::generate().unwrap();
    let request = key.signing_request().unwrap();
    let validity = Validity::of_node(now());
    let certificate = ours.issue(&worker("w1"), &request, validity).unwrap();
    let other_key = NewKey::generate().unwrap();
    let error = other_key.into_credential(certificate.clone(), ours.certificate().to_vec());
    assert!(matches!(error, Err(CredentialError::Inconsistent { .. })), "{error:?}");
    let error = key.into_credential(certificate, theirs.certificate().to_vec());
    assert!(matches!(error, Err(CredentialError::Inconsistent { .. })), "{error:?}");
}

#[test]
fn neither_a_credential_nor_a_token_prints_its_secret() {
    let authority = authority();
    let credential = mint(&authority, worker("w1"));
    let printed = format!("{credential:?}");
    assert!(printed.contains("PrivateKey(..)"), "{printed}");
    let printed = format!("{:?}", NewKey::generate().unwrap());
    assert_eq!(printed, "NewKey(..)");
}

#[test]
fn an_authority_signs_only_what_is_asked_for_properly() {
    let authority = authority();
    let validity = Validity::of_node(now());
    let key = NewKey::generate().unwrap();
    let request = key.signing_request().unwrap();
    let key_at = request.windows(32).position(|bytes| bytes == key.public_key()).unwrap();
    for position in [0, key_at, key_at + 31, request.len() - 64, request.len() - 1] {
        let mut forged = request.clone();
        forged[position] ^= 1;
        let error = authority.issue(&worker("w1"), &forged, validity);
        assert!(matches!(error, Err(AuthorityError::Request { .. })), "{position}: {error:?}");
    }
    for role in [worker("Not A Worker"), worker(""), Role::Tenant("../x".into())] {
        let error = authority.issue(&role, &request, validity);
        assert!(matches!(error, Err(AuthorityError::Role { .. })), "{error:?}");
    }
    let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&ecdsa).unwrap();
    let error = authority.issue(&worker("w1"), request.der(), validity);
    assert!(matches!(error, Err(AuthorityError::Request { .. })), "{error:?}");
}

#[test]
fn certificates_of_a_role_have_one_length() {
    let authority = authority();
    let lengths: Vec<usize> =
        (0..20).map(|_| mint(&authority, worker("w1")).certificate().len()).collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
}
