//! Workers that join with a token: each token makes one worker.

use super::Server;
use crate::ports::Entropy;
use crate::state::{Redeemed, Redemption, hex};
use offshoot_net::{Joining, TokenClaims};
use offshoot_proto::id::WorkerId;
use std::sync::{Arc, Mutex, PoisonError};

/// Gives new workers their ids.
#[derive(Debug)]
pub(super) struct Registrar {
    redeemed: Mutex<Redeemed>,
    entropy: Arc<dyn Entropy>,
}

/// Serves one process that wants to join.
pub(super) async fn serve(server: Arc<Server>, joining: Joining) {
    let redeem = async |claims, key: Vec<u8>| server.registrar.redeem(&claims, &key);
    let now = server.ports.clock.now();
    match joining.serve(&server.authority, now, redeem).await {
        Ok(worker) => tracing::info!("worker {worker} has joined the cluster"),
        Err(error) => server.complaints.warn(format_args!("{error}")),
    }
}

// === impl Registrar ===

impl Registrar {
    pub(super) fn new(redeemed: Redeemed, entropy: Arc<dyn Entropy>) -> Self {
        Self { redeemed: Mutex::new(redeemed), entropy }
    }

    /// Uses up a token that has been verified. The same key may ask again: its answer may have
    /// been lost.
    fn redeem(&self, claims: &TokenClaims, public_key: &[u8]) -> Result<WorkerId, String> {
        let key = *blake3::hash(public_key).as_bytes();
        let mut redeemed = self.redeemed.lock().unwrap_or_else(PoisonError::into_inner);
        match redeemed.find(&claims.nonce) {
            Some(used) if used.key == key => return Ok(used.worker.clone()),
            Some(used) => {
                let worker = &used.worker;
                return Err(format!(
                    "the token has been used already, by {worker}; make a new one with \
                     `offshoot token`"
                ));
            }
            None => {}
        }
        let mut digits = [0; 4];
        self.entropy.fill(&mut digits);
        let worker = WorkerId(format!("worker-{}", hex(&digits)));
        let redemption =
            Redemption { worker: worker.clone(), key, expires: claims.expires_unix_seconds };
        let recorded = redeemed.record(claims.nonce, redemption);
        recorded.map_err(|error| format!("the master cannot use up the token: {error}"))?;
        Ok(worker)
    }
}
