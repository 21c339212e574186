//! What telemetry's tags have written into the access log: parts of the request, and what was decided about it.

use serde_json::{Map, Value};

use super::Recorded;
use crate::member::member;
use crate::proxy::Request;

/// The names that a policy's tags have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The tag with the entry of `http`.
    pub route: String,
    /// The tag with what was decided.
    pub decision: String,
    /// The tag with the destination.
    pub destination: String,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            route: "route".to_owned(),
            decision: "decision".to_owned(),
            destination: "destination".to_owned(),
        }
    }
}

/// The decision behind Envoy's details of a response, where no tag tells it. Details that the filter never gives are those of
/// requests that it let pass.
pub fn decision(details: &str, status: Option<u64>) -> Option<String> {
    let decision = match details {
        _ if details.starts_with("jwt_authn_access_denied") => "authn_denied",
        _ if details.starts_with("rbac_access_denied") => "authz_denied",
        "meshfilter_ambiguous_path" | "meshfilter_path_rewrite" => "authz_denied",
        "local_rate_limited"
        | "request_rate_limited"
        | "rate_limiter_error"
        | "meshfilter_rate_limit_unavailable" => "rate_limited",
        "fault_filter_abort" => "fault_aborted",
        "direct_response" if status.is_some_and(|status| (300..400).contains(&status)) => "redirected",
        "direct_response" | "cors_response" => "direct_response",
        _ => "allowed",
    };
    Some(decision.to_owned())
}

/// The tags of a policy, to read its log by.
#[derive(Debug, Default)]
pub struct Tags {
    /// Tags whose values are a part of the request.
    sources: Vec<Tag>,
    /// What the policy calls route, decision and destination.
    pub names: Names,
}

#[derive(Debug)]
struct Tag {
    name: String,
    source: Source,
    /// What the tag says where there is nothing.
    default: Option<String>,
}

/// Where a tag's value came from.
#[derive(Debug)]
enum Source {
    Header(String),
    Claim(Vec<String>),
    Cookie(String),
    Query(String),
}

/// What the log says was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// A decision of the metrics.
    pub decision: String,
    /// None: no response began.
    pub status: Option<u16>,
}

impl Logged {
    /// What was decided otherwise, if it was. What was drawn is no difference, nor what stood in a bucket: neither is in the log.
    pub fn differs(&self, decision: &str) -> bool {
        let by_chance = |decision: &str| matches!(decision, "fault_aborted" | "rate_limited");
        self.decision != decision && !by_chance(&self.decision) && !by_chance(decision)
    }
}

impl Tags {
    /// The tags of this policy.
    pub fn of(policy: &Value) -> Self {
        let tags = member(member(policy, "telemetry"), "tags").as_array().map_or(&[][..], Vec::as_slice);
        Tags { sources: tags.iter().filter_map(source).collect(), names: names(tags) }
    }

    /// Puts what the line's tags say of the request into it.
    pub fn fill(&self, recorded: &mut Recorded) {
        let Some(line) = recorded.line.take() else { return };
        let known = recorded.claims.as_ref().is_some_and(|claims| !claims.is_empty());
        let mut claims = Map::new();
        for tag in &self.sources {
            if let Some(value) = text(&line, &tag.name)
                && Some(&value) != tag.default.as_ref()
            {
                tag.source.put(&unescaped(&value), &mut recorded.request, &mut claims);
            }
        }
        if !known && !claims.is_empty() {
            recorded.claims = Some(claims);
        }
        recorded.line = Some(line);
    }

    /// What the log says was decided; none: it does not.
    pub fn logged(&self, recorded: &Recorded) -> Option<Logged> {
        let line = recorded.line.as_ref()?;
        let status = match line.get("status") {
            Some(Value::String(text)) => text.parse().ok(),
            other => other.and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok()),
        };
        let decision = text(line, &self.names.decision).or_else(|| {
            let details = text(line, "details")?;
            decision(&details, status.map(u64::from))
        })?;
        Some(Logged { decision, status: status.filter(|status| *status > 0) })
    }

    /// Whether a tag tells this, as [`looked_at`] names it.
    fn tells(&self, what: &str) -> bool {
        self.sources.iter().any(|tag| tag.source.words() == what)
    }
}

/// What a policy looks at and the lines of its log do not have, where they have no `headers` and no `claims` of their own.
pub fn not_recorded(policy: &Value, tags: &Tags) -> Vec<String> {
    let mut all = Vec::new();
    let (rules, limits) = (member(policy, "authorization"), member(policy, "rateLimits"));
    let requirements = member(member(policy, "authentication"), "requirements");
    for part in [rules, limits, requirements, member(policy, "http")] {
        looked_at(part, &mut all);
    }
    all.retain(|what| !tags.tells(what));
    all.sort();
    all.dedup();
    all
}

/// The headers, cookies, parameters and claims that conditions and keys name.
fn looked_at(value: &Value, all: &mut Vec<String>) {
    const HAD: [&str; 3] = ["host", "x-forwarded-for", "x-forwarded-proto"];
    let mut add = |kind: &str, name: &str| {
        let name = if kind == "header" { name.to_ascii_lowercase() } else { name.to_owned() };
        // The log has these by themselves.
        let has = name.starts_with(':') || (kind == "header" && HAD.contains(&name.as_str()));
        if !has {
            all.push(format!("{kind} {name}"));
        }
    };
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                match (name.as_str(), inner) {
                    ("key" | "header" | "cookie" | "queryParam" | "claim", Value::String(text)) => {
                        let kind = match name.as_str() {
                            "key" => "",
                            "queryParam" => "parameter",
                            kind => kind,
                        };
                        if kind == "claim" {
                            add(kind, &claim_path(text).join("."));
                        } else if !kind.is_empty() {
                            add(kind, text);
                        } else if let Some(name) = inside(text, "request.headers[") {
                            add("header", name);
                        } else if let Some(path) = text.strip_prefix("request.auth.claims") {
                            add("claim", &claim_path(path).join("."));
                        }
                    }
                    ("headers" | "withoutHeaders", Value::Object(matches)) if !is_change(matches) => {
                        for name in matches.keys() {
                            match name.to_ascii_lowercase().strip_prefix("@request.auth.claims") {
                                Some(_) => {
                                    let path = name.get("@request.auth.claims".len()..).unwrap_or_default();
                                    add("claim", &claim_path(path.trim_start_matches('.')).join("."));
                                }
                                None => add("header", name),
                            }
                        }
                    }
                    ("queryParams" | "withoutQueryParams", Value::Object(matches)) => {
                        matches.keys().for_each(|name| add("parameter", name));
                    }
                    ("cookies" | "withoutCookies", Value::Object(matches)) => {
                        matches.keys().for_each(|name| add("cookie", name));
                    }
                    ("claims" | "withoutClaims", Value::Object(matches)) => {
                        matches.keys().for_each(|name| add("claim", &claim_path(name).join(".")));
                    }
                    _ => {}
                }
            }
            members.values().for_each(|inner| looked_at(inner, all));
        }
        Value::Array(list) => list.iter().for_each(|inner| looked_at(inner, all)),
        _ => {}
    }
}

/// `headers` of a route say what is set, not what is matched.
fn is_change(members: &Map<String, Value>) -> bool {
    members.contains_key("request") || members.contains_key("response")
}

fn inside<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(']')
}

/// A text, a number or a truth value; a tag that has the name of a field is `tag.NAME`.
fn text(line: &Value, name: &str) -> Option<String> {
    let of = |name: &str| match line.get(name)? {
        Value::String(text) if text == "-" => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    of(&format!("tag.{name}")).or_else(|| of(name))
}

/// The part of a request that a tag's value is.
fn source(tag: &Value) -> Option<Tag> {
    let name = member(tag, "name").as_str()?;
    let (kind, value) = member(tag, "value").as_object()?.iter().find(|(kind, _)| *kind != "default")?;
    let value = value.as_str()?;
    let source = match kind.as_str() {
        "header" => Source::Header(value.to_ascii_lowercase()),
        "claim" => Source::Claim(claim_path(value)),
        "cookie" => Source::Cookie(value.to_owned()),
        "queryParam" => Source::Query(value.to_owned()),
        _ => return None,
    };
    let default = member(tag, "default").as_str().or(member(member(tag, "value"), "default").as_str());
    Some(Tag { name: name.to_owned(), source, default: default.map(str::to_owned) })
}

/// `a.b`, or `[a][b.c]`.
fn claim_path(path: &str) -> Vec<String> {
    match path.strip_prefix('[').and_then(|path| path.strip_suffix(']')) {
        Some(inner) => inner.split("][").map(str::to_owned).collect(),
        None => path.split('.').map(str::to_owned).collect(),
    }
}

impl Source {
    /// As [`looked_at`] names it.
    fn words(&self) -> String {
        match self {
            Source::Header(name) => format!("header {name}"),
            Source::Claim(path) => format!("claim {}", path.join(".")),
            Source::Cookie(name) => format!("cookie {name}"),
            Source::Query(name) => format!("parameter {name}"),
        }
    }

    fn put(&self, value: &[u8], request: &mut Request, claims: &mut Map<String, Value>) {
        let text = || String::from_utf8_lossy(value);
        match self {
            Source::Header(name) if name.starts_with(':') || name == "host" => {}
            Source::Header(name) => {
                if !request.headers.iter().any(|(known, _)| known == name) {
                    request.headers.push((name.clone(), value.to_vec()));
                }
            }
            Source::Cookie(name) => {
                request.headers.push(("cookie".to_owned(), [name.as_bytes(), b"=", value].concat()));
            }
            Source::Query(name) => {
                let mark = if request.path.contains(&b'?') { '&' } else { '?' };
                let pair: String =
                    url::form_urlencoded::Serializer::new(String::new()).append_pair(name, &text()).finish();
                request.path.extend_from_slice(format!("{mark}{pair}").as_bytes());
            }
            Source::Claim(path) => put_claim(claims, path, &text()),
        }
    }
}

/// A value as it was before the module wrote it into a log: it writes as `%XX` what could end a field or a line, and bytes that
/// are no UTF-8. A percent sign it leaves as it is, so that what a client sent as `%22` is taken for a quote.
fn unescaped(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| match byte {
        Some(digit @ b'0'..=b'9') => Some(digit.wrapping_sub(b'0')),
        Some(digit @ b'A'..=b'F') => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    };
    let escaped = |byte: u8| byte.is_ascii_control() || !byte.is_ascii() || matches!(byte, b'"' | b'\\');
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = match first {
            b'%' => digit(after.first()).zip(digit(after.get(1))),
            _ => None,
        };
        match pair.map(|(high, low)| high << 4 | low).filter(|byte| escaped(*byte)) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Lists and objects stand in logs as JSON.
fn put_claim(claims: &mut Map<String, Value>, path: &[String], value: &str) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        let list = value.starts_with(['[', '{']).then(|| serde_json::from_str(value).ok()).flatten();
        claims.entry(name.clone()).or_insert_with(|| list.unwrap_or_else(|| value.into()));
        return;
    }
    let inner = claims.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        put_claim(inner, rest, value);
    }
}

fn names(tags: &[Value]) -> Names {
    let named = |kind: &str, default: String| {
        let tag = tags.iter().find(|tag| member(member(tag, "value"), kind).as_bool() == Some(true));
        tag.and_then(|tag| member(tag, "name").as_str()).map_or(default, str::to_owned)
    };
    let Names { route, decision, destination } = Names::default();
    Names {
        route: named("route", route),
        decision: named("decision", decision),
        destination: named("destination", destination),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_log_has_escaped_is_read_as_it_was() {
        for (logged, value) in [
            ("[%22a%22,%22b%22]", &b"[\"a\",\"b\"]"[..]),
            ("a%5Cb%09c%7F", b"a\\b\tc\x7f"),
            ("%FF%C3(", b"\xff\xc3("),
            ("%E2%80%AE\u{e9}", "\u{202e}\u{e9}".as_bytes()),
            ("100%", b"100%"),
            ("a%2Fb%5", b"a%2Fb%5"),
            ("a%2fb%0a", b"a%2fb%0a"),
        ] {
            assert_eq!(unescaped(logged), value, "{logged}");
        }
        let policy = json!({"telemetry": {"tags": [{"name": "roles", "value": {"claim": "roles"}}]}});
        let line = json!({"roles": "[%22customer%22,%22a%5C%5Cb%22]"});
        let mut recorded = Recorded { line: Some(line), ..Recorded::default() };
        Tags::of(&policy).fill(&mut recorded);
        assert_eq!(Value::from(recorded.claims), json!({"roles": ["customer", "a\\b"]}));
    }

    #[test]
    fn what_tags_wrote_is_a_part_of_the_request() {
        let policy = json!({
            "authorization": [{"rules": [{"when": [
                {"key": "request.headers[User-Role]", "values": ["admin"]},
                {"key": "request.headers[x-other]", "values": ["a"]},
                {"key": "request.auth.claims[org][id]", "values": ["a"]},
            ]}]}],
            "http": [{"match": [{"headers": {"canary": {"exact": "true"}, ":path": {"exact": "/"}}, "queryParams": {"q": {"exact": "1"}}}],
                "headers": {"request": {"set": {"x-set": "1"}}}}],
            "rateLimits": [{"key": [{"header": "x-tenant"}, {"cookie": "session"}]}],
            "telemetry": {"tags": [
                {"name": "role", "value": {"header": "user-role"}},
                {"name": "status", "value": {"header": "x-tenant"}, "default": "none"},
                {"name": "org", "value": {"claim": "org.id"}},
                {"name": "verdict", "value": {"decision": true}},
            ]},
        });
        let tags = Tags::of(&policy);
        assert_eq!(
            not_recorded(&policy, &tags),
            ["cookie session", "header canary", "header x-other", "parameter q"]
        );
        let line = json!({"method": "GET", "path": "/", "status": 403, "role": "admin", "tag.status": "none", "org": "acme",
            "verdict": "authz_denied"});
        let mut recorded = crate::recorded::read_line(line.to_string().as_bytes()).unwrap();
        tags.fill(&mut recorded);
        assert_eq!(recorded.request.headers, [("user-role".to_owned(), b"admin".to_vec())]);
        assert_eq!(Value::Object(recorded.claims.clone().unwrap()), json!({"org": {"id": "acme"}}));
        let logged = tags.logged(&recorded).unwrap();
        assert_eq!(logged, Logged { decision: "authz_denied".to_owned(), status: Some(403) });
        for (decision, differs) in [("allowed", true), ("authz_denied", false), ("rate_limited", false)] {
            assert_eq!(logged.differs(decision), differs, "{decision}");
        }
    }
}
