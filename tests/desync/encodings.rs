//! `Transfer-Encoding`: hidden, misspelt, repeated, nested, in HTTP/1.0.

use super::{Case, SMUGGLED, called, message, post, refuse};

pub(super) fn cases() -> Vec<Case> {
    [values(), control_bytes(), lines(), repeated(), old_version()].concat()
}

fn rest() -> String {
    format!("0\r\n\r\n{SMUGGLED}")
}

fn values() -> Vec<Case> {
    let values = [
        "",
        "chunked, chunked",
        "chunked,chunked",
        "chunked,",
        ",chunked",
        "chunked, ",
        ", chunked",
        "chunked,,",
        "chunked;",
        "chunked; q=1",
        "chunked;foo=bar",
        "xchunked",
        "chunkedx",
        "chunk",
        "chunke",
        "chunked chunked",
        "chunked foo",
        "foo chunked",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "deflate, chunked",
        "compress",
        "cow",
        "cow, chunked",
        "chunked, cow",
        "\"chunked\"",
        "'chunked'",
        "(chunked)",
        "chunked (comment)",
        "<chunked>",
        "[chunked]",
        "=chunked",
        ":chunked",
        "/chunked",
        "chunked/1.0",
        "chunked:",
        "chunked.",
        "chunked-",
        "-chunked",
        "_chunked",
        "chunked_",
        "*",
        "*/*",
        "none",
        "null",
        "0",
        "1",
        "true",
        "c hunked",
        "chun ked",
        "chunked\t,",
        "\tchunked\tx",
        "chunk%65d",
        "\\chunked",
        "chunked\u{a0}",
        "\u{a0}chunked",
        "chunked\u{85}",
        "CHUNKED, CHUNKED",
        "trailers",
        "chunked, trailers",
        "chunked identity",
        "identity; chunked",
    ];
    values
        .iter()
        .map(|value| {
            refuse("encoding", &format!("value {value:?}"), &post(&[&format!("Transfer-Encoding: {value}")], &rest()))
        })
        .collect()
}

/// Bytes that some parser trims, skips or ends at.
fn control_bytes() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in [0x00, 0x01, 0x08, 0x0b, 0x0c, 0x0e, 0x1b, 0x1f, 0x7f, 0x80, 0x85, 0xa0, 0xff] {
        let odd = char::from(byte);
        for (place, field) in [
            ("before the value", format!("Transfer-Encoding: {odd}chunked")),
            ("behind the value", format!("Transfer-Encoding: chunked{odd}")),
            ("within the value", format!("Transfer-Encoding: chun{odd}ked")),
            ("before the name", format!("{odd}Transfer-Encoding: chunked")),
            ("behind the name", format!("Transfer-Encoding{odd}: chunked")),
            ("within the name", format!("Transfer{odd}-Encoding: chunked")),
        ] {
            let bytes = post(&[&field, "Content-Length: 5"], &rest());
            cases.push(refuse("encoding", &format!("{} {place}", called(byte)), &bytes));
        }
    }
    cases
}

/// The field line itself.
fn lines() -> Vec<Case> {
    let lines = [
        ("space before the colon", "Transfer-Encoding : chunked"),
        ("tab before the colon", "Transfer-Encoding\t: chunked"),
        ("two spaces before the colon", "Transfer-Encoding  : chunked"),
        ("no colon", "Transfer-Encoding chunked"),
        ("an equals sign", "Transfer-Encoding= chunked"),
        ("a semicolon", "Transfer-Encoding; chunked"),
        ("a leading space", " Transfer-Encoding: chunked"),
        ("a leading tab", "\tTransfer-Encoding: chunked"),
        ("two colons", "Transfer-Encoding:: chunked"),
        ("a space for the dash", "Transfer Encoding: chunked"),
        ("quotes around the name", "\"Transfer-Encoding\": chunked"),
        ("folded value", "Transfer-Encoding:\r\n chunked"),
        ("folded value with a tab", "Transfer-Encoding:\r\n\tchunked"),
        ("folded behind another", "X-Fold: a\r\n Transfer-Encoding: chunked"),
        ("folded list", "Transfer-Encoding: chunked\r\n , identity"),
        ("folded nothing", "Transfer-Encoding: chunked\r\n "),
        ("bare LF before", "X-Line: a\nTransfer-Encoding: chunked"),
        ("bare CR before", "X-Line: a\rTransfer-Encoding: chunked"),
        ("bare LF behind", "Transfer-Encoding: chunked\nX-Line: a"),
        ("bare CR behind", "Transfer-Encoding: chunked\rX-Line: a"),
        ("LF CR before", "X-Line: a\n\rTransfer-Encoding: chunked"),
        ("CR CR LF before", "X-Line: a\r\r\nTransfer-Encoding: chunked"),
        ("bare LF in the value", "Transfer-Encoding:\nchunked"),
        ("bare CR in the value", "Transfer-Encoding:\rchunked"),
        ("NUL before the name", "X: a\u{0}Transfer-Encoding: chunked"),
    ];
    let mut cases = Vec::new();
    for (what, line) in lines {
        cases.push(refuse("encoding", &format!("line with {what}"), &post(&[line], &rest())));
        let with_length = post(&["Content-Length: 5", line], &rest());
        cases.push(refuse("encoding", &format!("line with {what}, and a length"), &with_length));
    }
    cases
}

fn repeated() -> Vec<Case> {
    let mut cases = Vec::new();
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("chunked", "cow"),
        ("cow", "chunked"),
        ("gzip", "chunked"),
        ("chunked", ""),
        ("", "chunked"),
        ("chunked", "Chunked"),
    ] {
        let fields = [format!("Transfer-Encoding: {first}"), format!("transfer-encoding: {second}")];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        cases.push(refuse("encoding", &format!("twice, {first:?} and {second:?}"), &post(&fields, &rest())));
        let with_length = [fields[0], "Content-Length: 5", fields[1]];
        let bytes = post(&with_length, &rest());
        cases.push(refuse("encoding", &format!("twice around a length, {first:?} and {second:?}"), &bytes));
    }
    cases
}

fn old_version() -> Vec<Case> {
    let mut cases = Vec::new();
    let fields: [(&str, &[&str]); 4] = [
        ("alone", &["Transfer-Encoding: chunked"]),
        ("with Host", &["Host: app.prod", "Transfer-Encoding: chunked"]),
        ("kept alive", &["Host: app.prod", "Connection: keep-alive", "Transfer-Encoding: chunked"]),
        ("with a length", &["Host: app.prod", "Content-Length: 5", "Transfer-Encoding: chunked"]),
    ];
    for (what, fields) in fields {
        let marked = [&["X-Marker: CASE"], fields].concat();
        let bytes = message("POST /old HTTP/1.0", &marked, &rest());
        cases.push(refuse("encoding", &format!("in HTTP/1.0 {what}"), &bytes));
    }
    cases
}
