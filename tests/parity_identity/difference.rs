//! What came back from both, and what may differ.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::setup::{Place, Setup};
use crate::support::http::Response;
use crate::token;
use crate::traffic::Request;

/// One request, and both answers.
pub struct Exchange<'a> {
    pub setup: &'a Setup,
    pub request: Request,
    pub native: Outcome,
    pub ours: Outcome,
}

/// An answer, without what is another one each time.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub status: u16,
    /// By name; those of one name in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// `None`: the request did not get there, or the answer cannot tell.
    pub upstream: Option<Seen>,
}

/// What the upstream saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Outcome {
    pub fn of(response: &Response) -> Self {
        const NOISE: [&str; 4] = ["date", "x-envoy-upstream-service-time", "server", "content-length"];
        let mut headers: Vec<(String, String)> = response
            .headers
            .iter()
            .filter(|(name, _)| !NOISE.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.escape_ascii().to_string()))
            .collect();
        headers.sort_by(|one, other| one.0.cmp(&other.0));
        let mut body = response.text();
        let mut upstream = None;
        if response.header("x-upstream").is_some()
            && let Ok(seen) = serde_json::from_str::<Value>(&body)
        {
            let pair =
                |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()));
            let mut headers: Vec<_> =
                seen["headers"].as_array().into_iter().flatten().filter_map(pair).collect();
            headers.sort_by(|one: &(String, String), other| one.0.cmp(&other.0));
            upstream = Some(Seen { path: seen["path"].as_str().unwrap_or_default().to_owned(), headers });
            body.clear();
        }
        Outcome { status: response.status, headers, body, upstream }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("status {}", self.status), format!("body {:?}", self.body)];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        match &self.upstream {
            None => lines.push("no upstream".to_owned()),
            Some(seen) => {
                lines.push(format!("upstream path {}", seen.path));
                lines.extend(seen.headers.iter().map(|(name, value)| format!("upstream {name}: {value}")));
            }
        }
        lines
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn set_header(&mut self, name: &str, value: String) {
        if let Some(header) = self.headers.iter_mut().find(|(key, _)| key == name) {
            header.1 = value;
        }
    }

    fn passed(&self) -> bool {
        // An answer to HEAD cannot tell what the upstream saw.
        self.upstream.is_some() || self.header("x-upstream").is_some()
    }

    /// What the upstream was told about the tokens.
    fn told(&self) -> impl Iterator<Item = &(String, String)> {
        const HEADERS: [&str; 9] = [
            "x-user",
            "x-tenant",
            "x-level",
            "x-ok",
            "x-groups",
            "x-city",
            "x-address",
            "x-payload",
            "x-other-payload",
        ];
        let headers = self.upstream.iter().flat_map(|seen| &seen.headers);
        headers.filter(|(name, _)| HEADERS.contains(&name.as_str()))
    }

    fn refused_by(&self, filter: &str) -> bool {
        self.details().strip_prefix(filter).is_some_and(|rest| rest.starts_with("_access_denied"))
    }

    fn details(&self) -> &str {
        self.header("x-details").unwrap_or_default()
    }
}

impl Seen {
    fn values(&self, name: &str) -> Vec<String> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }
}

/// A difference that is meant.
pub struct Listed {
    pub id: &'static str,
    pub reason: &'static str,
    /// Words of the documentation about it.
    pub documented: &'static str,
}

pub enum Verdict {
    Same,
    /// Only the listed differences.
    Listed(Vec<&'static str>),
    /// Something else, too.
    Surprise(String),
}

pub const LISTED: &[Listed] = &[
    Listed {
        id: "query",
        reason: "the query is forwarded as it came, without the token; Envoy decodes, sorts and writes it anew",
        documented: "the query is decoded, sorted and written anew",
    },
    Listed {
        id: "cookie",
        reason: "a token is taken out of the cookies, too",
        documented: "| the cookie is taken out",
    },
    Listed {
        id: "realm",
        reason: "a quote in the path cannot end the realm",
        documented: "quotes in it are escaped",
    },
    Listed {
        id: "object",
        reason: "the members of a claim that is an object stand in the order of their names; in Envoy in any",
        documented: "the members of an object",
    },
    Listed {
        id: "number",
        reason: "whole numbers above 2^53 are exact",
        documented: "whole numbers above 2^53 are exact",
    },
    Listed {
        id: "control",
        reason: "a claim with control characters gives no header; Envoy refuses such a request of its own with 503",
        documented: "a claim with CR, LF or other control characters gives no header",
    },
    Listed {
        id: "form",
        reason: "a token that two readers may read differently is none",
        documented: "what two readers may read differently is refused",
    },
    Listed {
        id: "repeated",
        reason: "every value of a parameter or cookie is verified; Envoy takes the first",
        documented: "every value of a parameter or cookie is verified",
    },
    Listed {
        id: "family",
        reason: "a key verifies only algorithms of its type; Envoy's EC and Ed25519 keys are tried whatever `alg` says",
        documented: "an algorithm that is not the key's",
    },
    Listed {
        id: "several",
        reason: "of several rules' tokens the first rule's counts; in Envoy the claims of the last one win",
        documented: "of several rules' tokens the first rule's counts",
    },
    Listed {
        id: "branch",
        reason: "where bad tokens pass, each good one counts, and nothing of a rule that failed in `any` does",
        documented: "of a rule that failed",
    },
    Listed {
        id: "scheme",
        reason: "the scheme Bearer has no case",
        documented: "the scheme `Bearer` has no case",
    },
    Listed {
        id: "identity",
        reason: "tokens of two subjects at one rule's places are refused, and of one subject the first counts",
        documented: "tokens of two subjects at one rule's places are refused",
    },
    Listed {
        id: "mapped",
        reason: "an IPv4 address that is written as an IPv6 one is in the blocks of IPv4",
        documented: "`::ffff:198.51.100.4`",
    },
    Listed {
        id: "readings",
        reason: "where readings of a request choose different requirements, all of them must be satisfied",
        documented: "**all that are chosen must be satisfied**",
    },
    Listed {
        id: "path",
        reason: "a path that servers read differently is refused where a rule is about paths, or matched in each reading",
        documented: "ambiguous paths, path parameters and repeated slashes",
    },
];

pub fn judge(exchange: &Exchange) -> Verdict {
    let mut found = Vec::new();
    let mut native = exchange.native.clone();
    let mut ours = exchange.ours.clone();
    // The native filters were sent the scheme as they read it.
    if exchange.request.with_schemes().is_some() {
        found.push("scheme");
        if let (Some(native), Some(ours)) = (&mut native.upstream, &mut ours.upstream) {
            for (name, value) in native.headers.iter_mut().chain(&mut ours.headers) {
                if name == "authorization" {
                    *value = value.replacen("bearer ", "Bearer ", 1);
                }
            }
        }
    }
    if native == ours {
        return if found.is_empty() { Verdict::Same } else { Verdict::Listed(found) };
    }
    if let (Some(native), Some(ours)) = (&mut native.upstream, &mut ours.upstream) {
        found.extend(forwarded(exchange, native, ours));
    }
    if let Some(realm) = native.header("www-authenticate")
        && let Some(escaped) = with_quotes_escaped(realm)
        && ours.header("www-authenticate") == Some(escaped.as_str())
    {
        native.set_header("www-authenticate", escaped);
        found.push("realm");
    }
    if native == ours {
        return Verdict::Listed(found);
    }
    match decided(exchange, &native, &ours) {
        Some(id) => Verdict::Listed(vec![id]),
        None => Verdict::Surprise(exchange.explain(&native, &ours)),
    }
}

/// Listed differences between requests that both let pass; they are taken out of what is compared.
fn forwarded(exchange: &Exchange, native: &mut Seen, ours: &mut Seen) -> Vec<&'static str> {
    let mut found = Vec::new();
    if native.path != ours.path && parameters(&native.path) == parameters(&ours.path) {
        native.path.clone_from(&ours.path);
        found.push("query");
    }
    let (theirs, own) = (native.values("cookie"), ours.values("cookie"));
    if theirs != own && without_tokens(exchange.setup, theirs) == own {
        native.headers.retain(|(name, _)| name != "cookie");
        ours.headers.retain(|(name, _)| name != "cookie");
        found.push("cookie");
    }
    let (theirs, own) = (native.values("x-address"), ours.values("x-address"));
    if theirs != own && theirs.iter().map(|text| object(text)).eq(own.iter().map(|text| object(text))) {
        native.headers.retain(|(name, _)| name != "x-address");
        ours.headers.retain(|(name, _)| name != "x-address");
        found.push("object");
    }
    let rounded = |level: &String| level.replace("9007199254740993", "9007199254740992");
    let (theirs, own) = (native.values("x-level"), ours.values("x-level"));
    if theirs != own && theirs == own.iter().map(rounded).collect::<Vec<_>>() {
        native.headers.retain(|(name, _)| name != "x-level");
        ours.headers.retain(|(name, _)| name != "x-level");
        found.push("number");
    }
    found
}

/// A listed difference that makes another decision, in what is left of both answers.
fn decided(exchange: &Exchange, native: &Outcome, ours: &Outcome) -> Option<&'static str> {
    let Exchange { setup, request, .. } = exchange;
    // What only one reading asks for is asked for, and what only one refuses is refused.
    let has_readings = request.path.contains(';') || (!setup.normalize && request.path.contains("//"));
    let is_ambiguous = !setup.normalize && ours.details() == "meshfilter_ambiguous_path";
    let refused_in_one = has_readings && !ours.passed();
    let asked_in_one = has_readings && setup.name == "by-request";
    // Envoy's filters match it as it stands; ours lets no rule guess what a server makes of it.
    let ends_early = is_ambiguous && request.path.contains("%00");
    if (is_ambiguous && native.status == 200) || ends_early || refused_in_one || asked_in_one {
        return Some("path");
    }
    let roles = request.headers.iter().filter(|(name, _)| name == "x-role").count();
    if setup.name == "by-request" && roles > 1 && ours.refused_by("jwt_authn") {
        return Some("readings");
    }
    // Whatever else is listed may meet this one: the native filters let it pass, and Envoy refuses what they wrote.
    let control =
        native.details() == "filter_removed_required_request_headers{invalid_header_value_for:_x-tenant}";
    if control && ours.passed() {
        return Some("control");
    }
    let native_passed = native.passed() || control;
    if request.headers.iter().any(|(name, value)| name == "x-forwarded-for" && value.starts_with("::ffff:"))
        && ours.details() == "rbac_access_denied_matched_policy[b-address]"
    {
        return Some("mapped");
    }
    let about_claims = native.refused_by("rbac") || ours.refused_by("rbac");
    if setup.asks_for_claims && request.tokens.len() > 1 && about_claims {
        return Some("several");
    }
    if request.has_two_subjects() && (ours.refused_by("jwt_authn") || about_claims) {
        return Some("identity");
    }
    let counts_less = || ours.told().all(|header| native.told().any(|other| other == header));
    if request.tokens.len() > 1
        && native.passed()
        && ours.passed()
        && (setup.lets_bad_tokens_pass || setup.has_several_rules() && counts_less())
    {
        return Some("branch");
    }
    if request.tokens.len() > 1
        && native.passed()
        && ours.passed()
        && (counts_less() || setup.has_several_rules() && request.has_two_subjects())
    {
        return Some("identity");
    }
    let tokens = || request.tokens.iter().map(|(_, token)| token.text.as_str());
    let too_long = "jwt_authn_access_denied{Jwt_ED25519_signature_is_wrong_length}";
    // Of several rules that fail, Envoy tells of one, which need not be this one.
    let told_of_another =
        setup.has_several_rules() && request.tokens.len() > 1 && native.refused_by("jwt_authn");
    if tokens().any(token::names_no_key)
        && (native.details() == too_long || setup.lets_bad_tokens_pass || told_of_another)
    {
        return Some("family");
    }
    // What is left refuses more, or counts less in what passes all the same.
    if !ours.refused_by("jwt_authn") && !native_passed {
        return None;
    }
    if tokens().any(token::is_of_another_family) {
        return Some("family");
    }
    if request.repeated() {
        return Some("repeated");
    }
    tokens().any(|text| token::form_fault(text).is_some()).then_some("form")
}

impl Exchange<'_> {
    /// What differs, and in answer to what.
    fn explain(&self, native: &Outcome, ours: &Outcome) -> String {
        let Request { method, path, host, headers, tokens } = &self.request;
        let changes: Vec<String> =
            tokens.iter().map(|(place, token)| format!("{place:?} {:?}", token.what)).collect();
        let mut text = format!("{}: {method} {host}{path}; {}\n", self.setup.name, changes.join(", "));
        let (native, ours) = (native.lines(), ours.lines());
        for line in native.iter().filter(|line| !ours.contains(line)) {
            text.push_str(&format!("  native     {line}\n"));
        }
        for line in ours.iter().filter(|line| !native.contains(line)) {
            text.push_str(&format!("  meshfilter {line}\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("  sent {name}: {value}\n"));
        }
        text
    }
}

/// The path, and the parameters in whatever order and form.
fn parameters(path: &str) -> (String, Vec<(String, String)>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut pairs: Vec<_> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .filter(|(name, value)| !name.is_empty() || !value.is_empty())
        .collect();
    pairs.sort();
    (path.to_owned(), pairs)
}

/// The cookies without those that may be tokens.
fn without_tokens(setup: &Setup, cookies: Vec<String>) -> Vec<String> {
    let is_token = |cookie: &str| {
        setup.places.iter().any(|place| match place {
            Place::Cookie(name) => cookie.split('=').next() == Some(*name),
            _ => false,
        })
    };
    let left =
        |header: String| header.split("; ").filter(|cookie| !is_token(cookie)).collect::<Vec<_>>().join("; ");
    cookies.into_iter().map(left).filter(|header| !header.is_empty()).collect()
}

/// The claim in a header, if it is an object.
fn object(header: &str) -> Option<Value> {
    let bytes = STANDARD.decode(header).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

/// The challenge as it has to be where the path has quotes.
fn with_quotes_escaped(challenge: &str) -> Option<String> {
    // As an outcome shows them, a quote is `\\"` and an escaped one `\\\\\\"`.
    let realm = challenge.strip_prefix(r#"Bearer realm=\""#)?;
    let end = realm.rfind(r#"\", error="#).or_else(|| realm.len().checked_sub(2))?;
    let (realm, rest) = realm.split_at_checked(end)?;
    let escaped = realm.replace(r#"\""#, r#"\\\""#);
    (escaped != realm).then(|| format!(r#"Bearer realm=\"{escaped}{rest}"#))
}
