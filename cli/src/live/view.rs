//! What whoever looks has chosen: rows, order, filter, pause; and what keys do to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::picture::By;
use super::table::{Sort, Table};

/// A filter is no longer.
const LONGEST: usize = 60;

/// The choices.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub by: By,
    /// The tag that was asked for on the command line.
    tag: Option<By>,
    pub sort: Sort,
    /// Rows with this text are shown.
    pub filter: String,
    /// Whether keys go into the filter.
    pub typing: bool,
    /// Whether the picture stands still.
    pub paused: bool,
    /// The row that is told in detail.
    pub selected: usize,
    /// Whether the keys are explained.
    pub help: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The picture is drawn anew.
    Draw,
    /// Comparisons begin anew.
    Restart,
    Quit,
    Nothing,
}

impl View {
    /// Nothing is chosen but the rows.
    pub fn new(by: By) -> Self {
        let tag = matches!(by, By::Tag(_)).then(|| by.clone());
        View { by, tag, ..View::default() }
    }

    /// A key was pressed while a table with so many columns was shown.
    pub fn key(&mut self, key: KeyEvent, columns: usize) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'd')) { Wish::Quit } else { Wish::Nothing };
        }
        if self.typing {
            return self.typed(key.code);
        }
        if self.help {
            // What a key does behind it nobody sees.
            self.help = false;
            return Wish::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('b') => {
                self.by = self.next();
                (self.sort, self.selected) = (Sort::default(), 0);
            }
            KeyCode::Char('s') | KeyCode::Right => {
                self.sort.column = match self.sort.column {
                    None => Some(0),
                    Some(column) => column.checked_add(1).filter(|next| *next < columns),
                };
            }
            KeyCode::Left => {
                self.sort.column = match self.sort.column {
                    None => columns.checked_sub(1),
                    Some(column) => column.checked_sub(1),
                };
            }
            KeyCode::Char('r') => self.sort.reversed = !self.sort.reversed,
            KeyCode::Char('0') => return Wish::Restart,
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected = self.selected.saturating_add(1),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::PageDown => self.selected = self.selected.saturating_add(10),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = usize::MAX,
            _ => return Wish::Nothing,
        }
        Wish::Draw
    }

    fn typed(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.chars().count() < LONGEST => self.filter.push(c),
            _ => return Wish::Nothing,
        }
        self.selected = 0;
        Wish::Draw
    }

    fn next(&self) -> By {
        match &self.by {
            By::Both => By::Route,
            By::Route => By::Destination,
            By::Destination => By::Decision,
            By::Decision => By::Policy,
            By::Policy => self.tag.clone().unwrap_or_default(),
            By::Tag(_) => By::Both,
        }
    }

    /// The rows that are chosen, in the order that is chosen.
    pub fn apply(&mut self, table: &mut Table) {
        if !self.filter.is_empty() {
            table.filter(&self.filter);
        }
        table.sort(self.sort);
        self.selected = self.selected.min(table.rows.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, keys: &str) -> Wish {
        let mut wish = Wish::Nothing;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                '↓' => KeyCode::Down,
                '←' => KeyCode::Left,
                key => KeyCode::Char(key),
            };
            wish = view.key(KeyEvent::new(code, KeyModifiers::NONE), 3);
        }
        wish
    }

    #[test]
    fn keys_choose() {
        let mut view = View::new(By::Tag("tenant".to_owned()));
        assert_eq!(press(&mut view, "s"), Wish::Draw);
        assert_eq!(view.sort, Sort { column: Some(0), reversed: false });
        press(&mut view, "ssr");
        assert_eq!(view.sort, Sort { column: Some(2), reversed: true });
        press(&mut view, "s");
        assert_eq!(view.sort.column, None);
        press(&mut view, "←");
        assert_eq!(view.sort.column, Some(2));
        press(&mut view, "bbbbbb");
        assert_eq!(view.by, By::Tag("tenant".to_owned()));
        // In a filter every key is a letter.
        press(&mut view, "/quit\u{8}\n");
        assert_eq!((view.filter.as_str(), view.typing), ("qui", false));
        press(&mut view, "↓ ");
        assert!(view.paused && view.selected == 1);
        assert_eq!(press(&mut view, "0"), Wish::Restart);
        assert_eq!(press(&mut view, "\u{1b}"), Wish::Draw);
        assert_eq!(view.filter, "");
        assert_eq!(press(&mut view, "\u{1b}"), Wish::Quit);
        assert_eq!(press(&mut view, "?"), Wish::Draw);
        assert!(view.help);
        // Any key closes the help, and does nothing else.
        assert_eq!(press(&mut view, "q"), Wish::Draw);
        assert!(!view.help);
        assert_eq!(press(&mut view, "q"), Wish::Quit);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        view.typing = true;
        assert_eq!(view.key(control, 3), Wish::Quit);
    }
}
