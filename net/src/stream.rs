//! Typed frames and raw chunks on one QUIC stream.
//!
//! Both directions work on one buffer each: many small frames go out in one write and come in
//! with one read, and a frame costs no allocation beyond the value that it decodes to.

use crate::connection::{CloseCode, StreamGuard};
use crate::error::{Closed, StreamError};
use bytes::Bytes;
use offshoot_proto::frame::{self, FrameError, HEADER_BYTES};
use quinn::{RecvStream, SendStream, VarInt};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Bytes queued and not yet taken by QUIC before [`FrameSender::queue`] refuses more. Only a peer
/// that has stopped reading lets so much pile up.
pub const SEND_BACKLOG_BYTES_MAX: usize = 8 << 20;

/// A batch is written in pieces of about this size, so that a long one does not pile up.
const BATCH_BYTES: usize = 256 << 10;

/// Bytes of a receive buffer; it grows only for a frame that is larger.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// With less room than this at its end, a buffer is first moved together.
const READ_BYTES_MIN: usize = 8 << 10;

/// The sending half of a stream.
pub struct FrameSender {
    stream: SendStream,
    queue: Vec<u8>,
    /// How much of `queue` QUIC has taken.
    taken: usize,
    frame_bytes_max: usize,
    guard: StreamGuard,
}

/// The receiving half of a stream.
pub struct FrameReceiver {
    stream: RecvStream,
    buffer: Vec<u8>,
    /// `buffer[start..end]` has been received and not been read.
    start: usize,
    end: usize,
    /// Bytes from `start` that make the next frame whole, as far as known.
    wanted: usize,
    frame_bytes_max: usize,
    guard: StreamGuard,
}

// === impl FrameSender ===

impl FrameSender {
    pub(crate) fn new(stream: SendStream, frame_bytes_max: usize, guard: StreamGuard) -> Self {
        Self { stream, queue: Vec::new(), taken: 0, frame_bytes_max, guard }
    }

    pub(crate) fn promote(&mut self, frame_bytes_max: usize, guard: StreamGuard) {
        self.frame_bytes_max = frame_bytes_max;
        self.guard = guard;
    }

    /// Sends one value. If the future is dropped early the rest of the frame is sent before
    /// whatever comes next: the stream stays intact.
    pub async fn send<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), StreamError> {
        self.queue(value)?;
        self.flush().await
    }

    /// Sends many values with few writes.
    pub async fn send_all<'a, T: Serialize + 'a>(
        &mut self,
        values: impl IntoIterator<Item = &'a T>,
    ) -> Result<(), StreamError> {
        for value in values {
            self.queue(value)?;
            if self.queued() >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    /// Encodes a value without sending it; [`FrameSender::flush`] sends. For a loop that decides
    /// synchronously and waits in one place.
    pub fn queue<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), StreamError> {
        let queued = self.queued();
        if queued > SEND_BACKLOG_BYTES_MAX {
            return Err(StreamError::Backlog { queued, limit: SEND_BACKLOG_BYTES_MAX });
        }
        frame::append(value, self.frame_bytes_max, &mut self.queue).map_err(|error| match error {
            FrameError::TooLarge { length, limit } => StreamError::Oversize { length, limit },
            other => StreamError::Frame(other),
        })
    }

    /// Bytes that QUIC has not taken yet.
    pub fn queued(&self) -> usize {
        self.queue.len() - self.taken
    }

    /// Waits until QUIC has taken everything that is queued, which may take as long as the peer
    /// takes to read. May be dropped and called again.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        while self.taken < self.queue.len() {
            self.taken += self.stream.write(&self.queue[self.taken..]).await?;
        }
        self.queue.clear();
        self.queue.shrink_to(BATCH_BYTES);
        self.taken = 0;
        Ok(())
    }

    /// Sends raw bytes without a header, after what is queued. If the future is dropped early a
    /// part of `chunk` may have been sent: [`FrameSender::abandon`] the stream then.
    pub async fn send_chunk(&mut self, chunk: Bytes) -> Result<(), StreamError> {
        self.flush().await?;
        Ok(self.stream.write_chunk(chunk).await?)
    }

    /// Flushes and ends this direction of the stream.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        self.flush().await?;
        self.stream.finish().map_err(|_| StreamError::NotOpen)
    }

    /// After [`FrameSender::finish`]: waits until the peer's QUIC has acknowledged everything (its
    /// program may still not have read it).
    pub async fn acknowledged(&mut self) -> Result<(), StreamError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(StreamError::Stopped { code: code.into_inner() }),
            Err(error) => Err(quinn::WriteError::from(error).into()),
        }
    }

    /// Gives the stream up; the peer sees [`StreamError::Stopped`] instead of an end.
    pub fn abandon(&mut self, code: CloseCode) {
        // An error says that the stream is over already.
        let _ = self.stream.reset(VarInt::from_u32(code as u32));
    }
}

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSender")
            .field("stream", &self.stream.id())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

// === impl FrameReceiver ===

impl FrameReceiver {
    pub(crate) fn new(stream: RecvStream, frame_bytes_max: usize, guard: StreamGuard) -> Self {
        let (buffer, wanted) = (Vec::new(), HEADER_BYTES);
        Self { stream, buffer, start: 0, end: 0, wanted, frame_bytes_max, guard }
    }

    pub(crate) fn promote(&mut self, frame_bytes_max: usize, guard: StreamGuard) {
        self.frame_bytes_max = frame_bytes_max;
        self.guard = guard;
    }

    /// The next value, or `None` at the end of the stream. May be dropped and called again: no
    /// bytes are lost.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        self.recv_with(frame::from_bytes).await
    }

    /// The next value if it has been received already. After [`FrameReceiver::recv`] returned one,
    /// this takes the others that came with it.
    pub fn buffered<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        self.buffered_with(frame::from_bytes)
    }

    /// As [`FrameReceiver::recv`], with another reading of the frame's payload.
    pub(crate) async fn recv_with<T>(
        &mut self,
        mut decode: impl FnMut(&[u8]) -> Result<T, FrameError>,
    ) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(value) = self.buffered_with(&mut decode)? {
                return Ok(Some(value));
            }
            if !self.fill().await? {
                return match self.wanted - self.unread().len() {
                    _ if self.unread().is_empty() => Ok(None),
                    missing => Err(StreamError::Cut { missing }),
                };
            }
        }
    }

    /// At most `bytes_max` raw bytes, or `None` at the end of the stream.
    pub async fn recv_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StreamError> {
        let buffered = self.unread().len().min(bytes_max);
        if buffered > 0 {
            let chunk = Bytes::copy_from_slice(&self.unread()[..buffered]);
            self.start += buffered;
            return Ok(Some(chunk));
        }
        let chunk = self.stream.read_chunk(bytes_max, true).await?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Fills `out` with raw bytes, as far as the stream goes; returns how many came. If the future
    /// is dropped early, what came is lost.
    pub async fn recv_into(&mut self, out: &mut [u8]) -> Result<usize, StreamError> {
        let mut filled = self.unread().len().min(out.len());
        out[..filled].copy_from_slice(&self.unread()[..filled]);
        self.start += filled;
        while filled < out.len() {
            match self.stream.read(&mut out[filled..]).await? {
                Some(count) => filled += count,
                None => break,
            }
        }
        Ok(filled)
    }

    /// Tells the peer that nothing more of this stream will be read.
    pub fn stop(&mut self, code: CloseCode) {
        // An error says that the stream is over already.
        let _ = self.stream.stop(VarInt::from_u32(code as u32));
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn buffered_with<T>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, FrameError>,
    ) -> Result<Option<T>, StreamError> {
        let Some(header) = self.unread().first_chunk::<HEADER_BYTES>() else {
            self.wanted = HEADER_BYTES;
            return Ok(None);
        };
        let decoded = frame::payload_length(*header, self.frame_bytes_max).and_then(|length| {
            let whole = HEADER_BYTES + length;
            let payload = self.unread().get(HEADER_BYTES..whole);
            Ok((whole, payload.map(decode).transpose()?))
        });
        match decoded {
            Ok((whole, Some(value))) => {
                self.start += whole;
                Ok(Some(value))
            }
            Ok((whole, None)) => {
                self.wanted = whole;
                Ok(None)
            }
            Err(error) => {
                self.guard.close(CloseCode::Protocol, &error.to_string());
                Err(StreamError::Frame(error))
            }
        }
    }

    /// Waits for more bytes; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, StreamError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end < READ_BYTES_MIN {
            self.make_room();
        }
        let count = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += count.unwrap_or(0);
        Ok(count.is_some())
    }

    /// Grows only as bytes really arrive: an announced length alone reserves nothing.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() - self.end < READ_BYTES_MIN {
            let length = (self.buffer.len() * 2).max(READ_BUFFER_BYTES);
            self.buffer.resize(length, 0);
        }
    }
}

impl fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReceiver")
            .field("stream", &self.stream.id())
            .field("unread", &self.unread().len())
            .finish_non_exhaustive()
    }
}

/// What to report if a stream ended where a value had to come.
pub(crate) fn ended_early() -> StreamError {
    let reason = "the stream ended before its first frame".to_owned();
    StreamError::Closed(Closed::ByPeer { code: 0, reason })
}
