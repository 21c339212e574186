//! What a BackendTrafficPolicy says of the servers of its routes: who is chosen, how many at once, who is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::envoy::cluster::{Balancing, OutlierDetection, Protocol, duration};
use crate::envoy::put_field;
use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::traffic::{Balancer, Pool, Rule, TrafficPolicy};
use crate::import::mesh::{Entry, RetryBudget};
use crate::import::read::Resource;

const CLUSTER: &str = "the cluster";

/// Reads what is said of servers, and says it of all hosts to which these entries lead.
pub fn read(spec: &Object<'_>, reached: &[usize], resource: &Resource, cx: &mut Context<'_>) {
    let mut policy = TrafficPolicy::default();
    if let Some(field) = spec.field("loadBalancer") {
        policy.balancer = balancer(&field);
    }
    if let Some(field) = spec.field("circuitBreaker") {
        breakers(&field, &mut policy);
    }
    if let Some(field) = spec.field("healthCheck") {
        health(&field, &mut policy);
    }
    if let Some(field) = spec.field("useClientProtocol")
        && let Some(flag) = field.flag()
    {
        field.left_to_envoy(CLUSTER);
        if flag {
            policy.pool.get_or_insert_default().protocol = Some(Protocol::AsTheClient);
        }
    }
    if let Some(timeout) = spec.peek("timeout").and_then(|field| field.object()) {
        timeouts(&timeout, &mut policy);
        timeout.rest(|_| {});
    }
    let says = policy.balancer.is_some()
        || policy.pool.is_some()
        || policy.outliers.is_some()
        || policy.retry_budget.is_some()
        || !policy.fields.is_empty();
    if !says {
        return;
    }
    let own: BTreeSet<usize> = reached.iter().copied().collect();
    let entries = reached.iter().filter_map(|index| cx.mesh.entries.get(*index));
    let hosts: BTreeSet<String> = entries.flat_map(hosts).map(str::to_owned).collect();
    let leading = leading(cx);
    let foreign = |entry: &Value| {
        entry.as_u64().and_then(|index| usize::try_from(index).ok()).is_none_or(|index| !own.contains(&index))
    };
    let shared: Vec<&String> = hosts
        .iter()
        .filter(|host| leading.get(*host).and_then(Value::as_array).into_iter().flatten().any(foreign))
        .collect();
    if let Some(host) = shared.first() {
        resource.log.warn(
            "spec",
            format!(
                "what it says of servers holds for {host} whoever leads there, and another route does, too"
            ),
            "give that route the same policy, or a Service of its own",
        );
    }
    for host in hosts {
        let origin = cx.origin(resource, "spec");
        cx.mesh.rules.push(Rule { host, policy: policy.clone(), origin, ..Rule::default() });
    }
}

fn hosts(entry: &Entry) -> impl Iterator<Item = &str> {
    let ways = entry.value.get("route").and_then(Value::as_array).into_iter().flatten();
    ways.filter_map(|way| way.pointer("/destination/host").and_then(Value::as_str))
}

/// The entries that lead to a host, found once.
fn leading<'m>(cx: &'m mut Context<'_>) -> &'m Value {
    const LEADING: &str = "Envoy Gateway's hosts";
    if !cx.mesh.found.contains_key(LEADING) {
        let mut found: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, entry) in cx.mesh.entries.iter().enumerate() {
            for host in hosts(entry) {
                found.entry(host).or_default().push(index);
            }
        }
        let found = json!(found);
        cx.mesh.found.insert(LEADING, found);
    }
    cx.mesh.found.get(LEADING).unwrap_or(&Value::Null)
}

/// How long a request may take; the rest of `timeout` is said of servers.
pub fn request_timeout(timeout: &Object<'_>) -> Option<Duration> {
    timeout.field("tcp");
    let http = timeout.field("http")?.object()?;
    for name in ["connectionIdleTimeout", "maxConnectionDuration", "maxStreamDuration", "streamIdleTimeout"] {
        http.field(name);
    }
    let field = http.field("requestTimeout")?;
    let time = field.span()?;
    field.taken("http[].timeout");
    Some(time)
}

fn timeouts(timeout: &Object<'_>, policy: &mut TrafficPolicy) {
    let taken = |field: Field<'_>| -> Option<Duration> {
        let time = field.span()?;
        field.left_to_envoy(CLUSTER);
        Some(time)
    };
    if let Some(tcp) = timeout.field("tcp").and_then(|field| field.object())
        && let Some(time) = tcp.field("connectTimeout").and_then(taken)
    {
        policy.pool.get_or_insert_default().connect_timeout = Some(time);
    }
    let Some(http) = timeout.field("http").and_then(|field| field.object()) else { return };
    http.rest(|_| {});
    for (name, member) in [
        ("connectionIdleTimeout", "idle_timeout"),
        ("maxConnectionDuration", "max_connection_duration"),
        ("maxStreamDuration", "max_stream_duration"),
    ] {
        if let Some(time) = http.field(name).and_then(taken) {
            let pool = policy.pool.get_or_insert_default();
            pool.http.insert(member.to_owned(), duration(time).into());
        }
    }
    if let Some(field) = http.field("streamIdleTimeout") {
        field.refuse("a stream is closed by Envoy's own time", "use requestTimeout");
    }
}

fn balancer(field: &Field<'_>) -> Option<Balancer> {
    let object = field.object()?;
    object.may_have(&["type", "consistentHash", "slowStart"]);
    let mut balancer = Balancer { kind: Balancing::LeastRequest, hash: None, fields: Map::new() };
    let kind = object.field("type");
    let hash = object.field("consistentHash");
    for name in ["backendUtilization", "dynamicModule", "endpointOverride", "zoneAware"] {
        if let Some(field) = object.field(name) {
            field.refuse("servers are chosen by type alone", "leave it out, or write it into envoy.yaml");
        }
    }
    if let Some(kind) = kind {
        balancer.kind = match kind.text()? {
            "ConsistentHash" => Balancing::Maglev,
            "LeastRequest" => Balancing::LeastRequest,
            "Random" => Balancing::Random,
            "RoundRobin" => Balancing::RoundRobin,
            other => {
                kind.forbid(
                    format!("{other} is not done here"),
                    "use ConsistentHash, LeastRequest, Random or RoundRobin",
                );
                return None;
            }
        };
        kind.left_to_envoy(CLUSTER);
    }
    if let Some(field) = hash {
        let (policy, size) = self::hash(&field)?;
        balancer.hash = Some(policy);
        if let Some(size) = size {
            put_field(&mut balancer.fields, &["maglev_lb_config", "table_size"], size);
        }
    }
    if let Some(slow) = object.field("slowStart").and_then(|field| field.object())
        && let Some(window) = slow.field("window")
    {
        let time = window.span()?;
        let config = match balancer.kind {
            Balancing::LeastRequest => "least_request_lb_config",
            _ => "round_robin_lb_config",
        };
        put_field(&mut balancer.fields, &[config, "slow_start_config", "slow_start_window"], duration(time));
        window.left_to_envoy(CLUSTER);
    }
    Some(balancer)
}

fn hash(field: &Field<'_>) -> Option<(Value, Option<u64>)> {
    const TO: &str = "hash_policy of the routes to the cluster";
    let object = field.object()?;
    object.may_have(&["type", "header", "headers", "queryParams", "cookie", "tableSize"]);
    let mut policies = Vec::new();
    if let Some(field) = object.field("type") {
        if field.text()? == "SourceIP" {
            policies.push(json!({"connection_properties": {"source_ip": true}}));
        }
        field.left_to_envoy(TO);
    }
    let named = |field: &Field<'_>| -> Option<String> {
        let object = field.object()?;
        let name = object.field("name")?;
        name.left_to_envoy(TO);
        name.text().map(str::to_owned)
    };
    let one = object.field("header").into_iter();
    let headers = one.chain(object.field("headers").into_iter().flat_map(|field| field.items()));
    for item in headers {
        policies.push(json!({"header": {"header_name": named(&item)?}}));
    }
    for item in object.field("queryParams").into_iter().flat_map(|field| field.items()) {
        policies.push(json!({"query_parameter": {"name": named(&item)?}}));
    }
    if let Some(cookie) = object.field("cookie").and_then(|field| field.object()) {
        cookie.may_have(&["name", "ttl", "attributes"]);
        let name = cookie.field("name")?;
        name.left_to_envoy(TO);
        let mut value = json!({"name": name.text()?, "path": "/"});
        if let Some(field) = cookie.field("ttl") {
            crate::import::mesh::put(&mut value, "ttl", duration(field.span()?));
            field.left_to_envoy(TO);
        }
        let mut attributes = Vec::new();
        for (name, field) in cookie.field("attributes").into_iter().flat_map(|field| field.entries()) {
            attributes.push(json!({"name": name, "value": field.text()?}));
            field.left_to_envoy(TO);
        }
        if !attributes.is_empty() {
            crate::import::mesh::put(&mut value, "attributes", attributes);
        }
        policies.push(json!({ "cookie": value }));
    }
    let size = match object.field("tableSize") {
        Some(field) => {
            field.left_to_envoy(CLUSTER);
            Some(field.whole(2, 5_000_011)?)
        }
        None => None,
    };
    Some((Value::Array(policies), size))
}

fn breakers(field: &Field<'_>, policy: &mut TrafficPolicy) {
    let Some(object) = field.object() else { return };
    let count = |name: &'static str| -> Option<u32> {
        let field = object.field(name)?;
        let number = field.whole(0, u32::MAX.into())?;
        field.left_to_envoy("circuit_breakers of the cluster");
        u32::try_from(number).ok()
    };
    let pool: &mut Pool = policy.pool.get_or_insert_default();
    pool.limits.max_connections = count("maxConnections");
    pool.limits.max_pending_requests = count("maxPendingRequests");
    pool.limits.max_requests = count("maxParallelRequests");
    pool.limits.max_retries = count("maxParallelRetries");
    if let Some(most) = count("maxRequestsPerConnection") {
        pool.http.insert("max_requests_per_connection".to_owned(), most.into());
    }
    if let Some(each) = object.field("perEndpoint").and_then(|field| field.object())
        && let Some(field) = each.field("maxConnections")
        && let Some(most) = field.whole(0, u32::MAX.into())
    {
        field.left_to_envoy("circuit_breakers.per_host_thresholds of the cluster");
        put_field(
            &mut pool.fields,
            &["circuit_breakers", "per_host_thresholds"],
            json!([{ "max_connections": most }]),
        );
    }
    if let Some(budget) = object.field("retryBudget") {
        policy.retry_budget = self::budget(&budget);
    }
}

fn budget(field: &Field<'_>) -> Option<RetryBudget> {
    const TO: &str = "retry_budget of the cluster";
    let object = field.object()?;
    object.may_have(&["percent", "minRetryConcurrency"]);
    let mut budget = RetryBudget { percent: 20.0, least: 3 };
    if let Some(field) = object.field("percent") {
        let share = crate::import::gateway::fraction(&field, TO)?;
        budget.percent = share.as_f64()?;
        field.left_to_envoy(TO);
    }
    if let Some(field) = object.field("minRetryConcurrency") {
        budget.least = u32::try_from(field.whole(0, u32::MAX.into())?).ok()?;
        field.left_to_envoy(TO);
    }
    Some(budget)
}

fn health(field: &Field<'_>, policy: &mut TrafficPolicy) {
    let Some(object) = field.object() else { return };
    if let Some(field) = object.field("panicThreshold")
        && let Some(percent) = field.whole(0, 100)
    {
        field.left_to_envoy("healthy_panic_threshold of the cluster");
        policy.least_healthy = u32::try_from(percent).ok();
    }
    if let Some(field) = object.field("active")
        && let Some(check) = active(&field)
    {
        policy.fields.insert("health_checks".to_owned(), json!([check]));
    }
    if let Some(field) = object.field("passive") {
        policy.outliers = passive(&field, policy);
    }
}

fn passive(field: &Field<'_>, policy: &mut TrafficPolicy) -> Option<OutlierDetection> {
    const TO: &str = "outlier_detection of the cluster";
    let object = field.object()?;
    let whole = |name: &'static str, most: u64| -> Option<u32> {
        let field = object.field(name)?;
        let number = field.whole(0, most)?;
        field.left_to_envoy(TO);
        u32::try_from(number).ok()
    };
    let span = |name: &'static str| -> Option<Duration> {
        let field = object.field(name)?;
        let time = field.span()?;
        field.left_to_envoy(TO);
        Some(time)
    };
    let count = |name: &'static str| whole(name, u32::MAX.into());
    let always = |number: u32| if number > 0 { 100 } else { 0 };
    // As Envoy Gateway has them where nothing is said.
    let errors = count("consecutive5XxErrors").unwrap_or(5);
    let gateway = count("consecutiveGatewayErrors").unwrap_or(0);
    let mut found = OutlierDetection {
        consecutive_5xx: Some(errors.max(1)),
        enforcing_consecutive_5xx: Some(always(errors)),
        consecutive_gateway_failure: Some(gateway.max(1)),
        enforcing_consecutive_gateway_failure: Some(always(gateway)),
        consecutive_local_origin_failure: Some(count("consecutiveLocalOriginFailures").unwrap_or(5).max(1)),
        interval: Some(span("interval").unwrap_or(Duration::from_secs(3))),
        base_ejection_time: Some(span("baseEjectionTime").unwrap_or(Duration::from_secs(30))),
        max_ejection_percent: Some(whole("maxEjectionPercent", 100).unwrap_or(10)),
        ..OutlierDetection::default()
    };
    if let Some(field) = object.field("splitExternalLocalOriginErrors") {
        found.split_external_local_origin_errors = field.flag();
        field.left_to_envoy(TO);
    }
    if let Some(percent) = whole("failurePercentageThreshold", 100) {
        for (name, value) in
            [("failure_percentage_threshold", percent), ("enforcing_failure_percentage", 100)]
        {
            put_field(&mut policy.fields, &["outlier_detection", name], value);
        }
    }
    if let Some(field) = object.field("alwaysEjectOneEndpoint")
        && let Some(flag) = field.flag()
    {
        put_field(&mut policy.fields, &["outlier_detection", "always_eject_one_host"], flag);
        field.left_to_envoy(TO);
    }
    put_field(&mut policy.fields, &["outlier_detection", "enforcing_success_rate"], 0);
    Some(found)
}

fn active(field: &Field<'_>) -> Option<Value> {
    const TO: &str = "health_checks of the cluster";
    let object = field.object()?;
    object.may_have(&["initialJitter", "healthCheckLog", "overrides", "type", "http", "grpc", "tcp"]);
    let span = |name: &'static str, default: &str| -> Option<String> {
        let Some(field) = object.field(name) else { return Some(default.to_owned()) };
        let time = field.span()?;
        field.left_to_envoy(TO);
        Some(duration(time))
    };
    let count = |name: &'static str, default: u64| -> Option<u64> {
        let Some(field) = object.field(name) else { return Some(default) };
        let number = field.whole(1, u32::MAX.into())?;
        field.left_to_envoy(TO);
        Some(number)
    };
    let (timeout, interval) = (span("timeout", "1s"), span("interval", "3s"));
    let (healthy, unhealthy) = (count("healthyThreshold", 1), count("unhealthyThreshold", 3));
    let interval = interval?;
    let mut check = json!({
        "timeout": timeout?,
        // Envoy's own for a cluster that nobody has asked yet is a minute.
        "no_traffic_interval": interval,
        "interval": interval,
        "healthy_threshold": healthy?,
        "unhealthy_threshold": unhealthy?,
    });
    if let Some(field) = object.field("initialJitter") {
        crate::import::mesh::put(&mut check, "initial_jitter", duration(field.span()?));
        field.left_to_envoy(TO);
    }
    for name in ["healthCheckLog", "overrides"] {
        if let Some(field) = object.field(name) {
            field.refuse("checks go to the server's own port, and have no log of their own", "leave it out");
        }
    }
    if let Some(field) = object.field("type") {
        field.left_to_envoy(TO);
    }
    if let Some(http) = object.field("http").and_then(|field| field.object()) {
        http.may_have(&["path", "hostname", "method", "expectedStatuses", "retriableStatuses"]);
        http.may_have(&["expectedResponse", "requestBody"]);
        let mut value = Map::new();
        for (name, member) in [("path", "path"), ("hostname", "host"), ("method", "method")] {
            if let Some(field) = http.field(name) {
                value.insert(member.to_owned(), field.text()?.into());
                field.left_to_envoy(TO);
            }
        }
        for (name, member) in
            [("expectedStatuses", "expected_statuses"), ("retriableStatuses", "retriable_statuses")]
        {
            let mut ranges = Vec::new();
            for item in http.field(name).into_iter().flat_map(|field| field.items()) {
                let code = item.whole(100, 599)?;
                ranges.push(json!({"start": code, "end": code.saturating_add(1)}));
                item.left_to_envoy(TO);
            }
            if !ranges.is_empty() {
                value.insert(member.to_owned(), Value::Array(ranges));
            }
        }
        for name in ["expectedResponse", "requestBody"] {
            if let Some(field) = http.field(name) {
                field.refuse("a check looks at the status alone, and sends no body", "leave it out");
            }
        }
        crate::import::mesh::put(&mut check, "http_health_check", Value::Object(value));
    } else if let Some(grpc) = object.field("grpc").and_then(|field| field.object()) {
        let mut value = Map::new();
        if let Some(field) = grpc.field("service") {
            value.insert("service_name".to_owned(), field.text()?.into());
            field.left_to_envoy(TO);
        }
        crate::import::mesh::put(&mut check, "grpc_health_check", Value::Object(value));
    } else {
        if let Some(field) = object.field("tcp") {
            field.refuse("a check of TCP connects, and compares no bytes", "leave it out");
        }
        crate::import::mesh::put(&mut check, "tcp_health_check", json!({}));
    }
    Some(check)
}
