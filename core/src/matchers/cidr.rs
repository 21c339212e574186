//! Addresses against lists of blocks.

use std::collections::BinaryHeap;
use std::net::IpAddr;

/// Addresses in sorted ranges that do not overlap: one search whatever the length of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// One block, as its first and its last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// IPv4, and IPv6 addresses that stand for one.
    V4(u32, u32),
    /// IPv6.
    V6(u128, u128),
}

impl Block {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address. Bits behind the prefix do not count, as in Envoy.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("\"{text}\" is no address block; use one such as 10.0.0.0/8, 2001:db8::/32 or 10.1.2.3")
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole: u32 = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            // `u32` would take a sign and leading zeros, too.
            Some(digits) if digits == "0" || digits.starts_with(|c: char| matches!(c, '1'..='9')) => {
                digits.parse().ok().filter(|length| *length <= whole).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => whole,
        };
        let free = whole.saturating_sub(length);
        Ok(match address {
            IpAddr::V4(address) => {
                let free = u32::MAX.checked_shr(length).filter(|_| free > 0).unwrap_or(0);
                let bits = address.to_bits();
                Block::V4(bits & !free, bits | free)
            }
            IpAddr::V6(address) => {
                let free = u128::MAX.checked_shr(length).filter(|_| free > 0).unwrap_or(0);
                let bits = address.to_bits();
                let (first, last) = (bits & !free, bits | free);
                match (mapped(first), mapped(last)) {
                    (Some(first), Some(last)) => Block::V4(first, last),
                    _ => Block::V6(first, last),
                }
            }
        })
    }
}

/// The IPv4 address in `::ffff:a.b.c.d`.
fn mapped(bits: u128) -> Option<u32> {
    std::net::Ipv6Addr::from_bits(bits).to_ipv4_mapped().map(std::net::Ipv4Addr::to_bits)
}

impl FromIterator<Block> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for block in blocks {
            match block {
                Block::V4(first, last) => v4.push((first, last)),
                Block::V6(first, last) => v6.push((first, last)),
            }
        }
        AddressSet { v4: merge(v4), v6: merge(v6) }
    }
}

fn merge<T: Ord + Copy>(ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    // A heap sorts in a tenth of the code.
    let ranges = BinaryHeap::from(ranges).into_sorted_vec();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

impl AddressSet {
    /// Whether an address is in one of the blocks. `::ffff:10.0.0.1` is `10.0.0.1`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after.checked_sub(1).and_then(|before| ranges.get(before)).is_some_and(|(_, last)| value <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(blocks: &[&str]) -> AddressSet {
        blocks.iter().map(|block| Block::parse(block).unwrap()).collect()
    }

    #[test]
    fn an_address_is_in_its_block_and_in_no_other() {
        for (block, yes, no) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["11.0.0.0", "::10.0.0.1"][..],
            ),
            ("10.1.2.3/8", &["10.9.9.9"], &["9.255.255.255"]),
            ("10.1.2.3", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1", "2001:db8::1"]),
            ("::/0", &["::1", "2001:db8::1"], &["1.2.3.4"]),
            ("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::"]),
            ("2001:db8::1", &["2001:db8::1"], &["2001:db8::2"]),
            ("::ffff:10.0.0.0/104", &["10.9.9.9", "::ffff:10.0.0.1"], &["11.0.0.1"]),
        ] {
            for address in yes {
                assert!(set(&[block]).contains(address.parse().unwrap()), "{block} {address}");
            }
            for address in no {
                assert!(!set(&[block]).contains(address.parse().unwrap()), "{block} {address}");
            }
        }
        assert!(!set(&[]).contains("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn anything_else_is_an_error() {
        for block in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "a",
            "10.0.0.0/8/8",
            "10.0.0.1:80",
            "[::1]",
            "010.0.0.1",
            "fe80::1%eth0",
        ] {
            assert!(Block::parse(block).unwrap_err().contains("is no address block"), "{block}");
        }
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        #[test]
        fn a_list_holds_what_one_of_its_blocks_holds(
            blocks in proptest::collection::vec((proptest::prelude::any::<u32>(), 0u32..=32), 0..20),
            address: u32,
        ) {
            let inside = blocks.iter().any(|(network, length)| {
                let free = 32u32.saturating_sub(*length);
                free == 32 || network >> free == address >> free
            });
            let texts: Vec<String> = blocks
                .iter()
                .map(|(network, length)| format!("{}/{length}", std::net::Ipv4Addr::from_bits(*network)))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(address));
            proptest::prop_assert_eq!(set(&texts).contains(address), inside);
        }
    }
}
