//! A request as the policies see it: one snapshot of the headers and attributes, and the edits made to it.
//!
//! Bytes, not strings: Envoy lets 0x80–0xFF through in header values. Repeated headers keep all their values.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use percent_encoding::percent_decode;

use crate::host::{HeaderMap, Instant, same};

/// Names an attribute that the policy reads from the proxy at every request; see [`AttributeTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeId(usize);

/// The attributes that a policy needs: each is read once per request, and only if something needs it.
#[derive(Clone, Debug, Default)]
pub struct AttributeTable(Vec<Vec<String>>);

impl AttributeTable {
    /// The id of an attribute such as `["source", "address"]`.
    pub fn intern(&mut self, path: &[&str]) -> AttributeId {
        let known = self.0.iter().position(|known| known.iter().map(String::as_str).eq(path.iter().copied()));
        AttributeId(known.unwrap_or_else(|| {
            self.0.push(path.iter().map(|&part| part.to_owned()).collect());
            self.0.len().saturating_sub(1)
        }))
    }

    /// Every path, in the order of the ids.
    pub fn paths(&self) -> &[Vec<String>] {
        &self.0
    }
}

/// One change to a header map, in the order in which the proxy has to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// One value in place of all.
    Set(Cow<'static, str>, Vec<u8>),
    /// A value beside the others.
    Add(Cow<'static, str>, Vec<u8>),
    /// None.
    Remove(Cow<'static, str>),
}

impl HeaderEdit {
    /// The header's name, in lower case.
    pub fn name(&self) -> &str {
        match self {
            HeaderEdit::Set(name, _) | HeaderEdit::Add(name, _) | HeaderEdit::Remove(name) => name,
        }
    }
}

/// Where the parts of a `:path` end.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    path: usize,
    /// None where there is no query.
    query: Option<usize>,
}

impl Ends {
    fn of(path_and_query: &[u8]) -> Self {
        let (path, query) = split_path(path_and_query);
        let query_end = |query: &[u8]| path.len().saturating_add(1).saturating_add(query.len());
        Ends { path: path.len(), query: query.map(query_end) }
    }
}

/// The snapshot, and what the policies changed in it.
#[derive(Clone, Debug, Default)]
pub struct Request<'h> {
    headers: HeaderMap<'h>,
    attributes: Vec<Option<Vec<u8>>>,
    edits: Vec<HeaderEdit>,
    original_path: Option<Vec<u8>>,
    /// Where path and query of `:path` end.
    ends: Ends,
    /// When the request came, on the monotonic clock.
    pub received_at: Instant,
    /// The proxy's id of the stream.
    pub stream: u32,
}

impl<'h> Request<'h> {
    /// A request with its headers, and the attributes of an [`AttributeTable`] in the table's order.
    pub fn new(mut headers: HeaderMap<'h>, attributes: Vec<Option<Vec<u8>>>, received_at: Instant) -> Self {
        headers.trim_values();
        let ends = Ends::of(headers.get(b":path").unwrap_or_default());
        Request { headers, attributes, received_at, ends, ..Request::default() }
    }

    // Reading.

    /// Every header, pseudo-headers included.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter()
    }

    /// Every value of a header. `name` is in lower case.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.values(name.as_bytes())
    }

    /// The first value of a header. `name` is in lower case.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.headers.get(name.as_bytes())
    }

    /// `:method`, empty when absent.
    pub fn method(&self) -> &[u8] {
        self.header(":method").unwrap_or_default()
    }

    /// `:scheme`, empty when absent.
    pub fn scheme(&self) -> &[u8] {
        self.header(":scheme").unwrap_or_default()
    }

    /// `:authority`, empty when absent.
    pub fn authority(&self) -> &[u8] {
        self.header(":authority").unwrap_or_default()
    }

    /// `:path` as it came; a CONNECT request has none, and it is empty.
    pub fn path_and_query(&self) -> &[u8] {
        self.header(":path").unwrap_or_default()
    }

    /// `:path` as the client sent it, whatever the policies made of it.
    pub fn original_path_and_query(&self) -> &[u8] {
        self.original_path.as_deref().unwrap_or_else(|| self.path_and_query())
    }

    /// Whether the policies made another path of the client's.
    pub fn has_new_path(&self) -> bool {
        self.original_path.is_some()
    }

    /// The path without query and fragment.
    pub fn path(&self) -> &[u8] {
        self.path_and_query().get(..self.ends.path).unwrap_or_default()
    }

    /// The query without its `?` and without the fragment.
    pub fn query(&self) -> Option<&[u8]> {
        self.path_and_query().get(self.ends.path.checked_add(1)?..self.ends.query?)
    }

    /// Every value of a query parameter, percent-decoded; a parameter without `=` has an empty one.
    pub fn query_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let pairs =
            self.query().unwrap_or_default().split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        pairs.filter_map(move |pair| {
            let (key, value) = split_once(pair, b'=').unwrap_or((pair, b""));
            let is_named =
                same(key, name.as_bytes()) || (key.contains(&b'%') && *decode(key) == *name.as_bytes());
            is_named.then(|| decode(value))
        })
    }

    /// Every value of a cookie, as it came, without the quotes around it.
    pub fn cookie_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let pairs = self.header_values("cookie").flat_map(|header| header.split(|byte| *byte == b';'));
        pairs.filter_map(move |pair| {
            let (key, value) = split_once(pair.trim_ascii_start(), b'=')?;
            let value = value.trim_ascii();
            let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            (key.trim_ascii_end() == name.as_bytes()).then_some(unquoted.unwrap_or(value))
        })
    }

    /// An attribute that the policy asked for; `None` where the proxy has none.
    pub fn attribute(&self, id: AttributeId) -> Option<&[u8]> {
        self.attributes.get(id.0)?.as_deref()
    }

    /// An attribute that is an address with a port, such as `source.address`.
    pub fn address(&self, id: AttributeId) -> Option<SocketAddr> {
        std::str::from_utf8(self.attribute(id)?).ok()?.parse().ok()
    }

    /// An attribute that is an address, with or without a port.
    pub fn ip(&self, id: AttributeId) -> Option<IpAddr> {
        let text = std::str::from_utf8(self.attribute(id)?).ok()?;
        text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
    }

    /// An attribute that is a whole number (8 bytes, little endian), such as `destination.port`.
    pub fn number(&self, id: AttributeId) -> Option<i64> {
        Some(i64::from_le_bytes(self.attribute(id)?.try_into().ok()?))
    }

    /// Whether this is a gRPC call, by the rule of Envoy: `content-type: application/grpc` or `…/grpc+…`.
    pub fn is_grpc(&self) -> bool {
        let rest = self.header("content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
        matches!(rest, Some([] | [b'+', ..]))
    }

    /// Removes every header that an upstream may take for this one: `x_user` is `x-user` to CGI and WSGI.
    pub fn remove_twins(&mut self, name: &str) {
        let text = |twin: &[u8]| String::from_utf8_lossy(twin).into_owned();
        let twins: Vec<String> = self.headers.twins(name.as_bytes()).map(text).collect();
        twins.iter().for_each(|twin| self.remove_header(twin));
    }

    /// Whether this header may be there, or what an upstream may take for it; false for nearly all that are not, at no cost.
    #[inline]
    pub fn may_have_twin(&self, name: &str) -> bool {
        self.headers.may_have_twin(name.as_bytes())
    }

    // Editing: the snapshot changes at once, the proxy's map when the edits are applied.

    /// Sets a header to one value. Control characters never reach the proxy.
    pub fn set_header(&mut self, name: impl Into<Cow<'static, str>>, value: &[u8]) {
        let (name, value) = (name.into(), clean(value));
        if name == ":path" && self.original_path.is_none() {
            self.original_path = Some(self.path_and_query().to_vec());
        }
        self.headers.remove(name.as_bytes());
        self.headers.add(name.as_bytes(), &value);
        self.note_edit(HeaderEdit::Set(name, value.into_owned()));
    }

    /// Adds a value to a header. Control characters never reach the proxy.
    pub fn add_header(&mut self, name: impl Into<Cow<'static, str>>, value: &[u8]) {
        let (name, value) = (name.into(), clean(value));
        self.headers.add(name.as_bytes(), &value);
        self.note_edit(HeaderEdit::Add(name, value.into_owned()));
    }

    /// Removes a header; nothing happens where there is none.
    pub fn remove_header(&mut self, name: impl AsRef<str>) {
        let name = name.as_ref();
        if self.headers.remove(name.as_bytes()) {
            self.note_edit(HeaderEdit::Remove(Cow::Owned(name.to_owned())));
        }
    }

    fn note_edit(&mut self, edit: HeaderEdit) {
        if edit.name() == ":path" {
            self.ends = Ends::of(self.path_and_query());
        }
        // To begin with room for what most policies change costs less than to grow.
        if self.edits.capacity() == 0 {
            self.edits = Vec::with_capacity(4);
        }
        self.edits.push(edit);
    }

    /// How many edits were made so far.
    pub fn edit_count(&self) -> usize {
        self.edits.len()
    }

    /// The edits so far, which the caller applies to the proxy's map; the list is empty afterwards.
    pub fn take_edits(&mut self) -> Vec<HeaderEdit> {
        std::mem::take(&mut self.edits)
    }
}

/// A header value without the bytes that none may carry: control characters but the tab (RFC 9110, 5.5). One of them in a
/// header, and the proxy refuses the request.
pub fn clean(value: &[u8]) -> Cow<'_, [u8]> {
    // Nearly none has any, and looking at all is faster than stopping at the first.
    if !value.iter().fold(false, |found, byte| found | byte.is_ascii_control()) {
        return Cow::Borrowed(value);
    }
    let stays = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    match value.iter().all(stays) {
        true => Cow::Borrowed(value),
        false => Cow::Owned(value.iter().copied().filter(stays).collect()),
    }
}

/// Splits at the first `delimiter`.
pub fn split_once(bytes: &[u8], delimiter: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == delimiter)?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(1)?..)?))
}

/// Path, and query without its `?`; the fragment is cut off.
pub fn split_path(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    match path.split_at_checked(end).unwrap_or_default() {
        (path, [b'?', query @ ..]) => (path, Some(split_once(query, b'#').map_or(query, |(query, _)| query))),
        (path, _) => (path, None),
    }
}

/// Percent-decodes a part of a query; a `+` stays one, as in Envoy.
pub fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(bytes).into()
}

#[cfg(test)]
mod tests;
