use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use super::OTHER;
use crate::host::Host;
use crate::policy::metric::{MAX_VALUE_LENGTH, NO_VALUE};
use crate::policy::shared;

/// A value of one tag's label, in this VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelId(u32);

impl LabelId {
    /// There is no value.
    pub const NONE: LabelId = LabelId(0);
    /// A value that is not told.
    pub const OTHER: LabelId = LabelId(1);

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// The values of one tag, at most so many for all plugins of one name in the whole process.
///
/// A value that comes first takes a place in a list that all workers share and that only grows; when the list is
/// full, whatever is not in it is `other`. A value that must not take a place is `other` unless it has one already. So every worker tells the same values, and a known value costs one look
/// into a map of this VM.
#[derive(Debug)]
pub struct LabelValues {
    /// The tag's name.
    name: String,
    /// Key of the list.
    key: OnceCell<String>,
    /// `None`: the document bounds the values.
    max: Option<usize>,
    known: RefCell<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ids: HashMap<Box<[u8]>, LabelId>,
    values: Vec<Box<[u8]>>,
    /// How many of them have a place in the list.
    listed: usize,
}

impl LabelValues {
    /// The values of the tag `name`. `reserved` ones need no place.
    pub fn new(name: &str, max: Option<usize>, reserved: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        let mut known = Known::default();
        for fixed in [NO_VALUE, OTHER] {
            known.add(fixed.as_bytes());
        }
        for value in reserved {
            known.add(cut(&value));
        }
        LabelValues { name: name.to_owned(), key: OnceCell::new(), max, known: RefCell::new(known) }
    }

    /// The id of a value; [`LabelId::OTHER`] if there is no place left for it, or if it has none and must not take one.
    pub fn id(&self, value: &[u8], takes_place: bool, host: &dyn Host) -> LabelId {
        // What a label does not show must not take a place, nor memory.
        let value = cut(value);
        let Ok(mut known) = self.known.try_borrow_mut() else { return LabelId::OTHER };
        if let Some(id) = known.ids.get(value) {
            return *id;
        }
        let Some(max) = self.max else { return known.add(value) };
        if known.listed >= max {
            return LabelId::OTHER;
        }
        let key = self.key.get_or_init(|| shared::plugin_key("tag", &self.name, host));
        let listed = shared::update(host, key, |list| {
            known.learn(list, max);
            match known.ids.get(value) {
                Some(id) => (None, Some(*id)),
                None if known.listed >= max || !takes_place => (None, Some(LabelId::OTHER)),
                None => (Some(append(list, value)), None),
            }
        });
        match listed {
            // It has a place now.
            Ok(None) => {
                known.listed = known.listed.saturating_add(1);
                known.add(value)
            }
            Ok(Some(id)) => id,
            Err(_) => LabelId::OTHER,
        }
    }

    /// Reads the value of an id.
    pub fn with_value<T>(&self, id: LabelId, read: impl FnOnce(&[u8]) -> T) -> T {
        let known = self.known.try_borrow();
        let value = known.as_ref().ok().and_then(|known| known.values.get(id.0 as usize));
        read(value.map_or(OTHER.as_bytes(), |value| value))
    }
}

impl Known {
    fn add(&mut self, value: &[u8]) -> LabelId {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        // Bounded by the document, or by `maxValues`.
        let id = LabelId(u32::try_from(self.values.len()).unwrap_or(LabelId::OTHER.0));
        self.values.push(value.into());
        self.ids.insert(value.into(), id);
        id
    }

    /// Takes over what the list has. It only grows, so its first `max` values are the same for every worker.
    fn learn(&mut self, list: &[u8], max: usize) {
        let mut rest = list;
        let mut place = 0usize;
        while let Some((&length, tail)) = rest.split_first() {
            let Some((value, tail)) = tail.split_at_checked(length.into()) else { break };
            if place >= max {
                break;
            }
            if place >= self.listed {
                self.add(value);
            }
            place = place.saturating_add(1);
            rest = tail;
        }
        self.listed = self.listed.max(place);
    }
}

/// A list is its values, each after its length.
fn append(list: &[u8], value: &[u8]) -> Vec<u8> {
    const { assert!(MAX_VALUE_LENGTH <= u8::MAX as usize) };
    let mut list = list.to_vec();
    list.push(u8::try_from(value.len()).unwrap_or(0));
    list.extend_from_slice(value);
    list
}

fn cut(value: &[u8]) -> &[u8] {
    value.get(..MAX_VALUE_LENGTH).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    fn text(values: &LabelValues, value: &str, host: &Fake) -> String {
        let id = values.id(value.as_bytes(), true, host);
        values.with_value(id, |value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_first_values_are_told_and_the_rest_is_other() {
        let host = Fake::new();
        let values = LabelValues::new("tenant", Some(2), []);
        for (value, told) in
            [("none", "none"), ("a", "a"), ("b", "b"), ("a", "a"), ("c", "other"), ("other", "other")]
        {
            assert_eq!(text(&values, value, &host), told);
        }
        assert_eq!(values.id(b"none", true, &host), LabelId::NONE);
        assert_eq!(values.id(b"d", true, &host), LabelId::OTHER);
    }

    #[test]
    fn workers_share_the_places() {
        let host = Fake::new();
        let worker = || LabelValues::new("tenant", Some(2), []);
        let (one, two) = (worker(), worker());
        assert_eq!(text(&one, "a", &host), "a");
        assert_eq!(text(&two, "b", &host), "b");
        for values in [&one, &two] {
            assert_eq!(text(values, "c", &host), "other");
            assert_eq!(text(values, "a", &host), "a");
            assert_eq!(text(values, "b", &host), "b");
        }
        let later = LabelValues::new("tenant", Some(1), []);
        assert_eq!(text(&later, "b", &host), "other");
        assert_eq!(text(&later, "a", &host), "a");
    }

    #[test]
    fn who_must_not_take_a_place_has_one_only_if_another_took_it() {
        let host = Fake::new();
        let worker = || LabelValues::new("tenant", Some(1), []);
        let (one, two) = (worker(), worker());
        for value in [b"x".as_slice(), b"y", b"a"] {
            assert_eq!(one.id(value, false, &host), LabelId::OTHER);
        }
        assert_eq!(text(&two, "a", &host), "a");
        let id = one.id(b"a", false, &host);
        one.with_value(id, |value| assert_eq!(value, b"a"));
    }

    #[test]
    fn plugins_of_other_names_have_places_of_their_own() {
        let host = Fake::new();
        for (plugin, value) in [("edge", "a"), ("inner", "b")] {
            let properties = [("plugin_name".to_owned(), plugin.as_bytes().to_vec())].into();
            host.open_stream(1, crate::host::fake::Stream { properties, ..Default::default() });
            let values = LabelValues::new("tenant", Some(1), []);
            assert_eq!(text(&values, value, &host), value);
            assert_eq!(text(&values, "c", &host), "other");
        }
    }

    #[test]
    fn a_known_value_and_a_full_list_cost_no_hostcall() {
        let host = Fake::new();
        let values = LabelValues::new("tenant", Some(1), [Box::from(b"default".as_slice())]);
        assert_eq!(text(&values, "a", &host), "a");
        host.take_hostcalls();
        for (value, told) in [("a", "a"), ("b", "other"), ("default", "default")] {
            assert_eq!(text(&values, value, &host), told);
        }
        assert_eq!(host.take_hostcalls().len(), 0);
    }

    #[test]
    fn long_values_take_one_place_and_little_memory() {
        let host = Fake::new();
        let values = LabelValues::new("tenant", Some(2), []);
        let id = values.id(&[b'a'; 60_000], true, &host);
        assert_eq!(values.id(&[b'a'; 50_000], true, &host), id);
        values.with_value(id, |value| assert_eq!(value.len(), MAX_VALUE_LENGTH));
    }

    #[test]
    fn a_list_that_is_cut_short_is_read_as_far_as_it_goes() {
        let host = Fake::new();
        host.shared_data_create(&shared::plugin_key("tag", "tenant", &host), b"\x01a\x05b").unwrap();
        let values = LabelValues::new("tenant", Some(3), []);
        assert_eq!(text(&values, "a", &host), "a");
    }
}
