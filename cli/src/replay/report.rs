//! What differs, in a table that fits a screen and a pull request.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::explain::percent;
use crate::proxy::{Answer, called};
use crate::recorded::tags::Logged;

/// More kinds than this are counted together.
const MOST: usize = 1000;
/// More messages about lines that cannot be read are not kept.
const MESSAGES: usize = 3;

/// A way in which decisions differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    decision: [String; 2],
    destination: [String; 2],
    policy: String,
}

/// A request that was decided so.
#[derive(Clone, Debug)]
pub struct Example {
    pub number: u64,
    pub place: (usize, u64),
    pub line: String,
    pub old: String,
    pub new: String,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Report {
    pub requests: u64,
    /// Lines that cannot be read.
    pub wrong: u64,
    pub unreadable: Vec<(usize, u64, String)>,
    /// Lines of a log that has only what tags write into it.
    pub bare: u64,
    /// Lines that say what was decided.
    pub logged: u64,
    /// What each policy looks at and bare lines do not have: the old one, the new one.
    pub not_recorded: [Vec<String>; 2],
    /// What the log says was decided, and what the old policy decides.
    otherwise: BTreeMap<[String; 2], u64>,
    kinds: BTreeMap<Kind, (u64, Vec<Example>)>,
    first: usize,
}

impl Kind {
    pub fn of(old: &Answer, new: &Answer) -> Self {
        let destination = |answer: &Answer| {
            let seen = answer.upstream.as_ref().map(|seen| called(&seen.cluster).to_owned());
            seen.unwrap_or_else(|| match answer.status {
                Some(status) => status.to_string(),
                None => "closed".to_owned(),
            })
        };
        // Who refuses speaks for the difference; where nobody does, who chose the way.
        let policy = |answer: &Answer| {
            let inner = answer.details.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
            match &*answer.decision {
                "authn_denied" => "authentication".to_owned(),
                "authz_denied" => inner.unwrap_or(&answer.details).to_owned(),
                "rate_limited" => "rateLimits".to_owned(),
                _ => answer.route.clone().unwrap_or_else(|| "-".to_owned()),
            }
        };
        let speaks = if new.decision == "allowed" && old.decision != "allowed" { old } else { new };
        Kind {
            decision: [old.decision.to_string(), new.decision.to_string()],
            destination: [destination(old), destination(new)],
            policy: policy(speaks),
        }
    }

    fn other() -> Self {
        let all = || ["…".to_owned(), "…".to_owned()];
        Kind { decision: all(), destination: all(), policy: "others".to_owned() }
    }

    fn cells(&self, count: u64, of: u64) -> [String; 5] {
        let change =
            |[old, new]: &[String; 2]| if old == new { old.clone() } else { format!("{old} → {new}") };
        [
            change(&self.decision),
            change(&self.destination),
            self.policy.clone(),
            grouped(count),
            percent(count, of),
        ]
    }
}

impl Report {
    pub fn new(first: usize) -> Self {
        Report { first, ..Report::default() }
    }

    /// Whether another request of this kind would be shown.
    pub fn wants(&self, kind: &Kind) -> bool {
        match self.kinds.get(kind) {
            Some((_, examples)) => examples.len() < self.first,
            None => self.kinds.len() < MOST,
        }
    }

    pub fn count(&mut self, kind: Kind, example: Option<Example>) {
        let kind =
            if self.kinds.len() >= MOST && !self.kinds.contains_key(&kind) { Kind::other() } else { kind };
        let (count, examples) = self.kinds.entry(kind).or_default();
        *count = count.saturating_add(1);
        examples.extend(example);
    }

    pub fn cannot_read(&mut self, _: u64, (file, line): (usize, u64), error: String) {
        self.wrong = self.wrong.saturating_add(1);
        if self.unreadable.len() < MESSAGES {
            self.unreadable.push((file, line, error));
        }
    }

    /// Takes what the log says was decided, and what the old policy decides.
    pub fn compare(&mut self, logged: &Logged, decided: &str) {
        self.logged = self.logged.saturating_add(1);
        if !logged.differs(decided) {
            return;
        }
        // A log may call decisions anything.
        let pair = [logged.decision.as_str(), decided].map(str::to_owned);
        let pair = match self.otherwise.len() >= MOST && !self.otherwise.contains_key(&pair) {
            true => ["…".to_owned(), "…".to_owned()],
            false => pair,
        };
        let count = self.otherwise.entry(pair).or_default();
        *count = count.saturating_add(1);
    }

    /// How many requests the old policy decides otherwise than the log says.
    pub fn untrue(&self) -> u64 {
        self.otherwise.values().sum()
    }

    /// What has to be known before anything else is believed: how far the old policy agrees with the log, and what neither
    /// policy could see.
    pub fn doubts(&self) -> Vec<String> {
        const SHOWN: usize = 3;
        let mut doubts = Vec::new();
        let [old, new] = &self.not_recorded;
        let untrue = self.untrue();
        if untrue > 0 {
            let mut kinds: Vec<_> = self.otherwise.iter().collect();
            kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let kinds: Vec<String> = kinds
                .into_iter()
                .take(SHOWN)
                .map(|([logged, decided], count)| {
                    format!("{} {logged} in the log are {decided}", grouped(*count))
                })
                .collect();
            doubts.push(format!(
                "the old policy decides {} of {} otherwise than the log ({}): what is said here of the new one says little",
                grouped(untrue),
                grouped(self.logged),
                kinds.join(", ")
            ));
        }
        if self.bare > 0 {
            let mut all: Vec<&str> = old.iter().chain(new).map(String::as_str).collect();
            all.sort_unstable();
            all.dedup();
            if !all.is_empty() {
                doubts.push(format!(
                    "not recorded in {} of the requests, and decided as if absent: {}; record them with tags of the old policy, \
                     such as {{name: role, value: {{header: user-role}}, in: [logs]}}",
                    grouped(self.bare),
                    all.join(", ")
                ));
            }
        }
        doubts
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: Report) {
        self.bare = self.bare.saturating_add(other.bare);
        self.logged = self.logged.saturating_add(other.logged);
        for (pair, count) in other.otherwise {
            let sum = self.otherwise.entry(pair).or_default();
            *sum = sum.saturating_add(count);
        }
        self.requests = self.requests.saturating_add(other.requests);
        self.wrong = self.wrong.saturating_add(other.wrong);
        self.unreadable.extend(other.unreadable);
        self.unreadable.truncate(MESSAGES);
        for (kind, (count, examples)) in other.kinds {
            let (sum, all) = self.kinds.entry(kind).or_default();
            *sum = sum.saturating_add(count);
            all.extend(examples);
            all.sort_by_key(|example| example.number);
            all.truncate(self.first);
        }
    }

    /// How many requests are decided otherwise.
    pub fn differ(&self) -> u64 {
        self.kinds.values().map(|(count, _)| count).sum()
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Kind, u64, &[Example])> {
        let mut all: Vec<_> =
            self.kinds.iter().map(|(kind, (count, examples))| (kind, *count, examples.as_slice())).collect();
        all.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
        all
    }

    fn headline(&self) -> String {
        let differ = self.differ();
        match differ {
            0 if !self.doubts().is_empty() => {
                format!("{} requests, none is known to be decided otherwise", grouped(self.requests))
            }
            0 => format!("{} requests, none is decided otherwise", grouped(self.requests)),
            _ => format!(
                "{} requests, {} are decided otherwise ({})",
                grouped(self.requests),
                grouped(differ),
                percent(differ, self.requests)
            ),
        }
    }

    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.headline());
        for doubt in self.doubts() {
            let _ = writeln!(out, "! {doubt}");
        }
        let sorted = self.sorted();
        if sorted.is_empty() {
            return out;
        }
        let rows: Vec<[String; 5]> =
            sorted.iter().map(|(kind, count, _)| kind.cells(*count, self.requests)).collect();
        let head = ["decision", "destination", "policy", "count", "share"].map(str::to_owned);
        let mut widths = head.clone().map(|cell| cell.width());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let line = |row: &[String; 5]| {
            let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                let blank = " ".repeat(width.saturating_sub(cell.width()));
                if column >= 3 { format!("{blank}{cell}") } else { format!("{cell}{blank}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let _ = writeln!(out, "\n{}", line(&head));
        for row in &rows {
            let _ = writeln!(out, "{}", line(row));
        }
        for ((_, _, examples), row) in sorted.iter().zip(&rows) {
            let [decision, destination, policy, ..] = row;
            let _ = writeln!(out, "\n{decision}  {destination}  {policy}");
            for example in *examples {
                let _ = writeln!(out, "  {}  {}", example.place.1, example.line);
                let _ = writeln!(out, "     old  {}", example.old);
                let _ = writeln!(out, "     new  {}", example.new);
            }
        }
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n", self.headline());
        for doubt in self.doubts() {
            let _ = writeln!(out, "\n**{}**", escaped(&doubt));
        }
        let sorted = self.sorted();
        if sorted.is_empty() {
            return out;
        }
        out.push_str("\n| decision | destination | policy | count | share |\n|---|---|---|--:|--:|\n");
        for (kind, count, _) in &sorted {
            let cells = kind.cells(*count, self.requests).map(|cell| escaped(&cell));
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        for (kind, count, examples) in &sorted {
            let [decision, destination, policy, ..] =
                kind.cells(*count, self.requests).map(|cell| escaped(&cell));
            let _ = writeln!(out, "\n<details><summary>{decision}, {destination}, {policy}</summary>\n");
            for example in *examples {
                let _ = writeln!(out, "- line {}: `{}`", example.place.1, example.line.replace('`', "'"));
                let _ = writeln!(out, "  - old: {}", escaped(&example.old));
                let _ = writeln!(out, "  - new: {}", escaped(&example.new));
            }
            out.push_str("\n</details>\n");
        }
        out
    }

    pub fn json(&self) -> Value {
        let example = |example: &Example| {
            json!({
                "file": example.place.0,
                "line": example.place.1,
                "request": example.line,
                "old": example.old,
                "new": example.new,
            })
        };
        let kind = |(kind, count, examples): &(&Kind, u64, &[Example])| {
            let change = |[old, new]: &[String; 2]| json!({"old": old, "new": new});
            json!({
                "decision": change(&kind.decision),
                "destination": change(&kind.destination),
                "policy": kind.policy,
                "count": count,
                "first": examples.iter().map(example).collect::<Value>(),
            })
        };
        json!({
            "requests": self.requests,
            "differ": self.differ(),
            "unreadable": self.wrong,
            "logged": {
                "requests": self.logged,
                "otherwise": self.untrue(),
                "kinds": self.otherwise.iter().map(|([logged, decided], count)| json!({
                    "logged": logged, "old": decided, "count": count,
                })).collect::<Value>(),
            },
            "not_recorded": if self.bare > 0 { json!(self.not_recorded) } else { json!([[], []]) },
            "kinds": self.sorted().iter().map(kind).collect::<Value>(),
        })
    }
}

/// `1 000 000`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().saturating_sub(place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Text in a Markdown table.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}
