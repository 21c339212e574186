//! Requests.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::setup::{Place, Setup};
use crate::support::http::request_bytes;
use crate::support::random::Random;
use crate::token::{self, Token};

#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub host: &'static str,
    pub headers: Vec<(String, String)>,
    /// The tokens in it, and where each stands.
    pub tokens: Vec<(Place, Token)>,
}

impl Request {
    pub fn bytes(&self) -> Vec<u8> {
        request_bytes(self.method, self.path.as_bytes(), self.host, &self.headers)
    }

    /// The same with the scheme `Bearer` as Envoy's filter reads it, where it is written otherwise.
    pub fn with_schemes(&self) -> Option<Request> {
        let mut request = self.clone();
        let mut changed = false;
        for (name, value) in &mut request.headers {
            if name == "authorization" && value.starts_with("bearer ") {
                value.replace_range(..1, "B");
                changed = true;
            }
        }
        changed.then_some(request)
    }

    /// Whether tokens of different subjects stand at the places of one rule.
    pub fn has_two_subjects(&self) -> bool {
        let of_other = |place: &Place| matches!(place, Place::Header("x-other", _) | Place::Cookie("other"));
        [false, true].into_iter().any(|other| {
            let tokens = self.tokens.iter().filter(|(place, _)| of_other(place) == other);
            let mut subjects: Vec<_> = tokens.map(|(_, token)| token::subject(&token.text)).collect();
            subjects.dedup();
            // One that names no subject may be anybody's.
            subjects.len() > 1 || self.tokens.len() > 1 && subjects.contains(&(None, None))
        })
    }

    /// How many tokens stand in each place.
    pub fn repeated(&self) -> bool {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for (place, _) in &self.tokens {
            *count.entry(format!("{place:?}")).or_default() += 1;
        }
        count.into_iter().any(|(place, count)| count > 1 && !place.starts_with("Header"))
    }
}

const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"];
const PATHS: &[&str] = &[
    "/",
    "/open",
    "/open/x",
    "/api/",
    "/api/orders",
    "/api/7/items/9",
    "/api/7/items/",
    "/api/a/b/items/c",
    "/admin",
    "/admin/x",
    "/administration",
    "/v1/x",
    "/v/x",
    "/v12/",
    "/style.css",
    "/api/style.css",
    "//api//orders",
    "/open/../api/x",
    "/api/./orders",
    "/%61pi/orders",
    "/API/orders",
    "/api/ord%20ers",
    "/open%2Fx",
    "/a%5Cb",
    "/api;v=1/orders",
    "/admin;x",
    "//admin/x",
    "/;a/admin",
    "/very/long",
    "/api/%C3%BC",
    "/api/#frag",
    "/admin%00",
    "/.hidden",
    "/api/..",
];
const QUERIES: &[&str] = &[
    "q=1",
    "b=2&a=1",
    "x=%41y",
    "a=+",
    "empty=",
    "flag",
    "q=a%2Fb&q=2",
    "&&",
    "q=\"quoted\"",
    "u=http://x/?y",
];
const HOSTS: &[&str] = &[
    "example.com",
    "example.com",
    "EXAMPLE.com",
    "shop.example.com",
    "Shop.Example.COM",
    "example.org:8080",
];
const ROLES: &[&str] = &["admin", "guest", "user", "", "Admin", "adm", "a", "in"];
const CLIENTS: &[&str] = &[
    "203.0.113.9",
    "203.0.113.7",
    "198.51.100.23",
    "10.1.2.3",
    "2001:db8::1",
    "2001:db9::1",
    "::ffff:198.51.100.4",
    "203.0.113.9, 198.51.100.1",
    "198.51.100.1, 203.0.113.9",
    "nobody",
    "",
];
/// Headers that are the filter's to set, and some that are nobody's.
const FORGED: &[(&str, &str)] = &[
    ("x-user", "root"),
    ("x-tenant", "acme"),
    ("x-payload", "e30"),
    ("x-other-payload", "e30"),
    ("x-groups", "staff"),
    ("X-User", "Root"),
    ("accept", "*/*"),
    ("x-free", "1"),
    ("x-envoy-original-path", "/forged"),
    ("x-level", "9"),
];

pub fn request(random: &mut Random, setup: &Setup, tokens: &[Token]) -> Request {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut query: Vec<String> = Vec::new();
    let mut cookies: Vec<String> = Vec::new();
    let mut used = Vec::new();
    let count = random.pick(&[0, 1, 1, 1, 1, 1, 1, 2, 2, 3]);
    for _ in 0..if setup.places.is_empty() { 0 } else { count } {
        let place = random.pick(setup.places);
        let mut token = tokens[random.below(tokens.len())].clone();
        match place {
            Place::Header(name, prefix) => {
                let before = match random.below(40) {
                    0 => prefix.to_lowercase(),
                    1 => String::new(),
                    2 => format!("x {prefix}"),
                    3 => format!("{prefix}  "),
                    4 => prefix.trim_end().to_owned(),
                    _ => prefix.to_owned(),
                };
                let value = format!("{before}{}", token.text);
                // All that stands behind the prefix is the token.
                if let Some((_, behind)) = value.split_once(prefix) {
                    token.text = behind.trim().to_owned();
                }
                headers.push((name.to_owned(), value));
            }
            Place::Parameter(name) => {
                let value = match random.percent(20) {
                    true => utf8_percent_encode(&token.text, NON_ALPHANUMERIC).to_string(),
                    false => token.text.replace(' ', "%20"),
                };
                query.push(format!("{name}={value}"));
            }
            Place::Cookie(name) => cookies.push(format!("{name}={}", token.text)),
        }
        used.push((place, token));
    }
    if random.percent(4) {
        headers.push((
            "authorization".into(),
            random.pick(&["Basic YTpi", "Bearer", "Bearer ", "", "Digest x"]).into(),
        ));
    }
    if random.percent(30) {
        let at = random.below(query.len() + 1);
        query.insert(at, random.pick(QUERIES).to_owned());
    }
    if random.percent(30) {
        let at = random.below(cookies.len() + 1);
        cookies.insert(at, random.pick(&["theme=dark", "a=1; b=2", "lang=\"de\""]).to_owned());
    }
    if !cookies.is_empty() {
        headers.push(("cookie".into(), cookies.join("; ")));
    }
    for _ in 0..random.pick(&[0, 0, 1, 2]) {
        headers.push(("x-role".into(), random.pick(ROLES).into()));
    }
    if random.percent(40) {
        headers.push(("x-forwarded-for".into(), random.pick(CLIENTS).into()));
    }
    if random.percent(30) {
        let (name, value) = random.pick(FORGED);
        headers.push((name.into(), value.into()));
    }
    let mut method = random.pick(METHODS);
    if random.percent(4) {
        method = "OPTIONS";
        headers.push(("origin".into(), random.pick(&["https://a.example", ""]).into()));
        headers.push(("access-control-request-method".into(), random.pick(&["POST", "POST", ""]).into()));
    }
    if random.percent(5) {
        headers.push((
            "content-type".into(),
            random.pick(&["application/grpc", "application/grpc+proto", "application/grpc-web"]).into(),
        ));
    }
    let mut path = random.pick(PATHS).to_owned();
    if random.percent(2) {
        path = format!("/{}", "long/".repeat(60 + random.below(40)));
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    Request { method, path, host: random.pick(HOSTS), headers, tokens: used }
}
