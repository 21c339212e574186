//! Finds the first entry that matches without looking at those that cannot.
//!
//! Every match is filed under one of its conditions: the value of a header, a path or the prefix of a path, whichever
//! the fewest others have. A request is compared only with what is filed under its own headers and path, and with
//! what could not be filed, in the order of the document.

use std::collections::HashMap;

use super::Entry;
use crate::matchers::{Pattern, StringMatch};
use crate::policy::Facts;
use crate::policy::HttpMatch;
use crate::request::Request;
use crate::trace;

/// So few are compared one by one.
const FEW: usize = 16;

/// Where a match stands: which entry, and which of its matches. `None` is the entry without any.
pub type Place = (usize, Option<usize>);

type ByValue = HashMap<Box<[u8]>, Vec<usize>>;

/// The places of matches by their conditions.
#[derive(Debug, Default)]
pub struct Index {
    /// Every match, in the order of the document.
    places: Vec<Place>,
    /// What is filed is named by its number in `places`.
    headers: HashMap<Box<[u8]>, ByValue>,
    paths: ByValue,
    prefixes: ByValue,
    /// How long prefixes are; each length once, the shortest first.
    prefix_lengths: Vec<usize>,
    unfiled: Vec<usize>,
}

/// A condition that a match can be filed under.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Header(&'a str, &'a [u8]),
    Path(&'a [u8]),
    Prefix(&'a [u8]),
}

impl Index {
    /// Files the matches of the entries at these places.
    pub fn new(entries: &[Entry], which: &[usize]) -> Self {
        let places: Vec<Place> = which
            .iter()
            .filter_map(|place| Some((*place, entries.get(*place)?)))
            .flat_map(|(entry, Entry { matches, .. })| {
                let none = matches.is_empty().then_some((entry, None));
                none.into_iter().chain((0..matches.len()).map(move |matched| (entry, Some(matched))))
            })
            .collect();
        if places.len() <= FEW {
            let unfiled = (0..places.len()).collect();
            return Index { places, unfiled, ..Index::default() };
        }
        Index::filed(entries, places)
    }

    /// The index of these places, however few there are.
    pub fn filed(entries: &[Entry], places: Vec<Place>) -> Self {
        let mut sharing: HashMap<Key<'_>, usize> = HashMap::new();
        let matches: Vec<Option<&HttpMatch>> = places.iter().map(|place| find(entries, *place)).collect();
        for key in matches.iter().flatten().flat_map(|matched| keys(matched)) {
            let count = sharing.entry(key).or_default();
            *count = count.saturating_add(1);
        }
        let mut index = Index::default();
        for (number, matched) in matches.iter().enumerate() {
            let keys = matched.map(keys).unwrap_or_default();
            let list = match keys.into_iter().min_by_key(|key| sharing.get(key)) {
                Some(Key::Header(name, value)) => {
                    let values = index.headers.entry(name.as_bytes().into()).or_default();
                    values.entry(value.into()).or_default()
                }
                Some(Key::Path(path)) => index.paths.entry(path.into()).or_default(),
                Some(Key::Prefix(prefix)) => {
                    if let Err(at) = index.prefix_lengths.binary_search(&prefix.len()) {
                        index.prefix_lengths.insert(at, prefix.len());
                    }
                    index.prefixes.entry(prefix.into()).or_default()
                }
                None => &mut index.unfiled,
            };
            list.push(number);
        }
        index.places = places;
        index
    }

    /// Every match, in the order of the document.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.places.iter().copied()
    }

    /// The first match that holds.
    pub fn first(&self, entries: &[Entry], request: &Request, facts: &Facts) -> Option<Place> {
        let holds =
            |place: &Place| find(entries, *place).is_none_or(|matched| matched.is_match(request, facts));
        // Who listens wants to hear of each.
        if trace::is_on() || self.unfiled.len() == self.places.len() {
            return self.places().find(holds);
        }
        let mut lists = self.candidates(request);
        loop {
            // The one that comes first in the document, of those that the lists begin with.
            let next =
                lists.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list.first().copied())?;
            let (number, rest) = next.split_first()?;
            *next = rest;
            let place = *self.places.get(*number)?;
            if holds(&place) {
                return Some(place);
            }
        }
    }

    /// What a request may match, by numbers in `places`.
    pub fn candidates(&self, request: &Request) -> Vec<&[usize]> {
        let mut lists: Vec<&[usize]> = vec![&self.unfiled];
        if !self.headers.is_empty() {
            for (name, value) in request.headers() {
                if let Some(list) = self.headers.get(name).and_then(|values| values.get(value)) {
                    // A header that is repeated with the same value says nothing new.
                    if !lists.iter().any(|known| std::ptr::eq(*known, list.as_slice())) {
                        lists.push(list);
                    }
                }
            }
        }
        let path = request.path();
        lists.extend(self.paths.get(path).map(Vec::as_slice));
        let lengths = self.prefix_lengths.iter().map_while(|length| path.get(..*length));
        lists.extend(lengths.filter_map(|prefix| self.prefixes.get(prefix)).map(Vec::as_slice));
        lists
    }
}

/// The match at a place; an entry without matches has none.
pub fn find(entries: &[Entry], (entry, matched): Place) -> Option<&HttpMatch> {
    entries.get(entry)?.matches.get(matched?)
}

fn keys(matched: &HttpMatch) -> Vec<Key<'_>> {
    let path = matched.uri.as_ref().filter(|uri| !uri.ignore_case).and_then(|uri| match &uri.pattern {
        Pattern::Exact(path) => Some(Key::Path(path)),
        // Every path begins with `/`: no use to file it.
        Pattern::Prefix(prefix) if prefix.len() > 1 => Some(Key::Prefix(prefix)),
        Pattern::PathPrefix(prefix) if !prefix.is_empty() => Some(Key::Prefix(prefix)),
        _ => None,
    });
    let authority = matched.authority.as_ref().and_then(|pattern| match pattern {
        Pattern::Exact(value) if !value.is_empty() => Some(Key::Header(":authority", value)),
        _ => None,
    });
    let headers = matched.headers.iter().filter_map(|(name, value)| match value {
        StringMatch::Present(Pattern::Exact(value)) => Some(Key::Header(name, value)),
        _ => None,
    });
    path.into_iter().chain(authority).chain(headers).collect()
}
