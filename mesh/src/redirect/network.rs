//! IP networks in CIDR form: parsing, printing, containment. What they are used for is left to others.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IPv4 or IPv6 network; its host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address with an optional prefix length.
    #[error("`{0}` is not a network such as 10.0.0.0/8 or fd00::/8")]
    Malformed(String),
    /// The prefix length is beyond the address's bits.
    #[error("`{0}` has a prefix length above {1}")]
    Prefix(String, u8),
    /// Bits are set behind the prefix.
    #[error("`{0}` has bits set behind its prefix; did you mean {1}?")]
    HostBits(String, Network),
}

impl Network {
    /// The first `prefix` bits of `address`; none if there are not so many.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(address)).then(|| Self { address: masked(address, prefix), prefix })
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether `address` is in it. An IPv4 address is in no IPv6 network, mapped or not.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

/// The networks that lie in no other one, sorted, each once: nft takes no overlapping intervals.
pub(super) fn outermost(networks: &[Network]) -> Vec<Network> {
    let mut sorted = networks.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let covers = |outer: &Network, inner: &Network| {
        outer != inner && outer.prefix <= inner.prefix && outer.contains(inner.address)
    };
    sorted.iter().filter(|inner| !sorted.iter().any(|outer| covers(outer, inner))).copied().collect()
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// `address` or `address/prefix`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let prefix = match prefix {
            None => width(address),
            // `parse` would take a sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| malformed())?
            }
            Some(_) => return Err(malformed()),
        };
        let network =
            Self::new(address, prefix).ok_or_else(|| NetworkError::Prefix(text.to_owned(), width(address)))?;
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(text.to_owned(), network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}
