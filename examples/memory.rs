//! What the filter takes in memory: by workers, by policy, with all that grows filled up. Prints the table of
//! docs/operations.md; Linux only.
//!
//!     make build && cargo run --example memory

use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use support::envoy::{Bootstrap, Configuration, Envoy, Upstreams};
use support::http::Keeping;
use support::memory::Memory;
use support::{sign, token};

#[path = "../tests/support/mod.rs"]
mod support;

const MEGABYTE: f64 = 1024.0 * 1024.0;
const CLIENTS: usize = 4;
const ISSUER: &str = "https://auth.example.com";

fn main() -> Result<(), String> {
    println!("| what | workers | resident, MB | modules, MB | heap, MB |\n|---|---|---|---|---|");
    for workers in [1, 2, 4] {
        print("Envoy without the filter", workers, without_filter(workers)?);
        print("with an empty policy", workers, measure(workers, json!({}), |_| Ok(()))?);
    }
    let tokens: Vec<String> = (0..9_000).map(bearer).collect::<Result<_, _>>()?;
    let rules =
        json!({"jwtRules": [{"issuer": ISSUER, "jwks": sign::jwks(&["hmac1"]), "algorithms": ["HS256"]}]});
    let cases: [(&str, Value, Fill); 8] = [
        (
            "authentication, a key set of 6 keys",
            json!({"authentication": {"jwtRules": [{"issuer": ISSUER, "jwks": keys()}]}}),
            &|_| Ok(()),
        ),
        ("… and the cache full: 8 192 tokens", json!({"authentication": rules}), &|envoy| {
            each(envoy, tokens.len(), |index| ("authorization", tokens[index].clone()), 200)
        }),
        ("authorization, 1 000 rules", json!({"authorization": rules_of(1_000)}), &|_| Ok(())),
        ("`http`, 1 000 entries", json!({"http": entries(1_000)}), &|_| Ok(())),
        ("a delay, no request waits", json!({"http": slow()}), &|_| Ok(())),
        ("a rate limit, 1 key", json!({"rateLimits": limits(1)}), &|envoy| each(envoy, 1, client, 200)),
        ("… 1 000 000 keys", json!({"rateLimits": limits(40)}), &|envoy| each(envoy, 25_000, client, 200)),
        ("telemetry, 10 000 combinations of tags", json!({"telemetry": tags()}), &|envoy| {
            each(envoy, 10_000, client, 200)
        }),
    ];
    for (what, mut policy, fill) in cases {
        if policy["http"].is_null() {
            policy["http"] = json!([{"directResponse": {"status": 200}}]);
        }
        print(what, 1, measure(1, policy, fill)?);
    }
    Ok(())
}

type Fill<'a> = &'a dyn Fn(&Envoy) -> Result<(), String>;

fn print(what: &str, workers: u32, (memory, heap): Measured) {
    let [resident, modules, heap] =
        [memory.resident, memory.linear, heap].map(|bytes| bytes as f64 / MEGABYTE);
    println!("| {what} | {workers} | {resident:.1} | {modules:.1} | {heap:.1} |");
}

/// What the system says, and what of Envoy's own heap is in use: shared data and statistics are there.
type Measured = (Memory, u64);

fn measure(
    workers: u32,
    policy: Value,
    fill: impl Fn(&Envoy) -> Result<(), String>,
) -> Result<Measured, String> {
    run(workers, policy, |bootstrap| bootstrap, fill)
}

fn without_filter(workers: u32) -> Result<Measured, String> {
    let without = |mut bootstrap: Value| {
        let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
        if let Some(filters) = bootstrap.pointer_mut(filters).and_then(Value::as_array_mut) {
            filters.retain(|filter| filter["name"] != "meshfilter");
        }
        bootstrap
    };
    run(workers, json!({}), without, |_| Ok(()))
}

fn run(
    workers: u32,
    policy: Value,
    change: impl Fn(Value) -> Value,
    fill: impl Fn(&Envoy) -> Result<(), String>,
) -> Result<Measured, String> {
    let upstreams = Upstreams::start().map_err(|error| error.to_string())?;
    upstreams.forget();
    let mut bootstrap = Bootstrap::new(Configuration::Struct(policy), &upstreams);
    bootstrap.manager_fields.insert("access_log".to_owned(), json!([]));
    let read = |folder: &Path| {
        let path = bootstrap.write(folder).expect("a bootstrap");
        let text = std::fs::read_to_string(path).expect("what was just written");
        change(serde_json::from_str(&text).expect("JSON"))
    };
    let envoy = Envoy::start_in(workers, read)?;
    envoy.admin_post("/logging?level=warning").map_err(|error| error.to_string())?;
    each(&envoy, 100 * workers as usize, |_| ("x-warm", "up".to_owned()), 0)?;
    fill(&envoy)?;
    let memory = envoy.admin("/memory").map_err(|error| error.to_string())?;
    let memory: Value = serde_json::from_slice(&memory.body).map_err(|error| error.to_string())?;
    let heap = memory["allocated"].as_str().and_then(|bytes| bytes.parse().ok());
    let heap = heap.ok_or("Envoy does not tell what it has allocated")?;
    let memory = Memory::of(envoy.id()).ok_or("the system does not tell the memory of a process")?;
    Ok((memory, heap))
}

/// Sends so many requests, each with a header of its own. A status that is given has to come back.
fn each(
    envoy: &Envoy,
    count: usize,
    header: impl Fn(usize) -> (&'static str, String) + Sync,
    status: u16,
) -> Result<(), String> {
    let address = envoy.address()?;
    let (header, part) = (&header, count.div_ceil(CLIENTS));
    let one_client = |client: usize| -> Result<(), String> {
        let mut connection = Keeping::new(address);
        for index in (client * part..count).take(part) {
            let (name, value) = header(index);
            let response =
                connection.request("GET", "/", &[(name, &value)]).map_err(|error| error.to_string())?;
            if status != 0 && response.status != status {
                return Err(format!("{name}: {value} is answered with {}", response.status));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || one_client(client))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client"))
    })
}

fn client(index: usize) -> (&'static str, String) {
    ("x-client", format!("client-{index}"))
}

fn bearer(index: usize) -> Result<String, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let claims = json!({"iss": ISSUER, "sub": format!("user-{index}"), "exp": "+24h", "roles": ["admin", "user"], "tenant": "acme"});
    token::sign("hmac1", "HS256", &Map::new(), &claims, now).map(|token| format!("Bearer {token}"))
}

fn keys() -> Value {
    sign::jwks(&["rsa1", "rsa2", "ec256", "ec384", "ec521", "ed25519"])
}

fn rules_of(count: usize) -> Value {
    let rule = |index| json!({"to": [{"operation": {"methods": ["GET"], "paths": [format!("/api/v1/resource-{index}/*")]}}]});
    json!([{"name": "many", "action": "DENY", "rules": (0..count).map(rule).collect::<Vec<_>>()}])
}

fn entries(count: usize) -> Value {
    let entry = |index| {
        json!({
            "name": format!("entry-{index}"),
            "match": [{"uri": {"prefix": format!("/api/v1/resource-{index}/")}, "headers": {"x-tenant": {"exact": "acme"}}}],
            "route": [{"destination": {"host": "webapp", "subset": "v1"}}],
        })
    };
    (0..count).map(entry).collect()
}

fn slow() -> Value {
    let delay = json!({"percentage": {"value": 100}, "fixedDelay": "1s"});
    json!([{"match": [{"uri": {"exact": "/slow"}}], "fault": {"delay": delay}, "directResponse": {"status": 200}}])
}

/// So many buckets for each client.
fn limits(count: usize) -> Value {
    let limit = |index| {
        json!({
            "name": format!("limit-{index}"),
            "key": [{"header": "x-client"}],
            "tokenBucket": {"maxTokens": 1_000_000, "tokensPerFill": 1, "fillInterval": "1h"},
        })
    };
    (0..count).map(limit).collect()
}

fn tags() -> Value {
    json!({"tags": [{"name": "client", "value": {"header": "x-client"}, "maxValues": 10_000, "in": ["metrics"]}]})
}
