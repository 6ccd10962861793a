//! How much of the cluster somebody has, in one number.

use offshoot_proto::tenant::TenantRules;
use offshoot_proto::waiting::Size;

/// A part of the cluster divided by a weight, in units of 2^-42.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u64);

/// A height: who has so many cores, or so much memory, has this part of the whole.
pub(super) struct Bar {
    pub(super) cores: u64,
    pub(super) memory_bytes: u64,
}

/// The larger part of the whole: 1 << 32 is all of it.
///
/// Memory counts in steps, so that one division of 64 bits does: of a byte below 4 GiB, of more a
/// step is between the whole's 2^32nd and 2^31st part.
pub(super) fn part(used: Size, total: Size) -> u64 {
    let shift = step(total);
    let (memory, all_memory) = (used.memory_bytes >> shift, total.memory_bytes >> shift);
    let (cores, all_cores) = (u64::from(used.cores), u64::from(total.cores));
    if memory >> 32 == 0 && all_cores > 0 && all_memory > 0 {
        let (part, all) = match cores * all_memory >= memory * all_cores {
            true => (cores, all_cores),
            false => (memory, all_memory),
        };
        return ((part << 32) / all).min(PART_MAX);
    }
    quotient(cores, all_cores).max(quotient(memory, all_memory)).min(PART_MAX)
}

/// The lesser part of the whole, of the cores alone if memory does not count. No more than all.
pub(super) fn least_part(size: Size, total: Size, has_memory: bool) -> u64 {
    let of = |size: u64, total: u64| (size.min(total) << 32).checked_div(total).unwrap_or(0);
    let cores = of(size.cores.into(), total.cores.into());
    if !has_memory {
        return cores;
    }
    let shift = step(total);
    cores.min(of(size.memory_bytes >> shift, total.memory_bytes >> shift))
}

/// Bits of a number of bytes that do not count.
fn step(total: Size) -> u32 {
    (u64::BITS - total.memory_bytes.leading_zeros()).saturating_sub(32)
}

fn quotient(used: u64, total: u64) -> u64 {
    let part = (u128::from(used) << 32).checked_div(total.into()).unwrap_or(0);
    u64::try_from(part).unwrap_or(PART_MAX).min(PART_MAX)
}

/// Of a cluster that has lost nearly all that is in use: parts times 2^10 fit 64 bits.
const PART_MAX: u64 = 1 << 50;

/// The part of the whole that somebody is guaranteed.
pub(crate) fn guarantee(rules: &TenantRules, total: Size) -> u64 {
    let guaranteed =
        Size { cores: rules.cores_guaranteed, memory_bytes: rules.memory_bytes_guaranteed };
    part(guaranteed, total)
}

/// Whether who has so much has what it is guaranteed, by [`guarantee`].
pub(crate) fn is_guaranteed(guaranteed: u64, used: Size, total: Size) -> bool {
    part(used, total) >= guaranteed
}

// === impl Bar ===

impl Bar {
    /// The least that is as much as this part.
    pub(super) fn at(part: u64, total: Size) -> Self {
        let shift = step(total);
        let of = |total: u64| match total {
            0 => u64::MAX,
            total => u64::try_from((u128::from(part) * u128::from(total)).div_ceil(1 << 32))
                .unwrap_or(u64::MAX),
        };
        Self {
            cores: of(total.cores.into()),
            memory_bytes: of(total.memory_bytes >> shift).saturating_mul(1 << shift),
        }
    }
}

// === impl Level ===

impl Level {
    /// Of somebody with this weight who has `used` of `total`.
    pub fn new(used: Size, total: Size, weight: u32) -> Self {
        Self::of(part(used, total), weight)
    }

    /// Of somebody with this weight who has this part of the whole.
    pub(super) fn of(part: u64, weight: u32) -> Self {
        match weight {
            0 | 1 => Self(part << 10),
            weight => Self((part << 10) / u64::from(weight)),
        }
    }

    /// Less than 2^61.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}
