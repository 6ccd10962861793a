//! QUIC's numbers for each purpose of a connection, and how the two sides agree on the purpose.
//!
//! A stream's window cannot change after the handshake has begun, but the purpose is only said in
//! the hello after it. So a dialler also marks the first byte of the random connection id that
//! starts a handshake; the listener reads it before it answers, and picks windows, and for joining
//! another TLS configuration. The mark is only a hint that nobody vouches for: it can choose
//! between locks, never open one. A hello whose purpose is not the one marked is refused.
//!
//! Until the hello is accepted a listener grants one stream and a connection window of
//! [`UNPROVEN_WINDOW_BYTES`]; a data connection gets its windows (out of the process's budget) and
//! its streams afterwards.

use crate::windows::{STREAMS_PER_WINDOW, WindowSize};
use offshoot_proto::hello::Purpose;
use quinn::{ConnectionId, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Streams of a data connection that its dialler may have open at once.
pub const DATA_STREAMS_BY_DIALLER: u32 = 4;

/// Streams of a data connection that its acceptor may have open at once.
pub const DATA_STREAMS_BY_ACCEPTOR: u32 = 3;

// Every stream receives on both sides, so all of them count, and one stream's window stays free.
const _: () =
    assert!((DATA_STREAMS_BY_DIALLER + DATA_STREAMS_BY_ACCEPTOR) as u64 == STREAMS_PER_WINDOW - 1);

/// Of a data connection whose dialler only asks: nothing of the budget, so that a process may serve
/// as many as come.
pub(crate) const REQUESTS_WINDOW: VarInt = VarInt::from_u32(256 << 10);

/// Heartbeats, tasks and reports: what does not fit waits in the sender, which then knows.
const CONTROL_STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// One control stream and room to spare.
const CONTROL_WINDOW_BYTES: u32 = 512 << 10;

/// What a peer may send before its hello is accepted.
const UNPROVEN_WINDOW_BYTES: u32 = 64 << 10;

/// Bytes sent and not yet acknowledged, which a sender keeps for sending again.
const CONTROL_SEND_WINDOW_BYTES: u64 = 1 << 20;

/// As above; 8 MiB carries 10 Gbit/s over 6 ms.
const DATA_SEND_WINDOW_BYTES: u64 = 8 << 20;

/// Bytes of a datagram's payload at most: quinn hands the kernel ten at a time, which together must
/// fit the 64 KiB of one send.
pub(crate) const DATAGRAM_BYTES_MAX: u16 = 6_000;

/// A dead peer is found by heartbeats long before; this only cleans up.
const IDLE_TIMEOUT_MS: u32 = 15_000;

const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Handshakes that wait to be accepted; more are refused.
pub(crate) const INCOMING_MAX: usize = 1024;

/// Bytes of early packets kept for one such handshake (a client hello needs less than 2 KiB).
pub(crate) const INCOMING_BUFFER_BYTES: u64 = 64 << 10;

/// The same for all of them together.
pub(crate) const INCOMING_BUFFERS_BYTES: u64 = 16 << 20;

/// Bytes of the connection id that starts a handshake: the most that QUIC allows.
const START_ID_BYTES: usize = 20;

/// What a dialler says about itself before the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    For(Purpose),
    Join,
}

/// Makes the connection ids that start handshakes: random but for their mark.
#[derive(Debug)]
pub(crate) struct StartIds(Mutex<StdRng>);

// === impl Mark ===

impl Mark {
    /// The mark of a connection id; anything unknown is taken for the most modest purpose.
    pub(crate) fn of(id: &ConnectionId) -> Self {
        match id.first() {
            Some(b'D') => Self::For(Purpose::Data),
            Some(b'J') => Self::Join,
            _ => Self::For(Purpose::Control),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::For(Purpose::Control) => b'C',
            Self::For(Purpose::Data) => b'D',
            Self::Join => b'J',
        }
    }
}

// === impl StartIds ===

impl StartIds {
    pub(crate) fn new(seed: Option<[u8; 32]>) -> Self {
        Self(Mutex::new(seed.map_or_else(StdRng::from_os_rng, StdRng::from_seed)))
    }

    pub(crate) fn next(&self, mark: Mark) -> ConnectionId {
        let mut bytes = [0; START_ID_BYTES];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes[0] = mark.byte();
        ConnectionId::new(&bytes)
    }
}

/// Looks for larger datagrams on a data connection: a fourth of the packets to seal and open, where
/// the network has jumbo frames or is the loopback.
fn larger_datagrams(transport: &mut TransportConfig, mark: Mark) {
    if mark == Mark::For(Purpose::Data) {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(DATAGRAM_BYTES_MAX);
        transport.mtu_discovery_config(Some(discovery));
    }
}

/// The listener's side of a connection, before its hello.
pub(crate) fn accepted(mark: Mark, size: WindowSize) -> Arc<TransportConfig> {
    let mut transport = common();
    transport
        .stream_receive_window(stream_window(mark, size))
        .receive_window(VarInt::from_u32(UNPROVEN_WINDOW_BYTES))
        .send_window(send_window(mark))
        .max_concurrent_bidi_streams(VarInt::from_u32(1));
    larger_datagrams(&mut transport, mark);
    Arc::new(transport)
}

/// The dialler's side. It accepts streams only after it has been welcomed.
pub(crate) fn dialled(mark: Mark, size: WindowSize) -> Arc<TransportConfig> {
    let mut transport = common();
    transport
        .stream_receive_window(stream_window(mark, size))
        .receive_window(connection_window(mark, size))
        .send_window(send_window(mark))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    larger_datagrams(&mut transport, mark);
    Arc::new(transport)
}

/// The window of a connection once its hello is accepted.
pub(crate) fn connection_window(mark: Mark, size: WindowSize) -> VarInt {
    match mark {
        Mark::For(Purpose::Data) => var_int(size.connection_bytes()),
        Mark::For(Purpose::Control) | Mark::Join => VarInt::from_u32(CONTROL_WINDOW_BYTES),
    }
}

fn stream_window(mark: Mark, size: WindowSize) -> VarInt {
    match mark {
        Mark::For(Purpose::Data) => var_int(size.stream_bytes()),
        Mark::For(Purpose::Control) | Mark::Join => VarInt::from_u32(CONTROL_STREAM_WINDOW_BYTES),
    }
}

fn send_window(mark: Mark) -> u64 {
    match mark {
        Mark::For(Purpose::Data) => DATA_SEND_WINDOW_BYTES,
        Mark::For(Purpose::Control) | Mark::Join => CONTROL_SEND_WINDOW_BYTES,
    }
}

fn common() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    transport
}

fn var_int(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).expect("a window is at most 32 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_its_connection_id_and_the_rest_is_random() {
        let ids = StartIds::new(None);
        for mark in [Mark::For(Purpose::Control), Mark::For(Purpose::Data), Mark::Join] {
            let (one, two) = (ids.next(mark), ids.next(mark));
            assert_eq!((Mark::of(&one), one.len()), (mark, START_ID_BYTES));
            assert_ne!(one, two);
        }
    }

    #[test]
    fn a_seed_gives_the_same_ids() {
        let id = || StartIds::new(Some([7; 32])).next(Mark::Join);
        assert_eq!(id(), id());
    }

    #[test]
    fn an_unmarked_id_gets_no_more_than_a_control_connection() {
        assert_eq!(Mark::of(&ConnectionId::new(&[])), Mark::For(Purpose::Control));
        assert_eq!(Mark::of(&ConnectionId::new(&[0; 8])), Mark::For(Purpose::Control));
    }
}
