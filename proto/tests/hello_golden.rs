//! The bytes of the first frames. If one of these changes, `PROTOCOL_VERSION` must change too.
#![allow(clippy::unwrap_used)]

use expect_test::{Expect, expect};
use offshoot_proto::frame;
use offshoot_proto::hello::{
    Hello, JoinReply, JoinRequest, PROTOCOL_VERSION, Purpose, Welcome, leading_version,
};
use offshoot_proto::id::WorkerId;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::{Debug, Write};

fn check<T>(value: &T, expected: Expect)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut bytes = Vec::new();
    frame::append(value, 1 << 20, &mut bytes).unwrap();
    let mut text = String::new();
    bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
    expected.assert_eq(&text);
    assert_eq!(frame::from_bytes::<T>(&bytes[frame::HEADER_BYTES..]).as_ref(), Ok(value));
}

fn hello(purpose: Purpose) -> Hello {
    Hello { version: PROTOCOL_VERSION, cluster: "0123456789abcdef".into(), purpose }
}

#[test]
fn hello_and_welcome() {
    check(&hello(Purpose::Control), expect!["1300000001103031323334353637383961626364656600"]);
    check(&hello(Purpose::Data), expect!["1300000001103031323334353637383961626364656601"]);
    check(&Welcome::Accepted, expect!["0100000000"]);
    check(&Welcome::Refused { reason: "no".into() }, expect!["0400000001026e6f"]);
}

#[test]
fn joining() {
    let request = JoinRequest {
        version: PROTOCOL_VERSION,
        token: "offshoot-join-1-00".into(),
        signing_request: vec![1, 2, 3],
    };
    check(&request, expect!["1800000001126f666673686f6f742d6a6f696e2d312d303003010203"]);
    let reply = JoinReply::Joined {
        cluster: "0123456789abcdef".into(),
        worker: WorkerId("w1".into()),
        certificate: vec![4, 5],
        authority: vec![6],
    };
    check(&reply, expect!["1a0000000010303132333435363738396162636465660277310204050106"]);
    check(&JoinReply::Refused { reason: "no".into() }, expect!["0400000001026e6f"]);
}

#[test]
fn the_version_comes_first_whatever_follows() {
    let future = frame::to_bytes(&(300_u32, [9_u8; 20]));
    assert_eq!(leading_version(&future), Ok(300));
    assert_eq!(leading_version(&frame::to_bytes(&hello(Purpose::Data))), Ok(PROTOCOL_VERSION));
    assert!(leading_version(&[]).is_err());
}
