//! ServiceProfile → entries of `http` in the order of its routes, and the retry budget of the service's cluster.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::condition::Condition;
use crate::import::mesh::{Entry, RetryBudget, Rule, TrafficPolicy, put, span};
use crate::import::read::Resource;
use crate::import::smi::split::{self, Split};

/// So often a request is tried again at most, within the budget.
const ATTEMPTS: u32 = 3;

/// Linkerd's own, where a profile says none: `retryRatio` 0.2, `minRetriesPerSecond` 10.
const BUDGET: RetryBudget = RetryBudget { percent: 20.0, least: 10 };

/// The gRPC statuses that Linkerd takes for failures, of those that Envoy can retry on.
const GRPC_FAILURES: &str = "deadline-exceeded,internal,unavailable";

/// One route.
struct Route {
    name: String,
    condition: Condition,
    value: Map<String, Value>,
    path: String,
}

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a ServiceProfile without a spec says nothing", "give it spec.routes");
        return;
    };
    let host = cx.host(&resource.name, resource);
    // A client's own profile holds in place of the service's.
    let own = cx.find("ServiceProfile", &cx.scope.namespace, &resource.name);
    let replaced =
        own.filter(|own| own.index != resource.index && cx.namespace(resource) != cx.scope.namespace);
    let replaced =
        replaced.map(|own| (format!("that of {} holds in its place", cx.namespace(own)), "leave it out"));
    if let Some((reason, remedy)) = cx.not_its_host(resource, &host).or(replaced) {
        spec.rest(|field| field.no_meaning_as_a_whole(&reason));
        resource.log.warn("metadata.name", format!("left out: {reason}"), remedy);
        return;
    }
    let named = is_a_name(&resource.name);
    if !named {
        resource.log.error(
            "metadata.name",
            "the name is that of the service, and this is no name of a host",
            "name it as the service in full: NAME.NAMESPACE.svc.cluster.local",
        );
    } else if host != resource.name {
        resource.log.warn(
            "metadata.name",
            format!("the name is that of the service in full: taken for {host}"),
            format!("name it {host}"),
        );
    }
    if let Some(field) = spec.field("opaquePorts") {
        field.refuse("requests are looked into on every port", "leave these ports out of the proxy");
    }
    let overrides = spec.field("dstOverrides").map(|field| overrides(&field, resource, cx));
    let budget = spec.field("retryBudget").map(|field| retry_budget(&field));
    let routes: Vec<Route> = spec
        .field("routes")
        .into_iter()
        .flat_map(|routes| routes.items())
        .filter_map(|field| route(&field, resource))
        .collect();
    let retries = routes.iter().any(|route| route.value.contains_key("retries"));
    let ways = ways(&host, overrides, cx);
    let budget = budget.flatten().or(retries.then_some(BUDGET));
    if let Some(budget) = budget {
        // Every cluster that requests of the service may go to has it.
        let mut hosts: BTreeSet<&String> = ways.iter().flat_map(|way| &way.backends).collect();
        hosts.remove(&host);
        for host in [&host].into_iter().chain(hosts) {
            cx.mesh.rules.push(Rule {
                host: host.clone(),
                policy: TrafficPolicy { retry_budget: Some(budget), ..TrafficPolicy::default() },
                origin: cx.origin(resource, "spec.retryBudget"),
                ..Rule::default()
            });
        }
    }
    let others = Route {
        name: format!("{}/others", resource.name),
        condition: Condition::All(Vec::new()),
        value: Map::new(),
        path: "spec".to_owned(),
    };
    for route in routes.iter().chain([&others]).filter(|_| named) {
        entries(route, &host, &ways, resource, cx);
    }
}

/// The entries of a route: one for each way that its requests may be divided.
fn entries(route: &Route, host: &str, ways: &[Split], resource: &Resource, cx: &mut Context<'_>) {
    for way in ways {
        let conditions = [Some(route.condition.clone()), way.condition.clone()].into_iter().flatten();
        let matches = match Condition::All(conditions.collect()).matches() {
            Ok(matches) => matches,
            Err(error) => {
                resource.log.error(&route.path, error, "");
                return;
            }
        };
        if matches.is_empty() {
            if way.condition.is_none() {
                resource.log.warn(&format!("{}.condition", route.path), "no request can be all of this", "");
            }
            continue;
        }
        let mut value = route.value.clone();
        if matches != [json!({})] {
            value.insert("match".to_owned(), Value::Array(matches));
        }
        value.insert("route".to_owned(), way.route.clone());
        let name = match way.condition {
            Some(_) => format!("{}/{}", route.name, way.name),
            None => route.name.clone(),
        };
        let origin = cx.origin(resource, route.path.clone());
        let hosts = vec![host.to_owned()];
        cx.mesh.entries.push(Entry { name, hosts, precedence: Vec::new(), value, origin });
    }
}

/// Where the requests of a service go: as TrafficSplits divide them, as the profile itself does, or to the service.
fn ways(host: &str, overrides: Option<Vec<(String, Option<u16>, u64)>>, cx: &Context<'_>) -> Vec<Split> {
    let mut ways = split::of_service(host, cx);
    if ways.iter().any(|way| way.condition.is_none()) {
        return ways;
    }
    let own = vec![(host.to_owned(), None, 1)];
    let overrides = overrides.filter(|overrides| overrides.iter().any(|(_, _, weight)| *weight > 0));
    let backends = overrides.unwrap_or(own);
    let weights = split::whole(backends.iter().map(|(_, _, weight)| *weight).collect());
    let several = backends.len() > 1;
    let way = |((host, port, _), weight): (&(String, Option<u16>, u64), u32)| {
        let mut destination = split::destination(host, cx);
        destination.port = port.or(destination.port);
        let mut way = json!({ "destination": destination.value() });
        if several {
            put(&mut way, "weight", weight);
        }
        way
    };
    ways.push(Split {
        name: String::new(),
        service: host.to_owned(),
        route: backends.iter().zip(weights).map(way).collect(),
        backends: backends.iter().map(|(host, _, _)| host.clone()).collect(),
        condition: None,
        origin: crate::import::mesh::Origin::default(),
    });
    ways
}

/// A name of a host, as Kubernetes has them.
fn is_a_name(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.split('.').all(part)
}

/// Destinations in place of the service itself: host, port and weight in thousandths.
fn overrides(field: &Field<'_>, resource: &Resource, cx: &Context<'_>) -> Vec<(String, Option<u16>, u64)> {
    let mut found = Vec::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let weight = object.field("weight").and_then(|field| {
            let weight = split::thousandths(&field)?;
            field.taken("the weight of the destination");
            Some(weight)
        });
        let Some(field) = object.field("authority") else {
            item.problem_here("it has no authority", "say where requests go");
            continue;
        };
        let Some(authority) = field.text() else { continue };
        field.taken("the destination of the routes");
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority, None),
        };
        found.push((cx.host(host, resource), port, weight.unwrap_or_default()));
    }
    found
}

/// Linkerd's budget is a share of the requests of some seconds, Envoy's one of those that are under way.
fn retry_budget(field: &Field<'_>) -> Option<RetryBudget> {
    let object = field.object()?;
    let to = "the retry budget of the service's cluster";
    let mut budget = BUDGET;
    match object.field("retryRatio") {
        Some(field) => {
            let ratio = field.number(0.0, 1000.0)?;
            field.left_to_envoy(format!("{to}: budget_percent"));
            if ratio > 1.0 {
                field.warn("Envoy's budget ends at 100 %", "use 1.0 or less");
            }
            // Of 0.2 as a float, 20 and nothing behind it.
            budget.percent = ((ratio * 100.0).min(100.0) * 1e6).round() / 1e6;
        }
        None => field.problem_here("it has no retryRatio", "say how many retries there may be, such as 0.2"),
    }
    match object.field("minRetriesPerSecond") {
        Some(field) => {
            let least = field.whole(0, u64::from(u32::MAX))?;
            field.left_to_envoy(format!("{to}: min_retry_concurrency, so many may be under way in any case"));
            budget.least = u32::try_from(least).ok()?;
        }
        None => {
            field.problem_here(
                "it has no minRetriesPerSecond",
                "say how many retries there may always be, such as 10",
            );
        }
    }
    match object.field("ttl") {
        Some(field) => {
            field.span()?;
            field.no_meaning("Envoy's budget counts the requests that are under way, and has no window");
        }
        None => field.problem_here("it has no ttl", "say over which time requests are counted, such as 10s"),
    }
    Some(budget)
}

fn route(field: &Field<'_>, resource: &Resource) -> Option<Route> {
    let object = field.object()?;
    let name = object.field("name").and_then(|field| {
        let name = field.text()?;
        field.taken("the entry's name");
        Some(name.to_owned())
    });
    let retryable = object.field("isRetryable").and_then(|field| {
        let flag = field.flag()?;
        field.taken(if flag { "retries: up to 3 within the budget" } else { "no retries" });
        Some(flag)
    });
    let mut value = Map::new();
    if let Some(field) = object.field("timeout")
        && let Some(timeout) = field.span()
    {
        field.taken("timeout");
        // No timer of Envoy's is finer.
        let timeout = timeout.max(std::time::Duration::from_millis(1));
        value.insert("timeout".to_owned(), span(timeout).into());
    }
    let classes: Vec<Class> = object
        .field("responseClasses")
        .into_iter()
        .flat_map(|classes| classes.items())
        .filter_map(|field| class(&field, retryable == Some(true)))
        .collect();
    let condition = object
        .field("condition")
        .filter(|condition| condition.value().as_object().is_none_or(|object| !object.is_empty()));
    let condition = match condition {
        Some(condition) => self::condition(&condition),
        None => {
            field.problem_here(
                "it has no condition",
                "say which requests it is for, such as pathRegex: /api/.*",
            );
            None
        }
    };
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        field.problem_here("it has no name", "give it a name, such as GET /api");
        return None;
    };
    if retryable == Some(true) {
        match retry_on(&classes) {
            Some(retry_on) => {
                value.insert("retries".to_owned(), json!({"attempts": ATTEMPTS, "retryOn": retry_on}));
            }
            None => field.warn("no response is a failure, so nothing is tried again", ""),
        }
    }
    Some(Route {
        name: format!("{}/{name}", resource.name),
        condition: condition?,
        value,
        path: field.path().to_owned(),
    })
}

/// Which requests: what stands beside each other must hold together.
fn condition(field: &Field<'_>) -> Option<Condition> {
    let object = field.object()?;
    let mut all = Vec::new();
    let mut whole = true;
    let mut known = false;
    if let Some(field) = object.field("method")
        && let Some(method) = field.text()
    {
        field.taken("match[].method");
        known = true;
        all.push(Condition::Method(vec![method.to_ascii_uppercase()]));
    }
    if let Some(field) = object.field("pathRegex")
        && let Some(regex) = field.text()
    {
        field.taken("match[].uri.regex");
        known = true;
        all.push(Condition::Path(regex.to_owned()));
    }
    for name in ["all", "any"] {
        let Some(field) = object.field(name) else { continue };
        known = true;
        let items = field.items();
        let inner: Vec<Condition> = items.iter().filter_map(condition).collect();
        whole &= inner.len() == items.len();
        all.push(if name == "all" { Condition::All(inner) } else { Condition::Any(inner) });
    }
    if let Some(field) = object.field("not") {
        known = true;
        match condition(&field) {
            Some(inner) => all.push(Condition::Not(Box::new(inner))),
            None => whole = false,
        }
    }
    if !known {
        field.problem_here("it asks for nothing", "give it a method, a pathRegex, all, any or not");
    }
    (known && whole).then_some(Condition::All(all))
}

/// What a response means.
struct Class {
    condition: Response,
    is_failure: bool,
}

/// Which responses.
enum Response {
    Status(u16, u16),
    All(Vec<Response>),
    Any(Vec<Response>),
    Not(Box<Response>),
}

impl Response {
    fn holds(&self, status: u16) -> bool {
        match self {
            Response::Status(min, max) => (*min..=*max).contains(&status),
            Response::All(list) => list.iter().all(|inner| inner.holds(status)),
            Response::Any(list) => list.iter().any(|inner| inner.holds(status)),
            Response::Not(inner) => !inner.holds(status),
        }
    }
}

fn class(field: &Field<'_>, retryable: bool) -> Option<Class> {
    let object = field.object()?;
    let to = match retryable {
        true => "retries.retryOn: which answers are failures",
        false => "which answers are failures; nothing is tried again here without isRetryable",
    };
    let is_failure = object.field("isFailure").and_then(|field| {
        let flag = field.flag()?;
        field.taken(to);
        Some(flag)
    });
    let Some(condition) = object.field("condition") else {
        field.problem_here(
            "it has no condition",
            "say which responses it is for, such as status: {min: 500, max: 599}",
        );
        return None;
    };
    Some(Class { condition: response(&condition, to)?, is_failure: is_failure.unwrap_or(false) })
}

fn response(field: &Field<'_>, to: &str) -> Option<Response> {
    let object = field.object()?;
    let mut all = Vec::new();
    let (mut whole, mut known) = (true, false);
    if let Some(field) = object.field("status") {
        known = true;
        match statuses(&field, to) {
            Some((min, max)) => all.push(Response::Status(min, max)),
            None => whole = false,
        }
    }
    for name in ["all", "any"] {
        let Some(field) = object.field(name) else { continue };
        known = true;
        let items = field.items();
        let inner: Vec<Response> = items.iter().filter_map(|item| response(item, to)).collect();
        whole &= inner.len() == items.len();
        all.push(if name == "all" { Response::All(inner) } else { Response::Any(inner) });
    }
    if let Some(field) = object.field("not") {
        known = true;
        match response(&field, to) {
            Some(inner) => all.push(Response::Not(Box::new(inner))),
            None => whole = false,
        }
    }
    if !known {
        field.problem_here("it asks for nothing", "give it a status, all, any or not");
    }
    (known && whole).then_some(Response::All(all))
}

fn statuses(field: &Field<'_>, to: &str) -> Option<(u16, u16)> {
    let object = field.object()?;
    let bound = |name: &'static str| match object.field(name) {
        Some(field) => {
            let number = field.whole(100, 599).and_then(|number| u16::try_from(number).ok())?;
            field.taken(to);
            Some(Some(number))
        }
        None => Some(None),
    };
    let (min, max) = (bound("min"), bound("max"));
    let (min, max) = (min?, max?);
    if min.is_none() && max.is_none() {
        field.problem_here("it has neither min nor max", "say which statuses, such as {min: 500, max: 599}");
        return None;
    }
    let (min, max) = (min.unwrap_or(100), max.unwrap_or(599));
    if min > max {
        field.problem_here(format!("{max} is less than {min}"), "put the smaller one into min");
        return None;
    }
    Some((min, max))
}

/// Envoy's words for the failures that classes name; what none of them has is a failure from 500, as Linkerd has it. `None`:
/// nothing is a failure.
fn retry_on(classes: &[Class]) -> Option<String> {
    let is_failure = |status: u16| {
        let class = classes.iter().find(|class| class.condition.holds(status));
        class.map_or(status >= 500, |class| class.is_failure)
    };
    let all_from_500 = (500..600).all(is_failure);
    let codes = (200..600).filter(|status| is_failure(*status) && !(all_from_500 && *status >= 500));
    let mut words: Vec<String> = Vec::new();
    if all_from_500 {
        words.push("5xx".to_owned());
    }
    words.extend(codes.map(|status| status.to_string()));
    // A gRPC answer has 200.
    if !classes.iter().any(|class| class.condition.holds(200)) {
        words.push(GRPC_FAILURES.to_owned());
    }
    (!words.is_empty()).then(|| words.join(","))
}
