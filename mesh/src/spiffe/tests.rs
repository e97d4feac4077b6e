use proptest::prelude::*;

use super::{SpiffeError, SpiffeId, is_dns_label, is_dns_subdomain, is_trust_domain};

fn parse(text: &str) -> Result<SpiffeId, SpiffeError> {
    text.parse()
}

#[test]
fn an_id_is_parsed_into_its_parts() {
    let id = parse("spiffe://cluster.local/ns/prod/sa/prodsvc.v1").unwrap();
    assert_eq!((id.trust_domain(), id.namespace(), id.account()), ("cluster.local", "prod", "prodsvc.v1"));
    assert_eq!(id.to_string(), "spiffe://cluster.local/ns/prod/sa/prodsvc.v1");
    assert_eq!(format!("{id:?}"), id.to_string());
}

#[test]
fn every_other_form_is_refused() {
    for text in [
        "",
        "spiffe://",
        "spiffe:///ns/a/sa/b",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/ns/a",
        "spiffe://td/ns/a/sa",
        "spiffe://td/ns/a/sa/",
        "spiffe://td/ns//sa/b",
        "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td//ns/a/sa/b",
        "spiffe://td/sa/b/ns/a",
        "spiffe://td/NS/a/SA/b",
        "SPIFFE://td/ns/a/sa/b",
        "Spiffe://td/ns/a/sa/b",
        "spiffe:td/ns/a/sa/b",
        "spiffe:/td/ns/a/sa/b",
        "https://td/ns/a/sa/b",
        " spiffe://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b ",
        "spiffe://td/ns/a/sa/b\n",
        "spiffe://td/ns/a/sa/b\0",
        "spiffe://td/ns/a/sa/b\0x",
        "spiffe://td\0/ns/a/sa/b",
        "spiffe://TD/ns/a/sa/b",
        "spiffe://td/ns/A/sa/b",
        "spiffe://td/ns/a/sa/B",
        "spiffe://td/ns/%61/sa/b",
        "spiffe://td/ns/a/sa/%62",
        "spiffe://td%2Fns/a/sa/b",
        "spiffe://td:443/ns/a/sa/b",
        "spiffe://user@td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b?x=1",
        "spiffe://td/ns/a/sa/b#x",
        "spiffe://td/ns/a/sa/..",
        "spiffe://td/ns/a/./sa/b",
        "spiffe://td/ns/a.b/sa/b",
        "spiffe://td/ns/-a/sa/b",
        "spiffe://td/ns/a/sa/b-",
        "spiffe://td/ns/a/sa/b..c",
        "spiffe://td/ns/a_b/sa/b",
        "spiffe://tд/ns/a/sa/b",
        "spiffe://td/ns/a/sa/ｂ",
        "spiffe://td\\ns/a/sa/b",
        "spiffe://td/ns/a/sa/b,spiffe://td/ns/c/sa/d",
        "spiffe://[::1]/ns/a/sa/b",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn an_error_shows_no_control_character() {
    let why = parse("spiffe://td/ns/a\x1b[31m/sa/b").unwrap_err().to_string();
    assert!(!why.contains('\x1b') && why.contains("namespace"), "{why}");
}

#[test]
fn a_dot_in_an_account_is_a_dot() {
    let id = |account| SpiffeId::new("td", "ns", account).unwrap();
    assert_ne!(id("a.b"), id("axb"));
    assert_ne!(parse("spiffe://td/ns/x/sa/a").unwrap(), parse("spiffe://td/ns/x/sa/a.b").unwrap());
}

#[test]
fn lengths_are_limited() {
    assert!(is_trust_domain(&"a".repeat(255)) && !is_trust_domain(&"a".repeat(256)) && !is_trust_domain(""));
    assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)) && !is_dns_label(""));
    let long = vec!["a".repeat(50); 5].join(".");
    assert!(is_dns_subdomain(&long[..253]) && !is_dns_subdomain(&long) && !is_dns_subdomain(""));
    assert_eq!(parse(&format!("spiffe://td/ns/a/sa/{}", "b".repeat(2048))), Err(SpiffeError::TooLong));
}

prop_compose! {
    pub(crate) fn ids()(td in "[a-z0-9._-]{1,12}", ns in "[a-z0-9]{1,4}(-[a-z0-9]{1,4})?", sa in "[a-z0-9]{1,4}([.-][a-z0-9]{1,4}){0,2}") -> SpiffeId {
        SpiffeId::new(&td, &ns, &sa).unwrap()
    }
}

proptest! {
    #[test]
    fn what_is_written_is_parsed_again(id in ids()) {
        prop_assert_eq!(parse(&id.to_string()), Ok(id));
    }

    #[test]
    fn what_is_parsed_is_written_as_it_was(text in "spiffe://[a-z.A-Z%:@]{1,5}/ns/[a-zA.-]{1,3}/sa/[a-z./A-]{1,5}") {
        if let Ok(id) = parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_panic(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn one_byte_more_or_other_is_another_id_or_none(id in ids(), at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f) {
        let mut text = id.to_string();
        text.insert(at.index(text.len() + 1), char::from(byte));
        prop_assert_ne!(parse(&text), Ok(id));
    }
}
