//! The access log: one JSON object a line on standard output, written by a thread of its own so that a slow reader of
//! the log never slows traffic. When its queue is full, lines are dropped and counted.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use serde::Serialize;

use crate::args::AccessLogMode;

const QUEUE: usize = 4096;

/// One request or connection.
#[derive(Serialize, Debug, Default, Clone)]
pub struct Line {
    /// RFC 3339.
    pub time: String,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `http` or `tcp`.
    pub kind: &'static str,
    /// Verified caller (inbound) or own identity (outbound).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Method, empty for TCP.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Authority.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// Path without the query, which may hold secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Route that applied.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// Backend and endpoint that served.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upstream: String,
    /// Status, 0 for TCP.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: u16,
    /// Stable code and subject of a local refusal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Response flag as in the metrics.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub flags: &'static str,
    /// Milliseconds.
    pub duration_ms: f64,
    /// Bytes sent to the caller.
    pub bytes_sent: u64,
    /// `traceparent` as it came (W3C Trace Context).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u16) -> bool {
    *n == 0
}

/// Where lines go.
#[derive(Clone)]
pub struct AccessLog {
    mode: AccessLogMode,
    queue: Option<SyncSender<Line>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the writing thread, unless nothing is to be logged.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(mode: AccessLogMode) -> std::io::Result<Self> {
        let queue = if mode == AccessLogMode::Off {
            None
        } else {
            let (sender, receiver) = sync_channel::<Line>(QUEUE);
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
                let mut out = std::io::BufWriter::new(std::io::stdout());
                while let Ok(line) = receiver.recv() {
                    let mut next = Some(line);
                    while let Some(line) = next {
                        // Nobody to tell when standard output is gone; traffic goes on.
                        let _ = serde_json::to_writer(&mut out, &line);
                        let _ = out.write_all(b"\n");
                        next = receiver.try_recv().ok();
                    }
                    let _ = out.flush();
                }
            })?;
            Some(sender)
        };
        Ok(Self { mode, queue, dropped: Arc::default() })
    }

    /// Whether a line may be wanted at all: building one costs.
    pub fn is_on(&self) -> bool {
        self.mode != AccessLogMode::Off
    }

    /// Queues `line` if the mode wants it.
    pub fn write(&self, mut line: Line) {
        let failed = !line.error.is_empty() || line.status >= 500 || (!line.flags.is_empty() && line.flags != "-");
        let (Some(queue), true) = (&self.queue, failed || self.mode == AccessLogMode::All) else { return };
        line.time = time::OffsetDateTime::from_unix_timestamp(crate::clock::unix())
            .ok()
            .and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok())
            .unwrap_or_default();
        if queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
