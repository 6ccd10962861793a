//! Copies from a worker on loopback, byte by byte.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::executor::slot_task::SlotEvent;
use crate::executor::slot_task::tests::context;
use crate::launch::test_support::executor;
use crate::shuffle_service::index::{read_index, write_index};
use crate::shuffle_service::{ShuffleService, WorkerFiles, index_path};
use offshoot_net::{
    Accepts, Arrival, Authority, ClusterName, Endpoint, Role, UdpNetwork, Validity,
};
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::id::{AttemptId, NodeId, Partition, WorkerId};
use offshoot_proto::stage::ShufflePlace;
use offshoot_sandbox::shuffle::append_chunk;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::time::timeout;

/// Long enough for anything that should happen at all.
const PATIENCE: Duration = Duration::from_secs(30);

const APP: AppId = AppId(1);
const WRITER: NodeId = NodeId(4);
const REDUCERS: u32 = 5;

/// A worker that has outputs, and an executor of another one that is to copy them.
struct Pair {
    source: TempDir,
    target: TempDir,
    copier: Copier,
    events: mpsc::UnboundedReceiver<(usize, SlotEvent)>,
    place: ShufflePlace,
}

fn attempt(map: u32) -> (Partition, AttemptId) {
    (Partition(map), AttemptId(u64::from(map) + 100))
}

/// What a map has for a reducer in one flush: nothing for some, several chunks for others.
fn chunks(map: u32, reducer: u32, flush: u32) -> Vec<u8> {
    let mut out = vec![];
    for chunk in 0..(map + reducer + flush) % 4 {
        let text = format!("map {map} reducer {reducer} flush {flush} chunk {chunk};");
        append_chunk(text.repeat(3000).as_bytes(), &mut out);
    }
    out
}

fn index_in(app_directory: &Path, map: u32) -> PathBuf {
    let (map, attempt) = attempt(map);
    index_path(app_directory, WRITER, map, attempt)
}

async fn endpoint(authority: &Authority, role: Role) -> Endpoint {
    let credential = authority.mint(&role, Validity::of_node(SystemTime::now())).unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    Endpoint::bind(&UdpNetwork, any, credential, Accepts::Members).await.unwrap()
}

// === impl Pair ===

impl Pair {
    async fn start() -> Self {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::generate(ClusterName::random(), SystemTime::now()).unwrap();
        let worker = WorkerId("w1".to_owned());
        let serving = endpoint(&authority, Role::Worker(worker.clone())).await;
        let address = serving.local_address().unwrap();
        let service = Arc::new(ShuffleService::new(WorkerFiles::new(source.path().to_owned())));
        tokio::spawn(async move {
            while let Some(Arrival::Member(incoming)) = serving.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connection = incoming.handshake(|_, _| Ok(())).await.unwrap();
                    service.serve(&connection, APP).await;
                });
            }
        });
        let (sender, events) = mpsc::unbounded_channel();
        let dialling = endpoint(&authority, Role::Executor(executor(1, 0))).await;
        let context = Arc::new(context(target.path(), dialling, sender));
        let copier = Copier { app: APP, context };
        let place = ShufflePlace { worker, executor: None, address };
        Self { source, target, copier, events, place }
    }

    fn written(&self, map: u32) -> PathBuf {
        index_in(&self.source.path().join(APP.to_string()), map)
    }

    /// What a map attempt leaves that has written its reducers' parts twice.
    fn write(&self, map: u32) {
        let (mut data, mut reducers) = (vec![], vec![vec![]; REDUCERS as usize]);
        for flush in 0..2 {
            for (reducer, extents) in (0..).zip(&mut reducers) {
                let part = chunks(map, reducer, flush);
                let (offset, length) = (data.len() as u64, part.len() as u64);
                extents.extend((length > 0).then_some(Extent { offset, length }));
                data.extend(part);
            }
        }
        self.put(map, reducers, &data);
    }

    fn put(&self, map: u32, reducers: Vec<Vec<Extent>>, data: &[u8]) {
        let path = self.written(map);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_extension("data"), data).unwrap();
        write_index(&path, &ShuffleIndex { reducers, data_bytes: data.len() as u64 }).unwrap();
    }

    /// What a reducer finds in the copy.
    fn copied(&self, map: u32, reducer: u32) -> Vec<u8> {
        let path = index_in(self.target.path(), map);
        let index = read_index(&path).unwrap();
        let data = fs::read(path.with_extension("data")).unwrap();
        let extents = index.reducers[reducer as usize].iter();
        let parts = extents.map(|e| &data[e.offset as usize..(e.offset + e.length) as usize]);
        parts.collect::<Vec<_>>().concat()
    }

    fn files(&self) -> usize {
        let found = fs::read_dir(self.target.path().join(format!("shuffle/{WRITER}")));
        found.map_or(0, |entries| entries.count())
    }

    fn order(&self, reducers: u32, maps: &[u32]) -> CopyBlocks {
        CopyBlocks {
            writer: WRITER,
            level: StorageLevel::Disk,
            reducers,
            from: self.place.clone(),
            blocks: maps.iter().map(|map| attempt(*map)).collect(),
        }
    }

    async fn copy(&mut self, order: &CopyBlocks) -> Vec<(u32, BlockState)> {
        let ticket = self.copier.context.kept.begin_work();
        timeout(PATIENCE, self.copier.carry_out(order, ticket)).await.unwrap();
        let mut told = vec![];
        while let Ok((_, SlotEvent::Kept(blocks))) = self.events.try_recv() {
            told.extend(blocks.into_iter().map(|block| (block.map.0, block.state)));
        }
        told
    }
}

#[tokio::test]
async fn every_reducer_finds_in_the_copy_what_was_written_for_it() {
    let mut pair = Pair::start().await;
    let maps: Vec<u32> = (0..20).collect();
    maps.iter().for_each(|map| pair.write(*map));
    let told = pair.copy(&pair.order(REDUCERS, &maps)).await;
    assert_eq!(told, maps.iter().map(|map| (*map, BlockState::OnDisk)).collect::<Vec<_>>());
    for map in maps {
        for reducer in 0..REDUCERS {
            let expected = [chunks(map, reducer, 0), chunks(map, reducer, 1)].concat();
            assert_eq!(pair.copied(map, reducer), expected, "map {map} reducer {reducer}");
        }
    }
    assert_eq!(pair.files(), 40, "data and index");
    let context = &pair.copier.context;
    let bytes = |map| fs::metadata(index_in(pair.target.path(), map).with_extension("data"));
    let total = (0..20).map(|map| bytes(map).unwrap().len()).sum::<u64>();
    assert!(context.files.disk().most() >= total, "it counts as the application's");
    context.kept.drop_dataset(WRITER);
    assert_eq!(pair.files(), 0);
}

#[tokio::test]
async fn outputs_without_a_byte_and_outputs_for_one_reducer_are_copied_too() {
    let mut pair = Pair::start().await;
    pair.put(0, vec![], &[]);
    pair.put(1, vec![vec![]; REDUCERS as usize], &[]);
    let told = pair.copy(&pair.order(REDUCERS, &[0, 1])).await;
    assert_eq!(told, [(0, BlockState::OnDisk), (1, BlockState::OnDisk)]);
    assert!(pair.copied(0, 4).is_empty());
    assert!(pair.copied(1, 0).is_empty());
    let part = chunks(1, 2, 0);
    pair.put(2, vec![vec![Extent { offset: 0, length: part.len() as u64 }]], &part);
    assert_eq!(pair.copy(&pair.order(1, &[2])).await, [(2, BlockState::OnDisk)]);
    assert_eq!(pair.copied(2, 0), part);
}

#[tokio::test]
async fn what_is_damaged_or_gone_is_told_and_the_others_are_copied() {
    let mut pair = Pair::start().await;
    (0..6).for_each(|map| pair.write(map));
    let damaged = pair.written(2).with_extension("data");
    let mut bytes = fs::read(&damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::remove_file(pair.written(5)).unwrap();
    let mut told = pair.copy(&pair.order(REDUCERS, &[0, 1, 2, 3, 4, 5])).await;
    told.sort_by_key(|(map, _)| *map);
    let (here, gone) = (BlockState::OnDisk, BlockState::Gone);
    assert_eq!(told, [(0, here), (1, here), (2, gone), (3, here), (4, here), (5, gone)]);
    let expected = [chunks(4, 3, 0), chunks(4, 3, 1)].concat();
    assert_eq!(pair.copied(4, 3), expected);
    assert_eq!(pair.files(), 8, "nothing of those that failed");
}

#[tokio::test]
async fn of_a_worker_that_is_gone_nothing_comes_and_nothing_is_left() {
    let mut pair = Pair::start().await;
    pair.write(0);
    pair.write(1);
    let mut order = pair.order(REDUCERS, &[0, 1]);
    // Nobody is there who is that executor.
    order.from.executor = Some(executor(1, 9));
    let told = pair.copy(&order).await;
    assert_eq!(told, [(0, BlockState::Gone), (1, BlockState::Gone)]);
    assert_eq!(pair.files(), 0);
}

#[tokio::test]
async fn a_shuffle_that_is_dropped_while_it_is_copied_leaves_no_file() {
    let pair = Pair::start().await;
    (0..40).for_each(|map| pair.write(map));
    let order = pair.order(REDUCERS, &(0..40).collect::<Vec<_>>());
    let kept = pair.copier.context.kept.clone();
    let target = pair.target.path().join(format!("shuffle/{WRITER}"));
    // At any moment from its first byte on.
    for pause in 0..60 {
        let dropped = async {
            while !target.exists() {
                tokio::task::yield_now().await;
            }
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            kept.drop_dataset(WRITER);
        };
        let ticket = kept.begin_work();
        let work = async { tokio::join!(pair.copier.carry_out(&order, ticket), dropped) };
        timeout(PATIENCE, work).await.unwrap();
        assert!(!target.exists(), "after {pause} turns");
    }
}

#[tokio::test]
async fn a_kept_block_is_flat_in_memory_and_as_it_came_in_files() {
    let mut pair = Pair::start().await;
    let part = chunks(1, 2, 0);
    pair.put(1, vec![vec![Extent { offset: 0, length: part.len() as u64 }]], &part);
    pair.put(2, vec![vec![]], &[]);
    let order = |level| CopyBlocks { level, ..pair.order(1, &[1, 2]) };
    let (memory, disk) = (order(StorageLevel::Memory), order(StorageLevel::Disk));
    let told = pair.copy(&memory).await;
    assert_eq!(told, [(1, BlockState::InMemory), (2, BlockState::InMemory)]);
    let (map, attempt) = attempt(1);
    let block = pair.copier.context.kept.find(BlockId { writer: WRITER, map, attempt }).unwrap();
    let text = "map 1 reducer 2 flush 0 chunk 0;".len() as u64;
    assert_eq!(block.flat_bytes().await, Some(3 * 3000 * text));
    assert_eq!(pair.files(), 0);
    pair.copy(&disk).await;
    assert_eq!(pair.copied(1, 0), part);
}
