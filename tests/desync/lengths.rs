//! `Content-Length`: repeated, in lists, with signs and spaces, overflowing, and beside `Transfer-Encoding`.

use super::{Case, SMUGGLED, message, post, refuse};

pub(super) fn cases() -> Vec<Case> {
    [values(), repeated(), with_encoding(), with_methods()].concat()
}

/// Values that some parser takes for 5 or for 0.
fn values() -> Vec<Case> {
    let values = [
        "+5",
        "-5",
        "-0",
        "+0",
        "5 5",
        "5,5",
        "5, 5",
        "5,",
        ",5",
        ",",
        "5;5",
        "5;",
        "0x5",
        "0X5",
        "05",
        "005",
        "00",
        "5.0",
        "5e0",
        "5_0",
        "5h",
        "h5",
        "five",
        "\"5\"",
        "'5'",
        "(5)",
        "5 (comment)",
        "5\t5",
        "\u{b}5",
        "5\u{b}",
        "\u{c}5",
        "5\u{c}",
        "5\u{0}",
        "\u{0}5",
        "5\u{a0}",
        "\u{a0}5",
        "5\u{85}",
        "\u{b2}",
        "5\u{7f}",
        "5\u{1}",
        "18446744073709551616",
        "18446744073709551621",
        "18446744073709551615",
        "9223372036854775808",
        "99999999999999999999999999999999",
        "4294967301,",
        "1 0",
        "1,0",
        "0,1",
        "0 5",
        "5/5",
        "5:5",
        "=5",
        "5=",
        "$5",
        "%35",
        "\\5",
        "5%",
        "5~",
        "NaN",
        "inf",
        "null",
        "true",
        "1e1",
        "0b101",
        "0o5",
        "5L",
        "5u",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| {
            refuse("length", &format!("value {value:?}"), &post(&[&format!("Content-Length: {value}")], SMUGGLED))
        })
        .collect();
    cases.push(refuse("length", "no value", &post(&["Content-Length:"], SMUGGLED)));
    cases.push(refuse("length", "only a space", &post(&["Content-Length:  "], SMUGGLED)));
    cases
}

fn repeated() -> Vec<Case> {
    let mut cases = Vec::new();
    for (first, second) in
        [("5", "5"), ("0", "5"), ("5", "0"), ("5", "6"), ("0", "0"), ("5", "x"), ("", "5"), ("5", "")]
    {
        let fields = [format!("Content-Length: {first}"), format!("Content-Length: {second}")];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let rest = format!("hello{SMUGGLED}");
        cases.push(refuse("length", &format!("twice, {first:?} and {second:?}"), &post(&fields, &rest)));
        let apart = [fields[0], "X-Between: 1", fields[1]];
        cases.push(refuse("length", &format!("twice apart, {first:?} and {second:?}"), &post(&apart, &rest)));
    }
    for (one, other) in [("Content-Length", "content-length"), ("CONTENT-LENGTH", "Content-length")] {
        let fields = [format!("{one}: 5"), format!("{other}: 5")];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        cases.push(refuse("length", &format!("twice as {one} and {other}"), &post(&fields, "hello")));
    }
    cases.push(refuse("length", "three times", &post(&["Content-Length: 5"; 3], "hello")));
    cases
}

fn with_encoding() -> Vec<Case> {
    let mut cases = Vec::new();
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    for length in ["0", "3", "5", "6", "13", "30", "x", "-1", ""] {
        for encoding in ["chunked", "Chunked", "identity", "xchunked", "chunked, identity", "gzip, chunked", ""] {
            let length_field = format!("Content-Length: {length}");
            let encoding_field = format!("Transfer-Encoding: {encoding}");
            let what = format!("{length:?} before encoding {encoding:?}");
            cases.push(refuse("both", &what, &post(&[&length_field, &encoding_field], &chunked)));
            let what = format!("{length:?} behind encoding {encoding:?}");
            cases.push(refuse("both", &what, &post(&[&encoding_field, &length_field], &chunked)));
        }
    }
    cases
}

/// Methods that some parser takes to have no body.
fn with_methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PUT", "PATCH", "PROPFIND"] {
        let line = format!("{method} /m HTTP/1.1");
        let both = ["Host: app.prod", "X-Marker: CASE", "Content-Length: 5", "Transfer-Encoding: chunked"];
        cases.push(refuse("method", &format!("{method} with both framings"), &message(&line, &both, "0\r\n\r\n")));
        let twice = ["Host: app.prod", "X-Marker: CASE", "Content-Length: 5", "Content-Length: 0"];
        cases.push(refuse("method", &format!("{method} with two lengths"), &message(&line, &twice, "hello")));
    }
    cases
}
