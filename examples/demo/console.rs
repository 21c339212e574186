//! What the demo prints: steps, and under each what was expected, what came, and whether that is the same.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// Writes to standard output, with colours and progress on a terminal only.
pub struct Console {
    terminal: bool,
    colours: bool,
    steps: u32,
    failures: u32,
}

impl Console {
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Console { terminal, colours: terminal && !unwanted, steps: 0, failures: 0 }
    }

    /// How many expectations were not met.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn line(&self, text: impl Display) {
        self.clear();
        println!("{text}");
    }

    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        self.line(format!(
            "\n{} {}",
            self.paint("1;36", format!("{:>2}", self.steps)),
            self.paint("1", title)
        ));
    }

    pub fn note(&self, text: impl Display) {
        self.line(self.paint("2", format!("   {text}")));
    }

    /// One expectation: what was done, what should come of it, what came.
    pub fn check(&mut self, what: &str, expected: impl Display, came: impl Display, met: bool) {
        let mark = if met { self.paint("1;32", "✓") } else { self.paint("1;31", "✗") };
        self.failures += u32::from(!met);
        self.line(format!("   {mark} {what:<34} expected {expected:<36} came {came}"));
    }

    /// A bar of a chart, as long as its share of the whole.
    pub fn bar(&self, label: &str, part: usize, whole: usize) {
        let length = (part * 50).div_ceil(whole.max(1));
        self.line(format!("   {label:>5} {} {part}", self.paint("36", "█".repeat(length))));
    }

    /// What is being done, until the next line comes.
    pub fn progress(&self, text: impl Display) {
        if self.terminal {
            print!("\r\x1b[2K   {text}");
            let _ = std::io::stdout().flush();
        }
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
        }
    }

    pub fn paint(&self, style: &str, text: impl Display) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
    }
}
