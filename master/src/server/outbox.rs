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
    ended: Notify,
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
    /// Queues a frame. An overflow ends the session.
    pub(super) fn push<T: Serialize>(&self, message: &T) -> Result<(), Overflow> {
        let mut queue = self.queue();
        let fits = frame::append(message, CONTROL_FRAME_BYTES_MAX, &mut queue.bytes).is_ok();
        if !fits || queue.bytes.len() > OUTBOX_BYTES_MAX {
            queue.bytes = Vec::new();
            drop(queue);
            self.end(End::Cut);
            return Err(Overflow);
        }
        drop(queue);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Nothing follows what has been queued.
    pub(super) fn finish(&self) {
        self.end(End::Flushed);
    }

    /// Waits until the core has ended the session, and says how.
    pub(super) async fn ended(&self) -> End {
        loop {
            if let Some(end) = self.queue().end {
                return end;
            }
            self.0.ended.notified().await;
        }
    }

    /// Sends what is queued, and what will be, until the core has ended the session.
    pub(super) async fn drain(&self, sender: &mut FrameSender) -> Result<(), StreamError> {
        loop {
            let (bytes, end) = self.take();
            if !bytes.is_empty() {
                sender.send_chunk(bytes).await?;
            } else if end.is_some() {
                return Ok(());
            } else {
                self.0.changed.notified().await;
            }
        }
    }

    fn end(&self, end: End) {
        self.queue().end.get_or_insert(end);
        self.0.changed.notify_one();
        self.0.ended.notify_one();
    }

    fn take(&self) -> (Bytes, Option<End>) {
        let mut queue = self.queue();
        (std::mem::take(&mut queue.bytes).into(), queue.end)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut_before_it_costs_more_than_the_limit() {
        let outbox = Outbox::default();
        let message = "m".repeat(1 << 19);
        let count = (0..).take_while(|_| outbox.push(&message).is_ok()).count();
        assert!((120..=128).contains(&count), "{count}");
        assert_eq!(outbox.ended().await, End::Cut);
        assert!(outbox.queue().bytes.is_empty());
        outbox.finish();
        assert_eq!(outbox.ended().await, End::Cut, "the first end counts");
    }

    #[test]
    fn a_frame_over_the_limit_ends_the_session_and_not_the_master() {
        let outbox = Outbox::default();
        assert!(outbox.push(&"m".repeat(CONTROL_FRAME_BYTES_MAX + 1)).is_err());
    }
}
