//! Frames and chunks, limits, and readers that stop reading.

use crate::support::*;
use bytes::Bytes;
use offshoot_net::{
    CloseCode, Closed, ConnectError, Connection, DATA_STREAMS_BY_ACCEPTOR, DATA_STREAMS_BY_DIALLER,
    FrameStream, Role, StreamError,
};
use offshoot_proto::frame::FrameError;
use offshoot_proto::hello::{Hello, PROTOCOL_VERSION, Purpose, Welcome};
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber};
use offshoot_proto::limits::CONTROL_FRAME_BYTES_MAX;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// More than all windows on the way of one stream take.
const MORE_THAN_FITS: usize = 24 << 20;

/// Polls once without a way to be woken.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

async fn control_pair() -> (FrameStream, FrameStream, [Connection; 2], Listener) {
    let (mut dialled, mut accepted, listener, _dialler) = connected(Purpose::Control).await;
    let (ours, theirs) = (dialled.take_control().unwrap(), accepted.take_control().unwrap());
    (ours, theirs, [dialled, accepted], listener)
}

async fn read_to_end(stream: &mut FrameStream) -> usize {
    let mut bytes = 0;
    while let Some(chunk) = stream.receiver.recv_chunk(1 << 20).await.unwrap() {
        bytes += chunk.len();
    }
    bytes
}

#[tokio::test]
async fn frames_arrive_in_order_whole_and_with_an_end() {
    let (mut ours, mut theirs, _connections, _listener) = control_pair().await;
    let values: Vec<(u64, String)> =
        (0..20_000).map(|i| (i, "x".repeat(i as usize % 97))).collect();
    let sending = async {
        ours.sender.send_all(&values).await.unwrap();
        ours.sender.finish().await.unwrap();
    };
    let receiving = async {
        let mut received: Vec<(u64, String)> = Vec::new();
        while let Some(value) = theirs.receiver.recv().await.unwrap() {
            received.push(value);
            while let Some(value) = theirs.receiver.buffered().unwrap() {
                received.push(value);
            }
        }
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == values);
}

#[tokio::test]
async fn the_largest_frame_passes_and_one_byte_more_is_not_sent() {
    let (mut ours, mut theirs, _connections, _listener) = control_pair().await;
    // The length of a string takes three bytes here.
    let largest = "x".repeat(CONTROL_FRAME_BYTES_MAX - 3);
    let (sent, received) =
        tokio::join!(ours.sender.send(&largest), theirs.receiver.recv::<String>());
    assert_eq!((sent, received), (Ok(()), Ok(Some(largest.clone()))));
    let error = ours.sender.send(&(largest + "x")).await.unwrap_err();
    let (length, limit) = (CONTROL_FRAME_BYTES_MAX + 1, CONTROL_FRAME_BYTES_MAX);
    assert_eq!(error, StreamError::Oversize { length, limit });
    ours.sender.send("after").await.unwrap();
    assert_eq!(theirs.receiver.recv::<String>().await, Ok(Some("after".into())));
}

#[tokio::test]
async fn a_send_and_a_receive_that_were_dropped_lose_and_cut_nothing() {
    let (mut ours, mut theirs, _connections, _listener) = control_pair().await;
    let large = "x".repeat(CONTROL_FRAME_BYTES_MAX - 3);
    assert!(poll_once(ours.sender.send(&large)).is_pending(), "the window is smaller");
    assert!(ours.sender.queued() > 0 && ours.sender.queued() < large.len());
    let receiving = async {
        loop {
            // Each turn drops a receive that has not finished.
            if let Poll::Ready(value) = poll_once(theirs.receiver.recv::<String>()) {
                break value;
            }
            tokio::task::yield_now().await;
        }
    };
    let (sent, received) = tokio::join!(ours.sender.send("next"), receiving);
    assert_eq!((sent, received), (Ok(()), Ok(Some(large))));
    assert_eq!(theirs.receiver.recv::<String>().await, Ok(Some("next".into())));
}

#[tokio::test]
async fn a_sender_queues_only_so_much_for_a_peer_that_does_not_read() {
    let (mut ours, _theirs, _connections, _listener) = control_pair().await;
    let value = "x".repeat(CONTROL_FRAME_BYTES_MAX / 2);
    let refused = (0..100).find_map(|_| ours.sender.queue(&value).err());
    assert!(matches!(refused, Some(StreamError::Backlog { .. })), "{refused:?}");
}

/// Sends raw bytes where control frames are expected.
async fn hostile_control(bytes: &[u8]) -> (Result<Option<u32>, StreamError>, Option<Closed>) {
    let (authority, issuer) = stolen_authority();
    let mut listener = listen(&authority, Role::Master).await;
    let hostile = BareClient::member(&authority, &issuer).dial(listener.address).await.unwrap();
    let (mut send, mut receive) = hostile.open_bi().await.unwrap();
    let cluster = authority.cluster().to_string();
    let hello = Hello { version: PROTOCOL_VERSION, cluster, purpose: Purpose::Control };
    let mut out = Vec::new();
    offshoot_proto::frame::append(&hello, 4096, &mut out).unwrap();
    send.write_all(&out).await.unwrap();
    let mut welcome = [0; 5];
    receive.read_exact(&mut welcome).await.unwrap();
    assert_eq!(offshoot_proto::frame::from_bytes(&welcome[4..]), Ok(Welcome::Accepted));
    let mut accepted = listener.next().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    let received = accepted.take_control().unwrap().receiver.recv::<u32>().await;
    (received, accepted.close_reason())
}

#[tokio::test]
async fn what_is_no_frame_closes_the_connection() {
    let (received, closed) = hostile_control(&u32::MAX.to_le_bytes()).await;
    let (length, limit) = (u32::MAX as usize, CONTROL_FRAME_BYTES_MAX);
    assert_eq!(received, Err(FrameError::TooLarge { length, limit }.into()));
    assert_eq!(closed, Some(Closed::Here));
    let (received, closed) = hostile_control(&[2, 0, 0, 0, 1, 1]).await;
    assert_eq!(received, Err(FrameError::TrailingBytes { count: 1 }.into()));
    assert_eq!(closed, Some(Closed::Here));
    let (received, closed) = hostile_control(&[1, 0, 0, 0, 0x80]).await;
    assert!(matches!(received, Err(StreamError::Frame(FrameError::Malformed { .. }))));
    assert_eq!(closed, Some(Closed::Here));
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_not_an_end() {
    assert_eq!(hostile_control(&[9, 0, 0, 0, 1]).await.0, Err(StreamError::Cut { missing: 8 }));
    assert_eq!(hostile_control(&[9, 0]).await.0, Err(StreamError::Cut { missing: 2 }));
    assert_eq!(hostile_control(&[]).await.0, Ok(None));
}

#[tokio::test]
async fn a_control_connection_has_one_stream_and_a_data_connection_its_own() {
    let (dialled, accepted, _listener, _dialler) = connected(Purpose::Control).await;
    assert_eq!(dialled.open().await.unwrap_err(), StreamError::NotOpen);
    assert_eq!(accepted.accept().await.unwrap_err(), StreamError::NotOpen);
    let (mut dialled, _accepted, _listener, _dialler) = connected(Purpose::Data).await;
    assert!(dialled.take_control().is_none());
}

#[tokio::test]
async fn frames_and_raw_chunks_share_a_data_stream() {
    let (dialled, accepted, _listener, _dialler) = connected(Purpose::Data).await;
    let mut ours = accepted.open().await.unwrap();
    let sending = async {
        ours.sender.send("block").await.unwrap();
        ours.sender.send_chunk(Bytes::from(vec![5; MORE_THAN_FITS])).await.unwrap();
        ours.sender.finish().await.unwrap();
        ours.sender.acknowledged().await.unwrap();
    };
    let receiving = async {
        let mut theirs = dialled.accept().await.unwrap();
        assert_eq!(theirs.receiver.recv::<String>().await, Ok(Some("block".into())));
        read_to_end(&mut theirs).await
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert_eq!(received, MORE_THAN_FITS);
}

#[tokio::test]
async fn a_stream_given_up_by_either_side_is_no_end_and_spares_the_connection() {
    let (dialled, accepted, _listener, _dialler) = connected(Purpose::Data).await;
    let mut ours = dialled.open().await.unwrap();
    ours.sender.send(&1_u32).await.unwrap();
    let mut theirs = accepted.accept().await.unwrap();
    theirs.receiver.stop(CloseCode::Busy);
    theirs.sender.abandon(CloseCode::Busy);
    let busy = StreamError::Stopped { code: CloseCode::Busy as u64 };
    assert_eq!(ours.receiver.recv::<u32>().await, Err(busy.clone()));
    let sending = ours.sender.send_chunk(Bytes::from(vec![0; MORE_THAN_FITS])).await;
    assert_eq!(sending, Err(busy));
    drop((ours, theirs));
    let mut again = dialled.open().await.unwrap();
    again.sender.send(&2_u32).await.unwrap();
    let mut theirs = accepted.accept().await.unwrap();
    assert_eq!(theirs.receiver.recv::<u32>().await, Ok(Some(2)));
}

#[tokio::test]
async fn one_stream_too_many_waits_for_another_to_be_done() {
    let (dialled, accepted, _listener, _dialler) = connected(Purpose::Data).await;
    for (opener, other, count) in [
        (&dialled, &accepted, DATA_STREAMS_BY_DIALLER),
        (&accepted, &dialled, DATA_STREAMS_BY_ACCEPTOR),
    ] {
        let mut open = Vec::new();
        for _ in 0..count {
            let mut ours = opener.open().await.unwrap();
            ours.sender.send(&1_u8).await.unwrap();
            open.push((ours, other.accept().await.unwrap()));
        }
        assert!(poll_once(opener.open()).is_pending());
        open.pop();
        assert!(opener.open().await.is_ok());
    }
}

#[tokio::test]
async fn heartbeats_go_on_while_every_data_stream_stands_still() {
    const HEARTBEATS: u32 = 200;
    let authority = authority();
    let mut listener = listen(&authority, Role::Master).await;
    let dialler = dialler(&authority, worker("w1")).await;
    let dial = |purpose| dialler.connect(listener.address, Role::Master, purpose);
    let (mut control, data) =
        (dial(Purpose::Control).await.unwrap(), dial(Purpose::Data).await.unwrap());
    let (mut accepted_control, accepted_data) =
        (listener.next().await.unwrap(), listener.next().await.unwrap());
    let mut writers = tokio::task::JoinSet::new();
    let mut unread = Vec::new();
    for (from, to, count) in [
        (&data, &accepted_data, DATA_STREAMS_BY_DIALLER),
        (&accepted_data, &data, DATA_STREAMS_BY_ACCEPTOR),
    ] {
        for _ in 0..count {
            let mut stream = from.open().await.unwrap();
            stream.sender.send(&1_u8).await.unwrap();
            unread.push(to.accept().await.unwrap());
            writers.spawn(async move {
                stream.sender.send_chunk(Bytes::from(vec![7; MORE_THAN_FITS])).await.unwrap();
                stream.sender.finish().await.unwrap();
                stream
            });
        }
    }
    let mut ours = control.take_control().unwrap();
    let mut theirs = accepted_control.take_control().unwrap();
    for beat in 0..HEARTBEATS {
        ours.sender.send(&beat).await.unwrap();
        assert_eq!(theirs.receiver.recv::<u32>().await, Ok(Some(beat)));
        theirs.sender.send(&beat).await.unwrap();
        assert_eq!(ours.receiver.recv::<u32>().await, Ok(Some(beat)));
    }
    assert!(writers.try_join_next().is_none(), "a writer finished, nothing stood still");
    assert_eq!(writers.len(), (DATA_STREAMS_BY_DIALLER + DATA_STREAMS_BY_ACCEPTOR) as usize);
    // The last stream is read first: the others, still unread, must not be in its way.
    while let Some(mut stream) = unread.pop() {
        assert_eq!(stream.receiver.recv::<u8>().await, Ok(Some(1)));
        assert_eq!(read_to_end(&mut stream).await, MORE_THAN_FITS);
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn data_connections_end_where_the_budget_of_windows_ends() {
    let authority = authority();
    let mut listener = listen(&authority, Role::Master).await;
    let dialler = dialler(&authority, worker("w1")).await;
    let mut held = Vec::new();
    let error = loop {
        match dialler.connect(listener.address, Role::Master, Purpose::Data).await {
            Ok(connection) => held.push((connection, listener.next().await.unwrap())),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ConnectError::WindowsExhausted { .. }), "{error}");
    assert!(held.len() >= 40, "only {} connections", held.len());
    let control = dialler.connect(listener.address, Role::Master, Purpose::Control).await;
    assert!(control.is_ok(), "{control:?}");
    held.pop();
    let again = dialler.connect(listener.address, Role::Master, Purpose::Data).await;
    assert!(!matches!(again, Err(ConnectError::WindowsExhausted { .. })), "{again:?}");
}

#[tokio::test]
async fn executors_that_come_to_ask_take_nothing_of_the_budget() {
    let authority = authority();
    let mut listener = listen(&authority, worker("w1")).await;
    let mut held = Vec::new();
    for number in 0..4 {
        let app = AppId(1);
        let executor = ExecutorId { app, number: ExecutorNumber(number) };
        // Each has a budget of its own, for what it is going to receive.
        let dialler = dialler(&authority, Role::Executor(executor)).await;
        for _ in 0..20 {
            let dialled = dialler.connect(listener.address, worker("w1"), Purpose::Data).await;
            held.push((dialled.unwrap(), listener.next().await.unwrap()));
        }
    }
    let (dialled, accepted) = held.last().unwrap();
    let mut request = dialled.open().await.unwrap();
    request.sender.send(&vec![7u8; 1 << 10]).await.unwrap();
    let mut asked = accepted.accept().await.unwrap();
    assert_eq!(asked.receiver.recv::<Vec<u8>>().await, Ok(Some(vec![7u8; 1 << 10])));
}

#[tokio::test]
async fn one_identity_holds_only_so_many_connections() {
    let authority = authority();
    let mut listener = listen(&authority, Role::Master).await;
    let dialler_one = dialler(&authority, worker("w1")).await;
    let mut held = Vec::new();
    let error = loop {
        match dialler_one.connect(listener.address, Role::Master, Purpose::Control).await {
            Ok(connection) => held.push((connection, listener.next().await.unwrap())),
            Err(error) => break error,
        }
    };
    let ConnectError::Refused { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("too many connections"), "{reason}");
    assert_eq!(held.len(), offshoot_net::CONNECTIONS_PER_IDENTITY_MAX);
    let other = dialler(&authority, worker("w2")).await;
    assert!(other.connect(listener.address, Role::Master, Purpose::Control).await.is_ok());
}

#[tokio::test]
async fn a_closed_connection_says_why() {
    let (dialled, accepted, _listener, dialler) = connected(Purpose::Control).await;
    accepted.close(CloseCode::Revoked, "worker w1 was removed");
    let code = CloseCode::Revoked as u64;
    let reason = "worker w1 was removed".to_owned();
    assert_eq!(dialled.closed().await, Closed::ByPeer { code, reason });
    assert_eq!(accepted.close_reason(), Some(Closed::Here));
    dialler.close("done").await;
}
