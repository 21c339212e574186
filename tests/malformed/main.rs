//! Thousands of malformed requests against a real Envoy with two workers and a policy that uses everything: after each
//! batch a good request is answered exactly right, and no worker's VM has ended.
//!
//! `MESHFILTER_MALFORMED_COUNT` (default 10000) says how many, `MESHFILTER_MALFORMED_SEED` repeats a run.

#[path = "../support/mod.rs"]
mod support;

mod http1;
mod http2;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::case;
use support::envoy::{self, Bootstrap, Envoy, Upstreams};
use support::http::Client;
use support::random::Random;
use support::repository;

const BATCHES: usize = 20;
/// Connections at the same time.
const SIDE_BY_SIDE: usize = 8;
/// Whoever says nothing for so long has no answer to give.
const SILENCE: Duration = Duration::from_secs(5);

/// What is sent over one connection, and how it ends.
pub struct Attempt {
    pub bytes: Vec<u8>,
    pub end: End,
}

/// How a client ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It reads until the proxy closes, or until the answer has this in it.
    Reads(&'static [u8]),
    /// It says that it will send no more, and then reads.
    HalfCloses,
    /// It is gone at once.
    Leaves,
}

/// How a kind of attempt is made.
pub type Make = fn(&mut Random) -> Attempt;

#[test]
fn nothing_that_is_sent_ends_a_worker() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let count = number("MESHFILTER_MALFORMED_COUNT").unwrap_or(10_000) as usize;
    let seed = number("MESHFILTER_MALFORMED_SEED").unwrap_or(1);
    println!("MESHFILTER_MALFORMED_SEED={seed}");

    let upstreams = Upstreams::start().unwrap();
    let policy = case::yaml(&std::fs::read_to_string(repository("fuzz/policy.yaml")).unwrap()).unwrap();
    let case = json!({
        "name": "everything",
        "policy": policy,
        "tokens": {"good": {"key": "rsa1", "alg": "RS256", "claims": {
            "iss": "https://auth.example.com", "aud": "webapp-api", "sub": "alice", "tenant": "acme", "exp": "+1h",
        }}},
        "requests": [{
            "name": "good",
            "path": "/private/x?canary=true",
            "headers": {"authorization": "Bearer ${token:good}"},
            "expect": {"status": 200},
        }],
    });
    let case = case::parse("malformed", &case.to_string()).unwrap();
    let mut bootstrap = Bootstrap::for_case(&case, &upstreams);
    bootstrap.workers = 2;
    // Most of these connections Envoy closes itself, and it would give each client a second to close its side first.
    bootstrap.manager_fields.insert("delayed_close_timeout".to_owned(), "0.05s".into());
    let envoy = Envoy::start(&bootstrap).unwrap();
    let address = envoy.address().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let token = case.tokens(now).unwrap().remove("good").unwrap();

    good_requests(address, &token);
    let kinds: Vec<(&str, Make)> = [&http1::KINDS[..], &http2::KINDS[..]].concat();
    let ended: Mutex<BTreeMap<&str, BTreeMap<String, usize>>> = Mutex::default();
    for batch in 0..BATCHES {
        let next = AtomicUsize::new(batch * count / BATCHES);
        thread::scope(|scope| {
            for _ in 0..SIDE_BY_SIDE {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= (batch + 1) * count / BATCHES {
                            break;
                        }
                        let (name, make) = kinds[index % kinds.len()];
                        let attempt = make(&mut Random(seed.wrapping_add(index as u64)));
                        let how = send(address, &attempt);
                        *ended.lock().unwrap().entry(name).or_default().entry(how).or_default() += 1;
                    }
                });
            }
        });
        good_requests(address, &token);
        whole(&envoy, batch);
    }

    let ended = ended.into_inner().unwrap();
    let mut total = 0;
    let mut silent = 0;
    for (name, hows) in &ended {
        total += hows.values().sum::<usize>();
        silent += hows.get("silence").copied().unwrap_or_default();
        let hows: Vec<String> = hows.iter().map(|(how, count)| format!("{how}: {count}")).collect();
        println!("{name:32} {}", hows.join(", "));
    }
    println!("{total} requests, {silent} without an answer for {SILENCE:?}");
    assert_eq!(total, count);
    assert_eq!(ended.len(), kinds.len());
    assert!(silent * 100 <= total, "{silent} of {total} clients waited in vain");
}

/// Sends it, and says how it ended: the first line of the answer, `closed`, `left` or `silence`.
fn send(address: SocketAddr, attempt: &Attempt) -> String {
    let mut stream = TcpStream::connect(address).expect("Envoy takes connections");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.set_write_timeout(Some(SILENCE)).unwrap();
    // The proxy may have heard enough before everything is said.
    let _ = stream.write_all(&attempt.bytes);
    let until: &[u8] = match attempt.end {
        End::Leaves => return "left".to_owned(),
        End::HalfCloses => {
            let _ = stream.shutdown(Shutdown::Write);
            b""
        }
        End::Reads(until) => until,
    };
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                return "silence".to_owned();
            }
            Err(_) => break,
        }
        if !until.is_empty() && answer.windows(until.len()).any(|window| window == until) {
            return "answered".to_owned();
        }
        if answer.len() > 4 << 20 {
            break;
        }
    }
    match answer.strip_prefix(b"HTTP/1.1 ") {
        Some(rest) => String::from_utf8_lossy(&rest[..3.min(rest.len())]).into_owned(),
        None => "closed".to_owned(),
    }
}

/// New connections go to both workers; each good request has exactly one right answer.
fn good_requests(address: SocketAddr, token: &str) {
    for _ in 0..8 {
        let mut client = Client::connect(address).unwrap();
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let canary = client.request("GET", "/private/x?canary=true", &headers).unwrap();
        assert_eq!(
            (canary.status, canary.header("x-upstream").as_deref()),
            (200, Some("v2")),
            "{}",
            canary.text()
        );
        let missing = client.request("GET", "/private/x?canary=true", &[]).unwrap();
        assert_eq!((missing.status, missing.text().as_str()), (401, "Jwt is missing"));
        let denied = client.request("GET", "/admin", &headers).unwrap();
        assert_eq!((denied.status, denied.text().as_str()), (403, "RBAC: access denied"));
        let sorry = client.request("GET", "/sorry", &[]).unwrap();
        assert_eq!((sorry.status, sorry.text().as_str()), (418, "sorry"));
    }
}

/// No VM has ended, and none was made anew; no hook of a native module has panicked.
fn whole(envoy: &Envoy, batch: usize) {
    let stats = envoy.admin("/stats").unwrap().text();
    let mut seen = 0;
    for line in stats.lines().filter(|line| line.contains("vm_reload")) {
        seen += 1;
        assert!(line.ends_with(": 0"), "batch {batch}: {line}");
    }
    assert!(seen > 0 || envoy::native::is_native(), "Envoy tells of no reloads of a VM at all");
    let crashed = |line: &&str| line.contains("wasm_fail_stream") || line.contains("wasm_vm_failure");
    let log = envoy.log();
    assert_eq!(log.lines().find(crashed), None, "batch {batch}");
    for word in ["panicked", "proxy_abi", "Function: proxy_on", "[critical]"] {
        let found = log.lines().find(|line| line.contains(word) && !line.contains("[info]"));
        assert_eq!(found, None, "batch {batch}");
    }
    let failed =
        envoy.access_log().into_iter().find(|line| line["details"].to_string().contains("wasm_fail"));
    assert_eq!(failed, None, "batch {batch}");
}
