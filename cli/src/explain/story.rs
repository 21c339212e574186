//! What the request path told, put in order: one stage after the other, and in each what was looked at.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use meshfilter::matchers::Truth;
use meshfilter::policy::Mode;
use meshfilter::trace::{Condition, Event, TokenVerdict};
use serde::Serialize;
use serde_json::Value;

use super::document::{Document, wanted};
use super::{shown, token};
use crate::member::member;
use crate::proxy::{Answer, Headers, Request};

/// How a destination was found that another draw would not have found.
const DRAWN: &str = " by a draw";

/// Everything about one request.
#[derive(Debug, Serialize)]
pub struct Story {
    /// What was asked for.
    pub request: Asked,
    /// In the order in which they ran.
    pub stages: Vec<Stage>,
    /// What the client gets.
    pub answer: Told,
    /// `decision` of the metrics.
    pub decision: Cow<'static, str>,
    /// The chosen entry.
    pub route: Option<String>,
    /// The chosen cluster.
    pub destination: Option<String>,
    /// What the upstream would see; none: it would not.
    pub upstream: Option<Upstream>,
    /// Every tag with its value.
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub struct Asked {
    pub method: String,
    pub url: String,
}

#[derive(Debug, Serialize)]
pub struct Stage {
    pub stage: &'static str,
    pub looked: Vec<Looked>,
}

/// Something that was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Looked {
    /// What it is, for people: `webapp-authz (ALLOW)`.
    pub what: String,
    pub path: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// `passes`, `refuses`, `chosen`, `skipped` or `applied`.
    pub verdict: Verdict,
    /// Whether it decides nothing.
    pub shadow: bool,
    /// Why, for people.
    pub why: String,
    /// The conditions that decided.
    pub conditions: Vec<Said>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It lets the request pass.
    #[default]
    Passes,
    /// It does not.
    Refuses,
    /// It decides the way.
    Chosen,
    /// It does not apply.
    Skipped,
    /// It does something to the request.
    Applied,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    pub path: String,
    pub line: usize,
    pub column: usize,
    /// What is asked for: `request.headers[user-role]`.
    pub of: String,
    /// `yes`, `no` or `unknown`.
    pub holds: &'static str,
    pub seen: Vec<String>,
    pub wanted: String,
    /// Whether what is wanted must not be.
    pub negated: bool,
    /// Another reading of the path than the one it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading: Option<String>,
    /// The rule of the token that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Told {
    /// None: closed without an answer.
    pub status: Option<u16>,
    pub details: String,
    pub body: String,
    pub headers: Vec<(String, String)>,
    pub delay_ms: u128,
}

#[derive(Debug, Serialize)]
pub struct Upstream {
    pub cluster: String,
    pub method: String,
    pub path: String,
    pub authority: String,
    pub headers: Vec<(String, String)>,
    /// Who gets a copy.
    pub mirrors: Vec<String>,
    /// What the filter added or changed, and what it took away.
    pub set: Vec<(String, String)>,
    pub removed: Vec<String>,
}

impl Story {
    /// What decided: the policy that refuses, or the entry that was chosen.
    pub fn reason(&self) -> String {
        let all = || self.stages.iter().flat_map(|stage| &stage.looked).filter(|looked| !looked.shadow);
        // A rule that found no token refuses nothing where none is needed.
        let refused = matches!(&*self.decision, "authn_denied" | "authz_denied" | "rate_limited");
        let refuses = all().rfind(|looked| looked.verdict == Verdict::Refuses && refused);
        let applied =
            || all().rfind(|looked| looked.verdict == Verdict::Applied && self.decision == "fault_aborted");
        let chosen = || {
            let mut routes =
                self.stages.iter().filter(|stage| stage.stage == "route").flat_map(|stage| &stage.looked);
            routes.rfind(|looked| looked.verdict == Verdict::Chosen)
        };
        let passes = || {
            let mut passing = all().filter(|looked| looked.verdict == Verdict::Passes);
            let allows =
                all().find(|looked| looked.verdict == Verdict::Passes && looked.what.ends_with("(ALLOW)"));
            allows.or_else(|| passing.next_back())
        };
        match refuses.or_else(applied).or_else(chosen).or_else(passes) {
            Some(looked) => {
                // Where a way was chosen, the shares of its destinations belong to the reason.
                let forwards =
                    all().find(|other| looked.verdict == Verdict::Chosen && other.what == "destination");
                let shares = forwards.map(|other| format!("; {}", other.why)).unwrap_or_default();
                format!("{} ({}:{}): {}{shares}", looked.what, looked.file, looked.line, looked.why)
            }
            None => "no policy has a say".to_owned(),
        }
    }

    /// [`Self::reason`] of a request that went elsewhere than to this story's destination: of what was drawn, this came out.
    /// None: this was not to be drawn.
    pub fn reason_for(&self, destination: &str) -> Option<String> {
        let drawn = self.reason();
        let shares = drawn.strip_suffix(DRAWN)?.strip_suffix(self.destination.as_deref()?)?;
        let (_, split) = shares.strip_suffix(": ")?.rsplit_once("; ")?;
        let share = format!("{destination} ");
        let could = |one: &str| one.starts_with(&share) && one != format!("{share}0 %");
        split.split(", ").any(could).then(|| format!("{shares}{destination}{DRAWN}"))
    }

    /// What a stage looked at and did not skip: what it is, where it stands, why.
    pub fn looked(&self, stage: &str) -> Vec<String> {
        let all = self.stages.iter().filter(|known| known.stage == stage).flat_map(|stage| &stage.looked);
        all.filter(|looked| looked.verdict != Verdict::Skipped && !looked.shadow)
            .map(|looked| format!("{} ({}:{}): {}", looked.what, looked.file, looked.line, looked.why))
            .collect()
    }
}

/// Tells the story of a request.
pub fn tell(
    document: &Document,
    events: &[Event],
    request: &Request,
    answer: &Answer,
    now: Duration,
) -> Story {
    let mut teller = Teller {
        document,
        path: request_path(request),
        now: now.as_secs(),
        entry: "http".to_owned(),
        stages: Vec::new(),
    };
    let mut rest = events;
    let mut tags = BTreeMap::new();
    while let Some((Event::Stage(name), after)) = rest.split_first() {
        let end = after.iter().position(|event| matches!(event, Event::Stage(_))).unwrap_or(after.len());
        let (stage, next) = after.split_at(end);
        rest = next;
        teller.stage(name, stage);
        for event in stage {
            if let Event::Tag { name, value } = event {
                tags.insert(name.clone(), shown::value(name, value));
            }
        }
    }
    let scheme = if request.tls { "https" } else { "http" };
    Story {
        request: Asked {
            method: shown::plain(request.method.as_bytes()),
            url: format!("{scheme}://{}{}", shown::plain(&request.host), shown::path(&request.path)),
        },
        stages: teller.stages,
        answer: Told {
            status: answer.status,
            details: answer.details.clone(),
            body: shown::plain(&answer.body),
            headers: visible(&answer.headers, &[":status", "content-length", "x-upstream"]),
            delay_ms: answer.delay.as_millis(),
        },
        decision: answer.decision.clone(),
        route: answer.route.clone(),
        destination: answer.destination.clone(),
        upstream: answer.upstream.as_ref().map(|seen| upstream(seen, request, answer)),
        tags,
    }
}

/// The path as it came, without its query.
fn request_path(request: &Request) -> Vec<u8> {
    request.path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default().to_vec()
}

fn visible(headers: &Headers, hidden: &[&str]) -> Vec<(String, String)> {
    let shown = headers.iter().filter(|(name, _)| !hidden.contains(&name.as_str()));
    shown.map(|(name, value)| (name.clone(), shown::value(name, value))).collect()
}

fn upstream(seen: &crate::proxy::Seen, request: &Request, answer: &Answer) -> Upstream {
    let first = |name: &str| {
        let found = seen.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let had = |name: &str| -> Vec<&[u8]> {
        let all = request.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        all.map(|(_, value)| value.as_slice()).collect()
    };
    let ours = |name: &str| {
        name.starts_with(':') || ["x-forwarded-for", "x-forwarded-proto", "x-request-id"].contains(&name)
    };
    let has = |name: &str| -> Vec<&[u8]> {
        seen.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    };
    let changed = seen.headers.iter().filter(|(name, _)| !ours(name) && had(name) != has(name));
    let mut removed: Vec<String> = request
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .filter(|name| !ours(name) && has(name).is_empty())
        .collect();
    removed.dedup();
    Upstream {
        cluster: crate::proxy::called(&seen.cluster).to_owned(),
        method: shown::plain(&first(":method")),
        path: shown::path(&seen.path),
        authority: shown::plain(&first(":authority")),
        headers: visible(&seen.headers, &[":method", ":path", ":authority"]),
        mirrors: answer.mirrors.clone(),
        set: changed.map(|(name, value)| (name.clone(), shown::value(name, value))).collect(),
        removed,
    }
}

struct Teller<'a> {
    document: &'a Document,
    path: Vec<u8>,
    now: u64,
    /// The chosen entry's path.
    entry: String,
    stages: Vec<Stage>,
}

impl Teller<'_> {
    fn stage(&mut self, name: &'static str, events: &[Event]) {
        let (stage, looked) = match name {
            "authenticate" => ("authenticate", self.authenticate(events)),
            "authorize" => ("authorize", self.authorize(events)),
            "route" => {
                let chosen = events.iter().find_map(|event| match event {
                    Event::Entry(index) => Some(format!("http[{index}]")),
                    _ => None,
                });
                self.entry = chosen.unwrap_or_else(|| "http".to_owned());
                ("route", self.route(events))
            }
            "limit" | "ask" => ("limit", self.limit(events)),
            "delay" | "abort" => ("fault", self.fault(events)),
            "forward" => ("forward", self.forward(events)),
            _ => return,
        };
        if looked.is_empty() {
            return;
        }
        // A stage that waited is run again: what it says then counts.
        match self.stages.iter_mut().find(|known| known.stage == stage) {
            Some(known) if matches!(name, "authenticate") => known.looked = looked,
            Some(known) => known.looked.extend(looked),
            None => self.stages.push(Stage { stage, looked }),
        }
    }

    /// A line about something of the document.
    fn at(&self, path: &str, what: impl Into<String>) -> Looked {
        let found = self.document.find(path);
        Looked {
            what: what.into(),
            path: found.path,
            file: self.document.file.clone(),
            line: found.place.line,
            column: found.place.column,
            ..Looked::default()
        }
    }

    fn said(&self, condition: &Condition) -> Said {
        let found = self.document.find(condition.place.as_str());
        let path = &found.path;
        let member = path.rsplit('.').next().unwrap_or_default();
        let (of, negated) = match path.rsplit_once('.') {
            Some((parent, "values" | "notValues")) => {
                let named = |name: &str| self.document.text(&format!("{parent}.{name}"));
                let of =
                    named("key").map(str::to_owned).or(named("claim").map(|claim| format!("claim {claim}")));
                (of.unwrap_or_default(), member == "notValues")
            }
            _ => (String::new(), member.starts_with("not") || path.contains(".without")),
        };
        let name = of.rsplit(['[', '.']).next().unwrap_or_default().trim_end_matches(']');
        let name = if name.is_empty() {
            member.rsplit('[').next().unwrap_or_default().trim_end_matches(']')
        } else {
            name
        };
        let cookie = of.contains("cookies[") || path.contains(".cookies[");
        let secret = if cookie { format!("cookie {name}") } else { name.to_owned() };
        Said {
            line: found.place.line,
            column: found.place.column,
            of,
            holds: word(condition.holds),
            seen: condition.seen.iter().map(|value| shown::value(&secret, value)).collect(),
            wanted: found.value.map(|value| wanted(&secret, value)).unwrap_or_default(),
            negated,
            reading: condition.reading.as_deref().filter(|reading| *reading != self.path).map(shown::plain),
            token: condition.token.as_deref().map(str::to_owned),
            path: found.path,
        }
    }

    fn authenticate(&self, events: &[Event]) -> Vec<Looked> {
        let mut all = Vec::new();
        let mut conditions: Vec<&Condition> = Vec::new();
        for event in events {
            match event {
                Event::NotAsked { preflight: true } => {
                    let mut line = self.at("authentication", "CORS preflight");
                    line.why = "it never has a token, so none is asked for".to_owned();
                    all.push(line);
                }
                Event::Condition(condition) => conditions.push(condition),
                Event::Match { place, holds } => {
                    let mut line = self.matched(place.as_str(), *holds, &conditions, false);
                    line.what = "requirement".to_owned();
                    conditions.clear();
                    all.push(line);
                }
                Event::Requirement(Some(index)) => {
                    let path = format!("authentication.requirements[{index}]");
                    let require = self.document.find(&format!("{path}.require")).value;
                    let mut line = self.at(&path, "requirement");
                    line.verdict = Verdict::Chosen;
                    let words = require.map_or_else(
                        || "any".to_owned(),
                        |require| match require {
                            Value::String(text) => text.clone(),
                            other => other.to_string(),
                        },
                    );
                    line.why = format!("asks for {words}");
                    all.retain(|known: &Looked| !known.path.starts_with(&path));
                    all.push(line);
                }
                Event::Requirement(None) => conditions.clear(),
                Event::Token { rule, found, verdict } => {
                    all.push(self.token(*rule, found.as_ref(), verdict, &conditions));
                    conditions.clear();
                }
                _ => {}
            }
        }
        all
    }

    fn token(
        &self,
        rule: usize,
        found: Option<&(meshfilter::policy::authentication::Place, Vec<u8>)>,
        verdict: &TokenVerdict,
        conditions: &[&Condition],
    ) -> Looked {
        let path = format!("authentication.jwtRules[{rule}]");
        let named = |member: &str| self.document.text(&format!("{path}.{member}")).map(str::to_owned);
        let name = named("name").or(named("issuer")).unwrap_or_else(|| format!("jwtRules[{rule}]"));
        let mut line = self.at(&path, format!("rule {name}"));
        let Some((place, bytes)) = found else {
            line.verdict = Verdict::Refuses;
            line.why = "no token".to_owned();
            return line;
        };
        let read = token::Read::of(bytes);
        let mut parts = vec![format!("token in {}", token::place(*place, &path, self.document))];
        match verdict {
            TokenVerdict::Good(_) => {
                parts.extend(Some(read.summary()).filter(|summary| !summary.is_empty()));
                parts.extend(read.left(self.now));
            }
            TokenVerdict::Bad(failure) => {
                line.verdict = Verdict::Refuses;
                parts.push(failure.text().to_owned());
                parts.extend(read.reason(*failure, &path, self.document, self.now));
                line.conditions = self.deciding(conditions, Truth::No);
                parts.extend(line.conditions.iter().map(|said| said.words(&path)));
            }
            TokenVerdict::Wait => {
                line.verdict = Verdict::Refuses;
                parts.push("its keys are not there yet".to_owned());
                let failure = meshfilter::policy::authentication::Failure::KEYS;
                parts.extend(read.reason(failure, &path, self.document, self.now));
            }
        }
        line.why = parts.join(", ");
        line
    }

    fn authorize(&self, events: &[Event]) -> Vec<Looked> {
        // A policy's rules may be told between those of others; a policy is one line, where it stands in the document.
        let mut policies: BTreeMap<usize, (Vec<Looked>, Truth)> = BTreeMap::new();
        let mut order = Vec::new();
        let mut conditions: Vec<&Condition> = Vec::new();
        let mut all = Vec::new();
        for event in events {
            match event {
                Event::AmbiguousPath => {
                    let mut line = self.at("authorization", "ambiguousPaths");
                    line.verdict = Verdict::Refuses;
                    line.why = format!("servers differ on what the path {} names", shown::plain(&self.path));
                    all.push(line);
                }
                Event::Condition(condition) => conditions.push(condition),
                Event::Rule { policy, number, holds } => {
                    let mut line = self.at(&format!("authorization[{policy}].rules[{number}]"), "");
                    line.conditions = self.deciding(&conditions, *holds);
                    let (lines, answer) = policies.entry(*policy).or_insert_with(|| {
                        order.push(*policy);
                        (Vec::new(), Truth::No)
                    });
                    if *holds > *answer {
                        lines.clear();
                        *answer = *holds;
                    }
                    if *holds == *answer {
                        lines.push(line);
                    }
                    conditions.clear();
                }
                _ => {}
            }
        }
        let nothing_matched = policies.values().all(|(_, holds)| *holds != Truth::Yes);
        let entries = member(&self.document.source.value, "authorization").as_array();
        for (place, entry) in entries.into_iter().flatten().enumerate() {
            let empty = entry["rules"].as_array().is_none_or(Vec::is_empty);
            let allows = matches!(entry["action"].as_str(), None | Some("ALLOW"));
            if empty && allows && nothing_matched && all.is_empty() {
                policies.insert(place, (Vec::new(), Truth::No));
            }
        }
        for (place, (rules, holds)) in policies {
            all.push(self.policy(place, &rules, holds));
        }
        all
    }

    fn policy(&self, place: usize, rules: &[Looked], holds: Truth) -> Looked {
        let path = format!("authorization[{place}]");
        let action = self.document.text(&format!("{path}.action")).unwrap_or("ALLOW").to_owned();
        let name = self.document.text(&format!("{path}.name")).unwrap_or(&path).to_owned();
        let mut line = self.at(&path, format!("{name} ({action})"));
        line.shadow = self.is_shadow(&path);
        let passes = match action.as_str() {
            "DENY" => holds == Truth::No,
            "AUDIT" => true,
            _ => holds == Truth::Yes,
        };
        line.verdict = if passes { Verdict::Passes } else { Verdict::Refuses };
        line.conditions = rules.iter().flat_map(|rule| rule.conditions.clone()).collect();
        let reasons: Vec<String> = line.conditions.iter().map(|said| said.words(&path)).collect();
        let start = match (action.as_str(), holds) {
            (_, Truth::Unknown) => "cannot be told: ",
            ("AUDIT", Truth::Yes) => "audited: ",
            ("AUDIT", Truth::No) => "not audited: ",
            _ => "",
        };
        line.why = match (reasons.is_empty(), rules) {
            (false, _) => format!("{start}{}", several(&reasons)),
            (true, []) => "it has no rules, and lets nothing pass".to_owned(),
            (true, [rule, ..]) => {
                let rule = rule.path.strip_prefix(&format!("{path}.")).unwrap_or(&rule.path);
                format!("{start}{rule} is empty and always matches")
            }
        };
        line
    }

    fn is_shadow(&self, path: &str) -> bool {
        self.document.text(&format!("{path}.mode")) == Some("shadow")
    }

    /// The conditions that decided: of what does not hold, those of the part that failed; else all that held.
    fn deciding(&self, conditions: &[&Condition], holds: Truth) -> Vec<Said> {
        let part = |said: &Said| {
            let rest = said.path.split_once(".rules[").map_or(said.path.as_str(), |(_, rest)| rest);
            rest.split(['.', '['])
                .find(|part| ["from", "to", "when"].contains(part))
                .unwrap_or_default()
                .to_owned()
        };
        let mut all: Vec<Said> = Vec::new();
        for said in conditions.iter().map(|condition| self.said(condition)) {
            if said.holds == word(holds) && !all.contains(&said) {
                all.push(said);
            }
        }
        if holds == Truth::No
            && let Some(failed) = all.last().map(part)
        {
            all.retain(|said| part(said) == failed);
        }
        all
    }

    /// What the conditions of a match came to.
    fn matched(&self, path: &str, holds: Truth, conditions: &[&Condition], whole: bool) -> Looked {
        let mut line = self.at(path, "");
        let decided = conditions.iter().filter(|condition| condition.holds == holds);
        line.conditions = decided.map(|condition| self.said(condition)).collect();
        let parent = if whole { "" } else { path.rsplit_once('.').map_or("", |(parent, _)| parent) };
        let reasons: Vec<String> = line.conditions.iter().map(|said| said.words(parent)).collect();
        line.why = if reasons.is_empty() { "it asks for nothing".to_owned() } else { several(&reasons) };
        line.verdict = if holds == Truth::Yes { Verdict::Chosen } else { Verdict::Skipped };
        line
    }

    fn route(&self, events: &[Event]) -> Vec<Looked> {
        let mut all: Vec<Looked> = Vec::new();
        let mut conditions: Vec<&Condition> = Vec::new();
        let entry =
            |path: &str| path.split_once("].").map_or(path.to_owned(), |(entry, _)| format!("{entry}]"));
        for event in events {
            match event {
                Event::Condition(condition) => conditions.push(condition),
                Event::Match { place, holds } => {
                    let path = entry(place.as_str());
                    let matched = self.matched(place.as_str(), *holds, &conditions, false);
                    conditions.clear();
                    let mut line = self.at(&path, self.entry_name(&path));
                    line.conditions = matched.conditions;
                    line.why = matched.why;
                    line.verdict = matched.verdict;
                    match all.last_mut().filter(|last| last.path == line.path) {
                        Some(last) if line.verdict == Verdict::Chosen => *last = line,
                        Some(last) => {
                            last.why = format!("{}; {}", last.why, line.why);
                            last.conditions.extend(line.conditions);
                        }
                        None => all.push(line),
                    }
                }
                Event::Entry(index) => {
                    let path = format!("http[{index}]");
                    if all.last().is_none_or(|last| last.path != path) {
                        let mut line = self.at(&path, self.entry_name(&path));
                        line.verdict = Verdict::Chosen;
                        line.why = "it has no match, and is for every request".to_owned();
                        all.push(line);
                    }
                }
                _ => {}
            }
        }
        if !all.is_empty() && all.iter().all(|line| line.verdict != Verdict::Chosen) {
            let mut line = self.at("http", "no entry");
            line.why = "Envoy's own route decides where it goes".to_owned();
            all.push(line);
        }
        all
    }

    fn entry_name(&self, path: &str) -> String {
        self.document.text(&format!("{path}.name")).unwrap_or(path).to_owned()
    }

    fn limit(&self, events: &[Event]) -> Vec<Looked> {
        let mut all: Vec<Looked> = Vec::new();
        let mut conditions: Vec<&Condition> = Vec::new();
        for event in events {
            match event {
                Event::Condition(condition) => conditions.push(condition),
                Event::Match { place, holds } => {
                    if *holds != Truth::Yes {
                        let path = place
                            .as_str()
                            .split_once("].")
                            .map_or(String::new(), |(path, _)| format!("{path}]"));
                        let matched = self.matched(place.as_str(), *holds, &conditions, false);
                        let mut line = self.at(&path, self.entry_name(&path));
                        line.verdict = Verdict::Skipped;
                        line.why = format!("does not apply: {}", matched.why);
                        line.conditions = matched.conditions;
                        all.retain(|known| known.path != path);
                        all.push(line);
                    } else {
                        let path = place
                            .as_str()
                            .split_once("].")
                            .map_or(String::new(), |(path, _)| format!("{path}]"));
                        all.retain(|known| known.path != path);
                    }
                    conditions.clear();
                }
                Event::Limit { name, mode, key, cost, size, allowed, remaining, wait } => {
                    let path = self.document.named("rateLimits", name);
                    let mut line = self.at(&path, name.to_string());
                    line.shadow = *mode == Mode::Shadow;
                    line.verdict = if *allowed { Verdict::Passes } else { Verdict::Refuses };
                    let key = self.key(&path, key);
                    line.why = format!("{key}cost {cost}, {remaining} of {size} left");
                    if !allowed {
                        let wait = wait.as_millis().div_ceil(1);
                        line.why.push_str(&format!(", enough in {}", milliseconds(wait)));
                    }
                    all.push(line);
                }
                Event::LimitLacks { name, part } => {
                    let path = self.document.named("rateLimits", name);
                    let mut line = self.at(&path, name.to_string());
                    line.verdict = Verdict::Skipped;
                    let source = self.document.find(&format!("{path}.key[{part}]")).value;
                    line.why = format!(
                        "does not apply: the request has no {}",
                        source.map(key_words).unwrap_or_default()
                    );
                    all.push(line);
                }
                Event::Asked { name, mode, descriptors } => {
                    let path = self.document.named("rateLimits", name);
                    let mut line = self.at(&path, name.to_string());
                    line.shadow = *mode == Mode::Shadow;
                    line.verdict = Verdict::Applied;
                    let pair = |(key, value): &(String, String)| {
                        format!("{key}={}", shown::value(key, value.as_bytes()))
                    };
                    let all_of = |entries: &Vec<(String, String)>| {
                        entries.iter().map(pair).collect::<Vec<_>>().join(",")
                    };
                    let said: Vec<String> = descriptors.iter().map(all_of).collect();
                    let cluster = self.document.text(&format!("{path}.global.cluster")).unwrap_or_default();
                    line.why = format!("asks {cluster} about {}", said.join(" and "));
                    all.push(line);
                }
                Event::Answered { name, word } => {
                    let path = self.document.named("rateLimits", name);
                    if let Some(line) = all.iter_mut().rev().find(|line| line.path == path) {
                        line.why.push_str(match *word {
                            "unavailable" => "; nobody is asked here, so failureMode decides",
                            "limited" => "; over the limit",
                            _ => "; within the limit",
                        });
                    } else {
                        let mut line = self.at(&path, name.to_string());
                        line.verdict = Verdict::Applied;
                        line.why = match *word {
                            "unavailable" => "nobody is asked here, so failureMode decides".to_owned(),
                            other => other.to_owned(),
                        };
                        all.push(line);
                    }
                }
                _ => {}
            }
        }
        all
    }

    /// `key sub=alice, `
    fn key(&self, path: &str, values: &[Vec<u8>]) -> String {
        let parts = values.iter().enumerate().map(|(index, value)| {
            let source = self.document.find(&format!("{path}.key[{index}]")).value;
            let name = source.map(key_words).unwrap_or_default();
            let cookie = source.is_some_and(|source| source.get("cookie").is_some());
            let secret = if cookie { format!("cookie {name}") } else { name.clone() };
            format!("{name}={}", shown::value(&secret, value))
        });
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() {
            "one bucket for all, ".to_owned()
        } else {
            format!("key {}, ", parts.join(" "))
        }
    }

    fn fault(&self, events: &[Event]) -> Vec<Looked> {
        let mut all: Vec<Looked> = Vec::new();
        for event in events {
            match event {
                Event::Draw { name, mode, kind, parts_per_million, drawn } => {
                    let path = self.document.named("http", name);
                    let mut line = self.at(&format!("{path}.fault.{kind}"), name.to_string());
                    line.shadow = *mode == Mode::Shadow;
                    line.verdict = if *drawn { Verdict::Applied } else { Verdict::Skipped };
                    let what = self.document.find(&format!("{path}.fault.{kind}")).value.map(fault_words);
                    let share = percent(u64::from(*parts_per_million), 1_000_000);
                    let drawn = if *drawn { "drawn" } else { "not drawn" };
                    line.why = format!("{kind}{} for {share}: {drawn}", what.unwrap_or_default());
                    all.push(line);
                }
                Event::Spared { name, reason } => {
                    let path = self.document.named("http", name);
                    let mut line = self.at(&format!("{path}.fault.{reason}"), name.to_string());
                    line.verdict = Verdict::Skipped;
                    line.why = match *reason {
                        "until" => "its time is over".to_owned(),
                        _ => "too many are active".to_owned(),
                    };
                    if all.iter().all(|known| known.why != line.why) {
                        all.push(line);
                    }
                }
                _ => {}
            }
        }
        all
    }

    fn mirror(&self) -> String {
        let member = ["mirrors", "mirror"]
            .into_iter()
            .find(|member| self.document.find(&format!("{}.{member}", self.entry)).value.is_some());
        format!("{}.{}", self.entry, member.unwrap_or("mirror"))
    }

    fn forward(&self, events: &[Event]) -> Vec<Looked> {
        let mut all = Vec::new();
        for event in events {
            match event {
                Event::Split { shares, chosen, sticky } => {
                    let mut line = self.at(&format!("{}.route", self.entry), "destination");
                    line.verdict = Verdict::Chosen;
                    let total: u64 = shares.iter().map(|(_, weight)| weight).sum();
                    let chosen = shares.get(*chosen).map_or("", |(cluster, _)| cluster);
                    line.why = match shares.len() {
                        1 => chosen.to_owned(),
                        _ => {
                            let share = |(cluster, weight): &(std::rc::Rc<str>, u64)| {
                                format!("{cluster} {}", percent(*weight, total))
                            };
                            let shares: Vec<String> = shares.iter().map(share).collect();
                            let how = if *sticky { " by the sticky value" } else { DRAWN };
                            format!("{}: {chosen}{how}", shares.join(", "))
                        }
                    };
                    all.push(line);
                }
                Event::Mirror { cluster, parts_per_million, drawn } => {
                    let mut line = self.at(&self.mirror(), "mirror");
                    line.verdict = if *drawn { Verdict::Applied } else { Verdict::Skipped };
                    let share = percent(u64::from(*parts_per_million), 1_000_000);
                    line.why =
                        format!("{cluster} for {share}: {}", if *drawn { "drawn" } else { "not drawn" });
                    all.push(line);
                }
                _ => {}
            }
        }
        all
    }
}

impl Said {
    /// `rules[0].when[0] request.headers[user-role] is "guest", wanted admin or user`
    pub fn words(&self, parent: &str) -> String {
        let path =
            self.path.strip_prefix(parent).map_or(self.path.as_str(), |path| path.trim_start_matches('.'));
        let path =
            if self.of.is_empty() { path } else { path.rsplit_once('.').map_or(path, |(path, _)| path) };
        let mut words = path.to_owned();
        if !self.of.is_empty() {
            words = format!("{words} {}", self.of);
        }
        let quoted =
            |value: &String| if value.starts_with('"') { value.clone() } else { format!("\"{value}\"") };
        match self.seen.as_slice() {
            [] => words.push_str(" is absent"),
            seen => {
                words.push_str(&format!(" is {}", seen.iter().map(quoted).collect::<Vec<_>>().join(", ")))
            }
        }
        let none = if self.negated { "anything but " } else { "" };
        let several = || self.wanted.rsplit_once(" or ");
        words.push_str(&match (self.holds, several()) {
            // What holds is no complaint.
            ("yes", _) if self.negated => format!(", {none}{}", self.wanted),
            ("yes", Some((before, last))) => format!(", one of {before}, {last}"),
            ("yes", None) => format!(", matches {}", self.wanted),
            _ => format!(", wanted {none}{}", self.wanted),
        });
        if self.holds == "unknown" {
            words.push_str(", which cannot be told");
        }
        if let Some(reading) = &self.reading {
            words.push_str(&format!(" (the path reads as {reading}, too)"));
        }
        words
    }
}

fn several(reasons: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut words = reasons.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if reasons.len() > SHOWN {
        words.push_str(&format!("; and {} more", reasons.len().saturating_sub(SHOWN)));
    }
    words
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::No => "no",
        Truth::Unknown => "unknown",
        Truth::Yes => "yes",
    }
}

/// What a part of a key is: `sub` for `{claim: sub}`, `path` for `{path: true}`.
fn key_words(source: &Value) -> String {
    let member = source.as_object().and_then(|members| members.iter().find(|(name, _)| *name != "default"));
    match member {
        Some((_, Value::String(text))) => text.clone(),
        Some((name, _)) => name.clone(),
        None => String::new(),
    }
}

/// How long a delay is, with what an abort answers.
fn fault_words(fault: &Value) -> String {
    for name in ["fixedDelay", "httpStatus", "grpcStatus"] {
        match &fault[name] {
            Value::Null => {}
            Value::String(text) => return format!(" of {text}"),
            other => return format!(" with {other}"),
        }
    }
    String::new()
}

/// A share as people write it: `90 %`, `0.25 %`.
pub fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    let text = format!("{share:.4}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn milliseconds(wait: u128) -> String {
    if wait < 10_000 {
        format!("{wait} ms")
    } else {
        token::span(u64::try_from(wait / 1000).unwrap_or(u64::MAX))
    }
}
