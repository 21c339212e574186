//! How a request is printed.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use super::line::Line;
use super::why::Why;

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// One line with everything that the log has
    Wide,
    /// One line of JSON
    Json,
}

/// One line, in the words of `linkerd tap`; what is not known is left out. With a reason, one more.
pub fn text(line: &Line, why: Option<&Why>, style: Option<Style>, colours: bool) -> String {
    if style == Some(Style::Json) {
        return json(line, why);
    }
    let wide = style == Some(Style::Wide);
    let (colour, reset) = match (colours, line.status.unwrap_or(0)) {
        (true, 0 | 500..) => ("\x1b[1;31m", "\x1b[0m"),
        (true, 400..) => ("\x1b[1;33m", "\x1b[0m"),
        (true, _) => ("\x1b[32m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let mut out = String::new();
    if let Some(time) = &line.time {
        // The day is the same for all that is watched.
        let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock.trim_end_matches('Z'));
        out.push_str(if wide { time } else { clock });
    }
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let blank = if out.is_empty() { "" } else { " " };
            let _ = match value.is_empty() || value.contains([' ', '"']) {
                true => write!(out, "{blank}{name}={value:?}"),
                false => write!(out, "{blank}{name}={value}"),
            };
        }
    };
    put("src", line.client.as_deref());
    put("dst", line.destination.as_deref());
    put(":method", Some(&line.method));
    put(":authority", line.authority.as_deref());
    put(":path", Some(&line.path));
    let status = line.status.map(|status| status.to_string());
    let status = status.map(|status| format!("{colour}{status}{reset}"));
    put(":status", status.as_deref());
    let latency = line.duration_ms.map(|ms| format!("{ms}ms"));
    put("latency", latency.as_deref());
    put("decision", line.decision.as_deref());
    put("route", line.route.as_deref());
    if wide {
        put("details", line.details.as_deref());
        put("flags", line.flags.as_deref());
        put("upstream", line.upstream.as_deref());
        put("protocol", line.protocol.as_deref());
        put("peer", line.peer.as_deref());
        for (name, value) in &line.tags {
            put(name, Some(value));
        }
    }
    out.push('\n');
    if let Some(why) = why {
        let _ = writeln!(out, "  {} {}", if why.agrees { "why:" } else { "why?" }, why.reason);
    }
    out
}

fn json(line: &Line, why: Option<&Why>) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        line: &'a Line,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<&'a Why>,
    }
    serde_json::to_string(&Told { line, why }).map(|text| text + "\n").unwrap_or_default()
}
