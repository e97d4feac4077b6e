use proptest::prelude::*;

use super::{HostPort, NameError, ServiceName, host_port, service, subscription};

fn parts(text: &str) -> (String, Option<u16>) {
    let HostPort { host, port } = host_port(text).unwrap();
    (host.into_owned(), port)
}

#[test]
fn an_authority_is_taken_apart_and_lower_cased() {
    let host = |h: &str, p| (h.to_owned(), p);
    assert_eq!(parts("prodsvc"), host("prodsvc", None));
    assert_eq!(parts("Secret.COM:80"), host("secret.com", Some(80)));
    assert_eq!(parts("secret.com."), host("secret.com", None));
    assert_eq!(parts("secret.com.:8080"), host("secret.com", Some(8080)));
    assert_eq!(parts("xn--bcher-kva.example"), host("xn--bcher-kva.example", None));
    assert_eq!(parts("my_svc.ns:65535"), host("my_svc.ns", Some(65535)));
    assert_eq!(parts("10.0.0.1:1"), host("10.0.0.1", Some(1)));
    assert_eq!(parts("[::1]:80"), host("::1", Some(80)));
    assert_eq!(parts("[2001:DB8:0::1]"), host("2001:db8::1", None));
}

#[test]
fn nothing_is_copied_when_nothing_changes() {
    for text in ["prodsvc.prod:80", "prodsvc.prod.", "[::1]"] {
        assert!(matches!(host_port(text).unwrap().host, std::borrow::Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn a_host_that_two_readers_could_take_differently_is_refused() {
    use NameError::*;
    for (text, why) in [
        ("", EmptyHost),
        (".", EmptyHost),
        (":80", EmptyHost),
        ("user@host", Character),
        ("user:pw@host", Port),
        ("a b", Character),
        (" a", Character),
        ("a\t", Character),
        ("a\0b", Character),
        ("a\r\nb", Character),
        ("a%41", Character),
        ("a/b", Character),
        ("a?b", Character),
        ("a#b", Character),
        ("a\\b", Character),
        ("bücher.example", Character),
        ("a..b", Character),
        (".a", Character),
        ("a..", Character),
        ("a,b", Character),
        ("*", Character),
        ("a:", Port),
        ("a:0", Port),
        ("a:080", Port),
        ("a:+80", Port),
        ("a:-1", Port),
        ("a: 80", Port),
        ("a:65536", Port),
        ("a:99999999999999999999", Port),
        ("a:8o", Port),
        ("a:80:80", Ipv6),
        ("::1", Ipv6),
        ("[::1", Ipv6),
        ("[]", Ipv6),
        ("[fe80::1%eth0]", Ipv6),
        ("[fe80::1%25eth0]", Ipv6),
        ("[10.0.0.1]", Ipv6),
        ("[::1]80", Character),
        ("[::1].", Character),
        ("[::1]:", Port),
        ("127.1", Ipv4),
        ("2130706433", Ipv4),
        ("0x7f000001", Ipv4),
        ("0177.0.0.1", Ipv4),
        ("10.0.0.256", Ipv4),
        ("a.0X1", Ipv4),
    ] {
        assert_eq!(host_port(text), Err(why), "{text:?}");
    }
}

#[test]
fn a_host_has_at_most_253_bytes() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    assert_eq!(long.len(), 253);
    assert!(host_port(&long).is_ok());
    assert!(host_port(&format!("{long}.")).is_ok());
    assert_eq!(host_port(&format!("{long}d")), Err(NameError::TooLong));
}

fn name(service: &str, namespace: &str, pod: Option<&str>) -> Option<ServiceName> {
    Some(ServiceName { service: service.into(), namespace: namespace.into(), pod: pod.map(Into::into) })
}

#[test]
fn a_service_is_known_by_every_form_that_the_search_path_allows() {
    for host in ["prodsvc.prod", "prodsvc.prod.svc", "prodsvc.prod.svc.cluster.local"] {
        assert_eq!(service(host, "dev", "cluster.local"), name("prodsvc", "prod", None), "{host}");
    }
    assert_eq!(service("prodsvc", "dev", "cluster.local"), name("prodsvc", "dev", None));
    for host in ["db-0.db.prod", "db-0.db.prod.svc", "db-0.db.prod.svc.cluster.local"] {
        assert_eq!(service(host, "dev", "cluster.local"), name("db", "prod", Some("db-0")), "{host}");
    }
}

#[test]
fn a_namespace_named_svc_is_a_namespace() {
    assert_eq!(service("web.svc", "dev", "cluster.local"), name("web", "svc", None));
    assert_eq!(service("web.svc.svc.cluster.local", "dev", "cluster.local"), name("web", "svc", None));
}

#[test]
fn what_is_no_service_is_none() {
    for host in [
        "",
        "svc.cluster.local",
        "web.svc.cluster.local",
        "10-0-0-1.prod.pod.cluster.local",
        "a.b.c.prod.svc.cluster.local",
        "a.b.c.d",
        "10.0.0.1",
        "::1",
        "Web.prod",
        "web.prod.",
        "my_svc.prod",
        "-web.prod",
        "web.prod.svc.other.domain",
    ] {
        assert_eq!(service(host, "dev", "cluster.local"), None, "{host}");
    }
}

#[test]
fn the_cluster_domain_is_matched_as_whole_labels() {
    assert_eq!(service("web.prod.svc.corp", "dev", "corp"), name("web", "prod", None));
    assert_eq!(service("web.prod.svc.mycorp", "dev", "corp"), None);
    assert_eq!(service("web.prod.svc", "dev", ""), name("web", "prod", None));
}

#[test]
fn a_subscription_has_ipv6_in_brackets() {
    assert_eq!(subscription("prodsvc.prod", 80), "prodsvc.prod:80");
    assert_eq!(subscription("10.0.0.1", 80), "10.0.0.1:80");
    assert_eq!(subscription("2001:DB8::1", 80), "[2001:db8::1]:80");
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_without_panic(text in "\\PC{0,40}") {
        let _ = host_port(&text);
        let _ = service(&text, "dev", "cluster.local");
    }

    #[test]
    fn what_is_accepted_survives_the_round_trip(text in "[A-Za-z0-9._:\\[\\]-]{1,30}") {
        if let Ok(HostPort { host, port }) = host_port(&text) {
            let written = subscription(&host, port.unwrap_or(80));
            let again = host_port(&written).unwrap();
            prop_assert_eq!(&again.host, &host);
            prop_assert_eq!(again.port, Some(port.unwrap_or(80)));
        }
    }

    #[test]
    fn case_trailing_dot_and_port_change_no_decision(host in "[a-z][a-z0-9-]{0,8}(\\.[a-z][a-z0-9]{0,8}){0,4}", port in 1u16..) {
        let plain = parts(&host).0;
        prop_assert_eq!(&parts(&host.to_ascii_uppercase()).0, &plain);
        prop_assert_eq!(&parts(&format!("{host}.")).0, &plain);
        prop_assert_eq!(parts(&format!("{host}:{port}")), (plain, Some(port)));
    }

    #[test]
    fn every_form_of_a_service_names_it(svc in "[a-z][a-z0-9]{0,6}", ns in "[a-z][a-z0-9]{0,6}", domain in "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}") {
        let want = name(&svc, &ns, None);
        prop_assert_eq!(&service(&svc, &ns, &domain), &want);
        prop_assert_eq!(&service(&format!("{svc}.{ns}.svc"), "other", &domain), &want);
        prop_assert_eq!(&service(&format!("{svc}.{ns}.svc.{domain}"), "other", &domain), &want);
    }
}
