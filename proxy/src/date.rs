//! The `Date` of a response (RFC 9110 section 6.6.1), written once a second and not once a response.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use crate::clock;

thread_local! {
    /// The second, and how it is written.
    static TODAY: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Of this second.
pub fn today() -> HeaderValue {
    TODAY.with_borrow_mut(|today| {
        let now = clock::unix();
        match today {
            Some((second, text)) if *second == now => text.clone(),
            _ => {
                let seconds = Duration::from_secs(u64::try_from(now).unwrap_or(0));
                let text = HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + seconds));
                let text = text.unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
                *today = Some((now, text.clone()));
                text
            }
        }
    })
}
