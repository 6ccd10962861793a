//! How the failures of one task are counted (`ARCHITECTURE.md`, failure model).

use offshoot_proto::id::{AttemptId, ExecutorId, WorkerId};
use offshoot_proto::outcome::FailureClass;

/// An attempt whose failure counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// Where it ran.
    pub executor: ExecutorId,
    /// On which machine.
    pub worker: WorkerId,
    /// How it failed.
    pub text: String,
}

/// What a task has been through. Few tasks have one.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// In order; also where the next attempt should not go.
    pub(super) failed: Vec<FailedAttempt>,
    /// Indices into `failed` of the guest's own failures.
    guest: Vec<usize>,
    transient: u32,
    crashes: u32,
}

/// What becomes of a task that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is run again.
    Retry,
    /// It is run again, although the guest failed before, because it failed differently.
    RetryElsewhere,
    /// It is not run again.
    ForGood,
}

// === impl History ===

impl History {
    /// Counts a failure. The same bytes fail in the same way: a guest's failure is believed the
    /// second time, and a second, different one says more about a machine than about the guest.
    pub(super) fn judge(
        &mut self,
        class: FailureClass,
        failed: FailedAttempt,
        failures_max: u32,
    ) -> Verdict {
        let seen = |index: &usize| self.failed[*index].text == failed.text;
        let verdict = match class {
            FailureClass::Guest if self.guest.is_empty() => Verdict::Retry,
            FailureClass::Guest if self.guest.iter().any(seen) => Verdict::ForGood,
            FailureClass::Guest => {
                let verdict = count(&mut self.transient, failures_max);
                match verdict {
                    Verdict::Retry => Verdict::RetryElsewhere,
                    other => other,
                }
            }
            FailureClass::Transient => count(&mut self.transient, failures_max),
            FailureClass::Crash => count(&mut self.crashes, failures_max),
            FailureClass::Fetch | FailureClass::Innocent => return Verdict::Retry,
        };
        if class == FailureClass::Guest {
            self.guest.push(self.failed.len());
        }
        self.failed.push(failed);
        verdict
    }
}

fn count(counter: &mut u32, failures_max: u32) -> Verdict {
    *counter += 1;
    if *counter >= failures_max { Verdict::ForGood } else { Verdict::Retry }
}
