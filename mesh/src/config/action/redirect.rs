//! Where a redirect points.

use super::path::{ChangeError, PathChange};
use crate::text::TextMatch;

/// A redirect; what it leaves out is taken from the request.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Lower case.
    pub scheme: Option<Box<str>>,
    /// Without a port; an IPv6 address in brackets.
    pub host: Option<Box<str>>,
    /// See [`Port`].
    pub port: Port,
    /// None: the request's path and query.
    pub path: Option<PathChange>,
}

/// The port that a redirect names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// That of the request; where the scheme changes, that of the new scheme.
    Kept,
    /// This one.
    Number(u16),
    /// That of the scheme, which is never written.
    OfScheme,
}

/// The request as it names its target.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `http` or `https`
    pub scheme: &'a str,
    /// Host as in the authority, an IPv6 address in brackets.
    pub host: &'a str,
    /// Port of the authority, where it has one.
    pub port: Option<u16>,
    /// Normalised.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
}

impl Redirect {
    /// The absolute URI for `Location`. `by` as in [`PathChange::apply`].
    ///
    /// A port that is the scheme's own is never written (Gateway API, `HTTPRequestRedirectFilter.port`).
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn location(&self, asked: &Asked<'_>, by: Option<&TextMatch>) -> Result<String, ChangeError> {
        let scheme = self.scheme.as_deref().unwrap_or(asked.scheme);
        let host = self.host.as_deref().unwrap_or(asked.host);
        let port = match self.port {
            Port::Number(port) => Some(port),
            Port::Kept if scheme == asked.scheme => asked.port,
            Port::Kept | Port::OfScheme => None,
        };
        let path = match &self.path {
            Some(change) => change.apply(asked.path, asked.query, by)?,
            None => match asked.query {
                Some(query) => format!("{}?{query}", asked.path),
                None => asked.path.to_owned(),
            },
        };
        let own = if scheme == "https" { 443 } else { 80 };
        Ok(match port.filter(|port| *port != own) {
            Some(port) => format!("{scheme}://{host}:{port}{path}"),
            None => format!("{scheme}://{host}{path}"),
        })
    }
}
