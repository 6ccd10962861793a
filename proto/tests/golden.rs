//! The bytes of every message but the first ones, which `hello_golden.rs` has. If one of these
//! files changes, `PROTOCOL_VERSION` must change too; if it is `abi.txt`, the guest ABI has
//! broken, which it never may.
//!
//! `UPDATE_EXPECT=1 cargo test -p offshoot-proto` writes them anew.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

use expect_test::{ExpectFile, expect_file};
use samples::Sample;
use std::fmt::Write;

#[path = "samples/all.rs"]
mod samples;

fn check(samples: &[Sample], expected: ExpectFile) {
    let mut text = String::new();
    for Sample { name, bytes } in samples {
        write!(text, "{name} ").unwrap();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    expected.assert_eq(&text);
}

#[test]
fn cluster() {
    check(&samples::cluster::all(), expect_file!["golden/cluster.txt"]);
}

#[test]
fn executor() {
    check(&samples::executor::all(), expect_file!["golden/executor.txt"]);
}

#[test]
fn outcome() {
    check(&samples::outcome::all(), expect_file!["golden/outcome.txt"]);
}

#[test]
fn block() {
    check(&samples::block::all(), expect_file!["golden/block.txt"]);
}

#[test]
fn link() {
    check(&samples::link::all(), expect_file!["golden/link.txt"]);
}

#[test]
fn abi() {
    check(&samples::abi::all(), expect_file!["golden/abi.txt"]);
}
