//! What happened in a simulation: for its verdict, and for whoever has to find out why.

use offshoot_driver::Observer;
use offshoot_driver::dag::{ProgressState, StageProgress};
use offshoot_proto::id::AppId;
use offshoot_proto::waiting::WaitReason;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// How often what rarely happens has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rare {
    /// Datagrams lost by chance.
    pub(crate) datagrams_lost: u64,
    /// Datagrams lost in a partition.
    pub(crate) datagrams_cut_off: u64,
    /// Executors that a driver has lost while its job ran.
    pub(crate) executors_lost: u64,
    /// Workers that the master has lost.
    pub(crate) workers_lost: u64,
    /// Stages of which a part had been done and was lost.
    pub(crate) stages_resumed: u64,
    /// Jobs that did not reach the master at the first try.
    pub(crate) submits_repeated: u64,
}

/// Shared by all who have something to tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    rare: Rare,
    lines: Vec<String>,
    output: Vec<u8>,
}

/// What a driver tells.
struct Teller(Journal);

// === impl Journal ===

impl Journal {
    pub(crate) fn note(&self, text: impl fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.entries().lines.push(format!("{:8.3} s  {text}", at.as_secs_f64()));
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Rare)) {
        change(&mut self.entries().rare);
    }

    pub(crate) fn rare(&self) -> Rare {
        self.entries().rare
    }

    /// What was printed since the last time.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut self.entries().output)
    }

    pub(crate) fn observer(&self) -> Box<dyn Observer> {
        Box::new(Teller(self.clone()))
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries().lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

// === impl Teller ===

impl Observer for Teller {
    fn output(&mut self, stream: u8, bytes: &[u8]) {
        if stream == 1 {
            self.0.entries().output.extend_from_slice(bytes);
        } else {
            self.0.note(String::from_utf8_lossy(bytes));
        }
    }

    fn registered(&mut self, app: AppId) {
        self.0.note(format_args!("the driver is registered as {app}"));
    }

    fn waiting(&mut self, reason: &WaitReason) {
        self.0.note(format_args!("the driver waits: {reason:?}"));
    }

    fn progress(&mut self, progress: &StageProgress) {
        let StageProgress { stage, name, done, total, state, .. } = progress;
        if *state != ProgressState::Running {
            self.0.note(format_args!("stage {stage} ({name}) {state:?}, {done} of {total}"));
        }
        if *state == ProgressState::Started && *done > 0 {
            self.0.count(|rare| rare.stages_resumed += 1);
        }
    }

    fn notice(&mut self, text: &str) {
        self.0.note(text);
        if text.contains("is gone") {
            self.0.count(|rare| rare.executors_lost += 1);
        }
    }
}

// === impl Rare ===

impl std::ops::AddAssign for Rare {
    fn add_assign(&mut self, other: Self) {
        self.datagrams_lost += other.datagrams_lost;
        self.datagrams_cut_off += other.datagrams_cut_off;
        self.executors_lost += other.executors_lost;
        self.workers_lost += other.workers_lost;
        self.stages_resumed += other.stages_resumed;
        self.submits_repeated += other.submits_repeated;
    }
}
