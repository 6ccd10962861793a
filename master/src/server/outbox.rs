//! What the core says to one peer: encoded at once, sent when the peer takes it.
//!
//! The core never waits: it appends a frame and goes on. A writer beside the connection sends what
//! has piled up in one piece. The limit is in bytes, because a burst of many small orders is
//! ordinary and a peer that does not read is not.

use bytes::Bytes;
use offshoot_net::{FrameSender, StreamError};
use offshoot_proto::frame;
use offshoot_proto::limits::CONTROL_FRAME_BYTES_MAX;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes that wait for one peer. Orders for 4,096 executors of one core take about 16 MiB.
pub(super) const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// The core's end and the writer's end of the frames for one peer; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Shared>);

/// The peer does not read.
#[derive(Debug)]
pub(super) struct Overflow;

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    end: Option<End>,
}

/// How the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After what has been queued.
    Flushed,
    /// At once: the peer does not read.
    Cut,
}

// === impl Outbox ===

impl Outbox {
    /// Queues a frame. After an overflow the session is as good as cut.
    pub(super) fn push<T: Serialize>(&self, message: &T) -> Result<(), Overflow> {
        let mut queue = self.queue();
        let fits = frame::append(message, CONTROL_FRAME_BYTES_MAX, &mut queue.bytes).is_ok();
        let overflow = !fits || queue.bytes.len() > OUTBOX_BYTES_MAX;
        if overflow {
            queue.end = Some(End::Cut);
            queue.bytes = Vec::new();
        }
        drop(queue);
        self.0.changed.notify_one();
        if overflow { Err(Overflow) } else { Ok(()) }
    }

    /// Nothing follows what has been queued.
    pub(super) fn finish(&self) {
        self.queue().end.get_or_insert(End::Flushed);
        self.0.changed.notify_one();
    }

    /// Sends what is queued until the session ends, and says how.
    pub(super) async fn drain(&self, sender: &mut FrameSender) -> Result<End, StreamError> {
        loop {
            let (bytes, end) = self.take();
            if end == Some(End::Cut) {
                return Ok(End::Cut);
            }
            if !bytes.is_empty() {
                sender.send_chunk(bytes).await?;
            } else if let Some(end) = end {
                return Ok(end);
            } else {
                self.0.changed.notified().await;
            }
        }
    }

    /// Whether the session has overflowed; the writer may be stuck in a write and not see it.
    pub(super) fn is_cut(&self) -> bool {
        self.queue().end == Some(End::Cut)
    }

    fn take(&self) -> (Bytes, Option<End>) {
        let mut queue = self.queue();
        (std::mem::take(&mut queue.bytes).into(), queue.end)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
