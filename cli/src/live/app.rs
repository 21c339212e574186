//! Everything behind the screen: what is known, what was chosen, and what is shown of it.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyEvent;

use super::fleet::Fleet;
use super::picture::{By, Picture};
use super::screen::{self, Styles};
use super::table::Table;
use super::view::{View, Wish};

/// The state of a screen, without a terminal and without a clock.
pub struct App {
    fleet: Fleet,
    view: View,
    styles: Styles,
    picture: Picture,
    /// What the picture's rows are.
    by: By,
    /// Of the table that was drawn last.
    columns: usize,
}

impl App {
    /// Envoys by the addresses of their admin interfaces, the seconds that rates are about, and what rows are.
    pub fn new(addresses: impl IntoIterator<Item = String>, window: f64, by: By, colours: bool) -> Self {
        let fleet = Fleet::new(addresses, window);
        let picture = Picture::of(&fleet, &by, 0.0, Duration::ZERO);
        App { fleet, view: View::new(by.clone()), styles: Styles::new(colours), picture, by, columns: 0 }
    }

    /// One Envoy was asked, and this came of it at this time, in seconds: what it says of itself (`/server_info`), its
    /// statistics, and those with labels (`/stats/prometheus`); or why there are none.
    pub fn take(&mut self, index: usize, at: f64, answers: Result<[&[u8]; 3], String>) {
        self.fleet.take(index, at, answers);
    }

    /// A key was pressed; whether it was the last.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        match self.view.key(key, self.columns) {
            Wish::Quit => return true,
            Wish::Restart => self.fleet.restart_totals(),
            Wish::Draw | Wish::Nothing => {}
        }
        false
    }

    /// Takes a new picture at this time of the same clock, unless it stands still; `date` is since the Unix epoch.
    pub fn refresh(&mut self, now: f64, date: Duration) {
        if !self.view.paused || self.by != self.view.by {
            self.by = self.view.by.clone();
            self.picture = Picture::of(&self.fleet, &self.by, now, date);
        }
    }

    /// Draws the picture.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let mut table = Table::of(&self.picture, &self.by);
        self.view.apply(&mut table);
        self.columns = table.columns.len();
        screen::draw(frame, &self.picture, &table, &self.view, self.styles);
    }
}
