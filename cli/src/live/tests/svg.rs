//! A buffer as a picture for a page.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

const WIDTH: f64 = 8.4;
const HEIGHT: u32 = 18;
const MARGIN: u32 = 12;
const BACK: &str = "#16181d";
const FRONT: &str = "#d4d7dd";

/// The colours of the screen.
fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Red => "#ff6b68",
        Color::Green => "#7ed17e",
        Color::Yellow => "#e8c46a",
        Color::Cyan => "#6cc6d9",
        Color::DarkGray => "#8b919c",
        _ => FRONT,
    }
}

/// Text in the reader's own monospace font: every piece is stretched to the columns that it has.
pub fn of(buffer: &Buffer) -> String {
    let (columns, rows) = (buffer.area.width, buffer.area.height);
    let (width, height) = (f64::from(columns) * WIDTH, u32::from(rows) * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {}\" font-family=\"ui-monospace, SFMono-Regular, Menlo, \
         Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\">\n<title>meshfilter top</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACK}\"/>\n",
        width + f64::from(2 * MARGIN),
        height + 2 * MARGIN
    );
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let first = &buffer[(x, y)];
            let end = (x..columns).find(|at| !alike(&buffer[(*at, y)], first)).unwrap_or(columns);
            let text: String = (x..end).map(|at| buffer[(at, y)].symbol()).collect();
            piece(&mut out, first, &text, (x, y), end - x);
            x = end;
        }
    }
    out.push_str("</svg>\n");
    out
}

fn alike(one: &Cell, other: &Cell) -> bool {
    (one.fg, one.modifier) == (other.fg, other.modifier)
}

fn piece(out: &mut String, cell: &Cell, text: &str, (x, y): (u16, u16), columns: u16) {
    let left = f64::from(MARGIN) + f64::from(x) * WIDTH;
    let top = MARGIN + u32::from(y) * HEIGHT;
    let width = f64::from(columns) * WIDTH;
    let reversed = cell.modifier.contains(Modifier::REVERSED);
    if reversed {
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{FRONT}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let fill = if reversed { BACK } else { colour(cell.fg) };
    let weight = if cell.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{}\" fill=\"{fill}\"{weight} xml:space=\"preserve\" textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\">{text}</text>",
        top + HEIGHT - 5
    );
}
