//! A case file: reading it, strictly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshfilter::config::document::Duration as DocumentDuration;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::token;

/// One policy and its requests.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub id: String,
    pub name: String,
    pub only: Option<Only>,
    /// With `${jwks}` put in.
    pub policy: Value,
    pub environment: BTreeMap<String, String>,
    pub seed: Option<u64>,
    tokens: BTreeMap<String, TokenSpec>,
    pub requests: Vec<RequestSpec>,
    /// Series as Prometheus writes them, and their values after all requests.
    pub counters: BTreeMap<String, u64>,
}

/// Where a case runs when it does not run everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    Native,
    Envoy,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    name: String,
    only: Option<Only>,
    policy: Value,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    seed: Option<u64>,
    #[serde(default)]
    tokens: BTreeMap<String, TokenSpec>,
    requests: Vec<Value>,
    #[serde(default)]
    counters: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenSpec {
    raw: Option<String>,
    key: Option<String>,
    alg: Option<String>,
    #[serde(default)]
    header: Map<String, Value>,
    claims: Option<Value>,
}

/// A request as the file has it; [`Case::request`] puts tokens and bytes in.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestSpec {
    pub name: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "slash")]
    path: String,
    #[serde(default = "example_com")]
    host: String,
    #[serde(default)]
    headers: BTreeMap<String, OneOrMany<String>>,
    source: Option<std::net::IpAddr>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    #[serde(default = "once")]
    pub repeat: u32,
    #[serde(default, deserialize_with = "optional_duration")]
    pub advance: Option<Duration>,
    pub expect: Expect,
}

/// What has to come back. An absent member is not looked at; `null` means that there must be none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    pub status: Option<OneOrMany<u16>>,
    pub body: Option<Text>,
    pub headers: BTreeMap<String, Option<Text>>,
    pub details: Option<Text>,
    #[serde(deserialize_with = "given")]
    pub upstream: Option<Option<String>>,
    pub upstream_path: Option<Text>,
    pub upstream_headers: BTreeMap<String, Option<Text>>,
    pub mirrors: Option<Vec<String>>,
    #[serde(deserialize_with = "optional_duration")]
    pub delay: Option<Duration>,
    pub filter_state: BTreeMap<String, Option<Text>>,
    /// The connection is closed without an answer.
    pub reset: bool,
}

/// How a text has to look.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    Exact(String),
    /// One entry for each time that the header stands.
    All(Vec<String>),
    Pattern(Pattern),
}

/// Exactly one member stands.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Pattern {
    Contains(String),
    Regex(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
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
    pub method: String,
    pub path: Vec<u8>,
    pub host: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub source: Option<std::net::IpAddr>,
    pub properties: BTreeMap<String, String>,
}

/// Every case file in a folder, by name. A file that is none is an error.
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
pub fn read(file: &Path) -> Result<Case, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let id = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    parse(id, &text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Reads the text of a case file.
pub fn parse(id: &str, text: &str) -> Result<Case, String> {
    let file: File = serde_json::from_value(yaml(text)?).map_err(|error| error.to_string())?;
    let mut policy = file.policy;
    put_in(&mut policy, "${jwks}", &token::jwks());
    let mut environment = file.environment;
    for value in environment.values_mut() {
        *value = value.replace("${jwks}", &token::jwks().to_string());
    }
    let mut requests = Vec::new();
    for (index, value) in file.requests.into_iter().enumerate() {
        let request: RequestSpec =
            serde_json::from_value(value).map_err(|error| format!("requests[{index}]: {error}"))?;
        if request.expect.is_empty() {
            return Err(format!("requests[{index}].expect: nothing is expected; say what has to come back"));
        }
        if file.only != Some(Only::Native) {
            if request.advance.is_some() {
                return Err(format!("requests[{index}].advance: only a file with only: native can do this"));
            }
            if !request.properties.is_empty() {
                return Err(format!(
                    "requests[{index}].properties: only a file with only: native can do this"
                ));
            }
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return Err("requests: there is none; a case needs one".to_owned());
    }
    let case = Case {
        id: id.to_owned(),
        name: file.name,
        only: file.only,
        policy,
        environment,
        seed: file.seed,
        tokens: file.tokens,
        requests,
        counters: file.counters,
    };
    // What is wrong with tokens shows here, not in the middle of a run.
    let tokens = case.tokens(Duration::from_secs(1_700_000_000))?;
    for spec in &case.requests {
        spec.prepare(&tokens)?;
    }
    Ok(case)
}

/// Reads YAML.
pub fn yaml(text: &str) -> Result<Value, String> {
    use meshfilter::config::source::{Language, Source};
    let errors = meshfilter::config::Errors::default();
    let source = Source::read(Language::Yaml, text, &errors)
        .map_err(|error| format!("line {}: {}", error.place.line, error.message))?;
    match errors.into_vec().first() {
        Some(error) => Err(error.to_string()),
        None => Ok(source.value),
    }
}

impl Case {
    /// Signs the tokens, with dates from `now` on.
    pub fn tokens(&self, now: Duration) -> Result<BTreeMap<String, String>, String> {
        let mut tokens = BTreeMap::new();
        for (name, spec) in &self.tokens {
            let wrong = |error: &str| format!("tokens.{name}: {error}");
            let token = match (&spec.raw, &spec.key, &spec.alg, &spec.claims) {
                (Some(raw), None, None, None) if spec.header.is_empty() => raw.clone(),
                (None, Some(key), Some(algorithm), Some(claims)) => {
                    token::sign(key, algorithm, &spec.header, claims, now).map_err(|error| wrong(&error))?
                }
                _ => return Err(wrong("give either raw, or key, alg and claims, and header if need be")),
            };
            tokens.insert(name.clone(), token);
        }
        Ok(tokens)
    }
}

impl RequestSpec {
    /// Puts tokens and bytes in.
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
            && self.filter_state.is_empty()
            && !self.reset
    }
}

/// The bytes of a text of the file: a code point up to U+00FF is the byte of that number, so that `"\xff"` is what
/// it looks like.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    text.chars()
        .map(|c| {
            u8::try_from(u32::from(c)).map_err(|_| format!("{c:?} is no byte; write its UTF-8 as \\xNN"))
        })
        .collect()
}

/// Reads `5s`, `250ms`, `1m30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed =
        DocumentDuration::parse(text).ok_or_else(|| format!("{text:?} is no duration such as 250ms"));
    Ok(parsed?.0)
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
    duration(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
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
