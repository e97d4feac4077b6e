//! The echo server and client that the Gateway API's conformance suite runs in its pods: the server tells a request
//! back as lines of `Field=value`, the client (`client URL ...`) prints the answer as the suite's parser reads it.
#![allow(clippy::print_stdout, reason = "the suite reads the client's output")]

mod client;
mod server;

/// How a gRPC call of the pair is named; the suite's routes match every name.
const METHOD: &str = "/causeway.test.Echo/Echo";

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut arguments: Vec<String> = std::env::args().collect();
    let own = std::path::Path::new(arguments.first().map_or("", String::as_str));
    // As `/usr/bin/client`, which is how the suite calls it, or with the word as its first argument.
    let named_client = own.file_name().is_some_and(|name| name == "client");
    let is_client = named_client || arguments.get(1).is_some_and(|word| word == "client");
    arguments.drain(..arguments.len().min(if is_client && !named_client { 2 } else { 1 }));
    runtime.block_on(async { if is_client { client::run(&arguments).await } else { server::run(&arguments).await } })
}

/// A gRPC message with a text as its field 1.
fn message(text: &str) -> Vec<u8> {
    let mut content = vec![0x0a];
    let mut length = text.len();
    while length > 0x7f {
        content.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    content.push(u8::try_from(length).unwrap_or_default());
    content.extend_from_slice(text.as_bytes());
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(content);
    frame
}

/// The text of [`message`]; None where it is another one.
fn text(frame: &[u8]) -> Option<String> {
    let content = frame.get(5..)?.strip_prefix(&[0x0a])?;
    let digits = content.iter().position(|byte| *byte < 0x80)? + 1;
    let (length, rest) = content.split_at(digits);
    let length = length.iter().rev().fold(0, |sum, byte| (sum << 7) | usize::from(byte & 0x7f));
    String::from_utf8(rest.get(..length)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_is_read_as_it_was_written() {
        for text in ["", "Hostname=a\n", &"x".repeat(127), &"x".repeat(128), &"y".repeat(70_000)] {
            assert_eq!(super::text(&super::message(text)).as_deref(), Some(text));
        }
        assert_eq!(super::text(b"\0\0\0\0\x02\x0a\x05"), None);
    }
}
