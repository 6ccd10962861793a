//! Forks, seen from inside: what a task may leave behind is nothing.
#![allow(clippy::unwrap_used)]

mod blocks;

use super::*;
use crate::link::{Link, LinkError};
use crate::memory::memory_file;
use crate::module::prepare;
use offshoot_proto::id::{AttemptId, NodeId, Partition, SnapshotId, StageRunId};
use offshoot_proto::limits::PAGE_BYTES;
use offshoot_proto::link::{ForkImage, PageChange, PageSource, SlotStage};
use offshoot_proto::outcome::{ResultPlace, TaskOutcome, TaskReport};
use offshoot_proto::snapshot::PageRun;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// `task-disk-max` of the test.
const DISK_BYTES_MAX: u64 = 1 << 20;

/// Node numbers are operations of the guest; the partition is its argument.
const GUEST: &str = r#"(module
  (import "offshoot1" "result_write" (func $result (param i32 i32) (result i32)))
  (import "offshoot1" "spill_write" (func $spill (param i32 i32 i32) (result i32)))
  (import "offshoot1" "task_memory" (func $room (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (global $sp (mut i32) (i32.const 1024))
  (data (i32.const 16) "data")
  (func (export "_start"))
  (func $touch (param $at i32) (param $end i32) (param $step i32)
    (loop $next
      (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
      (local.set $at (i32.add (local.get $at) (local.get $step)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))
  (func $report (param $value i32)
    (i32.store (i32.const 32) (local.get $value))
    (drop (call $result (i32.const 32) (i32.const 4))))
  (func (export "offshoot_task") (param $op i32) (param $arg i32) (result i64)
    (local $end i32)
    (local.set $end (i32.shl (memory.size) (i32.const 16)))
    (global.set $sp (i32.add (global.get $sp) (i32.const 1)))
    (if (i32.eq (local.get $op) (i32.const 0)) (then
      ;; write every arg-th byte
      (call $touch (i32.const 0) (local.get $end) (local.get $arg))))
    (if (i32.eq (local.get $op) (i32.const 1)) (then
      ;; grow, and report what is there
      (drop (memory.grow (local.get $arg)))
      (call $report (i32.load (local.get $end)))
      (call $touch (local.get $end) (i32.shl (memory.size) (i32.const 16)) (i32.const 512))))
    (if (i32.eq (local.get $op) (i32.const 2)) (then
      (call $touch (i32.const 0) (local.get $end) (i32.const 4096))
      unreachable))
    (if (i32.eq (local.get $op) (i32.const 3)) (then
      (call $touch (i32.const 0) (local.get $end) (i32.const 8192))
      (call $exit (i32.const 3))))
    (if (i32.eq (local.get $op) (i32.const 4)) (then
      ;; one byte past the end
      (call $report (i32.load8_u (local.get $end)))))
    (if (i32.eq (local.get $op) (i32.const 5)) (then
      (call $report (i32.load8_u (local.get $arg)))))
    (if (i32.eq (local.get $op) (i32.const 6)) (then
      (call $report (global.get $sp))))
    (if (i32.eq (local.get $op) (i32.const 7)) (then
      ;; spill 4 KiB, arg times
      (loop $next
        (drop (call $spill (i32.const 0) (i32.const 0) (i32.const 4096)))
        (br_if $next (local.tee $arg (i32.sub (local.get $arg) (i32.const 1)))))))
    (if (i32.eq (local.get $op) (i32.const 8)) (then
      ;; grow by what there is room for, and arg pages
      (local.set $arg (i32.add (local.get $arg) (call $room)))
      (if (i32.eq (memory.grow (local.get $arg)) (i32.const -1)) (then unreachable))
      (call $report (local.get $arg))))
    (i64.const 0)))"#;

/// A link whose other end is the test: what the slot says is kept.
#[derive(Clone, Default)]
struct TestLink {
    said: Arc<Mutex<VecDeque<FromSlot>>>,
    /// What a request for a file is answered with.
    sink: Arc<Mutex<Option<File>>>,
    /// Bytes of memory that the slot may have.
    room: Arc<Mutex<Option<u64>>>,
    /// Kept blocks by map partition, with how many bytes they are said to have.
    blocks: Arc<Mutex<BTreeMap<u32, (File, u64)>>>,
}

impl Link for TestLink {
    fn send_frame(&mut self, frame: Vec<u8>, _: Vec<OwnedFd>) -> Result<(), LinkError> {
        self.said.lock().unwrap().push_back(frame::from_bytes(&frame[8..])?);
        Ok(())
    }

    fn receive_frame(&mut self) -> Result<(Vec<u8>, Vec<OwnedFd>), LinkError> {
        if let Some(FromSlot::Request(Request::Memory { bytes })) = self.said.lock().unwrap().back()
        {
            let room = self.room.lock().unwrap().unwrap_or(u64::MAX);
            let reply = if *bytes <= room { Reply::Ok } else { Reply::Failed(no_memory()) };
            return Ok((frame::to_bytes(&ToSlot::Reply(reply)), vec![]));
        }
        if let Some(FromSlot::Request(Request::MapBlock { map, .. })) =
            self.said.lock().unwrap().back()
        {
            let blocks = self.blocks.lock().unwrap();
            let Some((file, bytes)) = blocks.get(&map.0) else {
                return Ok((frame::to_bytes(&ToSlot::Reply(Reply::Ok)), vec![]));
            };
            let reply = frame::to_bytes(&ToSlot::Reply(Reply::Flat { bytes: *bytes }));
            return Ok((reply, vec![file.try_clone()?.into()]));
        }
        let sink = self.sink.lock().unwrap();
        let sink = sink.as_ref().ok_or(LinkError::Closed)?.try_clone()?;
        Ok((frame::to_bytes(&ToSlot::Reply(Reply::Descriptor)), vec![sink.into()]))
    }
}

fn no_memory() -> TaskFailure {
    TaskFailure::NoMemory { message: "no room".to_owned(), others: true }
}

struct Bench {
    slot: tasks::TaskSlot,
    link: TestLink,
    attempts: u64,
    memory: GuestMemory,
}

fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = File::from(memory_file("test").unwrap());
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file.into()
}

/// A slot with the test guest, before any snapshot.
fn bench() -> Bench {
    bench_of(GUEST)
}

fn bench_of(guest: &str) -> Bench {
    let prepared = prepare(&wat::parse_str(guest).unwrap()).unwrap();
    let engine = engine::compiler().unwrap();
    let code = Module::new(&engine, &prepared.wasm).unwrap().serialize().unwrap();
    let link = TestLink::default();
    let start = SlotStart {
        role: SlotRole::Tasks,
        arguments: vec!["test".into()],
        environment: vec![],
        preopens: vec![],
        memory_bytes_max: 64 << 20,
        result_bytes_max: 1 << 20,
        disk_bytes_max: DISK_BYTES_MAX,
    };
    let descriptors = vec![file(&code), file(&frame::to_bytes(&prepared.info))];
    let loaded = load(Box::new(link.clone()), start, descriptors).unwrap();
    let memory = loaded.state.memory.clone();
    Bench { slot: tasks::TaskSlot::new(loaded), link, attempts: 0, memory }
}

fn header(id: u32, pages: usize, runs: Vec<PageRun>) -> SnapshotHeader {
    SnapshotHeader {
        id: SnapshotId(id),
        memory_bytes: (pages * PAGE_BYTES) as u64,
        globals: vec![GlobalValue::I32(777)],
        realtime_nanos: 1,
        monotonic_nanos: 1,
        seed: 1,
        first_free_descriptor: 3,
        runs,
    }
}

/// A snapshot whose pages hold their own number, but every third is a hole.
fn base(pages: usize) -> (ForkImage, Vec<u8>) {
    let mut content = vec![0; pages * PAGE_BYTES];
    for (page, bytes) in content.chunks_mut(PAGE_BYTES).enumerate() {
        if page % 3 != 2 {
            bytes.fill(page as u8 | 1);
        }
    }
    (ForkImage { header: header(1, pages, vec![]), base: true, changes: vec![] }, content)
}

fn sparse_file(content: &[u8]) -> OwnedFd {
    let file = File::from(memory_file("base").unwrap());
    file.set_len(content.len() as u64).unwrap();
    for (page, bytes) in content.chunks(PAGE_BYTES).enumerate() {
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(bytes, (page * PAGE_BYTES) as u64).unwrap();
        }
    }
    file.into()
}

impl Bench {
    fn fork(&mut self, image: ForkImage, descriptors: Vec<OwnedFd>) {
        self.slot.obey(ToSlot::Fork(image), descriptors).unwrap();
    }

    /// Runs one operation of the guest and checks that nothing of it is left.
    fn run(&mut self, operation: u32, argument: u32) -> TaskOutcome {
        let stage = StageRunId(operation);
        let snapshot = self.slot.mapped().unwrap();
        let node = NodeId(operation);
        let stage_frame =
            SlotStage { id: stage, snapshot, node, reducers: None, output: false, packed: true };
        self.slot.obey(ToSlot::Stage(stage_frame), vec![]).unwrap();
        let attempt = AttemptId(self.attempts);
        self.attempts += 1;
        let tasks = vec![(attempt, Partition(argument))];
        self.slot.obey(ToSlot::Run { stage, tasks }, vec![]).unwrap();
        assert!(self.memory.is_pristine(), "after operation {operation}({argument})");
        let said = self.link.said.lock().unwrap().pop_back();
        let Some(FromSlot::Reports(mut reports)) = said else { panic!("{said:?}") };
        let TaskReport { outcome, .. } = reports.pop().unwrap().report;
        outcome
    }

    fn number(&mut self, operation: u32, argument: u32) -> u32 {
        match self.run(operation, argument) {
            TaskOutcome::Done(done) => match done.result {
                ResultPlace::Inline(bytes) => u32::from_le_bytes(bytes.try_into().unwrap()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn content(&self, length: usize) -> Vec<u8> {
        self.memory.copy_of(length)
    }
}

#[test]
fn nothing_of_a_task_is_left_whatever_it_wrote() {
    let mut bench = bench();
    // 64 pages are single faults; 2,000 reach windows and the opened mapping.
    for pages in [64, 2048] {
        let (image, content) = base(pages);
        bench.fork(image, vec![sparse_file(&content)]);
        assert_eq!(bench.content(content.len()), content);
        for round in 0..100 {
            for operation in [0, 1, 2, 3] {
                let argument = [4096, 1, 65_536, 12_288, 40_000][round % 5];
                let argument = if operation == 1 { 1 + argument % 3 } else { argument };
                bench.run(operation, argument);
            }
            assert_eq!(bench.content(content.len()), content, "round {round}");
        }
    }
}

#[test]
fn memory_beyond_the_snapshot_traps_and_grown_memory_is_zero() {
    let mut bench = bench();
    let (image, content) = base(64);
    bench.fork(image, vec![sparse_file(&content)]);
    for _ in 0..20 {
        assert_eq!(bench.number(1, 3), 0, "memory grown by one task is zero in the next");
        let TaskOutcome::Failed(TaskFailure::Trap { message }) = bench.run(4, 0) else {
            panic!("reading past the end must trap")
        };
        assert!(message.contains("out of bounds"), "{message}");
    }
    let TaskOutcome::Failed(failure) = bench.run(1, 100_000) else { panic!("too much memory") };
    assert!(matches!(failure, TaskFailure::Trap { .. } | TaskFailure::OutOfMemory { .. }));
}

#[test]
fn a_task_knows_by_how_much_it_may_grow() {
    let mut bench = bench();
    for (id, pages) in [(1, 64), (2, 256)] {
        let (mut image, content) = base(pages);
        image.header.id = SnapshotId(id);
        bench.fork(image, vec![sparse_file(&content)]);
        assert_eq!(bench.number(8, 0), (64 << 20) / (64 << 10), "as the memory was {pages} pages");
        let TaskOutcome::Failed(failure) = bench.run(8, 1) else { panic!("a page too many") };
        let limit = (pages * PAGE_BYTES) as u64 + (64 << 20);
        assert_eq!(failure, TaskFailure::OutOfMemory { asked: limit + (64 << 10), limit });
    }
}

#[test]
fn memory_is_asked_for_in_steps_and_given_back() {
    let mut bench = bench();
    let (image, content) = base(64);
    bench.fork(image, vec![sparse_file(&content)]);
    let asked = |bench: &Bench| {
        let mut said = bench.link.said.lock().unwrap();
        let said = said.drain(..).filter_map(|frame| match frame {
            FromSlot::Request(request) => Some(request),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    bench.number(8, 0);
    let all = Request::Memory { bytes: 64 << 20 };
    assert_eq!(asked(&bench), [all.clone(), Request::GiveBackMemory]);
    *bench.link.room.lock().unwrap() = Some(63 << 20);
    assert_eq!(bench.run(8, 0), TaskOutcome::Failed(no_memory()));
    assert_eq!(asked(&bench), [all], "what was refused is not given back");
}

#[test]
fn globals_start_from_the_snapshot() {
    let mut bench = bench();
    let (image, content) = base(64);
    bench.fork(image, vec![sparse_file(&content)]);
    for _ in 0..3 {
        assert_eq!(bench.number(6, 0), 778);
    }
}

#[test]
fn a_task_may_spill_so_much_and_the_next_one_again() {
    let mut bench = bench();
    let (image, content) = base(64);
    bench.fork(image, vec![sparse_file(&content)]);
    let sink = File::from(memory_file("run").unwrap());
    *bench.link.sink.lock().unwrap() = Some(sink.try_clone().unwrap());
    let most = (DISK_BYTES_MAX / 4096) as u32;
    for _ in 0..2 {
        assert!(matches!(bench.run(7, most), TaskOutcome::Done(_)));
        let TaskOutcome::Failed(failure) = bench.run(7, most + 1) else { panic!("too much") };
        let asked = DISK_BYTES_MAX + 4096;
        assert_eq!(failure, TaskFailure::DiskLimit { asked, limit: DISK_BYTES_MAX });
        assert_eq!(sink.metadata().unwrap().len(), DISK_BYTES_MAX, "no byte over it");
    }
}

#[test]
fn a_snapshot_follows_another_by_its_changes_alone() {
    let mut bench = bench();
    let (image, mut content) = base(256);
    bench.fork(image, vec![sparse_file(&content)]);
    bench.run(0, 4096);
    // Inline, copied from a descriptor, mapped from a descriptor, and growth.
    for (id, first, count, inline) in [
        (2, 5, 2, true),
        (3, 6, 3, false),
        (4, 64, 128, false),
        (5, 70, 1, true),
        (6, 300, 70, false),
    ] {
        let pages = content.len() / PAGE_BYTES;
        let pages = if id == 6 { pages + 128 } else { pages };
        content.resize(pages * PAGE_BYTES, 0);
        let bytes = vec![id as u8 + 100; count * PAGE_BYTES];
        content[first * PAGE_BYTES..][..bytes.len()].copy_from_slice(&bytes);
        let run = PageRun { page: first as u32, count: count as u32 };
        let (source, descriptors) = if inline {
            (PageSource::Inline(bytes), vec![])
        } else {
            (PageSource::Descriptor { index: 0, offset: 0 }, vec![file(&bytes)])
        };
        let header = header(id, pages, vec![run]);
        let changes = vec![PageChange { run, source }];
        bench.fork(ForkImage { header, base: false, changes }, descriptors);
        assert_eq!(bench.content(content.len()), content, "snapshot {id}");
        for argument in [4096, 1, 65_536] {
            bench.run(0, argument);
            assert_eq!(bench.content(content.len()), content, "snapshot {id}");
        }
    }
    // Back to a shorter one: what lies beyond is gone.
    let shorter = header(1, 256, vec![]);
    bench.fork(ForkImage { header: shorter, base: false, changes: vec![] }, vec![]);
    assert_eq!(bench.content(256 * PAGE_BYTES), content[..256 * PAGE_BYTES]);
    assert!(matches!(bench.run(4, 0), TaskOutcome::Failed(TaskFailure::Trap { .. })));
}

#[test]
fn an_image_that_names_what_is_not_there_is_refused() {
    let mut bench = bench();
    let (image, content) = base(16);
    let run = PageRun { page: 15, count: 2 };
    let bad = |source| {
        let mut header = header(2, 16, vec![]);
        header.runs = vec![];
        ForkImage { header, base: false, changes: vec![PageChange { run, source }] }
    };
    let inline = PageSource::Inline(vec![0; 2 * PAGE_BYTES]);
    assert!(bench.slot.obey(ToSlot::Fork(bad(inline.clone())), vec![]).is_err(), "no base yet");
    bench.fork(image, vec![sparse_file(&content)]);
    assert!(bench.slot.obey(ToSlot::Fork(bad(inline)), vec![]).is_err(), "beyond the end");
    let missing = PageSource::Descriptor { index: 0, offset: 0 };
    assert!(bench.slot.obey(ToSlot::Fork(bad(missing)), vec![]).is_err(), "no descriptor");
}
