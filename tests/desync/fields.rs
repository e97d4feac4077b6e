//! Field lines in general: names, colons, folding, line ends, control bytes, limits.

use super::{Case, called, get, message, post, refuse};

pub(super) fn cases() -> Vec<Case> {
    [names(), values(), line_ends(), connection(), limits()].concat()
}

fn names() -> Vec<Case> {
    let lines = [
        ("empty name", ": value"),
        ("only a colon", ":"),
        ("no colon", "X-Field"),
        ("no colon with text", "X-Field value"),
        ("space before the colon", "X-Field : value"),
        ("tab before the colon", "X-Field\t: value"),
        ("space in the name", "X Field: value"),
        ("leading space", " X-Field: value"),
        ("leading tab", "\tX-Field: value"),
        ("only a space", " "),
        ("only a tab", "\t"),
        ("slash", "X/Field: value"),
        ("at sign", "X@Field: value"),
        ("brackets", "X[Field]: value"),
        ("parentheses", "X(Field): value"),
        ("braces", "{X-Field}: value"),
        ("quotes", "\"X-Field\": value"),
        ("comma", "X,Field: value"),
        ("semicolon", "X;Field: value"),
        ("equals sign", "X=Field: value"),
        ("question mark", "X?Field: value"),
        ("backslash", "X\\Field: value"),
        ("angle brackets", "<X-Field>: value"),
        ("DEL", "X\u{7f}Field: value"),
        ("Latin-1 letter", "X-F\u{ef}eld: value"),
        ("no-break space", "X-Field\u{a0}: value"),
        ("a second request line", "GET /smuggled HTTP/1.1"),
    ];
    lines.map(|(what, line)| refuse("field", &format!("name, {what}"), &get(&[line]))).to_vec()
}

fn values() -> Vec<Case> {
    (0x00..0x20)
        .chain([0x7f])
        .filter(|byte| *byte != b'\t')
        .map(|byte| {
            let odd = char::from(byte);
            let line = format!("X-Field: a{odd}b");
            refuse("field", &format!("value with {}", called(byte)), &get(&[&line]))
        })
        .collect()
}

fn line_ends() -> Vec<Case> {
    let lines = [
        ("folding with a space", "X-Field: a\r\n b"),
        ("folding with a tab", "X-Field: a\r\n\tb"),
        ("folding of nothing", "X-Field: a\r\n "),
        ("folding of a request", "X-Field: a\r\n GET /smuggled HTTP/1.1"),
        ("LF", "X-Field: a\nX-Other: b"),
        ("LF LF, then a request", "X-Field: a\n\nGET /smuggled HTTP/1.1\nHost: app.prod\n"),
        ("CR", "X-Field: a\rX-Other: b"),
        ("CR CR", "X-Field: a\r\rGET /smuggled HTTP/1.1"),
        ("LF CR", "X-Field: a\n\rX-Other: b"),
        ("CR CR LF", "X-Field: a\r\r\nX-Other: b"),
        ("CR at the end of a value", "X-Field: a\r"),
        ("CR at the start of a value", "X-Field: \ra"),
        ("CR before the name", "\rX-Field: a"),
        ("NUL at the end of a value", "X-Field: a\u{0}"),
        ("vertical tab for a line end", "X-Field: a\u{b}X-Other: b"),
        ("form feed for a line end", "X-Field: a\u{c}X-Other: b"),
    ];
    let mut cases = lines.map(|(what, line)| refuse("field", &format!("line end, {what}"), &get(&[line]))).to_vec();
    let plain = get(&["Content-Length: 0"]);
    cases.push(refuse("field", "all line ends are LF", &plain.replace("\r\n", "\n")));
    cases.push(refuse("field", "all line ends are CR", &plain.replace("\r\n", "\r")));
    cases.push(refuse("field", "all line ends are LF CR", &plain.replace("\r\n", "\n\r")));
    cases.push(refuse("field", "the head ends with LF", &plain.replace("\r\n\r\n", "\r\n\n")));
    cases.push(refuse("field", "the head ends with LF LF", &plain.replace("\r\n\r\n", "\n\n")));
    cases.push(refuse("field", "the head ends with CR CR LF", &plain.replace("\r\n\r\n", "\r\n\r\r\n")));
    cases.push(refuse("field", "a fold stands before the first field", &plain.replace("Host:", " \r\nHost:")));
    cases.push(refuse("field", "white space stands before Host", &plain.replace("Host:", " Host:")));
    cases
}

/// `Connection` names what frames the message, so that a proxy on the way drops it.
fn connection() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "content-length",
        "Content-Length",
        "keep-alive, Content-Length",
        "content-length, close",
        "host",
        "close, Host",
        "transfer-encoding",
        "keep-alive,Transfer-Encoding",
        ",,host",
        "close\t,\thost",
        "close;content-length",
        "close content-length",
        "\"content-length\"",
        "close, \"x\"",
        "@",
    ] {
        let field = format!("Connection: {value}");
        let bytes = post(&["Content-Length: 5", &field], "hello");
        cases.push(refuse("field", &format!("Connection is {value:?}"), &bytes));
    }
    let two = post(&["Content-Length: 5", "Connection: close", "Connection: content-length"], "hello");
    cases.push(refuse("field", "a second Connection names the length", &two));
    cases
}

fn limits() -> Vec<Case> {
    let many: Vec<String> = (0..120).map(|number| format!("X-{number}: a")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = format!("X-Long: {}", "a".repeat(70_000));
    let target = format!("GET /{} HTTP/1.1", "a".repeat(70_000));
    vec![
        refuse("field", "too many", &get(&many)),
        refuse("field", "too long", &get(&[&long])),
        refuse("line", "too long", &message(&target, &["Host: app.prod", "X-Marker: CASE"], "")),
    ]
}
