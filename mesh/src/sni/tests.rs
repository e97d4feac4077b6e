use proptest::prelude::*;

use super::{LIMIT, RECORD, Sni, SniHost, TlsRoute, read, select};
use crate::split::{Split, Weighted};

fn vector(bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector(2, content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[&[0], &vector(2, name)[..]].concat()))
}

/// A handshake message with these extensions; None: from before there were any.
fn message(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = [&[3, 3][..], &[7; 32], &vector(1, &[9; 32]), &vector(2, &[0x13, 1]), &vector(1, &[0])].concat();
    body.extend(extensions.map(|e| vector(2, e)).unwrap_or_default());
    [&[1][..], &vector(3, &body)].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect()
}

fn hello(name: &str) -> Vec<u8> {
    let extensions = [extension(43, &[2, 3, 4]), server_name(name.as_bytes()), extension(51, &[5; 1200])].concat();
    records(&message(Some(&extensions)), RECORD)
}

#[test]
fn the_name_is_read_in_lower_case_and_without_its_last_dot() {
    assert_eq!(read(&hello("Db.Example.COM.")), Sni::Name("db.example.com".into()));
    let after = [hello("a.b"), b"anything after it".to_vec()].concat();
    assert_eq!(read(&after), Sni::Name("a.b".into()));
}

#[test]
fn a_hello_without_a_usable_name_is_nameless() {
    let nameless = |extensions: Option<&[u8]>| assert_eq!(read(&records(&message(extensions), RECORD)), Sni::Nameless);
    nameless(None);
    nameless(Some(&[]));
    nameless(Some(&extension(43, &[2, 3, 4])));
    for name in [&b"a b"[..], b"\xff", b"", b"a..b", b"h:443", b"[::1]"] {
        nameless(Some(&server_name(name)));
    }
    nameless(Some(&extension(0, &vector(2, &[&[1], &vector(2, b"x")[..]].concat())))); // a name of another kind
}

#[test]
fn what_is_no_hello_is_known_at_its_first_odd_byte() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[22, 2], &[22, 3, 5], &[22, 3, 1, 0, 0], &[22, 3, 1, 0x40, 1]] {
        assert_eq!(read(bytes), Sni::NoHello, "{bytes:?}");
        assert_eq!(read(&bytes[..bytes.len() - 1]), if bytes[0] == 22 { Sni::NeedMore } else { Sni::NoHello });
    }
    assert_eq!(read(&records(&[2, 0, 0, 0], 4)), Sni::NoHello, "a ServerHello");
    assert_eq!(read(&records(&[1, 0, 0x80, 1], 4)), Sni::NoHello, "a hello longer than the limit");
    let mut broken = message(Some(&server_name(b"a.b")));
    let last = broken.len() - 4; // the name's own length
    broken[last] = 200;
    assert_eq!(read(&records(&broken, RECORD)), Sni::NoHello);
}

#[test]
fn an_endless_hello_ends_at_the_limit() {
    // One byte in each record: five times the bytes for a hello that would fit.
    let slow = records(&[&[1, 0, 0x7f, 0xff][..], &[0; 20_000]].concat(), 1);
    assert_eq!(read(&slow[..LIMIT - 1]), Sni::NeedMore);
    assert_eq!(read(&slow[..LIMIT]), Sni::NoHello);
    assert_eq!(read(&slow), Sni::NoHello);
}

fn route(name: &str, hosts: &[&str]) -> TlsRoute {
    let hosts = hosts.iter().map(|h| SniHost::parse(h).unwrap()).collect();
    let split = Split::new(&[Weighted { backend: 0, name: "b", weight: 1, effective: 1 }], None, "");
    TlsRoute { name: name.into(), hosts, split }
}

#[test]
fn the_first_route_that_takes_the_name_wins() {
    let routes = [route("exact", &["a.example", "b.example"]), route("under", &["*.example"]), route("all", &[])];
    let taken = |name: Option<&str>| select(&routes, name).map(|r| r.name.to_string());
    assert_eq!(taken(Some("b.example")).as_deref(), Some("exact"));
    assert_eq!(taken(Some("c.example")).as_deref(), Some("under"));
    assert_eq!(taken(Some("d.c.example")).as_deref(), Some("under"));
    for name in [Some("example"), Some(".example"), Some("xexample"), None] {
        assert_eq!(taken(name).as_deref(), Some("all"), "{name:?}");
    }
    assert!(select(&routes[..2], None).is_none());
    for text in ["", "*", "*.", "a:1", "A.b", "a.*", "**.a", "1:2::3", "a."] {
        assert_eq!(SniHost::parse(text), None, "{text:?}");
    }
}

fn hellos() -> impl Strategy<Value = Vec<u8>> {
    let extensions = prop::collection::vec(
        prop_oneof![
            "[a-zA-Z0-9.-]{0,20}".prop_map(|n| server_name(n.as_bytes())),
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..30)).prop_map(|(k, c)| extension(k, &c)),
            prop::collection::vec(any::<u8>(), 0..12),
        ],
        0..5,
    );
    let whole = (extensions, 1usize..400).prop_map(|(e, size)| records(&message(Some(&e.concat())), size));
    let bent = (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![whole, bent, prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_decision_never_changes_however_the_bytes_arrive(bytes in hellos()) {
        let whole = read(&bytes);
        let mut decided = Sni::NeedMore;
        for end in 0..=bytes.len() {
            let now = read(&bytes[..end]);
            prop_assert!(decided == Sni::NeedMore || now == decided, "{decided:?} became {now:?} at {end}");
            decided = now;
        }
        prop_assert_eq!(decided, whole);
    }

    #[test]
    fn any_name_is_read_from_any_records(name in "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,8}){0,4}", size in 1usize..2000) {
        let extensions = [extension(51, &[1; 300]), server_name(name.as_bytes())].concat();
        prop_assert_eq!(read(&records(&message(Some(&extensions)), size)), Sni::Name(name));
    }

    #[test]
    fn a_wildcard_takes_what_has_labels_in_front_and_nothing_else(label in "[a-z]{1,5}(\\.[a-z]{1,3})?", rest in "[a-z]{1,5}\\.[a-z]{2}") {
        let host = SniHost::parse(&format!("*.{rest}")).unwrap();
        let (below, glued) = (format!("{label}.{rest}"), format!("{label}{rest}"));
        prop_assert!(host.takes(&below) && !host.takes(&rest) && !host.takes(&glued));
    }
}
