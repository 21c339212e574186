//! What came back against what was expected.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::bytes::Regex;

use super::case::{Expect, Pattern, Text, bytes};

/// What came back for one request, whichever proxy gave it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `None`: closed without an answer.
    pub status: Option<u16>,
    /// All of them.
    pub headers: Headers,
    /// Of an answer that the filter gives.
    pub body: Vec<u8>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// What the upstream saw that answered.
    pub upstream: Option<Seen>,
    /// The upstreams that got a copy.
    pub mirrors: Vec<String>,
    /// How long the answer took.
    pub delay: Duration,
    /// How much later than asked it may be.
    pub delay_slack: Duration,
    /// What the filter wrote.
    pub filter_state: BTreeMap<String, Vec<u8>>,
    /// How the filter ended it. What the proxy does not tell is none here, and not looked at.
    pub decision: Option<String>,
    /// The chosen entry.
    pub route: Option<Option<String>>,
    /// The chosen cluster.
    pub destination: Option<Option<String>>,
    /// Every tag; none: those that are filter state.
    pub tags: Option<BTreeMap<String, Vec<u8>>>,
    /// What the filter logged.
    pub log: Vec<String>,
}

/// Names in lower case.
pub type Headers = Vec<(String, Vec<u8>)>;

/// A request as an upstream saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the upstream calls itself: the last part of its cluster's name.
    pub upstream: String,
    /// Path and query.
    pub path: Vec<u8>,
    /// With `:method` and `:authority`.
    pub headers: Headers,
    /// What came behind them.
    pub body: Vec<u8>,
}

/// What the upstream of a cluster calls itself.
pub fn upstream_name(cluster: &str) -> &str {
    cluster.rsplit('|').next().unwrap_or(cluster)
}

/// Everything that is not as expected.
pub fn differences(expect: &Expect, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if expect.reset != answer.status.is_none() {
        let (wanted, got) = match expect.reset {
            true => ("closed without an answer", "answered"),
            false => ("answered", "closed without an answer"),
        };
        found.push(format!("should be {wanted}, was {got}"));
    }
    if let (Some(expected), Some(status)) = (&expect.status, answer.status)
        && !expected.as_slice().contains(&status)
    {
        found.push(format!("status is {status}, should be {:?}", expected.as_slice()));
    }
    if let Some(text) = &expect.body {
        compare("body", Some(text), &[&answer.body], &mut found);
    }
    if let Some(text) = &expect.details {
        compare("details", Some(text), &[answer.details.as_bytes()], &mut found);
    }
    for (name, text) in &expect.headers {
        let values = values(&answer.headers, name);
        compare(&format!("response header {name}"), text.as_ref(), &values, &mut found);
    }
    if let Some(expected) = &expect.upstream {
        let got = answer.upstream.as_ref().map(|seen| seen.upstream.as_str());
        if got != expected.as_deref() {
            found.push(format!("upstream is {got:?}, should be {expected:?}"));
        }
    }
    let nothing = Seen::default();
    let seen = answer.upstream.as_ref().unwrap_or(&nothing);
    if answer.upstream.is_none() && (expect.upstream_path.is_some() || !expect.upstream_headers.is_empty()) {
        found.push("no upstream saw the request".to_owned());
    } else {
        if let Some(text) = &expect.upstream_path {
            compare("path at the upstream", Some(text), &[&seen.path], &mut found);
        }
        for (name, text) in &expect.upstream_headers {
            let values = values(&seen.headers, if name == "host" { ":authority" } else { name });
            compare(&format!("header {name} at the upstream"), text.as_ref(), &values, &mut found);
        }
    }
    if let Some(expected) = &expect.mirrors {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        if sorted(expected) != sorted(&answer.mirrors) {
            found.push(format!("mirrored to {:?}, should be {expected:?}", answer.mirrors));
        }
    }
    if let Some(expected) = expect.delay
        && (answer.delay < expected || answer.delay > expected.saturating_add(answer.delay_slack))
    {
        found.push(format!("took {:?}, should be {expected:?}", answer.delay));
    }
    if let (Some(expected), Some(got)) = (&expect.decision, &answer.decision)
        && expected != got
    {
        found.push(format!("decision is {got}, should be {expected}"));
    }
    for (what, expected, got) in
        [("route", &expect.route, &answer.route), ("destination", &expect.destination, &answer.destination)]
    {
        if let (Some(expected), Some(got)) = (expected, got)
            && expected != got
        {
            let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            found.push(format!("{what} is {}, should be {}", word(got), word(expected)));
        }
    }
    for (name, text) in &expect.tags {
        let tags = answer.tags.as_ref().unwrap_or(&answer.filter_state);
        let values: Vec<&[u8]> = tags.get(name).map(Vec::as_slice).into_iter().collect();
        compare(&format!("tag {name}"), text.as_ref(), &values, &mut found);
    }
    for text in &expect.log {
        if !answer.log.iter().any(|line| line.contains(text.as_str())) {
            let lines = answer.log.join("\n  ");
            found.push(format!("no line of the log has {text:?}; there are\n  {lines}"));
        }
    }
    for (name, text) in &expect.filter_state {
        let values: Vec<&[u8]> = answer.filter_state.get(name).map(Vec::as_slice).into_iter().collect();
        compare(&format!("filter state {name}"), text.as_ref(), &values, &mut found);
    }
    found
}

fn values<'a>(headers: &'a Headers, name: &str) -> Vec<&'a [u8]> {
    let name = name.to_ascii_lowercase();
    headers.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.as_slice()).collect()
}

/// `None` expects that there is nothing. Several values of a header are one with commas, unless a list is expected.
fn compare(what: &str, expected: Option<&Text>, values: &[&[u8]], found: &mut Vec<String>) {
    let joined = values.join(b",".as_slice());
    let present = !values.is_empty();
    let wanted = match expected {
        None if !present => return,
        None => "absent".to_owned(),
        Some(Text::Exact(text)) => {
            if present && bytes(text).is_ok_and(|text| text == joined) {
                return;
            }
            format!("{text:?}")
        }
        Some(Text::All(texts)) => {
            let all: Result<Vec<_>, _> = texts.iter().map(|text| bytes(text)).collect();
            if all.is_ok_and(|all| all == values) {
                return;
            }
            format!("{texts:?}, each by itself")
        }
        Some(Text::Pattern(Pattern::Contains(text))) => {
            let part = bytes(text).unwrap_or_default();
            if present && !part.is_empty() && joined.windows(part.len()).any(|window| window == part) {
                return;
            }
            format!("one that contains {text:?}")
        }
        Some(Text::Pattern(Pattern::Regex(pattern))) => match Regex::new(&format!(r"\A(?:{pattern})\z")) {
            Ok(regex) if present && regex.is_match(&joined) => return,
            Ok(_) => format!("one that matches {pattern:?}"),
            Err(error) => format!("matched by a regex, but it is none: {error}"),
        },
    };
    let got = if present { format!("\"{}\"", joined.escape_ascii()) } else { "absent".to_owned() };
    found.push(format!("{what} is {got}, should be {wanted}"));
}

/// A series as Prometheus writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Series {
    /// Reads `name{label="value",…}`.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((name, rest)) = text.split_once('{') else {
            return Some(Series { name: text.to_owned(), labels: BTreeMap::new() });
        };
        let mut labels = BTreeMap::new();
        let mut rest = rest.strip_suffix('}')?;
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label.to_owned(), value);
            rest = after.get(end.saturating_add(1)..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        Some(Series { name: name.to_owned(), labels })
    }
}

/// Everything about the counters that is not as expected. A series stands for all that have its labels and more:
/// their sum is compared, and where there is none it is 0.
pub fn counter_differences(expected: &BTreeMap<String, u64>, got: &BTreeMap<Series, u64>) -> Vec<String> {
    let mut found = Vec::new();
    for (text, expected) in expected {
        let Some(wanted) = Series::parse(text) else {
            found.push(format!("counters: {text} is no series; write name{{label=\"value\"}}"));
            continue;
        };
        let matches = |series: &&Series| {
            series.name == wanted.name
                && wanted.labels.iter().all(|(label, value)| series.labels.get(label) == Some(value))
        };
        let sum: u64 = got.keys().filter(matches).filter_map(|series| got.get(series)).sum();
        if sum != *expected {
            let same_name: Vec<_> = got.iter().filter(|(series, _)| series.name == wanted.name).collect();
            found.push(format!("counter {text} is {sum}, should be {expected}; there are {same_name:?}"));
        }
    }
    found
}
