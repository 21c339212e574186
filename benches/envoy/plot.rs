//! The results as a picture: bars, in SVG, for light and dark pages alike.

use std::fmt::Write;

use crate::configurations::Group;
use crate::results::Results;

const WIDTH: f64 = 820.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 370.0;
const LONGEST: f64 = 390.0;
const LINE: f64 = 24.0;
const BAR: f64 = 16.0;
const HEAD: f64 = 46.0;

/// Colours that can be told apart on white and on black, also without seeing red or green.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.head { font-weight: 600; font-size: 15px; }
.native { fill: #8b949e; }
.ours { fill: #0969da; }
.other { fill: #d0a215; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .native { fill: #6e7681; }
  .ours { fill: #4493f8; }
}
";

/// What bars share.
struct Section {
    title: &'static str,
    /// The name of what is 1.
    one: &'static str,
    names: Vec<String>,
}

/// The picture.
pub fn plot(results: &Results) -> String {
    let chain = [
        "empty",
        "nothing-plain",
        "native-tuned",
        "filters-like",
        "native-metrics",
        "filters",
        "native-default-new",
        "filters-new",
    ];
    let of_group = |group: Group| {
        let counted = results.instructions.iter().filter(|counts| counts.group == group);
        counted.map(|counts| counts.name.clone()).collect()
    };
    let sections = [
        Section {
            title: "Instructions that a request takes beyond a bare Envoy (tuned native filters = 1)",
            one: "native-tuned",
            names: chain.map(str::to_owned).to_vec(),
        },
        Section {
            title: "Authorization rules (10 rules in meshfilter = 1)",
            one: "rules-10",
            names: of_group(Group::Rules),
        },
        Section {
            title: "Hosts (10 hosts in meshfilter = 1)",
            one: "hosts-10",
            names: of_group(Group::Hosts),
        },
    ];
    let mut body = String::new();
    let mut y = 0.0;
    for section in sections {
        y = draw(results, &section, y, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" role=\"img\" \
         aria-label=\"Instructions that a request takes beyond a bare Envoy\">\n<style>\n{STYLE}</style>\n{body}</svg>\n"
    )
}

/// Draws a section, and tells where the next one begins.
fn draw(results: &Results, section: &Section, top: f64, body: &mut String) -> f64 {
    let bars: Vec<(&str, f64, &str)> = section
        .names
        .iter()
        .filter_map(|name| {
            let ratio = results.instruction_ratio(name, section.one)?;
            let class = match name.as_str() {
                "empty" => "other",
                name if name.starts_with("native") => "native",
                _ => "ours",
            };
            Some((results.counts(name)?.title.as_str(), ratio, class))
        })
        .collect();
    if bars.is_empty() {
        return top;
    }
    let longest = bars.iter().map(|(_, ratio, _)| *ratio).fold(f64::MIN_POSITIVE, f64::max);
    let _ = writeln!(body, "<text class=\"head\" x=\"0\" y=\"{}\">{}</text>", top + 26.0, section.title);
    let mut y = top + HEAD;
    for (title, ratio, class) in bars {
        let width = (ratio / longest * LONGEST).max(1.0);
        let text = y + BAR - 3.0;
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{title}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{ratio:.2}</text>",
            LEFT - 10.0,
            LEFT + width + 8.0,
        );
        y += LINE;
    }
    y + 8.0
}
