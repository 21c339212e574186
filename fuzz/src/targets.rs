//! What is fuzzed: each target is a function of any bytes that must neither panic nor take long.
//!
//! libFuzzer drives them from `fuzz/src/main.rs`; `tests/fuzz_targets.rs` runs the same functions over the corpus and
//! over random bytes with the toolchain that everything else is built with.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use meshfilter::config::document::Duration as DocumentDuration;
use meshfilter::config::source::{Language, Source};
use meshfilter::config::{self, Errors};
use meshfilter::filter::{Flow, Root};
use meshfilter::host::fake::{Fake, Stream};
use meshfilter::host::{BufferType, HeaderMap, Host, Status};
use meshfilter::matchers::path::{Readings, is_ambiguous, segment, unescape};
use meshfilter::matchers::{ClaimPath, FullMatch, PathTemplate};
use meshfilter::request::Request;
use serde_json::{Value, json};

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 13] = [
    ("document", document),
    ("source", source),
    ("expressions", expressions),
    ("jwks", jwks),
    ("jwks-response", jwks_response),
    ("token", token),
    ("claims", claims),
    ("header-map", header_map),
    ("path", path),
    ("query-and-cookies", query_and_cookies),
    ("request", request),
    ("fault-headers", fault_headers),
    ("shared-data", shared_data),
];

/// A policy document as the module gets it: JSON text or a `Struct`.
fn document(data: &[u8]) {
    match config::load(data, &|_| None) {
        Ok(compiled) => assert!(!compiled.policy.to_string().is_empty()),
        Err(errors) => assert!(!errors.is_empty()),
    }
}

/// A policy document as people write it, and every place in it.
fn source(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for language in [Language::Json, Language::Yaml] {
        let errors = Errors::default();
        let Ok(source) = Source::read(language, &text, &errors) else { continue };
        if let Err(errors) = config::compile(&source.value, &|_| None, errors) {
            for error in errors {
                let place = source.place(&error.path, error.at_name);
                assert!(place.line > 0 && place.column > 0 && place.length > 0);
            }
        }
    }
}

/// Small languages inside a document: expressions, templates, claims' paths, spans of time.
fn expressions(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (expression, subject) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(expression) = FullMatch::new(expression) {
        let _ = expression.is_match(subject.as_bytes());
    }
    if let Ok(template) = PathTemplate::parse(expression) {
        let _ = template.matches(subject.as_bytes());
        let _ = template.literal_prefix();
    }
    let _ = ClaimPath::parse(expression);
    let _ = DocumentDuration::parse(expression);
}

/// A key set inside a document.
fn jwks(data: &[u8]) {
    let document = json!({"authentication": {"jwtRules": [{"issuer": "i", "jwksFromEnvironment": "KEYS"}]}});
    let keys = String::from_utf8_lossy(data).into_owned();
    let _ = config::load(document.to_string().as_bytes(), &|_| Some(keys.clone()));
}

/// A key set over HTTP: the first line is in the headers about its freshness, the rest is the body.
fn jwks_response(data: &[u8]) {
    let (line, body) = split_line(data);
    let policy = json!({"authentication": {"jwtRules": [{
        "issuer": "https://auth.example.com", "jwksUri": "https://auth.example.com/keys", "jwksCluster": "auth",
    }]}});
    let proxy = Proxy::start(&policy);
    let mut headers = HeaderMap::default();
    headers.add(b":status", b"200");
    for name in ["cache-control", "age", "date", "expires"] {
        headers.add(name.as_bytes(), line);
    }
    for _ in 0..3 {
        proxy.tick();
        for (token, _) in proxy.host.take_calls() {
            proxy.host.set_call_response(headers.clone(), body.to_vec());
            proxy.root.on_http_call_response(token);
        }
    }
    proxy.send(b"GET", b"/", &[(b"authorization", b"Bearer e30.e30.AA")]);
}

/// Any bytes where a token stands.
fn token(data: &[u8]) {
    let proxy = Proxy::everything();
    let bearer = [b"Bearer ".as_slice(), data].concat();
    let path = [b"/private?access_token=".as_slice(), data].concat();
    let cookie = [b"jwt=".as_slice(), data].concat();
    proxy.send(b"GET", b"/private", &[(b"authorization", &bearer)]);
    proxy.send(b"GET", &path, &[(b"cookie", &cookie)]);
}

/// A token that is signed as it should be: the first line is its header, the rest its payload.
fn claims(data: &[u8]) {
    let (header, payload) = split_line(data);
    let proxy = Proxy::everything();
    for header in [header, br#"{"alg":"HS256","kid":"hmac1"}"#] {
        let bearer = format!("Bearer {}", signed(header, payload));
        proxy.send(b"GET", b"/private/tenants/acme", &[(b"authorization", bearer.as_bytes())]);
    }
}

/// The proxy's buffer of headers.
fn header_map(data: &[u8]) {
    let Ok(mut map) = HeaderMap::parse(data.to_vec()) else { return };
    let names: Vec<Vec<u8>> = map.iter().map(|(name, _)| name.to_vec()).collect();
    map.add(b"x-added", data);
    assert_eq!(map.values(b"x-added").last(), Some(data));
    for name in names {
        map.remove(&name);
        assert!(map.get(&name).is_none());
    }
    assert!(map.iter().all(|(name, _)| name == b"x-added"));
}

/// A path: its readings, escapes, segments, and templates over it.
fn path(data: &[u8]) {
    for reading in Readings::of(data).iter() {
        assert!(reading.len() <= data.len());
    }
    let plain = unescape(data);
    assert!(plain.len() <= data.len());
    let _ = is_ambiguous(data);
    for index in [0, 1, usize::MAX] {
        let _ = segment(data, index);
    }
    for template in ["/users/{*}/keys/{**}", "/{*}/{*}/{*}/x", "/a{**}"] {
        if let Ok(template) = PathTemplate::parse(template) {
            let _ = template.matches(data);
        }
    }
    Proxy::everything().send(b"GET", data, &[]);
}

/// A query, and the same bytes as cookies.
fn query_and_cookies(data: &[u8]) {
    let mut headers = HeaderMap::default();
    headers.add(b":path", &[b"/?".as_slice(), data].concat());
    headers.add(b"cookie", data);
    let request = Request::new(headers, Vec::new(), 0);
    let values = request.query_values("a").map(|value| value.len()).sum::<usize>();
    let cookies = request.cookie_values("a").map(<[u8]>::len).sum::<usize>();
    assert!(values <= data.len() && cookies <= data.len());
    let path = [b"/?".as_slice(), data].concat();
    Proxy::everything().send(b"GET", &path, &[(b"cookie", data)]);
}

/// A whole request: method and path in the first line, then lines of `name: value`; two of them, one after the other.
fn request(data: &[u8]) {
    let (line, rest) = split_line(data);
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (method, path) = line.split_at(space);
    let headers: Vec<(&[u8], &[u8])> = rest
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
        .collect();
    let proxy = Proxy::everything();
    for _ in 0..2 {
        proxy.send(method, path.trim_ascii_start(), &headers);
    }
}

/// Envoy's headers that control a fault, lines of their values in turn.
fn fault_headers(data: &[u8]) {
    const NAMES: [&str; 5] = [
        "x-envoy-fault-abort-request",
        "x-envoy-fault-abort-grpc-request",
        "x-envoy-fault-abort-request-percentage",
        "x-envoy-fault-delay-request",
        "x-envoy-fault-delay-request-percentage",
    ];
    let values = data.split(|byte| *byte == b'\n');
    let mut headers: Vec<(&[u8], &[u8])> =
        NAMES.iter().zip(values).map(|(name, value)| (name.as_bytes(), value)).collect();
    headers.push((b"x-try", b"aaz"));
    Proxy::everything().send(b"GET", b"/", &headers);
}

/// What another module of the same proxy could write into this one's shared data.
fn shared_data(data: &[u8]) {
    let proxy = Proxy::everything();
    let send =
        || proxy.send(b"GET", b"/small", &[(b"x-try", b"aaz"), (b"x-envoy-fault-delay-request", b"5")]);
    send();
    proxy.host.overwrite_shared_data(data);
    send();
    proxy.host.advance(Duration::from_secs(1));
    proxy.tick();
    send();
}

fn split_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, b""),
    }
}

/// The test keys as an issuer would publish them.
pub fn keys() -> Value {
    let texts = [
        include_str!("../../tests/keys/hmac1.json"),
        include_str!("../../tests/keys/rsa1.json"),
        include_str!("../../tests/keys/ec256.json"),
        include_str!("../../tests/keys/ed25519.json"),
    ];
    let public = |text: &&str| -> Value {
        let mut key: Value = serde_json::from_str(text).expect("a test key");
        let members = key.as_object_mut().expect("a JWK is an object");
        members.retain(|name, _| !["d", "p", "q", "dp", "dq", "qi"].contains(&name.as_str()));
        key
    };
    json!({"keys": texts.iter().map(public).collect::<Vec<_>>()})
}

/// A token with the secret of `tests/keys/hmac1.json`.
fn signed(header: &[u8], payload: &[u8]) -> String {
    let key: Value = serde_json::from_str(include_str!("../../tests/keys/hmac1.json")).expect("a test key");
    let secret = URL_SAFE_NO_PAD.decode(key["k"].as_str().expect("a secret")).expect("base64url");
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).expect("any length will do");
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The policy that uses everything, with the test keys in it.
pub fn policy() -> Value {
    let errors = Errors::default();
    let source = Source::read(Language::Yaml, include_str!("../policy.yaml"), &errors);
    let mut policy = source.unwrap_or_else(|error| panic!("fuzz/policy.yaml: {}", error.message)).value;
    policy["authentication"]["jwtRules"][0]["jwks"] = keys();
    policy
}

/// The whole filter, on a proxy in memory.
struct Proxy {
    host: Rc<Fake>,
    root: Rc<Root>,
}

const ROOT: u32 = 1;
const STREAM: u32 = 2;

impl Proxy {
    fn start(policy: &Value) -> Self {
        let host = Rc::new(Fake::new());
        // The proxy's own cryptography is not what is tested: no signature is right for it.
        host.set_foreign_function("verify_signature", |_| Err(Status::NotFound));
        host.set_buffer(BufferType::PluginConfiguration, policy.to_string().into_bytes());
        let root = Root::new(host.clone(), ROOT);
        assert!(root.on_configure(), "the policy of the fuzz targets is refused");
        Proxy { host, root }
    }

    /// With the policy that uses everything, made once for all runs of a thread.
    fn everything() -> Rc<Self> {
        thread_local!(static PROXY: Rc<Proxy> = Rc::new(Proxy::start(&policy())));
        PROXY.with(Rc::clone)
    }

    fn tick(&self) {
        if self.host.advance_to_tick().is_some() {
            self.root.on_tick();
        }
    }

    /// A request and what becomes of it, from the first header to the log.
    fn send(&self, method: &[u8], path: &[u8], headers: &[(&[u8], &[u8])]) {
        let mut request = HeaderMap::default();
        for (name, value) in
            [(":method", method), (":path", path), (":authority", b"example.com"), (":scheme", b"http")]
        {
            request.add(name.as_bytes(), value);
        }
        for (name, value) in headers {
            request.add(&name.to_ascii_lowercase(), value);
        }
        let properties = BTreeMap::from([
            ("source.address".to_owned(), b"198.51.100.7:4711".to_vec()),
            ("filter_state.meshfilter.direct_remote_address".to_owned(), b"198.51.100.7".to_vec()),
        ]);
        self.host.open_stream(STREAM, Stream { request, properties, ..Stream::default() });
        let stream = self.root.open(STREAM);
        if self.root.on_request_headers(&stream) == Flow::Pause {
            for _ in 0..3 {
                let decided = |stream: &mut Stream| stream.resumed || stream.reset || stream.reply.is_some();
                if self.host.with_stream(STREAM, decided).unwrap_or(true) {
                    break;
                }
                self.tick();
            }
        }
        let _ = self.host.set_effective_context(STREAM);
        self.host.with_stream(STREAM, |stream| stream.response.add(b":status", b"200"));
        self.root.on_response_headers(&stream);
        self.root.on_log(&stream);
        let closed = self.host.close_stream(STREAM).expect("the stream that was opened");
        self.root.close(&stream);
        if closed.reply.is_some() || closed.reset {
            return;
        }
        // What goes on says nothing that only the filter may say, and nothing that ends a header.
        for (name, value) in closed.request.iter() {
            let set_by_the_filter = [b"x-user".as_slice(), b"x-roles", b"x-payload"].contains(&name);
            assert!(!set_by_the_filter || !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
    }
}
