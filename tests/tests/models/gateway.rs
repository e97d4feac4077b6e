//! What the documents say of routes of the Gateway API. Sources: docs/gateway-api.md, decision 0009, the comments of
//! `HTTPRouteRule.matches` and `GRPCRouteRule.matches` in the standard.

use crate::routing::{Answer, Specific, endpoints, full_name, is_whole, ready_shares};
use crate::standard::{BROKEN, Backend, Call, Grant, Kind, Match, Named, Parent, PathKind, Route, Rule};
use crate::world::{Question, SERVICES, World};

/// A rule with one of its matches; None: every request.
pub type Entry<'w> = (&'w Rule, Option<&'w Match>);

/// The rule that the standard puts where a HTTPRoute has none.
static EMPTY: Rule = Rule { matches: Vec::new(), backends: Vec::new(), redirects: false };

impl Route {
    /// Whether it is about the Service and port that are asked for.
    pub fn is_attached(&self, question: &Question) -> bool {
        let (namespace, name) = question.service;
        self.parents.iter().any(|p| {
            p.names(self, (namespace, name))
                && p.port.is_none_or(|port| port == question.port)
                && p.section.is_none_or(|section| section == format!("http-{}", question.port))
        })
    }

    /// Its rules, by match, with their place in the list; what is not understood takes nothing.
    pub fn entries(&self) -> Vec<(usize, Entry<'_>)> {
        let rules: Vec<&Rule> = match self.kind {
            Kind::Http if self.rules.is_empty() => vec![&EMPTY],
            _ => self.rules.iter().collect(),
        };
        let mut all = Vec::new();
        for (index, rule) in rules.into_iter().enumerate().filter(|(_, r)| r.matches.iter().all(Match::is_understood)) {
            if rule.matches.is_empty() {
                all.push((index, (rule, None)));
            }
            all.extend(rule.matches.iter().map(|m| (index, (rule, Some(m)))));
        }
        all
    }

    /// What becomes of a request that the rule takes.
    pub fn answer(&self, world: &World, rule: &Rule) -> Answer {
        if rule.redirects || rule.backends.is_empty() {
            return Answer::broken();
        }
        let weight = |b: &Backend| u64::from(b.weight.unwrap_or(1));
        let shares = rule.backends.iter().map(|backend| match self.leads_to(world, backend) {
            Some((service, port)) => (endpoints(world, service, None, port), weight(backend)),
            None => (Answer::error(), weight(backend)),
        });
        ready_shares(shares.collect())
    }

    /// The Service and port of a backend that is valid.
    fn leads_to(&self, world: &World, backend: &Backend) -> Option<((&'static str, &'static str), u16)> {
        let named = (backend.namespace.unwrap_or(self.namespace), backend.name);
        let service = *SERVICES.iter().find(|s| **s == named)?;
        let may_be_named = service.0 == self.namespace
            || self.parents.iter().any(|p| p.names(self, service))
            || world.grants.iter().any(|g| g.lets(self, service));
        let is_valid = may_be_named && backend.kind.is_none_or(|k| k == "Service");
        Some((service, backend.port.filter(|p| is_valid && [80, 81].contains(p))?))
    }
}

impl Parent {
    fn names(&self, of: &Route, service: (&str, &str)) -> bool {
        self.is_service && (self.namespace.unwrap_or(of.namespace), self.name) == service
    }
}

impl Grant {
    fn lets(&self, route: &Route, (namespace, name): (&str, &str)) -> bool {
        self.namespace == namespace
            && self.from.contains(&(route.kind.name(), route.namespace))
            && self.to.iter().any(|(kind, one)| *kind == "Service" && one.is_none_or(|n| n == name))
    }
}

/// How the places of matches are compared: exact path, longest prefix, regular expression, none; method; headers; query.
pub fn specific(by: Option<&Match>) -> Specific {
    let Some(m) = by else { return Specific::default() };
    let path = match (&m.path, &m.call) {
        (Some((PathKind::Exact, _)), _) => (3, 0),
        (Some((PathKind::Regex, _)), _) => (1, 0),
        (Some((_, prefix)), _) => match prefix.trim_end_matches('/').len() {
            // Every path has it.
            0 => (0, 0),
            length => (2, length),
        },
        (None, None) => (0, 0),
        (None, Some(Call { is_regex: false, service: Some(_), method: Some(_) })) => (3, 0),
        (None, Some(Call { is_regex: false, service: Some(service), method: None })) => (2, service.len() + 2),
        (None, Some(_)) => (1, 0),
    };
    (path, m.method.is_some(), first_of_each(&m.headers, true).len(), first_of_each(&m.query, false).len())
}

/// Of equal names the first counts; names of headers are equal whatever their case.
fn first_of_each(all: &[Named], is_header: bool) -> Vec<&Named> {
    let is_same = |a: &str, b: &str| if is_header { a.eq_ignore_ascii_case(b) } else { a == b };
    let is_first = |(index, one): &(usize, &Named)| !all[..*index].iter().any(|before| is_same(before.name, one.name));
    all.iter().enumerate().filter(is_first).map(|(_, one)| one).collect()
}

pub fn applies(by: Option<&Match>, question: &Question) -> bool {
    let Some(m) = by else { return true };
    let header = |asked: &&Named| {
        if asked.name == "Host" {
            // Without its port, in any case.
            let exact = asked.value.trim_end_matches(":80").to_lowercase();
            let host = full_name(question.service);
            return if asked.is_regex { asked.is(&host) } else { exact == host };
        }
        let value = question.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked.name));
        value.is_some_and(|(_, value)| asked.is(value))
    };
    let parameter = |asked: &&Named| {
        let mut pairs = question.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == asked.name).is_some_and(|(_, value)| asked.is(value))
    };
    m.path.as_ref().is_none_or(|(kind, value)| is_path(*kind, value, question.path))
        && m.call.as_ref().is_none_or(|call| call.is(question.path))
        && m.method.is_none_or(|method| method == question.method)
        && first_of_each(&m.headers, true).iter().all(header)
        && first_of_each(&m.query, false).iter().all(parameter)
}

fn is_path(kind: PathKind, value: &str, path: &str) -> bool {
    match kind {
        PathKind::Exact => path == value,
        PathKind::Regex => is_whole(value, path),
        PathKind::Prefix | PathKind::Default => {
            let segments = |path: &str| -> Vec<String> {
                path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
            };
            segments(path).starts_with(&segments(value))
        }
    }
}

impl Match {
    fn is_understood(&self) -> bool {
        self.headers.iter().chain(&self.query).all(|n| !n.is_regex || n.value != BROKEN)
    }
}

impl Named {
    fn is(&self, value: &str) -> bool {
        if self.is_regex { is_whole(self.value, value) } else { value == self.value }
    }
}

impl Call {
    /// A call is a request for `/service/method`.
    fn is(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'));
        let (Some(service), Some(method), None) = (parts.next(), parts.next(), parts.next()) else { return false };
        let is = |asked: Option<&str>, part: &str| {
            asked.is_none_or(|asked| if self.is_regex { is_whole(asked, part) } else { asked == part })
        };
        is(self.service, service) && is(self.method, method)
    }
}
