//! The framing guard in front of the HTTP/1 server: says which received bytes may be parsed at all. Parsing requests
//! into messages, time limits and answering are left to the caller.
//!
//! A request that two parsers could cut differently (RFC 9112 section 11.2, request smuggling) never passes: the guard
//! accepts the narrow grammar that every parser reads alike and refuses the rest. It holds a head back until it is
//! complete and valid; bodies pass as they come. What was scanned is not scanned again when more bytes come.

mod chunked;
mod fields;
mod head;
mod request_line;
mod syntax;
mod violation;

#[cfg(test)]
mod tests;

pub use head::Head;
pub use violation::Violation;

use chunked::Chunked;
use head::HeadParser;

/// What the guard accepts at most. All sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and fields, with their line ends.
    pub head_bytes: usize,
    /// Field lines of a head, and of a trailer section.
    pub headers: usize,
    /// One chunk-size line with its extensions.
    pub chunk_line_bytes: usize,
    /// All chunk extensions of one body.
    pub extension_bytes: usize,
    /// A trailer section.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    /// Not above what hyper's server takes by default (100 fields, 16 KiB of extensions and of trailers).
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            headers: 100,
            chunk_line_bytes: 512,
            extension_bytes: 8 * 1024,
            trailer_bytes: 16 * 1024,
        }
    }
}

/// What may be done with the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This many first bytes may be handed on; always above 0.
    Pass(usize),
    /// Nothing can be said before more bytes have come.
    NeedMore,
    /// The next bytes must not be handed on, nor anything after them: answer and close.
    Refuse(Violation),
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    state: State,
    /// Facts about the head that was passed last.
    last: Head,
}

#[derive(Debug)]
enum State {
    Head(HeadParser),
    Counted(u64),
    Chunked(Chunked),
    Refused(Violation),
}

/// What one part of a message came to.
enum Progress<T> {
    NeedMore,
    Done(T),
}

impl Guard {
    /// A guard for a connection on which nothing has been received.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head(HeadParser::default()), last: Head::default() }
    }

    /// Judges `buffer`: everything that was received and not yet passed. Between two calls the caller drops the bytes
    /// that were passed and appends what has come, nothing else.
    pub fn step(&mut self, buffer: &[u8]) -> Step {
        match self.advance(buffer) {
            Ok(0) => Step::NeedMore,
            Ok(length) => Step::Pass(length),
            Err(violation) => {
                self.state = State::Refused(violation);
                Step::Refuse(violation)
            }
        }
    }

    /// True when no byte of a further request has come: the connection may be closed without loss.
    pub fn is_between_messages(&self) -> bool {
        matches!(&self.state, State::Head(parser) if !parser.has_begun())
    }

    /// True when a head has begun and is held back: the time that the rest may take should be limited.
    pub fn is_in_head(&self) -> bool {
        matches!(&self.state, State::Head(parser) if parser.has_begun())
    }

    /// Facts about the head that was passed last. After [`Head::asks_for_tunnel`] the bytes that follow are judged as
    /// a further request until the caller, having answered 101 or 2xx, stops asking the guard.
    pub fn last_head(&self) -> Head {
        self.last
    }

    fn advance(&mut self, buffer: &[u8]) -> Result<usize, Violation> {
        match &mut self.state {
            State::Refused(violation) => Err(*violation),
            State::Counted(left) => {
                let length = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::Head(HeadParser::default());
                }
                Ok(length)
            }
            State::Chunked(chunked) => {
                let (length, ended) = chunked.advance(buffer, &self.limits)?;
                if ended {
                    self.state = State::Head(HeadParser::default());
                }
                Ok(length)
            }
            State::Head(parser) => match parser.advance(buffer, &self.limits)? {
                Progress::NeedMore => Ok(0),
                Progress::Done((length, head)) => {
                    self.last = head;
                    self.state = if head.is_chunked {
                        State::Chunked(Chunked::default())
                    } else if head.content_length > 0 {
                        State::Counted(head.content_length)
                    } else {
                        State::Head(HeadParser::default())
                    };
                    Ok(length)
                }
            },
        }
    }
}
