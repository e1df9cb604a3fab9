//! Checks a cron trigger's schedule: five fields, one of the usual words, or `@every DURATION`, each also after a time zone.
//!
//! The original accepts the same.

use croner::parser::{CronParser, Seconds, Year};

/// The named schedules that the original accepts.
const NAMED: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// The units of a Go duration, as in `@every 1h30m`.
const UNITS: [&str; 7] = ["ns", "us", "µs", "ms", "s", "m", "h"];

/// Checks that `schedule` is valid; the error is a sentence that says what to write instead.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let no = |why: &str| {
        let write = "write five fields (minute, hour, day, month, weekday) such as \"*/5 * * * *\", or @hourly, or @every 5m";
        Err(format!("{schedule:?} is no schedule: {why}; {write}"))
    };
    let mut rest = schedule.trim();
    if let Some(zone) = ["CRON_TZ=", "TZ="]
        .iter()
        .find_map(|p| rest.strip_prefix(p))
    {
        let Some((_, after)) = zone.split_once(' ').filter(|(name, _)| !name.is_empty()) else {
            return no("nothing follows the time zone");
        };
        rest = after.trim_start();
    }
    if NAMED.contains(&rest) {
        return Ok(());
    }
    if let Some(duration) = rest.strip_prefix("@every ") {
        return if is_duration(duration.trim()) {
            Ok(())
        } else {
            no("what follows @every is no duration")
        };
    }
    if rest.starts_with('@') {
        return no("nothing is known by that word");
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    match parser.parse(rest) {
        Ok(_) => Ok(()),
        Err(error) => no(&error.to_string()),
    }
}

/// Whether `text` is a positive Go duration: numbers, each with a unit.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    let mut positive = false;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let Ok(number) = number.parse::<f64>() else {
            return false;
        };
        positive |= number > 0.0;
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if !UNITS.contains(&unit) {
            return false;
        }
        rest = after;
    }
    positive
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_the_original_takes_is_taken() {
        for schedule in [
            "*/5 * * * *",
            " 0 9-17 * * MON-FRI ",
            "0 0 1,15 * ?",
            "@hourly",
            "@every 1h30m",
            "@every 1.5s",
            "CRON_TZ=Asia/Tokyo 0 6 * * *",
            "TZ=UTC @daily",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_remedy() {
        for schedule in [
            "",
            "this is no schedule",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "0 0 * * FUNDAY",
            "@fortnightly",
            "@every",
            "@every 5 minutes",
            "@every 0s",
            "@every -5m",
            "TZ=UTC",
            "CRON_TZ= 0 6 * * *",
        ] {
            let why = check(schedule).expect_err(schedule);
            assert!(
                why.contains("is no schedule") && why.contains("*/5 * * * *"),
                "{why}"
            );
        }
    }
}
