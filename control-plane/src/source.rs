//! Where configuration comes from. Every source yields the same events of the same types; nothing after this module
//! knows which source runs. What the resources mean is left to `compile`.

mod core;
pub mod directory;
pub mod kubernetes;
pub mod read;
pub mod resource;
pub mod yaml;

use crate::problem::Problem;
pub use resource::{Key, Kind, Meta, Origin, Resource};

/// One change of the configuration.
#[derive(Clone, Debug)]
pub enum Event {
    /// A resource is new or changed. `problems` are what reading it found (unknown fields and the like).
    Upsert {
        /// The resource as it is now.
        resource: Resource,
        /// What reading it found; replaces what was said of this key before.
        problems: Vec<Problem>,
    },
    /// A resource exists but cannot be used. Its last good version, if any, stays in force.
    Refused {
        /// Which one.
        key: Key,
        /// `metadata.generation` of what was refused, 0 where the source does not say.
        generation: i64,
        /// Why.
        problems: Vec<Problem>,
    },
    /// A resource is gone.
    Delete(Key),
    /// Problems of the source as a whole (unreadable file or directory); replaces what was reported before.
    Report(Vec<Problem>),
    /// Everything that existed at the start has been sent.
    Synced,
}
