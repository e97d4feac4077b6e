use std::collections::BTreeSet;
use std::fmt::Write;

use super::Reject;

/// `docs/errors.md` as the table has it.
fn catalogue() -> String {
    let mut page = String::from(
        "# Errors that Causeway itself answers\n\n\
         A response made by a proxy has the header `causeway-error` with one of these codes. Codes are stable: scripts and\n\
         alerts may rely on them. The flag is the label `response_flags` of the metrics; `-` where there is none. A test\n\
         compares this page with the table in `mesh/src/reject.rs`; `CAUSEWAY_BLESS=1 cargo test -p causeway-mesh catalogue`\n\
         writes it anew.\n\n\
         | code | status | flag | what to do |\n|---|---|---|---|\n",
    );
    for reject in Reject::ALL {
        let (code, status, flag, advice) = (reject.code(), reject.status(), reject.flag(), reject.advice());
        writeln!(page, "| `{code}` | {status} | `{flag}` | {advice} |").unwrap();
    }
    page
}

#[test]
#[allow(clippy::disallowed_methods)] // a test of a file
fn the_catalogue_in_the_docs_is_the_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    if std::env::var_os("CAUSEWAY_BLESS").is_some() {
        std::fs::write(file, catalogue()).unwrap();
    }
    let page = std::fs::read_to_string(file).unwrap();
    assert_eq!(page, catalogue(), "run with CAUSEWAY_BLESS=1 to write docs/errors.md anew");
}

#[test]
fn every_cause_has_its_own_stable_code() {
    let codes: BTreeSet<_> = Reject::ALL.iter().map(|r| r.code()).collect();
    assert_eq!(codes.len(), Reject::ALL.len());
    for code in codes {
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
    }
}

#[test]
fn every_cause_is_listed_in_order() {
    // `ALL` is written by hand: a cause that is added but not listed would leave a gap or end early.
    for (place, reject) in Reject::ALL.iter().enumerate() {
        assert_eq!(*reject as usize, place);
    }
    assert_eq!(Reject::ALL.last(), Some(&Reject::Draining));
}

#[test]
fn every_status_is_an_error_and_every_advice_a_sentence() {
    for reject in Reject::ALL {
        assert!((400..600).contains(&reject.status()), "{reject:?}");
        assert!(reject.advice().ends_with('.') && reject.advice().len() > 20, "{reject:?}");
        assert!(!reject.flag().is_empty(), "{reject:?}");
    }
}
