//! At least one value of every variant of every message, for golden bytes and fuzz corpora.

use offshoot_proto::frame;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::fmt::Debug;

#[path = "abi.rs"]
pub mod abi;
#[path = "block.rs"]
pub mod block;
#[path = "cluster.rs"]
pub mod cluster;
#[path = "executor.rs"]
pub mod executor;
#[path = "hello.rs"]
pub mod hello;
#[path = "link.rs"]
pub mod link;
#[path = "outcome.rs"]
pub mod outcome;
#[path = "sharing.rs"]
pub mod sharing;

/// A message that was encoded and found to decode to itself.
pub struct Sample {
    /// `Type::Variant`.
    pub name: String,
    /// Its payload, without header.
    pub bytes: Vec<u8>,
}

/// Names the variant of a value; the list holds every variant there is.
macro_rules! variants {
    ($type:ident: $($variant:ident),+ $(,)?) => {
        impl $crate::samples::Variants for $type {
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($variant),)+
                }
            }
        }
    };
}
pub(crate) use variants;

/// An enum whose variants are all known; a new one does not compile until it is listed.
pub trait Variants {
    /// All of them.
    const NAMES: &'static [&'static str];

    /// That of this value.
    fn name(&self) -> &'static str;
}

/// Samples of one enum, of which each variant must occur.
pub fn samples<T>(type_name: &str, values: &[T]) -> Vec<Sample>
where
    T: Variants + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let found: BTreeSet<&str> = values.iter().map(Variants::name).collect();
    for name in T::NAMES {
        assert!(found.contains(name), "no sample of {type_name}::{name}");
    }
    let named = |value: &T| sample(&format!("{type_name}::{}", value.name()), value);
    values.iter().map(named).collect()
}

/// A sample of a message that is no enum.
pub fn sample<T>(name: &str, value: &T) -> Sample
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = frame::to_bytes(value);
    assert_eq!(frame::from_bytes::<T>(&bytes).as_ref(), Ok(value), "{name}");
    let name = name.to_owned();
    Sample { name, bytes }
}
