//! The XML that JUnit writes and every CI reads: a suite for each case, a test for each request.

use std::fmt::Write;
use std::time::Duration;

use super::Ran;

pub(super) fn xml(ran: &[Ran], took: Duration) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"meshfilter\" time=\"{}\">", took.as_secs_f64());
    for Ran { file, outcome, skipped } in ran {
        // What is about no single request is a test of its own.
        let mut whole = outcome.counters.clone();
        whole.extend(outcome.error.clone());
        let failed = outcome.requests.iter().filter(|request| !request.problems.is_empty()).count();
        let tests = outcome.requests.len().saturating_add(1);
        let failures = failed.saturating_add(usize::from(!whole.is_empty()));
        let skips = if skipped.is_some() { outcome.requests.len() } else { 0 };
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" file=\"{}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skips}\" time=\"{}\">",
            escaped(&outcome.name),
            escaped(file),
            outcome.took.as_secs_f64()
        );
        for request in &outcome.requests {
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\"",
                escaped(&outcome.id),
                escaped(&request.name)
            );
            match (skipped, request.problems.is_empty()) {
                (Some(why), true) => {
                    let _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", escaped(why));
                }
                (None, true) => out.push_str("/>\n"),
                (_, false) => failure(&mut out, &request.problems),
            }
        }
        let _ =
            write!(out, "    <testcase classname=\"{}\" name=\"policy and counters\"", escaped(&outcome.id));
        if whole.is_empty() {
            out.push_str("/>\n")
        } else {
            failure(&mut out, &whole)
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn failure(out: &mut String, problems: &[String]) {
    let all = problems.join("\n");
    let first = problems.first().map(String::as_str).unwrap_or_default();
    let first = first.lines().next().unwrap_or_default();
    let _ = writeln!(out, "><failure message=\"{}\">{}</failure></testcase>", escaped(first), escaped(&all));
}

/// Text as XML 1.0 takes it: what no document may hold is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Outcome, RequestOutcome};

    #[test]
    fn a_report_is_xml_whatever_a_case_says() {
        let outcome = Outcome {
            id: "a".to_owned(),
            name: "a < b & \"c\"\u{1b}".to_owned(),
            requests: vec![
                RequestOutcome { name: "good".to_owned(), problems: Vec::new() },
                RequestOutcome { name: "bad".to_owned(), problems: vec!["status is 200".to_owned()] },
            ],
            ..Outcome::default()
        };
        let printed = xml(&[Ran { file: "a.yaml".to_owned(), outcome, skipped: None }], Duration::ZERO);
        assert_eq!(
            printed,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"meshfilter\" time=\"0\">\n  \
             <testsuite name=\"a &lt; b &amp; &quot;c&quot;\u{fffd}\" file=\"a.yaml\" tests=\"3\" failures=\"1\" skipped=\"0\" \
             time=\"0\">\n    <testcase classname=\"a\" name=\"good\"/>\n    <testcase classname=\"a\" name=\"bad\"><failure \
             message=\"status is 200\">status is 200</failure></testcase>\n    <testcase classname=\"a\" \
             name=\"policy and counters\"/>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
