//! Properties over generated streams.

use proptest::prelude::*;

use super::run;

#[derive(Clone, Debug)]
struct Message {
    head: String,
    fields: Vec<(String, String)>,
    bytes: Vec<u8>,
    chunked: bool,
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    // The prefix keeps generated names away from those with a meaning.
    prop::collection::vec(("x-[a-z0-9!#$%&'*+.^_`|~-]{0,12}", "([!-~]([ -~\t]{0,20}[!-~])?)?"), 0..6)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), any::<u8>()], 0..40)
}

/// A body in chunks, with extensions and trailers.
fn chunks() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop_oneof![Just(String::new()), ";[a-z]{1,5}(=[a-z]{1,5})?", ";a=\"[ -!#-\\[\\]-~]{0,9}\""];
    let trailers = fields();
    (prop::collection::vec((body(), extension), 0..4), trailers).prop_map(|(chunks, trailers)| {
        let mut bytes = Vec::new();
        for (data, extension) in chunks.into_iter().filter(|(data, _)| !data.is_empty()) {
            bytes.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    })
}

fn message() -> impl Strategy<Value = Message> {
    let framing = prop_oneof![
        Just((None, Vec::new(), false)),
        body().prop_map(|body| (Some(("content-length".to_owned(), body.len().to_string())), body, false)),
        chunks().prop_map(|body| (Some(("transfer-encoding".to_owned(), "chunked".to_owned())), body, true)),
    ];
    let line = ("(GET|POST|PUT|X-[A-Z]{1,8})", "/[!-\"$-~]{0,30}");
    (line, fields(), framing).prop_map(|((method, target), mut fields, (framing, body, chunked))| {
        fields.insert(0, ("host".to_owned(), "app.prod:80".to_owned()));
        fields.extend(framing);
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let bytes = [head.as_bytes(), &body].concat();
        Message { head, fields, bytes, chunked }
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..60, 1..20)
}

/// Field lines that make any request ambiguous.
fn trick() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Host: app.prod:80",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding\u{b}: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\0",
        "X",
        ": y",
        "Connection: content-length",
    ])
}

proptest! {
    #[test]
    fn valid_streams_pass_whole_in_any_pieces(messages in prop::collection::vec(message(), 1..5), pieces in pieces()) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.bytes.clone()).collect();
        let (passed, violation, guard) = run(&stream, &pieces);
        prop_assert_eq!(violation, None);
        prop_assert_eq!(passed, stream);
        prop_assert!(guard.is_between_messages());
    }

    #[test]
    fn another_parser_reads_the_same_fields(message in message()) {
        prop_assert_eq!(run(&message.bytes, &[usize::MAX]).1, None);
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&message.bytes);
        // httparse takes a narrower target; what it takes it must read alike.
        if let Ok(status) = parsed {
            prop_assert_eq!(status, httparse::Status::Complete(message.head.len()));
            let read: Vec<(String, String)> = request
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), String::from_utf8(header.value.to_vec()).unwrap()))
                .collect();
            prop_assert_eq!(read, message.fields);
        } else {
            let line = message.head.lines().next().unwrap();
            prop_assert!(line.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}']), "{:?}", line);
        }
    }

    #[test]
    fn any_pieces_give_what_the_whole_gives(stream in stream_of_anything(), pieces in pieces()) {
        let (whole, whole_violation, _) = run(&stream, &[usize::MAX]);
        let (passed, violation, _) = run(&stream, &pieces);
        prop_assert_eq!(violation, whole_violation);
        prop_assert_eq!(passed, whole);
    }

    #[test]
    fn any_bytes_are_survived(stream in prop::collection::vec(any::<u8>(), 0..300), pieces in pieces()) {
        run(&stream, &pieces);
    }

    #[test]
    fn a_trick_in_a_valid_head_is_refused(message in message(), trick in trick(), at in any::<prop::sample::Index>()) {
        let mut lines: Vec<&str> = message.head.trim_end_matches("\r\n").split("\r\n").collect();
        // Behind the request line.
        let place = 1 + at.index(lines.len());
        lines.insert(place.min(lines.len()), trick);
        let head = lines.join("\r\n") + "\r\n\r\n";
        let (passed, violation, _) = run(head.as_bytes(), &[usize::MAX]);
        prop_assert!(violation.is_some(), "{:?}", head);
        prop_assert!(passed.is_empty());
    }

    #[test]
    fn a_length_beside_chunks_is_refused(message in message(), length in any::<u32>()) {
        let line = if message.chunked { format!("Content-Length: {length}") } else { "Transfer-Encoding: chunked".to_owned() };
        let head = message.head.replacen("\r\n", &format!("\r\n{line}\r\n"), 1);
        let has_length = message.chunked || message.head.contains("content-length");
        prop_assert_eq!(run(head.as_bytes(), &[usize::MAX]).0.is_empty(), has_length);
    }
}

/// A valid stream with a few bytes changed, so that faults stand at every place.
fn stream_of_anything() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop::sample::select(vec![b'\r', b'\n', 0, b' ', b'\t', b':', b'0', b'a', b';', b'"', 0xff]);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), odd, any::<bool>()), 0..4);
    (prop::collection::vec(message(), 1..4), edits).prop_map(|(messages, edits)| {
        let mut stream: Vec<u8> = messages.into_iter().flat_map(|message| message.bytes).collect();
        for (at, byte, insert) in edits {
            let at = at.index(stream.len());
            if insert {
                stream.insert(at, byte);
            } else {
                stream[at] = byte;
            }
        }
        stream
    })
}
