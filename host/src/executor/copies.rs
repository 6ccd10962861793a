//! Copies of kept blocks, which the driver orders: fetched from whoever has them, one order after
//! the other, and kept here.

use super::fetch::{HeldStream, check_chunks};
use super::flat::FlatFile;
use super::granted::GrantedFile;
use super::kept::{Kept, Ticket};
use super::slot_task::SlotContext;
use crate::memory::BlockId;
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::block::{BlockFrame, Extent, FetchBlocks, ShuffleIndex};
use offshoot_proto::executor::{BlockState, CopyBlocks};
use offshoot_proto::id::{AppId, Partition};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Orders that have not been carried out.
#[derive(Debug)]
pub(super) struct Copies {
    orders: mpsc::UnboundedSender<(CopyBlocks, Ticket)>,
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
            while let Some((order, ticket)) = incoming.recv().await {
                copier.carry_out(order, ticket).await;
            }
        });
        Self { orders }
    }

    pub(super) fn order(&self, kept: &Kept, copy: CopyBlocks) {
        // Its task lives as long as this sender.
        let _ = self.orders.send((copy, kept.begin_work()));
    }
}

// === impl Copier ===

impl Copier {
    async fn carry_out(&self, order: CopyBlocks, ticket: Ticket) {
        let CopyBlocks { writer, level, from, blocks, .. } = order;
        let SlotContext { fetcher, kept, files, .. } = &*self.context;
        let request = FetchBlocks { app: self.app, writer, reducer: 0, maps: blocks.clone() };
        let mut stream = fetcher.open(&from, &request).await;
        let (mut copied_count, total) = (0, blocks.len());
        for (map, attempt) in blocks {
            if kept.is_dropped(writer, ticket) {
                break;
            }
            let id = BlockId { writer, map, attempt };
            let copied = match &mut stream {
                Ok(held) => self.copy(id, level, held).await,
                Err(reason) => Err(io::Error::other(reason.clone())),
            };
            let state = copied.unwrap_or_else(|error| {
                tracing::info!(%error, "partition {map} of dataset {writer} was not copied");
                files.discard_staged(id);
                stream = Err("an earlier block could not be copied".to_owned());
                BlockState::Gone
            });
            copied_count += u32::from(state != BlockState::Gone);
            kept.tell(id, state);
        }
        tracing::info!("has copies of {copied_count} of {total} blocks of dataset {writer}");
        kept.end_work();
    }

    async fn copy(
        &self,
        id: BlockId,
        level: StorageLevel,
        held: &mut HeldStream,
    ) -> io::Result<BlockState> {
        let SlotContext { kept, files, .. } = &*self.context;
        let file = files.shuffle_sink(id.writer, id.map, id.attempt)?.into();
        let file = GrantedFile::new(files, file);
        let index = match level.uses_memory() {
            true => {
                let mut file = FlatFile::new(file);
                receive(held, id.map, |chunks| file.push(chunks)).await?;
                file.finish()?
            }
            false => {
                let mut file = file;
                receive(held, id.map, |chunks| file.push(chunks)).await?;
                as_it_came(file.length())
            }
        };
        let in_memory = kept.commit(id, level, &index).await?;
        Ok(if in_memory { BlockState::InMemory } else { BlockState::OnDisk })
    }
}

/// The index of a file of chunks.
fn as_it_came(length: u64) -> ShuffleIndex {
    let extents = if length > 0 { vec![Extent { offset: 0, length }] } else { vec![] };
    ShuffleIndex { reducers: vec![extents], data_bytes: length }
}

/// Takes the chunks of the map that is due.
async fn receive(
    held: &mut HeldStream,
    due: Partition,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match held.next().await.map_err(io::Error::other)? {
            BlockFrame::Chunks(chunks) => {
                check_chunks(&chunks).map_err(io::Error::other)?;
                take(&chunks)?;
            }
            BlockFrame::End { map } if map == due => return Ok(()),
            BlockFrame::Failed { reason, .. } => return Err(io::Error::other(reason)),
            BlockFrame::End { .. } => return Err(io::Error::other("another block than due")),
        }
    }
}
