//! What Envoy's `/stats/prometheus` says. The native module tells Envoy the labels of its metrics, and only there do they stand
//! apart: in JSON, names and values are joined by dots, which either may have.

use std::borrow::Cow;

use super::stats::{Bucket, MAX_BOUNDS, MAX_SERIES, Said};

/// Reads the answer and hands on every series, by its name and labels as they stand there; a histogram's without `le`.
///
/// # Errors
/// That it is not what Envoy says, and where, or that there are too many series.
pub fn read(answer: &[u8], told: &mut dyn FnMut(Said<'_>)) -> Result<(), String> {
    let wrong = |line: usize| format!("the answer is no statistics of Envoy: line {line} has no series");
    let text = std::str::from_utf8(answer).map_err(|_| wrong(1))?;
    let mut histogram = Histogram::default();
    let mut is_histogram = false;
    let mut series = 0usize;
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(comment) = line.strip_prefix('#') {
            is_histogram = comment.ends_with(" histogram");
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').ok_or_else(|| wrong(number))?;
        let value: f64 = value.parse().map_err(|_| wrong(number))?;
        series = series.saturating_add(1);
        if series > MAX_SERIES.saturating_mul(MAX_BOUNDS) || histogram.told >= MAX_SERIES {
            return Err(format!("there are more than {MAX_SERIES} series"));
        }
        if !is_histogram {
            histogram.told = histogram.told.saturating_add(1);
            told(Said::Number(name, value as u64));
        } else if let Some((of, bound)) = bucket(name) {
            // What is over the last bound is in no bucket of the JSON either.
            if bound.is_finite() && !histogram.add(&of, bound, value as u64, told) {
                return Err(wrong(number));
            }
        }
    }
    histogram.flush(told);
    Ok(())
}

/// The buckets that have come so far; Envoy says those of one series in a row.
#[derive(Default)]
struct Histogram {
    of: String,
    buckets: Vec<Bucket>,
    /// How many series were handed on.
    told: usize,
}

impl Histogram {
    /// Whether it is a bucket that may follow.
    fn add(&mut self, of: &str, bound: f64, count: u64, told: &mut dyn FnMut(Said<'_>)) -> bool {
        if self.of != of {
            self.flush(told);
            of.clone_into(&mut self.of);
        }
        let rises = self.buckets.last().is_none_or(|last| last.bound < bound && last.count <= count);
        self.buckets.push(Bucket { bound, count });
        rises && self.buckets.len() <= MAX_BOUNDS
    }

    fn flush(&mut self, told: &mut dyn FnMut(Said<'_>)) {
        if !self.buckets.is_empty() {
            self.told = self.told.saturating_add(1);
            told(Said::Histogram(&self.of, &self.buckets));
            self.buckets.clear();
        }
    }
}

/// `name_bucket{a="b",le="5"}` is `name{a="b"}` and 5; the bound is the last of Envoy's labels.
fn bucket(name: &str) -> Option<(String, f64)> {
    let (name, labels) = name.strip_suffix('}')?.split_once('{')?;
    let name = name.strip_suffix("_bucket")?;
    let (labels, bound) = labels.strip_suffix('"')?.rsplit_once("le=\"")?;
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    let labels = match labels {
        "" => labels,
        labels => labels.strip_suffix(',')?,
    };
    Some((format!("{name}{{{labels}}}"), bound))
}

/// Names and values.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// A name, and its labels in their order, with nothing escaped; none: there are no braces.
pub fn split(series: &str) -> Option<(&str, Labels<'_>)> {
    let (name, mut rest) = series.strip_suffix('}')?.split_once('{')?;
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let (value, after) = after.split_at(end);
        labels.push((label, unescaped(value)));
        rest = after.trim_start_matches(['"', ',']);
    }
    Some((name, labels))
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut out = String::new();
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        out.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        read(answer.as_bytes(), &mut |said| all.push(format!("{said:?}"))).map(|()| all)
    }

    #[test]
    fn numbers_and_histograms_are_read() {
        let answer = "# TYPE a counter\na{x=\"1.2\"} 7\n# TYPE h histogram\nh_bucket{role=\"b\",le=\"0.5\"} 1\n\
            h_bucket{role=\"b\",le=\"3e+05\"} 2\nh_bucket{role=\"b\",le=\"+Inf\"} 3\nh_sum{role=\"b\"} 9\nh_count{role=\"b\"} 3\n\
            h_bucket{role=\"c\",le=\"0.5\"} 4\n\n";
        assert_eq!(
            said(answer).unwrap(),
            [
                r#"Number("a{x=\"1.2\"}", 7)"#,
                r#"Histogram("h{role=\"b\"}", [Bucket { bound: 0.5, count: 1 }, Bucket { bound: 300000.0, count: 2 }])"#,
                r#"Histogram("h{role=\"c\"}", [Bucket { bound: 0.5, count: 4 }])"#,
            ]
        );
        assert_eq!(said("").unwrap().len(), 0);
        for (answer, wrong) in [
            ("<html>", "line 1 has no series"),
            ("# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 1\n", "line 3 has no series"),
        ] {
            assert!(said(answer).unwrap_err().contains(wrong), "{answer}");
        }
        let many = "a 1\n".repeat(MAX_SERIES + 1);
        assert!(said(&many).unwrap_err().contains("more than 100000 series"));
    }

    #[test]
    fn labels_may_have_anything_in_them() {
        let (name, labels) = split(r#"a{x="1.2,y=\"3\"",z="\\\n}"}"#).unwrap();
        assert_eq!((name, labels), ("a", vec![("x", "1.2,y=\"3\"".into()), ("z", Cow::from("\\\n}"))]));
        assert_eq!(split("a{}").unwrap(), ("a", vec![]));
        for wrong in ["a", "a{x=\"1}", "a.b<c=d>"] {
            assert_eq!(split(wrong), None);
        }
    }
}
