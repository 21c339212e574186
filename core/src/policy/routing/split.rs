//! Which of an entry's destinations a request goes to.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::rc::Rc;

use siphasher::sip::SipHasher13;

use crate::host::Host;
use crate::matchers::ClaimPath;
use crate::matchers::claim::claim_text;
use crate::policy::Facts;
use crate::request::{AttributeId, HeaderEdit, Request};
use crate::trace::{self, Event};

/// An entry's destinations and their weights.
#[derive(Debug)]
pub struct Split {
    destinations: Vec<Destination>,
    weights: Vec<u64>,
    total: u64,
    sticky: Option<Sticky>,
    arcs: Vec<Arc>,
}

/// One destination.
#[derive(Debug, Default)]
pub struct Destination {
    /// The name of Envoy's cluster.
    pub cluster: Rc<str>,
    /// Changes to what goes there.
    pub request_headers: Vec<HeaderEdit>,
    /// Changes to what comes back.
    pub response_headers: Vec<HeaderEdit>,
    /// The host that it is asked for.
    pub authority: Option<Box<[u8]>>,
}

/// What keeps a request on the same destination.
#[derive(Debug)]
pub struct Sticky {
    key: (u64, u64),
    by: StickyBy,
}

/// Where the value stands that is hashed.
#[derive(Debug)]
pub enum StickyBy {
    /// In a header.
    Header(String),
    /// In a claim.
    Claim(ClaimPath),
    /// In a cookie.
    Cookie {
        /// Its name.
        name: String,
        /// What follows the value where the cookie is set.
        attributes: String,
    },
    /// It is the client's address, which this attribute has.
    SourceAddress(AttributeId),
}

/// A part of the circle of hashes that belongs to one destination, up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arc {
    end: u128,
    destination: usize,
}

/// One more than the greatest hash.
const CIRCLE: u128 = 1 << 64;

impl Sticky {
    /// The hash is keyed with the entry's name: it is the same in every worker, process and replica, and a user's
    /// arm in one entry says nothing about that in another.
    pub fn new(entry: &str, by: StickyBy) -> Self {
        let key = |seed: u64| {
            let mut hasher = SipHasher13::new_with_keys(seed, 0);
            hasher.write(entry.as_bytes());
            hasher.finish()
        };
        Sticky { key: (key(0), key(1)), by }
    }

    fn hash(&self, value: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(value);
        hasher.finish()
    }

    /// The hash of what the request has; a cookie that it does not have is set.
    fn find(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Option<u64> {
        match &self.by {
            StickyBy::Header(name) => request.header(name).map(|value| self.hash(value)),
            StickyBy::Claim(path) => facts.claim(path).map(|value| self.hash(claim_text(value).as_bytes())),
            StickyBy::SourceAddress(id) => request.ip(*id).map(|address| match address.to_canonical() {
                IpAddr::V4(address) => self.hash(&address.octets()),
                IpAddr::V6(address) => self.hash(&address.octets()),
            }),
            StickyBy::Cookie { name, attributes } => {
                if let Some(value) = request.cookie_values(name).find(|value| !value.is_empty()) {
                    return Some(self.hash(value));
                }
                trace::drawing("sticky");
                let value = format!("{:016x}{:016x}", host.random(), host.random());
                let cookie = format!("{name}={value}{attributes}");
                facts.response_edits.push(HeaderEdit::Add("set-cookie".into(), cookie.into_bytes()));
                Some(self.hash(value.as_bytes()))
            }
        }
    }
}

impl Split {
    /// Destinations with their weights. If the weights come to nothing, the first gets everything.
    pub fn new(destinations: Vec<(Destination, u64)>, sticky: Option<Sticky>) -> Self {
        let (destinations, weights): (Vec<_>, Vec<_>) = destinations.into_iter().unzip();
        let total = weights.iter().fold(0u64, |sum, weight| sum.saturating_add(*weight));
        let arcs = if sticky.is_some() { arcs(&weights, total) } else { Vec::new() };
        Split { destinations, weights, total, sticky, arcs }
    }

    /// All destinations.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The destination of this request. The proxy is asked for a random number only where one is needed.
    pub fn choose(&self, request: &Request, facts: &mut Facts, host: &dyn Host) -> Option<&Destination> {
        let (index, sticky) = match (&self.sticky, self.destinations.len()) {
            (_, 0 | 1) => (0, false),
            (Some(sticky), _) => match sticky.find(request, facts, host) {
                Some(hash) => (self.at_hash(hash), true),
                None => (self.draw(host), false),
            },
            (None, _) => (self.draw(host), false),
        };
        trace::tell(|| self.told(index, sticky));
        self.destinations.get(index)
    }

    fn draw(&self, host: &dyn Host) -> usize {
        trace::drawing("split");
        self.drawn(host.random())
    }

    fn told(&self, chosen: usize, sticky: bool) -> Event {
        let shares = self.destinations.iter().zip(&self.weights);
        Event::Split {
            shares: shares.map(|(destination, weight)| (destination.cluster.clone(), *weight)).collect(),
            chosen,
            sticky,
        }
    }

    /// As Envoy's weighted clusters: the random number modulo the sum of the weights, in the order of the document.
    fn drawn(&self, random: u64) -> usize {
        let mut left = random.checked_rem(self.total).unwrap_or(0);
        for (index, weight) in self.weights.iter().enumerate() {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        0
    }

    fn at_hash(&self, hash: u64) -> usize {
        let next = self.arcs.partition_point(|arc| arc.end <= u128::from(hash));
        self.arcs.get(next).map_or(0, |arc| arc.destination)
    }
}

/// Divides the circle of hashes so that moving weights moves few users.
///
/// No division of three destinations or more is perfect for every change (if it were for a move between any two, each
/// one's users would depend on its own weight alone, and two that could have the whole circle would have to share
/// it). This one is perfect for what is done: the first destination gives to the others, or takes from them. Each of
/// the others has a place of its own on the circle, from which it grows in one direction; the first has what is left.
/// Two grow from zero in opposite directions, two from the middle, two from each quarter, and so on; who reaches
/// another's part goes on behind it.
fn arcs(weights: &[u64], total: u64) -> Vec<Arc> {
    // Parts of the circle that nobody has yet, and those that are given.
    let mut free: Vec<(u128, u128)> = vec![(0, CIRCLE)];
    let mut given: BTreeMap<u128, Arc> = BTreeMap::new();
    for (destination, weight) in weights.iter().enumerate().skip(1) {
        let size = CIRCLE.saturating_mul(u128::from(*weight)).checked_div(u128::from(total)).unwrap_or(0);
        let other = destination.saturating_sub(1);
        let anchor = u128::from((other as u64 >> 1).reverse_bits());
        for (start, end) in take(&mut free, anchor, other & 1 == 0, size) {
            given.insert(start, Arc { end, destination });
        }
    }
    for (start, end) in free {
        given.insert(start, Arc { end, destination: 0 });
    }
    given.into_values().collect()
}

/// Takes so much of what is free, from a point of the circle on, upwards or downwards.
fn take(free: &mut Vec<(u128, u128)>, anchor: u128, upwards: bool, mut size: u128) -> Vec<(u128, u128)> {
    // Cut at the anchor, so that each part lies on one side of it.
    let mut cut: Vec<(u128, u128)> = Vec::new();
    for (start, end) in free.drain(..) {
        if start < anchor && anchor < end {
            cut.push((start, anchor));
            cut.push((anchor, end));
        } else {
            cut.push((start, end));
        }
    }
    // In the order in which they are come upon.
    let mut parts = BTreeMap::new();
    for (start, end) in cut {
        let order = match upwards {
            true => (start < anchor, start),
            false => (start >= anchor, CIRCLE.saturating_sub(end)),
        };
        parts.insert(order, (start, end));
    }
    let mut taken = Vec::new();
    for (start, end) in parts.into_values() {
        let part = size.min(end.saturating_sub(start));
        size = size.saturating_sub(part);
        let (mine, left) = match upwards {
            true => ((start, start.saturating_add(part)), (start.saturating_add(part), end)),
            false => ((end.saturating_sub(part), end), (start, end.saturating_sub(part))),
        };
        taken.extend(Some(mine).filter(|(start, end)| start < end));
        free.extend(Some(left).filter(|(start, end)| start < end));
    }
    taken
}

#[cfg(test)]
mod tests;
