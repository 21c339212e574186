//! What a policy does, in a table, and requests to try it with.

use std::fmt::Write;

use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

/// The widest cell.
const WIDTH: usize = 60;

/// One line for everything that decides, in the order in which it does.
pub fn table(policy: &Value) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row =
        |stage: &str, name: String, what: String| rows.push([stage.to_owned(), cut(name), cut(what)]);
    for (index, rule) in list(policy, "/authentication/jwtRules").enumerate() {
        let issuer = text(rule, "issuer").unwrap_or("several issuers");
        let name = text(rule, "name").or(text(rule, "issuer"));
        let name = name.map_or_else(|| format!("jwtRules[{index}]"), str::to_owned);
        row("authenticate", name, format!("tokens of {issuer}, {}", keys(rule)));
    }
    for (index, requirement) in list(policy, "/authentication/requirements").enumerate() {
        let need = match requirement.get("require") {
            Some(Value::String(word)) => word.clone(),
            Some(tree) => tree.to_string(),
            None => "any".to_owned(),
        };
        row("authenticate", format!("requirements[{index}]"), format!("{}: {need}", matches(requirement)));
    }
    if policy.pointer("/authentication/jwtRules").is_some()
        && list(policy, "/authentication/requirements").next().is_none()
    {
        row("authenticate", "-".to_owned(), "every request: a token is needed".to_owned());
    }
    for (index, entry) in list(policy, "/authorization").enumerate() {
        let action = text(entry, "action").unwrap_or("ALLOW");
        let rules = list(entry, "/rules").count();
        let what = format!("{action} by {rules} {}", if rules == 1 { "rule" } else { "rules" });
        row("authorize", named(entry, "authorization", index), what + shadow(entry));
    }
    for (index, entry) in list(policy, "/http").enumerate() {
        let what = format!("{} → {}", matches(entry), outcome(entry));
        row("route", named(entry, "http", index), what);
        if let Some(fault) = entry.get("fault") {
            row("fault", named(entry, "http", index), faults(fault) + shadow(fault));
        }
    }
    for (index, entry) in list(policy, "/rateLimits").enumerate() {
        row("limit", named(entry, "rateLimits", index), limit(entry) + shadow(entry));
    }
    for tag in list(policy, "/telemetry/tags") {
        let source = tag.get("value").map_or_else(String::new, source);
        let places: Vec<&str> = list(tag, "/in").filter_map(Value::as_str).collect();
        let places = if places.is_empty() { "metrics, logs".to_owned() } else { places.join(", ") };
        row("tell", text(tag, "name").unwrap_or_default().to_owned(), format!("{source} in {places}"));
    }
    if rows.is_empty() {
        return "  nothing: every request passes\n".to_owned();
    }
    aligned(&rows)
}

fn aligned(rows: &[[String; 3]]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or_default()
    };
    let (first, second) = (width(0), width(1));
    let mut out = String::new();
    for [stage, name, what] in rows {
        let pad = |text: &str, width: usize| " ".repeat(width.saturating_sub(text.width()));
        let _ = writeln!(out, "  {stage}{}  {name}{}  {what}", pad(stage, first), pad(name, second));
    }
    out
}

/// Three requests to try: those that the policy's own matches describe, and what everybody sends.
pub fn requests(policy: &Value, base: &str) -> Vec<String> {
    let entries = list(policy, "/http").chain(list(policy, "/rateLimits"));
    let described = entries.flat_map(|entry| {
        let of = move |matching: &Value| {
            let (options, path) = request(matching)?;
            let host = if matching.get("authority").is_some() { String::new() } else { host(entry) };
            Some((host + &options, path))
        };
        list(entry, "/match").filter_map(of)
    });
    let rules = list(policy, "/authentication/jwtRules").take(1);
    let with_token = rules.map(|_| (String::from(" -H 'authorization: Bearer TOKEN'"), "/".to_owned()));
    // Where every entry has its hosts, nobody else comes anywhere.
    let bound = list(policy, "/http").all(|entry| !host(entry).is_empty());
    let usual_host = list(policy, "/http").next().filter(|_| bound).map(host).unwrap_or_default();
    let usual = ["/", "/api/orders", "/?debug=1"].map(|path| (usual_host.clone(), path.to_owned()));
    let [first, rest @ ..] = usual;
    // Who made the certificate is not known to the system, as a rule.
    let trusting = if base.starts_with("https:") { " -k" } else { "" };
    let mut lines: Vec<String> = Vec::new();
    for (options, path) in [first].into_iter().chain(described).chain(with_token).chain(rest) {
        let line = match path.contains(['?', '&', ' ', '\'']) {
            true => format!("curl -i{trusting}{options} '{base}{path}'"),
            false => format!("curl -i{trusting}{options} {base}{path}"),
        };
        if !lines.contains(&line) && lines.len() < 3 {
            lines.push(line);
        }
    }
    lines
}

/// The option for the first host of an entry.
fn host(entry: &Value) -> String {
    let safe =
        |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'));
    let first = list(entry, "/hosts").filter_map(Value::as_str).find(safe);
    first.map(|host| format!(" -H 'host: {host}'")).unwrap_or_default()
}

/// The options and the path of a request that a match takes; `None` where that cannot be told.
fn request(matching: &Value) -> Option<(String, String)> {
    const HARD: [&str; 6] = ["claims", "scheme", "port", "remoteIpBlocks", "notRemoteIpBlocks", "cookies"];
    if HARD.iter().any(|member| matching.get(member).is_some()) {
        return None;
    }
    let mut options = String::new();
    if let Some(method) = matching.get("method") {
        let _ = write!(options, " -X {}", value(method)?);
    }
    if let Some(host) = matching.get("authority") {
        let _ = write!(options, " -H 'host: {}'", value(host)?);
    }
    for (name, header) in members(matching, "headers") {
        // What stands for a claim is no header.
        if name.starts_with('@') {
            return None;
        }
        let _ = write!(options, " -H '{name}: {}'", value(header)?);
    }
    let mut path = matching.get("uri").map_or_else(|| Some("/".to_owned()), value)?;
    for (index, (name, parameter)) in members(matching, "queryParams").enumerate() {
        let _ = write!(path, "{}{name}={}", if index == 0 { '?' } else { '&' }, value(parameter)?);
    }
    let safe =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && !text.contains("\\");
    let bare = options.replace(" -H '", "").replace("' ", "");
    (safe(&path) && path.starts_with('/') && safe(&bare) && bare.matches('\'').count() <= 1)
        .then_some((options, path))
}

/// A value that a match takes.
fn value(matching: &Value) -> Option<String> {
    let member = |name: &str| text(matching, name);
    let text = member("exact").or_else(|| member("prefix")).or_else(|| member("pathPrefix"));
    let text = text.or_else(|| member("suffix")).or_else(|| member("contains"));
    let any = matching.as_object().is_some_and(Map::is_empty)
        || matching.get("present").and_then(Value::as_bool) == Some(true);
    text.map(str::to_owned).or_else(|| any.then(|| "x".to_owned()))
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn members<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn named(entry: &Value, section: &str, index: usize) -> String {
    text(entry, "name").map_or_else(|| format!("{section}[{index}]"), str::to_owned)
}

fn shadow(entry: &Value) -> &'static str {
    if text(entry, "mode") == Some("shadow") { ", in shadow" } else { "" }
}

fn keys(rule: &Value) -> String {
    match (text(rule, "jwksUri"), text(rule, "jwksFromEnvironment"), rule.get("jwks")) {
        (Some(uri), ..) => format!("keys from {uri}"),
        (_, Some(variable), _) => format!("keys from ${variable}"),
        (_, _, Some(_)) => "keys inline".to_owned(),
        _ => "keys by discovery".to_owned(),
    }
}

/// Which requests an entry is for.
fn matches(entry: &Value) -> String {
    let each: Vec<String> = list(entry, "/match").map(conditions).collect();
    let mut all = if each.is_empty() { "every request".to_owned() } else { each.join(" or ") };
    let hosts: Vec<&str> = list(entry, "/hosts").filter_map(Value::as_str).collect();
    if !hosts.is_empty() {
        let _ = write!(all, " for {}", hosts.join(", "));
    }
    all
}

fn conditions(matching: &Value) -> String {
    let mut parts = Vec::new();
    for (name, condition) in matching.as_object().into_iter().flatten() {
        match name.as_str() {
            "uri" | "method" => parts.push(pattern(condition)),
            "headers" | "queryParams" | "cookies" | "claims" => {
                let mark = if name == "queryParams" { "?" } else { "" };
                for (member, condition) in condition.as_object().into_iter().flatten() {
                    let colon = if name == "queryParams" { "=" } else { ": " };
                    parts.push(format!("{mark}{member}{colon}{}", pattern(condition)));
                }
            }
            "withoutHeaders" => {
                let names = condition.as_object().into_iter().flatten().map(|(name, _)| format!("no {name}"));
                parts.extend(names);
            }
            "name" | "ignoreUriCase" => {}
            _ => parts.push(format!("{name} {}", pattern(condition))),
        }
    }
    if parts.is_empty() { "every request".to_owned() } else { parts.join(" and ") }
}

fn pattern(condition: &Value) -> String {
    let member = |name: &str| text(condition, name);
    if let Some(exact) = member("exact") {
        return exact.to_owned();
    }
    if let Some(prefix) = member("prefix").or(member("pathPrefix")) {
        return format!("{prefix}*");
    }
    match (member("suffix"), member("contains"), member("regex"), condition) {
        (Some(suffix), ..) => format!("*{suffix}"),
        (_, Some(part), ..) => format!("*{part}*"),
        (_, _, Some(regex), _) => format!("~{regex}"),
        (.., Value::Object(_)) => "*".to_owned(),
        (.., other) => other.to_string(),
    }
}

/// What becomes of an entry's requests.
fn outcome(entry: &Value) -> String {
    if let Some(status) = entry.pointer("/directResponse/status") {
        return format!("answered with {status}");
    }
    if let Some(redirect) = entry.get("redirect") {
        let code = redirect.get("redirectCode").map_or_else(|| "301".to_owned(), Value::to_string);
        return format!("redirected with {code}");
    }
    let weight = |route: &Value| route.get("weight").and_then(Value::as_f64).unwrap_or(0.0);
    let sum: f64 = list(entry, "/route").map(weight).sum();
    let arms: Vec<String> = list(entry, "/route")
        .map(|route| {
            let name = destination(route.get("destination").unwrap_or(&Value::Null));
            match sum > 0.0 {
                true => format!("{name} {:.4} %", weight(route) * 100.0 / sum).replace(".0000 %", " %"),
                false => name,
            }
        })
        .collect();
    let mut all = if arms.is_empty() { "where Envoy's own routes lead".to_owned() } else { arms.join(", ") };
    if let Some((kind, what)) =
        entry.get("sticky").and_then(Value::as_object).and_then(|sticky| sticky.iter().next())
    {
        let name = text(what, "name").or(what.as_str()).unwrap_or_default();
        let _ = write!(all, ", kept by {}", format!("{kind} {name}").trim_end());
    }
    let copies = entry
        .get("mirror")
        .into_iter()
        .chain(list(entry, "/mirrors").filter_map(|mirror| mirror.get("destination")));
    for copy in copies {
        let _ = write!(all, ", copied to {}", destination(copy));
    }
    all
}

fn destination(value: &Value) -> String {
    match (text(value, "host"), text(value, "subset")) {
        (Some(host), Some(subset)) => format!("{host}|{subset}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => text(value, "cluster").unwrap_or("?").to_owned(),
    }
}

fn faults(fault: &Value) -> String {
    let share = |part: &Value| {
        let value = part.pointer("/percentage/value").or(part.get("percent"));
        value.map_or_else(|| "0".to_owned(), Value::to_string).trim_end_matches(".0").to_owned()
    };
    let mut parts = Vec::new();
    if let Some(delay) = fault.get("delay") {
        let length = text(delay, "fixedDelay").unwrap_or("for a drawn time");
        parts.push(format!("{} % wait {length}", share(delay)));
    }
    if let Some(abort) = fault.get("abort") {
        let with = abort.get("httpStatus").or(abort.get("grpcStatus"));
        let with = with.map_or_else(|| "a reset".to_owned(), |status| status.to_string().replace('"', ""));
        parts.push(format!("{} % end with {with}", share(abort)));
    }
    if parts.is_empty() { "as x-envoy-fault-* headers say".to_owned() } else { parts.join(", ") }
}

fn limit(entry: &Value) -> String {
    let keys: Vec<String> = list(entry, "/key").map(source).collect();
    let each = if keys.is_empty() { String::new() } else { format!(" for each {}", keys.join(" and ")) };
    let number = |name: &str| entry.pointer(name).map_or_else(|| "1".to_owned(), Value::to_string);
    let mut parts = Vec::new();
    if let Some(bucket) = entry.get("tokenBucket") {
        let interval = text(bucket, "fillInterval").unwrap_or("1s");
        parts.push(format!(
            "{} at once, {} every {interval}{each}",
            number("/tokenBucket/maxTokens"),
            number("/tokenBucket/tokensPerFill")
        ));
    }
    if let Some(cluster) = entry.pointer("/global/cluster").and_then(Value::as_str) {
        parts.push(format!("as {cluster} says"));
    }
    parts.join(", ")
}

/// `header x-tenant`, `claim sub`, `path`.
fn source(value: &Value) -> String {
    let member = value.as_object().and_then(|map| map.iter().find(|(name, _)| *name != "default"));
    match member {
        Some((kind, Value::String(name))) => format!("{kind} {name}"),
        Some((kind, _)) => kind.clone(),
        None => "?".to_owned(),
    }
}

fn cut(text: String) -> String {
    if text.chars().count() <= WIDTH {
        return text;
    }
    let mut short: String = text.chars().take(WIDTH.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_policy_has_its_line() {
        let policy = json!({
            "authentication": {"jwtRules": [{"issuer": "https://a.example", "jwks": {}}]},
            "authorization": [{"name": "readers", "action": "DENY", "rules": [{}], "mode": "shadow"}],
            "http": [
                {"name": "canary", "match": [{"headers": {"canary": {"exact": "true"}}, "uri": {"prefix": "/a/"}}],
                 "fault": {"delay": {"percentage": {"value": 50}, "fixedDelay": "5s"}},
                 "route": [{"destination": {"host": "w", "subset": "v2"}}]},
                {"route": [{"destination": {"host": "w"}, "weight": 90}, {"destination": {"cluster": "c"}, "weight": 10}],
                 "sticky": {"cookie": {"name": "arm"}}, "mirror": {"host": "m"}},
                {"directResponse": {"status": 204}},
            ],
            "rateLimits": [{"name": "users", "key": [{"claim": "sub"}],
                "tokenBucket": {"maxTokens": 5, "tokensPerFill": 1, "fillInterval": "1s"}}],
            "telemetry": {"tags": [{"name": "tenant", "value": {"header": "x-tenant"}, "in": ["logs"]}]},
        });
        let expected = "  \
  authenticate  https://a.example  tokens of https://a.example, keys inline
  authenticate  -                  every request: a token is needed
  authorize     readers            DENY by 1 rule, in shadow
  route         canary             canary: true and /a/* → w|v2
  fault         canary             50 % wait 5s
  route         http[1]            every request → w 90 %, c 10 %, kept by cookie arm, copied …
  route         http[2]            every request → answered with 204
  limit         users              5 at once, 1 every 1s for each claim sub
  tell          tenant             header x-tenant in logs
";
        assert_eq!(table(&policy), expected);
        assert_eq!(table(&json!({})), "  nothing: every request passes\n");
    }

    #[test]
    fn requests_are_those_that_the_policy_speaks_of() {
        let base = "http://127.0.0.1:10000";
        let policy = json!({"http": [
            {"match": [{"headers": {"canary": {"exact": "true"}}}]},
            {"match": [{"uri": {"regex": "/x+"}}, {"method": {"exact": "POST"}, "uri": {"prefix": "/a"},
                "queryParams": {"q": {"exact": "1"}}}]},
        ]});
        assert_eq!(
            requests(&policy, base),
            [
                "curl -i http://127.0.0.1:10000/",
                "curl -i -H 'canary: true' http://127.0.0.1:10000/",
                "curl -i -X POST 'http://127.0.0.1:10000/a?q=1'",
            ]
        );
        assert_eq!(requests(&json!({}), base).len(), 3);
        assert_eq!(requests(&json!({}), "https://a")[0], "curl -i -k https://a/");
        let claim =
            json!({"http": [{"match": [{"headers": {"@request.auth.claims.groups": {"exact": "beta"}}}]}]});
        assert!(requests(&claim, base).iter().all(|line| !line.contains('@')));
        let hosts =
            json!({"http": [{"hosts": ["*.a.example", "a.example"], "match": [{"uri": {"exact": "/x"}}]}]});
        assert_eq!(
            requests(&hosts, base),
            [
                "curl -i -H 'host: a.example' http://127.0.0.1:10000/",
                "curl -i -H 'host: a.example' http://127.0.0.1:10000/x",
                "curl -i -H 'host: a.example' http://127.0.0.1:10000/api/orders",
            ]
        );
        // What could mean something else to a shell is left out.
        let odd = json!({"http": [{"match": [{"headers": {"a": {"exact": "'; ls '"}}}]}]});
        assert!(requests(&odd, base).iter().all(|line| !line.contains("ls")));
    }
}
