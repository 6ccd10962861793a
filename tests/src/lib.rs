//! What the tests of the whole project share.
#![forbid(unsafe_code)]

pub mod guests;
pub mod s3;
