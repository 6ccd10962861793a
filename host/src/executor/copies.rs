//! Copies of kept blocks and of shuffle outputs, which the driver orders: fetched from whoever has
//! them, one order after the other, and kept here.
//!
//! ```text
//!   reducer 0:  map 3 | map 5 | map 9  ──► each to the end of its file
//!   reducer 1:  map 3 | map 5 | map 9  ──►    "
//!   last one:   map 3 | map 5 | map 9  ──►    "     committed, told
//! ```
//!
//! One stream brings the parts of all maps for one reducer. So an order has as many files open as
//! it has maps, or one if there is one reducer, as with kept blocks.

use super::fetch::{HeldStream, check_chunks};
use super::flat::FlatFile;
use super::granted::GrantedFile;
use super::kept::{Kept, Ticket};
use super::slot_task::SlotContext;
use crate::memory::BlockId;
use offshoot_proto::block::{BlockFrame, Extent, FetchBlocks, ShuffleIndex};
use offshoot_proto::executor::{BlockState, CopyBlocks};
use offshoot_proto::id::AppId;
use offshoot_proto::stage::StageKind;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

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

/// An order that is being carried out.
struct Work<'a> {
    copier: &'a Copier,
    order: &'a CopyBlocks,
    ticket: Ticket,
    /// What has come of each; none of what has ended.
    coming: Vec<Option<Coming>>,
    copied: u32,
}

/// An output of which some parts have come.
struct Coming {
    id: BlockId,
    /// From its first byte on.
    file: Option<Sink>,
    /// Where the parts are that have come.
    reducers: Vec<Vec<Extent>>,
}

/// Where it goes to.
enum Sink {
    /// The parts as they came.
    Parts(GrantedFile),
    /// As it lies in memory.
    Flat(FlatFile),
}

/// Why a part has not come.
enum Lost {
    /// Others may come yet.
    Part(String),
    /// Nothing more comes from there.
    Source(String),
    /// Nobody needs it.
    Dropped,
}

// === impl Copies ===

impl Copies {
    /// Starts to wait for orders.
    pub(super) fn start(app: AppId, context: Arc<SlotContext>) -> Self {
        let (orders, mut incoming) = mpsc::unbounded_channel();
        let copier = Copier { app, context };
        tokio::spawn(async move {
            while let Some((order, ticket)) = incoming.recv().await {
                copier.carry_out(&order, ticket).await;
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
    async fn carry_out(&self, order: &CopyBlocks, ticket: Ticket) {
        let ids = order.blocks.iter().map(|(map, attempt)| BlockId {
            writer: order.writer,
            map: *map,
            attempt: *attempt,
        });
        let coming = ids.map(|id| Some(Coming { id, file: None, reducers: vec![] }));
        let mut work = Work { copier: self, order, ticket, coming: coming.collect(), copied: 0 };
        for reducer in 0..order.reducers {
            work.fetch(reducer).await;
        }
        let (copied, total) = (work.copied, order.blocks.len());
        tracing::info!("has copies of {copied} of {total} blocks of dataset {}", order.writer);
        self.context.kept.end_work();
    }
}

// === impl Work ===

impl Work<'_> {
    fn is_dropped(&self) -> bool {
        self.copier.context.kept.is_dropped(self.order.writer, self.ticket)
    }

    /// Fetches one reducer's part of everything that has not ended.
    async fn fetch(&mut self, reducer: u32) {
        let mut next = 0;
        while next < self.coming.len() {
            let rest = self.coming[next..].iter().flatten();
            let maps: Vec<_> = rest.map(|coming| (coming.id.map, coming.id.attempt)).collect();
            if maps.is_empty() || self.is_dropped() {
                return;
            }
            let CopyBlocks { writer, from, .. } = self.order;
            let request = FetchBlocks { app: self.copier.app, writer: *writer, reducer, maps };
            let lost = match self.copier.context.fetcher.open(from, &request).await {
                Ok(mut stream) => self.take_parts(reducer, &mut next, &mut stream).await,
                Err(reason) => Err(Lost::Source(reason)),
            };
            match lost {
                Ok(()) | Err(Lost::Dropped) => return,
                // Another stream has what comes after it.
                Err(Lost::Part(reason)) => self.give_up(next, &reason),
                Err(Lost::Source(reason)) => {
                    (next..self.coming.len()).for_each(|index| self.give_up(index, &reason));
                }
            }
        }
    }

    /// Takes parts from a stream, from the next one on.
    async fn take_parts(
        &mut self,
        reducer: u32,
        next: &mut usize,
        stream: &mut HeldStream,
    ) -> Result<(), Lost> {
        while *next < self.coming.len() {
            if self.coming[*next].is_some() {
                self.take_part(*next, stream).await?;
                if reducer + 1 == self.order.reducers {
                    self.commit(*next).await?;
                }
            }
            *next += 1;
        }
        Ok(())
    }

    async fn take_part(&mut self, index: usize, stream: &mut HeldStream) -> Result<(), Lost> {
        let mut before = None;
        loop {
            let frame = stream.next().await.map_err(Lost::Source)?;
            // What was written before went with the drop, and nothing may come after it.
            if self.is_dropped() {
                return Err(Lost::Dropped);
            }
            let Some(coming) = &mut self.coming[index] else { return Ok(()) };
            match frame {
                BlockFrame::Chunks(chunks) => {
                    check_chunks(&chunks).map_err(Lost::Part)?;
                    before.get_or_insert(coming.length());
                    let pushed = coming.push(&self.copier.context, self.order, &chunks);
                    pushed.map_err(|error| Lost::Part(error.to_string()))?;
                }
                BlockFrame::End { map } if map == coming.id.map => {
                    let extent = |offset| Extent { offset, length: coming.length() - offset };
                    coming.reducers.push(before.map(extent).into_iter().collect());
                    return Ok(());
                }
                BlockFrame::Failed { map, reason } if map == coming.id.map => {
                    return Err(Lost::Part(reason));
                }
                _ => return Err(Lost::Source("another block came than was due".to_owned())),
            }
        }
    }

    /// All parts have come.
    async fn commit(&mut self, index: usize) -> Result<(), Lost> {
        let Some(coming) = &mut self.coming[index] else { return Ok(()) };
        let id = coming.id;
        let kept = &self.copier.context.kept;
        let lost = |error: io::Error| Lost::Part(error.to_string());
        // From here on it counts as committed, or as memory.
        let written = coming.finish().map_err(lost)?;
        let in_memory = kept.commit(id, self.order.level, &written).await.map_err(lost)?;
        self.coming[index] = None;
        self.copied += 1;
        kept.tell(id, if in_memory { BlockState::InMemory } else { BlockState::OnDisk });
        Ok(())
    }

    /// One will not come.
    fn give_up(&mut self, index: usize, reason: &str) {
        let Some(Coming { id, .. }) = self.coming[index].take() else { return };
        let BlockId { writer, map, attempt } = id;
        tracing::info!(reason, "partition {map} of dataset {writer} was not copied");
        let SlotContext { files, kept, .. } = &*self.copier.context;
        let kind = StageKind::ShuffleWrite { reducers: self.order.reducers };
        files.discard(&kind, writer, map, attempt);
        kept.tell(id, BlockState::Gone);
    }
}

// === impl Coming ===

impl Coming {
    fn length(&self) -> u64 {
        match &self.file {
            Some(Sink::Parts(file)) => file.length(),
            // Its index is made when it is whole.
            Some(Sink::Flat(_)) | None => 0,
        }
    }

    fn finish(&mut self) -> io::Result<ShuffleIndex> {
        let data_bytes = self.length();
        match self.file.take() {
            Some(Sink::Flat(file)) => file.finish(),
            Some(Sink::Parts(_)) | None => {
                Ok(ShuffleIndex { reducers: std::mem::take(&mut self.reducers), data_bytes })
            }
        }
    }

    fn push(&mut self, context: &SlotContext, order: &CopyBlocks, chunks: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let BlockId { writer, map, attempt } = self.id;
                let file = context.files.shuffle_sink(writer, map, attempt)?.into();
                let file = GrantedFile::new(&context.files, file);
                none.insert(match order.level.uses_memory() && order.reducers == 1 {
                    true => Sink::Flat(FlatFile::new(file)),
                    false => Sink::Parts(file),
                })
            }
        };
        match file {
            Sink::Parts(file) => file.push(chunks),
            Sink::Flat(file) => file.push(chunks),
        }
    }
}
