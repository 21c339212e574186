use std::ops::Range;

use super::{Status, same};

/// A header map, read in place: no allocation for each header. What is in it stands in its own buffer, as the proxy has
/// serialised it, or where the proxy has it, as long as that lends it.
///
/// Layout of the buffer (proxy-wasm ABI 0.2): the number of pairs, then the two lengths of each pair, all `u32` little endian;
/// then each name and each value, every one followed by a NUL.
#[derive(Clone, Debug, Default)]
pub struct HeaderMap<'a> {
    buffer: Vec<u8>,
    entries: Vec<Entry<'a>>,
    looks: Looks,
}

/// What the pairs look like: most names that are looked for are absent, and this tells of nearly all of those, and where to look
/// for the others. It sorts names into 64 kinds, by their [`key`].
#[derive(Clone, Copy, Debug)]
struct Looks {
    /// Which kinds of names there are, or were: a bit for each.
    kinds: u64,
    /// Of which there are several pairs.
    several: u64,
    /// Before which place of the entries there is none of a kind.
    first: [u8; 64],
    /// Whether a value may begin or end with a blank.
    blanks: bool,
}

impl Default for Looks {
    fn default() -> Self {
        Looks { kinds: 0, several: 0, first: [0; 64], blanks: false }
    }
}

impl Looks {
    /// A pair comes to this place of the entries.
    #[inline]
    fn add(&mut self, key: u32, value: &[u8], place: usize) {
        let (kind, bit) = Self::kind(key);
        if self.kinds & bit != 0 || place >= u8::MAX.into() {
            self.several |= bit;
        } else if let Some(first) = self.first.get_mut(kind) {
            *first = place as u8;
        }
        self.kinds |= bit;
        let may_be_blank = |byte: Option<&u8>| byte.is_some_and(|byte| *byte <= b' ');
        self.blanks |= may_be_blank(value.first()) | may_be_blank(value.last());
    }

    /// Between which places of so many entries all those are that have this key.
    #[inline]
    fn places(&self, key: u32, count: usize) -> Range<usize> {
        let (kind, bit) = Self::kind(key);
        if self.kinds & bit == 0 {
            return 0..0;
        }
        let first = usize::from(self.first.get(kind).copied().unwrap_or_default());
        let end = if self.several & bit == 0 { first.saturating_add(1) } else { count };
        first..end.min(count)
    }

    /// The entry at this place is gone, and those behind it have moved up.
    fn remove(&mut self, place: usize) {
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        self.first.iter_mut().for_each(|first| *first = first.saturating_sub((*first > place).into()));
    }

    /// Entries may be anywhere now.
    fn shuffle(&mut self) {
        self.several = u64::MAX;
        self.first = [0; 64];
    }

    /// The number of a key's kind, and its bit.
    #[inline]
    fn kind(key: u32) -> (usize, u64) {
        // 2^32 by the golden ratio, and the top six bits.
        let kind = key.wrapping_mul(0x9e37_79b9) >> 26;
        (kind as usize, 1 << kind)
    }
}

/// Room for so many pairs that are added to those that there are.
const MORE: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    /// Of the name: see [`key`].
    key: u32,
    name: Bytes<'a>,
    value: Bytes<'a>,
}

/// A name, or a value.
#[derive(Clone, Copy, Debug)]
enum Bytes<'a> {
    /// In the map's own buffer: where it begins there, and how long it is.
    Own(u32, u32),
    /// Where the proxy has it.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "nothing is lent there"))]
    Lent(Lent<'a>),
}

#[cfg(not(target_family = "wasm"))]
type Lent<'a> = &'a [u8];

/// A wasm module sees nothing of the proxy's memory.
#[cfg(target_family = "wasm")]
type Lent<'a> = Nothing<'a>;

#[cfg(target_family = "wasm")]
#[derive(Clone, Copy, Debug)]
struct Nothing<'a>(std::convert::Infallible, std::marker::PhantomData<&'a [u8]>);

#[cfg(target_family = "wasm")]
impl std::ops::Deref for Nothing<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.0 {}
    }
}

impl Bytes<'_> {
    #[inline]
    fn get<'b>(&'b self, buffer: &'b [u8]) -> &'b [u8] {
        match self {
            Bytes::Own(start, length) => slice(buffer, (*start, *length)),
            Bytes::Lent(lent) => lent,
        }
    }
}

/// What tells nearly all names apart without looking at them: the length, and the first and the last byte.
#[inline]
fn key(name: &[u8]) -> u32 {
    let byte = |byte: Option<&u8>| u32::from(byte.copied().unwrap_or_default());
    (name.len() as u32).wrapping_shl(16) | byte(name.first()) << 8 | byte(name.last())
}

#[cfg(not(target_family = "wasm"))]
impl<'a> HeaderMap<'a> {
    /// Pairs that somebody lends, with room for a few more.
    pub fn lent(pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut entries = Vec::with_capacity(pairs.len().saturating_add(MORE));
        let mut looks = Looks::default();
        entries.extend(pairs.enumerate().map(|(place, (name, value))| {
            let key = key(name);
            looks.add(key, value, place);
            Entry { key, name: Bytes::Lent(name), value: Bytes::Lent(value) }
        }));
        HeaderMap { buffer: Vec::new(), entries, looks }
    }
}

impl HeaderMap<'static> {
    /// Reads the proxy's buffer.
    ///
    /// # Errors
    /// [`Status::ParseFailure`] when its lengths do not fit together.
    pub fn parse(buffer: Vec<u8>) -> Result<Self, Status> {
        if buffer.is_empty() {
            return Ok(HeaderMap::default());
        }
        let (entries, looks) = parse_entries(&buffer).ok_or(Status::ParseFailure)?;
        Ok(HeaderMap { buffer, entries, looks })
    }
}

impl<'a> HeaderMap<'a> {
    /// A length in a set of lengths: a bit for each; all long ones share the last.
    #[inline]
    pub fn length(length: usize) -> u64 {
        1 << length.min(63)
    }

    /// Whether a header of this name may be there, or one of its [twins](Self::twins); false for nearly all that are not, at no
    /// cost.
    #[inline]
    pub fn may_have_twin(&self, name: &[u8]) -> bool {
        let key = key(name);
        !has_twins_of_its_key(name) || self.candidates(key).iter().any(|entry| entry.key == key)
    }

    /// Writes pairs the way that the proxy does.
    pub fn serialize<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut buffer = Vec::new();
        buffer.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, value) in pairs {
            buffer.extend_from_slice(&length(name.as_ref()));
            buffer.extend_from_slice(&length(value.as_ref()));
        }
        for (name, value) in pairs {
            for part in [name.as_ref(), value.as_ref()] {
                buffer.extend_from_slice(part);
                buffer.push(0);
            }
        }
        buffer
    }

    /// Every pair, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| (entry.name.get(&self.buffer), entry.value.get(&self.buffer)))
    }

    /// Every value of a header. Envoy gives names in lower case; `name` must be, too.
    pub fn values<'b>(&'b self, name: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let key = key(name);
        self.candidates(key)
            .iter()
            .filter(move |entry| entry.key == key && same(entry.name.get(&self.buffer), name))
            .map(|entry| entry.value.get(&self.buffer))
    }

    /// Those among which all are that have this key.
    #[inline]
    fn candidates(&self, key: u32) -> &[Entry<'a>] {
        self.entries.get(self.looks.places(key, self.entries.len())).unwrap_or_default()
    }

    /// The first value of a header.
    #[inline(never)]
    pub fn get<'b>(&'b self, name: &'b [u8]) -> Option<&'b [u8]> {
        let key = key(name);
        for entry in self.candidates(key) {
            if entry.key == key && same(entry.name.get(&self.buffer), name) {
                return Some(entry.value.get(&self.buffer));
            }
        }
        None
    }

    /// Names that a gateway interface takes for `name`, as `x_user` for `x-user`: it turns dashes into underscores (RFC 3875,
    /// 4.1.18), and some turn everything into them that is no letter or digit, as in `x.user`.
    pub fn twins<'b>(&'b self, name: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let entries = if has_twins_of_its_key(name) { self.candidates(key(name)) } else { &self.entries };
        let names = entries.iter().map(|entry| entry.name.get(&self.buffer));
        let names = names.filter(|other| other.len() == name.len());
        let same = |(one, other): (&u8, &u8)| {
            one == other || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
        };
        names.filter(move |other| *other != name && other.iter().zip(name).all(same))
    }

    /// Drops every value of a header; says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        // Mostly there is none or one, and looking costs less than moving all of them.
        let (buffer, key) = (&self.buffer, key(name));
        let named = |entry: &Entry| entry.key == key && same(entry.name.get(buffer), name);
        let places = self.looks.places(key, self.entries.len());
        let mut candidates = self.entries.get(places.clone()).unwrap_or_default().iter();
        let Some(first) = candidates.position(named) else { return false };
        if candidates.any(named) {
            self.entries.retain(|entry| !named(entry));
            self.looks.shuffle();
        } else {
            let place = places.start.saturating_add(first);
            self.entries.remove(place);
            self.looks.remove(place);
        }
        true
    }

    /// Leaves out the blanks around values: they are no part of a value (RFC 9110, 5.5), and upstreams drop them, though
    /// proxies take them over HTTP/2.
    pub fn trim_values(&mut self) {
        // Most proxies have done so.
        if !self.looks.blanks {
            return;
        }
        for Entry { value, .. } in &mut self.entries {
            let trimmed = match value {
                Bytes::Own(start, length) => {
                    let (blanks, rest) = trim(slice(&self.buffer, (*start, *length)));
                    let blanks = u32::try_from(blanks).unwrap_or_default();
                    Bytes::Own(start.saturating_add(blanks), u32::try_from(rest.len()).unwrap_or_default())
                }
                #[cfg(not(target_family = "wasm"))]
                Bytes::Lent(lent) => Bytes::Lent(trim(lent).1),
                #[cfg(target_family = "wasm")]
                Bytes::Lent(lent) => match lent.0 {},
            };
            *value = trimmed;
        }
    }

    /// Adds a pair at the end.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let key = key(name);
        self.looks.add(key, value, self.entries.len());
        let (name, value) = (self.append(name), self.append(value));
        self.entries.push(Entry { key, name, value });
    }

    fn append(&mut self, bytes: &[u8]) -> Bytes<'static> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        // A map is at most 1 MiB on the host's side, and edits come from the policy: u32 holds it.
        Bytes::Own(u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(bytes.len()).unwrap_or(0))
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderMap<'_> {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let entries = Vec::with_capacity(pairs.size_hint().0.saturating_add(MORE));
        let mut map = HeaderMap { entries, ..HeaderMap::default() };
        for (name, value) in pairs {
            map.add(name.as_ref(), value.as_ref());
        }
        map
    }
}

fn slice(buffer: &[u8], (start, length): (u32, u32)) -> &[u8] {
    let start = start as usize;
    buffer.get(start..start.saturating_add(length as usize)).unwrap_or_default()
}

/// A value without the blanks around it, and how many of them stood before it.
fn trim(value: &[u8]) -> (usize, &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let before = value.iter().take_while(|byte| is_blank(byte)).count();
    let rest = value.get(before..).unwrap_or_default();
    let after = rest.iter().rev().take_while(|byte| is_blank(byte)).count();
    (before, rest.get(..rest.len().saturating_sub(after)).unwrap_or_default())
}

/// Whether all twins of a name have its [`key`]: the first and the last byte of a twin are the same unless they are no letter or
/// digit.
#[inline]
fn has_twins_of_its_key(name: &[u8]) -> bool {
    let is_own = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_own(name.first()) && is_own(name.last())
}

/// One pass, which checks once at its end that all was within the buffer: what is outside of it is empty meanwhile.
fn parse_entries(buffer: &[u8]) -> Option<(Vec<Entry<'static>>, Looks)> {
    u32::try_from(buffer.len()).ok()?;
    let (count, rest) = buffer.split_first_chunk()?;
    let size = (u32::from_le_bytes(*count) as usize).checked_mul(8)?;
    let lengths = rest.get(..size)?.as_chunks::<4>().0.as_chunks::<2>().0;
    let mut looks = Looks::default();
    // Fewer than 2^30 lengths of less than 2^32 bytes.
    let mut at = (size as u64).wrapping_add(4);
    let mut take = |length: &[u8; 4]| {
        let span = (at as u32, u32::from_le_bytes(*length));
        // The NUL that follows belongs to the part.
        at = at.wrapping_add(u64::from(span.1)).wrapping_add(1);
        span
    };
    let mut entries = Vec::with_capacity(lengths.len().saturating_add(MORE));
    entries.extend(lengths.iter().enumerate().map(|(place, [name, value])| {
        let (name, value) = (take(name), take(value));
        let key = key(slice(buffer, name));
        looks.add(key, slice(buffer, value), place);
        let own = |(start, length)| Bytes::Own(start, length);
        Entry { key, name: own(name), value: own(value) }
    }));
    (at <= buffer.len() as u64).then_some((entries, looks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs<'a>(map: &'a HeaderMap<'_>) -> Vec<(&'a [u8], &'a [u8])> {
        map.iter().collect()
    }

    #[test]
    fn reads_what_the_proxy_writes_byte_for_byte() {
        let written: [(&[u8], &[u8]); 3] = [(b":path", b"/"), (b"x", b""), (b"x", b"a\xffb")];
        let map = HeaderMap::parse(HeaderMap::serialize(&written)).unwrap();
        assert_eq!(pairs(&map), written);
        assert_eq!(map.values(b"x").collect::<Vec<_>>(), [b"".as_slice(), b"a\xffb"]);
        assert_eq!(map.get(b"absent"), None);
    }

    #[test]
    fn blanks_are_no_part_of_a_value() {
        let sent: [(&[u8], &[u8]); 5] =
            [(b"a", b" yes\t "), (b"b", b" \t "), (b"c", b""), (b"d", b"x y"), (b"e", b"\tz")];
        let mut map = HeaderMap::parse(HeaderMap::serialize(&sent)).unwrap();
        map.trim_values();
        let values: Vec<&[u8]> = map.iter().map(|(_, value)| value).collect();
        assert_eq!(values, [b"yes".as_slice(), b"", b"", b"x y", b"z"]);
    }

    #[test]
    fn twins_differ_in_what_is_no_letter_alone() {
        let names = [
            "x-user-id",
            "x_user_id",
            "x-user_id",
            "x-user+id",
            "x.user-id",
            "x_user_ie",
            "x-userxid",
            "x_user",
        ];
        let map: HeaderMap = names.map(|name| (name, "")).into_iter().collect();
        let twins: Vec<_> = map.twins(b"x-user-id").collect();
        assert_eq!(twins, [b"x_user_id", b"x-user_id", b"x-user+id", b"x.user-id"]);
        assert_eq!(map.twins(b"x_user").next(), None);
    }

    #[cfg(not(target_family = "wasm"))]
    #[test]
    fn what_is_lent_stays_where_it_is_and_what_is_added_is_copied() {
        let lent: [(&[u8], &[u8]); 3] = [(b":path", b"/"), (b"x", b""), (b"z", b" 1\t")];
        let mut map = HeaderMap::lent(lent.iter().copied());
        assert_eq!(pairs(&map), lent);
        assert!(pairs(&map).iter().zip(lent).all(|(one, other)| one.0.as_ptr() == other.0.as_ptr()));
        assert!(map.may_have_twin(b"x") && !map.may_have_twin(b"w"));
        map.add(b"y", b"1");
        map.add(b"x", b" 2");
        map.trim_values();
        assert_eq!(map.get(b"y"), Some(b"1".as_slice()));
        assert_eq!(map.get(b"z"), Some(b"1".as_slice()));
        assert_eq!(map.values(b"x").collect::<Vec<_>>(), [b"".as_slice(), b"2"]);
        assert!(map.remove(b"x"));
        assert_eq!(pairs(&map), [(b":path".as_slice(), b"/".as_slice()), (b"z", b"1"), (b"y", b"1")]);
        assert!(pairs(&HeaderMap::lent([].into_iter())).is_empty());
    }

    #[test]
    fn whatever_was_added_and_removed_what_is_there_is_found() {
        // More names than places that are remembered, some of them many times, and of a few first bytes and lengths.
        let names: Vec<String> = (0..600_u32)
            .map(|number| format!("{}{}", ["a", "bb", "x-c"][number as usize % 3], number / 5 % 90))
            .collect();
        let mut map = HeaderMap::default();
        let mut expected: Vec<(&[u8], Vec<u8>)> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let value = number.to_string().into_bytes();
            map.add(name.as_bytes(), &value);
            expected.push((name.as_bytes(), value));
            if number % 7 == 0 {
                let other = names[number * 31 % (number + 1)].as_bytes();
                let there = expected.iter().any(|(name, _)| *name == other);
                assert_eq!(map.remove(other), there, "{number}");
                expected.retain(|(name, _)| *name != other);
            }
            for name in names.iter().step_by(13) {
                let values: Vec<&[u8]> = map.values(name.as_bytes()).collect();
                let known = expected.iter().filter(|(known, _)| *known == name.as_bytes());
                assert!(known.map(|(_, value)| &value[..]).eq(values), "{number} {name}");
            }
        }
        assert!(map.iter().eq(expected.iter().map(|(name, value)| (*name, &value[..]))));
    }

    #[test]
    fn edits_keep_the_order_of_the_rest() {
        let mut map: HeaderMap = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")].into_iter().collect();
        assert!(map.remove(b"a"));
        assert!(!map.remove(b"a"));
        map.add(b"d", b"5");
        assert_eq!(pairs(&map), [(b"b".as_slice(), b"2".as_slice()), (b"c", b"4"), (b"d", b"5")]);
    }

    #[test]
    fn a_buffer_that_lies_about_its_lengths_is_refused() {
        let whole = HeaderMap::serialize(&[("name", "value")]);
        for cut in 1..whole.len() {
            assert!(HeaderMap::parse(whole.get(..cut).unwrap().to_vec()).is_err(), "cut at {cut}");
        }
        assert!(HeaderMap::parse(vec![0xff; 64]).is_err());
        assert!(HeaderMap::parse(Vec::new()).unwrap().iter().next().is_none());
    }
}
