//! How large the future of a request is: it is moved a few times, all of it, whatever it holds at the moment.

use std::sync::Arc;

use crate::body::Received;
use bytes::BytesMut;
use http::Request;
use tokio::net::TcpStream;

use super::{Named, Outbound, handle, serve};
use crate::accept::Accepted;
use crate::guarded::Verdict;
use crate::outbound::dial::Endpoint;
use crate::sniff::Heard;
use crate::target::Target;

/// What is rare stands in boxes of its own.
const MOST: usize = 4800;

/// A connection that waits for its next request: the boxes in which it is served.
const IDLE: usize = 3300;

#[test]
fn a_connection_takes_little_while_it_is_idle() {
    fn size<A, F>(_never_called: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
    let accepted = size(|(outbound, accepted): (Arc<Outbound>, Accepted)| outbound.serve(accepted));
    type Found = (Arc<Outbound>, TcpStream, Arc<Target>, Named, (BytesMut, Heard<Endpoint>));
    let found = size(|(o, stream, target, named, found): Found| o.serve_found(stream, target, named, found));
    let served = size(|(o, stream, first, named)| serve::<TcpStream>(o, stream, first, named));
    assert!(accepted + found + served <= IDLE, "{accepted} + {found} + {served} bytes");
}

#[test]
fn the_future_of_a_request_stays_small() {
    fn size<A, F>(_never_called: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
    type Asked = (&'static Arc<Outbound>, &'static Named, Request<Received>, Option<Arc<Verdict>>);
    let handled = size(|(outbound, named, request, verdict): Asked| handle(outbound, named, request, verdict));
    assert!(handled <= MOST, "{handled} bytes");
}
