//! First frames of connections.

use super::{Sample, Variants, sample, samples, variants};
use offshoot_proto::hello::{Hello, JoinReply, JoinRequest, PROTOCOL_VERSION, Purpose, Welcome};
use offshoot_proto::id::WorkerId;

variants!(Welcome: Accepted, Refused);
variants!(JoinReply: Joined, Refused);
variants!(Purpose: Control, Data);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let hello = |purpose: Purpose| {
        let hello =
            Hello { version: PROTOCOL_VERSION, cluster: "0123456789abcdef".into(), purpose };
        sample(&format!("Hello for {}", purpose.name()), &hello)
    };
    let mut all = vec![hello(Purpose::Control), hello(Purpose::Data)];
    let reason = || "no".to_owned();
    let welcomes = [Welcome::Accepted, Welcome::Refused { reason: reason() }];
    all.extend(samples("Welcome", &welcomes));
    let request = JoinRequest {
        version: PROTOCOL_VERSION,
        token: "offshoot-join-1-00".into(),
        signing_request: vec![1, 2, 3],
    };
    all.push(sample("JoinRequest", &request));
    let joined = JoinReply::Joined {
        cluster: "0123456789abcdef".into(),
        worker: WorkerId("w1".into()),
        certificate: vec![4, 5],
        authority: vec![6],
    };
    let replies = [joined, JoinReply::Refused { reason: reason() }];
    all.extend(samples("JoinReply", &replies));
    all
}
