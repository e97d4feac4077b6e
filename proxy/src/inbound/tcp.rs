//! Bytes that come in: judged when the connection begins, and again whenever policy changes.

use std::sync::Arc;

use bytes::BytesMut;
use causeway_mesh::policy::{Decision, Permit, authorize_tcp};
use tokio::io::AsyncWriteExt;

use super::{Conn, close_with};
use crate::access_log::Line;
use crate::clock;
use crate::connect::{self, CONNECT_TIMEOUT, Upstream};
use crate::drain::Phase;
use crate::relay::{self, Io};
use crate::reply::Refusal;

/// Judges the connection, connects to the application and relays.
pub async fn serve<S: Io>(conn: Arc<Conn>, stream: S, first: BytesMut) {
    // Followed from before the first verdict, so that no change falls between the two.
    let follow = conn.follow();
    let permit = match conn.judge_tcp() {
        Ok(permit) => permit,
        Err(refusal) => return refused(&conn, stream, &first, &refusal).await,
    };
    match connect::tcp(conn.app.address(), CONNECT_TIMEOUT).await {
        Ok(upstream) => relay(&conn, permit, stream, first, Upstream::Plain(upstream), follow).await,
        Err(refusal) => refused(&conn, stream, &BytesMut::new(), &refusal).await,
    }
}

/// As [`serve`], where the application has been connected to and spoke first.
pub async fn serve_started<S: Io>(conn: Arc<Conn>, mut stream: S, first: BytesMut, upstream: Upstream, said: BytesMut) {
    let follow = conn.follow();
    match conn.judge_tcp() {
        Ok(permit) => {
            if stream.write_all(&said).await.is_ok() {
                conn.series.tcp_bytes(said.len() as u64, 0);
                relay(&conn, permit, stream, first, upstream, follow).await;
            }
        }
        Err(refusal) => refused(&conn, stream, &first, &refusal).await,
    }
}

async fn refused<S: Io>(conn: &Conn, stream: S, first: &BytesMut, refusal: &Refusal) {
    conn.inbound.metrics.refuse("inbound", refusal.reject.code());
    let (peer, app) = (conn.peer_text(), conn.app.address());
    tracing::info!(%peer, %app, reason = %refusal.header(), "connection refused");
    if conn.inbound.log.is_on() {
        conn.inbound.log.write(conn.line(&refusal.header(), refusal.reject.flag()));
    }
    let looks_like_http = causeway_mesh::detect::classify(first) == causeway_mesh::detect::Detected::Http1;
    if looks_like_http {
        close_with(stream, refusal).await;
    }
}

async fn relay<S: Io>(
    conn: &Arc<Conn>,
    _permit: Permit,
    stream: S,
    first: BytesMut,
    mut upstream: Upstream,
    follow: impl Future<Output = ()>,
) {
    let started = clock::now();
    conn.series.tcp_opened();
    conn.series.tcp_bytes(0, first.len() as u64);
    let copied = async {
        upstream.write_all(&first).await?;
        drop(first);
        let (sent, result) = relay::run_reported(stream, upstream, Some(&conn.series), None).await;
        result.map(|()| sent)
    };
    let (flags, sent) = tokio::select! {
        result = copied => {
            let result: std::io::Result<u64> = result;
            (if result.is_ok() { "-" } else { "UC" }, result.unwrap_or(0))
        }
        () = follow => {
            tracing::info!(peer = %conn.peer_text(), app = %conn.app.address(), "connection cut: policy changed");
            conn.inbound.metrics.refuse("inbound", causeway_mesh::reject::Reject::Denied.code());
            ("DC", 0)
        }
        () = conn.inbound.drain.reached(Phase::Abort) => ("DC", 0),
    };
    conn.series.tcp_closed();
    if conn.inbound.log.is_on() {
        let duration_ms = clock::now().duration_since(started).as_secs_f64() * 1e3;
        conn.inbound.log.write(Line { duration_ms, bytes_sent: sent, ..conn.line("", flags) });
    }
}

impl Conn {
    /// The verdict on bytes, by the policy of now.
    pub fn judge_tcp(&self) -> Result<Permit, Refusal> {
        let policy = self.inbound.own.inbound();
        match authorize_tcp(&policy, &self.peer, self.app.address().port()) {
            Decision::Allow(permit) => Ok(permit),
            Decision::Deny(denied) => Err(super::http::denied(&policy, &denied)),
        }
    }

    /// Returns when a change of policy denies what it allowed before.
    pub fn follow(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let conn = Arc::clone(self);
        let mut changes = self.inbound.own.changes();
        async move {
            loop {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await; // no more changes: keep the last verdict
                }
                if conn.judge_tcp().is_err() {
                    return;
                }
            }
        }
    }

    /// Who is at the other end, for logs.
    pub fn peer_text(&self) -> String {
        self.peer.id().map_or_else(|| "anonymous".to_owned(), ToString::to_string)
    }

    fn line(&self, error: &str, flags: &'static str) -> Line {
        Line {
            direction: "inbound",
            kind: "tcp",
            peer: self.peer_text(),
            upstream: self.app.address().to_string(),
            error: error.to_owned(),
            flags,
            ..Line::default()
        }
    }
}
