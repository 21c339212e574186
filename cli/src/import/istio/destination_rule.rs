//! DestinationRule → how traffic to a host is carried.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::envoy::cluster::{Balancing, CircuitBreakers, OutlierDetection, Protocol, duration};
use crate::envoy::put_field;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::hosts;
use crate::import::mesh::traffic::{Balancer, Pool, TrafficTls};
use crate::import::mesh::{Authorities, Certificate, Origin, RetryBudget, Rule, Subset, TrafficPolicy};
use crate::import::read::Resource;
use crate::import::scope::{Fit, take_labels};

/// The largest size of Envoy's rings and tables.
const LARGEST_RING: u64 = 8_388_608;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    let mut rule = Rule { origin: cx.origin(resource, "spec"), ..Rule::default() };
    let namespace = cx.namespace(resource).to_owned();
    let seen = super::is_seen(&spec, &namespace, cx);
    let host = spec.field("host");
    if let Some(field) = &host
        && let Some(host) = field.text()
    {
        field.left_to_envoy("the clusters that this is about");
        rule.host = cx.host(host, resource);
    }
    if host.is_none() {
        resource.log.error("spec", "it has no host, and is about nothing", "give it spec.host");
    }
    let mut for_others = !seen && cx.scope.is_placed;
    rule.rank = rank(&namespace, &rule.host, cx);
    if rule.rank > OF_MESH
        && let Some(field) = host.filter(|_| cx.scope.is_placed && !for_others)
    {
        for_others = true;
        let reason = format!("it is neither of the proxy's namespace nor of that of {}", rule.host);
        field.no_meaning(&reason);
        field.warn(format!("left out: {reason}"), "put it into the service's namespace, or say --namespace");
    }
    if let Some(field) = spec.field("workloadSelector") {
        let labels = field.object().and_then(|selector| {
            let labels = selector.field("matchLabels")?;
            Some(take_labels(&labels, "the clients that this is for"))
        });
        let fits = labels
            .filter(|_| cx.scope.labels.is_some())
            .is_some_and(|wanted| cx.scope.fit(&wanted.into()) == Fit::Yes);
        for_others |= !fits;
        if !fits {
            field.warn(
                "left out: it is for clients with labels that this proxy is not known to have",
                "say all labels of the proxy with --labels, or put its Pod or Deployment into the input",
            );
        }
    }
    let reader = Reader { origin: rule.origin.clone(), namespace: cx.namespace(resource).to_owned() };
    if let Some(field) = spec.field("trafficPolicy") {
        (rule.policy, rule.ports) = reader.with_ports(&field);
    }
    for field in spec.field("subsets").into_iter().flat_map(|subsets| subsets.items()) {
        rule.subsets.extend(reader.subset(&field));
    }
    if !rule.host.is_empty() && !for_others {
        cx.mesh.rules.push(rule);
    }
}

/// The rank of rules of the root namespace.
const OF_MESH: i8 = 1;

/// Whose rule it is: clients' own come first, then the service's, then the mesh's; others say nothing of a service.
fn rank(namespace: &str, host: &str, cx: &Context<'_>) -> i8 {
    let owner = match hosts::parts(host) {
        Some((_, of)) => Some(of),
        None => cx.mesh.services.get(host).map(|service| service.namespace.as_str()),
    };
    match owner {
        _ if namespace == cx.scope.namespace => -1,
        Some(of) if of == namespace => 0,
        _ if namespace == cx.scope.root_namespace => OF_MESH,
        // Whose a host is that nobody describes is not known.
        None => 0,
        Some(_) => OF_MESH.saturating_add(1),
    }
}

struct Reader {
    origin: Origin,
    namespace: String,
}

type ByPort = BTreeMap<u16, TrafficPolicy>;

impl Reader {
    fn subset(&self, field: &Field<'_>) -> Option<Subset> {
        let object = field.object()?;
        let mut subset = Subset::default();
        if let Some(field) = object.field("name")
            && let Some(name) = field.text()
        {
            field.left_to_envoy("the clusters that this is about");
            subset.name = name.to_owned();
        }
        if let Some(field) = object.field("labels") {
            subset.labels = take_labels(&field, "which workloads answer");
        }
        if let Some(field) = object.field("trafficPolicy") {
            (subset.policy, subset.ports) = self.with_ports(&field);
        }
        Some(subset)
    }

    fn with_ports(&self, field: &Field<'_>) -> (TrafficPolicy, ByPort) {
        let Some(object) = field.object() else { return Default::default() };
        let policy = self.policy(&object);
        let mut ports = ByPort::new();
        for field in object.field("portLevelSettings").into_iter().flat_map(|ports| ports.items()) {
            let Some(object) = field.object() else { continue };
            let number = object.field("port").and_then(|port| {
                let number = port.object()?.field("number")?;
                let port = number.whole(1, 65_535)?;
                number.left_to_envoy("the clusters that this is about");
                u16::try_from(port).ok()
            });
            // In Istio nothing of the rule's own holds on a port that has settings.
            let policy = self.policy(&object);
            match number {
                Some(number) => drop(ports.insert(number, policy)),
                None => field.problem_here("it does not say for which port it is", "give it port.number"),
            }
        }
        (policy, ports)
    }

    fn policy(&self, object: &Object<'_>) -> TrafficPolicy {
        let mut policy = TrafficPolicy::default();
        if let Some(field) = object.field("loadBalancer") {
            policy.balancer = balancer(&field);
        }
        if let Some(field) = object.field("connectionPool") {
            policy.pool = pool(&field);
        }
        if let Some(field) = object.field("outlierDetection") {
            outliers(&field, &mut policy);
        }
        if let Some(field) = object.field("tls") {
            policy.tls = self.tls(&field);
        }
        if let Some(field) = object.field("retryBudget") {
            policy.retry_budget = retry_budget(&field);
        }
        if let Some(field) = object.field("tunnel") {
            field.forbid("HTTP in a tunnel is not what one proxy before services does", "leave it out");
        }
        if let Some(field) = object.field("proxyProtocol") {
            field.forbid(
                "the servers would not be told who asks",
                "lay Envoy's upstream_proxy_protocol over the cluster in envoy.yaml",
            );
        }
        policy
    }

    fn tls(&self, field: &Field<'_>) -> Option<TrafficTls> {
        let object = field.object()?;
        let to = "TLS of the cluster";
        let text = |name: &'static str| -> Option<String> {
            let field = object.field(name)?;
            let text = field.text()?;
            field.left_to_envoy(to);
            Some(text.to_owned())
        };
        let mode = text("mode");
        let (chain, key) = (text("clientCertificate"), text("privateKey"));
        let (authorities, credential) = (text("caCertificates"), text("credentialName"));
        let mut tls = TrafficTls { sni: text("sni"), origin: self.origin.clone(), ..TrafficTls::default() };
        if let Some(field) = object.field("subjectAltNames") {
            tls.names = field.texts().into_iter().map(str::to_owned).collect();
            field.left_to_envoy(to);
        }
        if let Some(field) = object.field("insecureSkipVerify") {
            match field.flag() {
                Some(false) => field.left_to_envoy(to),
                Some(true) => field.forbid(
                    "whoever answers would be believed",
                    "name the authorities in caCertificates, or the server's names in subjectAltNames",
                ),
                None => {}
            }
        }
        if let Some(field) = object.field("caCrl") {
            field.forbid(
                "certificates that were called back would be believed",
                "lay crl over the cluster in envoy.yaml",
            );
        }
        let named = |name: &String| (self.namespace.clone(), name.clone());
        tls.authorities = authorities.map(Authorities::File);
        match mode.as_deref() {
            Some("DISABLE") => tls.disabled = true,
            Some("SIMPLE") => {
                if let Some((namespace, name)) = credential.as_ref().map(named) {
                    tls.authorities = Some(Authorities::Named(namespace, name));
                }
            }
            Some("MUTUAL") => {
                if let Some((namespace, name)) = credential.as_ref().map(named) {
                    tls.certificate = Some(Certificate::Named(namespace.clone(), name.clone()));
                    tls.authorities = Some(Authorities::Named(namespace, name));
                } else if let (Some(chain), Some(key)) = (chain, key) {
                    tls.certificate = Some(Certificate::Files(chain, key));
                } else {
                    field.problem_here(
                        "MUTUAL without a certificate of this side",
                        "give it credentialName, or clientCertificate and privateKey",
                    );
                }
            }
            Some("ISTIO_MUTUAL") => {
                tls.mesh = true;
                tls.certificate = Some(Certificate::Own);
                tls.authorities = Some(Authorities::Mesh);
            }
            Some(other) => {
                if let Some(field) = object.peek("mode") {
                    field.forbid(
                        format!("{other} is no mode of TLS"),
                        "use DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL",
                    );
                }
            }
            None => tls.disabled = true,
        }
        Some(tls)
    }
}

fn balancer(field: &Field<'_>) -> Option<Balancer> {
    let object = field.object()?;
    let mut balancer = None;
    if let Some(field) = object.field("simple") {
        let kind = match field.text()? {
            "ROUND_ROBIN" => Some(Balancing::RoundRobin),
            "LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED" => Some(Balancing::LeastRequest),
            "RANDOM" => Some(Balancing::Random),
            "PASSTHROUGH" => {
                field.forbid(
                    "a proxy before services does not know where the client wanted to go",
                    "use ROUND_ROBIN, LEAST_REQUEST or RANDOM",
                );
                None
            }
            other => {
                field.wrong(format!("{other} is no balancing; use ROUND_ROBIN, LEAST_REQUEST or RANDOM"))
            }
        };
        if let Some(kind) = kind {
            field.left_to_envoy("lb_policy of the cluster");
            balancer = Some(Balancer { kind, hash: None, fields: Map::new() });
        }
    }
    if let Some(field) = object.field("consistentHash") {
        balancer = hash(&field).or(balancer);
    }
    for name in ["localityLbSetting", "zoneAwareLbSetting"] {
        if let Some(field) = object.field(name) {
            field.refuse("one proxy knows no localities: all servers are equally near", "leave it out");
        }
    }
    let warmup = object.field("warmup").and_then(|field| warmup(&field)).or_else(|| {
        let field = object.field("warmupDurationSecs")?;
        let window = field.span()?;
        field.left_to_envoy("slow_start_config of the cluster");
        Some(json!({"slow_start_window": duration(window)}))
    });
    object.peek("warmupDurationSecs").filter(|_| object.has("warmup")).iter().for_each(|field| {
        object.field("warmupDurationSecs");
        field.no_meaning("warmup says it");
    });
    if let Some(warmup) = warmup {
        let mut slow =
            balancer.unwrap_or(Balancer { kind: Balancing::LeastRequest, hash: None, fields: Map::new() });
        let name = match slow.kind {
            Balancing::RoundRobin => "round_robin_lb_config",
            _ => {
                slow.kind = Balancing::LeastRequest;
                "least_request_lb_config"
            }
        };
        put_field(&mut slow.fields, &[name, "slow_start_config"], warmup);
        balancer = Some(slow);
    }
    balancer
}

fn warmup(field: &Field<'_>) -> Option<Value> {
    let object = field.object()?;
    let to = "slow_start_config of the cluster";
    let mut slow = Map::new();
    if let Some(field) = object.field("duration") {
        slow.insert("slow_start_window".to_owned(), duration(field.span()?).into());
        field.left_to_envoy(to);
    }
    if let Some(field) = object.field("minimumPercent") {
        slow.insert("min_weight_percent".to_owned(), json!({"value": field.number(0.0, 100.0)?}));
        field.left_to_envoy(to);
    }
    if let Some(field) = object.field("aggression") {
        let aggression = field.number(1.0, f64::MAX)?;
        slow.insert(
            "aggression".to_owned(),
            json!({"default_value": aggression, "runtime_key": "meshfilter.slow_start.aggression"}),
        );
        field.left_to_envoy(to);
    }
    Some(Value::Object(slow))
}

/// `consistentHash`: what the hash is made of, and where it leads.
fn hash(field: &Field<'_>) -> Option<Balancer> {
    let object = field.object()?;
    let to = "hash_policy of the cluster's route";
    let text = |name: &'static str| -> Option<String> {
        let field = object.field(name)?;
        let text = field.text()?;
        field.left_to_envoy(to);
        Some(text.to_owned())
    };
    let mut policies = Vec::new();
    if let Some(header) = text("httpHeaderName") {
        policies.push(json!({"header": {"header_name": header}}));
    }
    if let Some(name) = text("httpQueryParameterName") {
        policies.push(json!({"query_parameter": {"name": name}}));
    }
    if let Some(field) = object.field("useSourceIp")
        && field.flag()?
    {
        policies.push(json!({"connection_properties": {"source_ip": true}}));
    }
    if let Some(field) = object.peek("useSourceIp") {
        field.left_to_envoy(to);
    }
    if let Some(cookie) = object.field("httpCookie").and_then(|field| cookie(&field, to)) {
        policies.push(json!({ "cookie": cookie }));
    }
    let mut fields = Map::new();
    let size = |field: &Field<'_>, to: &str| -> Option<u64> {
        let size = field.whole(0, LARGEST_RING)?;
        field.left_to_envoy(to);
        Some(size)
    };
    let mut kind = Balancing::RingHash;
    let ring = object.field("ringHash").and_then(|field| {
        let object = field.object()?;
        let field = object.field("minimumRingSize")?;
        size(&field, "ring_hash_lb_config of the cluster")
    });
    let older =
        object.field("minimumRingSize").and_then(|field| size(&field, "ring_hash_lb_config of the cluster"));
    if let Some(field) = object.field("maglev") {
        kind = Balancing::Maglev;
        let table = field.object().and_then(|object| {
            let field = object.field("tableSize")?;
            size(&field, "maglev_lb_config of the cluster")
        });
        if let Some(table) = table {
            put_field(&mut fields, &["maglev_lb_config", "table_size"], table);
        }
    } else {
        let least = ring.or(older).unwrap_or(1024).max(1);
        put_field(&mut fields, &["ring_hash_lb_config", "minimum_ring_size"], least);
    }
    if policies.is_empty() {
        field.problem_here(
            "it does not say what the hash is made of",
            "give it httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName",
        );
        return None;
    }
    Some(Balancer { kind, hash: Some(Value::Array(policies)), fields })
}

fn cookie(field: &Field<'_>, to: &str) -> Option<Value> {
    let object = field.object()?;
    let mut cookie = Map::new();
    for name in ["name", "path"] {
        if let Some(field) = object.field(name) {
            cookie.insert(name.to_owned(), field.text()?.into());
            field.left_to_envoy(to);
        }
    }
    if let Some(field) = object.field("ttl") {
        cookie.insert("ttl".to_owned(), duration(field.span()?).into());
        field.left_to_envoy(to);
    }
    let mut attributes = Vec::new();
    for field in object.field("attributes").into_iter().flat_map(|attributes| attributes.items()) {
        let Some(attribute) = field.object() else { continue };
        let mut written = Map::new();
        for name in ["name", "value"] {
            if let Some(field) = attribute.field(name)
                && let Some(text) = field.text()
            {
                written.insert(name.to_owned(), text.into());
                field.left_to_envoy(to);
            }
        }
        attributes.push(Value::Object(written));
    }
    if !attributes.is_empty() {
        cookie.insert("attributes".to_owned(), Value::Array(attributes));
    }
    Some(Value::Object(cookie))
}

/// No limit, as in Istio where none is said.
const NO_LIMIT: u32 = u32::MAX;

fn pool(field: &Field<'_>) -> Option<Pool> {
    let object = field.object()?;
    let mut pool = Pool {
        limits: CircuitBreakers {
            max_connections: Some(NO_LIMIT),
            max_pending_requests: Some(NO_LIMIT),
            max_requests: Some(NO_LIMIT),
            max_retries: Some(NO_LIMIT),
            retry_budget: None,
        },
        ..Pool::default()
    };
    if let Some(tcp) = object.field("tcp").and_then(|field| field.object()) {
        limit(&tcp, "maxConnections", "max_connections", &mut pool.limits.max_connections);
        pool.connect_timeout = span(&tcp, "connectTimeout", "connect_timeout of the cluster");
        if let Some(longest) = span(&tcp, "maxConnectionDuration", "max_connection_duration of the cluster") {
            pool.http.insert("max_connection_duration".to_owned(), duration(longest).into());
        }
        if let Some(field) = tcp.field("idleTimeout") {
            field.no_meaning("it is for TCP that is no HTTP; for HTTP there is http.idleTimeout");
        }
        if let Some(keepalive) = tcp.field("tcpKeepalive").and_then(|field| field.object()) {
            let to = "tcp_keepalive of the cluster";
            let mut written = Map::new();
            if let Some(field) = keepalive.field("probes")
                && let Some(probes) = field.whole(0, u32::MAX.into())
            {
                written.insert("keepalive_probes".to_owned(), probes.into());
                field.left_to_envoy(to);
            }
            for (name, envoy) in [("time", "keepalive_time"), ("interval", "keepalive_interval")] {
                if let Some(seconds) = span(&keepalive, name, to) {
                    written.insert(envoy.to_owned(), seconds.as_secs().into());
                }
            }
            put_field(
                &mut pool.fields,
                &["upstream_connection_options", "tcp_keepalive"],
                Value::Object(written),
            );
        }
    }
    if let Some(http) = object.field("http").and_then(|field| field.object()) {
        limit(
            &http,
            "http1MaxPendingRequests",
            "max_pending_requests",
            &mut pool.limits.max_pending_requests,
        );
        limit(&http, "http2MaxRequests", "max_requests", &mut pool.limits.max_requests);
        limit(&http, "maxRetries", "max_retries", &mut pool.limits.max_retries);
        if let Some(field) = http.field("maxRequestsPerConnection")
            && let Some(most) = field.whole(0, i32::MAX.unsigned_abs().into())
        {
            field.left_to_envoy("max_requests_per_connection of the cluster");
            if most > 0 {
                pool.http.insert("max_requests_per_connection".to_owned(), most.into());
            }
        }
        if let Some(idle) = span(&http, "idleTimeout", "idle_timeout of the cluster") {
            pool.http.insert("idle_timeout".to_owned(), duration(idle).into());
        }
        if let Some(field) = http.field("h2UpgradePolicy") {
            match field.text()? {
                "UPGRADE" => pool.protocol = Some(Protocol::Http2),
                "DO_NOT_UPGRADE" => pool.protocol = Some(Protocol::Http1),
                "DEFAULT" => {}
                other => {
                    return field
                        .wrong(format!("{other} is no policy; use DEFAULT, UPGRADE or DO_NOT_UPGRADE"));
                }
            }
            field.left_to_envoy("the cluster's HTTP version");
        }
        if let Some(field) = http.field("useClientProtocol") {
            if field.flag()? {
                pool.protocol = Some(Protocol::AsTheClient);
            }
            field.left_to_envoy("the cluster's HTTP version");
        }
        if let Some(field) = http.field("maxConcurrentStreams")
            && let Some(most) = field.whole(0, i32::MAX.unsigned_abs().into())
        {
            field.left_to_envoy("max_concurrent_streams of the cluster");
            if most > 0 {
                pool.http2.insert("max_concurrent_streams".to_owned(), most.into());
            }
        }
        if let Some(keepalive) = http.field("http2KeepAlive").and_then(|field| field.object()) {
            let mut written = Map::new();
            for name in ["interval", "timeout"] {
                if let Some(length) = span(&keepalive, name, "connection_keepalive of the cluster") {
                    written.insert(name.to_owned(), duration(length).into());
                }
            }
            pool.http2.insert("connection_keepalive".to_owned(), Value::Object(written));
        }
    }
    Some(pool)
}

/// A limit; 0 is none, as in Istio.
fn limit(object: &Object<'_>, name: &'static str, envoy: &str, limit: &mut Option<u32>) {
    if let Some(field) = object.field(name)
        && let Some(most) = field.whole(0, i32::MAX.unsigned_abs().into())
    {
        field.left_to_envoy(format!("circuit_breakers.{envoy} of the cluster"));
        if most > 0 {
            *limit = u32::try_from(most).ok();
        }
    }
}

fn span(object: &Object<'_>, name: &'static str, to: &str) -> Option<Duration> {
    let field = object.field(name)?;
    let span = field.span()?;
    field.left_to_envoy(to);
    Some(span)
}

/// Of so many servers, percent, Envoy leaves alone at most, where nothing else is said.
const EJECTED: u64 = 10;

fn outliers(field: &Field<'_>, policy: &mut TrafficPolicy) {
    let Some(object) = field.object() else { return };
    let mut found = OutlierDetection::default();
    let to = "outlier_detection of the cluster";
    let whole = |name: &'static str, most: u64| -> Option<u32> {
        let field = object.field(name)?;
        let number = field.whole(0, most)?;
        field.left_to_envoy(to);
        u32::try_from(number).ok()
    };
    let count = |name: &'static str| whole(name, u32::MAX.into());
    let always = |number: u32| if number > 0 { 100 } else { 0 };
    if let Some(errors) = count("consecutive5xxErrors") {
        found.consecutive_5xx = Some(errors.max(1));
        found.enforcing_consecutive_5xx = Some(always(errors));
    }
    if let Some(errors) = count("consecutiveErrors") {
        // Istio's older name, for 502, 503 and 504.
        found.consecutive_gateway_failure = Some(errors.max(1));
        found.enforcing_consecutive_gateway_failure = Some(always(errors));
    }
    if let Some(errors) = count("consecutiveGatewayErrors") {
        found.consecutive_gateway_failure = Some(errors.max(1));
        found.enforcing_consecutive_gateway_failure = Some(always(errors));
    }
    if let Some(field) = object.field("splitExternalLocalOriginErrors") {
        found.split_external_local_origin_errors = field.flag();
        field.left_to_envoy(to);
    }
    found.consecutive_local_origin_failure =
        count("consecutiveLocalOriginFailures").filter(|count| *count > 0);
    found.interval = span(&object, "interval", to);
    found.base_ejection_time = span(&object, "baseEjectionTime", to);
    found.max_ejection_percent = whole("maxEjectionPercent", 100);
    if found.max_ejection_percent == Some(0) {
        found.max_ejection_percent = None;
    }
    policy.least_healthy = whole("minHealthPercent", 100);
    if let Some(field) = object.field("outlierDetectionHttpErrorCodes") {
        field.refuse(
            "Envoy counts 5xx, and no others",
            "use consecutive5xxErrors or consecutiveGatewayErrors",
        );
    }
    if found.max_ejection_percent.is_none_or(|percent| u64::from(percent) <= EJECTED) {
        field.warn(
            format!(
                "of the servers at most {} % are left alone at a time, so that of fewer than ten none is",
                found.max_ejection_percent.unwrap_or(10)
            ),
            "raise maxEjectionPercent where there are fewer",
        );
    }
    // As Istio: servers are not compared with each other.
    put_field(&mut policy.fields, &["outlier_detection", "enforcing_success_rate"], 0);
    policy.outliers = Some(found);
}

fn retry_budget(field: &Field<'_>) -> Option<RetryBudget> {
    let object = field.object()?;
    let to = "retry_budget of the cluster";
    let mut budget = RetryBudget { percent: 20.0, least: 3 };
    if let Some(field) = object.field("percent") {
        budget.percent = field.number(0.0, 100.0)?;
        field.left_to_envoy(to);
    }
    if let Some(field) = object.field("minRetryConcurrency") {
        budget.least = u32::try_from(field.whole(0, u32::MAX.into())?).ok()?;
        field.left_to_envoy(to);
    }
    if let Some(field) = object.field("budgetInterval") {
        field.refuse("Envoy's budget counts the requests under way", "leave it out");
    }
    Some(budget)
}
