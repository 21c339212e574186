//! The requests that are sent, and the tokens in them.

use std::rc::Rc;
use std::thread;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value, json};

use crate::load::Source;
use crate::policies::{AUDIENCE, ISSUER, KEY};
use crate::support::sign::{member, private_jwk};

/// How many users send requests whose tokens were seen before.
pub const USERS: usize = 50;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// Of [`USERS`] users, who come again and again.
    Warm,
    /// Of somebody who never came before.
    New,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    One,
    /// Each of so many services in turn.
    Services(usize),
    /// Each of so many hosts in turn.
    Hosts(usize),
}

/// What a configuration gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub tokens: Tokens,
    pub paths: Paths,
    pub headers: usize,
}

impl Traffic {
    /// What most get: one path, ten headers, users that are known.
    pub const USUAL: Traffic = Traffic { tokens: Tokens::Warm, paths: Paths::One, headers: 10 };
}

/// Signed tokens: those of the users, and new ones.
pub struct Wallet {
    warm: Vec<String>,
    new: Vec<String>,
}

impl Wallet {
    /// Signs; RSA takes its time, so all processors take part.
    pub fn new(new: usize) -> Result<Self, String> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
        let key = key_pair(&private_jwk(KEY)?)?;
        let sign = |number: usize| {
            let claims = json!({
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": format!("user-{number:05}"),
                "iat": now.as_secs(),
                "exp": now.as_secs() + 24 * 3600,
                "jti": format!("{number:08x}-0000-4000-8000-000000000000"),
                "tenant": "acme",
                "scope": "orders:read orders:write",
                "email": format!("user-{number:05}@example.com"),
            });
            token(&key, &claims)
        };
        let numbers: Vec<usize> = (0..USERS + new).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut tokens: Vec<String> = thread::scope(|scope| {
            let part = numbers.len().div_ceil(threads);
            let sign = &sign;
            let parts = numbers
                .chunks(part)
                .map(|part| scope.spawn(move || part.iter().map(|number| sign(*number)).collect()));
            let running: Vec<thread::ScopedJoinHandle<Vec<String>>> = parts.collect();
            running.into_iter().flat_map(|thread| thread.join().expect("signing")).collect()
        });
        let new = tokens.split_off(USERS);
        Ok(Wallet { warm: tokens, new })
    }

    /// A token that is good.
    pub fn good(&self) -> &str {
        &self.warm[0]
    }

    /// What is sent to a configuration, over and over.
    pub fn pool(&self, traffic: Traffic) -> Pool {
        let tokens = match traffic.tokens {
            Tokens::Warm => &self.warm,
            Tokens::New => &self.new,
        };
        // Every path with every user would be many; in turn they are as good.
        let count = match traffic.paths {
            Paths::One => tokens.len(),
            Paths::Services(count) | Paths::Hosts(count) => tokens.len().max(count),
        };
        let request = |number: usize| {
            let mut request = Request::new(Some(&tokens[number % tokens.len()]));
            match traffic.paths {
                Paths::One => {}
                Paths::Services(count) => request.path = format!("/service-{}/orders?page=2", number % count),
                Paths::Hosts(count) => request.host = host(number % count),
            }
            let base = request.headers.len() + 1;
            request.headers.extend(
                (base..traffic.headers).map(|number| (format!("x-more-{number}"), format!("{number:032x}"))),
            );
            request.bytes()
        };
        Pool { requests: (0..count).map(request).collect(), next: 0 }
    }
}

fn key_pair(key: &Value) -> Result<KeyPair, String> {
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: member(key, "n")?, e: member(key, "e")? },
        d: member(key, "d")?,
        p: member(key, "p")?,
        q: member(key, "q")?,
        dP: member(key, "dp")?,
        dQ: member(key, "dq")?,
        qInv: member(key, "qi")?,
    };
    KeyPair::from_components(&components).map_err(|error| format!("{KEY}: {error}"))
}

/// Signs with RS256.
fn token(key: &KeyPair, claims: &Value) -> String {
    let header = json!({"alg": "RS256", "kid": KEY, "typ": "JWT"});
    let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = format!("{header}.{claims}");
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .expect("a key that signs");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Requests that come round again.
#[derive(Clone)]
pub struct Pool {
    requests: Rc<[Vec<u8>]>,
    next: usize,
}

impl Source for Pool {
    fn next(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.requests[self.next]);
        self.next = (self.next + 1) % self.requests.len();
    }
}

/// Requests with so many keys, one after another.
pub struct Keys {
    pub count: u64,
    pub next: u64,
}

impl Source for Keys {
    fn next(&mut self, buffer: &mut Vec<u8>) {
        let mut request = Request::new(None);
        request.headers.push(("x-key".to_owned(), format!("key-{:08}", self.next)));
        self.next = (self.next + 1) % self.count;
        buffer.extend_from_slice(&request.bytes());
    }
}

/// The name of one of many hosts.
pub fn host(number: usize) -> String {
    format!("shop-{number}.example.com")
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// What a browser's application sends; ten headers with the token's and `host`.
    pub fn new(token: Option<&str>) -> Self {
        let mut headers: Vec<(String, String)> = [
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("accept", "application/json"),
            ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
            ("accept-encoding", "gzip, deflate, br"),
            ("referer", "https://shop.example.com/orders"),
            ("cookie", "session=0b3d0c5e8f6a4b51; theme=dark"),
            ("user-role", "user"),
            ("x-tenant", "acme"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        if let Some(token) = token {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        Request { host: "shop.example.com".to_owned(), path: "/api/orders?page=2".to_owned(), headers }
    }

    /// With a header more, or another value of one.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\nhost: {}\r\n", self.path, self.host);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}
