//! The rows of a picture as cells: what the screen, the plain table and sorting have in common.

use std::cmp::Ordering;

use super::noise::Finding;
use super::picture::{By, Comparison, Picture, Requests, span};
use super::quantile::Quantile;

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Rate(f64),
    /// 0 to 1.
    Share(Option<f64>),
    Time(Option<Quantile>),
}

/// What a cell is beside stable's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Worse,
    Better,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: &'static str,
    /// Names are flush left and may be cut; numbers are neither.
    pub is_name: bool,
}

/// A row: a cell for each column, some with a mark.
#[derive(Clone, Debug)]
pub struct Row {
    pub cells: Vec<(Cell, Option<Mark>)>,
    /// What is told of it where there is room.
    pub detail: String,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// What is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// `None`: as the picture has it, the most requests first.
    pub column: Option<usize>,
    /// The other way round.
    pub reversed: bool,
}

impl Table {
    /// All rows of a picture.
    pub fn of(picture: &Picture, by: &By) -> Self {
        if *by == By::Policy {
            return Self::of_policies(picture);
        }
        let tag = || match by {
            By::Tag(_) => "VALUE",
            By::Decision => "DECISION",
            By::Destination => "DESTINATION",
            _ => "ROUTE",
        };
        let names = if *by == By::Both { vec!["ROUTE", "DESTINATION"] } else { vec![tag()] };
        let name = |title| Column { title, is_name: true };
        let number = |title| Column { title, is_name: false };
        let numbers = ["RPS", "SUCCESS", "P50", "P95", "P99", "REFUSED"];
        let columns = names.into_iter().map(name).chain(numbers.into_iter().map(number)).collect();
        let rows = picture.rows.iter().map(|row| {
            let labels = by.labels();
            let label = |name: &&str| row.labels.get(*name).cloned().unwrap_or_default();
            let of = |comparison: &&Comparison| {
                *by == By::Both
                    && row.labels.get("route") == Some(&comparison.route)
                    && row.labels.get("destination") == Some(&comparison.canary.destination)
            };
            let comparison = picture.comparisons.iter().find(of);
            let mark = |finding: Option<Finding>| match finding {
                Some(Finding::Higher) => Some(Mark::Worse),
                Some(Finding::Lower) => Some(Mark::Better),
                _ => None,
            };
            let Requests { rps, success, refused, latency, .. } = &row.requests;
            let time = |of: fn(&super::quantile::Latency) -> Quantile| Cell::Time(latency.as_ref().map(of));
            let mut cells: Vec<(Cell, Option<Mark>)> =
                labels.iter().map(|name| (Cell::Text(label(name)), None)).collect();
            cells.extend([
                (Cell::Rate(*rps), None),
                (Cell::Share(*success), mark(comparison.map(|it| it.failures))),
                (time(|latency| latency.p50), None),
                (time(|latency| latency.p95), None),
                (time(|latency| latency.p99), mark(comparison.and_then(|it| it.slow))),
                (Cell::Share(*refused), None),
            ]);
            Row {
                cells,
                detail: detail(&labels.iter().map(label).collect::<Vec<_>>().join(" → "), &row.requests),
            }
        });
        Table { columns, rows: rows.collect() }
    }

    fn of_policies(picture: &Picture) -> Self {
        let columns =
            [("POLICY", true), ("MODE", true), ("DECISION", true), ("PER SECOND", false), ("SHARE", false)];
        let rows = picture.policies.iter().map(|policy| Row {
            cells: vec![
                (Cell::Text(policy.policy.clone()), None),
                (Cell::Text(policy.mode.clone()), None),
                (Cell::Text(policy.decision.clone()), None),
                (Cell::Rate(policy.rps), None),
                (Cell::Share(Some(policy.share)), None),
            ],
            detail: format!("{} {} {} times", policy.policy, policy.decision, policy.count),
        });
        Table {
            columns: columns.map(|(title, is_name)| Column { title, is_name }).to_vec(),
            rows: rows.collect(),
        }
    }

    /// Leaves the rows that have this text in a name, whatever its case.
    pub fn filter(&mut self, text: &str) {
        let text = text.to_lowercase();
        let has = |(cell, _): &(Cell, Option<Mark>)| match cell {
            Cell::Text(name) => name.to_lowercase().contains(&text),
            _ => false,
        };
        self.rows.retain(|row| row.cells.iter().any(has));
    }

    /// Sorts rows: names from a to z, numbers from the highest, success from the lowest.
    pub fn sort(&mut self, sort: Sort) {
        let Some(column) = sort.column else {
            if sort.reversed {
                self.rows.reverse();
            }
            return;
        };
        let rises =
            self.columns.get(column).is_some_and(|column| column.is_name || column.title == "SUCCESS");
        let turned = |order: Ordering| if rises == sort.reversed { order.reverse() } else { order };
        self.rows.sort_by(|one, other| {
            let (Some((one, _)), Some((other, _))) = (one.cells.get(column), other.cells.get(column)) else {
                return Ordering::Equal;
            };
            match (one, other) {
                (Cell::Text(one), Cell::Text(other)) => turned(one.cmp(other)),
                // What is not known comes last either way.
                _ => match (one.number(), other.number()) {
                    (Some(one), Some(other)) => turned(one.total_cmp(&other)),
                    (one, other) => one.is_none().cmp(&other.is_none()),
                },
            }
        });
    }
}

impl Cell {
    fn number(&self) -> Option<f64> {
        match self {
            Cell::Text(_) => None,
            Cell::Rate(rate) => Some(*rate),
            Cell::Share(share) => *share,
            Cell::Time(quantile) => quantile.map(|quantile| quantile.ms),
        }
    }

    /// As it is printed; `-` for what is not known.
    pub fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Rate(value) => rate(*value),
            Cell::Share(share) => share.map_or_else(|| "-".to_owned(), percent),
            Cell::Time(quantile) => quantile.map_or_else(|| "-".to_owned(), time),
        }
    }
}

/// A rate: `0.5`, `12.3`, `1234`, `12.3k`.
pub fn rate(value: f64) -> String {
    match value {
        value if value >= 10_000_000.0 => format!("{:.0}M", value / 1e6),
        value if value >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value > 0.0 && value < 0.1 => format!("{value:.2}"),
        value => format!("{value:.1}"),
    }
}

/// A share in percent, rounded so that what is not all is never `100%`, and what is not nothing never `0%`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if share <= 0.0 {
        "0%".to_owned()
    } else if share >= 1.0 {
        "100%".to_owned()
    } else if percent < 0.01 {
        "<0.01%".to_owned()
    } else if percent >= 99.0 {
        format!("{:.2}%", (percent * 100.0).floor() / 100.0)
    } else if percent < 1.0 {
        format!("{percent:.2}%")
    } else {
        format!("{percent:.1}%")
    }
}

/// A quantile: `~` where its bucket is coarse.
pub fn time(quantile: Quantile) -> String {
    let about = if quantile.is_coarse() { "~" } else { "" };
    format!("{about}{}", milliseconds(quantile.ms))
}

/// `0.5ms`, `48ms`, `1.2s`.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1}ms"),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        ms if ms < 99_950.0 => format!("{:.1}s", ms / 1000.0),
        ms => format!("{:.0}s", ms / 1000.0),
    }
}

/// In which buckets the quantiles lie.
fn detail(name: &str, requests: &Requests) -> String {
    let times = requests.latency.map_or_else(
        || "not timed".to_owned(),
        |latency| {
            [("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99)]
                .map(|(name, quantile)| format!("{name} {}–{} ms", quantile.from, quantile.to))
                .join(", ")
        },
    );
    format!("{name}: {} requests; {times}", requests.requests)
}

/// What is said of a canary: route, who, how many, and what is found.
pub fn compared(comparison: &Comparison) -> Vec<(String, Option<Mark>)> {
    let Comparison { route, stable, canary, failures, slow } = comparison;
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
    let time_of = |quantile: Option<Quantile>| quantile.map_or_else(|| "-".to_owned(), time);
    let found = |what: &str, own: String, other: String, finding: Finding, words: [&str; 2]| {
        let [higher, lower] = words;
        match finding {
            Finding::Higher => (format!("{what} {own} is {higher} than {other}"), Some(Mark::Worse)),
            Finding::Lower => (format!("{what} {own} is {lower} than {other}"), Some(Mark::Better)),
            Finding::Same => (format!("{what} {own} is like {other}"), None),
            Finding::Open { missing } => {
                (format!("{what} {own} beside {other}: {missing} more requests until one can tell"), None)
            }
        }
    };
    let mut parts = vec![(
        format!(
            "{route}: {} with {} requests beside {} with {}",
            canary.destination, canary.requests, stable.destination, stable.requests
        ),
        None,
    )];
    parts.push(found(
        "success",
        share(canary.success),
        share(stable.success),
        *failures,
        ["lower", "higher"],
    ));
    if let Some(slow) = slow {
        parts.push(found("p99", time_of(canary.p99), time_of(stable.p99), *slow, ["slower", "faster"]));
    }
    parts
}

/// One line for each limit.
pub fn limits(picture: &Picture) -> Vec<String> {
    let mut lines: Vec<String> = picture
        .limits
        .iter()
        .map(|limit| {
            let unavailable = limit
                .unavailable
                .filter(|share| *share > 0.0)
                .map(|share| format!(", unavailable {}", percent(share)));
            let near = limit.nearly_empty.map(|share| format!(", {} nearly empty", percent(share)));
            format!(
                "{}: {}/s asked, {} refused{}{}",
                limit.policy,
                rate(limit.rps),
                limit.limited.map_or_else(|| "-".to_owned(), percent),
                near.unwrap_or_default(),
                unavailable.unwrap_or_default()
            )
        })
        .collect();
    if let Some(slots) = &picture.slots {
        let displaced = match slots.displaced_rps > 0.0 {
            true => format!(", {}/s make room for others: raise rateLimitSlots", rate(slots.displaced_rps)),
            false => String::new(),
        };
        lines.push(format!("{} of {} buckets in use{displaced}", slots.used, slots.of));
    }
    lines
}

/// One line for each key set.
pub fn key_sets(picture: &Picture) -> Vec<String> {
    let line = |keys: &super::picture::KeySet| {
        let age = match keys.age_seconds {
            Some(age) => format!("{} old", span(age)),
            None => "never had".to_owned(),
        };
        let failed: Vec<String> = keys
            .fetches
            .iter()
            .filter(|(result, _)| *result != "success")
            .map(|(result, count)| format!("{count} × {result}"))
            .collect();
        let failed = if failed.is_empty() {
            String::new()
        } else {
            format!(", fetches failed: {}", failed.join(", "))
        };
        format!("{}: {age}{failed}", keys.destination)
    };
    picture.key_sets.iter().map(line).collect()
}

/// Who is refused: decisions with their codes, and the policies that decided.
pub fn refusals(picture: &Picture) -> (Vec<String>, Vec<String>) {
    let decisions = picture.refusals.iter().map(|refusal| {
        let code = refusal.response_code.as_ref().map(|code| format!(" {code}"));
        format!(
            "{}{}: {}/s, {}",
            refusal.decision,
            code.unwrap_or_default(),
            rate(refusal.rps),
            percent(refusal.share)
        )
    });
    let refusing = |decision: &str| matches!(decision, "denied" | "limited" | "aborted" | "undecided");
    let policies = picture.policies.iter().filter(|policy| refusing(&policy.decision)).map(|policy| {
        let would = if policy.mode == "shadow" { ", shadow" } else { "" };
        format!("{} {}{would}: {}/s", policy.policy, policy.decision, rate(policy.rps))
    });
    (decisions.collect(), policies.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_better_than_they_are() {
        for (value, text) in [
            (0.0, "0.0"),
            (0.05, "0.05"),
            (12.34, "12.3"),
            (999.94, "999.9"),
            (1234.5, "1234"),
            (12_345.0, "12.3k"),
        ] {
            assert_eq!(rate(value), text);
        }
        for (value, text) in [
            (1.0, "100%"),
            (0.999_999, "99.99%"),
            (0.0, "0%"),
            (0.000_01, "<0.01%"),
            (0.001_23, "0.12%"),
            (0.123, "12.3%"),
            (0.971, "97.1%"),
        ] {
            assert_eq!(percent(value), text);
        }
        for (value, text) in
            [(0.5, "0.5ms"), (9.96, "10ms"), (48.2, "48ms"), (1234.0, "1.2s"), (120_000.0, "120s")]
        {
            assert_eq!(milliseconds(value), text);
        }
        assert_eq!(time(Quantile { ms: 20.0, from: 10.0, to: 25.0 }), "~20ms");
    }

    #[test]
    fn what_is_not_known_is_sorted_last_both_ways() {
        let row = |name: &str, rate: f64, share: Option<f64>| Row {
            cells: vec![
                (Cell::Text(name.to_owned()), None),
                (Cell::Rate(rate), None),
                (Cell::Share(share), None),
            ],
            detail: name.to_owned(),
        };
        let column = |title, is_name| Column { title, is_name };
        let mut table = Table {
            columns: vec![column("ROUTE", true), column("RPS", false), column("SUCCESS", false)],
            rows: vec![row("b", 1.0, None), row("a", 3.0, Some(0.5)), row("c", 2.0, Some(0.1))],
        };
        for (column, reversed, expected) in [
            (Some(0), false, ["a", "b", "c"]),
            (Some(0), true, ["c", "b", "a"]),
            (Some(1), false, ["a", "c", "b"]),
            (Some(1), true, ["b", "c", "a"]),
            (Some(2), false, ["c", "a", "b"]),
            (Some(2), true, ["a", "c", "b"]),
        ] {
            table.sort(Sort { column, reversed });
            let names: Vec<&str> = table.rows.iter().map(|row| row.detail.as_str()).collect();
            assert_eq!(names, expected, "{column:?} {reversed}");
        }
        table.filter("A");
        assert_eq!(table.rows.len(), 1);
    }
}
