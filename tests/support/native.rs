//! Runs a case on the fake host: the whole filter, with a made-up Envoy around it that does what Envoy does.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use meshfilter::filter::{Flow, Root};
use meshfilter::host::fake::{Fake, Stream};
use meshfilter::host::{BufferType, HeaderMap, Host, LocalReply};
use meshfilter::policy::metric::split_metric_name;

use super::case::{Case, Request};
use super::check::{Answer, Headers, Seen, Series, counter_differences, differences, upstream_name};

/// The clusters that Envoy has in every case.
pub const CLUSTERS: [&str; 8] =
    ["webapp|v1", "webapp|v2", "webapp|v3", "webapp", "v1", "v2", "mirror", "fallback"];
/// What a route reads the cluster from.
pub const CLUSTER_HEADER: &str = "x-meshfilter-cluster";
/// What the mirror policies read their clusters from.
pub const MIRROR_HEADERS: [&str; 3] =
    ["x-meshfilter-mirror-cluster", "x-meshfilter-mirror-cluster-2", "x-meshfilter-mirror-cluster-3"];

/// Envoy's router takes these out before it forwards.
const ROUTER_HEADERS: [&str; 7] = [
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-retriable-status-codes",
    "x-envoy-hedge-on-per-try-timeout",
];

/// No case waits longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

const ROOT_CONTEXT: u32 = 1;

/// Runs a case; the error has everything that was not as expected.
pub fn run(case: &Case) -> Result<(), String> {
    let mut proxy = Proxy::start(case)?;
    let tokens = case.tokens(proxy.host.wall_clock())?;
    let mut found = Vec::new();
    for spec in &case.requests {
        let request = spec.prepare(&tokens)?;
        if let Some(by) = spec.advance {
            proxy.advance(by);
        }
        for round in 1..=spec.repeat {
            let answer = proxy.send(&request);
            let problems = differences(&spec.expect, &answer);
            if !problems.is_empty() {
                let round = if spec.repeat > 1 { format!(" (round {round})") } else { String::new() };
                found.push(format!("{}{round}: {}", spec.name, problems.join("; ")));
                break;
            }
        }
    }
    proxy.settle();
    found.extend(counter_differences(&case.counters, &proxy.counters()));
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

/// The fake Envoy with the filter in it.
pub struct Proxy {
    pub host: Rc<Fake>,
    root: Rc<Root>,
    last_context: u32,
}

impl Proxy {
    /// Loads the case's policy.
    pub fn start(case: &Case) -> Result<Self, String> {
        let host = Rc::new(Fake::new());
        if let Some(seed) = case.seed {
            host.set_seed(seed);
        }
        for (name, value) in &case.environment {
            host.set_environment(name, value);
        }
        let document = case.policy.to_string().into_bytes();
        host.set_buffer(BufferType::PluginConfiguration, document.clone());
        let root = Root::new(host.clone(), ROOT_CONTEXT);
        if !root.on_configure() {
            let errors =
                meshfilter::config::load(&document, &|name| case.environment.get(name).cloned()).err();
            let lines = errors.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>();
            return Err(format!("the policy is refused:\n{}", lines.join("\n")));
        }
        Ok(Proxy { host, root, last_context: ROOT_CONTEXT })
    }

    /// Lets time pass, ticks included.
    pub fn advance(&self, mut by: Duration) {
        while let Some(wait) = self.host.until_tick().filter(|wait| *wait <= by) {
            self.host.advance_to_tick();
            self.root.on_tick();
            by = by.saturating_sub(wait);
        }
        self.host.advance(by);
    }

    /// Lets the filter do what it has put off.
    pub fn settle(&self) {
        self.advance(Duration::from_secs(30));
    }

    /// One request and its answer, from the first header to the log.
    pub fn send(&mut self, request: &Request) -> Answer {
        self.last_context += 1;
        let context = self.last_context;
        let headers = request_headers(request, context);
        let mut properties = request_properties(request, &headers);
        self.host.open_stream(
            context,
            Stream { request: headers, properties: properties.clone(), ..Stream::default() },
        );
        let stream = self.root.open(context);
        let mut delay = Duration::ZERO;
        if self.root.on_request_headers(&stream) == Flow::Pause {
            while !self.is_decided(context) && delay < LONGEST_WAIT {
                let Some(wait) = self.host.advance_to_tick() else { break };
                delay += wait;
                self.root.on_tick();
            }
        }
        let _ = self.host.set_effective_context(context);
        let sent = self.host.with_stream(context, |stream| stream.clone()).unwrap_or_default();
        let mut answer = Answer { delay, delay_slack: Duration::from_millis(1), ..Answer::default() };
        if !sent.reset {
            let grpc = is_grpc(&sent.request);
            let (response, body) = match &sent.reply {
                Some(reply) => {
                    answer.details = reply.details.replace(' ', "_");
                    local_reply(reply, grpc, request.method == "HEAD")
                }
                None => self.forward(&sent.request, &mut answer),
            };
            answer.body = body;
            // A request that went on is out of the filter's reach until the log.
            let kept = self.host.with_stream(context, |stream| {
                stream.response = response;
                match stream.reply {
                    Some(_) => stream.request.clone(),
                    None => std::mem::take(&mut stream.request),
                }
            });
            self.root.on_response_headers(&stream);
            let response =
                self.host.with_stream(context, |stream| stream.response.clone()).unwrap_or_default();
            answer.headers = pairs(&response);
            answer.status = response.get(b":status").and_then(text).and_then(|status| status.parse().ok());
            let code = answer.status.unwrap_or_default();
            properties.insert("response.code".to_owned(), u64::from(code).to_le_bytes().to_vec());
            properties.insert("response.code_details".to_owned(), answer.details.clone().into_bytes());
            properties.insert(
                "request.duration".to_owned(),
                u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX).to_le_bytes().to_vec(),
            );
            self.host.with_stream(context, |stream| {
                stream.request = kept.unwrap_or_default();
                stream.properties = properties;
            });
        }
        self.root.on_log(&stream);
        answer.filter_state =
            self.host.with_stream(context, |stream| stream.filter_state.clone()).unwrap_or_default();
        self.host.close_stream(context);
        self.root.close(&stream);
        answer
    }

    fn is_decided(&self, context: u32) -> bool {
        let decided = |stream: &mut Stream| stream.resumed || stream.reset || stream.reply.is_some();
        self.host.with_stream(context, decided).unwrap_or(true)
    }

    /// What Envoy's router and the upstream make of the request.
    fn forward(&self, request: &HeaderMap, answer: &mut Answer) -> (HeaderMap, Vec<u8>) {
        let cluster = request.get(CLUSTER_HEADER.as_bytes()).map(String::from_utf8_lossy);
        let cluster = cluster.unwrap_or("fallback".into());
        if !CLUSTERS.contains(&cluster.as_ref()) {
            answer.details = "cluster_not_found".to_owned();
            return ([(":status", "503")].into_iter().collect(), Vec::new());
        }
        for name in MIRROR_HEADERS {
            if let Some(cluster) = request.get(name.as_bytes()).and_then(text) {
                answer.mirrors.push(upstream_name(&cluster).to_owned());
            }
        }
        answer.details = "via_upstream".to_owned();
        let mut headers = pairs(request);
        headers.retain(|(name, _)| !ROUTER_HEADERS.contains(&name.as_str()));
        let upstream = upstream_name(&cluster).to_owned();
        let response = [(":status", "200"), ("x-upstream", upstream.as_str())].into_iter().collect();
        let path = request.get(b":path").unwrap_or_default().to_vec();
        answer.upstream = Some(Seen { upstream, path, headers, body: Vec::new() });
        (response, Vec::new())
    }

    /// Counters and gauges, and of each histogram the number of its samples as `<name>_count`.
    pub fn counters(&self) -> BTreeMap<Series, u64> {
        let series = |(flat, metric): (&String, &meshfilter::host::fake::Metric)| {
            let (name, labels) = split_metric_name(flat);
            let (name, value) = match metric.samples.len() {
                0 => (name.to_owned(), metric.value),
                samples => (format!("{name}_count"), samples as u64),
            };
            let owned = |(label, value): (&str, &str)| (label.to_owned(), value.to_owned());
            (Series { name, labels: labels.into_iter().map(owned).collect() }, value)
        };
        self.host.metrics().iter().map(series).collect()
    }
}

/// What Envoy's connection manager hands to its filters.
fn request_headers(request: &Request, context: u32) -> HeaderMap {
    let mut headers = HeaderMap::default();
    headers.add(b":authority", request.host.as_bytes());
    headers.add(b":path", &request.path);
    headers.add(b":method", request.method.as_bytes());
    headers.add(b":scheme", b"http");
    for (name, value) in &request.headers {
        headers.add(name.to_ascii_lowercase().as_bytes(), value);
    }
    let source = request.source.map_or("127.0.0.1".to_owned(), |source| format!("{source},127.0.0.1"));
    headers.add(b"x-forwarded-for", source.as_bytes());
    headers.add(b"x-forwarded-proto", b"http");
    headers.remove(b"x-request-id");
    headers.add(b"x-request-id", format!("00000000-0000-4000-8000-{context:012}").as_bytes());
    headers
}

fn request_properties(request: &Request, headers: &HeaderMap) -> BTreeMap<String, Vec<u8>> {
    let header = |name: &str| headers.get(name.as_bytes()).unwrap_or_default().to_vec();
    let source = request.source.unwrap_or([127, 0, 0, 1].into());
    let number = |value: i64| value.to_le_bytes().to_vec();
    let path = header(":path");
    let url_path = path.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
    let mut properties = BTreeMap::from([
        ("source.address".to_owned(), std::net::SocketAddr::new(source, 40_000).to_string().into_bytes()),
        ("source.port".to_owned(), number(40_000)),
        ("destination.address".to_owned(), b"127.0.0.1:10000".to_vec()),
        ("destination.port".to_owned(), number(10_000)),
        ("request.url_path".to_owned(), url_path),
        ("request.path".to_owned(), path),
        ("request.host".to_owned(), header(":authority")),
        ("request.method".to_owned(), header(":method")),
        ("request.scheme".to_owned(), header(":scheme")),
        ("request.id".to_owned(), header("x-request-id")),
        ("request.protocol".to_owned(), b"HTTP/1.1".to_vec()),
        ("connection.mtls".to_owned(), vec![0]),
        ("xds.route_name".to_owned(), b"fallback".to_vec()),
        ("plugin_name".to_owned(), b"meshfilter".to_vec()),
        ("plugin_root_id".to_owned(), b"meshfilter".to_vec()),
        ("plugin_vm_id".to_owned(), b"meshfilter".to_vec()),
        // What the filter in front hands over.
        ("filter_state.meshfilter.direct_remote_address".to_owned(), b"127.0.0.1".to_vec()),
    ]);
    for (name, value) in &request.properties {
        properties.insert(name.clone(), value.clone().into_bytes());
    }
    properties
}

fn is_grpc(request: &HeaderMap) -> bool {
    let rest = request.get(b"content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+', ..]))
}

/// What Envoy makes of a local reply, for gRPC callers trailers alone.
fn local_reply(reply: &LocalReply, grpc: bool, head: bool) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::default();
    if grpc {
        let status = reply.grpc_status.unwrap_or(match reply.status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        });
        headers.add(b":status", b"200");
        headers.add(b"content-type", b"application/grpc");
        headers.add(b"grpc-status", status.to_string().as_bytes());
        if !reply.body.is_empty() {
            headers.add(b"grpc-message", &reply.body);
        }
    } else {
        headers.add(b":status", reply.status.to_string().as_bytes());
        if !reply.body.is_empty() {
            headers.add(b"content-length", reply.body.len().to_string().as_bytes());
            headers.add(b"content-type", b"text/plain");
        }
    }
    for (name, value) in &reply.headers {
        if name == "content-type" {
            if grpc {
                continue;
            }
            headers.remove(b"content-type");
        }
        headers.add(name.as_bytes(), value);
    }
    let body = if grpc || head { Vec::new() } else { reply.body.clone() };
    (headers, body)
}

fn pairs(headers: &HeaderMap) -> Headers {
    headers.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec())).collect()
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
