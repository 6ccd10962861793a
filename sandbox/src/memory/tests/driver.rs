//! The driver's snapshots against whole copies of its memory.

use super::super::*;
use crate::engine;
use offshoot_proto::snapshot::PageRun;
use std::fs::File;
use std::os::unix::fs::FileExt;
use wasmtime::{Instance, Memory, Module, Store};

struct Driver {
    memory: GuestMemory,
    store: Store<()>,
    linear: Memory,
    file: File,
    /// What the snapshots so far add up to.
    known: Vec<u8>,
}

impl Driver {
    fn start() -> Self {
        let memory = GuestMemory::new().unwrap();
        let file = memory_file("driver").unwrap();
        memory.share(file.try_clone().unwrap()).unwrap();
        let engine = engine::runner(memory.creator()).unwrap();
        let module = Module::new(
            &engine,
            wat::parse_str(r#"(module (memory (export "memory") 64))"#).unwrap(),
        )
        .unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let linear = instance.get_memory(&mut store, "memory").unwrap();
        Self { memory, store, linear, file: file.into(), known: vec![] }
    }

    fn write(&mut self, page: usize, value: u8) {
        let start = page * PAGE_BYTES;
        self.linear.data_mut(&mut self.store)[start..start + PAGE_BYTES].fill(value);
    }

    /// Takes a snapshot, and checks that it says exactly what changed.
    fn snapshot(&mut self) -> Vec<PageRun> {
        let changes = self.memory.snapshot().unwrap();
        let before = self.known.clone();
        self.known.resize(changes.memory_bytes as usize, 0);
        let mut at = 0;
        for run in &changes.runs {
            let length = run.count as usize * PAGE_BYTES;
            let start = run.page as usize * PAGE_BYTES;
            let target = &mut self.known[start..start + length];
            if before.is_empty() {
                self.file.read_exact_at(target, start as u64).unwrap();
            } else {
                target.copy_from_slice(&changes.pages[at..at + length]);
            }
            at += length;
        }
        assert!(self.known == self.linear.data(&self.store), "the snapshots add up to the memory");
        changes.runs
    }
}

fn run(page: u32, count: u32) -> PageRun {
    PageRun { page, count }
}

#[test]
fn a_snapshot_names_the_pages_that_changed() {
    let mut driver = Driver::start();
    driver.write(3, 1);
    driver.write(4, 1);
    assert_eq!(driver.snapshot(), [run(3, 2)]);
    assert_eq!(driver.snapshot(), []);
    driver.write(4, 2);
    driver.write(9, 2);
    assert_eq!(driver.snapshot(), [run(4, 1), run(9, 1)]);
    // Written with what was there: no change.
    driver.write(9, 2);
    assert_eq!(driver.snapshot(), []);
    // Nothing was written for long; then it is again.
    for _ in 0..100 {
        assert_eq!(driver.snapshot(), []);
    }
    driver.write(9, 3);
    assert_eq!(driver.snapshot(), [run(9, 1)]);
}

#[test]
fn growth_between_snapshots_is_in_the_next_one() {
    let mut driver = Driver::start();
    driver.write(0, 1);
    driver.snapshot();
    let end = driver.known.len() / PAGE_BYTES;
    driver.linear.grow(&mut driver.store, 2).unwrap();
    driver.write(end + 5, 7);
    assert_eq!(driver.snapshot(), [run(end as u32 + 5, 1)]);
    driver.write(end + 5, 8);
    driver.write(end + 30, 8);
    assert_eq!(driver.snapshot(), [run(end as u32 + 5, 1), run(end as u32 + 30, 1)]);
}

#[test]
fn a_driver_that_writes_everywhere_is_followed_too() {
    let mut driver = Driver::start();
    driver.linear.grow(&mut driver.store, 200).unwrap();
    driver.snapshot();
    let pages = driver.known.len() / PAGE_BYTES;
    for (round, step) in [1, 2, 3, 17, 1, 40].into_iter().enumerate() {
        for page in (0..pages).step_by(step) {
            driver.write(page, round as u8 + 1);
        }
        let changed: u32 = driver.snapshot().iter().map(|run| run.count).sum();
        assert_eq!(changed as usize, pages.div_ceil(step), "round {round}");
    }
}

#[test]
fn the_first_snapshot_is_sealed() {
    let mut driver = Driver::start();
    driver.write(1, 1);
    driver.snapshot();
    assert!(driver.file.write_all_at(b"x", 0).is_err(), "nobody can change it");
    assert!(driver.file.set_len(0).is_err());
    driver.write(1, 9);
    let mut byte = [0];
    driver.file.read_exact_at(&mut byte, PAGE_BYTES as u64).unwrap();
    assert_eq!(byte, [1], "the driver goes on with a private mapping");
}
