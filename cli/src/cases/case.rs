//! A case file: reading it, strictly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshfilter::config::source::{Language, Place, Source};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::token::{self, TokenSpec};

/// One policy and its requests.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub id: String,
    /// What it shows.
    pub name: String,
    /// Where it runs.
    pub only: Option<Only>,
    /// With `${jwks}` put in.
    pub policy: Value,
    /// Of the plugin.
    pub environment: BTreeMap<String, String>,
    /// Of the random numbers.
    pub seed: Option<u64>,
    /// The clusters that the fake proxy has; none: every one.
    pub clusters: Option<Vec<String>>,
    tokens: BTreeMap<String, TokenSpec>,
    /// In the order in which they are sent.
    pub requests: Vec<RequestSpec>,
    /// Series as Prometheus writes them, and their values after all requests.
    pub counters: BTreeMap<String, u64>,
}

/// Where a case runs when it does not run everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// On the fake host alone.
    Native,
    /// Through Envoy alone; natively the policy is checked.
    Envoy,
}

/// A case: a policy, requests, and what has to come of them.
#[derive(Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    /// One sentence.
    name: String,
    /// Where it runs, when it does not run everywhere.
    only: Option<Only>,
    /// The policy, in which `${jwks}` is the key set of all test keys; or the name of its file, from this file's folder on:
    /// then every JWT rule takes the test keys in place of its own.
    policy: Value,
    /// Variables of the plugin; `${jwks}` works here, too.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Of the random numbers on the fake host.
    seed: Option<u64>,
    /// The clusters that the fake proxy has; every one that is asked for if nothing is said.
    clusters: Option<Vec<String>>,
    /// Tokens by names: `${token:NAME}` in a path or a header.
    #[serde(default)]
    tokens: BTreeMap<String, TokenSpec>,
    /// In the order in which they are sent.
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "Vec<RequestSpec>"))]
    requests: Vec<Value>,
    /// Series as Prometheus writes them, and their values after all requests. One stands for the sum of all that have its
    /// labels and more.
    #[serde(default)]
    counters: BTreeMap<String, u64>,
}

/// A request as the file has it; [`RequestSpec::prepare`] puts tokens and bytes in.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestSpec {
    /// What it shows.
    pub name: String,
    /// The method.
    #[serde(default = "get")]
    method: String,
    /// Path and query.
    #[serde(default = "slash")]
    path: String,
    /// The host that is asked for.
    #[serde(default = "example_com")]
    host: String,
    /// One value or several. `\xff` in double quotes is the byte 255.
    #[serde(default)]
    headers: BTreeMap<String, OneOrMany<String>>,
    /// The client's address: `x-forwarded-for` behind one trusted proxy.
    source: Option<std::net::IpAddr>,
    /// The address of who connects. `only: native`.
    direct: Option<std::net::IpAddr>,
    /// The URI in the certificate of who connects. `only: native`.
    peer: Option<String>,
    /// The port that is connected to. `only: native`.
    port: Option<u16>,
    /// Attributes of the proxy by their paths. `only: native`.
    #[serde(default)]
    properties: BTreeMap<String, String>,
    /// What the upstream answers; 200 if nothing is said. `only: native`.
    pub response: Option<u16>,
    /// It is sent so often, and the expectation holds each time.
    #[serde(default = "once")]
    pub repeat: u32,
    /// The clock moves on so far before the request. `only: native`.
    #[serde(default, deserialize_with = "optional_duration")]
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "Option<String>"))]
    pub advance: Option<Duration>,
    /// What has to come back.
    pub expect: Expect,
}

/// What has to come back. An absent member is not looked at; `null` means that there must be none.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// The status, or those that are allowed.
    pub status: Option<OneOrMany<u16>>,
    /// Of an answer that the filter gives.
    pub body: Option<Text>,
    /// Of the answer.
    pub headers: BTreeMap<String, Option<Text>>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Option<Text>,
    /// `allowed`, `authn_denied`, `authz_denied`, `rate_limited`, `fault_aborted`, `direct_response` or `redirected`.
    pub decision: Option<String>,
    /// The chosen cluster, or `null` for none.
    #[serde(deserialize_with = "given")]
    pub destination: Option<Option<String>>,
    /// The chosen entry of `http`, or `null` for none.
    #[serde(deserialize_with = "given")]
    pub route: Option<Option<String>>,
    /// Who answered: the last part of its cluster's name, or `null` for none.
    #[serde(deserialize_with = "given")]
    pub upstream: Option<Option<String>>,
    /// The path that it saw.
    pub upstream_path: Option<Text>,
    /// The headers that it saw; `host` is the host.
    pub upstream_headers: BTreeMap<String, Option<Text>>,
    /// Who got a copy.
    pub mirrors: Option<Vec<String>>,
    /// How long the answer took: on the fake host exactly, through Envoy at least and at most a second more.
    #[serde(deserialize_with = "optional_duration")]
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "Option<String>"))]
    pub delay: Option<Duration>,
    /// Tags with their values. Through Envoy, those that are in logs.
    pub tags: BTreeMap<String, Option<Text>>,
    /// Filter state that was written: the tags that are in logs.
    pub filter_state: BTreeMap<String, Option<Text>>,
    /// Texts that stand in lines of the log, each in one. `only: native`.
    pub log: Vec<String>,
    /// The connection is closed without an answer.
    pub reset: bool,
}

/// How a text has to look.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Text {
    /// So.
    Exact(String),
    /// One entry for each time that the header stands.
    All(Vec<String>),
    /// It has this in it, or matches.
    Pattern(Pattern),
}

/// Exactly one member stands.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Pattern {
    /// This is in it.
    Contains(String),
    /// The whole of it matches.
    Regex(String),
}

/// One, or a list.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// A request that is ready to be sent.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: Vec<u8>,
    /// The host that it asks for.
    pub host: String,
    /// Names as the file has them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The client's address.
    pub source: Option<std::net::IpAddr>,
    /// The address of who connects.
    pub direct: Option<std::net::IpAddr>,
    /// The URI in the certificate of who connects.
    pub peer: Option<String>,
    /// The port that is connected to.
    pub port: Option<u16>,
    /// Attributes of the proxy.
    pub properties: BTreeMap<String, String>,
}

/// Every case file in a folder, by name. A file that is none is an error.
///
/// # Errors
/// What is wrong with the first that is wrong.
pub fn read_all(folder: &Path) -> Result<Vec<Case>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::<PathBuf>::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => files.push(path),
            Some("md") => {}
            _ => return Err(format!("{}: a case file ends in .yaml", path.display())),
        }
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// Reads one case file.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn read(file: &Path) -> Result<Case, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let id = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    parse_in(id, &text, file.parent()).map_err(|error| format!("{}:{error}", file.display()))
}

/// Reads the text of a case file that names no other file.
///
/// # Errors
/// `LINE:COLUMN: path: ` what is wrong with it, and what would be right.
pub fn parse(id: &str, text: &str) -> Result<Case, String> {
    parse_in(id, text, None)
}

fn parse_in(id: &str, text: &str, folder: Option<&Path>) -> Result<Case, String> {
    let source = source(text)?;
    read_in(id, &source.value, folder).map_err(|Wrong { path, message }| {
        let Place { line, column, .. } = source.place(&path, true);
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        format!("{line}:{column}: {path}{message}")
    })
}

/// What is wrong with a file, and the way to it.
struct Wrong {
    path: String,
    message: String,
}

fn wrong<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { path: path.into(), message: message.into() })
}

/// Takes a value that stands at a path.
fn take<'v, T: Deserialize<'v>>(value: &'v Value, at: &str) -> Result<T, Wrong> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        // The whole of it is a dot.
        let parts = [at, &inner].into_iter().filter(|part| !matches!(*part, "" | "."));
        Wrong { path: parts.collect::<Vec<_>>().join("."), message: error.inner().to_string() }
    })
}

fn read_in(id: &str, value: &Value, folder: Option<&Path>) -> Result<Case, Wrong> {
    let file: File = take(value, "")?;
    let mut policy = match (file.policy, folder) {
        (Value::String(name), Some(folder)) => policy_file(&folder.join(&name))
            .map_err(|message| Wrong { path: "policy".to_owned(), message })?,
        (Value::String(name), None) => {
            return wrong("policy", format!("{name:?}: there is no folder that it is in"));
        }
        (policy, _) => policy,
    };
    put_in(&mut policy, "${jwks}", &token::jwks());
    let mut environment = file.environment;
    for value in environment.values_mut() {
        *value = value.replace("${jwks}", &token::jwks().to_string());
    }
    let mut requests = Vec::new();
    const NATIVELY: &str = "only a file with only: native can do this";
    for (index, value) in file.requests.iter().enumerate() {
        let at = format!("requests[{index}]");
        let request: RequestSpec = take(value, &at)?;
        if request.expect.is_empty() {
            return wrong(format!("{at}.expect"), "nothing is expected; say what has to come back");
        }
        if file.only != Some(Only::Native) {
            if request.advance.is_some() {
                return wrong(format!("{at}.advance"), NATIVELY);
            }
            let natively = [
                ("properties", !request.properties.is_empty()),
                ("direct", request.direct.is_some()),
                ("peer", request.peer.is_some()),
                ("port", request.port.is_some()),
                ("response", request.response.is_some()),
                ("expect.log", !request.expect.log.is_empty()),
            ];
            if let Some((member, _)) = natively.iter().find(|(_, given)| *given) {
                return wrong(format!("{at}.{member}"), NATIVELY);
            }
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return wrong("requests", "there is none; a case needs one");
    }
    let case = Case {
        id: id.to_owned(),
        name: file.name,
        only: file.only,
        policy,
        environment,
        seed: file.seed,
        clusters: file.clusters,
        tokens: file.tokens,
        requests,
        counters: file.counters,
    };
    // What is wrong with tokens shows here, not in the middle of a run.
    let tokens = case.signed(Duration::from_secs(1_700_000_000))?;
    for (index, spec) in case.requests.iter().enumerate() {
        let path = format!("requests[{index}]");
        spec.prepare(&tokens).map_err(|message| Wrong { path, message })?;
    }
    Ok(case)
}

/// Reads the policy that a case names.
fn policy_file(file: &Path) -> Result<Value, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let errors = meshfilter::config::Errors::default();
    let name = file.to_string_lossy();
    let source = Source::read(Language::of(&name, &text), &text, &errors)
        .map_err(|error| wrong(&format_args!("line {}: {}", error.place.line, error.message)))?;
    match errors.into_vec().first() {
        Some(error) => Err(wrong(error)),
        None => Ok(with_test_keys(source.value)),
    }
}

/// Nobody has the private keys of a policy that is in use: tokens of a case are signed with the test keys.
fn with_test_keys(mut policy: Value) -> Value {
    let rules = policy.pointer_mut("/authentication/jwtRules").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
        for name in ["jwksUri", "jwksCluster", "jwksFromEnvironment"] {
            rule.remove(name);
        }
        rule.insert("jwks".to_owned(), token::jwks());
    }
    policy
}

/// Reads YAML.
///
/// # Errors
/// What is wrong with it, and where.
pub fn yaml(text: &str) -> Result<Value, String> {
    source(text).map(|source| source.value)
}

fn source(text: &str) -> Result<Source, String> {
    let told =
        |place: Place, what: &dyn std::fmt::Display| format!("{}:{}: {what}", place.line, place.column);
    let errors = meshfilter::config::Errors::default();
    let source =
        Source::read(Language::Yaml, text, &errors).map_err(|error| told(error.place, &error.message))?;
    match errors.into_vec().first() {
        Some(error) => Err(told(source.place(&error.path, error.at_name), error)),
        None => Ok(source),
    }
}

impl Case {
    /// Signs the tokens, with dates from `now` on.
    ///
    /// # Errors
    /// What cannot be signed.
    pub fn tokens(&self, now: Duration) -> Result<BTreeMap<String, String>, String> {
        self.signed(now).map_err(|Wrong { path, message }| format!("{path}: {message}"))
    }

    fn signed(&self, now: Duration) -> Result<BTreeMap<String, String>, Wrong> {
        let made = |(name, spec): (&String, &TokenSpec)| match spec.make(now) {
            Ok(token) => Ok((name.clone(), token)),
            Err(message) => wrong(format!("tokens.{name}"), message),
        };
        self.tokens.iter().map(made).collect()
    }
}

impl RequestSpec {
    /// Puts tokens and bytes in.
    ///
    /// # Errors
    /// What cannot be put in.
    pub fn prepare(&self, tokens: &BTreeMap<String, String>) -> Result<Request, String> {
        let wrong = |error: String| format!("request {:?}: {error}", self.name);
        let put = |text: &str| put_tokens_in(text, tokens).map_err(wrong);
        let mut headers = Vec::new();
        for (name, values) in &self.headers {
            for value in values.as_slice() {
                headers.push((name.clone(), bytes(&put(value)?).map_err(wrong)?));
            }
        }
        Ok(Request {
            method: self.method.clone(),
            path: bytes(&put(&self.path)?).map_err(wrong)?,
            host: self.host.clone(),
            headers,
            source: self.source,
            direct: self.direct,
            peer: self.peer.clone(),
            port: self.port,
            properties: self.properties.clone(),
        })
    }
}

impl Expect {
    fn is_empty(&self) -> bool {
        self.status.is_none()
            && self.body.is_none()
            && self.headers.is_empty()
            && self.details.is_none()
            && self.upstream.is_none()
            && self.upstream_path.is_none()
            && self.upstream_headers.is_empty()
            && self.mirrors.is_none()
            && self.delay.is_none()
            && self.decision.is_none()
            && self.destination.is_none()
            && self.route.is_none()
            && self.tags.is_empty()
            && self.filter_state.is_empty()
            && self.log.is_empty()
            && !self.reset
    }
}

/// The bytes of a text of the file: a code point up to U+00FF is the byte of that number, so that `"\xff"` is what
/// it looks like.
///
/// # Errors
/// The first character that is none.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    text.chars()
        .map(|c| {
            u8::try_from(u32::from(c)).map_err(|_| format!("{c:?} is no byte; write its UTF-8 as \\xNN"))
        })
        .collect()
}

fn put_tokens_in(text: &str, tokens: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${token:") {
        let (name, after) = after.split_once('}').ok_or("${token: has no end")?;
        out.push_str(before);
        out.push_str(tokens.get(name).ok_or_else(|| format!("there is no token {name:?}"))?);
        rest = after;
    }
    out.push_str(rest);
    match out.contains("${") {
        true => Err(format!("{text:?}: only ${{token:NAME}} is known here")),
        false => Ok(out),
    }
}

fn put_in(value: &mut Value, name: &str, with: &Value) {
    match value {
        Value::String(text) if text == name => *value = with.clone(),
        Value::Array(list) => list.iter_mut().for_each(|value| put_in(value, name, with)),
        Value::Object(map) => map.values_mut().for_each(|value| put_in(value, name, with)),
        _ => {}
    }
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    token::duration(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

/// Tells `null` from an absent member.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn get() -> String {
    "GET".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn example_com() -> String {
    "example.com".to_owned()
}

fn once() -> u32 {
    1
}
