//! The whole filter with a made-up Envoy around it: the fake host under it, and above it what Envoy's connection manager,
//! router and upstream do. `explain`, `test` and `replay` decide with this, so that nothing decides twice.

mod headers;
mod path;
mod series;
mod stand_in;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use meshfilter::config::{self, ConfigError};
use meshfilter::filter::{Flow, Root};
use meshfilter::host::fake::{Fake, Metric, Stream};
use meshfilter::host::{BufferType, HeaderMap, Host};
use meshfilter::policy::metric::split_metric_name;
use serde_json::Value;

pub use headers::{Headers, is_grpc};
pub use path::{Normalized, normalize};
pub use series::Series;
pub use stand_in::{StandIn, put_keys};

/// What a route reads the cluster from.
pub const CLUSTER_HEADER: &str = "x-meshfilter-cluster";
/// What the mirror policies read their clusters from.
pub const MIRROR_HEADERS: [&str; 3] =
    ["x-meshfilter-mirror-cluster", "x-meshfilter-mirror-cluster-2", "x-meshfilter-mirror-cluster-3"];
/// The cluster of Envoy's own route, where nothing else is said.
pub const FALLBACK: &str = "fallback";

/// The cluster of requests that the policy sends nowhere.
pub const DEFAULT: &str = "default";

/// A cluster as people are told of it: where requests go that the policy sends nowhere is the `default` of `--endpoint`.
pub fn called(cluster: &str) -> &str {
    if cluster == FALLBACK { DEFAULT } else { cluster }
}

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

/// No request waits longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

const ROOT_CONTEXT: u32 = 1;

/// What the proxy is started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of the plugin.
    pub environment: BTreeMap<String, String>,
    /// Of the random numbers.
    pub seed: Option<u64>,
    /// Where the wall clock stands, since the Unix epoch.
    pub now: Option<Duration>,
    /// The clusters that there are besides the fallback; none: every one.
    pub clusters: Option<Vec<String>>,
    /// The status that upstreams answer with.
    pub response: Option<u16>,
}

/// A request as a client sends it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: Vec<u8>,
    /// The host that it asks for.
    pub host: Vec<u8>,
    /// Besides those of the proxy.
    pub headers: Headers,
    /// The client's address behind trusted proxies; none: nobody forwarded it.
    pub source: Option<IpAddr>,
    /// The address of who connected, as the filter in front hands it over.
    pub direct: Option<IpAddr>,
    /// The port that was connected to.
    pub port: u16,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The URI in the peer's certificate.
    pub peer: Option<String>,
    /// Other attributes by their paths.
    pub properties: BTreeMap<String, Vec<u8>>,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            method: "GET".to_owned(),
            path: b"/".to_vec(),
            host: b"example.com".to_vec(),
            headers: Headers::new(),
            source: None,
            direct: None,
            port: 10_000,
            tls: false,
            peer: None,
            properties: BTreeMap::new(),
        }
    }
}

/// What came back for one request, whichever proxy gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `None`: closed without an answer.
    pub status: Option<u16>,
    /// Names in lower case.
    pub headers: Headers,
    /// Of an answer that the filter gives.
    pub body: Vec<u8>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// What the upstream saw, if one did.
    pub upstream: Option<Seen>,
    /// The clusters that got a copy.
    pub mirrors: Vec<String>,
    /// How long the answer took.
    pub delay: Duration,
    /// What the filter wrote.
    pub filter_state: BTreeMap<String, Vec<u8>>,
    /// How the filter ended it: `decision` of the metrics.
    pub decision: Cow<'static, str>,
    /// The chosen entry.
    pub route: Option<String>,
    /// The chosen cluster.
    pub destination: Option<String>,
}

/// A request as an upstream saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its cluster, or what it calls itself: see [`upstream_name`].
    pub cluster: String,
    /// Path and query.
    pub path: Vec<u8>,
    /// With `:method` and `:authority`.
    pub headers: Headers,
    /// What came behind them.
    pub body: Vec<u8>,
}

/// The fake Envoy with the filter in it.
pub struct Proxy {
    /// What is under the filter.
    pub host: Rc<Fake>,
    root: Rc<Root>,
    last_context: u32,
    settings: Settings,
    response: RefCell<Option<u16>>,
}

impl Proxy {
    /// Loads a policy.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn start(policy: &Value, settings: Settings) -> Result<Self, Vec<ConfigError>> {
        let host = Rc::new(Fake::new());
        if let Some(seed) = settings.seed {
            host.set_seed(seed);
        }
        if let Some(now) = settings.now {
            host.set_wall_clock(now);
        }
        for (name, value) in &settings.environment {
            host.set_environment(name, value);
        }
        let document = policy.to_string().into_bytes();
        host.set_buffer(BufferType::PluginConfiguration, document.clone());
        let root = Root::new(host.clone(), ROOT_CONTEXT);
        if !root.on_configure() {
            let loaded = config::load(&document, &|name| settings.environment.get(name).cloned());
            return Err(loaded.err().unwrap_or_default());
        }
        host.defines_no_more();
        let response = RefCell::new(settings.response);
        Ok(Proxy { host, root, last_context: ROOT_CONTEXT, settings, response })
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

    /// Makes upstreams answer so from now on.
    pub fn respond(&self, status: Option<u16>) {
        *self.response.borrow_mut() = status.or(self.settings.response);
    }

    /// One request and its answer, from the first header to the log.
    pub fn send(&mut self, request: &Request) -> Answer {
        self.last_context = self.last_context.wrapping_add(1).max(2);
        let context = self.last_context;
        let headers = headers::of_request(request, context);
        let mut properties = headers::properties(request, &headers);
        self.host.open_stream(
            context,
            Stream { request: headers, properties: properties.clone(), ..Stream::default() },
        );
        let stream = self.root.open(context);
        let mut delay = Duration::ZERO;
        if self.root.on_request_headers(&stream) == Flow::Pause {
            while !self.is_decided(context) && delay < LONGEST_WAIT {
                let Some(wait) = self.host.advance_to_tick() else { break };
                delay = delay.saturating_add(wait);
                self.root.on_tick();
            }
        }
        let _ = self.host.set_effective_context(context);
        let sent = self.host.with_stream(context, |stream| stream.clone()).unwrap_or_default();
        let mut answer = Answer { delay, ..Answer::default() };
        if !sent.reset {
            let grpc = is_grpc(&sent.request);
            let (response, body) = match &sent.reply {
                Some(reply) => {
                    answer.details = reply.details.replace(' ', "_");
                    headers::local_reply(reply, grpc, request.method == "HEAD")
                }
                None => (self.forward(&sent.request, &mut answer), Vec::new()),
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
            answer.headers = headers::pairs(&response);
            answer.status =
                response.get(b":status").and_then(headers::text).and_then(|status| status.parse().ok());
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
        if let Ok(stream) = stream.try_borrow() {
            let facts = stream.facts();
            answer.decision = Cow::Borrowed(facts.decision.as_str());
            answer.route = facts.route.as_deref().map(str::to_owned);
            answer.destination = facts.destination.as_deref().map(str::to_owned);
        }
        if let Some(closed) = self.host.close_stream(context) {
            answer.filter_state = closed.filter_state;
        }
        self.root.close(&stream);
        answer
    }

    fn is_decided(&self, context: u32) -> bool {
        let decided = |stream: &mut Stream| stream.resumed || stream.reset || stream.reply.is_some();
        self.host.with_stream(context, decided).unwrap_or(true)
    }

    /// What Envoy's router and the upstream make of the request.
    fn forward(&self, request: &HeaderMap, answer: &mut Answer) -> HeaderMap<'static> {
        let cluster = request.get(CLUSTER_HEADER.as_bytes()).map(String::from_utf8_lossy);
        let cluster = cluster.unwrap_or(FALLBACK.into()).into_owned();
        let known = self.settings.clusters.as_ref().is_none_or(|clusters| clusters.contains(&cluster));
        if !known && cluster != FALLBACK {
            answer.details = "cluster_not_found".to_owned();
            return [(":status", "503")].into_iter().collect();
        }
        for name in MIRROR_HEADERS {
            answer.mirrors.extend(request.get(name.as_bytes()).and_then(headers::text));
        }
        answer.details = "via_upstream".to_owned();
        let mut headers = headers::pairs(request);
        headers.retain(|(name, _)| !ROUTER_HEADERS.contains(&name.as_str()));
        let status = self.response.borrow().unwrap_or(200).to_string();
        let response =
            [(":status", status.as_str()), ("x-upstream", upstream_name(&cluster))].into_iter().collect();
        let path = request.get(b":path").unwrap_or_default().to_vec();
        answer.upstream = Some(Seen { cluster, path, headers, body: Vec::new() });
        response
    }

    /// Counters and gauges, and of each histogram the number of its samples as `<name>_count`.
    pub fn counters(&self) -> BTreeMap<Series, u64> {
        let series = |(flat, metric): (&String, &Metric)| {
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

/// What the upstream of a cluster calls itself: the last part of its cluster's name.
pub fn upstream_name(cluster: &str) -> &str {
    cluster.rsplit('|').next().unwrap_or(cluster)
}

fn socket(address: IpAddr, port: u16) -> Vec<u8> {
    SocketAddr::new(address, port).to_string().into_bytes()
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
