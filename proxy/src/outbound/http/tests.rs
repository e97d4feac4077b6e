//! How large the future of a request is: it is moved a few times, all of it, whatever it holds at the moment.

use std::sync::Arc;

use crate::body::Received;
use http::Request;

use super::{Named, Outbound, handle};
use crate::guarded::Verdict;

/// What is rare stands in boxes of its own.
const MOST: usize = 4800;

#[test]
fn the_future_of_a_request_stays_small() {
    fn size<A, F>(_never_called: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
    type Asked = (&'static Arc<Outbound>, &'static Named, Request<Received>, Option<Arc<Verdict>>);
    let handled = size(|(outbound, named, request, verdict): Asked| handle(outbound, named, request, verdict));
    assert!(handled <= MOST, "{handled} bytes");
}
