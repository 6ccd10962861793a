//! Random bytes of a guest: the system's for `main`, a seeded generator's for a task.
//!
//! The generator is xoshiro256** by Blackman and Vigna, its state filled by SplitMix64, as its
//! authors advise. It makes every attempt of a partition draw the same bytes and partitions draw
//! unrelated ones; it is no source of keys, and a task that could make any would not be repeatable.

use super::errno::Errno;
use offshoot_proto::id::{NodeId, Partition};
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes asked of the system at a time: the most that it gives without being interrupted.
const SYSTEM_BYTES: usize = 256;

/// Where a guest's random bytes come from.
#[derive(Clone, Debug)]
pub enum Random {
    /// The system.
    System,
    /// A generator.
    Seeded(Generator),
}

/// xoshiro256**.
#[derive(Clone, Debug)]
pub struct Generator {
    state: [u64; 4],
}

/// SplitMix64.
struct SplitMix(u64);

// === impl Random ===

impl Random {
    /// That of a task: a function of these three and nothing else.
    pub fn for_task(seed: u64, node: NodeId, partition: Partition) -> Self {
        let place = u64::from(node.0) << 32 | u64::from(partition.0);
        Self::from_seed(SplitMix(seed).next() ^ place)
    }

    /// A generator's.
    pub fn from_seed(seed: u64) -> Self {
        let mut mix = SplitMix(seed);
        Self::Seeded(Generator { state: core::array::from_fn(|_| mix.next()) })
    }

    /// Fills guest memory by stores of our own, never by the kernel's.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Errno> {
        match self {
            Self::System => fill_from_system(bytes),
            Self::Seeded(generator) => {
                generator.fill(bytes);
                Ok(())
            }
        }
    }
}

// === impl Generator ===

impl Generator {
    fn next(&mut self) -> u64 {
        let [_, s1, ..] = self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = s1 << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// Little-endian words; what is left of the last one is dropped.
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(size_of::<u64>()) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

// === impl SplitMix ===

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn fill_from_system(bytes: &mut [u8]) -> Result<(), Errno> {
    let mut drawn = [0; SYSTEM_BYTES];
    for chunk in bytes.chunks_mut(SYSTEM_BYTES) {
        let mut filled = 0;
        while filled < chunk.len() {
            let room = &mut drawn[filled..chunk.len()];
            filled += getrandom(room, GetRandomFlags::empty())?;
        }
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the authors' `xoshiro256starstar.c` from the state 1, 2, 3, 4.
    #[test]
    fn the_generator_is_xoshiro256_star_star() {
        let mut generator = Generator { state: [1, 2, 3, 4] };
        let drawn: [u64; 5] = core::array::from_fn(|_| generator.next());
        assert_eq!(drawn, [11520, 0, 1509978240, 1215971899390074240, 1216172134540287360]);
    }

    /// The first outputs of the authors' `splitmix64.c` from the state 1234567.
    #[test]
    fn the_seeding_is_splitmix64() {
        let mut mix = SplitMix(1_234_567);
        assert_eq!(mix.next(), 6_457_827_717_110_365_317);
        assert_eq!(mix.next(), 3_203_168_211_198_807_973);
    }
}
