//! Messages of the shuffle service.

use super::{Sample, sample, samples, variants};
use offshoot_proto::block::{BlockFrame, Extent, FetchBlocks, ShuffleIndex};
use offshoot_proto::id::{AppId, AttemptId, NodeId, Partition};

variants!(BlockFrame: Chunks, End, Failed);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let frames = [
        BlockFrame::Chunks(vec![3, 0, 0, 0, 3, 0, 0, 0]),
        BlockFrame::End { map: Partition(1) },
        BlockFrame::Failed { map: Partition(1), reason: "gone".into() },
    ];
    let fetch = FetchBlocks {
        app: AppId(7),
        writer: NodeId(4),
        reducer: 5,
        maps: vec![(Partition(0), AttemptId(290)), (Partition(1), AttemptId(291))],
    };
    let mut all = samples("BlockFrame", &frames);
    all.push(sample("FetchBlocks", &fetch));
    all.push(sample("ShuffleIndex", &index()));
    all
}

/// An index of three reducers, one of them without data.
pub fn index() -> ShuffleIndex {
    let extent = |offset, length| Extent { offset, length };
    ShuffleIndex {
        reducers: vec![vec![extent(0, 300), extent(1000, 24)], vec![], vec![extent(300, 700)]],
        data_bytes: 1024,
    }
}
