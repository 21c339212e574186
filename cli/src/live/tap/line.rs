//! A line of the JSON access log: what is shown of it, and whether it is wanted.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::explain::plain;
use crate::recorded::tags::{Names, decision};
use crate::recorded::time;

/// What the log of `bootstrap` has besides tags.
const FIELDS: [&str; 18] = [
    "time",
    "method",
    "authority",
    "path",
    "protocol",
    "client",
    "peer",
    "status",
    "flags",
    "details",
    "duration_ms",
    "upstream",
    "destination",
    "scheme",
    "port",
    "direct",
    "headers",
    "claims",
];

/// A request that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    pub time: Option<String>,
    pub method: String,
    pub authority: Option<String>,
    pub path: String,
    pub protocol: Option<String>,
    pub client: Option<String>,
    pub peer: Option<String>,
    /// 0: no response began.
    pub status: Option<u64>,
    pub duration_ms: Option<u64>,
    pub decision: Option<String>,
    pub route: Option<String>,
    pub destination: Option<String>,
    pub details: Option<String>,
    pub flags: Option<String>,
    pub upstream: Option<String>,
    /// Everything else that is a text, a number or a truth value.
    pub tags: BTreeMap<String, String>,
}

impl Line {
    /// Takes what a line says.
    ///
    /// # Errors
    /// That it is no line of the access log.
    pub fn of(value: &Value, names: &Names) -> Result<Self, String> {
        let members = value.as_object().ok_or("it is no object")?;
        let text = |name: &str| match members.get(name)? {
            Value::String(text) if text == "-" => None,
            Value::String(text) => Some(plain(text.as_bytes())),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        };
        let number = |name: &str| match members.get(name)? {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        // A tag that has the name of a field is `tag.NAME`.
        let tag = |name: &str| text(&format!("tag.{name}")).or_else(|| text(name));
        let mut line = Line {
            time: text("time"),
            method: text("method").ok_or("\"method\" is missing")?,
            authority: text("authority"),
            path: text("path").ok_or("\"path\" is missing")?,
            protocol: text("protocol"),
            client: text("client"),
            peer: text("peer"),
            status: number("status"),
            duration_ms: number("duration_ms"),
            decision: tag(&names.decision),
            route: tag(&names.route),
            destination: tag(&names.destination).or_else(|| text("destination")),
            details: text("details"),
            flags: text("flags"),
            upstream: text("upstream"),
            tags: BTreeMap::new(),
        };
        if line.decision.is_none() {
            line.decision = line.details.as_deref().and_then(|details| decision(details, line.status));
        }
        let ours = [&names.route, &names.decision, &names.destination];
        for name in members.keys() {
            let bare = name.strip_prefix("tag.").unwrap_or(name);
            if !FIELDS.contains(&name.as_str())
                && !ours.iter().any(|ours| *ours == bare)
                && let Some(value) = text(name)
            {
                line.tags.insert(plain(bare.as_bytes()), value);
            }
        }
        Ok(line)
    }

    /// When, since the Unix epoch.
    pub fn when(&self) -> Option<Duration> {
        time(self.time.as_deref()?).ok()
    }
}

/// `403`, or `5xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Code(u64),
    Class(u64),
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let found = match lower.strip_suffix("xx") {
            Some(class) => class.parse().ok().filter(|class| (1..=5).contains(class)).map(Status::Class),
            None => {
                lower.parse().ok().filter(|code| *code == 0 || (100..=599).contains(code)).map(Status::Code)
            }
        };
        found.ok_or_else(|| {
            format!("{text:?} is no status; use one such as 503, a class such as 5xx, or 0 for no response")
        })
    }
}

impl Status {
    fn holds(self, status: u64) -> bool {
        match self {
            Status::Code(code) => status == code,
            Status::Class(class) => status / 100 == class,
        }
    }
}

/// Which lines are wanted. Of each kind any has to hold, and of every kind that is given one; of tags every name.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub routes: Vec<String>,
    pub decisions: Vec<String>,
    pub statuses: Vec<Status>,
    pub methods: Vec<String>,
    /// The beginning of a path.
    pub paths: Vec<String>,
    pub tags: Vec<(String, String)>,
}

impl Wanted {
    /// Whether this line is.
    pub fn holds(&self, line: &Line) -> bool {
        let is = |wanted: &[String], value: Option<&str>| {
            wanted.is_empty() || wanted.iter().any(|wanted| value.unwrap_or("none") == wanted)
        };
        let any = |name: &str| {
            self.tags.iter().filter(|(known, _)| known == name).any(|(_, value)| has(line, name, value))
        };
        is(&self.routes, line.route.as_deref())
            && is(&self.decisions, line.decision.as_deref())
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|wanted| wanted.holds(line.status.unwrap_or(0))))
            && (self.methods.is_empty()
                || self.methods.iter().any(|method| method.eq_ignore_ascii_case(&line.method)))
            && (self.paths.is_empty() || self.paths.iter().any(|path| line.path.starts_with(path.as_str())))
            && self.tags.iter().all(|(name, _)| any(name))
    }
}

fn has(line: &Line, name: &str, value: &str) -> bool {
    let own = match name {
        "route" => line.route.as_deref(),
        "decision" => line.decision.as_deref(),
        "destination" => line.destination.as_deref(),
        _ => None,
    };
    own.or_else(|| line.tags.get(name).map(String::as_str)).unwrap_or("none") == value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(value: Value) -> Line {
        Line::of(&value, &Names::default()).unwrap()
    }

    #[test]
    fn a_line_of_envoys_is_read() {
        let line = line(
            json!({"time": "2026-01-31T12:00:00.500Z", "method": "GET", "authority": "webapp", "path": "/a\u{1b}[2J",
            "protocol": "HTTP/1.1", "client": "10.0.0.9", "peer": null, "status": 200, "flags": "-", "details": "via_upstream",
            "duration_ms": 3, "upstream": "10.0.0.1:80", "destination": "webapp|v1", "route": "weighted", "tenant": "acme",
            "tag.status": "gold", "headers": {"a": "b"}, "empty": null}),
        );
        assert_eq!(line.path, "/a\\u{1b}[2J");
        assert_eq!((line.status, line.duration_ms), (Some(200), Some(3)));
        assert_eq!((line.peer.as_deref(), line.flags.as_deref()), (None, None));
        assert_eq!(
            (line.route.as_deref(), line.destination.as_deref()),
            (Some("weighted"), Some("webapp|v1"))
        );
        assert_eq!(line.decision.as_deref(), Some("allowed"));
        assert_eq!(
            line.tags,
            [("status", "gold"), ("tenant", "acme")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        assert_eq!(line.when(), Some(Duration::new(1_769_860_800, 500_000_000)));
        for (value, wrong) in [
            (json!([]), "no object"),
            (json!({}), "\"method\" is missing"),
            (json!({"method": "GET", "path": [1]}), "\"path\""),
        ] {
            assert!(Line::of(&value, &Names::default()).unwrap_err().contains(wrong), "{value}");
        }
    }

    #[test]
    fn details_say_which_decision_it_was() {
        for (details, status, decision) in [
            ("jwt_authn_access_denied{Jwt_is_expired}", 401, "authn_denied"),
            ("rbac_access_denied_matched_policy[none]", 403, "authz_denied"),
            ("meshfilter_ambiguous_path", 400, "authz_denied"),
            ("local_rate_limited", 429, "rate_limited"),
            ("fault_filter_abort", 503, "fault_aborted"),
            ("direct_response", 301, "redirected"),
            ("direct_response", 200, "direct_response"),
            ("upstream_reset_before_response_started{connection_failure}", 503, "allowed"),
        ] {
            let line = line(json!({"method": "GET", "path": "/", "details": details, "status": status}));
            assert_eq!(line.decision.as_deref(), Some(decision), "{details}");
        }
        let told =
            line(json!({"method": "GET", "path": "/", "details": "via_upstream", "decision": "redirected"}));
        assert_eq!(told.decision.as_deref(), Some("redirected"));
    }

    #[test]
    fn filters_are_joined_by_and_and_their_values_by_or() {
        let line = line(
            json!({"method": "POST", "path": "/api/a", "status": 503, "route": "r", "tenant": "acme", "plan": "gold"}),
        );
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let tags = |list: &[(&str, &str)]| {
            list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        let statuses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<Status>>();
        for (wanted, holds) in [
            (Wanted::default(), true),
            (Wanted { routes: texts(&["q", "r"]), ..Wanted::default() }, true),
            (Wanted { routes: texts(&["none"]), ..Wanted::default() }, false),
            (Wanted { decisions: texts(&["none"]), ..Wanted::default() }, true),
            (Wanted { methods: texts(&["post"]), paths: texts(&["/api"]), ..Wanted::default() }, true),
            (Wanted { methods: texts(&["post"]), paths: texts(&["/b"]), ..Wanted::default() }, false),
            (Wanted { statuses: statuses(&["4xx", "5xx"]), ..Wanted::default() }, true),
            (Wanted { statuses: statuses(&["502"]), ..Wanted::default() }, false),
            (
                Wanted {
                    tags: tags(&[("tenant", "x"), ("tenant", "acme"), ("plan", "gold")]),
                    ..Wanted::default()
                },
                true,
            ),
            (Wanted { tags: tags(&[("tenant", "acme"), ("plan", "free")]), ..Wanted::default() }, false),
            (Wanted { tags: tags(&[("other", "none")]), ..Wanted::default() }, true),
        ] {
            assert_eq!(wanted.holds(&line), holds, "{wanted:?}");
        }
        for text in ["", "6xx", "xx", "99", "600", "abc"] {
            assert!(text.parse::<Status>().unwrap_err().contains("use one such as"), "{text}");
        }
    }
}
