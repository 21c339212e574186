//! Where tokens stand in a request, and how they are taken out of it.

use std::borrow::Cow;
use std::collections::BinaryHeap;

use crate::request::{Request, decode, split_once};

/// Where the tokens of a rule may stand. Sorted as Envoy's jwt_authn filter sorts them: headers by name and prefix,
/// then parameters, then cookies.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    headers: Vec<HeaderLocation>,
    params: Vec<String>,
    cookies: Vec<String>,
}

/// A header with tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderLocation {
    /// Its name, in lower case.
    pub name: String,
    /// What stands before the token; empty for nothing.
    pub prefix: String,
}

/// Where a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the header at this place of the rule's.
    Header(usize),
    /// In the query parameter at this place.
    Param(usize),
    /// In the cookie at this place.
    Cookie(usize),
}

/// A token as it stands in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its bytes. Nothing says yet that they are a token.
    pub token: Cow<'a, [u8]>,
    /// Where it stands.
    pub place: Place,
}

/// More tokens than this at the places of one rule are refused: each costs a signature's verification.
pub const MAX_TOKENS: usize = 16;

impl Locations {
    /// The given places, and where there are none, those that RFC 6750 names.
    pub fn new(headers: Vec<HeaderLocation>, params: Vec<String>, cookies: Vec<String>) -> Self {
        let mut locations = Locations { headers, params, cookies };
        if locations.headers.is_empty() && locations.params.is_empty() && locations.cookies.is_empty() {
            locations
                .headers
                .push(HeaderLocation { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() });
            locations.params.push("access_token".to_owned());
        }
        // A heap sorts in a tenth of the code.
        locations.headers = BinaryHeap::from(locations.headers).into_sorted_vec();
        locations.headers.dedup();
        for names in [&mut locations.params, &mut locations.cookies] {
            *names = BinaryHeap::from(std::mem::take(names)).into_sorted_vec();
            names.dedup();
        }
        locations
    }

    /// The headers that are looked at, cookies included.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        let cookie = (!self.cookies.is_empty()).then_some("cookie");
        self.headers.iter().map(|header| header.name.as_str()).chain(cookie)
    }

    /// Every token, of repeated headers, parameters and cookies all; [`MAX_TOKENS`] and one more at most.
    pub fn find<'a>(&'a self, request: &'a Request) -> Vec<Found<'a>> {
        // Whoever looks for tokens mostly finds one, and growing costs more than to begin with room.
        let mut found = Vec::with_capacity(1);
        let mut add = |token, place| {
            if found.len() <= MAX_TOKENS {
                found.push(Found { token, place });
            }
        };
        for (place, header) in self.headers.iter().enumerate() {
            for value in request.header_values(&header.name) {
                if let Some(token) = after_prefix(value, header.prefix.as_bytes()) {
                    add(Cow::Borrowed(token), Place::Header(place));
                }
            }
        }
        for (place, name) in self.params.iter().enumerate() {
            request.query_values(name).for_each(|token| add(token, Place::Param(place)));
        }
        for (place, name) in self.cookies.iter().enumerate() {
            request.cookie_values(name).for_each(|token| add(Cow::Borrowed(token), Place::Cookie(place)));
        }
        found
    }

    /// Takes the tokens out of the place where one was found: all of a header, all values of one parameter or
    /// cookie. What stands beside them stays byte for byte.
    pub fn remove(&self, request: &mut Request, place: Place) {
        match place {
            Place::Header(place) => {
                if let Some(header) = self.headers.get(place) {
                    request.remove_header(&header.name);
                }
            }
            Place::Param(place) => {
                let without = |name: &String| without_param(request.path_and_query(), name.as_bytes());
                if let Some(path) = self.params.get(place).and_then(without) {
                    request.set_header(":path", &path);
                }
            }
            Place::Cookie(place) => {
                if let Some(name) = self.cookies.get(place) {
                    remove_cookie(request, name.as_bytes());
                }
            }
        }
    }
}

/// What follows the prefix, as Envoy's jwt_authn filter finds it: the prefix may stand anywhere in the value, and
/// the token begins at the next character that one can have. It goes on to the end, so that what follows a token
/// makes it a bad one.
fn after_prefix<'a>(value: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if prefix.is_empty() {
        return Some(value);
    }
    // The name of a scheme has no case (RFC 9110, 11.1), and some put a tab behind it.
    let begins = |window: &[u8]| match is_bearer(prefix) {
        true => window
            .iter()
            .zip(prefix)
            .all(|(byte, meant)| byte.eq_ignore_ascii_case(meant) || (byte, meant) == (&b'\t', &b' ')),
        false => window == prefix,
    };
    // Mostly it stands at the beginning, as it is written.
    let at = match value.starts_with(prefix) {
        true => 0,
        false => value.windows(prefix.len()).position(begins)?,
    };
    let rest = value.get(at.checked_add(prefix.len())?..)?;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    // A prefix with no token behind it is a bad token, not none.
    Some(rest.iter().position(legal).and_then(|start| rest.get(start..)).unwrap_or(value))
}

fn is_bearer(prefix: &[u8]) -> bool {
    prefix.trim_ascii_end().eq_ignore_ascii_case(b"bearer")
}

/// The path without a parameter; `None` where it has none of that name.
fn without_param(path: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let (before, fragment) = match path.iter().position(|byte| *byte == b'#') {
        Some(at) => path.split_at_checked(at)?,
        None => (path, [].as_slice()),
    };
    let (path, query) = split_once(before, b'?')?;
    let is_named = |pair: &&[u8]| {
        let key = split_once(pair, b'=').map_or(*pair, |(key, _)| key);
        !pair.is_empty() && decode(key).as_ref() == name
    };
    if !query.split(|byte| *byte == b'&').any(|pair| is_named(&pair)) {
        return None;
    }
    let kept: Vec<&[u8]> = query.split(|byte| *byte == b'&').filter(|pair| !is_named(pair)).collect();
    let mut rebuilt = path.to_vec();
    if !kept.is_empty() {
        rebuilt.push(b'?');
        rebuilt.extend(kept.join(&b'&'));
    }
    rebuilt.extend_from_slice(fragment);
    Some(rebuilt)
}

fn remove_cookie(request: &mut Request, name: &[u8]) {
    let is_named = |pair: &&[u8]| split_once(pair, b'=').is_some_and(|(key, _)| key.trim_ascii() == name);
    let pairs = |value: &'_ [u8]| -> Vec<Vec<u8>> {
        value.split(|byte| *byte == b';').filter(|pair| !is_named(pair)).map(<[u8]>::to_vec).collect()
    };
    let named = |value: &[u8]| value.split(|byte| *byte == b';').any(|pair| is_named(&pair));
    if !request.header_values("cookie").any(named) {
        return;
    }
    let kept: Vec<Vec<u8>> = request
        .header_values("cookie")
        .map(|value| pairs(value).join(&b';').trim_ascii().to_vec())
        .filter(|value| !value.is_empty())
        .collect();
    request.remove_header("cookie");
    for value in kept {
        request.add_header("cookie", &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<'static> {
        Request::new(headers.iter().copied().collect(), Vec::new(), 0)
    }

    fn header(name: &str, prefix: &str) -> HeaderLocation {
        HeaderLocation { name: name.to_owned(), prefix: prefix.to_owned() }
    }

    fn found(locations: &Locations, headers: &[(&str, &str)]) -> Vec<String> {
        let request = request(headers);
        let found = locations.find(&request);
        found.iter().map(|found| String::from_utf8(found.token.to_vec()).unwrap()).collect()
    }

    #[test]
    fn without_places_the_standard_ones_are_looked_at() {
        let locations = Locations::new(vec![], vec![], vec![]);
        let headers = [
            (":path", "/?access_token=a%2Eb&x=1&access_token=c"),
            ("authorization", "Bearer d"),
            ("authorization", "Basic e"),
            ("authorization", "bearer f"),
            ("authorization", "Bearer g h"),
        ];
        assert_eq!(found(&locations, &headers), ["d", "f", "g h", "a.b", "c"]);
        let own = Locations::new(vec![], vec!["t".to_owned()], vec![]);
        assert_eq!(found(&own, &headers), Vec::<String>::new());
    }

    #[test]
    fn a_prefix_may_stand_anywhere_and_without_a_token_is_a_bad_one() {
        let locations = Locations::new(vec![header("x", "key=")], vec![], vec![]);
        assert_eq!(found(&locations, &[("x", "a key=\"b.c\", d")]), ["b.c\", d"]);
        assert_eq!(found(&locations, &[("x", "key= ")]), ["key="]);
        assert_eq!(found(&locations, &[("x", "ke=b")]), Vec::<String>::new());
        let bare = Locations::new(vec![header("x", "")], vec![], vec![]);
        assert_eq!(found(&bare, &[("x", ""), ("x", "a")]), ["", "a"]);
    }

    #[test]
    fn a_flood_of_tokens_is_cut_off() {
        let locations = Locations::new(vec![], vec![], vec!["t".to_owned()]);
        let cookies = "t=a;".repeat(10_000);
        assert_eq!(found(&locations, &[("cookie", &cookies)]).len(), MAX_TOKENS + 1);
    }

    #[test]
    fn only_the_one_parameter_is_removed() {
        for (path, expected) in [
            ("/a?t=1", Some("/a")),
            ("/a?b=%20x&t=1&c", Some("/a?b=%20x&c")),
            ("/a?t=1&b&%74=2", Some("/a?b")),
            ("/a?t&b#f?t=1", Some("/a?b#f?t=1")),
            ("/a?t=1#f", Some("/a#f")),
            ("/a?tt=1&T=2", None),
            ("/a?&t=1&", Some("/a?&")),
            ("/a", None),
            ("", None),
        ] {
            let without = without_param(path.as_bytes(), b"t");
            assert_eq!(without.as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn only_the_one_cookie_is_removed() {
        for (cookies, expected) in [
            (&["t=1"][..], &[][..]),
            (&["a=\"x\"; t=1; b=2"], &["a=\"x\"; b=2"]),
            (&["t=1; a=1", "b=2", "t=\"3\""], &["a=1", "b=2"]),
            (&["tt=1; nonsense; T=2"], &["tt=1; nonsense; T=2"]),
            (&[" t = 1 ;a=1;t=2"], &["a=1"]),
        ] {
            let headers: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
            let mut request = request(&headers);
            let locations = Locations::new(vec![], vec![], vec!["t".to_owned()]);
            locations.remove(&mut request, Place::Cookie(0));
            let left: Vec<_> = request.header_values("cookie").collect();
            assert_eq!(
                left,
                expected.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(),
                "{cookies:?}"
            );
            assert_eq!(request.take_edits().is_empty(), cookies == expected);
        }
    }
}
