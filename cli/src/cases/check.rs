//! What came back against what was expected.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::bytes::Regex;

pub use super::super::proxy::{Answer, Headers, Seen, Series, upstream_name};
use super::case::{Expect, Pattern, Text, bytes};

/// What came back for one request, and how closely it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// What came back.
    pub answer: Answer,
    /// How much later than asked it may be.
    pub delay_slack: Duration,
    /// Whether the proxy told decision, route and destination.
    pub decided: bool,
    /// Every tag; none: those that are filter state.
    pub tags: Option<BTreeMap<String, Vec<u8>>>,
    /// What the filter logged.
    pub log: Vec<String>,
}

/// Everything that is not as expected.
pub fn differences(expect: &Expect, exchange: &Exchange) -> Vec<String> {
    let Exchange { answer, delay_slack, decided, tags, log } = exchange;
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
        let got = answer.upstream.as_ref().map(|seen| upstream_name(&seen.cluster));
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
        let mut got: Vec<&str> = answer.mirrors.iter().map(|cluster| upstream_name(cluster)).collect();
        let mut wanted: Vec<&str> = expected.iter().map(String::as_str).collect();
        got.sort_unstable();
        wanted.sort_unstable();
        if got != wanted {
            found.push(format!("mirrored to {got:?}, should be {expected:?}"));
        }
    }
    if let Some(expected) = expect.delay
        && (answer.delay < expected || answer.delay > expected.saturating_add(*delay_slack))
    {
        found.push(format!("took {:?}, should be {expected:?}", answer.delay));
    }
    if let Some(expected) = &expect.decision
        && *decided
        && *expected != answer.decision
    {
        found.push(format!("decision is {}, should be {expected}", answer.decision));
    }
    for (what, expected, got) in
        [("route", &expect.route, &answer.route), ("destination", &expect.destination, &answer.destination)]
    {
        if let Some(expected) = expected
            && *decided
            && expected != got
        {
            let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            found.push(format!("{what} is {}, should be {}", word(got), word(expected)));
        }
    }
    for (name, text) in &expect.tags {
        let tags = tags.as_ref().unwrap_or(&answer.filter_state);
        let values: Vec<&[u8]> = tags.get(name).map(Vec::as_slice).into_iter().collect();
        compare(&format!("tag {name}"), text.as_ref(), &values, &mut found);
    }
    for text in &expect.log {
        if !log.iter().any(|line| line.contains(text.as_str())) {
            let lines = log.join("\n  ");
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
