use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::plain::PlainData;

/// A key of an [`LpmTrie`](super::LpmTrie): the first bits of some data (`struct bpf_lpm_trie_key`).
///
/// The data are compared from the first bit of the first byte on, so numbers in it have to be in network byte order. What
/// comes before an address, such as an interface, is data too:
///
/// ```
/// use skep::map::{PlainData, Prefix};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
/// #[repr(C)]
/// struct PerInterface {
///     interface: [u8; 4],
///     network: [u8; 4],
/// }
///
/// let data = PerInterface { interface: 2u32.to_be_bytes(), network: [10, 0, 0, 0] };
/// let key = Prefix::new(32 + 8, data)?;
/// assert_eq!(key.bits(), 40);
/// assert!(Prefix::new(65, data).is_err());
/// # Ok::<(), skep::map::PrefixError>(())
/// ```
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct Prefix<D> {
    bits: u32,
    data: D,
}

/// A network of IPv4 addresses: `10.0.0.0/8`.
///
/// ```
/// use skep::map::Ipv4Prefix;
/// use std::net::Ipv4Addr;
///
/// let net: Ipv4Prefix = "10.1.0.0/16".parse()?;
/// assert_eq!(net, Ipv4Prefix::network(Ipv4Addr::new(10, 1, 2, 3), 16)?);
/// assert!(net.contains(Ipv4Addr::new(10, 1, 200, 1)));
/// assert_eq!("10.1.2.3".parse::<Ipv4Prefix>()?.to_string(), "10.1.2.3/32");
///
/// let error = "10.1.2.3/16".parse::<Ipv4Prefix>().unwrap_err();
/// assert_eq!(error.to_string(), "`10.1.2.3/16` has bits behind its first 16: write `10.1.0.0/16`");
/// let error = "10.1.2.3/33".parse::<Ipv4Prefix>().unwrap_err();
/// assert_eq!(error.to_string(), "`10.1.2.3/33` has a length of 33 bits, and addresses have 32");
/// # Ok::<(), skep::map::PrefixError>(())
/// ```
pub type Ipv4Prefix = Prefix<[u8; 4]>;

/// A network of IPv6 addresses: `2001:db8::/32`.
///
/// ```
/// use skep::map::Ipv6Prefix;
///
/// let net: Ipv6Prefix = "2001:db8::/32".parse()?;
/// assert!(net.contains("2001:db8::1".parse().unwrap()));
/// assert_eq!(Ipv6Prefix::network(net.address(), 16)?.to_string(), "2001::/16");
/// # Ok::<(), skep::map::PrefixError>(())
/// ```
pub type Ipv6Prefix = Prefix<[u8; 16]>;

impl<D: PlainData> PlainData for Prefix<D>
where
    Prefix<D>: super::plain::Plain,
{
    const SHAPE: &'static super::Layout = &super::Layout {
        name: "Prefix",
        size: size_of::<Self>(),
        kind: super::LayoutKind::Struct(&[
            super::Field { name: "bits", offset: 0, layout: <u32 as PlainData>::SHAPE },
            super::Field { name: "data", offset: size_of::<u32>(), layout: D::SHAPE },
        ]),
    };
}

impl<D: PlainData + Copy> Prefix<D> {
    /// The first `bits` bits of the data.
    ///
    /// # Errors
    /// [`PrefixError::TooLong`].
    pub fn new(bits: u32, data: D) -> Result<Prefix<D>, PrefixError> {
        let there = Self::max_bits();
        if bits > there { Err(PrefixError::TooLong { bits, there }) } else { Ok(Prefix { bits, data }) }
    }

    /// All bits of the data: what to look up the longest match for.
    pub fn full(data: D) -> Prefix<D> {
        Prefix { bits: Self::max_bits(), data }
    }

    /// Length of the prefix in bits.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The data, those behind the prefix included: the kernel keeps them as they were last written.
    pub fn data(&self) -> D {
        self.data
    }

    /// Whether all that begins with `other` begins with this.
    pub fn covers(&self, other: &Prefix<D>) -> bool {
        let (ours, theirs) = (self.data, other.data);
        self.bits <= other.bits && same_bits(ours.as_bytes(), theirs.as_bytes(), self.bits)
    }

    fn max_bits() -> u32 {
        u32::try_from(size_of::<D>().saturating_mul(8)).unwrap_or(u32::MAX)
    }
}

/// Whether the first `bits` bits are the same.
pub(super) fn same_bits(a: &[u8], b: &[u8], bits: u32) -> bool {
    let mut left = bits;
    a.iter().zip(b).all(|(a, b)| {
        let mask = first_bits(left);
        left = left.saturating_sub(8);
        a & mask == b & mask
    })
}

/// The mask of the first bits of a byte, all of them when there are more.
fn first_bits(bits: u32) -> u8 {
    !(0xff_u32 >> bits.min(8)) as u8 // the low byte of the shifted mask's complement
}

/// The data with all that is behind the first bits cleared.
fn masked<const N: usize>(mut data: [u8; N], bits: u32) -> [u8; N] {
    let mut left = bits;
    for byte in &mut data {
        *byte &= first_bits(left);
        left = left.saturating_sub(8);
    }
    data
}

/// Prefixes are the same when they stand for the same: data behind them do not count.
impl<D: PlainData + Copy> PartialEq for Prefix<D> {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits() && self.covers(other)
    }
}

impl<D: PlainData + Copy> Eq for Prefix<D> {}

impl<D: PlainData + Copy> std::hash::Hash for Prefix<D> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let (mut left, data) = (self.bits, self.data);
        state.write_u32(left);
        for byte in data.as_bytes() {
            state.write_u8(byte & first_bits(left));
            left = left.saturating_sub(8);
        }
    }
}

impl<D: PlainData + Copy + fmt::Debug> fmt::Debug for Prefix<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data;
        write!(f, "{data:?}/{}", self.bits())
    }
}

macro_rules! network {
    ($address:ty, $bytes:literal, $variant:ident) => {
        impl Prefix<[u8; $bytes]> {
            /// The network of the first `bits` bits of an address; the others are cleared.
            ///
            /// # Errors
            /// [`PrefixError::TooLong`].
            pub fn network(address: $address, bits: u32) -> Result<Self, PrefixError> {
                Prefix::new(bits, masked(address.octets(), bits))
            }

            /// The first address of the network, or the one that the key was written with.
            pub fn address(&self) -> $address {
                self.data.into()
            }

            /// Whether an address is in the network.
            pub fn contains(&self, address: $address) -> bool {
                self.covers(&address.into())
            }
        }

        /// The network of one address.
        impl From<$address> for Prefix<[u8; $bytes]> {
            fn from(address: $address) -> Self {
                Prefix::full(address.octets())
            }
        }

        /// An address, for the network of it alone, or one with a slash and the number of bits behind it.
        impl FromStr for Prefix<[u8; $bytes]> {
            type Err = PrefixError;

            fn from_str(text: &str) -> Result<Self, PrefixError> {
                let (address, bits) = parse(text, $bytes * 8)?;
                match address {
                    IpAddr::$variant(address) => {
                        let network = Self::network(address, bits)?;
                        if network.address() == address {
                            return Ok(network);
                        }
                        let (text, network) = (text.to_owned(), network.address().into());
                        Err(PrefixError::HostBits { text, bits, network })
                    }
                    _ => Err(PrefixError::NoAddress { text: text.to_owned(), version: stringify!($variant) }),
                }
            }
        }

        impl fmt::Display for Prefix<[u8; $bytes]> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.address(), self.bits())
            }
        }
    };
}

network!(Ipv4Addr, 4, V4);
network!(Ipv6Addr, 16, V6);

/// Splits a text into an address of any version, and the bits of a network of addresses with `there` bits.
fn parse(text: &str, there: u32) -> Result<(IpAddr, u32), PrefixError> {
    let version = if there == 32 { "V4" } else { "V6" };
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr =
        address.parse().map_err(|_| PrefixError::NoAddress { text: text.to_owned(), version })?;
    let Some(bits) = bits else { return Ok((address, there)) };
    // `u32::from_str` takes a sign.
    let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = bits.parse::<u32>().ok().filter(|_| digits);
    match bits.ok_or_else(|| PrefixError::NoLength { text: text.to_owned(), there })? {
        bits if bits > there => Err(PrefixError::Length { text: text.to_owned(), bits, there }),
        bits => Ok((address, bits)),
    }
}

/// Why something is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// More bits than there are.
    #[error("a prefix of {bits} bits was asked for, and its data have {there}")]
    TooLong {
        /// Bits that were asked for.
        bits: u32,
        /// Bits that there are.
        there: u32,
    },
    /// A text does not begin with an address of the version.
    #[error("`{}` is no IP{} address or network", text.escape_debug(), version.to_lowercase())]
    NoAddress {
        /// The text.
        text: String,
        /// `V4` or `V6`.
        version: &'static str,
    },
    /// What is behind the slash is no number.
    #[error("`{}` has no number of bits behind its slash: write one from 0 to {there}", text.escape_debug())]
    NoLength {
        /// The text.
        text: String,
        /// Bits of an address.
        there: u32,
    },
    /// The number behind the slash is too large.
    #[error("`{text}` has a length of {bits} bits, and addresses have {there}")]
    Length {
        /// The text.
        text: String,
        /// The number behind the slash.
        bits: u32,
        /// Bits of an address.
        there: u32,
    },
    /// The address has bits behind the prefix, so one of the two is not what was meant.
    #[error("`{text}` has bits behind its first {bits}: write `{network}/{bits}`")]
    HostBits {
        /// The text.
        text: String,
        /// Length of the prefix.
        bits: u32,
        /// The first address of that network.
        network: IpAddr,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Ipv4Prefix, Ipv6Prefix, Prefix, PrefixError};

    #[test]
    fn texts() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.128.0.0/9", "255.255.255.255/32"] {
            assert_eq!(text.parse::<Ipv4Prefix>().unwrap().to_string(), text);
        }
        for text in ["::/0", "fe80::/10", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Ipv6Prefix>().unwrap().to_string(), text);
        }
        let error = |text: &str| text.parse::<Ipv4Prefix>().unwrap_err().to_string();
        assert_eq!(error("::1/8"), "`::1/8` is no IPv4 address or network");
        assert_eq!(error("10.0.0/8"), "`10.0.0/8` is no IPv4 address or network");
        assert_eq!(error("\n"), "`\\n` is no IPv4 address or network");
        for text in ["10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/-1", "10.0.0.0/99999999999"] {
            assert!(matches!(text.parse::<Ipv4Prefix>(), Err(PrefixError::NoLength { .. })), "{text}");
        }
        assert_eq!(
            "10.0.0.0/8".parse::<Ipv6Prefix>().unwrap_err().to_string(),
            "`10.0.0.0/8` is no IPv6 address or network"
        );
        assert!(matches!("::/129".parse::<Ipv6Prefix>(), Err(PrefixError::Length { bits: 129, .. })));
        assert!(matches!("fe80::1/10".parse::<Ipv6Prefix>(), Err(PrefixError::HostBits { .. })));
    }

    #[test]
    fn what_is_behind_does_not_count() {
        let a = Prefix::new(9, [10u8, 0x80, 3]).unwrap();
        let b = Prefix::new(9, [10u8, 0xff, 9]).unwrap();
        assert_eq!(a, b);
        assert_eq!(HashSet::from([a, b]).len(), 1);
        assert_ne!(a, Prefix::new(10, [10, 0x80, 3]).unwrap());
        assert_ne!(a, Prefix::new(9, [10, 0x7f, 3]).unwrap());
        assert!(Prefix::new(0, [0u8; 3]).unwrap().covers(&a));
        assert!(a.covers(&Prefix::full([10, 0x80, 255])) && !a.covers(&Prefix::new(8, [10, 0, 0]).unwrap()));
        assert_eq!(format!("{a:?}"), "[10, 128, 3]/9");
        assert!(Prefix::new(25, [0u8; 3]).is_err());
    }
}
