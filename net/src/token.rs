//! Join tokens: a statement of the cluster's authority that whoever holds it may join once.
//!
//! ```text
//! offshoot-join-1-  hex( statement in postcard ‖ Ed25519 signature )
//! ```
//!
//! Printing one needs only the authority's key and writes nothing down. That a token works once is
//! the master's business: it records the nonce when the token is redeemed. The statement also
//! holds the digest of the authority's certificate, so that the joining side can tell the true
//! master from a false one before it has any certificate itself.

use crate::authority::{Authority, AuthorityError};
use crate::role::{ClusterName, RoleKind};
use crate::tls;
use core::fmt;
use core::str::FromStr;
use offshoot_proto::frame;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// How long a token can be redeemed unless something else is asked for.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Characters of a token at most; a real one has about 330.
const TOKEN_CHARACTERS_MAX: usize = 1024;

const PREFIX: &str = "offshoot-join-1-";

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// Goes before the statement when it is signed, so that no signature of the authority over
/// anything else (a certificate) can be taken for one over a token.
const SIGNING_CONTEXT: &[u8] = b"offshoot join token 1\0";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// The cluster that may be joined.
    pub cluster: ClusterName,
    /// What the holder may become.
    pub role: RoleKind,
    /// Seconds of Unix time after which the token is worth nothing.
    pub expires_unix_seconds: u64,
    /// Names the token; it is redeemed at most once.
    pub nonce: [u8; 16],
    /// BLAKE3 of the DER of the authority's certificate.
    pub authority: [u8; 32],
}

/// A token as it was printed. `Display` gives the text, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    statement: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
    claims: TokenClaims,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not a token, or a cut one.
    #[error("not a join token ({reason}); copy the whole line that `offshoot token` printed")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Not signed by this cluster's authority.
    #[error("the token was not issued by this cluster's authority")]
    Forged,
    /// For another cluster.
    #[error("the token is for cluster {found}, this is {expected}")]
    OtherCluster {
        /// The cluster that was asked.
        expected: ClusterName,
        /// The cluster that the token is for.
        found: ClusterName,
    },
    /// Only workers join with a token.
    #[error("the token is for a {found}, only a worker can join")]
    WrongRole {
        /// What the token is for.
        found: RoleKind,
    },
    /// Too late.
    #[error(
        "the token expired {late_seconds} s ago, at Unix time {expires_unix_seconds}; \
         make a new one with `offshoot token`"
    )]
    Expired {
        /// When it expired, in seconds of Unix time.
        expires_unix_seconds: u64,
        /// How long ago that was.
        late_seconds: u64,
    },
}

// === impl JoinToken ===

impl JoinToken {
    /// A token that lets its holder become a `role` until `lifetime` after `now`.
    pub fn mint(
        authority: &Authority,
        role: RoleKind,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, AuthorityError> {
        let mut nonce = [0; 16];
        rand::rng().fill_bytes(&mut nonce);
        let claims = TokenClaims {
            cluster: authority.cluster().clone(),
            role,
            expires_unix_seconds: unix_seconds(now + lifetime),
            nonce,
            authority: authority_digest(authority.certificate()),
        };
        let statement = frame::to_bytes(&claims);
        let signature = authority.sign_statement(&signed_bytes(&statement))?;
        let signature = signature.try_into().map_err(|other: Vec<u8>| AuthorityError::Sign {
            reason: format!("a signature of {} bytes, Ed25519's have 64", other.len()),
        })?;
        Ok(Self { statement, signature, claims })
    }

    /// What the token says of itself. Nobody has vouched for it: the joining side uses it to find
    /// out which authority it may trust, because its holder got it from the operator.
    pub fn claims_unverified(&self) -> &TokenClaims {
        &self.claims
    }

    /// Checks that `authority` issued the token for a worker and that it has not expired.
    pub fn verify(
        &self,
        authority: &Authority,
        now: SystemTime,
    ) -> Result<&TokenClaims, TokenError> {
        let claims = &self.claims;
        if claims.cluster != *authority.cluster() {
            let (expected, found) = (authority.cluster().clone(), claims.cluster.clone());
            return Err(TokenError::OtherCluster { expected, found });
        }
        let signed = signed_bytes(&self.statement);
        if !tls::verify_ed25519(authority.public_key(), &signed, &self.signature) {
            return Err(TokenError::Forged);
        }
        if claims.role != RoleKind::Worker {
            return Err(TokenError::WrongRole { found: claims.role });
        }
        let expires_unix_seconds = claims.expires_unix_seconds;
        match unix_seconds(now).checked_sub(expires_unix_seconds) {
            Some(late_seconds) => Err(TokenError::Expired { expires_unix_seconds, late_seconds }),
            None => Ok(claims),
        }
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let malformed = |reason: &str| TokenError::Malformed { reason: reason.to_owned() };
        let text = text.trim();
        if text.len() > TOKEN_CHARACTERS_MAX {
            return Err(malformed("it is too long"));
        }
        let digits = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| malformed("it does not start with offshoot-join-1-"))?;
        let bytes = from_hex(digits).ok_or_else(|| malformed("it is not hexadecimal"))?;
        let (statement, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or_else(|| malformed("it is too short"))?;
        let claims = frame::from_bytes(statement)
            .map_err(|error| TokenError::Malformed { reason: error.to_string() })?;
        Ok(Self { statement: statement.to_vec(), signature: *signature, claims })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        let mut bytes = self.statement.iter().chain(&self.signature);
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

// === impl TokenClaims ===

impl TokenClaims {
    /// Whether `certificate` is that of the authority which the token was issued by.
    pub(crate) fn pins(&self, certificate: &[u8]) -> bool {
        authority_digest(certificate) == self.authority
    }
}

fn authority_digest(certificate: &[u8]) -> [u8; 32] {
    *blake3::hash(certificate).as_bytes()
}

fn signed_bytes(statement: &[u8]) -> Vec<u8> {
    [SIGNING_CONTEXT, statement].concat()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn authority() -> Authority {
        let start = UNIX_EPOCH + Duration::from_secs(1 << 30);
        Authority::generate(ClusterName::random(), start).unwrap()
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn token(authority: &Authority) -> JoinToken {
        JoinToken::mint(authority, RoleKind::Worker, now(), TOKEN_LIFETIME).unwrap()
    }

    #[test]
    fn a_token_survives_its_text_on_one_line() {
        let authority = authority();
        let text = token(&authority).to_string();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text}");
        let read: JoinToken = format!("{text}\n").parse().unwrap();
        let claims = read.verify(&authority, now()).unwrap();
        assert_eq!((&claims.cluster, claims.role), (authority.cluster(), RoleKind::Worker));
        assert!(claims.pins(authority.certificate()));
    }

    #[test]
    fn two_tokens_have_two_nonces() {
        let authority = authority();
        let nonce = || token(&authority).claims_unverified().nonce;
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn a_token_expires_at_its_second() {
        let authority = authority();
        let token = token(&authority);
        assert!(token.verify(&authority, now() + TOKEN_LIFETIME - Duration::from_secs(1)).is_ok());
        let late = token.verify(&authority, now() + TOKEN_LIFETIME).unwrap_err();
        let expires_unix_seconds = 1_800_003_600;
        assert_eq!(late, TokenError::Expired { expires_unix_seconds, late_seconds: 0 });
    }

    #[test]
    fn every_changed_byte_makes_a_token_worthless() {
        let authority = authority();
        let good = token(&authority);
        let text = good.to_string();
        let bytes = from_hex(text.strip_prefix(PREFIX).unwrap()).unwrap();
        for position in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[position] ^= 1;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let accepted = format!("{PREFIX}{hex}")
                .parse::<JoinToken>()
                .is_ok_and(|token| token.verify(&authority, now()).is_ok());
            assert!(!accepted, "byte {position}");
        }
    }

    #[test]
    fn a_token_of_another_authority_is_refused() {
        let (ours, theirs) = (authority(), authority());
        let error = token(&theirs).verify(&ours, now()).unwrap_err();
        assert!(matches!(error, TokenError::OtherCluster { .. }), "{error}");
        let impostor = Authority::generate(ours.cluster().clone(), now()).unwrap();
        assert_eq!(token(&impostor).verify(&ours, now()).unwrap_err(), TokenError::Forged);
    }

    #[test]
    fn only_workers_join() {
        let authority = authority();
        let token = JoinToken::mint(&authority, RoleKind::Master, now(), TOKEN_LIFETIME).unwrap();
        let error = token.verify(&authority, now()).unwrap_err();
        assert_eq!(error, TokenError::WrongRole { found: RoleKind::Master });
    }

    #[test]
    fn text_that_is_no_token_says_what_is_wrong() {
        for (text, word) in [
            ("", "start"),
            ("offshoot-join-1-", "short"),
            ("offshoot-join-1-zz", "hexadecimal"),
            ("offshoot-join-1-abc", "hexadecimal"),
            (&"offshoot-join-1-00".repeat(100), "long"),
        ] {
            let error = text.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
        let zeros = format!("{PREFIX}{}", "00".repeat(100));
        assert!(matches!(zeros.parse::<JoinToken>(), Err(TokenError::Malformed { .. })));
    }
}
