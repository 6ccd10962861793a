//! Sizes, durations and shares as people write them.

use core::fmt;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// A share from a millionth to one, in millionths: settings are compared, and floats are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    millionths: u32,
}

/// Text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseSizeError {
    /// The text.
    pub text: String,
}

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseDurationError {
    /// The text.
    pub text: String,
}

/// Units of durations, greatest first, and their microseconds.
const DURATIONS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

const MILLION: u32 = 1_000_000;

// === impl Share ===

impl Share {
    /// All of it.
    pub const ONE: Self = Self { millionths: MILLION };

    /// A share of so many millionths, 1 to 1,000,000; none if it is none.
    pub fn of_millionths(millionths: u32) -> Option<Self> {
        (1..=MILLION).contains(&millionths).then_some(Self { millionths })
    }

    /// Reads `0.5`, `1` or `.25`; more than six places behind the point are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let share: f64 = text.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
        Self::of_millionths((share * f64::from(MILLION)) as u32)
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.millionths
    }

    /// This share of `whole`, rounded up.
    pub fn of(self, whole: u64) -> u64 {
        let parts = u128::from(whole) * u128::from(self.millionths);
        // At most `whole`.
        parts.div_ceil(u128::from(MILLION)) as u64
    }
}

/// Reads `512MiB`, `4g`, `100k`, `64MB`, `1048576`. Every unit is a power of 1,024, as Spark's are.
pub fn parse_size(text: &str) -> Result<u64, ParseSizeError> {
    let error = || ParseSizeError { text: text.to_owned() };
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

/// Writes a number of bytes with the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

/// Reads `100ms`, `1s`, `5min`, `2h`, `1d`, `20us`; a plain number is seconds, as Spark's are.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let error = || ParseDurationError { text: text.to_owned() };
    let (number, unit) = split(text);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" => "s".to_owned(),
        "m" => "min".to_owned(),
        unit => unit.to_owned(),
    };
    let known = DURATIONS.iter().find(|(name, _)| *name == unit);
    let (_, micros) = known.ok_or_else(error)?;
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(*micros).map(Duration::from_micros).ok_or_else(error)
}

/// Writes a duration with the largest unit that divides it; less than a microsecond is cut off.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let divides = |(_, unit): &&(&str, u64)| micros.is_multiple_of(u128::from(*unit));
    match DURATIONS.iter().find(divides) {
        Some((name, unit)) if micros > 0 => format!("{}{name}", micros / u128::from(*unit)),
        _ => "0s".to_owned(),
    }
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text.split_at(digits)
}

// === impl ParseSizeError ===

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a size; write it as 512MiB, 4g or a number of bytes", self.text)
    }
}

impl core::error::Error for ParseSizeError {}

// === impl ParseDurationError ===

impl fmt::Display for ParseDurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        write!(f, "{text:?} is not a duration; write it as 100ms, 5min or a number of seconds")
    }
}

impl core::error::Error for ParseDurationError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("4g", 4 << 30),
            ("64MB", 64 << 20),
            ("3k", 3072),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "10gb5", "g", "-1", "1.5g", "99999999999t", "1 g"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis, written) in [
            ("100ms", 100, "100ms"),
            ("1s", 1000, "1s"),
            ("60", 60_000, "1min"),
            ("90s", 90_000, "90s"),
            ("5min", 300_000, "5min"),
            ("5m", 300_000, "5min"),
            ("2H", 7_200_000, "2h"),
            ("1d", 86_400_000, "1d"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(millis)), written);
        }
        assert_eq!(parse_duration("20us"), Ok(Duration::from_micros(20)));
        assert_eq!(format_duration(Duration::from_micros(1500)), "1500us");
        for text in
            ["", "ms", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "9999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_more_than_nothing_and_at_most_all() {
        assert_eq!(Share::parse("1.0"), Some(Share::ONE));
        assert_eq!(Share::parse("0.5").map(|half| half.of(7)), Some(4), "rounded up");
        assert_eq!(Share::ONE.of(u64::MAX), u64::MAX);
        for text in ["0", "1.1", "-0.5", "NaN", "half", ""] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }
}
