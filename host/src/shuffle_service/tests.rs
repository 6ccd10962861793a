//! The service over real QUIC on loopback.
#![allow(clippy::unwrap_used)]

use super::index::write_index;
use super::*;
use crate::launch::test_support::executor;
use offshoot_net::{
    Accepts, Arrival, Authority, ClusterName, Endpoint, Role, RoleKind, UdpNetwork, Validity,
};
use offshoot_proto::block::{CHUNK_HEADER_BYTES, Extent};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{ExecutorId, WorkerId};
use offshoot_sandbox::shuffle::{append_chunk, unpack};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Long enough for anything that should happen at all.
const PATIENCE: Duration = Duration::from_secs(30);

const APP: AppId = AppId(1);
const WRITER: NodeId = NodeId(4);

/// A worker that serves the blocks in a directory.
struct TestWorker {
    directory: TempDir,
    authority: Authority,
    address: SocketAddr,
}

/// The answer for one map: its bytes, or why there are none.
type Answer = (Partition, Result<Vec<u8>, String>);

async fn endpoint(authority: &Authority, role: &Role, accepts: Accepts) -> Endpoint {
    let validity = Validity::of_node(SystemTime::now());
    let credential = authority.mint(role, validity).unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let bound = Endpoint::bind(&UdpNetwork, any, credential, accepts);
    bound.await.unwrap()
}

fn attempt(map: u32) -> (Partition, AttemptId) {
    (Partition(map), AttemptId(u64::from(map) + 100))
}

/// What map `map` wrote for `reducer`: nothing for some.
fn part(map: u32, reducer: u32) -> Vec<u8> {
    let text = format!("map {map} reducer {reducer};");
    text.repeat(((map + reducer) % 5) as usize * 100).into_bytes()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

// === impl TestWorker ===

impl TestWorker {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::generate(ClusterName::random(), SystemTime::now()).unwrap();
        let role = Role::Worker(WorkerId("w1".to_owned()));
        let endpoint = endpoint(&authority, &role, Accepts::Members).await;
        let address = endpoint.local_address().unwrap();
        let service = Arc::new(ShuffleService::new(WorkerFiles::new(directory.path().to_owned())));
        tokio::spawn(async move {
            while let Some(Arrival::Member(incoming)) = endpoint.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connection = incoming.handshake(|_, _| Ok(())).await.unwrap();
                    let Role::Executor(id) = connection.peer().clone() else {
                        panic!("only executors fetch")
                    };
                    service.serve(&connection, id.app).await;
                });
            }
        });
        Self { directory, authority, address }
    }

    fn index(&self, map: u32) -> PathBuf {
        let (map, attempt) = attempt(map);
        let app = self.directory.path().join(APP.to_string());
        index_path(&app, WRITER, map, attempt)
    }

    /// Writes what a map task leaves: each of its flushes has a part for each reducer.
    fn write(&self, map: u32, flushes: &[Vec<Vec<u8>>]) {
        let (mut data, mut reducers) = (vec![], vec![]);
        for parts in flushes {
            reducers.resize(parts.len(), vec![]);
            for (part, extents) in parts.iter().zip(&mut reducers) {
                let offset = data.len() as u64;
                for raw in part.chunks(256 << 10) {
                    append_chunk(raw, &mut data);
                }
                let length = data.len() as u64 - offset;
                extents.extend((length > 0).then_some(Extent { offset, length }));
            }
        }
        let path = self.index(map);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_extension("data"), &data).unwrap();
        let data_bytes = data.len() as u64;
        let index = ShuffleIndex { reducers, data_bytes };
        write_index(&path, &index).unwrap();
    }

    async fn dial(&self, id: ExecutorId) -> (Endpoint, Connection) {
        let endpoint = endpoint(&self.authority, &Role::Executor(id), Accepts::Nothing).await;
        let connected = endpoint.connect(self.address, RoleKind::Worker, Purpose::Data);
        let connection = connected.await.unwrap();
        (endpoint, connection)
    }

    /// What an executor of application 1 gets.
    async fn fetch(&self, reducer: u32, maps: std::ops::Range<u32>) -> Vec<Answer> {
        let (_endpoint, connection) = self.dial(executor(1, 0)).await;
        fetch(&connection, reducer, maps).await
    }
}

async fn fetch(connection: &Connection, reducer: u32, maps: std::ops::Range<u32>) -> Vec<Answer> {
    let request =
        FetchBlocks { app: APP, writer: WRITER, reducer, maps: maps.map(attempt).collect() };
    let fetched = timeout(PATIENCE, async {
        let mut stream = connection.open().await.unwrap();
        stream.sender.send(&request).await.unwrap();
        stream.sender.finish().await.unwrap();
        let (mut answers, mut bytes) = (vec![], vec![]);
        while let Some(frame) = stream.receiver.recv::<BlockFrame>().await.unwrap() {
            match frame {
                BlockFrame::Chunks(chunks) => unpack_all(&chunks, &mut bytes),
                BlockFrame::End { map } => answers.push((map, Ok(std::mem::take(&mut bytes)))),
                BlockFrame::Failed { map, reason } => answers.push((map, Err(reason))),
            }
        }
        answers
    });
    fetched.await.unwrap()
}

/// Takes a frame apart; it must be whole chunks, each with the right sum.
fn unpack_all(mut chunks: &[u8], out: &mut Vec<u8>) {
    assert!(chunks.len() <= PIECE_BYTES_MAX && !chunks.is_empty());
    let mut raw = vec![];
    while !chunks.is_empty() {
        let (header, body) = offshoot_sandbox::shuffle::chunk(chunks).unwrap();
        unpack(header, body, &mut raw).unwrap();
        out.extend_from_slice(&raw);
        chunks = &chunks[header.total()..];
    }
}

#[tokio::test]
async fn a_reducer_gets_its_part_of_every_map_in_order() {
    let worker = TestWorker::start().await;
    for map in 0..300 {
        let flush = || (0..3).map(|reducer| part(map, reducer)).collect();
        worker.write(map, &[flush(), flush()]);
    }
    let (_endpoint, connection) = worker.dial(executor(1, 7)).await;
    for reducer in 0..3 {
        let answers = fetch(&connection, reducer, 0..300).await;
        let expected = |map| (Partition(map), Ok(part(map, reducer).repeat(2)));
        assert_eq!(answers, (0..300).map(expected).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_large_part_comes_in_pieces_of_whole_chunks() {
    let worker = TestWorker::start().await;
    let large = noise(3_000_000);
    worker.write(0, &[vec![vec![], large.clone()], vec![vec![1], vec![2]]]);
    let expected = [large, vec![2]].concat();
    assert_eq!(worker.fetch(1, 0..1).await, [(Partition(0), Ok(expected))]);
}

#[tokio::test]
async fn another_application_learns_nothing_not_even_what_exists() {
    let worker = TestWorker::start().await;
    worker.write(0, &[vec![b"secret".to_vec()]]);
    // Application 2 has output of the same name, and must not take it for that of application 1.
    let own = worker.directory.path().join("app-2/shuffle/4");
    fs::create_dir_all(&own).unwrap();
    for path in [worker.index(0), worker.index(0).with_extension("data")] {
        fs::copy(&path, own.join(path.file_name().unwrap())).unwrap();
    }
    let (_endpoint, connection) = worker.dial(executor(2, 0)).await;
    let foreign = fetch(&connection, 0, 0..1).await;
    let missing = worker.fetch(0, 5..6).await;
    assert_eq!(foreign, [(Partition(0), Err("no such block".to_owned()))]);
    assert_eq!(missing[0].1, foreign[0].1, "one text for both");
    let own = worker.fetch(0, 0..1).await;
    assert_eq!(own, [(Partition(0), Ok(b"secret".to_vec()))]);
}

#[tokio::test]
async fn a_missing_map_ends_the_answer_where_it_would_be() {
    let worker = TestWorker::start().await;
    for map in [0, 1, 3] {
        worker.write(map, &[vec![part(map, 1)]]);
    }
    let answers = worker.fetch(0, 0..4).await;
    let expected = [
        (Partition(0), Ok(part(0, 1))),
        (Partition(1), Ok(part(1, 1))),
        (Partition(2), Err("no such block".to_owned())),
    ];
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_flipped_bit_is_a_failed_fetch_that_names_the_place() {
    let worker = TestWorker::start().await;
    worker.write(0, &[vec![b"good".to_vec(), b"bad".to_vec()]]);
    let data = worker.index(0).with_extension("data");
    let mut bytes = fs::read(&data).unwrap();
    let second = CHUNK_HEADER_BYTES + "good".len();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&data, &bytes).unwrap();
    let answers = worker.fetch(1, 0..1).await;
    let [(_, Err(reason))] = &answers[..] else { panic!("{answers:?}") };
    let place = format!("{} at byte {second}: checksum mismatch", data.display());
    assert!(reason.starts_with(&place), "{reason}");
    let intact = worker.fetch(0, 0..1).await;
    assert_eq!(intact, [(Partition(0), Ok(b"good".to_vec()))]);
}

#[tokio::test]
async fn a_damaged_index_is_a_failed_fetch() {
    let worker = TestWorker::start().await;
    worker.write(0, &[vec![b"data".to_vec()]]);
    let path = worker.index(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
    let answers = worker.fetch(0, 0..1).await;
    let [(_, Err(reason))] = &answers[..] else { panic!("{answers:?}") };
    assert!(reason.contains("is damaged: checksum mismatch"), "{reason}");
}

#[tokio::test]
async fn output_that_is_dropped_is_not_served_from_memory() {
    let worker = TestWorker::start().await;
    worker.write(0, &[vec![b"data".to_vec()]]);
    let (_endpoint, connection) = worker.dial(executor(1, 0)).await;
    assert!(fetch(&connection, 0, 0..1).await[0].1.is_ok());
    fs::remove_dir_all(worker.index(0).parent().unwrap()).unwrap();
    let gone = fetch(&connection, 0, 0..1).await;
    assert_eq!(gone, [(Partition(0), Err("no such block".to_owned()))]);
}

#[tokio::test]
async fn a_reducer_that_a_map_knows_nothing_of_is_an_error_unless_it_wrote_nothing() {
    let worker = TestWorker::start().await;
    worker.write(0, &[]);
    worker.write(1, &[vec![vec![], vec![1]]]);
    let answers = worker.fetch(2, 0..2).await;
    let reason = "the output is for 2 reducers, reducer 2 was asked for".to_owned();
    let expected = [(Partition(0), Ok(vec![])), (Partition(1), Err(reason))];
    assert_eq!(answers, expected);
}
