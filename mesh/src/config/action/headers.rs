//! Changes of headers: which may be changed, and in which order.

/// Removed first, then set, then added. Names in lower case, checked by [`is_changeable`]; values by [`is_value`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Takes the place of every value there is.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// Stands beside the values there are.
    pub add: Vec<(Box<str>, Box<str>)>,
    /// Every value goes.
    pub remove: Vec<Box<str>>,
}

impl HeaderChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Fields that frame a message or concern one hop only (RFC 9110 section 7.6.1, RFC 9112 section 6), the authority,
/// which a rewrite changes, and the caller's identity, which only a proxy may state.
const FIXED: [&str; 14] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "x-forwarded-client-cert",
];

/// Whether a route may change the header `name` (any case): a name of RFC 9110 that is none of the fixed ones and none
/// of ours.
pub fn is_changeable(name: &str) -> bool {
    let is_token = !name.is_empty()
        && name.len() <= 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    let is_ours = name.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("causeway-"));
    is_token && !is_ours && !FIXED.iter().any(|fixed| fixed.eq_ignore_ascii_case(name))
}

/// Whether `value` may stand in a header: no control characters but the tab, at most 8 KiB (RFC 9110 section 5.5).
pub fn is_value(value: &str) -> bool {
    value.len() <= 8192 && value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}
