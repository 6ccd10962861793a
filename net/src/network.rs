//! Where datagrams go: the only seam between this crate and a simulation.

use core::fmt;
use quinn::udp::UdpSocketState;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;

/// Bytes of the kernel's buffers for one socket. The default of Linux (208 KiB) holds 150
/// datagrams, which a burst at full speed overruns; the kernel caps this to what it allows.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A socket that is being made.
pub type BindFuture<'a> =
    Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncUdpSocket>>> + Send + 'a>>;

/// Makes sockets, timers and tasks for an endpoint.
///
/// [`UdpNetwork`] is the real one. A simulation gives sockets that deliver as it pleases, a
/// runtime whose clock is virtual, and a seed, so that a run can be repeated.
pub trait Network: fmt::Debug + Send + Sync {
    /// A datagram socket bound to `address`.
    fn bind(&self, address: SocketAddr) -> BindFuture<'_>;

    /// Timers and tasks for connections.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Whether processes on one machine may also reach each other by sockets of that machine.
    fn has_local_sockets(&self) -> bool {
        false
    }

    /// Where the randomness of QUIC comes from; `None` is the operating system. Asked once for
    /// each endpoint, and two endpoints should not get the same.
    fn seed(&self) -> Option<[u8; 32]> {
        None
    }
}

/// UDP sockets of the operating system, driven by tokio.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpNetwork;

// === impl UdpNetwork ===

impl Network for UdpNetwork {
    fn bind(&self, address: SocketAddr) -> BindFuture<'_> {
        Box::pin(async move {
            let socket = UdpSocket::bind(address)?;
            let state = UdpSocketState::new((&socket).into())?;
            state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
            state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
            TokioRuntime.wrap_udp_socket(socket)
        })
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(TokioRuntime)
    }

    fn has_local_sockets(&self) -> bool {
        true
    }
}
