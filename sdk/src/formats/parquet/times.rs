//! Dates, times and decimals as text and back, exactly.

/// Nanoseconds of a day.
const DAY: i128 = 86_400 * SECOND;

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

/// `2024-02-29` of days since 1970, in the proleptic Gregorian calendar.
pub(crate) fn date_text(days: i64) -> String {
    // Howard Hinnant's `civil_from_days`. No column has days that do not fit 48 bits.
    let shifted = days.clamp(-(1 << 48), 1 << 48) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let sign = if year < 0 { "-" } else { "" };
    let mut text = String::with_capacity(sign.len() + 10);
    text.push_str(sign);
    digits(&mut text, year.unsigned_abs(), 4);
    text.push('-');
    digits(&mut text, month.unsigned_abs(), 2);
    text.push('-');
    digits(&mut text, day.unsigned_abs(), 2);
    text
}

/// At least so many digits of a number: what `format!` does, in fewer steps.
fn digits(text: &mut String, number: u64, least: u32) {
    let more = (least..20).take_while(|digits| number >= 10u64.pow(*digits)).count() as u32;
    for place in (0..least + more).rev() {
        text.push(char::from(b'0' + (number / 10u64.pow(place) % 10) as u8));
    }
}

/// Days since 1970 of `2024-02-29`.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut parts = rest.splitn(3, '-');
    let mut number = |least: usize| {
        let part = parts.next()?;
        let digits = part.len() >= least && part.len() <= 6;
        (digits && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
        part.parse::<i64>().ok()
    };
    let (year, month, day) = (sign * number(4)?, number(2)?, number(2)?);
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // The 30th of February is no date.
    (date_text(days) == format!("{}{rest}", if sign < 0 { "-" } else { "" })).then_some(days)
}

/// `12:34:56.789` of nanoseconds since midnight; no more digits than there are.
pub(crate) fn time_text(nanos: i128) -> String {
    let (seconds, fraction) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    let seconds = seconds as u64;
    let mut text = String::with_capacity(18);
    digits(&mut text, seconds / 3600, 2);
    text.push(':');
    digits(&mut text, seconds / 60 % 60, 2);
    text.push(':');
    digits(&mut text, seconds % 60, 2);
    if fraction > 0 {
        text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
    }
    text
}

/// Nanoseconds since midnight of `12:34:56.789`.
pub(crate) fn parse_time(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let mut number = |below: i128| {
        let part = parts.next()?;
        let fits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let number: i128 = fits.then(|| part.parse().ok())??;
        (number < below).then_some(number)
    };
    let seconds = number(24)? * 3600 + number(60)? * 60 + number(60)?;
    let digits = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if parts.next().is_some() || !digits {
        return None;
    }
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds * SECOND + fraction)
}

/// `2024-02-29T12:34:56.789` of nanoseconds since 1970, with `Z` behind it if it is an instant.
pub(crate) fn timestamp_text(nanos: i128, utc: bool) -> String {
    let (days, time) = (nanos.div_euclid(DAY), nanos.rem_euclid(DAY));
    let date = date_text(i64::try_from(days).unwrap_or(i64::MAX));
    format!("{date}T{}{}", time_text(time), if utc { "Z" } else { "" })
}

/// Nanoseconds since 1970 of what [`timestamp_text`] writes; a space may be there for the `T`, and
/// the time may be missing.
pub(crate) fn parse_timestamp(text: &str) -> Option<i128> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    Some(i128::from(parse_date(date)?) * DAY + parse_time(time)?)
}

/// `-12.30` of -1230 and two digits behind the point.
pub(crate) fn decimal_text(unscaled: i128, scale: u32) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

/// The digits of a decimal with so many of them behind the point; nothing if it has more.
pub(crate) fn parse_decimal(text: &str, scale: u32) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || fraction.len() > scale as usize {
        return None;
    }
    format!("{sign}{whole}{fraction:0<width$}", width = scale as usize).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_ones() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (11_016, "2000-02-29"),
            (-25_509, "1900-02-28"),
            (-25_508, "1900-03-01"),
            (2_932_896, "9999-12-31"),
            (-719_528, "0000-01-01"),
        ] {
            assert_eq!(date_text(days), text);
            assert_eq!(parse_date(text), Some(days));
        }
        for text in ["2023-02-29", "2024-13-01", "2024-1-01", "24-01-01", "2024-01", "x", ""] {
            assert_eq!(parse_date(text), None, "{text}");
        }
        assert_eq!(timestamp_text(-1, true), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(parse_timestamp("1970-01-02 00:00:01.5"), Some(DAY + 3 * SECOND / 2));
        for text in ["24:00:00", "1:00:00", "00:00", "00:00:60", "00:00:00.1234567890"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(decimal_text(-5, 2), "-0.05");
        assert_eq!(parse_decimal("1.500", 1), Some(15));
        for text in ["1.55", "", ".5", "1e3", "--1", "1.-5"] {
            assert_eq!(parse_decimal(text, 1), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(
            days in -1_000_000i64..10_000_000, nanos in i64::MIN..i64::MAX, unscaled: i64,
            scale in 0u32..38,
        ) {
            prop_assert_eq!(parse_date(&date_text(days)), Some(days));
            let nanos = i128::from(nanos);
            prop_assert_eq!(parse_timestamp(&timestamp_text(nanos, true)), Some(nanos));
            let unscaled = i128::from(unscaled);
            prop_assert_eq!(parse_decimal(&decimal_text(unscaled, scale), scale), Some(unscaled));
        }
    }
}
