//! Dates as RFC 3339 writes them.

use std::time::Duration;

const SECONDS_PER_DAY: i64 = 86_400;

/// The point in time of a date such as `2026-01-31T18:00:00Z` or `2026-01-31T19:00:00.5+01:00`, since the Unix epoch.
/// A date before the epoch is none.
pub fn parse_rfc3339(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit())?)?,
        None => ("0", rest),
    };
    let [year, month, day] = numbers(date, b'-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, b':', [2, 2, 2])?;
    // A leap second is the first one of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day)?
        .checked_mul(SECONDS_PER_DAY)?
        .checked_add(clock(hour, minute)?)?
        .checked_add(second)?
        .checked_sub(offset_seconds(offset)?)?;
    let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
    let nanoseconds: u64 = format!("{:0<9}", fraction.get(..fraction.len().min(9))?).parse().ok()?;
    (!fraction.is_empty()).then(|| seconds.checked_add(Duration::from_nanos(nanoseconds)))?
}

fn clock(hour: i64, minute: i64) -> Option<i64> {
    hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)
}

fn offset_seconds(text: &str) -> Option<i64> {
    let sign = match text.as_bytes() {
        b"Z" | b"z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let [hour, minute] = numbers(text.get(1..)?, b':', [2, 2])?;
    (hour <= 23 && minute <= 59).then(|| clock(hour, minute)?.checked_mul(sign))?
}

/// Decimal numbers of these lengths with this between them.
fn numbers<const N: usize>(text: &str, delimiter: u8, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(char::from(delimiter));
    let mut read = [0; N];
    for (number, length) in read.iter_mut().zip(lengths) {
        let part = parts.next()?;
        if part.len() != length || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(read)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    const DAYS_BEFORE_MONTH: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month = usize::try_from(month).ok()?;
    let before = *DAYS_BEFORE_MONTH.get(month.checked_sub(1)?)?;
    let length = DAYS_BEFORE_MONTH.get(month)?.checked_sub(before)?;
    let leap_day = i64::from(is_leap(year));
    if day < 1 || day > length.checked_add(if month == 2 { leap_day } else { 0 })? {
        return None;
    }
    let past = year.checked_sub(1)?;
    // From the year 1 to 1969 there were 719 162 days.
    let days_before_year = past.checked_mul(365)?.checked_add(past / 4)?.checked_sub(past / 100)?;
    let days_before_year = days_before_year.checked_add(past / 400)?.checked_sub(719_162)?;
    let leap_day = if month > 2 { leap_day } else { 0 };
    days_before_year.checked_add(before)?.checked_add(leap_day)?.checked_add(day)?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_their_offsets_and_fractions() {
        for (text, milliseconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-01-31T18:00:00Z", 1_769_882_400_000),
            ("2026-01-31t19:30:00.250+01:30", 1_769_882_400_250),
            ("2026-01-31 17:00:00.2500000001-01:00", 1_769_882_400_250),
            ("2024-12-31T23:59:60Z", 1_735_689_600_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse_rfc3339(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "tomorrow",
            "2026-01-31",
            "2026-01-31T18:00:00",
            "2026-01-31T18:00:00.Z",
            "2026-01-31T18:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Zé",
            "20é6-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
