//! Which entries are for which host.
//!
//! The host is chosen before the order of the entries counts, as Envoy chooses a virtual host: the whole name, else the
//! longest `*.` that it ends with, else `*`. Entries without hosts are for all of them and stand behind those of the host.
//! A look at a table for each length of a `*.`, however many hosts there are.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use super::Entry;
use super::answer::split_port;
use super::index::{Index, Place};
use crate::policy::Facts;
use crate::request::Request;

/// One of an entry's hosts, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// This one.
    Exact(Box<[u8]>),
    /// Whatever ends so, with the dot: `.example.com`.
    EndsWith(Box<[u8]>),
    /// Any.
    Any,
}

/// The entries by their hosts.
#[derive(Debug, Default)]
pub struct Hosts {
    by_host: HashMap<Host, Index>,
    /// How long the ends are; each length once, the longest first.
    pub lengths: Vec<usize>,
    without: Index,
}

impl Hosts {
    /// Files these entries.
    pub fn new(entries: &[Entry]) -> Self {
        let mut places: HashMap<&Host, Vec<usize>> = HashMap::new();
        let mut without = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            for host in &entry.hosts {
                places.entry(host).or_default().push(place);
            }
            if entry.hosts.is_empty() {
                without.push(place);
            }
        }
        let mut lengths = Vec::new();
        for host in places.keys() {
            if let Host::EndsWith(end) = host
                && let Err(at) = lengths.binary_search_by_key(&Reverse(end.len()), |length| Reverse(*length))
            {
                lengths.insert(at, end.len());
            }
        }
        let by_host =
            places.into_iter().map(|(host, places)| (host.clone(), Index::new(entries, &places))).collect();
        Hosts { by_host, lengths, without: Index::new(entries, &without) }
    }

    /// The first match that holds: among the entries of the request's host, then among those without hosts.
    pub fn first(&self, entries: &[Entry], request: &Request, facts: &Facts) -> Option<Place> {
        self.indexes(request).into_iter().flatten().find_map(|index| index.first(entries, request, facts))
    }

    /// Every match that a request may be found by, in the order in which they are tried.
    pub fn places(&self, request: &Request) -> impl Iterator<Item = Place> {
        self.indexes(request).into_iter().flatten().flat_map(Index::places)
    }

    /// Where a request may be found, in this order.
    pub fn indexes(&self, request: &Request) -> [Option<&Index>; 2] {
        let named = if self.by_host.is_empty() { None } else { self.named(&plain(request.authority())) };
        [named, Some(&self.without)]
    }

    fn named(&self, host: &[u8]) -> Option<&Index> {
        let of = |key: Host| self.by_host.get(&key);
        let end = |length: &usize| host.len().checked_sub(*length).filter(|start| *start > 0);
        let mut ends = self
            .lengths
            .iter()
            .filter_map(end)
            .filter_map(|start| of(Host::EndsWith(host.get(start..)?.into())));
        of(Host::Exact(host.into())).or_else(|| ends.next()).or_else(|| of(Host::Any))
    }
}

/// A host without its port and the dot at its end, in lower case.
fn plain(authority: &[u8]) -> Cow<'_, [u8]> {
    let name = split_port(authority).0;
    let name = name.strip_suffix(b".").unwrap_or(name);
    match name.iter().any(u8::is_ascii_uppercase) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}
