//! Which pages of other origins may read a response, as the Fetch standard has it ("CORS protocol").

use std::time::Duration;

use crate::text::TextMatch;

/// Who may, and what.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Any of them; [`TextMatch::Present`]: every origin.
    pub origins: Vec<TextMatch>,
    /// For the answer to a preflight.
    pub methods: Listed,
    /// For the answer to a preflight: of the request.
    pub headers: Listed,
    /// Of the response, that the page may see.
    pub expose: Listed,
    /// How long a browser may keep the answer to a preflight.
    pub max_age: Option<Duration>,
    /// Whether cookies and other credentials may be sent along.
    pub credentials: bool,
    /// A preflight of another origin goes to the application.
    pub forward_unmatched: bool,
}

/// A list as it stands in a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// The header is left out.
    #[default]
    Nothing,
    /// Whatever is asked for.
    Any,
    /// Joined by `,`.
    These(Box<str>),
}

/// What the request says.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method of the request.
    pub method: &'a str,
    /// `Origin`
    pub origin: Option<&'a str>,
    /// `Access-Control-Request-Method`
    pub wanted_method: Option<&'a str>,
    /// `Access-Control-Request-Headers`
    pub wanted_headers: Option<&'a str>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request is none that this concerns, or of an origin that may not read the response: it goes on, and the
    /// response gets nothing.
    Pass,
    /// The request goes on, and its response gets these headers instead of the application's own.
    Mark(Vec<(&'static str, String)>),
    /// It is a preflight: answered here with these headers, none where the origin may not.
    Answer(Vec<(&'static str, String)>),
}

impl Cors {
    /// Decides on one request.
    pub fn decide(&self, asked: &Asked<'_>) -> Decision {
        let Some(origin) = asked.origin.filter(|origin| !origin.is_empty()) else { return Decision::Pass };
        let is_allowed = self.origins.iter().any(|pattern| pattern.is_match(origin));
        match (asked.wanted_method.filter(|m| asked.method == "OPTIONS" && !m.is_empty()), is_allowed) {
            (Some(method), true) => Decision::Answer(self.preflight(origin, method, asked.wanted_headers)),
            (Some(_), false) if !self.forward_unmatched => Decision::Answer(Vec::new()),
            (None, true) => Decision::Mark(self.actual(origin)),
            (_, false) => Decision::Pass,
        }
    }

    fn preflight(&self, origin: &str, method: &str, headers: Option<&str>) -> Vec<(&'static str, String)> {
        let mut answer = self.origin(origin);
        answer.extend(self.listed("access-control-allow-methods", &self.methods, Some(method)));
        answer.extend(self.listed("access-control-allow-headers", &self.headers, headers));
        if let Some(age) = self.max_age {
            answer.push(("access-control-max-age", age.as_secs().to_string()));
        }
        answer
    }

    fn actual(&self, origin: &str) -> Vec<(&'static str, String)> {
        let mut marks = self.origin(origin);
        marks.extend(self.listed("access-control-expose-headers", &self.expose, None));
        marks
    }

    /// `*` only where the answer is the same for every origin and no credentials are sent, which forbid it.
    fn origin(&self, origin: &str) -> Vec<(&'static str, String)> {
        let is_any = !self.credentials && self.origins.iter().any(|o| matches!(o, TextMatch::Present));
        let mut answer = vec![("access-control-allow-origin", if is_any { "*" } else { origin }.to_owned())];
        if !is_any {
            answer.push(("vary", "origin".to_owned()));
        }
        if self.credentials {
            answer.push(("access-control-allow-credentials", "true".to_owned()));
        }
        answer
    }

    /// With credentials `*` is taken by its letter, so what was asked for is named instead.
    fn listed(&self, name: &'static str, list: &Listed, asked: Option<&str>) -> Option<(&'static str, String)> {
        match (list, asked) {
            (Listed::Nothing, _) => None,
            (Listed::These(these), _) => Some((name, these.clone().into_string())),
            (Listed::Any, Some(asked)) if self.credentials => Some((name, asked.to_owned())),
            (Listed::Any, _) => Some((name, "*".to_owned())),
        }
    }
}
