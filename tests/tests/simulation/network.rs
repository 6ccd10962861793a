//! The network of a simulation: QUIC over turmoil's datagrams, with faults and a record.
//!
//! ```text
//!   endpoint ─► SimSocket ─► Wire: note it, lose it? ─► turmoil: delay, reorder ─► SimSocket
//! ```
//!
//! Loss and partitions are decided here, where every datagram passes, so that what they did can
//! be counted; turmoil delays, which also reorders. Each endpoint draws from a generator of its
//! own, seeded by the simulation's seed and the endpoint's number.

use crate::faults::{Fate, Faults};
use offshoot_net::{BindFuture, Network};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One datagram that somebody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// When, since the simulation began.
    pub(crate) at: Duration,
    /// From where.
    pub(crate) from: SocketAddr,
    /// Where to.
    pub(crate) to: SocketAddr,
    /// How many bytes.
    pub(crate) length: usize,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// What all endpoints of a simulation share.
#[derive(Debug)]
pub(crate) struct Wire {
    seed: u64,
    faults: Faults,
    endpoints: AtomicU64,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    losses: StdRng,
    datagrams: Vec<Datagram>,
}

/// The network as one process of one machine sees it.
#[derive(Clone, Debug)]
pub(crate) struct SimNetwork {
    wire: Arc<Wire>,
    machine: IpAddr,
    process: watch::Receiver<bool>,
}

/// Ends a process on the network: its sockets are silent and deaf from then on.
#[derive(Debug)]
pub(crate) struct ProcessEnd(watch::Sender<bool>);

/// Waits until a socket can be read.
type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

struct SimSocket {
    socket: Arc<turmoil::net::UdpSocket>,
    network: SimNetwork,
    readable: Mutex<Option<Readable>>,
}

#[derive(Debug)]
struct AlwaysWritable;

#[derive(Debug)]
struct SimRuntime;

// === impl Wire ===

impl Wire {
    pub(crate) fn new(seed: u64, faults: Faults) -> Arc<Self> {
        let losses = StdRng::seed_from_u64(seed ^ 0x1055_e500);
        let datagrams = Vec::new();
        let record = Mutex::new(Record { losses, datagrams });
        Arc::new(Self { seed, faults, endpoints: AtomicU64::new(0), record })
    }

    /// The network of a process on `machine` that is never killed.
    pub(crate) fn network(self: &Arc<Self>, machine: IpAddr) -> SimNetwork {
        // Without its sender the receiver stands still, which is what is wanted.
        let (_, process) = watch::channel(false);
        SimNetwork { wire: self.clone(), machine, process }
    }

    /// Everything that was sent, in order.
    pub(crate) fn take_trace(&self) -> Vec<Datagram> {
        std::mem::take(&mut self.record().datagrams)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder of the lock panics")
    }

    /// Notes a datagram; whether it goes on.
    fn pass(&self, machine: IpAddr, from: SocketAddr, to: SocketAddr, length: usize) -> bool {
        let at = turmoil::sim_elapsed().expect("sockets exist only inside a simulation");
        let mut record = self.record();
        let draw = record.losses.random::<f64>();
        let fate = self.faults.fate(at, machine, to.ip(), draw);
        record.datagrams.push(Datagram { at, from, to, length, fate });
        fate == Fate::Sent
    }
}

// === impl SimNetwork ===

impl SimNetwork {
    /// The network of another process on the same machine.
    pub(crate) fn process(&self) -> (Self, ProcessEnd) {
        let (end, process) = watch::channel(false);
        (Self { process, ..self.clone() }, ProcessEnd(end))
    }

    fn is_dead(&self) -> bool {
        *self.process.borrow()
    }
}

impl Network for SimNetwork {
    fn bind(&self, address: SocketAddr) -> BindFuture<'_> {
        Box::pin(async move {
            let socket = Arc::new(turmoil::net::UdpSocket::bind(address).await?);
            let network = self.clone();
            let socket = SimSocket { socket, network, readable: Mutex::new(None) };
            Ok(Arc::new(socket) as Arc<dyn AsyncUdpSocket>)
        })
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(SimRuntime)
    }

    fn seed(&self) -> Option<[u8; 32]> {
        let number = self.wire.endpoints.fetch_add(1, Ordering::Relaxed);
        let mut seed = [0; 32];
        let mixed = self.wire.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        StdRng::seed_from_u64(mixed).fill_bytes(&mut seed);
        Some(seed)
    }
}

// === impl ProcessEnd ===

impl ProcessEnd {
    pub(crate) fn kill(&self) {
        self.0.send_replace(true);
    }
}

// === impl SimSocket ===

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl SimSocket {
    fn wait(&self) -> Readable {
        let (socket, mut process) = (self.socket.clone(), self.network.process.clone());
        Box::pin(async move {
            let killed = async {
                // A process without an end is never killed.
                while process.changed().await.is_ok() {
                    if *process.borrow() {
                        return;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                biased;
                () = killed => Err(killed_error()),
                ready = socket.readable() => ready,
            }
        })
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.network.is_dead() {
            return Ok(());
        }
        let (from, to) = (self.socket.local_addr()?, transmit.destination);
        let bytes = transmit.contents;
        if self.network.wire.pass(self.network.machine, from, to, bytes.len()) {
            // Nobody listens there: the datagram is lost, and UDP does not say so.
            let _ = self.socket.try_send_to(bytes, to);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.network.is_dead() {
            return Poll::Ready(Err(killed_error()));
        }
        let mut readable = self.readable.lock().expect("no holder of the lock panics");
        loop {
            match self.socket.try_recv_from(&mut buffers[0]) {
                Ok((length, from)) => {
                    meta[0] = RecvMeta { addr: from, len: length, stride: length, ..meta[0] };
                    (meta[0].ecn, meta[0].dst_ip) = (None, None);
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let waiting = readable.get_or_insert_with(|| self.wait());
            match waiting.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => *readable = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

fn killed_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the process was killed")
}

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// === impl SimRuntime ===

impl Runtime for SimRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(tokio::time::sleep_until(at.into()))
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulation has no real sockets"))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
