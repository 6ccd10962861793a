//! The file `drains`: workers that are to leave, and when each leaves in any case.
//!
//! ```text
//!   version 1
//!   drain w-7f3a until 1790000000000
//! ```
//!
//! Times are those of day, in milliseconds since 1970: the machine's own clock begins anew with
//! each start of the master.

use super::{StateError, read, replace};
use offshoot_proto::id::WorkerId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The format of the file.
const VERSION: u64 = 1;

/// The file `drains`.
#[derive(Debug)]
pub(crate) struct DrainsFile {
    path: PathBuf,
}

/// Workers that are to leave, and when: milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drains(BTreeMap<WorkerId, u64>);

/// Why the file is not what was written.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// A newer master has written it.
    Version(u64),
    /// In which line, and what.
    Damage(usize, String),
}

// === impl DrainsFile ===

impl DrainsFile {
    /// Reads the file; without one nobody is to leave.
    pub(super) fn open(directory: &Path) -> Result<(Self, Drains), StateError> {
        let path = directory.join("drains");
        let parsed = read(&path)?.map_or(Ok(Drains::default()), |text| parse(&text));
        match parsed {
            Ok(drains) => Ok((Self { path }, drains)),
            Err(Fault::Version(found)) => {
                Err(StateError::Version { path, found, supported: VERSION })
            }
            Err(Fault::Damage(line, reason)) => {
                Err(StateError::DamagedDrains { path, line, reason })
            }
        }
    }

    /// Replaces the file. When this has returned, no restart forgets it.
    pub(crate) fn save(&self, drains: &Drains) -> Result<(), StateError> {
        replace(&self.path, &format(drains))
    }
}

// === impl Drains ===

impl Drains {
    /// Those that leave in so long at the latest.
    pub(crate) fn until(left: BTreeMap<WorkerId, Duration>, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = |left: Duration| u64::try_from((now + left).as_millis()).unwrap_or(u64::MAX);
        Self(left.into_iter().map(|(worker, left)| (worker, until(left))).collect())
    }

    /// In how long each leaves at the latest, nothing if the time is over.
    pub(crate) fn left(self, now: SystemTime) -> impl Iterator<Item = (WorkerId, Duration)> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = move |until| Duration::from_millis(until).saturating_sub(now);
        self.0.into_iter().map(move |(worker, until)| (worker, left(until)))
    }
}

fn format(drains: &Drains) -> String {
    let mut text = format!("version {VERSION}\n");
    for (worker, until) in &drains.0 {
        let _ = writeln!(text, "drain {worker} until {until}");
    }
    text
}

fn parse(text: &str) -> Result<Drains, Fault> {
    let mut drains = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let damage = |reason: String| Fault::Damage(index + 1, reason);
        match index {
            0 => parse_version(line)?,
            _ => {
                let drain = parse_drain(line);
                let (worker, until) = drain.ok_or_else(|| {
                    damage(format!("{line:?} is not \"drain WORKER until MILLISECONDS\""))
                })?;
                if let Some(twice) = drains.insert(worker, until) {
                    return Err(damage(format!("the worker stands there already, until {twice}")));
                }
            }
        }
    }
    match text.ends_with('\n') {
        true => Ok(Drains(drains)),
        // A number that was cut short is one, too.
        false => Err(Fault::Damage(text.lines().count().max(1), "it is cut short".to_owned())),
    }
}

fn parse_version(line: &str) -> Result<(), Fault> {
    match line.strip_prefix("version ").map(str::parse) {
        Some(Ok(VERSION)) => Ok(()),
        Some(Ok(version)) if version > VERSION => Err(Fault::Version(version)),
        _ => Err(Fault::Damage(1, format!("expected \"version {VERSION}\", found {line:?}"))),
    }
}

fn parse_drain(line: &str) -> Option<(WorkerId, u64)> {
    let (worker, until) = line.strip_prefix("drain ")?.split_once(" until ")?;
    let (worker, until) = (WorkerId(worker.to_owned()), until.parse().ok()?);
    worker.is_valid().then_some((worker, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drains(list: &[(&str, u64)]) -> Drains {
        let list = list.iter().map(|(worker, until)| (WorkerId((*worker).to_owned()), *until));
        Drains(list.collect())
    }

    #[test]
    fn drains_are_read_as_they_were_written() {
        for list in [&[][..], &[("w-1", 0), ("w-2", u64::MAX)]] {
            assert_eq!(parse(&format(&drains(list))), Ok(drains(list)));
        }
    }

    #[test]
    fn damage_is_found_with_its_line() {
        let line = |text: &str| match parse(text) {
            Err(Fault::Damage(line, _)) => line,
            other => panic!("{text:?}: {other:?}"),
        };
        assert_eq!(line(""), 1);
        assert_eq!(line("version one\n"), 1);
        assert_eq!(line("version 0\n"), 1);
        assert_eq!(line("version 1"), 1);
        assert_eq!(line("version 1\ndrain w-1\n"), 2);
        assert_eq!(line("version 1\ndrain w-1 until 5\ndrain ../w until 5\n"), 3);
        assert_eq!(line("version 1\ndrain w-1 until soon\n"), 2);
        assert_eq!(line("version 1\ndrain w-1 until 5\ndrain w-1 until 6\n"), 3);
        assert_eq!(line("version 1\nredeemed w-1\n"), 2);
        let whole = format(&drains(&[("w-1", 1_790_000_000_000)]));
        for length in (0..whole.len()).filter(|length| *length != "version 1\n".len()) {
            line(&whole[..length]);
        }
        assert_eq!(parse("version 2\nleaver w-1\n"), Err(Fault::Version(2)));
    }

    #[test]
    fn what_is_left_follows_the_time_of_day() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        let second = Duration::from_secs(1);
        let worker = WorkerId("w-1".to_owned());
        let drains = Drains::until([(worker.clone(), 30 * second)].into(), at(0));
        let left = |now| drains.clone().left(now).collect::<Vec<_>>();
        assert_eq!(left(at(10)), [(worker.clone(), 20 * second)]);
        assert_eq!(left(at(31)), [(worker.clone(), Duration::ZERO)]);
        // The clock was set back: the machine limits it.
        assert_eq!(left(UNIX_EPOCH), [(worker, 1_000_030 * second)]);
    }
}
