use proptest::prelude::*;

use super::TextMatch;

fn regex(pattern: &str) -> TextMatch {
    TextMatch::regex(pattern).unwrap()
}

#[test]
fn each_kind_matches_what_it_says() {
    let prefix = TextMatch::PathPrefix("/a".into());
    for (pattern, yes, no) in [
        (TextMatch::Exact("/a".into()), vec!["/a"], vec!["/A", "/a/", "", "/ab"]),
        (TextMatch::Prefix("/a".into()), vec!["/a", "/ab", "/a/b"], vec!["/A", "b/a", ""]),
        (TextMatch::Suffix(".png".into()), vec![".png", "/a.png"], vec!["/a.PNG", "/a.png/"]),
        (TextMatch::Present, vec!["", "x"], vec![]),
        (prefix, vec!["/a", "/a/", "/a/b"], vec!["/ab", "/", "a", "", "/A"]),
        (TextMatch::PathPrefix("/a/".into()), vec!["/a", "/a/", "/a/b"], vec!["/ab", "/"]),
        (TextMatch::PathPrefix("/".into()), vec!["/", "/a"], vec!["*"]),
    ] {
        assert!(yes.iter().all(|t| pattern.is_match(t)), "{pattern:?}");
        assert!(!no.iter().any(|t| pattern.is_match(t)), "{pattern:?}");
    }
}

#[test]
fn a_regex_matches_the_whole_text_only() {
    let either = regex("a|b");
    assert!(either.is_match("a") && either.is_match("b"));
    for text in ["ab", "xa", "bx", "a\n", "\na", "a\nb", ""] {
        assert!(!either.is_match(text), "{text:?}");
    }
    assert!(!regex("(?m)^a$").is_match("a\nb"));
    assert!(regex("(?i)abc").is_match("aBc"));
    assert!(regex("/v[0-9]+/.*").is_match("/v12/x"));
}

#[test]
fn a_pattern_that_closes_our_parentheses_is_refused() {
    for pattern in ["a)|(?:b", "a)|(b", "(", "[", "a{2,1}", "(?x)a # comment", "\\", "(?=a)"] {
        assert!(TextMatch::regex(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_regex_that_would_take_too_much_memory_is_refused() {
    assert!(TextMatch::regex("((a{100}){100}){100}").is_err());
    assert!(TextMatch::regex(&"(".repeat(1024)).is_err());
    assert!(TextMatch::regex(&"a".repeat(1024)).is_ok());
    let why = TextMatch::regex(&"a".repeat(1025)).unwrap_err();
    assert!(why.contains("1024"), "{why}");
}

#[test]
fn a_fault_of_a_regex_is_one_line() {
    let why = TextMatch::regex("a\nb(").unwrap_err();
    assert!(!why.contains('\n') && why.contains("unclosed"), "{why}");
}

proptest! {
    #[test]
    fn a_regex_without_special_characters_is_an_exact_match(pattern in "[a-z/]{0,6}", text in "[a-z/]{0,6}") {
        prop_assert_eq!(regex(&pattern).is_match(&text), pattern == text);
        prop_assert!(regex(&pattern).is_match(&pattern));
    }

    #[test]
    fn a_path_prefix_is_the_path_itself_or_a_whole_segment_more(prefix in "(/[ab]{1,2}){1,3}", path in "(/[ab]{0,2}){1,4}") {
        let want: Vec<&str> = prefix.split('/').collect();
        let have: Vec<&str> = path.split('/').collect();
        prop_assert_eq!(TextMatch::PathPrefix(prefix.as_str().into()).is_match(&path), have.starts_with(&want));
    }

    #[test]
    fn any_pattern_is_compiled_or_refused_without_panic(pattern in "\\PC{0,30}", text in "\\PC{0,20}") {
        if let Ok(regex) = TextMatch::regex(&pattern) {
            regex.is_match(&text);
        }
    }
}
