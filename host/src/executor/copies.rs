//! Copies of kept blocks, which the driver orders: fetched from whoever has them, one order after
//! the other, and kept here.

use super::fetch::check_chunks;
use super::kept::Kept;
use super::slot_task::SlotContext;
use crate::memory::BlockId;
use offshoot_net::FrameStream;
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::block::{BlockFrame, Extent, FetchBlocks, ShuffleIndex};
use offshoot_proto::executor::{BlockState, CopyBlocks};
use offshoot_proto::id::{AppId, Partition};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Orders that have not been carried out.
#[derive(Debug)]
pub(super) struct Copies {
    orders: mpsc::UnboundedSender<CopyBlocks>,
}

/// Who copies, and to where.
struct Copier {
    app: AppId,
    context: Arc<SlotContext>,
}

// === impl Copies ===

impl Copies {
    /// Starts to wait for orders.
    pub(super) fn start(app: AppId, context: Arc<SlotContext>) -> Self {
        let (orders, mut incoming) = mpsc::unbounded_channel();
        let copier = Copier { app, context };
        tokio::spawn(async move {
            while let Some(order) = incoming.recv().await {
                copier.carry_out(order).await;
            }
        });
        Self { orders }
    }

    pub(super) fn order(&self, kept: &Kept, copy: CopyBlocks) {
        kept.begin_work(copy.writer);
        // Its task lives as long as this sender.
        let _ = self.orders.send(copy);
    }
}

// === impl Copier ===

impl Copier {
    async fn carry_out(&self, order: CopyBlocks) {
        let CopyBlocks { writer, level, from, blocks } = order;
        let SlotContext { fetcher, kept, .. } = &*self.context;
        let request = FetchBlocks { app: self.app, writer, reducer: 0, maps: blocks.clone() };
        let mut stream = fetcher.open(&from, &request).await;
        let mut copied_count = 0;
        let total = blocks.len();
        for (map, attempt) in blocks {
            if kept.is_dropped(writer) {
                break;
            }
            let id = BlockId { writer, map, attempt };
            let copied = match &mut stream {
                Ok(held) => self.copy(id, level, &mut held.stream).await,
                Err(reason) => Err(io::Error::other(reason.clone())),
            };
            let state = copied.unwrap_or_else(|error| {
                tracing::info!(%error, "partition {map} of dataset {writer} was not copied");
                stream = Err("an earlier block could not be copied".to_owned());
                BlockState::Gone
            });
            copied_count += u32::from(state != BlockState::Gone);
            kept.tell(id, state);
        }
        tracing::info!("has copies of {copied_count} of {total} blocks of dataset {writer}");
        kept.end_work(writer);
    }

    async fn copy(
        &self,
        id: BlockId,
        level: StorageLevel,
        stream: &mut FrameStream,
    ) -> io::Result<BlockState> {
        let SlotContext { kept, files, .. } = &*self.context;
        let BlockId { writer, map, attempt } = id;
        let in_memory = kept.sink(level, writer)?;
        let mut file = match &in_memory {
            Some(file) => file.try_clone()?,
            None => files.shuffle_sink(writer, map, attempt)?.into(),
        };
        let length = receive(stream, map, &mut file).await?;
        let extent = Extent { offset: 0, length };
        let extents = if length > 0 { vec![extent] } else { vec![] };
        let index = ShuffleIndex { reducers: vec![extents], data_bytes: length };
        let in_memory = match in_memory {
            Some(file) => kept.commit(id, level, file, &index).await?,
            None => files.commit_shuffle(writer, map, attempt, &index).map(|()| false)?,
        };
        Ok(if in_memory { BlockState::InMemory } else { BlockState::OnDisk })
    }
}

/// Takes the chunks of the map that is due; how many bytes they are.
async fn receive(stream: &mut FrameStream, due: Partition, file: &mut File) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let frame = stream.receiver.recv::<BlockFrame>().await.map_err(io::Error::other)?;
        match frame {
            Some(BlockFrame::Chunks(chunks)) => {
                check_chunks(&chunks).map_err(io::Error::other)?;
                file.write_all(&chunks)?;
                length += chunks.len() as u64;
            }
            Some(BlockFrame::End { map }) if map == due => return Ok(length),
            Some(BlockFrame::Failed { reason, .. }) => return Err(io::Error::other(reason)),
            Some(BlockFrame::End { .. }) => return Err(io::Error::other("another block than due")),
            None => return Err(io::Error::other("the stream ended early")),
        }
    }
}
