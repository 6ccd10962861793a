//! The driver's slot: runs `main`, and stands still for each snapshot.

use super::runner::{Guest, GuestEnd};
use super::tasks::unexpected_reply;
use super::{Loaded, SlotError, SlotState};
use crate::imports::{CallError, Outcome, refused};
use crate::memory::memory_file;
use offshoot_proto::abi::{JobSpec, NodeSpec, code};
use offshoot_proto::id::{JobId, NodeId, SnapshotId};
use offshoot_proto::limits::WASM_PAGE_BYTES;
use offshoot_proto::link::{FromSlot, MainEnd, Reply, Request};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::scheduling::PoolName;
use offshoot_proto::snapshot::{GlobalValue, SnapshotHeader};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Changed pages of at most so many bytes travel in the frame itself.
const INLINE_PAGES_BYTES_MAX: usize = 1 << 20;

pub(super) fn run(loaded: Loaded) -> Result<(), SlotError> {
    let Loaded { mut state, pre, info } = loaded;
    state.send(&FromSlot::Ready, vec![])?;
    let (mut state, result) = match Guest::new(&pre, *state) {
        Ok(mut guest) => {
            let result = run_main(&mut guest, &info.data);
            (guest.store.into_data(), result)
        }
        Err(ended) => (ended.0, Err(GuestEnd::Failed(ended.1))),
    };
    let end = match result {
        Ok(()) => MainEnd::Exit { code: 0 },
        Err(GuestEnd::Exit(code)) => MainEnd::Exit { code },
        Err(GuestEnd::Failed(failure)) => MainEnd::Failed(failure),
        Err(GuestEnd::Link(error)) => return Err(error.into()),
    };
    Ok(state.send(&FromSlot::MainEnded(end), vec![])?)
}

fn run_main(guest: &mut Guest, data: &[(u32, Vec<u8>)]) -> Result<(), GuestEnd> {
    guest.write_data(data).map_err(GuestEnd::Failed)?;
    guest.call_start_section()?;
    guest.call_main()
}

// === impl SlotState ===

impl SlotState {
    fn ask(&mut self, request: Request) -> Result<Reply, CallError> {
        Ok(self.request(request, vec![])?.0)
    }

    /// What is not answered and changes nothing that runs.
    fn tell_later(&mut self, request: Request) -> Outcome {
        self.say_later(&FromSlot::Request(request))?;
        Ok(0)
    }

    /// `node_register`.
    pub(crate) fn node_register(&mut self, node: NodeSpec) -> Outcome {
        self.only_in_main("node_register")?;
        self.tell_later(Request::RegisterNode(node))
    }

    /// `node_drop`.
    pub(crate) fn node_drop(&mut self, node: i32) -> Outcome {
        self.only_in_main("node_drop")?;
        self.tell_later(Request::DropNode(NodeId(node as u32)))
    }

    /// `job_submit`: the snapshot is taken here, while the guest stands still. The owner does not
    /// answer; what is wrong with the job is told when its results are asked for.
    pub(crate) fn job_submit(&mut self, job: JobSpec, globals: Vec<GlobalValue>) -> Outcome {
        self.only_in_main("job_submit")?;
        let id = SnapshotId(self.snapshot.as_ref().map_or(1, |last| last.id.0 + 1));
        let changes = self.memory.snapshot().map_err(cannot_snapshot)?;
        let header = SnapshotHeader {
            id,
            memory_bytes: changes.memory_bytes,
            globals,
            realtime_nanos: self.wasi.clock().realtime_nanos(),
            monotonic_nanos: self.wasi.clock().monotonic_nanos(),
            seed: self.draw_seed()?,
            first_free_descriptor: self.wasi.first_free_descriptor(),
            runs: changes.runs,
        };
        debug_assert!(header.memory_bytes.is_multiple_of(WASM_PAGE_BYTES));
        self.snapshot = Some(SnapshotHeader { runs: Vec::new(), ..header.clone() });
        let (pages, descriptors) = if changes.pages.len() <= INLINE_PAGES_BYTES_MAX {
            (changes.pages, vec![])
        } else {
            let file = File::from(memory_file("changed pages").map_err(cannot_snapshot)?);
            file.write_all_at(&changes.pages, 0).map_err(cannot_snapshot)?;
            (Vec::new(), vec![file.into()])
        };
        let request = Request::SubmitJob { job, snapshot: header, pages };
        self.send(&FromSlot::Request(request), descriptors)?;
        let number = self.jobs;
        self.jobs += 1;
        Ok(number as i32)
    }

    /// `job_results`.
    pub(crate) fn job_results(&mut self, job: i32, out: &mut [u8]) -> Outcome {
        self.only_in_main("job_results")?;
        let capacity = out.len().min(i32::MAX as usize) as u32;
        let job = JobId(job as u32);
        match self.ask(Request::JobResults { job, capacity })? {
            Reply::Results { bytes, last } if bytes.len() <= out.len() => {
                if last {
                    self.ended_jobs.insert(job);
                }
                out[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len() as i32)
            }
            _ => Err(CallError::Ends(unexpected_reply())),
        }
    }

    /// `updates_read`.
    pub(crate) fn updates_read(&mut self, out: &mut [u8]) -> Outcome {
        self.only_in_main("updates_read")?;
        let capacity = out.len().min(i32::MAX as usize) as u32;
        match self.ask(Request::Updates { capacity })? {
            Reply::Results { bytes, .. } if bytes.len() <= out.len() => {
                out[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len() as i32)
            }
            _ => Err(CallError::Ends(unexpected_reply())),
        }
    }

    /// `job_drop`.
    pub(crate) fn job_drop(&mut self, job: i32) -> Outcome {
        self.only_in_main("job_drop")?;
        let job = JobId(job as u32);
        if self.ended_jobs.remove(&job) {
            return self.tell_later(Request::DropJob(job));
        }
        // Its tasks may be running.
        self.send(&FromSlot::Request(Request::DropJob(job)), vec![])?;
        Ok(0)
    }

    /// `parallelism`.
    pub(crate) fn parallelism(&mut self) -> Outcome {
        self.only_in_main("parallelism")?;
        match self.ask(Request::Parallelism)? {
            Reply::Number(cores) => Ok(cores as i32),
            _ => Err(CallError::Ends(unexpected_reply())),
        }
    }

    /// `job_pool`: the owner checks the name again.
    pub(crate) fn job_pool(&mut self, name: &[u8]) -> Outcome {
        self.only_in_main("job_pool")?;
        let invalid = |error: String| refused(code::INVALID, format!("job_pool: {error}"));
        let name = std::str::from_utf8(name).map_err(|error| invalid(error.to_string()))?;
        if !name.is_empty() {
            PoolName::new(name).map_err(|error| invalid(error.to_string()))?;
        }
        self.tell_later(Request::JobPool { name: name.to_owned() })
    }

    fn draw_seed(&mut self) -> Result<u64, CallError> {
        let mut seed = [0; 8];
        self.wasi.draw(&mut seed).map_err(|errno| cannot_snapshot(format!("{errno:?}")))?;
        Ok(u64::from_le_bytes(seed))
    }
}

fn cannot_snapshot(error: impl std::fmt::Display) -> CallError {
    let message = format!("taking a snapshot of the driver's memory: {error}");
    // The memory may be half a snapshot now: the application cannot go on.
    CallError::Ends(TaskFailure::Host { message })
}
