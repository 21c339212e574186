use std::borrow::Cow;
use std::net::IpAddr;

use super::Facts;
use crate::matchers::ClaimPath;
use crate::matchers::claim::claim_text;
use crate::matchers::path::Readings;
use crate::request::{AttributeId, Request};

/// Where a value comes from that is known in the request phase: a rate limit's key, a descriptor, a tag.
#[derive(Clone, Debug)]
pub enum Source {
    /// A fixed text.
    Literal(Box<[u8]>),
    /// The first value of a request header.
    Header(String),
    /// A claim.
    Claim(ClaimPath),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    QueryParam(String),
    /// The client's address, all but so many leading bits cleared.
    RemoteAddress {
        /// Which attribute has it.
        address: AttributeId,
        /// Bits that count in an IPv4 address.
        v4_prefix_length: u8,
        /// Bits that count in an IPv6 address.
        v6_prefix_length: u8,
    },
    /// The path without its query, and without what makes two spellings of one path: see [`Readings::barest`].
    Path,
    /// The method.
    Method,
    /// Any attribute, as the bytes that the proxy gives.
    Property(AttributeId),
}

impl Source {
    /// The value for this request.
    pub fn value<'a>(&'a self, request: &'a Request, facts: &'a Facts) -> Option<Cow<'a, [u8]>> {
        match self {
            Source::Literal(text) => Some(Cow::Borrowed(text)),
            Source::Header(name) => request.header(name).map(Cow::Borrowed),
            Source::Claim(path) => facts.claim(path).map(|value| match claim_text(value) {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
            Source::Cookie(name) => request.cookie_values(name).next().map(Cow::Borrowed),
            Source::QueryParam(name) => request.query_values(name).next(),
            Source::RemoteAddress { address, v4_prefix_length, v6_prefix_length } => {
                let masked = mask(request.ip(*address)?, *v4_prefix_length, *v6_prefix_length);
                Some(Cow::Owned(masked.to_string().into_bytes()))
            }
            Source::Path => Some(barest(request.path())),
            Source::Method => Some(Cow::Borrowed(request.method())),
            Source::Property(id) => request.attribute(*id).map(Cow::Borrowed),
        }
    }
}

fn barest(path: &[u8]) -> Cow<'_, [u8]> {
    let readings = Readings::of(path);
    match readings.barest() {
        barest if barest == path => Cow::Borrowed(path),
        barest => Cow::Owned(barest.to_vec()),
    }
}

/// Clears all but the leading bits of an address. A socket of both families shows an IPv4 client as `::ffff:a.b.c.d`, and
/// all of those would be one /64.
fn mask(address: IpAddr, v4_prefix_length: u8, v6_prefix_length: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let cleared = 32u32.saturating_sub(v4_prefix_length.into());
            IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(cleared).unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            let cleared = 128u32.saturating_sub(v6_prefix_length.into());
            IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(cleared).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_to_its_prefix() {
        for (address, v4, v6, expected) in [
            ("10.1.2.3", 24, 64, "10.1.2.0"),
            ("10.1.2.3", 32, 64, "10.1.2.3"),
            ("10.1.2.3", 0, 64, "0.0.0.0"),
            ("::ffff:10.1.2.3", 24, 64, "10.1.2.0"),
            ("::ffff:10.1.2.3", 32, 64, "10.1.2.3"),
            ("::10.1.2.3", 32, 64, "::"),
            ("2001:db8:1:2:3::4", 24, 64, "2001:db8:1:2::"),
            ("2001:db8::1", 24, 0, "::"),
            ("2001:db8::1", 24, 128, "2001:db8::1"),
        ] {
            assert_eq!(mask(address.parse().unwrap(), v4, v6).to_string(), expected);
        }
    }
}
