//! Which route a request takes. The compiler sorts routes by precedence; here the first that matches wins.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crate::config::action::{Action, Filters, Retry};
use crate::split::{Split, any_value_matches};
use crate::text::TextMatch;

mod table;

pub use table::Routes;

/// One route with what it does.
#[derive(Clone, Debug)]
pub struct Route {
    /// `namespace/name#index` of the rule that it comes from.
    pub name: Arc<str>,
    /// Any of them; none at all means every request.
    pub matches: Vec<Match>,
    /// What becomes of the request.
    pub action: Action,
    /// For the whole request, from its head to the end of the response's head, retries included.
    pub timeout: Option<Duration>,
    /// What is done with the request and its response on the way; None where nothing is.
    pub filters: Option<Box<Filters>>,
    /// When it is sent again. None: only what no application has seen, to another endpoint.
    pub retry: Option<Box<Retry>>,
}

impl Route {
    /// Where it goes, unless it is answered by the proxy.
    pub fn split(&self) -> Option<&Split> {
        match &self.action {
            Action::Split(split) => Some(split),
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }
}

/// All present parts must match.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// On the path alone, without the query.
    pub path: Option<TextMatch>,
    /// Exact, case-sensitive (RFC 9110 section 9.1).
    pub method: Option<Box<str>>,
    /// Names in lower case.
    pub headers: Vec<NamedMatch>,
    /// Names are case-sensitive, values as they stand in the query, the first of each name.
    pub queries: Vec<NamedMatch>,
    /// On the lower-cased host without a port.
    pub authority: Option<TextMatch>,
    /// On the method by pattern, where `method` does not say it all.
    pub method_match: Option<TextMatch>,
    /// On `http` or `https`.
    pub scheme: Option<TextMatch>,
    /// Whether `path`, exact or a prefix, is compared without ASCII case.
    pub ignore_path_case: bool,
}

/// A pattern on a named value.
#[derive(Clone, Debug)]
pub struct NamedMatch {
    /// Header or query parameter.
    pub name: Box<str>,
    /// What its value must be.
    pub value: TextMatch,
    /// Matches when the pattern does not.
    pub invert: bool,
}

/// A request as routing and policy see it; borrowed, so that looking at it copies nothing.
pub trait RequestView {
    /// Normalised path without the query.
    fn path(&self) -> &str;
    /// Query without the `?`, empty where there is none.
    fn query(&self) -> &str;
    /// Method.
    fn method(&self) -> &str;
    /// Host in lower case, without port and trailing dot.
    fn host(&self) -> &str;
    /// Scheme as the client named it, `http` where it did not.
    fn scheme(&self) -> &str {
        "http"
    }
    /// The values of header `name` (lower case) that are text, in order.
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str>;
}

/// The route that a request takes, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'r> {
    /// Place of the route in the table.
    pub index: usize,
    /// The route.
    pub route: &'r Route,
    /// The first of its matches that applies; None where it has none.
    pub by: Option<&'r Match>,
}

/// The route of `request`: the first in `routes` (sorted by [`precedence`]) of which any match applies.
/// [`Routes::select`] finds the same without asking every one.
pub fn select<'r>(routes: &'r [Route], request: &impl RequestView) -> Option<Selected<'r>> {
    routes.iter().enumerate().find_map(|(index, route)| {
        let by = route.matches.iter().find(|m| m.applies(request));
        (by.is_some() || route.matches.is_empty()).then_some(Selected { index, route, by })
    })
}

impl Match {
    /// Whether each part that is present matches.
    pub fn applies(&self, request: &impl RequestView) -> bool {
        self.path.as_ref().is_none_or(|p| match self.ignore_path_case {
            true => p.is_match_without_case(request.path()),
            false => p.is_match(request.path()),
        }) && self.method.as_ref().is_none_or(|m| **m == *request.method())
            && self.method_match.as_ref().is_none_or(|m| m.is_match(request.method()))
            && self.scheme.as_ref().is_none_or(|s| s.is_match(request.scheme()))
            && self.authority.as_ref().is_none_or(|a| a.is_match(request.host()))
            && self.headers.iter().all(|h| any_value_matches(&h.value, request.header(&h.name)) != h.invert)
            && self.queries.iter().all(|q| {
                let value = query_value(request.query(), &q.name);
                value.is_some_and(|v| q.value.is_match(v)) != q.invert
            })
    }
}

/// First value of parameter `name`; a parameter without `=` has the empty value.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// What precedence looks at. Built once per match when configuration is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedence {
    /// An exact host, rather than a wildcard.
    pub exact_host: bool,
    /// Length of the host pattern.
    pub host_length: usize,
    /// See [`PathRank`].
    pub path: PathRank,
    /// Whether a method is named.
    pub method: bool,
    /// Number of header matches.
    pub headers: usize,
    /// Number of query matches.
    pub queries: usize,
    /// Creation, seconds since the epoch: the older wins.
    pub created: i64,
    /// `namespace/name`: the lesser wins.
    pub name: String,
    /// Position within the resource.
    pub index: usize,
}

/// Exact path before the longest prefix before a regex before none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRank {
    /// Nothing asked of the path.
    None,
    /// A regex.
    Regex,
    /// A prefix of this many bytes.
    Prefix(usize),
    /// The exact path.
    Exact,
}

/// Total order: what is tried first comes first (`Less`). Source: Gateway API, `HTTPRouteRule.matches`.
pub fn precedence(a: &Precedence, b: &Precedence) -> Ordering {
    b.exact_host
        .cmp(&a.exact_host)
        .then(b.host_length.cmp(&a.host_length))
        .then(b.path.cmp(&a.path))
        .then(b.method.cmp(&a.method))
        .then(b.headers.cmp(&a.headers))
        .then(b.queries.cmp(&a.queries))
        .then(a.created.cmp(&b.created))
        .then_with(|| a.name.cmp(&b.name))
        .then(a.index.cmp(&b.index))
}

#[cfg(test)]
pub(crate) mod tests;
