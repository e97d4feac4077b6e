use std::borrow::Cow;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{PathError, normalise, variants};

fn all(path: &str) -> BTreeSet<String> {
    variants(path).map(Cow::into_owned).collect()
}

#[test]
fn each_path_has_one_form() {
    for (path, want) in [
        ("", "/"),
        ("*", "*"),
        ("/", "/"),
        ("/admin", "/admin"),
        ("/admin/", "/admin/"),
        ("/%61dmin", "/admin"),
        ("/%41dmin", "/Admin"),
        ("/%7Euser%2d_%2E", "/~user-_."),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/a\\b", "/a/b"),
        ("/\\admin", "//admin"),
        ("/a//b", "/a//b"),
        ("//admin", "//admin"),
        ("/./admin", "/admin"),
        ("/a/./b", "/a/b"),
        ("/a/../admin", "/admin"),
        ("/a/..\\admin", "/admin"),
        ("/a/%2e%2e/admin", "/admin"),
        ("/a/%2E./admin", "/admin"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/..", "/"),
        ("/../../admin", "/admin"),
        ("/a/../../admin", "/admin"),
        ("/a//../b", "/a/b"),
        ("/...", "/..."),
        ("/a/..b", "/a/..b"),
        ("/a/.b/c", "/a/.b/c"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/a%252Fb", "/a%252Fb"),
        ("/a%25%32%46b", "/a%252Fb"),
        ("/a%20b", "/a%20b"),
        ("/a%0Ab", "/a%0Ab"),
        ("/é", "/%C3%A9"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a+b:c@d!$&'()*,=", "/a+b:c@d!$&'()*,="),
    ] {
        assert_eq!(normalise(path).as_deref(), Ok(want), "{path}");
    }
}

#[test]
fn every_escape_is_decoded_or_kept_in_upper_case() {
    for byte in 1..=255u8 {
        let (lower, upper) = (format!("/x%{byte:02x}y"), format!("/x%{byte:02X}y"));
        let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let want = if is_unreserved { format!("/x{}y", char::from(byte)) } else { upper.clone() };
        assert_eq!(normalise(&lower).as_deref(), Ok(&*want));
        assert_eq!(normalise(&upper).as_deref(), Ok(&*want));
    }
}

#[test]
fn a_path_that_no_server_reads_alike_is_refused() {
    for (path, why) in [
        ("/admin%00", PathError::Nul),
        ("/%00", PathError::Nul),
        ("/a#b", PathError::Character),
        ("/a?b", PathError::Character),
        ("/a b", PathError::Character),
        ("/a\tb", PathError::Character),
        ("/a\0", PathError::Character),
        ("/a\u{7f}", PathError::Character),
        ("/a\r\nb", PathError::Character),
        ("/%", PathError::Escape),
        ("/%4", PathError::Escape),
        ("/%4g", PathError::Escape),
        ("/%u0041", PathError::Escape),
        ("/%%41", PathError::Escape),
        ("/%é", PathError::Escape),
        ("admin", PathError::NotAbsolute),
        ("\\admin", PathError::NotAbsolute),
        ("%2Fadmin", PathError::NotAbsolute),
        ("**", PathError::NotAbsolute),
        ("http://a/", PathError::NotAbsolute),
    ] {
        assert_eq!(normalise(path), Err(why), "{path:?}");
    }
}

#[test]
fn nothing_is_copied_when_nothing_changes() {
    for path in ["/", "/a/b.html", "/a//b", "/a%2Fb;x"] {
        assert!(matches!(normalise(path), Ok(Cow::Borrowed(_))), "{path}");
    }
}

#[test]
fn a_plain_path_has_one_reading() {
    for path in ["/", "*", "/a/b", "/a.b/c", "/a;v=1/b"] {
        assert_eq!(all(path), BTreeSet::from([path.to_owned()]), "{path}");
    }
}

#[test]
fn every_spelling_of_a_guarded_path_reads_as_it() {
    for path in [
        "//admin",
        "///admin",
        "/%2Fadmin",
        "/%5Cadmin",
        "/x%2F..%2Fadmin",
        "/x/..%2Fadmin",
        "/x%5C..%5Cadmin",
        "/x%2F..%5Cadmin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/.;/admin",
        "/x%2F..;%2Fadmin",
        "/x/%2F..%2F../admin",
        "/x/%2F..%2Fadmin", // merged before it is resolved
    ] {
        let normal = normalise(path).unwrap();
        assert!(all(&normal).contains("/admin"), "{path}: {:?}", all(&normal));
    }
}

#[test]
fn a_server_that_decodes_slashes_and_not_backslashes_is_thought_of() {
    // Read with both decoded this is `/`; a server on Unix sees a file below `/admin/`.
    assert!(all("/admin%2Fx%5C..%5C..").contains("/admin/x%5C..%5C.."));
    // A server that decodes but does not resolve sees `/admin/` at the beginning.
    assert!(all("/admin%2F..%2Fx").contains("/admin/../x"));
}

fn paths() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("/"),
        Just("//"),
        Just("."),
        Just(".."),
        Just("..;"),
        Just("%2e"),
        Just("%2F"),
        Just("%2f"),
        Just("%5C"),
        Just("\\"),
        Just("%25"),
        Just("%41"),
        Just("a"),
        Just("admin"),
        Just(";x"),
        Just("é"),
        Just("%c3"),
        Just("~"),
    ];
    prop::collection::vec(word, 0..10).prop_map(|words| format!("/{}", words.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn normalising_twice_changes_nothing(path in paths()) {
        let once = normalise(&path).unwrap().into_owned();
        let twice = normalise(&once).unwrap();
        prop_assert_eq!(&*twice, &*once);
    }

    #[test]
    fn a_normal_path_begins_with_a_slash_and_has_no_dot_segment(path in paths()) {
        let normal = normalise(&path).unwrap();
        prop_assert!(normal.starts_with('/'));
        prop_assert!(normal.split('/').all(|s| s != "." && s != ".."), "{normal}");
        prop_assert!(normal.is_ascii() && !normal.contains('\\'));
    }

    #[test]
    fn any_text_is_normalised_or_refused_without_panic(path in "\\PC{0,40}") {
        if let Ok(normal) = normalise(&path) {
            prop_assert!(variants(&normal).count() <= 26);
        }
    }

    #[test]
    fn readings_begin_with_the_path_itself_and_do_not_repeat(path in paths()) {
        let normal = normalise(&path).unwrap();
        let list: Vec<_> = variants(&normal).collect();
        prop_assert_eq!(&list[0], &normal);
        prop_assert_eq!(list.len(), list.iter().collect::<BTreeSet<_>>().len());
        prop_assert!(list.iter().all(|r| r.starts_with('/')), "{:?}", list);
    }

    #[test]
    fn a_slash_that_is_escaped_or_doubled_hides_nothing(segments in prop::collection::vec("[a-z]{1,4}", 1..5), spelling in prop::collection::vec(0usize..5, 5)) {
        let slash = |i: &usize| ["/", "//", "%2F", "%5c", "/%2f"][*i];
        let spelled: String = segments.iter().zip(&spelling).map(|(s, i)| format!("{}{s}", slash(i))).collect();
        let spelled = if spelled.starts_with('/') { spelled } else { format!("/{spelled}") };
        let normal = normalise(&spelled).unwrap().into_owned();
        prop_assert!(all(&normal).contains(&format!("/{}", segments.join("/"))), "{spelled}: {:?}", all(&normal));
    }
}
