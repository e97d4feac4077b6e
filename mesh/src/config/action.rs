//! What a route does with a request besides choosing a backend, as pure functions over text: the proxy makes HTTP types
//! of it once for each configuration, and draws and waits itself.

use std::sync::Arc;

use crate::split::Split;

pub mod cors;
pub mod fault;
pub mod headers;
pub mod path;
pub mod redirect;
pub mod retry;

#[cfg(test)]
mod tests;

pub use cors::Cors;
pub use fault::Fault;
pub use headers::{HeaderChanges, is_changeable};
pub use path::{PathChange, RegexChange};
pub use redirect::Redirect;
pub use retry::Retry;

/// Parts per million: the whole.
pub const ALL_PPM: u32 = 1_000_000;

/// What becomes of a request that a route took.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to one of these backends.
    Split(Split),
    /// It is answered here: look elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Direct(Direct),
}

/// A response that the configuration holds whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// 200 to 599.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Arc<[u8]>,
    /// Of the body; None where there is none.
    pub content_type: Option<Box<str>>,
}

/// What is done with a request on its way and with its response. A route that does none of it has none of this.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// To the request, before those of the split's share.
    pub request: HeaderChanges,
    /// To the response, after those of the split's share.
    pub response: HeaderChanges,
    /// What the request's path becomes.
    pub path: Option<PathChange>,
    /// What the request's authority becomes.
    pub authority: Option<Box<str>>,
    /// Copies of the request.
    pub mirrors: Vec<Mirror>,
    /// Whether a browser may let a page of another origin see the response.
    pub cors: Option<Cors>,
    /// What is to go wrong.
    pub fault: Option<Fault>,
}

impl Filters {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty()
            && self.response.is_empty()
            && self.path.is_none()
            && self.authority.is_none()
            && self.mirrors.is_empty()
            && self.cors.is_none()
            && self.fault.is_none()
    }
}

/// A copy of some requests to another backend, whose answer nobody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into the destination's backends.
    pub backend: usize,
    /// Of each million requests; [`ALL_PPM`] is all of them.
    pub share_ppm: u32,
}

impl Mirror {
    /// Whether the request that was drawn `point` (any number) is copied.
    pub fn takes(&self, point: u64) -> bool {
        is_within(self.share_ppm, point)
    }
}

/// Whether `point`, any number, falls into a share of so many parts per million; exact over each million of points.
fn is_within(share_ppm: u32, point: u64) -> bool {
    point % u64::from(ALL_PPM) < u64::from(share_ppm)
}
