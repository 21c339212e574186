use super::{Status, same};

/// A header map as the proxy serialises it, read in place: one buffer, no allocation for each header.
///
/// Layout (proxy-wasm ABI 0.2): the number of pairs, then the two lengths of each pair, all `u32` little endian;
/// then each name and each value, every one followed by a NUL.
#[derive(Clone, Debug, Default)]
pub struct HeaderMap {
    buffer: Vec<u8>,
    entries: Vec<Entry>,
    looks: Looks,
}

/// What the pairs look like: most names that are looked for are absent, and this tells of nearly all of those.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    /// Which lengths names have together with which first bytes.
    begins: u64,
    /// And together with which last bytes.
    ends: u64,
    /// Whether a value may begin or end with a blank.
    blanks: bool,
}

impl Looks {
    #[inline]
    fn add(&mut self, key: u32, value: &[u8]) {
        self.begins |= Self::begin(key);
        self.ends |= Self::end(key);
        let may_be_blank = |byte: Option<&u8>| byte.is_some_and(|byte| *byte <= b' ');
        self.blanks |= may_be_blank(value.first()) | may_be_blank(value.last());
    }

    /// Whether a name with this [`key`] may be among them.
    #[inline]
    fn may_have(&self, key: u32) -> bool {
        self.begins & Self::begin(key) != 0 && self.ends & Self::end(key) != 0
    }

    #[inline]
    fn begin(key: u32) -> u64 {
        1 << ((key >> 16).wrapping_mul(5).wrapping_add(key >> 8) & 63)
    }

    #[inline]
    fn end(key: u32) -> u64 {
        1 << ((key >> 16).wrapping_mul(7).wrapping_add(key) & 63)
    }
}

/// Room for so many pairs that are added to those that there are.
const MORE: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of the name: see [`key`].
    key: u32,
    name: (u32, u32),
    value: (u32, u32),
}

/// What tells nearly all names apart without looking at them: the length, and the first and the last byte.
#[inline]
fn key(name: &[u8]) -> u32 {
    let byte = |byte: Option<&u8>| u32::from(byte.copied().unwrap_or_default());
    (name.len() as u32).wrapping_shl(16) | byte(name.first()) << 8 | byte(name.last())
}

impl HeaderMap {
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

    /// A copy of pairs that somebody lends, with room for a few more.
    pub fn of<'a>(pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Self {
        const MORE_BYTES: usize = 128;
        let bytes = pairs
            .clone()
            .fold(0usize, |sum, (name, value)| sum.saturating_add(name.len()).saturating_add(value.len()));
        let mut map = HeaderMap {
            buffer: Vec::new(),
            entries: Vec::with_capacity(pairs.len().saturating_add(MORE)),
            looks: Looks::default(),
        };
        if u32::try_from(bytes).is_err() {
            pairs.for_each(|(name, value)| map.add(name, value));
            return map;
        }
        let HeaderMap { buffer, entries, looks } = &mut map;
        buffer.reserve(bytes.saturating_add(MORE_BYTES));
        buffer.resize(bytes, 0);
        let mut rest = buffer.as_mut_slice();
        // Every place in so few bytes is a u32.
        let mut at = 0u32;
        let mut copy = |bytes: &[u8]| {
            let (place, after) =
                std::mem::take(&mut rest).split_at_mut_checked(bytes.len()).unwrap_or_default();
            copy_bytes(place, bytes);
            rest = after;
            let span = (at, bytes.len() as u32);
            at = at.wrapping_add(span.1);
            span
        };
        entries.extend(pairs.map(|(name, value)| {
            let key = key(name);
            looks.add(key, value);
            Entry { key, name: copy(name), value: copy(value) }
        }));
        map
    }

    /// A length in a set of lengths: a bit for each; all long ones share the last.
    #[inline]
    pub fn length(length: usize) -> u64 {
        1 << length.min(63)
    }

    /// Whether a header of this name may be there, or one of its [twins](Self::twins); false for nearly all that are not, at no
    /// cost.
    #[inline]
    pub fn may_have_twin(&self, name: &[u8]) -> bool {
        !has_twins_of_its_key(name) || self.looks.may_have(key(name))
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
        self.entries.iter().map(|entry| (self.slice(entry.name), self.slice(entry.value)))
    }

    /// Every value of a header. Envoy gives names in lower case; `name` must be, too.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let key = key(name);
        let entries = if self.looks.may_have(key) { self.entries.as_slice() } else { &[] };
        entries
            .iter()
            .filter(move |entry| entry.key == key && same(self.slice(entry.name), name))
            .map(|entry| self.slice(entry.value))
    }

    /// The first value of a header.
    pub fn get<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Names that a gateway interface takes for `name`, as `x_user` for `x-user`: it turns dashes into underscores (RFC 3875,
    /// 4.1.18), and some turn everything into them that is no letter or digit, as in `x.user`.
    pub fn twins<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let entries = if self.may_have_twin(name) { self.entries.as_slice() } else { &[] };
        let names = entries
            .iter()
            .filter(|entry| entry.name.1 as usize == name.len())
            .map(|entry| self.slice(entry.name));
        let same = |(one, other): (&u8, &u8)| {
            one == other || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
        };
        names.filter(move |other| *other != name && other.iter().zip(name).all(same))
    }

    /// Drops every value of a header; says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        // Mostly there is none or one, and looking costs less than moving all of them.
        let (buffer, key) = (&self.buffer, key(name));
        if !self.looks.may_have(key) {
            return false;
        }
        let named = |entry: &Entry| entry.key == key && same(slice(buffer, entry.name), name);
        let Some(first) = self.entries.iter().position(named) else { return false };
        self.entries.remove(first);
        if self.entries.iter().skip(first).any(named) {
            self.entries.retain(|entry| !named(entry));
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
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        for Entry { value, .. } in &mut self.entries {
            let mut rest = slice(&self.buffer, *value);
            if is_blank(rest.first()) || is_blank(rest.last()) {
                while is_blank(rest.first()) {
                    rest = rest.get(1..).unwrap_or_default();
                    value.0 = value.0.saturating_add(1);
                }
                while is_blank(rest.last()) {
                    rest = rest.split_last().map_or(&[][..], |(_, rest)| rest);
                }
                value.1 = u32::try_from(rest.len()).unwrap_or_default();
            }
        }
    }

    /// Adds a pair at the end.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let key = key(name);
        self.looks.add(key, value);
        let (name, value) = (self.append(name), self.append(value));
        self.entries.push(Entry { key, name, value });
    }

    fn append(&mut self, bytes: &[u8]) -> (u32, u32) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        // A map is at most 1 MiB on the host's side, and edits come from the policy: u32 holds it.
        (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(bytes.len()).unwrap_or(0))
    }

    fn slice(&self, span: (u32, u32)) -> &[u8] {
        slice(&self.buffer, span)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut map = HeaderMap::default();
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

/// Copies between places of one length. Most names and values are short, and a call costs more than they do.
#[inline]
fn copy_bytes(to: &mut [u8], from: &[u8]) {
    const SHORT: usize = 32;
    if to.len() != from.len() {
        return;
    }
    if from.len() > SHORT {
        to.copy_from_slice(from);
    } else if !(copy_ends::<16>(to, from) || copy_ends::<8>(to, from) || copy_ends::<4>(to, from)) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// Copies so many bytes at the beginning and as many at the end: all, where there are at most twice as many. False where there
/// are fewer.
#[inline]
fn copy_ends<const COUNT: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<COUNT>(), from.last_chunk::<COUNT>()) else {
        return false;
    };
    if let Some(place) = to.first_chunk_mut() {
        *place = *first;
    }
    if let Some(place) = to.last_chunk_mut() {
        *place = *last;
    }
    true
}

/// Whether all twins of a name have its [`key`]: the first and the last byte of a twin are the same unless they are no letter or
/// digit.
#[inline]
fn has_twins_of_its_key(name: &[u8]) -> bool {
    let is_own = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_own(name.first()) && is_own(name.last())
}

/// One pass, which checks once at its end that all was within the buffer: what is outside of it is empty meanwhile.
fn parse_entries(buffer: &[u8]) -> Option<(Vec<Entry>, Looks)> {
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
    entries.extend(lengths.iter().map(|[name, value]| {
        let (name, value) = (take(name), take(value));
        let key = key(slice(buffer, name));
        looks.add(key, slice(buffer, value));
        Entry { key, name, value }
    }));
    (at <= buffer.len() as u64).then_some((entries, looks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(map: &HeaderMap) -> Vec<(&[u8], &[u8])> {
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

    #[test]
    fn what_is_lent_is_copied() {
        let lent: [(&[u8], &[u8]); 2] = [(b":path", b"/"), (b"x", b"")];
        let mut map = HeaderMap::of(lent.iter().copied());
        assert_eq!(pairs(&map), lent);
        assert!(map.may_have_twin(b"x") && !map.may_have_twin(b"z"));
        map.add(b"y", b"1");
        assert_eq!(map.get(b"y"), Some(b"1".as_slice()));
        assert!(pairs(&HeaderMap::of([].into_iter())).is_empty());
        let bytes: Vec<u8> = (0..100).collect();
        for length in 0..bytes.len() {
            let (name, value) = (&bytes[..length], &bytes[bytes.len() - length..]);
            let map = HeaderMap::of([(name, value), (value, name)].into_iter());
            assert_eq!(pairs(&map), [(name, value), (value, name)], "{length}");
        }
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
