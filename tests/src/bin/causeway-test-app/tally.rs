//! What was received under a key (`x-key`), and failures that end after so many requests with it.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::http::Body;

/// Requests by the value of their `x-key`.
#[derive(Default)]
pub(super) struct Tally(Mutex<HashMap<String, Vec<Value>>>);

impl Tally {
    /// Notes a request that has a key; how many came with it before. What is to fail is read to its end first, so that
    /// the note says what the application would have acted upon.
    pub(super) async fn note(&self, request: &mut Request<Incoming>) -> usize {
        let text =
            |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let key = text("x-key");
        if key.is_empty() {
            return 0;
        }
        let host = request.uri().authority().map_or_else(|| text("host"), ToString::to_string);
        let mut note = json!({
            "host": host, "path": request.uri().to_string(), "attempt": text("x-envoy-attempt-count"),
            "version": text("x-version"), "method": request.method().as_str(),
        });
        if ["/flaky/", "/copied"].iter().any(|start| request.uri().path().starts_with(start)) {
            let (mut length, mut complete) = (0, true);
            while let Some(frame) = request.body_mut().frame().await {
                match frame {
                    Ok(frame) => length += frame.data_ref().map_or(0, bytes::Bytes::len),
                    Err(_) => complete = false,
                }
            }
            note["body"] = json!(length);
            note["complete"] = json!(complete);
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = all.entry(key).or_default();
        noted.push(note);
        noted.len() - 1
    }

    /// What came under `key`.
    pub(super) fn of(&self, key: &str) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!(all.get(key).cloned().unwrap_or_default())
    }
}

/// Of `times/what`: how many requests fail.
pub(super) fn times(rest: &str) -> usize {
    rest.split('/').next().and_then(|times| times.parse().ok()).unwrap_or(0)
}

/// Of `times/what`: a status, `grpc-<code>`, `hang` (for a minute) or `drop` (the connection).
pub(super) async fn fail(rest: &str) -> io::Result<Response<Body>> {
    let what = rest.split('/').nth(1).unwrap_or("503");
    let mut response = Response::new(Empty::new().boxed_unsync());
    match (what, what.strip_prefix("grpc-")) {
        ("drop", _) => return Err(io::Error::other("dropped as asked")),
        ("hang", _) => tokio::time::sleep(Duration::from_secs(60)).await,
        (_, Some(code)) => {
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_str(code).map_err(io::Error::other)?);
        }
        (status, None) => {
            let status = status.parse().ok().and_then(|s| StatusCode::from_u16(s).ok());
            *response.status_mut() = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    Ok(response)
}
