use std::collections::{BinaryHeap, HashMap};

use super::rule::{Condition, Rule, Test};
use crate::matchers::path::Readings;
use crate::trace;

/// Rules, and which of them a path can concern at all: the cost of a request does not grow with the rules for other
/// paths.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Box<[Rule]>,
    index: Option<Index>,
}

/// From how many rules on looking them up beats trying them.
const MANY: usize = 8;

#[derive(Debug, Default)]
struct Index {
    /// Rules that are not, or not only, about paths that are or begin with a text.
    always: Vec<usize>,
    exact: HashMap<Box<[u8]>, Vec<usize>>,
    prefixes: HashMap<Box<[u8]>, Vec<usize>>,
    /// The lengths of the prefixes, each once, from short to long.
    lengths: Box<[usize]>,
}

/// How a path has to look for a rule to match it.
enum Key {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
}

impl Rules {
    /// In the order in which they stand.
    pub fn new(rules: Vec<Rule>) -> Self {
        let index = (rules.len() > MANY).then(|| Index::new(&rules));
        Rules { rules: rules.into(), index }
    }

    /// The rules that may match, in order.
    pub fn candidates(&self, readings: Option<&Readings<'_>>) -> impl Iterator<Item = &Rule> {
        // Who listens wants to hear of each.
        let index = self.index.as_ref().filter(|_| !trace::is_on());
        let chosen = index.map(|index| index.candidates(readings));
        let all = if chosen.is_none() { &*self.rules } else { &[] };
        let chosen = chosen.unwrap_or_default().into_iter().filter_map(|place| self.rules.get(place));
        all.iter().chain(chosen)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let mut index = Index::default();
        for (place, rule) in rules.iter().enumerate() {
            let Some(keys) = keys(rule) else {
                index.always.push(place);
                continue;
            };
            for key in keys {
                let places = match key {
                    Key::Exact(text) => index.exact.entry(text).or_default(),
                    Key::Prefix(text) => index.prefixes.entry(text).or_default(),
                };
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        let lengths: BinaryHeap<usize> = index.prefixes.keys().map(|prefix| prefix.len()).collect();
        let mut lengths = lengths.into_sorted_vec();
        lengths.dedup();
        Index { lengths: lengths.into(), ..index }
    }

    fn candidates(&self, readings: Option<&Readings<'_>>) -> Vec<usize> {
        let mut places = self.always.clone();
        let mut add = |more: Option<&Vec<usize>>| {
            for place in more.into_iter().flatten() {
                if let Err(between) = places.binary_search(place) {
                    places.insert(between, *place);
                }
            }
        };
        for path in readings.iter().flat_map(|readings| readings.iter()) {
            add(self.exact.get(path));
            for prefix in self.lengths.iter().map_while(|length| path.get(..*length)) {
                add(self.prefixes.get(prefix));
            }
        }
        places
    }
}

/// The paths that a rule can match; `None` where that cannot be said.
fn keys(rule: &Rule) -> Option<Vec<Key>> {
    if rule.to.is_empty() {
        return None;
    }
    let mut keys = Vec::new();
    for operation in &rule.to {
        keys.extend(operation.iter().find_map(keys_of_test)?);
    }
    Some(keys)
}

fn keys_of_test(test: &Test) -> Option<Vec<Key>> {
    let Test { condition: Condition::Path(paths), negated: false, .. } = test else { return None };
    let (exact, prefixes) = paths.texts.literals()?;
    let templates = paths.templates.iter().map(|template| Key::Prefix(template.literal_prefix().into()));
    let exact = exact.map(|text| Key::Exact(text.into()));
    let prefixes = prefixes.map(|text| Key::Prefix(text.into()));
    Some(exact.chain(prefixes).chain(templates).collect())
}
