//! `causeway certs`: shows what a proxy holds, from its admin port.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::terminal::{Ink, Style, bar, pad, spoken_seconds};
use crate::validate::Output;
use crate::{address, admin, clock};

const EXAMPLES: &str = "\
Examples:
  causeway certs                                  the proxy of this pod or machine
  causeway certs --proxy http://127.0.0.1:15000   the same, said in full
  causeway certs -o json | jq -r .not_after       for a script

The proxy's admin port listens on loopback only: in a cluster, run this in the pod or through a port-forward.

Exit codes: 0 the proxy holds a certificate that is valid now; 1 it does not, or cannot be asked; 2 the command line
is wrong.";

const LIFE: usize = 30;

/// Arguments of `causeway certs`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Admin address of the proxy.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15000", value_parser = address::admin_address)]
    proxy: SocketAddr,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Asks and prints; returns the exit code.
///
/// # Errors
/// The proxy cannot be asked, or the output cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let view = admin::block_on(admin::get_json(settings.proxy, "/certs"))
        .context("no proxy could be asked; say where its admin port is with --proxy http://HOST:PORT")?;
    let now = clock::unix_now();
    let is_valid = is_valid(&view, now);
    match settings.output {
        Output::Json => writeln!(out, "{view:#}")?,
        Output::Text => out.write_all(text(&view, now, style).as_bytes())?,
    }
    Ok(u8::from(!is_valid))
}

/// A certificate's life in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    age: i64,
    left: i64,
}

fn validity(certificate: &Value, now: i64) -> Option<Validity> {
    let from = instant(&certificate["not_before"])?;
    let until = instant(&certificate["not_after"])?;
    Some(Validity { age: now - from, left: until - now })
}

/// Whether the certificate of a proxy's `/certs` is valid at `now`, seconds since the epoch.
pub(crate) fn is_valid(view: &Value, now: i64) -> bool {
    validity(view, now).is_some_and(|validity| validity.left > 0 && validity.age >= 0)
}

/// A bar of what is left of it, and the same in words; None where it says no times.
pub(crate) fn life_left(view: &Value, now: i64, style: Style) -> Option<String> {
    validity(view, now).map(|validity| life(validity, style))
}

/// A time in RFC 3339 as seconds since the epoch.
pub(crate) fn instant(value: &Value) -> Option<i64> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

fn text(view: &Value, now: i64, style: Style) -> String {
    let word = |key: &str| view[key].as_str().unwrap_or("-").to_owned();
    let Some(id) = view["spiffe_id"].as_str() else {
        let why = view["waiting_for"].as_str().unwrap_or("the control plane has not issued one yet");
        return format!("{}: {why}\n", style.paint(Ink::Bad, "no certificate"));
    };
    let mut lines = vec![style.paint(Ink::Name, id)];
    let row = |name: &str, value: &str| format!("  {}{value}", pad(&style.paint(Ink::Faint, name), 13));
    lines.push(row("serial", &word("serial")));
    lines.push(row("valid from", &word("not_before")));
    lines.push(row("valid until", &word("not_after")));
    if let Some(validity) = validity(view, now) {
        lines.push(row("life left", &life(validity, style)));
    }
    if view["renew_at"].is_string() {
        lines.push(row("renewal at", &word("renew_at")));
    }
    lines.push(row("trust domain", &word("trust_domain")));
    let roots = view["roots"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, root) in roots.iter().enumerate() {
        let name = if index == 0 { "roots" } else { "" };
        let subject = root["subject"].as_str().unwrap_or("-");
        let left = validity(root, now).map_or_else(String::new, |v| match v.left {
            ..=0 => style.paint(Ink::Bad, "  expired"),
            left => style.paint(Ink::Faint, &format!("  {} left", spoken_seconds(left))),
        });
        lines.push(row(name, &format!("{subject}{left}")));
    }
    lines.join("\n") + "\n"
}

/// A bar of what is left, and the same in words.
fn life(validity: Validity, style: Style) -> String {
    let Validity { age, left } = validity;
    if left <= 0 {
        return style.paint(Ink::Bad, &format!("expired {} ago", spoken_seconds(left)));
    }
    if age < 0 {
        return style
            .paint(Ink::Bad, &format!("not valid before {} from now: look at the clocks", spoken_seconds(age)));
    }
    let fraction = left as f64 / (age + left).max(1) as f64;
    let ink = if fraction > 0.3 { Ink::Good } else { Ink::Warn };
    let drawn = pad(&style.paint(ink, &bar(fraction, LIFE)), LIFE);
    format!("{drawn} {:.0} %, {}", fraction * 100.0, spoken_seconds(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn held() -> Value {
        json!({
            "spiffe_id": "spiffe://cluster.local/ns/dev/sa/web",
            "serial": "0a1b",
            "not_before": "2026-11-21T00:00:00Z",
            "not_after": "2026-11-22T00:00:00Z",
            "renew_at": "2026-11-21T16:48:00Z",
            "trust_domain": "cluster.local",
            "roots": [{"subject": "CN=root", "not_before": "2026-11-21T00:00:00Z", "not_after": "2036-11-21T00:00:00Z"}],
        })
    }

    const MIDNIGHT: i64 = 1_795_219_200; // 2026-11-21T00:00:00Z

    #[test]
    fn half_a_life_is_half_a_bar() {
        let text = text(&held(), MIDNIGHT + 43_200, Style::PLAIN);
        assert!(
            text.contains(&format!("life left    {}{} 50 %, 12 h 0 min", "█".repeat(15), " ".repeat(15))),
            "{text}"
        );
        assert!(text.contains("CN=root  3652 d 12 h left"), "{text}");
    }

    #[test]
    fn an_expired_certificate_is_called_so() {
        let text = text(&held(), MIDNIGHT + 86_400 + 60, Style::PLAIN);
        assert!(text.contains("life left    expired 60 s ago"), "{text}");
        assert!(validity(&held(), MIDNIGHT + 86_401).is_some_and(|v| v.left <= 0));
    }

    #[test]
    fn a_proxy_without_a_certificate_says_what_it_waits_for() {
        let view = json!({"spiffe_id": null, "waiting_for": "the token file is not there"});
        assert_eq!(text(&view, MIDNIGHT, Style::PLAIN), "no certificate: the token file is not there\n");
        assert_eq!(validity(&view, MIDNIGHT), None);
    }
}
