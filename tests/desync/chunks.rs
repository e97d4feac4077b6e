//! Chunked bodies: sizes, extensions, line ends, data.

use super::{Case, SMUGGLED, called, post, refuse_body};

pub(super) fn cases() -> Vec<Case> {
    [sizes(), line_ends(), extensions(), limits()].concat()
}

fn chunked(body: &str) -> String {
    post(&["Transfer-Encoding: chunked"], body)
}

fn case(what: &str, body: &str) -> Case {
    refuse_body("chunk", what, &chunked(body))
}

/// Sizes that some parser takes for 5 or for 0.
fn sizes() -> Vec<Case> {
    let mut sizes: Vec<String> = [
        "",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "+5",
        "-5",
        "-0",
        "+0",
        "0x5",
        "0X5",
        "x5",
        "5h",
        "h5",
        "5x",
        "5g",
        "5_0",
        "0_5",
        "5,5",
        "5.0",
        "5'",
        "'5'",
        "\"5\"",
        "(5)",
        "5:",
        "5=",
        "5/",
        "5\\",
        "5 5",
        "0 5",
        "5\u{b}",
        "\u{c}5",
        "5\u{0}",
        "\u{0}5",
        "5\u{a0}",
        "\u{a0}5",
        "5\u{7f}",
        "5\u{80}",
        "%35",
        "\\x5",
        "five",
        "#5",
        "$5",
        "5%",
        "5&x",
        "5?x",
        "5|x",
        "10000000000000005",
        "00000000000000005",
        "100000005000000005",
        "ffffffffffffffff",
        "FFFFFFFFFFFFFFFF",
        "8000000000000000",
        "ffffffffffffffff5",
        "fffffffffffffffff",
        "0000000000000000000000000000000000005",
        "10000000000000000",
        "zz",
        "NaN",
        "Infinity",
        "null",
        "0x",
        "0x0",
        "00x5",
        "5 ;a",
        "5\t;a",
    ]
    .map(str::to_owned)
    .to_vec();
    sizes.push("5".repeat(300));
    let mut cases = Vec::new();
    for size in &sizes {
        let name = if size.len() > 40 { "of 300 digits".to_owned() } else { format!("{size:?}") };
        cases.push(case(&format!("size {name}"), &format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}")));
    }
    for size in ["-0", "+0", "0x0", " 0", "0 ", "0\t", "0_", "0,", "o", "O", "0\u{0}", "\u{b}0", "00000000000000000"] {
        cases.push(case(&format!("second size {size:?}"), &format!("5\r\nhello\r\n{size}\r\n\r\n{SMUGGLED}")));
    }
    cases
}

fn line_ends() -> Vec<Case> {
    [
        ("size ended by LF", "5\nhello\r\n0\r\n\r\n"),
        ("size ended by CR", "5\rhello\r\n0\r\n\r\n"),
        ("size ended by LF CR", "5\n\rhello\r\n0\r\n\r\n"),
        ("size ended by CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("size ended by CR and another byte", "5\rXhello\r\n0\r\n\r\n"),
        ("second size ended by LF", "5\r\nhello\r\n0\n\r\n"),
        ("second size ended by CR", "5\r\nhello\r\n0\r\r\n"),
        ("data ended by LF", "5\r\nhello\n0\r\n\r\n"),
        ("data ended by CR", "5\r\nhello\r0\r\n\r\n"),
        ("data ended by LF LF", "5\r\nhello\n\n0\r\n\r\n"),
        ("data ended by CR CR", "5\r\nhello\r\r0\r\n\r\n"),
        ("data ended by LF CR", "5\r\nhello\n\r0\r\n\r\n"),
        ("data ended by CR LF LF", "5\r\nhello\r\n\n0\r\n\r\n"),
        ("data ended by CRLF CRLF", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("data ended by two other bytes", "5\r\nhelloXX0\r\n\r\n"),
        ("data not ended", "5\r\nhello0\r\n\r\n"),
        ("data one byte too long", "5\r\nhello!\r\n0\r\n\r\n"),
        ("data one byte too short", "5\r\nhell\r\n0\r\n\r\n0\r\n\r\n"),
        ("data too long by a chunk", "5\r\nhello6\r\nworld!\r\n0\r\n\r\n"),
        ("an empty line before the first size", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("LF before the first size", "\n5\r\nhello\r\n0\r\n\r\n"),
        ("a space line before the first size", " \r\n5\r\nhello\r\n0\r\n\r\n"),
        ("body ended by LF", "5\r\nhello\r\n0\r\n\n"),
        ("body ended by CR CR LF", "0\r\n\r\r\n"),
        ("body of LF alone", "0\n\n"),
        ("a request in place of a chunk", SMUGGLED),
        ("a request in place of the last chunk", "5\r\nhello\r\nGET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\n"),
        ("a request behind the last chunk", "0\r\nGET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\n"),
    ]
    .map(|(what, body)| case(what, &format!("{body}{SMUGGLED}")))
    .to_vec()
}

/// Extensions that some parser ends elsewhere, or reads as part of the data.
fn extensions() -> Vec<Case> {
    let mut extensions: Vec<String> = [
        ";",
        ";;",
        "; ",
        "; a",
        " ;a",
        "\t;a",
        ";\ta",
        ";a;",
        ";a; b",
        ";a ;b",
        ";a=",
        ";a= b",
        ";a =b",
        ";a = b",
        ";=",
        ";=b",
        ";a=b=c",
        ";a=\"",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=\"b\\",
        ";a=\"b\\\"",
        ";a='b c'",
        ";a=b c",
        ";a b",
        ";a,b",
        ";a=b,c=d",
        ";a/b",
        ";(a)",
        ";a=(b)",
        ";[a]",
        ";a@b",
        ";a=<b>",
        ";a:b",
        ";a={b}",
        ";a?b",
        ";a\\b",
        ";a=\"b\"\"c\"",
        ";a=b;",
        ";\"a\"",
        ";a\nb",
        ";a=\"\n\"",
        ";a=\"\r\"",
        ";a\rb",
        ";\n",
        ";a\n\n",
        ";a=\"b\r",
        ";\r\r",
        ";a\u{0}",
        ";a=\"\u{0}\"",
        ";a=\u{7f}",
        ";a=\"\u{7f}\"",
        ";\u{e9}",
        ";a=\u{e9}",
        ";a\u{a0}",
        ";a=\"\u{1}\"",
    ]
    .map(str::to_owned)
    .to_vec();
    for byte in [0x01_u8, 0x0b, 0x0c, 0x1f, 0x80, 0xff] {
        extensions.push(format!(";a{}", char::from(byte)));
    }
    let mut cases = Vec::new();
    for extension in &extensions {
        let body = format!("5{extension}\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
        cases.push(case(&format!("extension {extension:?}"), &body));
    }
    for extension in [";", "; a", ";a\nX: y", ";\n", ";a\r", ";a=\"\n\r\n"] {
        let body = format!("5\r\nhello\r\n0{extension}\r\n\r\n{SMUGGLED}");
        cases.push(case(&format!("extension of the last chunk {extension:?}"), &body));
    }
    for byte in [0x00_u8, 0x0a, 0x0d, 0x20, 0x09] {
        let body = format!("5{}a\r\nhello\r\n0\r\n\r\n", char::from(byte));
        cases.push(case(&format!("{} behind the size", called(byte)), &body));
    }
    cases
}

fn limits() -> Vec<Case> {
    let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "b".repeat(5_000));
    let many = format!("{}0\r\n\r\n", format!("1;a={}\r\nx\r\n", "b".repeat(400)).repeat(60));
    vec![case("extension too long", &long), case("extensions too many", &many)]
}
