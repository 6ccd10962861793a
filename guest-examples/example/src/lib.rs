//! What several examples share: how they begin and end, and numbers for data that is made up.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::process::ExitCode;

/// Exit code of a program whose arguments are wrong.
const MISUSED: u8 = 2;

/// The `main` of a job. `parse` reads its arguments, of which the first is the program's name, and
/// says `None` if they are wrong: then `usage`, which begins with the name, too, is printed. `run`
/// prints what comes out; what it says is wrong is told behind the name.
pub fn main<J, E: Display>(
    usage: &str,
    parse: impl FnOnce(&[String]) -> Option<J>,
    run: impl FnOnce(J) -> Result<(), E>,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(job) = parse(&arguments) else {
        eprintln!("usage: {usage}");
        return ExitCode::from(MISUSED);
    };
    match run(job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let name = usage.split(' ').next().unwrap_or_default();
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An argument that must be at least 1.
pub fn positive<N: std::str::FromStr + PartialOrd + From<u8>>(argument: &str) -> Option<N> {
    argument.parse().ok().filter(|number| *number >= N::from(1))
}

/// A number that looks random, always the same for the same one (SplitMix64: Steele, Lea, Flood).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{mix, positive};
    use std::collections::BTreeSet;

    #[test]
    fn numbers() {
        assert_eq!(positive::<u32>("7"), Some(7));
        for wrong in ["0", "", "x", "-1", "4294967296"] {
            assert_eq!(positive::<u32>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_looks_random_is_spread() {
        let mixed: BTreeSet<u64> = (0..1000).map(mix).collect();
        assert_eq!(mixed.len(), 1000);
        let ones: u32 = mixed.iter().map(|number| number.count_ones()).sum();
        assert!((31_000..33_000).contains(&ones), "{ones}");
    }
}
