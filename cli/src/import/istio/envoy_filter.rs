//! EnvoyFilter: patches that add Envoy's local rate limit become entries of `rateLimits`; any other is refused, with what it
//! would have done.

use serde_json::{Map, Value, json};

use crate::import::context::Context;
use crate::import::field::{Field, Object};
use crate::import::mesh::Origin;
use crate::import::read::Resource;
use crate::import::scope::take_labels;

const FILTER: &str = "envoy.filters.http.local_ratelimit";
const LIMIT: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    if let Some(selector) = spec.field("workloadSelector").and_then(|field| field.object())
        && let Some(field) = selector.field("labels")
    {
        take_labels(&field, "the proxy that this is for");
    }
    if let Some(field) = spec.field("targetRefs") {
        field.taken("the proxy that this is for");
    }
    if let Some(field) = spec.field("priority") {
        match field.value().as_i64() {
            Some(_) => field.taken("the order of rateLimits, and which of several for routes holds"),
            None => drop(field.wrong::<()>("it is no whole number")),
        }
    }
    let mut limits = 0;
    for (index, field) in
        spec.field("configPatches").into_iter().flat_map(|patches| patches.items()).enumerate()
    {
        patch(&field, index, &mut limits, resource, cx);
    }
}

fn patch(field: &Field<'_>, index: usize, limits: &mut usize, resource: &Resource, cx: &mut Context<'_>) {
    let Some(object) = field.object() else { return };
    let apply_to = object.field("applyTo");
    let kind = apply_to.as_ref().and_then(Field::text).unwrap_or_default();
    let patch = object.field("patch");
    let value = patch.as_ref().and_then(|patch| patch.value().get("value")).unwrap_or(&Value::Null);
    let limit = match kind {
        "HTTP_FILTER" => value.get("name").and_then(Value::as_str) == Some(FILTER),
        "HTTP_ROUTE" | "VIRTUAL_HOST" | "ROUTE_CONFIGURATION" => {
            value.pointer("/typed_per_filter_config").and_then(|config| config.get(FILTER)).is_some()
        }
        _ => false,
    };
    if !limit {
        // Everything in it is refused.
        let (what, remedy) = meant(kind, value);
        if let Some(field) = object.field("match") {
            field.no_meaning("the patch is refused");
        }
        if let Some(field) = apply_to {
            field.no_meaning("the patch is refused");
        }
        match patch {
            Some(patch) => patch.forbid(what, remedy),
            None => field.problem_here("it has no patch", "leave it out"),
        }
        return;
    }
    if let Some(field) = apply_to {
        field.taken("rateLimits");
    }
    if let Some(field) = object.field("match") {
        let narrow = field.value().pointer("/routeConfiguration/vhost/route/name").is_some()
            || field.value().pointer("/routeConfiguration/vhost/domainName").is_some();
        match narrow {
            true => field.forbid(
                "a limit for some of the routes would hold for all",
                "write it in the policy, under rateLimits, with a match",
            ),
            false => field.taken("rateLimits: for every request of this proxy"),
        }
    }
    let Some(patch) = patch.and_then(|patch| patch.object()) else { return };
    for name in ["operation", "filterClass"] {
        if let Some(field) = patch.field(name) {
            match field.text() {
                Some("REMOVE") => field.forbid("it would take the limit away", "leave the patch out"),
                _ => field.taken("rateLimits: limits come after authorization"),
            }
        }
    }
    let Some(value) = patch.field("value").and_then(|value| value.object()) else { return };
    let name = format!("{}/{limits}", if resource.name.is_empty() { "envoyfilter" } else { &resource.name });
    let mut reader = Reader { name, found: Vec::new(), rules: Vec::new() };
    match kind {
        "HTTP_FILTER" => {
            if let Some(field) = value.field("name") {
                field.taken("rateLimits");
            }
            if let Some(config) = value.field("typed_config") {
                reader.typed(&config);
            }
        }
        _ => {
            if let Some(route) = value.field("route").and_then(|field| field.object())
                && let Some(rules) = route.field("rate_limits")
            {
                reader.rate_limits(&rules);
            }
            if let Some(rules) = value.field("rate_limits") {
                reader.rate_limits(&rules);
            }
            if let Some(configs) = value.field("typed_per_filter_config") {
                for (name, config) in configs.entries() {
                    match name == FILTER {
                        true => reader.typed(&config),
                        false => config.forbid(
                            format!("the settings of {name} for a route are not the policy's"),
                            "leave them out",
                        ),
                    }
                }
            }
        }
    }
    *limits = limits.saturating_add(1);
    if reader.found.is_empty() || !holds(field.value(), resource, cx) {
        return;
    }
    for (place, mut limit) in reader.found.into_iter().enumerate() {
        if place > 0 {
            let name = format!("{}-{place}", limit.get("name").and_then(Value::as_str).unwrap_or_default());
            limit.insert("name".to_owned(), name.into());
        }
        let origin = cx.origin(resource, format!("spec.configPatches[{index}].patch.value"));
        cx.mesh.rate_limits.push((Value::Object(limit), origin));
    }
}

/// Whether a limit holds beside those before it. One for routes holds in place of the filter's own, and that of a route in place
/// of its virtual host's; of two at one place the later one. Filters stand beside each other.
fn holds(patch: &Value, resource: &Resource, cx: &mut Context<'_>) -> bool {
    let in_place = "a patch for something more precise, or a later one, holds in its place";
    let resources = cx.resources;
    let other = |origin: &Origin| {
        let of = resources.get(origin.resource).filter(|of| of.kind == super::ENVOY_FILTER)?;
        let way = origin.path.strip_suffix(".patch.value")?.replace(['.', '['], "/").replace(']', "");
        Some((of, of.value.pointer(&format!("/{way}"))?))
    };
    let mut known = cx.mesh.rate_limits.iter().filter_map(|(_, origin)| other(origin));
    if known.any(|(_, known)| outranks(known, patch)) {
        resource.log.warn("spec.configPatches", in_place, "leave it out");
        return false;
    }
    cx.mesh.rate_limits.retain(|(_, origin)| {
        let Some((of, known)) = other(origin) else { return true };
        let same = rank(patch) > 0 && rank(patch) == rank(known) && patch.get("match") == known.get("match");
        let replaced = same || outranks(patch, known);
        if replaced {
            of.log.warn("spec.configPatches", in_place, "leave it out");
        }
        !replaced
    });
    true
}

fn rank(patch: &Value) -> u8 {
    match patch.get("applyTo").and_then(Value::as_str) {
        Some("HTTP_ROUTE") => 3,
        Some("VIRTUAL_HOST") => 2,
        Some("ROUTE_CONFIGURATION") => 1,
        _ => 0,
    }
}

/// Whether a patch is for all routes, and more precise than another.
fn outranks(patch: &Value, other: &Value) -> bool {
    rank(patch) > rank(other) && patch.pointer("/match/routeConfiguration/vhost/name").is_none()
}

/// What a patch would have done, and what to do in its place.
fn meant(kind: &str, value: &Value) -> (String, String) {
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
    let of = if name.is_empty() { String::new() } else { format!(" {name}") };
    let (what, remedy) = match (kind, name) {
        ("HTTP_FILTER", "envoy.filters.http.ratelimit") => (
            "it would ask a rate limit service".to_owned(),
            "write it in the policy, as rateLimits[].global".to_owned(),
        ),
        ("HTTP_FILTER", "envoy.filters.http.lua") => {
            ("it would run a script on every request".to_owned(), "add the filter in envoy.yaml".to_owned())
        }
        ("HTTP_FILTER", _) => (
            format!("it would add or change the HTTP filter{of}"),
            "add it in envoy.yaml, before meshfilter".to_owned(),
        ),
        ("NETWORK_FILTER", _) => (
            format!("it would change the network filter{of}"),
            "change the connection manager in envoy.yaml".to_owned(),
        ),
        ("CLUSTER", _) => (
            "it would change clusters".to_owned(),
            "use a DestinationRule, or change the cluster in envoy.yaml".to_owned(),
        ),
        ("LISTENER" | "FILTER_CHAIN" | "LISTENER_FILTER", _) => {
            ("it would change listeners".to_owned(), "change the listener in envoy.yaml".to_owned())
        }
        ("HTTP_ROUTE" | "VIRTUAL_HOST" | "ROUTE_CONFIGURATION", _) => (
            "it would change Envoy's routes".to_owned(),
            "use a VirtualService, or change the routes in envoy.yaml".to_owned(),
        ),
        ("BOOTSTRAP", _) => ("it would change the bootstrap".to_owned(), "change envoy.yaml".to_owned()),
        ("EXTENSION_CONFIG", _) => {
            (format!("it would add the extension{of}"), "add the filter in envoy.yaml".to_owned())
        }
        _ => (format!("nothing is known of patches to \"{kind}\""), "change envoy.yaml".to_owned()),
    };
    (what, remedy)
}

/// One patch with a limit.
struct Reader {
    name: String,
    found: Vec<Map<String, Value>>,
    /// What descriptors requests have: one list of entries for each.
    rules: Vec<Vec<DescriptorPart>>,
}

/// One entry of a request's descriptor.
#[derive(Clone, Debug)]
struct DescriptorPart {
    key: String,
    /// Its value, where it is fixed.
    value: Option<String>,
    /// Where it comes from, where it is not.
    source: Option<Value>,
    /// What holds of requests that have it.
    condition: Map<String, Value>,
}

impl Reader {
    /// A typed config: the message itself, or a `TypedStruct` with it.
    fn typed(&mut self, field: &Field<'_>) {
        let Some(object) = field.object() else { return };
        let kind = object.field("@type");
        let name =
            kind.as_ref().and_then(Field::text).unwrap_or_default().rsplit('/').next().unwrap_or_default();
        match name {
            "udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct" => {
                if let Some(field) = kind {
                    field.taken("rateLimits");
                }
                if let Some(field) = object.field("type_url") {
                    match field.text().unwrap_or_default().ends_with(LIMIT) {
                        true => field.taken("rateLimits"),
                        false => field
                            .forbid("this is not the configuration of a local rate limit", "leave it out"),
                    }
                }
                if let Some(value) = object.field("value").and_then(|value| value.object()) {
                    self.limit(&value);
                }
            }
            LIMIT => {
                if let Some(field) = kind {
                    field.taken("rateLimits");
                }
                self.limit(&object);
            }
            _ => {
                if let Some(field) = kind {
                    field.forbid(
                        "this is not the configuration of a local rate limit",
                        format!("it is type.googleapis.com/{LIMIT}"),
                    );
                }
                object.rest(|field| field.no_meaning("its type is another"));
            }
        }
    }

    fn limit(&mut self, object: &Object<'_>) {
        let to = format!("rateLimits[{}]", self.name);
        let mut common = Map::new();
        if let Some(field) = object.field("stat_prefix") {
            field.no_meaning("the entry's name is in the metrics");
        }
        let enabled = share(object, "filter_enabled", &to);
        let enforced = share(object, "filter_enforced", &to);
        match (enabled, enforced) {
            (None, None) if object.has("token_bucket") || object.has("descriptors") => {
                object.log().warn(
                    object.path(),
                    "without filter_enabled and filter_enforced Envoy would never limit; it is taken as if both were 100 %",
                    "set both, or leave the limit out",
                );
            }
            (Some(false), _) | (Some(true), Some(false) | None) => {
                drop(common.insert("mode".to_owned(), "shadow".into()))
            }
            _ => {}
        }
        if let Some(status) = object.field("status").and_then(|field| field.object())
            && let Some(field) = status.field("code")
        {
            // Envoy has names for them, and numbers.
            let number = field.value().as_u64().or_else(|| named_status(field.value().as_str()?));
            match number {
                Some(number) => {
                    common.insert("status".to_owned(), number.into());
                    field.taken(format!("{to}.status"));
                }
                None => drop(field.wrong::<()>("this is no HTTP status; use a number such as 429")),
            }
        }
        if let Some(field) = object.field("enable_x_ratelimit_headers") {
            if field.text() == Some("DRAFT_VERSION_03") {
                common.insert("headers".to_owned(), "draft03".into());
            }
            field.taken(format!("{to}.headers"));
        }
        if let Some(field) = object.field("rate_limited_as_resource_exhausted") {
            if field.flag() == Some(true) {
                common.insert("grpcStatus".to_owned(), "RESOURCE_EXHAUSTED".into());
            }
            field.taken(format!("{to}.grpcStatus"));
        }
        if let Some(field) = object.field("response_headers_to_add") {
            field.refuse(
                "a refusal has the headers of the policy: retry-after and x-ratelimit-*",
                "name the entry in a log or a tag where it has to be told",
            );
        }
        if let Some(field) = object.field("request_headers_to_add_when_not_enforced") {
            field.refuse(
                "a limit in shadow is told in metrics and logs, not in headers",
                "use a telemetry tag",
            );
        }
        for name in ["stage", "vh_rate_limits", "max_dynamic_descriptors", "runtime_key"] {
            if let Some(field) = object.field(name) {
                field.no_meaning("it is about Envoy's own filter");
            }
        }
        if let Some(field) = object.field("local_rate_limit_per_downstream_connection") {
            match field.flag() {
                Some(true) => field
                    .forbid("a bucket for each connection would be one for all", "use a key in rateLimits"),
                _ => field.taken(&to),
            }
        }
        if let Some(field) = object.field("local_cluster_rate_limit") {
            field.forbid("a share of a fleet's limit would be all of it", "use rateLimits[].global");
        }
        if let Some(rules) = object.field("rate_limits") {
            self.rate_limits(&rules);
        }
        let always = match object.field("always_consume_default_token_bucket") {
            Some(field) => {
                field.taken(&to);
                field.flag() != Some(false)
            }
            None => true,
        };
        let bucket = object.field("token_bucket").and_then(|field| bucket(&field, &to));
        let mut matched = Vec::new();
        for (index, field) in
            object.field("descriptors").into_iter().flat_map(|list| list.items()).enumerate()
        {
            self.descriptor(&field, index, &common, &mut matched);
        }
        if let Some(bucket) = bucket {
            if !always && !matched.is_empty() {
                object.log().error(
                    object.path(),
                    "always_consume_default_token_bucket: false asks for a bucket of what no descriptor has",
                    "write it in the policy, under rateLimits, with a match",
                );
            }
            let mut limit = common;
            limit.insert("name".to_owned(), self.name.clone().into());
            limit.insert("tokenBucket".to_owned(), bucket);
            self.found.push(limit);
        }
    }

    /// A descriptor with its bucket: an entry for every way in which a request can have it.
    fn descriptor(
        &mut self,
        field: &Field<'_>,
        index: usize,
        common: &Map<String, Value>,
        matched: &mut Vec<usize>,
    ) {
        let Some(object) = field.object() else { return };
        let to = format!("rateLimits[{}-{index}]", self.name);
        let mut wanted: Vec<(String, String)> = Vec::new();
        for entry in object.field("entries").into_iter().flat_map(|entries| entries.items()) {
            let Some(entry) = entry.object() else { continue };
            let text = |name: &'static str| -> Option<String> {
                let field = entry.field(name)?;
                let text = field.text()?;
                field.taken(&to);
                Some(text.to_owned())
            };
            wanted.push((text("key").unwrap_or_default(), text("value").unwrap_or_default()));
        }
        let Some(bucket) = object.field("token_bucket").and_then(|field| self::bucket(&field, &to)) else {
            return;
        };
        if let Some(field) = object.field("shadow_mode") {
            field.taken(format!("{to}.mode"));
        }
        let shadow = object.peek("shadow_mode").is_some_and(|field| field.value() == &json!(true));
        let mut ways = Vec::new();
        for rule in &self.rules {
            ways.extend(way(rule, &wanted));
        }
        if ways.is_empty() {
            field.forbid(
                "no rate_limits of this patch give requests this descriptor: the limit would never hold",
                "put the rate_limits with its actions beside it",
            );
            return;
        }
        matched.push(index);
        for (conditions, key) in ways {
            let mut limit = common.clone();
            limit.insert("name".to_owned(), format!("{}-descriptor-{index}", self.name).into());
            if !conditions.is_empty() {
                limit.insert("match".to_owned(), json!([conditions]));
            }
            if !key.is_empty() {
                limit.insert("key".to_owned(), Value::Array(key));
            }
            limit.insert("tokenBucket".to_owned(), bucket.clone());
            if shadow {
                limit.insert("mode".to_owned(), "shadow".into());
            }
            self.found.push(limit);
        }
    }

    /// `rate_limits`: what descriptors requests have.
    fn rate_limits(&mut self, field: &Field<'_>) {
        for rule in field.items() {
            let Some(object) = rule.object() else { continue };
            for name in ["stage", "disable_key"] {
                if let Some(field) = object.field(name) {
                    field.no_meaning("it is about Envoy's own filter");
                }
            }
            let mut parts = Vec::new();
            let mut known = true;
            for field in object.field("actions").into_iter().flat_map(|actions| actions.items()) {
                match part(&field) {
                    Some(part) => parts.push(part),
                    None => known = false,
                }
            }
            if known && !parts.is_empty() {
                self.rules.push(parts);
            }
        }
    }
}

type Way = (Map<String, Value>, Vec<Value>);

/// What requests have to be like, and what is their key, so that a rule gives them a descriptor; `None` where it does not.
fn way(rule: &[DescriptorPart], wanted: &[(String, String)]) -> Option<Way> {
    if rule.len() != wanted.len() {
        return None;
    }
    let (mut conditions, mut key) = (Map::new(), Vec::new());
    for (part, (name, value)) in rule.iter().zip(wanted) {
        if part.key != *name {
            return None;
        }
        match (&part.value, &part.source) {
            (Some(fixed), _) if fixed == value || value.is_empty() => {}
            (Some(_), _) => return None,
            (None, Some(source)) if value.is_empty() => key.push(source.clone()),
            (None, Some(source)) => put(&mut conditions, condition(source, value)?),
            (None, None) => return None,
        }
        put(&mut conditions, part.condition.clone());
    }
    Some((conditions, key))
}

/// What requests are like whose value from a source is this.
fn condition(source: &Value, value: &str) -> Option<Map<String, Value>> {
    let condition = if let Some(header) = source.get("header").and_then(Value::as_str) {
        json!({"headers": {header: {"exact": value}}})
    } else if source.get("path").is_some() {
        json!({"uri": {"exact": value}})
    } else if source.get("method").is_some() {
        json!({"method": {"exact": value}})
    } else if let Some(parameter) = source.get("queryParam").and_then(Value::as_str) {
        json!({"queryParams": {parameter: {"exact": value}}})
    } else if source.get("remoteAddress").is_some() {
        json!({"remoteIpBlocks": [value]})
    } else {
        return None;
    };
    condition.as_object().cloned()
}

/// Lays conditions over others; those on headers are put together.
fn put(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (name, value) in over {
        match (under.get_mut(&name), &value) {
            (Some(Value::Object(under)), Value::Object(over)) => {
                under.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            _ => drop(under.insert(name, value)),
        }
    }
}

/// One action.
fn part(field: &Field<'_>) -> Option<DescriptorPart> {
    let object = field.object()?;
    let to = "rateLimits: key and match";
    let mut part = DescriptorPart { key: String::new(), value: None, source: None, condition: Map::new() };
    let text = |object: &Object<'_>, name: &'static str| -> Option<String> {
        let field = object.field(name)?;
        let text = field.text()?;
        field.taken(to);
        Some(text.to_owned())
    };
    if let Some(field) = object.field("remote_address") {
        field.taken(to);
        part.key = "remote_address".to_owned();
        part.source = Some(json!({"remoteAddress": {}}));
    } else if let Some(of) = object.field("generic_key").and_then(|field| field.object()) {
        part.value = text(&of, "descriptor_value");
        part.key = text(&of, "descriptor_key").unwrap_or_else(|| "generic_key".to_owned());
    } else if let Some(of) = object.field("request_headers").and_then(|field| field.object()) {
        part.key = text(&of, "descriptor_key").unwrap_or_default();
        let name = text(&of, "header_name").unwrap_or_default().to_ascii_lowercase();
        if let Some(field) = of.field("skip_if_absent") {
            field.taken(to);
        }
        part.source = Some(match name.as_str() {
            ":path" => json!({"path": true}),
            ":method" => json!({"method": true}),
            _ => json!({ "header": name }),
        });
    } else if let Some(of) = object.field("query_parameters").and_then(|field| field.object()) {
        part.key = text(&of, "descriptor_key").unwrap_or_else(|| "query_match".to_owned());
        part.source = Some(json!({"queryParam": text(&of, "query_parameter_name").unwrap_or_default()}));
        if let Some(field) = of.field("skip_if_absent") {
            field.taken(to);
        }
    } else if let Some(of) = object.field("header_value_match").and_then(|field| field.object()) {
        part.value = text(&of, "descriptor_value");
        part.key = text(&of, "descriptor_key").unwrap_or_else(|| "header_match".to_owned());
        if let Some(field) = of.field("expect_match") {
            match field.flag() {
                Some(false) => {
                    field.forbid(
                        "a descriptor of those that do not match is not made",
                        "write it in the policy, under rateLimits",
                    );
                    return None;
                }
                _ => field.taken(to),
            }
        }
        for field in of.field("headers").into_iter().flat_map(|headers| headers.items()) {
            put(&mut part.condition, header_match(&field, to)?);
        }
    } else {
        object.rest(|field| {
            field.forbid(
                "this action has no place in the policy: the limit would hold for others",
                "write it in the policy, under rateLimits",
            )
        });
        return None;
    }
    Some(part)
}

/// Envoy's HeaderMatcher as a condition of a match.
fn header_match(field: &Field<'_>, to: &str) -> Option<Map<String, Value>> {
    let object = field.object()?;
    let name = object.field("name")?;
    name.taken(to);
    let header = name.text()?.to_ascii_lowercase();
    let mut wanted = Map::new();
    let mut ignore_case = false;
    let mut inverted = false;
    if let Some(strings) = object.field("string_match").and_then(|field| field.object()) {
        for kind in ["exact", "prefix", "suffix", "contains"] {
            if let Some(field) = strings.field(kind) {
                wanted.insert(kind.to_owned(), field.text()?.into());
                field.taken(to);
            }
        }
        if let Some(regex) = strings.field("safe_regex").and_then(|field| field.object()) {
            if let Some(field) = regex.field("regex") {
                wanted.insert("regex".to_owned(), field.text()?.into());
                field.taken(to);
            }
            regex.rest(|field| field.no_meaning("there is one engine"));
        }
        if let Some(field) = strings.field("ignore_case") {
            ignore_case = field.flag()?;
            field.taken(to);
        }
    }
    for (old, kind) in [
        ("exact_match", "exact"),
        ("prefix_match", "prefix"),
        ("suffix_match", "suffix"),
        ("contains_match", "contains"),
    ] {
        if let Some(field) = object.field(old) {
            wanted.insert(kind.to_owned(), field.text()?.into());
            field.taken(to);
        }
    }
    if let Some(field) = object.field("present_match") {
        wanted.insert("present".to_owned(), field.flag()?.into());
        field.taken(to);
    }
    if let Some(field) = object.field("invert_match") {
        inverted = field.flag()?;
        field.taken(to);
    }
    let wanted = Value::Object(wanted);
    let condition = match (header.as_str(), inverted, ignore_case) {
        (":path", false, _) => json!({"uri": wanted, "ignoreUriCase": ignore_case}),
        (":method", false, false) => json!({"method": wanted}),
        (":authority" | "host", false, false) => json!({"authority": wanted}),
        (_, true, false) => json!({"withoutHeaders": {header: wanted}}),
        (_, false, false) => json!({"headers": {header: wanted}}),
        _ => {
            field.forbid(
                "this condition has no place in the policy",
                "write it in the policy, under rateLimits",
            );
            return None;
        }
    };
    let mut condition = condition.as_object().cloned()?;
    if condition.get("ignoreUriCase") == Some(&json!(false)) {
        condition.remove("ignoreUriCase");
    }
    Some(condition)
}

/// `filter_enabled` and `filter_enforced`: all or none; a share has no place in the policy.
fn share(object: &Object<'_>, name: &'static str, to: &str) -> Option<bool> {
    let field = object.field(name)?;
    let share = field.object()?;
    if let Some(field) = share.field("runtime_key") {
        field.no_meaning("the policy has no runtime keys");
    }
    let default = share.field("default_value")?;
    let value = default.object()?;
    let numerator = value.field("numerator").and_then(|field| {
        let number = field.whole(0, u32::MAX.into())?;
        field.taken(format!("{to}.mode"));
        Some(number)
    });
    let all = match value.field("denominator") {
        Some(field) => {
            field.taken(format!("{to}.mode"));
            match field.text()? {
                "TEN_THOUSAND" => 10_000,
                "MILLION" => 1_000_000,
                _ => 100,
            }
        }
        None => 100,
    };
    match numerator.unwrap_or_default() {
        0 => Some(false),
        number if number >= all => Some(true),
        _ => {
            default.forbid("a limit for a share of the requests is none", "use 0 or 100 %");
            None
        }
    }
}

fn bucket(field: &Field<'_>, to: &str) -> Option<Value> {
    let object = field.object()?;
    let mut bucket = Map::new();
    for (envoy, name) in [("max_tokens", "maxTokens"), ("tokens_per_fill", "tokensPerFill")] {
        if let Some(field) = object.field(envoy) {
            bucket.insert(name.to_owned(), field.whole(1, u32::MAX.into())?.into());
            field.taken(format!("{to}.tokenBucket.{name}"));
        }
    }
    if let Some(field) = object.field("fill_interval") {
        field.span()?;
        bucket.insert("fillInterval".to_owned(), field.value().clone());
        field.taken(format!("{to}.tokenBucket.fillInterval"));
    }
    Some(Value::Object(bucket))
}

/// Envoy's names of statuses, those that a refusal may have.
fn named_status(name: &str) -> Option<u64> {
    Some(match name {
        "BadRequest" => 400,
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "NotFound" => 404,
        "TooManyRequests" => 429,
        "InternalServerError" => 500,
        "BadGateway" => 502,
        "ServiceUnavailable" => 503,
        _ => return None,
    })
}
