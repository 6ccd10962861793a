//! Whether every attempt was a fork of its own, as the executors' logs tell.

use crate::cluster::Member;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long executors may take to end after their job, and their words to reach a log.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// How often the logs are looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the executors of one application have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forks {
    pub(crate) executors: u64,
    pub(crate) forks: u64,
    pub(crate) attempts: u64,
}

/// How much of every log has been read.
pub(crate) struct Logs(Vec<usize>);

// === impl Logs ===

impl Logs {
    /// What is written from now on counts.
    pub(crate) fn from_now(members: &[Member]) -> Result<Self> {
        Ok(Self(members.iter().map(|member| Ok(read(member)?.len())).collect::<Result<_>>()?))
    }

    /// Waits until so many executors have ended, and adds up what they say.
    pub(crate) fn forks(&self, members: &[Member], executors: u64) -> Result<Forks> {
        let deadline = Instant::now() + END_DEADLINE;
        loop {
            let mut sum = Forks::default();
            for (member, from) in members.iter().zip(&self.0) {
                let text = read(member)?;
                let whole = text.rfind('\n').map_or(0, |end| end + 1);
                let new = text.get(*from..whole).unwrap_or_default();
                new.lines().filter_map(counters).for_each(|(forks, attempts)| {
                    sum.executors += 1;
                    sum.forks += forks;
                    sum.attempts += attempts;
                });
            }
            if sum.executors >= executors {
                return Ok(sum);
            }
            ensure!(
                Instant::now() < deadline,
                "{} of {executors} executors have logged their counters {} s after their job",
                sum.executors,
                END_DEADLINE.as_secs()
            );
            sleep(LOOK_INTERVAL);
        }
    }
}

fn read(member: &Member) -> Result<String> {
    fs::read_to_string(&member.log).with_context(|| format!("reading {}", member.log.display()))
}

/// Forks and attempts in `... executor app-1/0 ends: 12 forks for 12 attempts`.
fn counters(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.split_once(" ends: ")?;
    let (forks, attempts) = counts.split_once(" forks for ")?;
    Some((forks.parse().ok()?, attempts.strip_suffix(" attempts")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_in_a_log() {
        let line =
            "2026-01-01T00:00:00Z  INFO core: executor app-1/0 ends: 12 forks for 13 attempts";
        assert_eq!(counters(line), Some((12, 13)));
        assert_eq!(counters("worker-1 ends: soon"), None);
    }
}
