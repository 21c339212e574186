//! Envoy's own `jwt_authn` and `rbac` filters, and the same policy as a document: the same answers to anything.
//!
//! One Envoy has two listeners for each policy. A seed decides what is sent to both, always the same one; `make parity`
//! draws others: `MESHFILTER_SEED` is the first of `MESHFILTER_SEEDS`, and `MESHFILTER_PAIRS` makes a run longer.
//! What may differ is in [`difference`], and in the documentation. `explain` has to say of each request what came of it.

mod difference;
mod explained;
mod setup;
#[path = "../support/mod.rs"]
mod support;
mod token;
mod traffic;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use difference::{Exchange, Outcome, Verdict};
use serde_json::{Value, json};
use setup::Setup;
use support::envoy::{Envoy, module};
use support::explained::Explainer;
use support::http::{Client, Response, Upstream};
use support::random::{Random, number, seed};
use traffic::Request;

const PAIRS: usize = 3000;
const TOKENS: usize = 500;
/// How many surprises are shown.
const SHOWN: usize = 12;

#[test]
fn the_native_filters_and_the_document_give_the_same_answers() {
    let first = seed();
    let seeds = number("MESHFILTER_SEEDS").unwrap_or(1);
    let pairs = number("MESHFILTER_PAIRS").map_or(PAIRS, |pairs| pairs as usize);
    let setups = setup::all();
    let upstream = echo().unwrap();
    let envoy = Envoy::start_with(&bootstrap(&setups, upstream.address())).unwrap();
    let addresses = envoy.addresses().unwrap();
    let mut connections: BTreeMap<String, Connection> =
        addresses.into_iter().map(|(name, address)| (name, Connection { address, client: None })).collect();
    let mut send = |listener: String, request: &Request| {
        let connection = connections.get_mut(&listener).unwrap_or_else(|| panic!("no listener {listener}"));
        let response = connection.send(request);
        response.unwrap_or_else(|error| panic!("{listener}: {error}: {request:#?}\n{}", envoy.log()))
    };
    let mut explainers: Vec<Explainer> = setups
        .iter()
        .map(|setup| Explainer::with(&setup.document, &BTreeMap::new(), None).unwrap())
        .collect();
    let mut explained = 0;

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut surprises = Vec::new();
    for seed in (0..seeds).map(|more| first.wrapping_add(more)) {
        let began = Instant::now();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut random = Random(seed);
        let tokens: Vec<_> = (0..TOKENS).map(|_| token::token(&mut random, now.as_secs() as i64)).collect();
        let mut passed = 0;
        for pair in 0..pairs {
            let setup = &setups[pair % setups.len()];
            let explainer = &mut explainers[pair % setups.len()];
            let request = traffic::request(&mut random, setup, &tokens);
            let native =
                send(format!("{}-native", setup.name), request.with_schemes().as_ref().unwrap_or(&request));
            let ours = send(format!("{}-meshfilter", setup.name), &request);
            if let Some(asked) = explained::request(&request, setup.normalize) {
                explained += 1;
                let came = explained::exchange(&ours, &upstream);
                let differences = explainer.explain(&asked).differences_but(&came, &["x-upstream"]);
                if !differences.is_empty() {
                    surprises.push(format!(
                        "MESHFILTER_SEED={seed}\n{}: {}\n{request:#?}",
                        setup.name,
                        differences.join("; ")
                    ));
                }
            }
            let exchange =
                Exchange { setup, native: Outcome::of(&native), ours: Outcome::of(&ours), request };
            passed += usize::from(exchange.native.upstream.is_some());
            match difference::judge(&exchange) {
                Verdict::Same => {}
                Verdict::Listed(found) => {
                    found.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
                }
                Verdict::Surprise(what) => surprises.push(format!("MESHFILTER_SEED={seed}\n{what}")),
            }
        }
        println!(
            "seed {seed}: {pairs} pairs in {:.1?}, {passed} passed by the native filters",
            began.elapsed()
        );
        // A generator whose requests are all refused would prove nothing.
        assert!(passed * 5 > pairs, "only {passed} of {pairs} requests passed");
    }
    println!("{explained} were explained, too");
    assert!(explained * 2 > pairs, "only {explained} of {pairs} requests were explained");
    for difference in difference::LISTED {
        println!("{:6}  {}: {}", counts.get(difference.id).unwrap_or(&0), difference.id, difference.reason);
    }
    for surprise in surprises.iter().take(SHOWN) {
        println!("\n{surprise}");
    }
    assert!(surprises.is_empty(), "{} of {pairs} pairs with {seeds} seeds differ", surprises.len());
}

/// What the documentation says of the differences is what is listed.
#[test]
fn every_listed_difference_is_documented() {
    let documents = ["docs/authentication.md", "docs/authorization.md"]
        .map(|path| std::fs::read_to_string(support::repository(path)).unwrap())
        .concat();
    for difference in difference::LISTED {
        assert!(documents.contains(difference.documented), "{}: {:?}", difference.id, difference.documented);
    }
}

struct Connection {
    address: SocketAddr,
    client: Option<Client>,
}

impl Connection {
    /// Sends over the connection that is there; anew, where Envoy closed it in between.
    fn send(&mut self, request: &Request) -> io::Result<Response> {
        let kept = self.client.take();
        let response =
            match kept.map(|mut client| Self::ask(&mut client, request).map(|response| (client, response))) {
                Some(Ok(answered)) => answered,
                _ => {
                    let mut client = Client::connect(self.address)?;
                    let response = Self::ask(&mut client, request)?;
                    (client, response)
                }
            };
        let (client, response) = response;
        let closed = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.client = (!closed).then_some(client);
        Ok(response)
    }

    fn ask(client: &mut Client, request: &Request) -> io::Result<Response> {
        client.send(&request.bytes())?;
        client.receive(request.method)
    }
}

/// Tells in its body everything that it saw.
fn echo() -> io::Result<Upstream> {
    Upstream::start("echo", |seen| {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let headers: Vec<Value> =
            seen.headers.iter().map(|(name, value)| json!([name, text(value)])).collect();
        let body = json!({"path": text(&seen.path), "headers": headers});
        (vec![("x-upstream".to_owned(), b"echo".to_vec())], body.to_string().into_bytes())
    })
}

fn bootstrap(setups: &[Setup], upstream: SocketAddr) -> Value {
    let listeners: Vec<Value> = setups
        .iter()
        .flat_map(|setup| {
            let ours = vec![direct_peer(), meshfilter(setup)];
            [("native", setup.native.clone()), ("meshfilter", ours)]
                .map(|(side, filters)| listener(&format!("{}-{side}", setup.name), filters, setup.normalize))
        })
        .collect();
    let endpoint = json!({"endpoint": {"address": {"socket_address": {
        "address": upstream.ip().to_string(), "port_value": upstream.port(),
    }}}});
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "echo",
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "echo", "endpoints": [{"lb_endpoints": [endpoint]}]},
            }],
        },
    })
}

fn listener(name: &str, mut filters: Vec<Value>, normalize: bool) -> Value {
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }}));
    // The details of a refusal are in the answer, so that they can be compared, too.
    let details = json!({"mappers": [{
        "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {
            "default_value": 0, "runtime_key": "parity.details",
        }}}},
        "headers_to_add": [{"header": {"key": "x-details", "value": "%RESPONSE_CODE_DETAILS%"}}],
    }]});
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "http",
                "use_remote_address": true,
                "xff_num_trusted_hops": 1,
                "generate_request_id": false,
                "normalize_path": normalize,
                "merge_slashes": normalize,
                "path_with_escaped_slashes_action": if normalize { "REJECT_REQUEST" } else { "KEEP_UNCHANGED" },
                "local_reply_config": details,
                "http_filters": filters,
                "route_config": {"virtual_hosts": [{
                    "name": "echo",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "echo"}}],
                }]},
            },
        }]}],
    })
}

fn direct_peer() -> Value {
    json!({"name": "envoy.filters.http.set_filter_state", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [{
            "object_key": "meshfilter.direct_remote_address",
            "factory_key": "envoy.string",
            "format_string": {"text_format_source": {
                "inline_string": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
            }},
        }],
    }})
}

fn meshfilter(setup: &Setup) -> Value {
    json!({"name": "meshfilter", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": setup.name,
            "root_id": setup.name,
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": module().unwrap()}},
            },
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": setup.document.to_string(),
            },
        },
    }})
}
