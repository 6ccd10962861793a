//! What the value of a setting may be, said once: errors, documentation and checks come from it.

use super::units::{Share, format_duration, format_size, parse_duration, parse_size};
use core::fmt;
use core::time::Duration;

/// What fits a setting. Its display is what follows "expected".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from one to another.
    Count(u32, u32),
    /// Bytes from one number to another.
    Size(u64, u64),
    /// A time from one to another; a plain number is seconds.
    Time(Duration, Duration),
    /// A time of at most so much; a plain number is milliseconds.
    Wait(Duration),
    /// A share of something.
    Share,
    /// Yes or no.
    Truth,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Another kind, or no limit.
    OrInfinity(&'static Kind),
    /// Where to listen, or whom to dial. Names are not looked up here.
    Address,
    /// An IP address.
    Ip,
    /// Ports, both ends included.
    Ports,
    /// A file or directory.
    Path,
    /// Any text.
    Text,
    /// A text that nobody else may read.
    Secret,
}

/// What is written for no limit and for no timeout.
pub(super) const NONE: [&str; 3] = ["infinity", "unlimited", "never"];

// === impl Kind ===

impl Kind {
    /// Whether the text fits.
    pub fn fits(self, text: &str) -> bool {
        match self {
            Self::Count(min, max) => count(text, min, max).is_some(),
            Self::Size(min, max) => size(text, min, max).is_some(),
            Self::Time(min, max) => time(text, min, max).is_some(),
            Self::Share => Share::parse(text).is_some(),
            Self::Truth => text.parse::<bool>().is_ok(),
            Self::Word(words) => words.contains(&text),
            Self::OrInfinity(kind) => NONE.contains(&text) || kind.fits(text),
            Self::Address => text
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
            Self::Ip => text.parse::<core::net::IpAddr>().is_ok(),
            Self::Ports => ports(text).is_some(),
            Self::Path => !text.is_empty(),
            // Read by the one who uses it.
            Self::Wait(_) | Self::Text | Self::Secret => true,
        }
    }

    /// Whether a number without quotes may stand for it, where texts have quotes.
    pub fn is_number(self) -> bool {
        match self {
            Self::OrInfinity(kind) => kind.is_number(),
            Self::Count(..) | Self::Size(..) | Self::Time(..) | Self::Wait(_) | Self::Share => true,
            _ => false,
        }
    }

    /// Whether a text in quotes may stand for it.
    pub fn is_text(self) -> bool {
        !matches!(self, Self::Count(..) | Self::Share | Self::Truth)
    }
}

pub(super) fn count(text: &str, min: u32, max: u32) -> Option<u32> {
    text.parse().ok().filter(|number| (min..=max).contains(number))
}

pub(super) fn size(text: &str, min: u64, max: u64) -> Option<u64> {
    parse_size(text).ok().filter(|bytes| (min..=max).contains(bytes))
}

pub(super) fn time(text: &str, min: Duration, max: Duration) -> Option<Duration> {
    parse_duration(text).ok().filter(|time| (min..=max).contains(time))
}

fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Size(min, max) => {
                write!(f, "a size from {} to {}", format_size(*min), format_size(*max))
            }
            Self::Time(min, max) => {
                let [min, max] = [*min, *max].map(format_duration);
                write!(f, "a duration from {min} to {max}")
            }
            Self::Wait(max) => {
                let max = format_duration(*max);
                write!(f, "0 or a time such as 100ms or 3s, at most {max}")
            }
            Self::Share => f.write_str("a share, more than 0 and at most 1"),
            Self::Truth => f.write_str("true or false"),
            Self::Word(words) => match words.split_last() {
                Some((last, [])) => f.write_str(last),
                Some((last, rest)) => write!(f, "{} or {last}", rest.join(", ")),
                None => Ok(()),
            },
            Self::OrInfinity(kind) => write!(f, "{kind}, or infinity"),
            Self::Address => f.write_str("ADDR:PORT"),
            Self::Ip => f.write_str("an IP address"),
            Self::Ports => f.write_str("ports as A-B with A <= B"),
            Self::Path => f.write_str("a path"),
            Self::Text | Self::Secret => f.write_str("a text"),
        }
    }
}
