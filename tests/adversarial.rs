//! What 64 KB of the worst input cost: how much is allocated for them is bounded, and with
//! `make adversarial` how long they take is printed and held to 10 ms, what an operator writes to 50 ms.

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long an input is.
const SIZE: usize = 64 * 1024;

/// How much may be allocated altogether, and at the same time, for each byte of a client's input.
const CLIENT: (usize, usize) = (400, 120);

/// The same for an operator's: an entry of two bytes becomes a value of two kilobytes, but no more.
const OPERATOR: (usize, usize) = (2500, 2500);

/// What a client's input may cost on an idle machine, and what an operator's, which is read once.
const LONGEST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALTOGETHER_NOW: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST_HELD: Cell<usize> = const { Cell::new(0) };
}

fn grow(by: usize) {
    ALTOGETHER_NOW.set(ALTOGETHER_NOW.get().wrapping_add(by));
    HELD.set(HELD.get().wrapping_add(by));
    // What was there before the count began may go while it runs.
    if HELD.get() < usize::MAX / 2 {
        MOST_HELD.set(MOST_HELD.get().max(HELD.get()));
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a run allocates: altogether, and at the same time.
fn allocated(run: impl FnOnce()) -> (usize, usize) {
    ALTOGETHER_NOW.set(0);
    HELD.set(0);
    MOST_HELD.set(0);
    run();
    (ALTOGETHER_NOW.get(), MOST_HELD.get())
}

fn fill(before: &str, piece: &str, after: &str) -> Vec<u8> {
    let room = SIZE.saturating_sub(before.len() + after.len());
    format!("{before}{}{after}", piece.repeat(room / piece.len())).into_bytes()
}

fn numbered(before: &str, piece: impl Fn(usize) -> String, after: &str) -> Vec<u8> {
    let mut text = before.to_owned();
    for index in 0.. {
        let piece = piece(index);
        if text.len() + piece.len() + after.len() > SIZE {
            break;
        }
        text.push_str(&piece);
    }
    (text + after).into_bytes()
}

/// Target, what is bad about the input, and the input.
fn inputs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() * 3 / 4 - 100]);
    let in_token = |bytes: Vec<u8>| format!("{}.e30.AA", encoded(&bytes)).into_bytes();
    let in_payload = |bytes: Vec<u8>| [b"{\"alg\":\"HS256\"}\n".as_slice(), &bytes].concat();
    let pair = |name: &[u8], value: &[u8], count: usize| {
        meshfilter::host::HeaderMap::serialize(&vec![(name.to_vec(), value.to_vec()); count])
    };
    vec![
        ("document", "deep", fill("{\"http\":", "[", "")),
        ("document", "deep objects", fill("", "{\"http\":", "")),
        ("document", "unknown members", numbered("{", |index| format!("\"a{index}\":1,"), "\"z\":1}")),
        ("document", "one member again and again", fill("{", "\"http\":[],", "\"http\":[]}")),
        ("document", "wrong entries", fill("{\"http\":[", "5,", "5]}")),
        ("document", "empty entries", fill("{\"http\":[", "{},", "{}]}")),
        ("document", "the same name", fill("{\"http\":[", "{\"name\":\"a\"},", "{}]}")),
        ("document", "a long number", fill("{\"rateLimitSlots\":", "9", "}")),
        ("document", "escapes", fill("{\"namespace\":\"", "\\u0000", "\"}")),
        (
            "document",
            "expressions",
            fill("{\"http\":[{\"match\":[", "{\"uri\":{\"regex\":\"(a|b)*c\"}},", "{}]}]}"),
        ),
        (
            "document",
            "a large expression",
            fill("{\"http\":[{\"match\":[{\"uri\":{\"regex\":\"", "(a{9}){9}", "\"}}]}]}"),
        ),
        (
            "document",
            "values",
            fill(
                "{\"authorization\":[{\"rules\":[{\"to\":[{\"operation\":{\"paths\":[",
                "\"/a*\",",
                "\"*\"]}}]}]}]}",
            ),
        ),
        ("document", "noise", (0..SIZE).map(|index| (index * 31 % 251) as u8).collect()),
        ("jwks", "empty keys", fill("{\"keys\":[", "{},", "{}]}")),
        ("jwks", "small keys", fill("{\"keys\":[", "{\"kty\":\"RSA\",\"n\":\"AQ\",\"e\":\"AQ\"},", "{}]}")),
        (
            "jwks",
            "points off the curve",
            fill("{\"keys\":[", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"},", "{}]}"),
        ),
        (
            "jwks",
            "a huge modulus",
            fill("{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"", "A_-z", "\"}]}"),
        ),
        ("jwks", "deep", fill("{\"keys\":", "[", "")),
        ("jwks-response", "a long cache-control", fill("", "max-age=1,", "\n{}")),
        ("token", "dots", fill("", ".", "")),
        ("token", "commas", fill("", "a.b.c,", "")),
        ("token", "a deep header", in_token(fill("", "[", ""))),
        (
            "token",
            "a header of many members",
            in_token(numbered("{", |index| format!("\"a{index}\":1,"), "\"alg\":\"RS256\"}")),
        ),
        (
            "token",
            "a header of one member again and again",
            in_token(fill("{", "\"a\":1,", "\"alg\":\"RS256\"}")),
        ),
        ("claims", "deep", in_payload(fill("", "[", ""))),
        (
            "claims",
            "many members",
            in_payload(numbered(
                "{",
                |index| format!("\"a{index}\":1,"),
                "\"iss\":\"https://auth.example.com\"}",
            )),
        ),
        ("claims", "an issuer for an expression", in_payload(fill("{\"iss\":\"https://", "a", "!\"}"))),
        (
            "claims",
            "many audiences",
            in_payload(fill("{\"iss\":\"https://auth.example.com\",\"aud\":[", "\"a\",", "\"b\"]}")),
        ),
        (
            "claims",
            "a long claim",
            in_payload(fill(
                "{\"iss\":\"https://auth.example.com\",\"aud\":\"webapp-api\",\"tenant\":\"",
                "ab",
                "!\"}",
            )),
        ),
        ("header-map", "empty headers", pair(b"", b"", SIZE / 10)),
        ("header-map", "the same header", pair(b"cookie", b"a", SIZE / 17)),
        ("header-map", "a count that is not there", vec![0xff; SIZE]),
        ("path", "parameters", fill("/", ";", "")),
        ("path", "parameters with names", fill("/users", "/a;b=c", "")),
        ("path", "slashes", fill("", "/", "")),
        ("path", "escapes", fill("/", "%41", "")),
        ("path", "escaped escapes", fill("/", "%25", "")),
        ("path", "dots", fill("/", "../", "")),
        ("path", "a template's operators", fill("/users/1/keys", "/x", "")),
        ("path", "an expression", fill("/", "a", "c/")),
        ("query-and-cookies", "parameters", fill("", "a=b&", "")),
        ("query-and-cookies", "tokens", fill("", "access_token=e30.e30.AA&", "")),
        ("query-and-cookies", "empty parameters", fill("", "&", "")),
        ("query-and-cookies", "escapes", fill("", "%61=%62&", "")),
        ("query-and-cookies", "cookies", fill("", "jwt=e30.e30.AA; ", "")),
        ("query-and-cookies", "a cookie for an expression", fill("role=", "x", "!")),
        ("request", "headers", numbered("GET /\n", |index| format!("x-{index}: y\n"), "")),
        ("request", "the same header", fill("GET /private\n", "authorization: Bearer e30.e30.AA\n", "")),
        ("request", "reserved headers", fill("GET /\n", "x-user: a\n", "")),
        ("request", "a value for an expression", fill("GET /\nx-try: ", "a", "!")),
        (
            "request",
            "an origin for an expression",
            fill("OPTIONS /\naccess-control-request-method: GET\norigin: https://", "a.", "!"),
        ),
        (
            "request",
            "commas",
            fill("OPTIONS /\norigin: https://example.com\naccess-control-request-headers: ", "a,", "b"),
        ),
        ("request", "bytes", fill("GET /private\nuser-agent: ", "é", "")),
        ("request", "values to compare with values", {
            let half = |piece: fn(usize) -> String| -> String { (0..3000).map(piece).collect() };
            let (query, cookies) =
                (half(|index| format!("shop={index}&")), half(|index| format!("shop=x{index};")));
            format!("GET /?{query}\ncookie: {cookies}").into_bytes()
        }),
        ("request", "a rewrite", fill("GET /v1/", "v1/", "?canary=true")),
        ("fault-headers", "digits", fill("", "9", "\n5")),
        ("shared-data", "ones", vec![0xff; SIZE]),
        ("shared-data", "zeros", vec![0; SIZE]),
        ("expressions", "a value for an expression", fill("(a|aa)+z\n", "a", "!")),
        ("expressions", "nested repetitions", fill("((a*)*)*b\n", "a", "")),
        ("expressions", "an expression that costs too much", fill(".*(a[a-z]{0,200}){3}z\n", "a", "")),
        ("expressions", "as many states as there may be", fill("[a-z]*a[a-z]{0,12}z\n", "a", "")),
        (
            "expressions",
            "words anywhere",
            fill(".*(jndi|ldap|rmi|dns|nis|iiop|corba|nds|http).*\n", "jnd", ""),
        ),
        ("expressions", "templates", fill("", "/{*}", "\n/a")),
        ("expressions", "a claim's path", fill("", "[a]", "\n")),
        ("expressions", "a span of time", fill("", "1h", "\n")),
    ]
}

/// Whether a target's input comes from an operator, and not from a client or an issuer.
fn is_operators(name: &str) -> bool {
    matches!(name, "document" | "expressions")
}

fn target(name: &str) -> targets::Target {
    targets::TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("{name} is no target"))
        .1
}

#[test]
fn what_is_allocated_for_the_worst_input_is_bounded() {
    for (name, what, input) in inputs() {
        assert!(input.len() <= 2 * SIZE && input.len() > SIZE / 2, "{name}: {what}: {}", input.len());
        target(name)(b"");
        let (altogether, at_once) = allocated(|| target(name)(&input));
        println!(
            "{name:18} {what:40} {:5.1} {:5.1}",
            altogether as f64 / SIZE as f64,
            at_once as f64 / SIZE as f64
        );
        let bounds = if is_operators(name) { OPERATOR } else { CLIENT };
        assert!(altogether <= bounds.0 * SIZE, "{name}: {what}: {altogether} bytes are allocated");
        assert!(at_once <= bounds.1 * SIZE, "{name}: {what}: {at_once} bytes are allocated at once");
    }
}

#[test]
#[ignore = "a matter of time; make adversarial runs it with optimisation"]
fn the_worst_input_takes_no_longer_than_it_may() {
    let mut slow = Vec::new();
    for (name, what, input) in inputs() {
        target(name)(b"");
        let run = || {
            let began = Instant::now();
            target(name)(&input);
            began.elapsed()
        };
        let fastest = (0..7).map(|_| run()).min().unwrap_or_default();
        println!("{name:18} {what:40} {fastest:9.1?}");
        if fastest > if is_operators(name) { LONGEST.1 } else { LONGEST.0 } {
            slow.push(format!("{name}: {what}: {fastest:?}"));
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
