//! Tells a person when the master is gone and what that means for the job.
//!
//! What runs needs no master, so nothing is said of a short absence. A job without executors waits
//! for as long as the master is away; without a word it would look as if it hung.

use std::time::Duration;

/// How long a master may be away before that is told: a restart takes less.
const GRACE: Duration = Duration::from_secs(3);

/// Decides what is told, and when.
#[derive(Debug, Default)]
pub(crate) struct MasterWatch {
    absence: Option<Absence>,
    executors: usize,
}

/// The master is away.
#[derive(Debug)]
struct Absence {
    since: Duration,
    reason: String,
    /// What was said of it last.
    told: Option<Notice>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The connection to the master has ended.
    Lost(String),
    /// There is one again.
    Back,
    /// So many executors are connected or being dialled.
    Executors(usize),
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// There are no executors, and none will come.
    Waits {
        /// How the master was lost.
        reason: String,
    },
    /// The job goes on with what it has.
    RunsOn {
        /// How the master was lost.
        reason: String,
    },
    /// The master is there again.
    Back,
}

// === impl MasterWatch ===

impl MasterWatch {
    /// Takes in what happened at `now`; what to tell, if anything.
    pub(crate) fn handle(&mut self, now: Duration, event: Event) -> Option<Notice> {
        match event {
            Event::Lost(reason) => {
                self.absence.get_or_insert(Absence { since: now, reason, told: None });
            }
            Event::Back => {
                let absence = self.absence.take()?;
                return absence.told.map(|_| Notice::Back);
            }
            Event::Executors(executors) => self.executors = executors,
        }
        self.handle_timeout(now)
    }

    /// When [`MasterWatch::handle_timeout`] is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let absence = self.absence.as_ref().filter(|absence| absence.told.is_none())?;
        Some(absence.since + GRACE)
    }

    /// The time has come to tell of an absence, or what was told has changed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Option<Notice> {
        let absence = self.absence.as_mut()?;
        if now < absence.since + GRACE {
            return None;
        }
        let reason = absence.reason.clone();
        let notice = match self.executors {
            0 => Notice::Waits { reason },
            _ => Notice::RunsOn { reason },
        };
        if absence.told.as_ref() == Some(&notice) {
            return None;
        }
        absence.told = Some(notice.clone());
        Some(notice)
    }
}

// === impl Notice ===

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waits { reason } => write!(
                f,
                "waiting: the master is gone ({reason}), and without it there are no executors; \
                 the job goes on when it is back"
            ),
            Self::RunsOn { reason } => write!(
                f,
                "the master is gone ({reason}); the job runs on with the executors that it has"
            ),
            Self::Back => f.write_str("the master is back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lost() -> Event {
        Event::Lost("it was silent".to_owned())
    }

    fn waits() -> Option<Notice> {
        Some(Notice::Waits { reason: "it was silent".to_owned() })
    }

    fn runs_on() -> Option<Notice> {
        Some(Notice::RunsOn { reason: "it was silent".to_owned() })
    }

    #[test]
    fn a_job_without_executors_says_once_that_it_waits_and_then_that_it_goes_on() {
        let mut watch = MasterWatch::default();
        assert_eq!(watch.next_timeout(), None);
        assert_eq!(watch.handle(at(10), lost()), None);
        assert_eq!(watch.next_timeout(), Some(at(10) + GRACE));
        assert_eq!(watch.handle_timeout(at(12)), None, "not yet");
        assert_eq!(watch.handle_timeout(at(13)), waits());
        assert_eq!(watch.next_timeout(), None, "there is nothing more to say");
        assert_eq!(watch.handle(at(14), lost()), None, "the same absence");
        assert_eq!(watch.handle_timeout(at(60)), None);
        assert_eq!(watch.handle(at(61), Event::Back), Some(Notice::Back));
        assert_eq!(watch.handle(at(62), Event::Executors(0)), None);
    }

    #[test]
    fn a_short_absence_is_not_worth_a_word() {
        let mut watch = MasterWatch::default();
        assert_eq!(watch.handle(at(1), lost()), None);
        assert_eq!(watch.handle(at(3), Event::Back), None);
        assert_eq!(watch.next_timeout(), None);
        assert_eq!(watch.handle_timeout(at(9)), None);
    }

    #[test]
    fn losing_the_last_executor_later_is_a_change() {
        let mut watch = MasterWatch::default();
        assert_eq!(watch.handle(at(0), Event::Executors(2)), None);
        assert_eq!(watch.handle(at(1), lost()), None);
        assert_eq!(watch.handle_timeout(at(4)), runs_on());
        assert_eq!(watch.handle(at(5), Event::Executors(1)), None, "it still runs on");
        assert_eq!(watch.handle(at(6), Event::Executors(0)), waits());
        assert_eq!(watch.handle(at(7), Event::Executors(0)), None);
    }
}
