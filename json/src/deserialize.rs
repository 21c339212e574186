//! Reads values as types, and goes on after an error.
//!
//! Serde stops at the first thing that is wrong; a user wants to hear of all. Here a member that cannot be read is
//! reported with its path, and an empty value of its type takes its place, so that the rest is read as well. The
//! document is refused in the end, so nobody sees the placeholders.
//!
//! Nothing that does the work is generic: what a type adds is a list of its names and one call for each member.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value;

use super::{Errors, Path};

/// Reads a value, and reports everything in it that is wrong.
pub fn read<T: Deserialize>(value: &Value, path: &Path<'_>, errors: &Errors) -> Option<T> {
    T::read(Member { value, path, errors })
}

/// What can be read. Structs and enums derive it.
pub trait Deserialize: Sized {
    /// Reads it; `None`, and reported, if that cannot be done.
    fn read(member: Member<'_>) -> Option<Self>;

    /// What takes the place in a list or a map of one that cannot be read, if there is anything.
    fn stand_in() -> Option<Self> {
        None
    }

    /// Whether a member of this type may stand at all; one that may not is known so that it can be refused with the reason,
    /// and is never recommended.
    const MAY_STAND: bool = true;
}

/// The names of a member, and whether it may stand.
pub type Names<'a> = (&'a [&'a str], bool);

/// A value, and where it stands.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// The value.
    pub value: &'a Value,
    path: &'a Path<'a>,
    errors: &'a Errors,
}

impl Member<'_> {
    /// Reads this into a member of a struct, which stays as it is if that cannot be done.
    pub fn fill<T: Deserialize>(self, member: &mut T) {
        if let Some(read) = T::read(self) {
            *member = read;
        }
    }

    /// Hands out the members of an object, each with its place in `names`, which has all names of each. Others are
    /// reported. False if this is no object.
    pub fn object(self, names: &[Names<'_>], each: &mut dyn FnMut(usize, Member<'_>)) -> bool {
        let Value::Object(members) = self.value else { return self.unfit::<()>("an object").is_some() };
        let mut seen = Vec::with_capacity(members.len());
        for (name, value) in members {
            // A document of nothing but errors is not to cost more than one of some.
            if self.errors.is_full() {
                return false;
            }
            let path = &self.path.field(name);
            let Some(place) = names.iter().position(|(names, _)| names.contains(&name.as_str())) else {
                self.errors.add_at_name(path, unknown_name(name, names, self.errors.advice(name)));
                continue;
            };
            if seen.contains(&place) {
                self.errors.add_at_name(path, "this member stands twice; keep one");
            }
            seen.push(place);
            each(place, Member { value, path, ..self });
        }
        true
    }

    /// Which of these words it is.
    pub fn word(self, words: &[&str]) -> Option<usize> {
        let Value::String(word) = self.value else { return self.unfit(&one_of(words)) };
        let place = words.iter().position(|known| known == word);
        place.or_else(|| self.wrong(format_args!("\"{word}\" is not known here; use {}", one_of(words))))
    }

    /// A whole number in a range. One written as `5.0`, which is how a protobuf `Struct` has every number, is one.
    /// `what` says in a user's words what there should be.
    pub fn whole_number(self, from: i64, to: i64, what: &str) -> Option<i64> {
        // Beyond 2^53 a double is no exact number any more.
        let exact = |number: &f64| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
        let number = self.value.as_i64().or_else(|| Some(self.value.as_f64().filter(exact)? as i64));
        match number {
            Some(number) if (from..=to).contains(&number) => Some(number),
            None if !self.value.is_u64() => self.unfit(what),
            _ => self.wrong(format_args!("{} is out of range; use {what}", describe(self.value))),
        }
    }

    /// Reports that something of another kind belongs here.
    pub fn unfit<T>(self, what: &str) -> Option<T> {
        self.wrong(format_args!("{} does not belong here; use {what}", describe(self.value)))
    }

    /// Reports what is wrong.
    pub fn wrong<T>(self, message: impl Display) -> Option<T> {
        self.errors.add(self.path, message);
        None
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
        }
        Value::String(value) => format!("\"{value}\""),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn unknown_name(found: &str, names: &[Names<'_>], advice: Option<&str>) -> String {
    let names = names.iter().filter(|(_, may_stand)| *may_stand);
    let names: Vec<&str> = names.flat_map(|(names, _)| names.iter().copied()).collect();
    match (names.iter().find(|name| close(name, found)), advice) {
        (Some(name), _) => format!("there is no field \"{found}\" here; did you mean \"{name}\"?"),
        (None, Some(advice)) => format!("there is no field \"{found}\" here; {advice}"),
        (None, None) => format!("there is no field \"{found}\" here; use {}", one_of(&names)),
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => format!("\"{name}\""),
        [names @ .., last] => {
            let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
            format!("{} or \"{last}\"", names.join(", "))
        }
    }
}

/// Whether two names differ by case, an underscore, a plural, the order of their letters or one of them.
fn close(a: &str, b: &str) -> bool {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['_', '-'], "").into_bytes();
    let (a, b) = (plain(a), plain(b));
    if a == b || a.strip_suffix(b"s") == Some(&b) || b.strip_suffix(b"s") == Some(&a) {
        return true;
    }
    let count = |text: &[u8], letter: u8| text.iter().filter(|other| **other == letter).count();
    if a.len() == b.len() && a.iter().all(|letter| count(&a, *letter) == count(&b, *letter)) {
        return true;
    }
    let same_start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let same_end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let longest = a.len().max(b.len());
    a.len().abs_diff(b.len()) <= 1
        && longest > 3
        && same_start.saturating_add(same_end) >= longest.saturating_sub(1)
}

impl<T: Deserialize> Deserialize for Option<T> {
    fn read(member: Member<'_>) -> Option<Self> {
        match member.value {
            Value::Null => member.wrong("null does not belong here; leave the member out"),
            _ => T::read(member).map(Some),
        }
    }

    fn stand_in() -> Option<Self> {
        Some(None)
    }

    const MAY_STAND: bool = T::MAY_STAND;
}

impl<T: Deserialize> Deserialize for Vec<T> {
    fn read(member: Member<'_>) -> Option<Self> {
        let Value::Array(list) = member.value else { return member.unfit("a list") };
        let mut read = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let path = &member.path.index(index);
            read.extend(T::read(Member { value, path, ..member }).or_else(T::stand_in));
        }
        Some(read)
    }

    fn stand_in() -> Option<Self> {
        Some(Vec::new())
    }
}

/// A map's names are the user's own, and stand in brackets in a path.
impl<T: Deserialize> Deserialize for BTreeMap<String, T> {
    fn read(member: Member<'_>) -> Option<Self> {
        let Value::Object(members) = member.value else { return member.unfit("an object") };
        let mut read = BTreeMap::new();
        for (name, value) in members {
            let path = &member.path.key(name);
            if let Some(value) = T::read(Member { value, path, ..member }).or_else(T::stand_in) {
                read.insert(name.clone(), value);
            }
        }
        Some(read)
    }

    fn stand_in() -> Option<Self> {
        Some(BTreeMap::new())
    }
}

impl Deserialize for String {
    fn read(member: Member<'_>) -> Option<Self> {
        member.value.as_str().map(str::to_owned).or_else(|| member.unfit("a string"))
    }

    fn stand_in() -> Option<Self> {
        Some(String::new())
    }
}

impl Deserialize for bool {
    fn read(member: Member<'_>) -> Option<Self> {
        member.value.as_bool().or_else(|| member.unfit("true or false"))
    }

    fn stand_in() -> Option<Self> {
        Some(false)
    }
}

impl Deserialize for f64 {
    fn read(member: Member<'_>) -> Option<Self> {
        member.value.as_f64().or_else(|| member.unfit("a number"))
    }

    fn stand_in() -> Option<Self> {
        Some(0.0)
    }
}

macro_rules! whole_numbers {
    ($($number:ident $what:literal;)*) => {$(
        impl Deserialize for $number {
            fn read(member: Member<'_>) -> Option<Self> {
                let (from, to) = ($number::MIN.into(), $number::MAX.into());
                $number::try_from(member.whole_number(from, to, $what)?).ok()
            }

            fn stand_in() -> Option<Self> {
                Some(0)
            }
        }
    )*};
}

whole_numbers! {
    u8 "a whole number from 0 to 255";
    u16 "a whole number from 0 to 65535";
    u32 "a whole number from 0 to 4294967295";
    i64 "a whole number";
}

/// Anything.
impl Deserialize for Value {
    fn read(member: Member<'_>) -> Option<Self> {
        Some(member.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Default, crate::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Sample {
        name: Option<String>,
        count: Option<u32>,
        list: Vec<Sample>,
        map: BTreeMap<String, u8>,
        kind: Option<Kind>,
        #[serde(rename = "in", alias = "in_place")]
        in_place: Option<bool>,
        nettle: Option<Refused>,
    }

    /// A member that is always refused.
    #[derive(Debug)]
    struct Refused;

    impl Deserialize for Refused {
        fn read(_: Member<'_>) -> Option<Self> {
            Some(Refused)
        }

        const MAY_STAND: bool = false;
    }

    #[derive(Debug, crate::Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Kind {
        First,
        Second,
    }

    fn errors_of(value: Value) -> Vec<String> {
        let errors = Errors::default();
        let _ = read::<Sample>(&value, &Path::ROOT, &errors);
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_document_is_read_and_a_whole_number_of_a_struct_is_one() {
        let errors = Errors::default();
        let value =
            json!({"name": "a", "count": 5.0, "list": [{"count": 1}], "map": {"x": 2}, "kind": "second"});
        let sample: Sample = read(&value, &Path::ROOT, &errors).unwrap();
        assert_eq!(errors.count(), 0);
        assert_eq!((sample.name.as_deref(), sample.count, sample.list.len()), (Some("a"), Some(5), 1));
        assert_eq!(sample.map["x"], 2);
        assert!(matches!(sample.kind, Some(Kind::Second)));
    }

    #[test]
    fn every_error_is_reported_at_its_own_place() {
        assert_eq!(
            errors_of(json!({
                "cuont": 1,
                "count": -5,
                "in": true,
                "in_place": false,
                "kind": "third",
                // `nettle` is nearer than anything else, and may not stand.
                "list": [{"name": 7}, "x", {"count": 1.5, "nettel": {}}, {"name": null}],
                "map": {"a": 1, "b": 300, "c": "d"},
            })),
            [
                "count: -5 is out of range; use a whole number from 0 to 4294967295",
                "cuont: there is no field \"cuont\" here; did you mean \"count\"?",
                "in_place: this member stands twice; keep one",
                "kind: \"third\" is not known here; use \"first\" or \"second\"",
                "list[0].name: 7 does not belong here; use a string",
                "list[1]: \"x\" does not belong here; use an object",
                "list[2].count: 1.5 does not belong here; use a whole number from 0 to 4294967295",
                "list[2].nettel: there is no field \"nettel\" here; use \"name\", \"count\", \"list\", \"map\", \"kind\", \"in\" or \"in_place\"",
                "list[3].name: null does not belong here; leave the member out",
                "map[b]: 300 is out of range; use a whole number from 0 to 255",
                "map[c]: \"d\" does not belong here; use a whole number from 0 to 255",
            ]
        );
    }
}
