//! Peers from elsewhere prove their address before a handshake costs anything.

use crate::support::*;
use offshoot_net::{Accepts, Arrival, BindFuture, Endpoint, Network, Role, UdpNetwork};
use offshoot_proto::hello::Purpose;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Where everybody on loopback seems to be.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Loopback, but its peers seem to be elsewhere. Counts the retries that are sent.
#[derive(Clone, Debug, Default)]
struct FromElsewhere {
    retries: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct ElsewhereSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    retries: Arc<AtomicUsize>,
}

impl Network for FromElsewhere {
    fn bind(&self, address: SocketAddr) -> BindFuture<'_> {
        Box::pin(async move {
            let inner = UdpNetwork.bind(address).await?;
            let retries = self.retries.clone();
            Ok(Arc::new(ElsewhereSocket { inner, retries }) as Arc<dyn AsyncUdpSocket>)
        })
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        UdpNetwork.runtime()
    }
}

impl AsyncUdpSocket for ElsewhereSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // A long header of type 3 (RFC 9000, section 17.2.5).
        if transmit.contents[0] & 0xf0 == 0xf0 {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        let port = transmit.destination.port();
        let destination = SocketAddr::new(LOOPBACK.ip(), port);
        let (ecn, segment_size) = (transmit.ecn, transmit.segment_size);
        let (contents, src_ip) = (transmit.contents, None);
        self.inner.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip })
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(context, buffers, meta);
        if let Poll::Ready(Ok(count)) = received {
            meta[..count].iter_mut().for_each(|meta| meta.addr.set_ip(ELSEWHERE));
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[tokio::test]
async fn a_peer_from_elsewhere_is_asked_to_retry_and_keeps_its_mark() {
    let authority = authority();
    let network = FromElsewhere::default();
    let credential = mint(&authority, Role::Master);
    let listener = Endpoint::bind(&network, LOOPBACK, credential, Accepts::Members).await.unwrap();
    let address = listener.local_address().unwrap();
    let dialler = dialler(&authority, worker("w1")).await;
    for (purpose, retries) in [(Purpose::Control, 1), (Purpose::Data, 2)] {
        let accepting = async {
            let Some(Arrival::Member(incoming)) = listener.accept().await else { panic!() };
            assert_eq!(incoming.remote_address().ip(), ELSEWHERE);
            incoming.handshake(|_, _| Ok(())).await
        };
        let dialling = dialler.connect(address, Role::Master, purpose);
        let (accepted, dialled) = tokio::join!(accepting, dialling);
        assert_eq!(accepted.unwrap().purpose(), purpose);
        assert!(dialled.is_ok(), "{dialled:?}");
        assert_eq!(network.retries.load(Ordering::Relaxed), retries);
    }
}
