//! The picture as a screen: a function of the picture, the choices and the size.

use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::fleet::State;
use super::picture::{Picture, span};
use super::table::{self, Mark, Table};
use super::view::View;

/// So many rows of the table are kept before what stands below gives way.
const FEWEST_ROWS: usize = 5;

/// The keys, and what they do.
const KEYS: [(&str, &str); 9] = [
    ("q", "quit"),
    ("p, space", "pause: the picture stands still, counting goes on"),
    ("b", "rows: both, route, destination, decision, policy, --by's tag"),
    ("s, ← →", "sort by the next column; a star says which"),
    ("r", "the other way round"),
    ("/", "show rows with a text; Esc shows all"),
    ("↑ ↓, PgUp, PgDn", "choose a row: below are the buckets of its quantiles"),
    ("0", "compare destinations anew, from now on"),
    ("?", "this; any key closes it"),
];

/// How things look; without colours what has to be seen is bold or reversed.
#[derive(Clone, Copy, Debug)]
pub struct Styles {
    title: Style,
    heading: Style,
    dim: Style,
    bad: Style,
    good: Style,
    warn: Style,
    chosen: Style,
}

impl Styles {
    /// With or without colours.
    pub fn new(colours: bool) -> Self {
        let plain = Style::new();
        let colour = |colour| if colours { plain.fg(colour) } else { plain };
        Styles {
            title: plain.add_modifier(Modifier::BOLD),
            heading: colour(Color::Cyan).add_modifier(Modifier::BOLD),
            dim: if colours { plain.fg(Color::DarkGray) } else { plain },
            bad: colour(Color::Red).add_modifier(Modifier::BOLD),
            good: colour(Color::Green).add_modifier(Modifier::BOLD),
            warn: colour(Color::Yellow).add_modifier(Modifier::BOLD),
            chosen: plain.add_modifier(Modifier::REVERSED),
        }
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture, table: &Table, view: &View, styles: Styles) {
    let area = frame.area();
    let lines = lines(picture, table, view, styles, usize::from(area.width), usize::from(area.height));
    frame.render_widget(Text::from(lines), area);
}

type Lines = Vec<Line<'static>>;

fn lines(
    picture: &Picture,
    table: &Table,
    view: &View,
    styles: Styles,
    width: usize,
    height: usize,
) -> Lines {
    let mut lines = top(picture, view, styles, width);
    let bottom = bottom(table, view, styles, width);
    if view.help {
        lines.push(Line::default());
        for (key, what) in KEYS {
            lines.push(Line::from(vec![Span::styled(format!("{key:16} "), styles.heading), Span::raw(what)]));
        }
        fill(&mut lines, height.saturating_sub(bottom.len()));
        lines.extend(bottom);
        return lines;
    }
    let mut below = below(picture, styles, width);
    let room = height.saturating_sub(lines.len()).saturating_sub(bottom.len());
    // The table's heading, and what it needs at least.
    let wanted = table.rows.len().min(FEWEST_ROWS).saturating_add(1);
    let panels = room.saturating_sub(wanted);
    if below.len() > panels {
        let more = below.len().saturating_sub(panels).saturating_add(1);
        below.truncate(panels.saturating_sub(1));
        if panels > 0 {
            below.push(Line::styled(format!("… {more} more lines"), styles.dim));
        }
    }
    lines.extend(rows(table, view, styles, width, room.saturating_sub(below.len())));
    fill(&mut lines, height.saturating_sub(bottom.len()).saturating_sub(below.len()));
    lines.extend(below);
    lines.extend(bottom);
    lines
}

fn fill(lines: &mut Lines, height: usize) {
    lines.resize(height, Line::default());
}

/// Is it healthy? The Envoys, all requests, what deserves a look.
fn top(picture: &Picture, view: &View, styles: Styles, width: usize) -> Lines {
    let live = picture.envoys.iter().filter(|envoy| envoy.state == State::Live).count();
    let all = picture.envoys.len();
    let known: Vec<&str> = {
        let mut versions: Vec<&str> =
            picture.envoys.iter().filter_map(|envoy| envoy.version.as_deref()).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    };
    let mut first = vec![
        Span::styled("meshfilter top", styles.title),
        Span::raw("  "),
        Span::styled(
            format!("{live} of {all} {} live", if all == 1 { "Envoy" } else { "Envoys" }),
            if live == all { styles.good } else { styles.bad },
        ),
    ];
    if !known.is_empty() {
        first.push(Span::raw(format!("  {}", known.join(", "))));
    }
    let youngest = picture.envoys.iter().filter_map(|envoy| envoy.uptime_seconds).reduce(f64::min);
    if let Some(youngest) = youngest {
        first.push(Span::raw(format!("  up {}", span(youngest))));
    }
    first.push(Span::raw(match picture.window_seconds > 0.0 {
        true => format!("  last {:.0} s", picture.window_seconds),
        false => "  counting …".to_owned(),
    }));
    if view.paused {
        first.push(Span::styled("  PAUSED", styles.warn));
    }
    let requests = &picture.all;
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), table::percent);
    let mut second = vec![
        Span::styled(format!("{} rps", table::rate(requests.rps)), styles.title),
        Span::raw(format!("  success {}  refused {}", share(requests.success), share(requests.refused))),
    ];
    if let Some(latency) = &requests.latency {
        second.push(Span::raw(format!(
            "  p50 {}  p95 {}  p99 {}",
            table::time(latency.p50),
            table::time(latency.p95),
            table::time(latency.p99)
        )));
    }
    let mut lines = vec![Line::from(first), Line::from(second)];
    let warnings = picture.warnings.len();
    for (index, warning) in picture.warnings.iter().enumerate().take(4) {
        let text = match index {
            3 if warnings > 4 => format!("! and {} more", warnings.saturating_sub(3)),
            _ => format!("! {warning}"),
        };
        lines.push(Line::styled(cut(&text, width), styles.bad));
    }
    lines.push(Line::default());
    lines
}

/// Which route, which version.
fn rows(table: &Table, view: &View, styles: Styles, width: usize, height: usize) -> Lines {
    let widths = widths(table, width);
    let shown = |index: usize| width_of(&widths, index) > 0;
    let mut lines = Vec::new();
    let mut heading = Vec::new();
    for (index, column) in table.columns.iter().enumerate().filter(|(index, _)| shown(*index)) {
        let sorted = view.sort.column == Some(index);
        let title = match (sorted, view.sort.reversed) {
            (true, false) => format!("{}*", column.title),
            (true, true) => format!("*{}", column.title),
            (false, _) => column.title.to_owned(),
        };
        heading.push(Span::styled(aligned(&title, column.is_name, width_of(&widths, index)), styles.heading));
    }
    lines.push(Line::from(heading));
    let visible = height.saturating_sub(1);
    let first = view.selected.saturating_sub(visible.saturating_sub(1));
    for (index, row) in table.rows.iter().enumerate().skip(first).take(visible) {
        let mut spans = Vec::new();
        let cells = row.cells.iter().zip(&table.columns).enumerate();
        for (place, ((cell, mark), column)) in cells.filter(|(place, _)| shown(*place)) {
            let (sign, style) = match mark {
                Some(Mark::Worse) => ("▼", styles.bad),
                Some(Mark::Better) => ("▲", styles.good),
                None => ("", Style::new()),
            };
            let text = format!("{sign}{}", cell.text());
            spans.push(Span::styled(aligned(&text, column.is_name, width_of(&widths, place)), style));
        }
        let line = Line::from(spans);
        lines.push(if index == view.selected { line.style(styles.chosen) } else { line });
    }
    if table.rows.is_empty() {
        let why = match view.filter.is_empty() {
            true => "no requests yet",
            false => "no row has this text; Esc shows all",
        };
        lines.push(Line::styled(why, styles.dim));
    }
    lines
}

fn width_of(widths: &[usize], index: usize) -> usize {
    widths.get(index).copied().unwrap_or_default()
}

/// What goes where names have no room, one after the other.
const LEAST: [&str; 5] = ["P50", "P95", "P99", "REFUSED", "SUCCESS"];

/// A name has to be as long as this before a number is worth its place.
const NAME: usize = 12;

/// Of every column, the blank between two included: numbers get what they need, and names share what is left. 0: there is no
/// room for it.
fn widths(table: &Table, room: usize) -> Vec<usize> {
    let longest = |(index, column): (usize, &table::Column)| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(index));
        // A mark stands before the number.
        let of = |(cell, mark): &(table::Cell, Option<Mark>)| {
            cell.text().width().saturating_add(mark.iter().len())
        };
        // A star beside the title says that it is sorted by.
        let title = column.title.width().saturating_add(1);
        cells.map(of).max().unwrap_or(0).max(title).saturating_add(1)
    };
    let mut widths: Vec<usize> = table.columns.iter().enumerate().map(longest).collect();
    for title in LEAST {
        let need = |(width, column): (&usize, &table::Column)| {
            if column.is_name { NAME.min(*width) } else { *width }
        };
        if widths.iter().zip(&table.columns).map(need).sum::<usize>() <= room {
            break;
        }
        let least = widths.iter_mut().zip(&table.columns).filter(|(_, column)| column.title == title);
        least.for_each(|(width, _)| *width = 0);
    }
    while widths.iter().sum::<usize>() > room {
        let names = widths.iter_mut().zip(&table.columns).filter(|(_, column)| column.is_name);
        let Some(widest) = names.map(|(width, _)| width).max().filter(|width| **width > 1) else { break };
        *widest = widest.saturating_sub(1);
    }
    widths
}

/// A name with a blank behind it, or a number with one before it.
fn aligned(text: &str, is_name: bool, width: usize) -> String {
    if is_name {
        let text = middle(text, width.saturating_sub(1));
        let pad = width.saturating_sub(text.width());
        format!("{text}{}", " ".repeat(pad))
    } else {
        let pad = width.saturating_sub(text.width()).saturating_sub(1);
        format!("{}{text} ", " ".repeat(pad))
    }
}

/// Which version, who is refused and why, what is near its limit, how old keys are.
fn below(picture: &Picture, styles: Styles, width: usize) -> Lines {
    let mut lines = Vec::new();
    for comparison in &picture.comparisons {
        let mut parts = table::compared(comparison).into_iter();
        if let Some((who, _)) = parts.next() {
            lines.push(Line::from(vec![
                Span::styled("CANARY   ", styles.heading),
                Span::raw(middle(&who, width.saturating_sub(9))),
            ]));
        }
        for (text, mark) in parts {
            let (sign, style) = match mark {
                Some(Mark::Worse) => ("▼ ", styles.bad),
                Some(Mark::Better) => ("▲ ", styles.good),
                None => ("  ", Style::new()),
            };
            lines.push(Line::styled(cut(&format!("       {sign}{text}"), width), style));
        }
    }
    let (decisions, policies) = table::refusals(picture);
    let half = width / 2;
    let mut policies = policies.into_iter();
    let mut title = "REFUSED  ";
    for decision in decisions {
        let who = policies.next().unwrap_or_default();
        let decision = middle(&decision, half.saturating_sub(10));
        let pad = half.saturating_sub(9).saturating_sub(decision.width());
        lines.push(Line::from(vec![
            Span::styled(title, styles.heading),
            Span::raw(format!("{decision}{}{}", " ".repeat(pad), cut(&who, width.saturating_sub(half)))),
        ]));
        title = "         ";
    }
    for who in policies {
        lines.push(Line::raw(format!("{}{}", " ".repeat(half), cut(&who, width.saturating_sub(half)))));
    }
    for (title, texts) in [("LIMITS   ", table::limits(picture)), ("KEYS     ", table::key_sets(picture))] {
        let mut title = title;
        for text in texts {
            let text = cut(&text, width.saturating_sub(9));
            lines.push(Line::from(vec![Span::styled(title, styles.heading), Span::raw(text)]));
            title = "         ";
        }
    }
    lines
}

/// The chosen row in detail, and the keys.
fn bottom(table: &Table, view: &View, styles: Styles, width: usize) -> Lines {
    let detail = table.rows.get(view.selected).map(|row| cut(&row.detail, width)).unwrap_or_default();
    let keys = match (view.typing, view.filter.is_empty()) {
        (true, _) => format!("/{}_   Enter keeps it, Esc shows all", view.filter),
        (false, false) => format!("/{}   Esc shows all   q quit   ? keys", view.filter),
        (false, true) => {
            "q quit  p pause  b rows  s sort  r reverse  / filter  0 compare anew  ? keys".to_owned()
        }
    };
    vec![Line::styled(detail, styles.dim), Line::styled(cut(&keys, width), styles.chosen)]
}

/// As much of a text as has room.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = begin(text.chars(), width.saturating_sub(1));
    out.push('…');
    out
}

/// The same, with both ends: the end of a name often says most.
fn middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let after = begin(text.chars().rev(), room / 2);
    let before = begin(text.chars(), room.saturating_sub(after.width()));
    format!("{before}…{}", after.chars().rev().collect::<String>())
}

fn begin(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut left = width;
    let fits = |c: &char| match left.checked_sub(c.width().unwrap_or(0)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    characters.take_while(fits).collect()
}
