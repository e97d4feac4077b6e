//! Finds out whether this network namespace really sends its traffic to this proxy, and goes on looking: without the
//! rules the pod would be spoken to, and speak, in plain text. Putting them in force is left to `redirect`.
//!
//! The proxy has no right to read the rules, so it tries them: one of them sends what this user sends to one address of
//! loopback to the outbound listener, and the listener answers. All rules are one table, which the kernel takes as a
//! whole.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use causeway_mesh::redirect::SELF_TEST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::drain::{Drain, Phase};

/// What the outbound listener says to a connection of the test.
const ANSWER: &[u8] = b"causeway-proxy\n";
/// A test that takes longer says nothing either way.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tests while the rules are missing, and while they hold.
const SOON: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(15);

/// What the last test that said something said.
#[derive(Debug, Default)]
pub struct Redirection {
    is_in_force: AtomicBool,
}

impl Redirection {
    /// Whether traffic was redirected to this proxy when it was tried last.
    pub fn is_in_force(&self) -> bool {
        self.is_in_force.load(Ordering::Acquire)
    }

    /// Tests until the proxy drains.
    pub async fn follow(&self, drain: Drain) {
        let mut is_first = true;
        while drain.phase() == Phase::Serving {
            if let Some(found) = test().await {
                let was = self.is_in_force.swap(found, Ordering::AcqRel);
                if !found && (was || is_first) {
                    tracing::error!(
                        "this pod's traffic is not redirected to this proxy: the nftables table `inet causeway` is \
                         missing or made for another user or port; let `causeway-proxy redirect --apply` run first, \
                         with --proxy-uid as this process's user"
                    );
                }
                if found && !was {
                    tracing::info!("redirection is in force");
                }
                is_first = false;
            }
            let wait = if self.is_in_force() { LATER } else { SOON };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = drain.reached(Phase::Draining) => {}
            }
        }
    }
}

/// None: neither in force nor missing, as when descriptors run out.
async fn test() -> Option<bool> {
    let exchange = async {
        let mut said = Vec::new();
        TcpStream::connect(SELF_TEST).await?.take(64).read_to_end(&mut said).await?;
        io::Result::Ok(said)
    };
    match timeout(PATIENCE, exchange).await {
        Ok(Ok(said)) => Some(said == ANSWER),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Some(false),
        _ => None,
    }
}

/// Answers a connection of the test, at the outbound listener.
pub async fn answer(mut stream: TcpStream) {
    // Who hangs up early learns nothing, which is what it asked for.
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
}
