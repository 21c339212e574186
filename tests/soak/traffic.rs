//! What is sent, and what has to come back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::policy::{ABORTED, DELAY, LOCAL, REMOTE};
use crate::support::http::{Client, Keeping, Response, request_bytes};
use crate::support::http2;
use crate::support::random::Random;
use crate::support::token;

/// What was sent and came back, by status; 0 stands for those that did not wait for it.
#[derive(Default)]
pub struct Seen {
    pub statuses: BTreeMap<u16, u64>,
    /// Of the bucket that nothing refills.
    pub limited_passed: u64,
    pub wrong: Vec<String>,
}

/// All that clients share.
pub struct Traffic {
    address: SocketAddr,
    seen: Mutex<Seen>,
    /// Good ones, by the key in the document and by the issuer that is asked.
    local: Vec<String>,
    remote: String,
    expired: String,
    unknown_key: String,
}

/// A client with its connection.
pub struct Sender {
    connection: Keeping,
    random: Random,
}

impl Traffic {
    pub fn new(address: SocketAddr) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let sign = |key: &str, algorithm: &str, claims| {
            format!("Bearer {}", token::sign(key, algorithm, &serde_json::Map::new(), &claims, now).unwrap())
        };
        Traffic {
            address,
            seen: Mutex::default(),
            local: (0..50)
                .map(|user| {
                    sign(
                        "ec256",
                        "ES256",
                        json!({"iss": LOCAL, "sub": format!("user-{user}"), "exp": "+24h"}),
                    )
                })
                .collect(),
            remote: sign("rsa2", "RS256", json!({"iss": REMOTE, "sub": "remote", "exp": "+24h"})),
            expired: sign("rsa1", "RS256", json!({"iss": LOCAL, "sub": "late", "exp": "-1h"})),
            unknown_key: sign("rsa1", "RS256", json!({"iss": REMOTE, "sub": "stranger", "exp": "+24h"})),
        }
    }

    pub fn sender(&self, number: usize) -> Sender {
        Sender { connection: Keeping::new(self.address), random: Random(number as u64) }
    }

    /// What was seen so far.
    pub fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn count(&self, status: u16, times: u64) {
        *self.seen().statuses.entry(status).or_default() += times;
    }

    fn wrong(&self, what: String) {
        self.seen().wrong.push(what);
    }

    /// Anything, over a connection that is kept.
    pub fn any(&self, sender: &mut Sender) {
        const KINDS: [Kind; 15] = [
            Kind::Local,
            Kind::Local,
            Kind::Remote,
            Kind::NoToken,
            Kind::Expired,
            Kind::NoRole,
            Kind::Evil,
            Kind::Canary,
            Kind::Weighted,
            Kind::Weighted,
            Kind::Slow,
            Kind::Aborted,
            Kind::Moved,
            Kind::Direct,
            Kind::Limited,
        ];
        let kind = sender.random.pick(&KINDS);
        self.send(kind, sender);
        // A soak, no stress test.
        thread::sleep(Duration::from_millis(1));
    }

    /// A token that names a key which the issuer does not have, and some time.
    pub fn stranger(&self, sender: &mut Sender) {
        self.send(Kind::UnknownKey, sender);
        thread::sleep(Duration::from_millis(500));
    }

    /// A request of the bucket that nothing refills; says whether it passed.
    pub fn limited(&self, sender: &mut Sender) -> bool {
        self.send(Kind::Limited, sender) == Some(200)
    }

    /// Whether the issuer's keys are known.
    pub fn remote(&self, sender: &mut Sender) -> bool {
        let response = sender.connection.request("GET", "/remote", &[("authorization", &self.remote)]);
        let status = response.map_or(0, |response| response.status);
        self.count(status, 1);
        status == 200
    }

    /// Leaves while the request waits.
    pub fn leave(&self, _: &mut Sender) {
        let left = Client::connect(self.address).and_then(|mut client| {
            client.send(&request_bytes::<&str, &str>("GET", b"/slow", "example.com", &[]))?;
            thread::sleep(DELAY / 6);
            Ok(())
        });
        match left {
            Ok(()) => self.count(0, 1),
            Err(error) => self.wrong(format!("one that leaves: {error}")),
        }
    }

    /// Many at once over HTTP/2.
    pub fn http2(&self, sender: &mut Sender) {
        const STREAMS: usize = 20;
        let (path, least) = sender.random.pick(&[("/direct", Duration::ZERO), ("/slow", DELAY)]);
        match http2::get_all(self.address, path, STREAMS, least) {
            Ok(answered) => self.count(200, answered as u64),
            Err(error) => self.wrong(format!("{path} over HTTP/2: {error}")),
        }
        thread::sleep(Duration::from_millis(50));
    }

    fn send(&self, kind: Kind, sender: &mut Sender) -> Option<u16> {
        let client = format!("client-{}", sender.random.below(1_000));
        let local = self.local[sender.random.below(self.local.len())].as_str();
        let mut headers = vec![("x-client", client.as_str())];
        let path = match kind {
            Kind::Local => {
                headers.extend([("authorization", local), ("user-role", "admin")]);
                "/api"
            }
            Kind::NoRole => {
                headers.push(("authorization", local));
                "/api"
            }
            Kind::Expired => {
                headers.push(("authorization", &self.expired));
                "/api"
            }
            Kind::Remote => {
                headers.push(("authorization", &self.remote));
                "/remote"
            }
            Kind::UnknownKey => {
                headers.push(("authorization", &self.unknown_key));
                "/remote"
            }
            Kind::Evil => {
                headers.push(("x-evil", "1"));
                "/"
            }
            Kind::Canary => {
                headers.push(("canary", "true"));
                "/"
            }
            Kind::NoToken => "/api",
            Kind::Weighted => "/",
            Kind::Slow => "/slow",
            Kind::Aborted => "/aborted",
            Kind::Moved => "/moved",
            Kind::Direct => "/direct",
            Kind::Limited => "/limited",
        };
        let began = Instant::now();
        let response = match sender.connection.request("GET", path, &headers) {
            Ok(response) => response,
            Err(error) => {
                self.wrong(format!("{kind:?}: no answer: {error}"));
                return None;
            }
        };
        if !kind.is_right(&response, began.elapsed()) {
            self.wrong(format!("{kind:?}: {response:?} after {:?}", began.elapsed()));
        }
        let mut seen = self.seen();
        *seen.statuses.entry(response.status).or_default() += 1;
        seen.limited_passed += u64::from(kind == Kind::Limited && response.status == 200);
        Some(response.status)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Local,
    Remote,
    UnknownKey,
    NoToken,
    Expired,
    NoRole,
    Evil,
    Canary,
    Weighted,
    Slow,
    Aborted,
    Moved,
    Direct,
    Limited,
}

impl Kind {
    fn is_right(self, response: &Response, took: Duration) -> bool {
        let upstream = response.header("x-upstream");
        let upstream = upstream.as_deref();
        let decided = response.status;
        match self {
            Kind::Local => decided == 200 && response.text().contains("\"x-user\":\"user-"),
            Kind::Remote => decided == 200,
            Kind::NoToken => decided == 401 && response.text() == "Jwt is missing",
            Kind::Expired => decided == 401 && response.text() == "Jwt is expired",
            Kind::UnknownKey => {
                decided == 401 && response.text() == "Jwks doesn't have key to match kid or alg from Jwt"
            }
            Kind::NoRole | Kind::Evil => decided == 403 && response.text() == "RBAC: access denied",
            Kind::Canary => decided == 200 && upstream == Some("v2"),
            Kind::Weighted => {
                let arm = matches!(upstream, Some("v1" | "v2"));
                decided == 200 && arm && response.text().contains("\"path\":\"/rewritten\"")
            }
            Kind::Slow => decided == 200 && upstream == Some("v1") && took >= DELAY,
            Kind::Aborted => decided == ABORTED && upstream.is_none(),
            Kind::Moved => {
                decided == 301 && response.header("location").is_some_and(|place| place.ends_with("/here"))
            }
            Kind::Direct => decided == 200 && response.text() == "direct",
            Kind::Limited => matches!(decided, 200 | 429),
        }
    }
}
