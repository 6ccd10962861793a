//! Fork and call in one slot: what a task costs beyond what it does.
//!
//! A real slot on a thread of its own, spoken to over a socket pair in batches of 256, so that the
//! link's share of a task is small. Three guests: one that does nothing, one that reads 16 places
//! spread over the whole memory, one that writes 16 places spread likewise, which in a large memory
//! no task before it wrote. Prints microseconds per task: minimum, median and maximum of several
//! rounds. `cargo bench -p offshoot-sandbox --bench fork -- 64` measures one size in MiB.

use offshoot_proto::frame;
use offshoot_proto::id::{AttemptId, NodeId, Partition, SnapshotId, StageRunId};
use offshoot_proto::link::{ForkImage, FromSlot, SlotRole, SlotStage, SlotStart, ToSlot};
use offshoot_proto::snapshot::SnapshotHeader;
use offshoot_sandbox::link::{SocketLink, receive, send};
use offshoot_sandbox::memory::memory_file;
use offshoot_sandbox::module::prepare;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const BATCH: u64 = 256;
const ROUNDS: usize = 7;

/// Batches between two looks at the clock.
const BATCHES: u64 = 8;

/// A round ends after it. The table has nine rows: about half a minute.
const ROUND: Duration = Duration::from_millis(300);

/// Node 0 does nothing, 1 reads, 2 writes at random; the partition is the seed.
const GUEST: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start"))
  (func (export "offshoot_task") (param $op i32) (param $seed i32) (result i64)
    (local $n i32) (local $at i32) (local $pages i32)
    (local.set $pages (memory.size))
    (if (i32.eqz (local.get $op)) (then (return (i64.const 0))))
    (local.set $n (i32.const 16))
    (loop $next
      (local.set $seed (i32.add (i32.mul (local.get $seed) (i32.const 1664525))
                                (i32.const 1013904223)))
      (local.set $at (i32.add
        (i32.shl (i32.rem_u (i32.shr_u (local.get $seed) (i32.const 8)) (local.get $pages))
                 (i32.const 16))
        (i32.and (local.get $seed) (i32.const 0xfff8))))
      (if (i32.eq (local.get $op) (i32.const 1))
        (then (drop (i32.load (local.get $at))))
        (else (i32.store (local.get $at) (local.get $seed))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i64.const 0)))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>8} {:>8} {:>10} {:>10} {:>10}", "MiB", "guest", "min µs", "median µs", "max µs");
    let asked: Vec<u64> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![1, 64, 1024] } else { asked };
    for mebibytes in sizes {
        let mut bench = Bench::start(mebibytes)?;
        for (node, name) in [(0, "empty"), (1, "reads"), (2, "writes")] {
            bench.batches(node, 4)?;
            let mut rounds =
                (0..ROUNDS).map(|_| bench.round(node)).collect::<Result<Vec<_>, _>>()?;
            rounds.sort_by(f64::total_cmp);
            let (min, median, max) = (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
            println!("{mebibytes:>8} {name:>8} {min:>10.2} {median:>10.2} {max:>10.2}");
        }
    }
    Ok(())
}

struct Bench {
    link: SocketLink,
    next: u64,
}

impl Bench {
    fn start(mebibytes: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let prepared = prepare(&wat::parse_str(GUEST)?)?;
        let engine = offshoot_sandbox::engine::compiler()?;
        let code = wasmtime::Module::new(&engine, &prepared.wasm)?.serialize()?;
        let (ours, theirs) = UnixStream::pair()?;
        std::thread::spawn(move || offshoot_sandbox::run_slot(Box::new(SocketLink::new(theirs))));
        let mut link = SocketLink::new(ours);
        let start = SlotStart {
            role: SlotRole::Tasks,
            arguments: vec![],
            environment: vec![],
            preopens: vec![],
            memory_bytes_max: 1 << 30,
            result_bytes_max: 1 << 20,
            disk_bytes_max: 0,
        };
        let descriptors = vec![file(&code)?, file(&frame::to_bytes(&prepared.info))?];
        send(&mut link, &ToSlot::Start(start), descriptors)?;
        receive::<FromSlot>(&mut link)?;
        let header = SnapshotHeader {
            id: SnapshotId(1),
            memory_bytes: mebibytes << 20,
            globals: vec![],
            realtime_nanos: 0,
            monotonic_nanos: 0,
            seed: 0,
            first_free_descriptor: 3,
            runs: vec![],
        };
        let base = File::from(memory_file("bench")?);
        let block: Vec<u8> =
            (0..1 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761) as u8 | 1).collect();
        for number in 0..mebibytes {
            base.write_all_at(&block, number << 20)?;
        }
        let image = ForkImage { header, base: true, changes: vec![] };
        send(&mut link, &ToSlot::Fork(image), vec![base.into()])?;
        for node in 0..3 {
            let id = StageRunId(node);
            let (snapshot, node) = (SnapshotId(1), NodeId(node));
            let stage =
                SlotStage { id, snapshot, node, reducers: None, output: false, packed: true };
            send(&mut link, &ToSlot::Stage(stage), vec![])?;
        }
        Ok(Self { link, next: 0 })
    }

    /// Microseconds per task of one round.
    fn round(&mut self, node: u32) -> Result<f64, Box<dyn std::error::Error>> {
        let (start, first) = (Instant::now(), self.next);
        while start.elapsed() < ROUND {
            self.batches(node, BATCHES)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / (self.next - first) as f64)
    }

    /// Runs batches one after the other, with one of them queued ahead.
    fn batches(&mut self, node: u32, count: u64) -> Result<(), Box<dyn std::error::Error>> {
        let mut reports = 0;
        for batch in 0..count {
            let first = self.next;
            self.next += BATCH;
            let tasks = (first..self.next).map(|n| (AttemptId(n), Partition(n as u32))).collect();
            send(&mut self.link, &ToSlot::Run { stage: StageRunId(node), tasks }, vec![])?;
            while reports < batch * BATCH {
                reports += self.reports()?;
            }
        }
        while reports < count * BATCH {
            reports += self.reports()?;
        }
        Ok(())
    }

    fn reports(&mut self) -> Result<u64, Box<dyn std::error::Error>> {
        match receive::<FromSlot>(&mut self.link)?.0 {
            FromSlot::Reports(reports) => Ok(reports.len() as u64),
            other => Err(format!("{other:?}").into()),
        }
    }
}

fn file(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memory_file("bench")?);
    file.write_all(bytes)?;
    Ok(file.into())
}
