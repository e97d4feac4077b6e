//! Causeway's sidecar proxy: acts on what `causeway-mesh` decides.

pub mod accept;
pub mod access_log;
pub mod admin;
pub mod args;
pub mod body;
pub mod bulk;
pub mod clock;
pub mod connect;
pub mod discovery;
pub mod drain;
pub mod endpoint;
pub mod guarded;
pub mod headers;
pub mod identity;
pub mod inbound;
pub mod limit;
pub mod link;
pub mod metrics;
pub mod originate;
pub mod outbound;
pub mod pool;
pub mod redirect;
pub mod redirection;
pub mod relay;
pub mod reply;
pub mod resolve;
pub mod run;
pub mod server;
pub mod simple;
pub mod sniff;
pub mod store;
pub mod target;
mod through;
pub mod tls;
pub mod upgrade;

pub use run::main_from;
