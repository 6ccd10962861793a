//! Kept blocks in a task's memory: read in place, written in private, gone with the task.

use super::*;
use crate::memory::{HOST_WRITES_MAX, WRITTEN_PAGES_MAX};
use offshoot_proto::abi::code;
use rustix::fs::{SealFlags, fcntl_add_seals};

/// Bytes of a page of WebAssembly's memory.
const WASM_PAGE: usize = 64 << 10;

/// Node numbers are operations; all map block 0 first and report what the call returned, what it
/// wrote and, last, what the operation says.
const GUEST: &str = r#"(module
  (import "offshoot1" "block_map" (func $map (param i32 i32 i32 i32) (result i32)))
  (import "offshoot1" "result_write" (func $result (param i32 i32) (result i32)))
  (import "offshoot1" "task_memory" (func $room (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 4)
  (global $sp (mut i32) (i32.const 1024))
  (func (export "_start"))
  (func (export "offshoot_task") (param $op i32) (param $arg i32) (result i64)
    (local $at i32) (local $page i32)
    (i64.store (i32.const 52) (i64.const 0))
    (i32.store (i32.const 48) (call $map (i32.const 7) (i32.const 0) (i32.const 52) (i32.const 8)))
    (local.set $at (i32.load (i32.const 52)))
    (if (i32.eq (local.get $op) (i32.const 1)) (then
      ;; the byte at arg
      (i32.store (i32.const 60) (i32.load8_u (i32.add (local.get $at) (local.get $arg))))))
    (if (i32.eq (local.get $op) (i32.const 2)) (then
      ;; write to arg pages, and read the last one
      (loop $next
        (i32.store8 (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12)))
          (i32.const 99))
        (local.set $page (i32.add (local.get $page) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $page) (local.get $arg))))
      (i32.store (i32.const 60) (i32.load8_u
        (i32.add (local.get $at) (i32.shl (i32.sub (local.get $page) (i32.const 1))
          (i32.const 12)))))))
    (if (i32.eq (local.get $op) (i32.const 3)) (then
      ;; map block arg, too: where that is
      (i32.store (i32.const 60)
        (call $map (i32.const 7) (local.get $arg) (i32.const 64) (i32.const 8)))))
    (if (i32.eq (local.get $op) (i32.const 4)) (then
      ;; grow by all there is room for, and arg pages
      (i32.store (i32.const 60) (memory.grow (i32.add (call $room) (local.get $arg))))))
    (if (i32.eq (local.get $op) (i32.const 5)) (then
      ;; a place of arg bytes
      (i32.store (i32.const 60)
        (call $map (i32.const 7) (i32.const 0) (i32.const 64) (local.get $arg)))))
    (if (i32.eq (local.get $op) (i32.const 6)) (then
      ;; the host writes to the block
      (drop (call $map (i32.const 7) (local.get $arg) (local.get $at) (i32.const 8)))
      (i32.store (i32.const 60) (i32.load (local.get $at)))))
    (if (i32.eq (local.get $op) (i32.const 7)) (then
      ;; write to all pages of block 0 that are behind its bytes, mapped arg times
      (loop $again
        (local.set $page (i32.const 1))
        (loop $next
          (i32.store8 (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12)))
            (i32.const 1))
          (local.set $page (i32.add (local.get $page) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $page) (i32.const 16))))
        (drop (call $map (i32.const 7) (i32.const 0) (i32.const 64) (i32.const 8)))
        (local.set $at (i32.load (i32.const 64)))
        (local.set $arg (i32.sub (local.get $arg) (i32.const 1)))
        (br_if $again (local.get $arg)))
      (i32.store (i32.const 60) (i32.load8_u (local.get $at)))))
    (if (i32.eq (local.get $op) (i32.const 8)) (then
      ;; write to arg pages; then the host writes to the next one
      (loop $next
        (i32.store8 (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12)))
          (i32.const 99))
        (local.set $page (i32.add (local.get $page) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $page) (local.get $arg))))
      (drop (call $random
        (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12))) (i32.const 8)))))
    (if (i32.eq (local.get $op) (i32.const 9)) (then
      ;; the same by a call of offshoot's own
      (loop $next
        (i32.store8 (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12)))
          (i32.const 99))
        (local.set $page (i32.add (local.get $page) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $page) (local.get $arg))))
      (drop (call $map (i32.const 7) (i32.const 1)
        (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12))) (i32.const 8)))))
    (if (i32.eq (local.get $op) (i32.const 10)) (then
      ;; the host fills arg bytes, and as many behind them
      (i32.store (i32.const 60) (call $random (local.get $at) (local.get $arg)))
      (drop (call $random (i32.add (local.get $at) (local.get $arg)) (local.get $arg)))))
    (if (i32.eq (local.get $op) (i32.const 11)) (then
      ;; the guest writes all it may; then the host fills arg bytes, and then a number on each of
      ;; 64 pages behind them
      (loop $next
        (i32.store8 (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12)))
          (i32.const 99))
        (local.set $page (i32.add (local.get $page) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $page) (i32.const 1024))))
      (local.set $at (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12))))
      (drop (call $random (local.get $at) (local.get $arg)))
      (local.set $at (i32.add (local.get $at) (local.get $arg)))
      (local.set $page (i32.const 0))
      (loop $next
        (drop (call $clock (i32.const 1) (i64.const 0)
          (i32.add (local.get $at) (i32.shl (local.get $page) (i32.const 12)))))
        (local.set $page (i32.add (local.get $page) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $page) (i32.const 64))))))
    (drop (call $result (i32.const 48) (i32.const 16)))
    (i64.const 0)))"#;

const ONLY_MAP: u32 = 0;
const BYTE: u32 = 1;
const WRITE: u32 = 2;
const MAP_ANOTHER: u32 = 3;
const GROW: u32 = 4;
const PLACE: u32 = 5;
const HOST_WRITES: u32 = 6;
const WRITE_BEHIND: u32 = 7;
const WASI_WRITES_AFTER: u32 = 8;
const HOST_WRITES_AFTER: u32 = 9;
const WASI_FILLS: u32 = 10;
const WASI_FILLS_AFTER: u32 = 11;

/// What a task reports: what the first call returned, address, length, and what it was for.
type Told = [u32; 4];

fn told(outcome: TaskOutcome) -> Told {
    let TaskOutcome::Done(done) = outcome else { panic!("{outcome:?}") };
    let ResultPlace::Inline(bytes) = done.result else { panic!("{:?}", done.result) };
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    [word(0), word(4), word(8), word(12)]
}

/// A block as an executor has it: sealed, with something behind it that is not of it.
fn sealed(bytes: &[u8]) -> File {
    let file = File::from(file(&[bytes, b"headers"].concat()));
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A slot with blocks of these lengths, on a snapshot of so many bytes.
fn with_blocks(lengths: &[usize]) -> (Bench, usize) {
    let mut bench = bench_of(GUEST);
    let (image, bytes) = base(64);
    bench.fork(image, vec![sparse_file(&bytes)]);
    for (map, length) in (0..).zip(lengths) {
        let block = (sealed(&content(*length)), *length as u64);
        bench.link.blocks.lock().unwrap().insert(map, block);
    }
    (bench, bytes.len())
}

#[test]
fn a_block_is_there_as_it_is_and_gone_with_its_task() {
    let length = 3 * WASM_PAGE + 5000;
    let (mut bench, end) = with_blocks(&[length]);
    for at in [0, 1, 4096, length - 1] {
        let byte = (at % 251) as u32;
        assert_eq!(
            told(bench.run(BYTE, at as u32)),
            [8, end as u32, length as u32, byte],
            "byte {at}"
        );
    }
    let block = bench.link.blocks.lock().unwrap().remove(&0).unwrap();
    assert_eq!(told(bench.run(ONLY_MAP, 0))[0], 0, "it is not here");
    let TaskOutcome::Failed(TaskFailure::Trap { .. }) = bench.run(BYTE, end as u32) else {
        panic!("a task read where another one had its block")
    };
    bench.link.blocks.lock().unwrap().insert(0, block);
    assert_eq!(told(bench.run(BYTE, 7))[3], 7);
}

#[test]
fn what_a_task_writes_is_its_own() {
    let length = 100 * PAGE_BYTES + 7;
    let (mut bench, _) = with_blocks(&[length]);
    let shared = bench.link.blocks.lock().unwrap()[&0].0.try_clone().unwrap();
    for _ in 0..3 {
        assert_eq!(told(bench.run(WRITE, 101))[3], 99);
        let mut bytes = vec![0; length];
        shared.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == content(length), "a write has reached the file");
        assert_eq!(told(bench.run(BYTE, PAGE_BYTES as u32))[3], (PAGE_BYTES % 251) as u32);
    }
    // What the host writes for the guest is the guest's, too.
    bench.link.blocks.lock().unwrap().insert(1, (sealed(b"other"), 5));
    let [_, at, _, written] = told(bench.run(HOST_WRITES, 1));
    assert_eq!(written as usize, at as usize + length.next_multiple_of(WASM_PAGE));
    assert_eq!(told(bench.run(BYTE, 1))[3], 1);
}

#[test]
fn a_task_may_write_so_much_of_its_blocks_and_the_next_one_again() {
    let (mut bench, _) = with_blocks(&[2 * WRITTEN_PAGES_MAX * PAGE_BYTES]);
    for _ in 0..2 {
        let most = WRITTEN_PAGES_MAX as u32;
        assert_eq!(told(bench.run(WRITE, most))[3], 99);
        let failed = bench.run(WRITE, most + 1);
        assert!(matches!(failed, TaskOutcome::Failed(TaskFailure::Trap { .. })), "{failed:?}");
    }
}

#[test]
fn a_task_for_which_the_host_writes_more_of_its_blocks_fails_and_its_slot_goes_on() {
    let (mut bench, _) = with_blocks(&[2 * WRITTEN_PAGES_MAX * PAGE_BYTES, 5]);
    let most = WRITTEN_PAGES_MAX as u32;
    for operation in [WASI_WRITES_AFTER, HOST_WRITES_AFTER] {
        for _ in 0..2 {
            assert_eq!(told(bench.run(operation, most - 1))[0], 8);
            assert_overdrawn(&bench.run(operation, most));
        }
    }
}

fn assert_overdrawn(outcome: &TaskOutcome) {
    let TaskOutcome::Failed(TaskFailure::GuestAbi { message }) = outcome else {
        panic!("{outcome:?}")
    };
    let expected = "a call wrote to mapped blocks, of which the task had written 1024 pages";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_task_for_which_the_host_fills_more_of_its_blocks_fails_and_its_slot_goes_on() {
    let (mut bench, _) = with_blocks(&[4 * WRITTEN_PAGES_MAX * PAGE_BYTES]);
    let whole = (WRITTEN_PAGES_MAX * PAGE_BYTES) as u32;
    for _ in 0..2 {
        assert_eq!(told(bench.run(WASI_FILLS, whole / 2))[3], 0, "all that it may");
        assert_overdrawn(&bench.run(WASI_FILLS, 2 * whole));
        assert_overdrawn(&bench.run(WASI_FILLS, 2 * whole - 1));
        // The first call needs the reserve: there must be no other one.
        assert_overdrawn(&bench.run(WASI_FILLS_AFTER, HOST_WRITES_MAX as u32));
    }
}

#[test]
fn what_is_behind_small_blocks_is_memory_that_nobody_asked_for_and_counts_as_written() {
    let (mut bench, _) = with_blocks(&[5]);
    // Of each block, 15 pages are behind the one that it has.
    let most = (WRITTEN_PAGES_MAX / 15) as u32;
    for _ in 0..2 {
        assert_eq!(told(bench.run(WRITE_BEHIND, most))[3], 0);
        let failed = bench.run(WRITE_BEHIND, most + 1);
        assert!(matches!(failed, TaskOutcome::Failed(TaskFailure::Trap { .. })), "{failed:?}");
    }
}

#[test]
fn blocks_take_nothing_of_what_a_task_may_grow_and_have_their_own_limit() {
    let (mut bench, end) = with_blocks(&[40 << 20, 24 << 20, (24 << 20) + 1]);
    let grown = told(bench.run(GROW, 0))[3] as usize;
    assert_eq!(grown, (end + (40 << 20)) / WASM_PAGE);
    let failed = bench.run(GROW, 1);
    assert_eq!(told(failed)[3], u32::MAX, "a page too many");
    let requests = |bench: &Bench| {
        let mut said = bench.link.said.lock().unwrap();
        let memory = said.drain(..).filter_map(|frame| match frame {
            FromSlot::Request(Request::Memory { bytes }) => Some(bytes),
            _ => None,
        });
        memory.collect::<Vec<_>>()
    };
    assert_eq!(requests(&bench), [64 << 20], "what is mapped is not asked for");
    assert_eq!(told(bench.run(MAP_ANOTHER, 1))[3], 8);
    assert_eq!(told(bench.run(MAP_ANOTHER, 2))[3], 0, "more than task-memory in all");
    assert_eq!(requests(&bench), [0; 0]);
}

#[test]
fn what_the_owner_gave_is_given_back_mapped_or_not() {
    // The second one is more than a task may map.
    let (mut bench, _) = with_blocks(&[5, 70 << 20]);
    let given_back = |bench: &Bench| {
        let mut said = bench.link.said.lock().unwrap();
        let is_it = |frame: &FromSlot| *frame == FromSlot::Request(Request::GiveBackMemory);
        said.drain(..).filter(is_it).count()
    };
    assert_eq!(told(bench.run(ONLY_MAP, 0))[0], 8);
    assert_eq!(given_back(&bench), 1);
    let large = bench.link.blocks.lock().unwrap().remove(&1).unwrap();
    let small = bench.link.blocks.lock().unwrap().insert(0, large).unwrap();
    assert_eq!(told(bench.run(ONLY_MAP, 0))[0], 0, "it must be read");
    assert_eq!(given_back(&bench), 1);
    bench.link.blocks.lock().unwrap().clear();
    assert_eq!(told(bench.run(ONLY_MAP, 0))[0], 0, "it is not here");
    assert_eq!(given_back(&bench), 0);
    drop(small);
}

#[test]
fn what_cannot_be_is_refused() {
    let (mut bench, _) = with_blocks(&[5]);
    assert_eq!(told(bench.run(PLACE, 8))[3], 8);
    assert_eq!(told(bench.run(PLACE, 7))[3], code::INVALID as u32);
    let outside = bench.run(PLACE, 1 << 30);
    assert!(matches!(outside, TaskOutcome::Failed(TaskFailure::GuestAbi { .. })), "{outside:?}");
    let huge = File::from(memory_file("huge").unwrap());
    huge.set_len(65 << 20).unwrap();
    bench.link.blocks.lock().unwrap().insert(0, (huge, 65 << 20));
    assert_eq!(told(bench.run(ONLY_MAP, 0))[0], 0, "larger than task-memory");
    bench.link.blocks.lock().unwrap().insert(0, (sealed(b"short"), 5000));
    let lie = bench.run(ONLY_MAP, 0);
    assert!(matches!(lie, TaskOutcome::Failed(TaskFailure::Host { .. })), "{lie:?}");
    bench.link.blocks.lock().unwrap().insert(0, (sealed(b""), 0));
    assert_eq!(told(bench.run(ONLY_MAP, 0))[0], 0, "an empty one");
}
