//! The control plane as a proxy and as an attacker meet it: over real sockets, with the real gRPC client.
#![allow(clippy::unwrap_used)]

mod admin;
mod client;
mod identity;
mod process;
mod replicas;
mod scale;
mod watch;
