//! The `Date` header of answers, always by the present clock.
//!
//! hyper (1.x) would write a date itself, but reuses it until the clock has passed the next second: after the clock was set back by
//! an hour, say, every answer would bear a time in the future for that hour. Therefore the date is set here; hyper keeps one that is set.

use http::header::{DATE, Entry, HeaderMap, HeaderValue};
use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first time that HTTP can't write: its dates have four digits for the year.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept(None)) };
}

/// Sets an answer's `Date`, unless the function set one itself.
pub(crate) fn stamp(headers: &mut HeaderMap) {
    if let Entry::Vacant(place) = headers.entry(DATE)
        && let Some(date) = KEPT.with_borrow_mut(|kept| kept.at(SystemTime::now()))
    {
        place.insert(date);
    }
}

/// The text of the second that was asked for last, reused until another second, later or earlier, is asked for.
struct Kept(Option<(u64, HeaderValue)>);

impl Kept {
    /// The text for `now`; `None` for a time that HTTP can't write.
    fn at(&mut self, now: SystemTime) -> Option<HeaderValue> {
        let since = now.duration_since(UNIX_EPOCH).ok()?;
        let second = since.as_secs();
        if let Some((kept, date)) = &self.0
            && *kept == second
        {
            return Some(date.clone());
        }
        if since >= YEAR_10000 {
            return None;
        }
        let date = HeaderValue::try_from(httpdate::fmt_http_date(now)).ok()?;
        self.0 = Some((second, date.clone()));
        Some(date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_follows_the_clock_in_both_directions() {
        let mut kept = Kept(None);
        let mut at = |seconds: f64| {
            let date = kept.at(UNIX_EPOCH + Duration::from_secs_f64(seconds));
            date.map(|date| date.to_str().expect("ASCII").to_owned())
        };
        let first = Some("Thu, 29 Feb 2024 12:34:56 GMT".to_owned());
        assert_eq!(at(1_709_210_096.0), first);
        assert_eq!(at(1_709_210_096.9), first);
        assert_eq!(
            at(1_709_210_097.0).as_deref(),
            Some("Thu, 29 Feb 2024 12:34:57 GMT")
        );
        // The clock was set back by an hour.
        assert_eq!(
            at(1_709_206_496.0).as_deref(),
            Some("Thu, 29 Feb 2024 11:34:56 GMT")
        );
        assert_eq!(at(1_709_210_096.5), first);
        assert_eq!(kept.at(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(kept.at(UNIX_EPOCH + YEAR_10000), None);
    }

    #[test]
    fn a_date_that_is_there_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(
            DATE,
            HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"),
        );
        let before = headers.clone();
        stamp(&mut headers);
        assert_eq!(headers, before);
        headers.clear();
        stamp(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
