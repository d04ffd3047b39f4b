//! The calendar, in UTC.

/// A moment as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// 1 to 31.
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) millisecond: i64,
    /// 1 to 53, of ISO 8601: weeks begin on Monday, the first has the year's first Thursday.
    pub(crate) week: i64,
}

const DAY: i64 = 86_400;

impl Civil {
    /// From nanoseconds since 1970.
    pub(crate) fn of(wall: i128) -> Option<Self> {
        let milliseconds = i64::try_from(wall.div_euclid(1_000_000)).ok()?;
        let seconds = milliseconds.div_euclid(1000);
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = date(days);
        Some(Self {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            millisecond: milliseconds.rem_euclid(1000),
            week: week(days),
        })
    }

    /// As Sysmon writes `UtcTime`: `2019-03-02 08:51:00.008`.
    pub(crate) fn text(&self) -> String {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
            millisecond,
            ..
        } = self;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millisecond:03}")
    }
}

/// Years are counted from March, so that a leap day is the last of its year.
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// The number of the week's Thursday among the Thursdays of its year.
fn week(days: i64) -> i64 {
    // 1970 began on a Thursday.
    let weekday = (days + 3).rem_euclid(7);
    let thursday = days - weekday + 3;
    let (year, ..) = date(thursday);
    let mut first = thursday;
    while date(first - 7).0 == year {
        first -= 7;
    }
    (thursday - first) / 7 + 1
}

/// Nanoseconds since 1970 of a `UtcTime` such as `2019-03-02 08:51:00.008`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| (0..=9999).contains(n));
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let mut parts = time.trim_end_matches('Z').splitn(3, ':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second = parts.next()?;
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let digits = fraction.chars().chain("000000000".chars()).take(9);
    let nanoseconds: u64 = digits.collect::<String>().parse().ok()?;
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + number(second)?;
    u64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(nanoseconds)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{Civil, parse};

    #[test]
    fn moments_have_their_date_and_week() {
        let check = |text: &str, week| {
            let civil = Civil::of(parse(text).unwrap().into()).unwrap();
            assert_eq!((civil.text().as_str(), civil.week), (text, week));
        };
        check("1970-01-01 00:00:00.000", 1);
        check("2019-03-02 08:51:00.008", 9);
        check("2024-02-29 23:59:59.999", 9);
        check("2020-12-31 12:00:00.000", 53);
        check("2021-01-01 12:00:00.000", 53);
        check("2021-01-04 00:00:00.000", 1);
        check("2018-12-31 00:00:00.000", 1);
    }

    #[test]
    fn other_texts_are_no_moments() {
        for text in ["", "2019", "2019-03-02", "2019-03-02 x", "a-b-c d:e:f.g"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
