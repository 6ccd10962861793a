//! What guests write to standard output and error: whole lines, escaped, labelled, and no more than
//! so many bytes a second.

use offshoot_proto::id::ExecutorId;
use tokio::time::{Duration, Instant};

/// Bytes of a slot's output that are logged a second; a guest cannot fill a disk with its log.
const BYTES_PER_SECOND: usize = 64 << 10;

/// A line that grows longer than this is logged in pieces.
const LINE_BYTES_MAX: usize = 4 << 10;

/// The log of one slot.
#[derive(Debug)]
pub(super) struct GuestLog {
    /// What has no end of line yet, of standard output and of standard error.
    partial: [Vec<u8>; 2],
    since: Instant,
    bytes: usize,
    left_out: usize,
}

// === impl GuestLog ===

impl GuestLog {
    pub(super) fn new() -> Self {
        let partial = [Vec::new(), Vec::new()];
        Self { partial, since: Instant::now(), bytes: 0, left_out: 0 }
    }

    /// Takes what a guest wrote to stream 1 or 2.
    pub(super) fn push(&mut self, executor: ExecutorId, slot: usize, stream: u8, bytes: &[u8]) {
        self.tick(executor, slot);
        for &byte in bytes {
            let partial = &mut self.partial[usize::from(stream == 2)];
            if byte != b'\n' {
                partial.push(byte);
            }
            if byte == b'\n' || partial.len() >= LINE_BYTES_MAX {
                let line = std::mem::take(partial);
                self.line(executor, slot, stream, &line);
            }
        }
    }

    fn tick(&mut self, executor: ExecutorId, slot: usize) {
        if self.since.elapsed() < Duration::from_secs(1) {
            return;
        }
        if self.left_out > 0 {
            let bytes = self.left_out;
            tracing::info!(%executor, slot, "guest: ({bytes} bytes more are not shown)");
        }
        (self.since, self.bytes, self.left_out) = (Instant::now(), 0, 0);
    }

    fn line(&mut self, executor: ExecutorId, slot: usize, stream: u8, line: &[u8]) {
        self.bytes += line.len() + 1;
        if self.bytes > BYTES_PER_SECOND {
            self.left_out += line.len();
            return;
        }
        let text = String::from_utf8_lossy(line);
        let text = text.escape_debug();
        let name = if stream == 2 { "stderr" } else { "stdout" };
        tracing::info!(%executor, slot, "guest {name}: {text}");
    }
}
