//! Cross-origin resource sharing.

use super::Report;
use crate::compile::matching::{self, is_token};
use causeway_crds::http_route::CorsPolicy;
use causeway_mesh::wire;

/// Most names of one list that proxies take.
const MOST: usize = 128;

/// A part that cannot be is left out, which is said.
pub(super) fn cors(report: &mut Report<'_>, at: &str, policy: &CorsPolicy) -> wire::Cors {
    use wire::string_match::Kind;
    let of = |kind| wire::StringMatch { kind: Some(kind) };
    let older = policy.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => of(Kind::Present(true)),
        origin => of(Kind::Exact(origin.to_owned())),
    });
    let mut origins: Vec<wire::StringMatch> = older.collect();
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let field = format!("allowOrigins[{index}]");
        match matching::text(origin, &field, false) {
            Ok(wire::StringMatch { kind: Some(Kind::Exact(any)) }) if any == "*" => {
                origins.push(of(Kind::Present(true)));
            }
            Ok(found) => origins.push(found),
            Err(unusable) => {
                let field = format!("{at}.{}", unusable.field);
                report.error(unusable.code, &field, &unusable.message, "Until then this origin may not call.");
            }
        }
    }
    let max_age = report.millis(policy.max_age.as_deref(), &format!("{at}.maxAge"), "the browser's default holds");
    let forward_unmatched = match policy.unmatched_preflights.as_deref() {
        None | Some("FORWARD" | "UNSPECIFIED") => true,
        Some("IGNORE") => false,
        Some(other) => {
            let message = format!("`{}` is not one of FORWARD and IGNORE; FORWARD is used", other.escape_debug());
            report.error("unknown_value", &format!("{at}.unmatchedPreflights"), message, "Write one of the two.");
            true
        }
    };
    wire::Cors {
        origins,
        methods: tokens(report, &format!("{at}.allowMethods"), &policy.allow_methods),
        headers: tokens(report, &format!("{at}.allowHeaders"), &policy.allow_headers),
        expose: tokens(report, &format!("{at}.exposeHeaders"), &policy.expose_headers),
        max_age_s: max_age.map(|ms| ms / 1000),
        credentials: policy.allow_credentials.unwrap_or_default(),
        forward_unmatched,
    }
}

/// Names of methods or headers, or `*`. Some write several in one text.
fn tokens(report: &mut Report<'_>, field: &str, list: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for name in list.iter().flat_map(|text| text.split(',')).map(str::trim) {
        if all.len() == MOST {
            let message = format!("at most {MOST} names are taken; the rest is left out");
            report.error("too_many", field, message, "Write * for all.");
            break;
        }
        if is_token(name) {
            all.push(name.to_owned());
        } else {
            let message = format!("`{}` cannot be the name of a method or header; it is left out", name.escape_debug());
            report.error("invalid_header", field, message, "Correct the name.");
        }
    }
    all
}
