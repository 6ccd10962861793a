//! Estimates pi by throwing darts at a square: `pi SAMPLES TASKS`.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "usage: pi SAMPLES TASKS (how many darts to throw, and over how many tasks to \
     spread them; both at least 1)";

fn main() -> ExitCode {
    // `args` would bring along code that prints what is not UTF-8.
    let arguments: Vec<String> =
        std::env::args_os().filter_map(|argument| argument.into_string().ok()).collect();
    let [_, samples, tasks] = arguments.as_slice() else {
        return usage();
    };
    let (Ok(samples @ 1..), Ok(tasks @ 1..)) = (samples.parse(), tasks.parse()) else {
        return usage();
    };
    match estimate(samples, tasks) {
        Ok(millionths) => {
            let (whole, rest) = (millionths / 1_000_000, millionths % 1_000_000);
            println!("pi is roughly {whole}.{rest:06}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pi: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// Pi in millionths: printing a float would be a seventh of this module.
fn estimate(samples: u64, tasks: u32) -> Result<u64, Error> {
    let hits = Context::new()
        .range(0..samples, tasks)
        // Every task starts from the same memory, generators included: seed with the partition.
        .map_partitions_with_index(|partition, samples| {
            let mut random = Random(u64::from(partition) + 1);
            let hits = samples.filter(move |_| random.dart()).count();
            [hits as u64]
        })
        .reduce(|left, right| left + right)?;
    Ok((4e6 * hits.unwrap_or(0) as f64 / samples as f64) as u64)
}

/// SplitMix64 (Steele, Lea, Flood).
struct Random(u64);

impl Random {
    /// Whether a dart at a random place of the unit square hits the quarter of the circle.
    fn dart(&mut self) -> bool {
        let (x, y) = (self.coordinate(), self.coordinate());
        x * x + y * y <= 1.0
    }

    /// A number from 0 to 1, below 1.
    fn coordinate(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_million_darts_are_near_pi() {
        let mut random = Random(1);
        let hits = (0..1_000_000).filter(|_| random.dart()).count();
        assert!((3_135_000..3_148_000).contains(&(4 * hits)), "{hits}");
    }
}
