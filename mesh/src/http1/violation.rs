//! Why bytes were refused, by the rule that they break. The answer's form is left to `reject`.

use crate::reject::Reject;

/// The rule that a request broke. The text names where the rule is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// More than one empty line before a request.
    #[error("more than one empty line stands before the request line (RFC 9112 section 2.2)")]
    LeadingEmptyLines,
    /// A line ends with LF alone.
    #[error("a line ends with LF instead of CRLF (RFC 9112 section 2.2)")]
    BareLineFeed,
    /// A CR that is not the first half of a line end.
    #[error("a CR stands alone (RFC 9112 section 2.2)")]
    BareCarriageReturn,
    /// A NUL byte.
    #[error("a NUL byte stands in the head (RFC 9110 section 5.5)")]
    Nul,
    /// The head is longer than the limit.
    #[error("the request head is too large (RFC 6585 section 5)")]
    HeadTooLarge,
    /// The head has more fields than the limit.
    #[error("the request head has too many fields (RFC 6585 section 5)")]
    TooManyFields,
    /// Not `method SP target SP version`.
    #[error("the request line is not `method SP target SP version` with single spaces (RFC 9112 section 3)")]
    RequestLine,
    /// The method is not a token.
    #[error("the method is not a token of at most 64 bytes (RFC 9112 section 3.1)")]
    Method,
    /// The target has a byte that may not be sent, such as `#`, or a form that its method does not allow.
    #[error("the request target has none of the four forms (RFC 9112 section 3.2)")]
    Target,
    /// Neither `HTTP/1.1` nor `HTTP/1.0`.
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0 (RFC 9112 section 2.3)")]
    Version,
    /// A field name is empty or not a token, or the colon is missing.
    #[error("a field line is not `name: value` with a token as its name (RFC 9112 section 5)")]
    FieldName,
    /// White space between name and colon.
    #[error("white space stands before a field's colon (RFC 9112 section 5.1)")]
    SpaceBeforeColon,
    /// A control byte in a value.
    #[error("a field value has a control byte (RFC 9110 section 5.5)")]
    FieldValue,
    /// A field line that begins with white space.
    #[error("a field line begins with white space (line folding, RFC 9112 section 5.2)")]
    LineFolding,
    /// HTTP/1.1 without `Host`.
    #[error("an HTTP/1.1 request has no Host (RFC 9112 section 3.2)")]
    HostMissing,
    /// More than one `Host`, equal or not.
    #[error("a request has more than one Host (RFC 9112 section 3.2)")]
    HostRepeated,
    /// `Host` is not a host with an optional port.
    #[error("Host is not a host with an optional port (RFC 9112 section 3.2)")]
    HostInvalid,
    /// `Host` names another place than the target.
    #[error("Host differs from the authority of the request target (RFC 9112 section 3.2.2)")]
    HostDiffers,
    /// More than one `Content-Length`, equal or not.
    #[error("a request has more than one Content-Length (RFC 9112 section 6.3)")]
    LengthRepeated,
    /// `Content-Length` is not one plain decimal number.
    #[error("Content-Length is not one plain decimal number (RFC 9110 section 8.6)")]
    LengthInvalid,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("a request has Content-Length and Transfer-Encoding (RFC 9112 section 6.3)")]
    LengthWithEncoding,
    /// More than one `Transfer-Encoding`.
    #[error("a request has more than one Transfer-Encoding (RFC 9112 section 6.1)")]
    EncodingRepeated,
    /// `Transfer-Encoding` is not exactly `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked` (RFC 9112 section 6.1)")]
    EncodingUnknown,
    /// `Transfer-Encoding` in HTTP/1.0.
    #[error("an HTTP/1.0 request has Transfer-Encoding (RFC 9112 section 6.1)")]
    EncodingInOldVersion,
    /// CONNECT with a body.
    #[error("a CONNECT request has Content-Length or Transfer-Encoding (RFC 9110 section 9.3.6)")]
    ConnectWithBody,
    /// `Connection` is not a list of tokens.
    #[error("Connection is not a list of tokens (RFC 9110 section 7.6.1)")]
    ConnectionInvalid,
    /// `Connection` would remove a field by which messages are cut or routed.
    #[error("Connection names Host, Content-Length or Transfer-Encoding (RFC 9110 section 7.6.1)")]
    ConnectionNamesFraming,
    /// `Upgrade` is not a list of protocols.
    #[error("Upgrade is not a list of protocols (RFC 9110 section 7.8)")]
    UpgradeInvalid,
    /// `Expect` is not `100-continue`.
    #[error("Expect is not `100-continue` once (RFC 9110 section 10.1.1)")]
    Expectation,
    /// A chunk size that is not plain hexadecimal, or too large.
    #[error("a chunk size is not a plain hexadecimal number (RFC 9112 section 7.1)")]
    ChunkSize,
    /// A chunk extension that does not follow the grammar.
    #[error("a chunk extension is malformed (RFC 9112 section 7.1.1)")]
    ChunkExtension,
    /// A chunk-size line or all extensions together are longer than the limit.
    #[error("chunk extensions are too large (RFC 9112 section 7.1.1)")]
    ChunkExtensionTooLarge,
    /// Chunk data is not followed by CRLF.
    #[error("chunk data is not followed by CRLF (RFC 9112 section 7.1)")]
    ChunkEnd,
    /// A trailer field that frames, routes, authenticates or describes the message.
    #[error("a trailer field frames, routes, authenticates or describes the message (RFC 9110 section 6.5.1)")]
    TrailerForbidden,
    /// The trailer section is larger than the limit.
    #[error("the trailer section is too large (RFC 9112 section 7.1.2)")]
    TrailersTooLarge,
}

impl Violation {
    /// The answer. Whatever it is, the connection is closed after it.
    pub fn reject(self) -> Reject {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => Reject::HeadTooLarge,
            Self::Method
            | Self::Target
            | Self::Version
            | Self::RequestLine
            | Self::Expectation
            | Self::ConnectionInvalid
            | Self::UpgradeInvalid
            | Self::ChunkExtensionTooLarge
            | Self::TrailersTooLarge => Reject::BadRequest,
            _ => Reject::AmbiguousRequest,
        }
    }
}
