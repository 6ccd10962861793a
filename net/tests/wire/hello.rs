//! Hello and welcome: versions, clusters, purposes, and peers that never say anything.

use crate::support::*;
use offshoot_net::{
    Accepts, BindFuture, ConnectError, Endpoint, HandshakeError, Network, Role, UdpNetwork,
};
use offshoot_proto::hello::{Hello, PROTOCOL_VERSION, Purpose, Welcome};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// A network that loses everything after the first datagrams that are sent.
#[derive(Debug)]
struct GoesSilent {
    after: usize,
}

#[derive(Debug)]
struct SilentSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    left: AtomicUsize,
}

impl Network for GoesSilent {
    fn bind(&self, address: SocketAddr) -> BindFuture<'_> {
        let left = AtomicUsize::new(self.after);
        Box::pin(async move {
            let inner = UdpNetwork.bind(address).await?;
            Ok(Arc::new(SilentSocket { inner, left }) as Arc<dyn AsyncUdpSocket>)
        })
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        UdpNetwork.runtime()
    }
}

impl AsyncUdpSocket for SilentSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { self.inner.try_send(transmit) } else { Ok(()) }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// Says `hello` with a good certificate; it must be refused with a reason that has `word` in it.
async fn assert_refused(hello: impl FnOnce(Hello) -> Hello, word: &str) {
    let (authority, issuer) = stolen_authority();
    let mut listener = listen(&authority, Role::Master).await;
    let connection = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let cluster = authority.cluster().to_string();
    let good = Hello { version: PROTOCOL_VERSION, cluster, purpose: Purpose::Control };
    let welcome: Welcome = ask(&connection, &hello(good)).await;
    let Welcome::Refused { reason } = welcome else { panic!("{word}: accepted") };
    assert!(reason.contains(word), "{reason}");
    connection.close(0_u32.into(), b"");
    let result = listener.next().await;
    assert!(matches!(result, Err(HandshakeError::Refused { .. })), "{word}: {result:?}");
}

#[tokio::test]
async fn another_version_is_refused_with_both_versions() {
    assert_refused(|hello| Hello { version: 77, ..hello }, "version 77").await;
}

#[tokio::test]
async fn a_future_hello_of_another_shape_is_still_understood_as_another_version() {
    let (authority, issuer) = stolen_authority();
    let listener = listen(&authority, Role::Master).await;
    let connection = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let welcome: Welcome = ask(&connection, &(78_u32, [1_u8; 32])).await;
    let Welcome::Refused { reason } = welcome else { panic!("accepted") };
    assert!(reason.contains("version 78"), "{reason}");
    drop(listener);
}

#[tokio::test]
async fn another_cluster_is_refused() {
    assert_refused(|hello| Hello { cluster: "feedfeedfeedfeed".into(), ..hello }, "feedfeed").await;
}

#[tokio::test]
async fn a_purpose_that_was_not_marked_is_refused() {
    assert_refused(|hello| Hello { purpose: Purpose::Data, ..hello }, "purpose").await;
}

#[tokio::test]
async fn a_name_that_would_move_the_cursor_is_escaped() {
    assert_refused(|hello| Hello { cluster: "\u{1b}[2J".into(), ..hello }, "\\u{1b}[2J").await;
}

#[tokio::test]
async fn an_oversize_hello_ends_that_connection_and_no_other() {
    let (authority, issuer) = stolen_authority();
    let mut listener = listen(&authority, Role::Master).await;
    let good = dialler(&authority, worker("w2")).await;
    let mut dialled = good.connect(listener.address, Role::Master, Purpose::Control).await.unwrap();
    let mut accepted = listener.next().await.unwrap();
    let hostile = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let (mut send, _receive) = hostile.open_bi().await.unwrap();
    send.write_all(&[0xff; 100]).await.unwrap();
    let ended = hostile.closed().await;
    assert!(matches!(ended, quinn::ConnectionError::ApplicationClosed(_)), "{ended}");
    let result = listener.next().await;
    assert!(matches!(result, Err(HandshakeError::Stream { .. })), "{result:?}");
    let (mut ours, mut theirs) =
        (dialled.take_control().unwrap(), accepted.take_control().unwrap());
    ours.sender.send(&7_u32).await.unwrap();
    assert_eq!(theirs.receiver.recv::<u32>().await, Ok(Some(7)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_no_hello_is_cut() {
    let (authority, issuer) = stolen_authority();
    let mut listener = listen(&authority, Role::Master).await;
    let silent = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let result = listener.next().await;
    assert!(matches!(result, Err(HandshakeError::Deadline { .. })), "{result:?}");
    silent.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dribbles_its_hello_is_cut() {
    let (authority, issuer) = stolen_authority();
    let mut listener = listen(&authority, Role::Master).await;
    let slow = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let (mut send, _receive) = slow.open_bi().await.unwrap();
    send.write_all(&[20, 0, 0, 0]).await.unwrap();
    let result = loop {
        tokio::select! {
            biased;
            result = listener.next() => break result,
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {
                send.write_all(&[1]).await.unwrap();
            }
        }
    };
    assert!(matches!(result, Err(HandshakeError::Deadline { .. })), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_finishes_tls_is_cut_and_hinders_nobody() {
    let authority = authority();
    let mut listener = listen(&authority, Role::Master).await;
    let credential = mint(&authority, worker("w1"));
    let network = GoesSilent { after: 1 };
    let silent = Endpoint::bind(&network, LOOPBACK, credential, offshoot_net::Accepts::Nothing);
    let silent = silent.await.unwrap();
    let dialler = dialler(&authority, worker("w2")).await;
    let address = listener.address;
    let stuck = async {
        let error = silent.connect(address, Role::Master, Purpose::Control).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    };
    let other = async {
        let connected = dialler.connect(address, Role::Master, Purpose::Control).await;
        assert!(connected.is_ok(), "{connected:?}");
        assert!(listener.next().await.is_ok());
        listener.next().await
    };
    let ((), result) = tokio::join!(stuck, other);
    assert!(matches!(result, Err(HandshakeError::Deadline { .. })), "{result:?}");
}

#[tokio::test]
async fn a_peer_that_ends_while_it_is_dialled_may_be_dialled_again() {
    let authority = authority();
    let listener = bind(mint(&authority, Role::Master), Accepts::Members).await;
    let address = listener.local_address().unwrap();
    let dialler = dialler(&authority, worker("w1")).await;
    let dial = dialler.connect(address, Role::Master, Purpose::Control);
    let end = async {
        let _dialled = listener.accept().await;
        listener.close("it stops").await;
    };
    let (dialled, ()) = tokio::join!(dial, end);
    let error = dialled.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}
