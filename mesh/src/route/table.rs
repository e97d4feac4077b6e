//! The routes of a destination, found by their paths: what `select` answers, without asking hundreds of routes.

use super::{Match, RequestView, Route, Selected};
use crate::text::TextMatch;

/// Below this many routes, asking one after another is quicker.
const FEW: usize = 8;

/// Routes in order of precedence, with their literal paths sorted.
///
/// A route is asked only if its path can begin the request's path, or if it says nothing literal about the path.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    all: Vec<Route>,
    /// Sorted by text, no text twice; empty where there are few routes.
    beginnings: Vec<Beginning>,
    /// Places of routes that any path may take, in order.
    anywhere: Vec<usize>,
}

/// What the paths of some routes begin with.
#[derive(Clone, Debug)]
struct Beginning {
    text: Box<str>,
    /// The longest other beginning that this one begins with.
    parent: Option<usize>,
    /// Places of the routes, in order.
    routes: Vec<usize>,
}

impl From<Vec<Route>> for Routes {
    fn from(all: Vec<Route>) -> Self {
        if all.len() < FEW {
            return Self { all, ..Self::default() };
        }
        let mut anywhere = Vec::new();
        let mut found: Vec<(&str, usize)> = Vec::new();
        for (place, route) in all.iter().enumerate() {
            match route.matches.iter().map(beginning).collect::<Option<Vec<_>>>() {
                Some(texts) if !texts.is_empty() => found.extend(texts.into_iter().map(|text| (text, place))),
                _ => anywhere.push(place),
            }
        }
        found.sort_unstable();
        found.dedup();
        let mut beginnings: Vec<Beginning> = Vec::new();
        for (text, place) in found {
            match beginnings.last_mut() {
                Some(last) if *last.text == *text => last.routes.push(place),
                _ => {
                    let before = beginnings.len().checked_sub(1);
                    let parent = up(&beginnings, before).find(|at| text.starts_with(&*beginnings[*at].text));
                    beginnings.push(Beginning { text: text.into(), parent, routes: vec![place] });
                }
            }
        }
        Self { all, beginnings, anywhere }
    }
}

impl std::ops::Deref for Routes {
    type Target = [Route];

    fn deref(&self) -> &[Route] {
        &self.all
    }
}

impl Routes {
    /// The route of `request`, as [`super::select`] finds it.
    pub fn select(&self, request: &impl RequestView) -> Option<Selected<'_>> {
        if self.all.len() < FEW {
            return super::select(&self.all, request);
        }
        let path = request.path();
        // The last beginning that is not after the path; whatever else begins the path begins that one too.
        let nearest = self.beginnings.partition_point(|b| *b.text <= *path).checked_sub(1);
        let apt = up(&self.beginnings, nearest).filter(|at| path.starts_with(&*self.beginnings[*at].text));
        let lists = apt.map(|at| &*self.beginnings[at].routes).chain([&*self.anywhere]);
        lists.fold(None, |best: Option<Selected<'_>>, places| {
            let before = best.map_or(self.all.len(), |b| b.index);
            places.iter().take_while(|place| **place < before).find_map(|place| self.asked(*place, request)).or(best)
        })
    }

    fn asked(&self, index: usize, request: &impl RequestView) -> Option<Selected<'_>> {
        let route = &self.all[index];
        let by = route.matches.iter().find(|m| m.applies(request));
        (by.is_some() || route.matches.is_empty()).then_some(Selected { index, route, by })
    }
}

/// `from` and its parents.
fn up(beginnings: &[Beginning], from: Option<usize>) -> impl Iterator<Item = usize> {
    std::iter::successors(from, |at| beginnings[*at].parent)
}

/// What every path begins with that this match takes; None where it does not say.
fn beginning(one: &Match) -> Option<&str> {
    match one.path.as_ref().filter(|_| !one.ignore_path_case)? {
        TextMatch::Exact(text) | TextMatch::Prefix(text) => Some(text),
        TextMatch::PathPrefix(text) => Some(text.trim_end_matches('/')),
        TextMatch::Suffix(_) | TextMatch::Regex(_) | TextMatch::Present => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Request, route};
    use super::super::{NamedMatch, select};
    use super::*;

    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["/", "a", "b", "ab", "/a", "Ü"], 0..5).prop_map(|parts| parts.concat())
    }

    fn one() -> impl Strategy<Value = Match> {
        let pattern = (0..6, path()).prop_map(|(kind, text)| match kind {
            0 => Some(TextMatch::Exact(text.into())),
            1 => Some(TextMatch::Prefix(text.into())),
            2 => Some(TextMatch::PathPrefix(text.into())),
            3 => Some(TextMatch::Suffix(text.into())),
            4 => Some(TextMatch::Present),
            _ => None,
        });
        let header = NamedMatch { name: "x".into(), value: TextMatch::Present, invert: false };
        (pattern, any::<bool>(), any::<bool>()).prop_map(move |(path, ignore_path_case, asks)| Match {
            path,
            ignore_path_case,
            headers: if asks { vec![header.clone()] } else { Vec::new() },
            ..Match::default()
        })
    }

    proptest! {
        #[test]
        fn the_table_finds_what_asking_every_route_finds(
            matches in proptest::collection::vec(proptest::collection::vec(one(), 0..3), 0..30),
            paths in proptest::collection::vec(path(), 1..10),
        ) {
            // A route without any match takes everything; few of them, else nothing else is ever found.
            let all: Vec<Route> = matches.into_iter().enumerate().filter(|(n, m)| !m.is_empty() || n % 5 == 4)
                .map(|(n, m)| route(&n.to_string(), m)).collect();
            let table = Routes::from(all.clone());
            for path in paths {
                let request = Request::get(&path);
                let (found, plain) = (table.select(&request), select(&all, &request));
                prop_assert_eq!(found.map(|s| s.index), plain.map(|s| s.index), "{}", path);
                let by = |s: Option<Selected<'_>>| s.and_then(|s| s.by.map(|m| format!("{m:?}")));
                prop_assert_eq!(by(found), by(plain));
            }
        }
    }

    #[test]
    fn the_longest_beginning_does_not_hide_a_shorter_one_that_stands_first() {
        let paths = ["/a/b/c", "/a", "/a/b", "/x", "/y", "/z", "/a/b/c/d", "/"];
        let prefix = |p: &str| Match { path: Some(TextMatch::Prefix(p.into())), ..Match::default() };
        let table = Routes::from(paths.iter().map(|p| route(p, vec![prefix(p)])).collect::<Vec<_>>());
        let at = |path: &str| table.select(&Request::get(path)).map(|s| s.index);
        assert_eq!(
            [at("/a/b/c/d"), at("/a/b/x"), at("/yes"), at("/q"), at("q")],
            [Some(0), Some(1), Some(4), Some(7), None]
        );
    }
}
