//! What one request costs in the native module, in instructions: pinned, so that it cannot creep.
//!
//! `proxy.rs` stands in for Envoy and runs in valgrind's callgrind, which counts what the module's own code does in its hooks: the
//! same on every machine of an architecture, however busy. What the C library and the proxy do for it is not counted.
//! `cargo test --test native_cost -- --nocapture` prints the table; `docs/native.md` has what a request costs in Envoy.

#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{repository, sign};

/// Requests that count, and those before them: whoever comes again is known, and what is guessed is right.
const COUNTED: u64 = 200;
const BEFORE: u64 = 100;

/// How far a count may be from what it is pinned to, in thousandths: small changes move what the compiler makes of the rest.
const MAY_DIFFER: u64 = 30;

fn folder() -> PathBuf {
    let folder = repository("target/native-cost");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles the program that stands in for Envoy.
fn proxy() -> PathBuf {
    let program = folder().join("proxy");
    let output = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "link-arg=-rdynamic", "-o"])
        .args([&program, &repository("tests/native_cost/proxy.rs")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn module() -> PathBuf {
    let module = repository("target/native/libmeshfilter.so");
    assert!(module.exists(), "run `make native`");
    module.canonicalize().unwrap()
}

/// The one of `scripts/install-tools.sh valgrind`.
fn valgrind() -> Command {
    let valgrind = repository(".tools/bin/valgrind");
    assert!(valgrind.exists(), "run `scripts/install-tools.sh valgrind`");
    Command::new(valgrind)
}

/// What the bench's chain has: `chain` of benches/envoy/policies.rs, counted and not timed.
fn chain() -> Value {
    json!({
        "authentication": {"jwtRules": [{
            "issuer": "https://auth.example.com",
            "audiences": ["webapp-api"],
            "jwks": sign::jwks(&["rsa1"]),
            "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
        }]},
        "authorization": [{
            "name": "webapp-authz",
            "action": "ALLOW",
            "rules": [{
                "to": [{"operation": {"methods": ["GET", "POST"], "paths": ["/api/*"]}}],
                "when": [{"key": "request.headers[user-role]", "values": ["admin", "user"]}],
            }],
        }],
        "http": [
            {
                "name": "fault-test",
                "match": [{"headers": {"test-fault": {"exact": "true"}}}],
                "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 503}},
            },
            {
                "name": "canary-by-header",
                "match": [{"headers": {"canary": {"exact": "true"}}}],
                "route": [{"destination": {"host": "webapp", "subset": "v2"}}],
            },
            {
                "name": "weighted",
                "route": [
                    {"destination": {"host": "webapp", "subset": "v1"}, "weight": 90},
                    {"destination": {"host": "webapp", "subset": "v2"}, "weight": 10},
                ],
            },
        ],
        "rateLimits": [{
            "name": "all",
            "tokenBucket": {"maxTokens": 1_000_000_000, "tokensPerFill": 1, "fillInterval": "1h"},
        }],
        "telemetry": {
            "tags": [{"name": "tenant", "value": {"header": "x-tenant"}, "default": "none", "in": ["logs"]}],
            "metrics": {"responseCode": false, "duration": false},
        },
    })
}

/// The same with a bucket for each user.
fn keyed() -> Value {
    let mut chain = chain();
    chain["rateLimits"][0]["key"] = json!([{"claim": "sub"}]);
    chain
}

/// What fifty users send, as a proxy sees it: headers, one on a line.
fn requests() -> String {
    let mut text = String::new();
    for user in 0..50 {
        let claims = json!({
            "iss": "https://auth.example.com",
            "aud": "webapp-api",
            "sub": format!("user-{user:05}"),
            "exp": 9_999_999_999_u64,
            "tenant": "acme",
            "scope": "orders:read orders:write",
        });
        let token =
            sign::token("rsa1", "RS256", r#"{"alg":"RS256","kid":"rsa1"}"#, claims.to_string()).unwrap();
        for (name, value) in [
            (":authority", "shop.example.com"),
            (":path", "/api/orders?page=2"),
            (":method", "GET"),
            (":scheme", "http"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("accept", "application/json"),
            ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
            ("accept-encoding", "gzip, deflate, br"),
            ("referer", "https://shop.example.com/orders"),
            ("cookie", "session=0b3d0c5e8f6a4b51; theme=dark"),
            ("user-role", "user"),
            ("x-tenant", "acme"),
            ("authorization", &format!("Bearer {token}")),
            ("x-forwarded-proto", "http"),
            ("x-request-id", "0b3d0c5e-8f6a-4b51-9c3d-0b3d0c5e8f6a"),
        ] {
            writeln!(text, "{name}\t{value}").unwrap();
        }
        text.push('\n');
    }
    text
}

/// What the module's own code does for so many requests, in its hooks.
fn instructions(proxy: &Path, name: &str, document: &Value, count: u64) -> u64 {
    let folder = folder();
    let [policy, requests_file, profile] =
        ["json", "requests", "callgrind"].map(|kind| folder.join(format!("{name}.{kind}")));
    fs::write(&policy, document.to_string()).unwrap();
    fs::write(&requests_file, requests()).unwrap();
    let module = module();
    let output = valgrind()
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=envoy_dynamic_module_on_http_filter_*",
        ])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .args([proxy, &module, &policy, &requests_file])
        .arg(count.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    own_cost(&fs::read_to_string(profile).unwrap(), &module)
}

/// What a profile says of one library: callgrind's format has the object that lines are about, by its number once it was
/// named, and under each call what the called one did, which is not the caller's own.
fn own_cost(profile: &str, library: &Path) -> u64 {
    let (mut number, mut within, mut sum) = (None, false, 0);
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        // An object gets its number where it is named first: as the caller's, or as that of what is called.
        let (own, called) = (line.strip_prefix("ob="), line.strip_prefix("cob="));
        if let Some(object) = own.or(called) {
            let (id, path) = object.split_once(' ').map_or((object, None), |(id, path)| (id, Some(path)));
            if path.is_some_and(|path| Path::new(path) == library) {
                number = Some(id.to_owned());
            }
            if own.is_some() {
                within = number.as_deref() == Some(id);
            }
        } else if line.starts_with("calls=") {
            lines.next();
        } else if within && line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            sum += line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    assert!(number.is_some(), "nothing of {} was counted", library.display());
    sum
}

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "the counts are those of Linux on x86-64"
)]
fn a_request_takes_these_instructions_and_no_more() {
    let proxy = proxy();
    let mut table = "| policy | instructions of the module | pinned to |\n|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    for (name, document, pinned) in
        [("empty", json!({}), 1_530), ("chain", chain(), 11_900), ("keyed", keyed(), 14_070)]
    {
        let count = |requests| instructions(&proxy, name, &document, requests);
        let each = (count(BEFORE + COUNTED) - count(BEFORE)) / COUNTED;
        writeln!(table, "| {name} | {each} | {pinned} |").unwrap();
        if each.abs_diff(pinned) > pinned * MAY_DIFFER / 1000 {
            wrong.push(format!("{name}: {each}, and not about {pinned}"));
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "pin what is right, or mend what is slow: {wrong:#?}");
}
