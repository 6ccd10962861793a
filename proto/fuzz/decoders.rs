//! What a peer's bytes go through before anything believes them; shared by the fuzz targets and by
//! the test that replays their corpora.
//!
//! The first byte of an input chooses the message, the rest is its payload.

use offshoot_proto::abi::{InputFile, JobSpec, NodeSpec, Source};
use offshoot_proto::block::{BlockFrame, FetchBlocks, ShuffleIndex};
use offshoot_proto::cluster::{
    FromClient, FromWorker, ModuleReply, ModuleRequest, ToClient, ToWorker,
};
use offshoot_proto::executor::{DataChunk, DriverData, FromExecutor, ToExecutor};
use offshoot_proto::frame::{self, FrameError, HEADER_BYTES};
use offshoot_proto::hello::{Hello, JoinReply, JoinRequest, Welcome, leading_version};
use offshoot_proto::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX, LINK_FRAME_BYTES_MAX};
use offshoot_proto::link::{FromSlot, Reply, Request, ToSlot};
use offshoot_proto::outcome::TaskReport;
use offshoot_proto::snapshot::SnapshotHeader;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Decodes an input of one target. Panics are what the fuzzer looks for.
pub type Decoder = fn(&[u8]) -> Result<(), FrameError>;

/// Every target: the name of its corpus, and what it does with an input.
pub const TARGETS: [(&str, Decoder); 7] = [
    ("frame", frame_header),
    ("hello", hello),
    ("cluster", cluster),
    ("executor", executor),
    ("block", block),
    ("link", link),
    ("abi", abi),
];

/// A frame with its header, under the limit that the first byte chooses.
pub fn frame_header(input: &[u8]) -> Result<(), FrameError> {
    let (choice, rest) = input.split_first().unwrap_or((&0, &[]));
    let limits = [16, CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX, LINK_FRAME_BYTES_MAX];
    let limit = limits[usize::from(*choice) % limits.len()];
    let Some((header, payload)) = rest.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(());
    };
    let length = frame::payload_length(*header, limit)?;
    assert!(length <= limit);
    let payload = &payload[..length.min(payload.len())];
    decode::<Vec<(u64, String)>>(payload)
}

/// First frames, the only ones that a stranger can send.
pub fn hello(input: &[u8]) -> Result<(), FrameError> {
    choose(
        input,
        &[
            |payload| {
                // What can be read whole must have a version.
                let version = leading_version(payload);
                let hello = frame::from_bytes::<Hello>(payload);
                assert!(hello.is_err() || version == hello.map(|hello| hello.version));
                decode::<Hello>(payload)
            },
            decode::<Welcome>,
            decode::<JoinRequest>,
            decode::<JoinReply>,
        ],
    )
}

/// Between the master and everybody else.
pub fn cluster(input: &[u8]) -> Result<(), FrameError> {
    choose(
        input,
        &[
            decode::<FromWorker>,
            decode::<ToWorker>,
            decode::<FromClient>,
            decode::<ToClient>,
            decode::<ModuleRequest>,
            decode::<ModuleReply>,
        ],
    )
}

/// Between drivers and executors.
pub fn executor(input: &[u8]) -> Result<(), FrameError> {
    choose(
        input,
        &[
            decode::<ToExecutor>,
            decode::<FromExecutor>,
            decode::<DriverData>,
            decode::<DataChunk>,
            decode::<TaskReport>,
            |payload| {
                let header = frame::from_bytes::<SnapshotHeader>(payload)?;
                // Sums over what a peer claims must not overflow.
                let pages = header.pages();
                assert!(!header.is_well_formed() || pages << 12 <= header.memory_bytes);
                decode::<SnapshotHeader>(payload)
            },
        ],
    )
}

/// Between executors and workers.
pub fn block(input: &[u8]) -> Result<(), FrameError> {
    choose(input, &[decode::<FetchBlocks>, decode::<BlockFrame>, decode::<ShuffleIndex>])
}

/// Between slots and their owners.
pub fn link(input: &[u8]) -> Result<(), FrameError> {
    choose(input, &[decode::<FromSlot>, decode::<ToSlot>, decode::<Request>, decode::<Reply>])
}

/// From guests.
pub fn abi(input: &[u8]) -> Result<(), FrameError> {
    choose(
        input,
        &[decode::<NodeSpec>, decode::<JobSpec>, decode::<Source>, decode::<Vec<InputFile>>],
    )
}

fn choose(input: &[u8], decoders: &[Decoder]) -> Result<(), FrameError> {
    let (choice, payload) = input.split_first().unwrap_or((&0, &[]));
    decoders[usize::from(*choice) % decoders.len()](payload)
}

/// What was understood must survive being said again.
fn decode<T>(payload: &[u8]) -> Result<(), FrameError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let value = frame::from_bytes::<T>(payload)?;
    let again = frame::from_bytes::<T>(&frame::to_bytes(&value));
    assert_eq!(again.as_ref(), Ok(&value));
    Ok(())
}
