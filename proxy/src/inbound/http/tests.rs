//! How large the future of a request is, as on the outbound side.

use std::sync::Arc;

use crate::body::Received;
use http::Request;

use super::{Conn, Verdict, handle};

/// What is rare stands in boxes of its own.
const MOST: usize = 3500;

#[test]
fn the_future_of_a_request_stays_small() {
    fn size<A, F>(_never_called: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
    type Asked = (&'static Arc<Conn>, Request<Received>, Option<Arc<Verdict>>);
    let handled = size(|(conn, request, verdict): Asked| handle(conn, request, verdict));
    assert!(handled <= MOST, "{handled} bytes");
}
