//! What time it is for a guest.
//!
//! `main` sees the real time in steps of a millisecond: enough for a program, too coarse for
//! measuring what others do on the machine. For a task time stands at its snapshot's, so that
//! every attempt computes the same; a sleep of a task ends at once.

use super::errno::Errno;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The step of every clock.
pub(super) const STEP_NANOS: u64 = 1_000_000;

/// The clocks of a guest.
#[derive(Clone, Debug)]
pub enum Clock {
    /// They run.
    Real {
        /// When the monotonic clock stood at `monotonic_base_nanos`.
        origin: Instant,
        /// What the monotonic clock stood at then: for a task, its snapshot's.
        monotonic_base_nanos: u64,
    },
    /// They stand.
    Standing {
        /// Nanoseconds since 1970.
        realtime_nanos: u64,
        /// Nanoseconds of the monotonic clock.
        monotonic_nanos: u64,
    },
}

/// The clocks of preview-1 that exist here. Those of processor time would tell a guest how busy
/// the machine is, and do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockId {
    Realtime,
    Monotonic,
}

// === impl Clock ===

impl Clock {
    /// Running clocks; the monotonic one starts at 0 now, so that it does not tell since when
    /// the machine is up.
    pub fn real() -> Self {
        Self::Real { origin: Instant::now(), monotonic_base_nanos: 0 }
    }

    /// Nanoseconds since 1970.
    pub fn realtime_nanos(&self) -> u64 {
        match self {
            Self::Real { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                step(since.map_or(0, saturating_nanos))
            }
            Self::Standing { realtime_nanos, .. } => *realtime_nanos,
        }
    }

    /// Nanoseconds of the monotonic clock.
    pub fn monotonic_nanos(&self) -> u64 {
        match self {
            Self::Real { origin, monotonic_base_nanos } => {
                step(monotonic_base_nanos.saturating_add(saturating_nanos(origin.elapsed())))
            }
            Self::Standing { monotonic_nanos, .. } => *monotonic_nanos,
        }
    }

    pub(super) fn now(&self, id: ClockId) -> u64 {
        match id {
            ClockId::Realtime => self.realtime_nanos(),
            ClockId::Monotonic => self.monotonic_nanos(),
        }
    }

    /// Sleeps where time runs; where it stands, no sleep could ever be seen to end.
    pub(super) fn sleep(&self, nanos: u64) {
        if matches!(self, Self::Real { .. }) {
            std::thread::sleep(Duration::from_nanos(nanos));
        }
    }
}

// === impl ClockId ===

impl TryFrom<u32> for ClockId {
    type Error = Errno;

    fn try_from(id: u32) -> Result<Self, Errno> {
        match id {
            0 => Ok(Self::Realtime),
            1 => Ok(Self::Monotonic),
            _ => Err(Errno::INVAL),
        }
    }
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn step(nanos: u64) -> u64 {
    nanos - nanos % STEP_NANOS
}
