//! `meshfilter top`: a live table from Envoy's admin interface.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use meshfilter::config::document::Duration as Span;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input, KeyEvent};
use tokio::signal::unix::{SignalKind, signal};

use super::admin::{self, Address, Asked};
use super::app::App;
use super::fleet::{Fleet, State};
use super::picture::{By, Picture};
use super::plain;
use super::table::Table;
use crate::package::Problem;
use crate::{Format, Outcome, check};

/// How often Envoys are asked, unless the window is shorter.
const EVERY: Duration = Duration::from_secs(2);

/// How often the screen is drawn where nothing comes, so that it says for how long an Envoy has been silent.
const IDLE: Duration = Duration::from_secs(1);

/// The window of the screen, and of --once.
const WINDOW: Duration = Duration::from_secs(10);
const ONCE: Duration = Duration::from_secs(5);

/// See what is happening: rates, success, latency, refusals, limits
///
/// A live table from the admin interfaces of Envoys with the module, added up: requests a second by route and destination,
/// success, quantiles, who is refused and by what, limits and how near they are, key sets and their age. Destinations of one
/// route are compared, and a difference is marked where it is more than noise. --once prints one plain table.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Envoys' admin interfaces
    #[arg(value_name = "ADMIN-URL", default_value = "http://127.0.0.1:9901")]
    admin: Vec<Address>,

    /// What rows are: route, destination, decision, policy, or a tag's name; default is route and destination
    #[arg(long, value_name = "route|destination|decision|policy|TAG")]
    by: Option<By>,

    /// The time that rates are about; default is 10s on the screen, 5s with --once
    #[arg(long, value_name = "DURATION", value_parser = window)]
    window: Option<Duration>,

    /// Print one plain table and end
    #[arg(long)]
    once: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text, requires_if("json", "once"))]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter top
  meshfilter top http://10.0.0.1:9901 http://10.0.0.2:9901 --by destination
  meshfilter top --by tenant
  meshfilter top --once --window 30s
  meshfilter top --once --format json | jq '.rows[] | select(.success < 0.99)'
  kubectl port-forward deploy/gateway 9901 & meshfilter top

Keys: q quits, p pauses, b changes what rows are, s sorts, r reverses, / filters, 0 compares anew, ? explains them. Envoy
publishes durations every five seconds (stats_flush_interval). Quantiles with ~ lie in a bucket over more than a factor of two.
NO_COLOR holds. The exit code is 1 if no Envoy answers --once.";

fn window(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time from 1s to 1h; use one such as 5s or 1m30s");
    let Span(span) = Span::parse(text).ok_or_else(wrong)?;
    (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&span).then_some(span).ok_or_else(wrong)
}

/// Shows the screen until somebody quits, or writes one table to `output`.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    let by = arguments.by.clone().unwrap_or_default();
    if arguments.once {
        let done = once(arguments, &by);
        return match done {
            Ok((text, outcome)) => {
                output.extend_from_slice(text.as_bytes());
                outcome
            }
            Err(problem) => Outcome::of(Err(problem), output),
        };
    }
    match live(arguments, by) {
        Ok(()) => Outcome::Good,
        Err(problem) => Outcome::of(Err(problem), output),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Problem::Misused(error.to_string()))
}

fn date() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn names(addresses: &[Address]) -> impl Iterator<Item = String> {
    addresses.iter().map(|address| address.shown.clone())
}

/// One window, and what is in it.
fn once(arguments: &Arguments, by: &By) -> Result<(String, Outcome), Problem> {
    let window = arguments.window.unwrap_or(ONCE);
    let mut fleet = Fleet::new(names(&arguments.admin), window.as_secs_f64());
    let began = Instant::now();
    let asked = runtime()?.block_on(async {
        let first = admin::ask_all(&arguments.admin, began).await?;
        tokio::time::sleep(window).await;
        let second = admin::ask_all(&arguments.admin, began).await?;
        Ok::<_, String>([first, second])
    });
    for asked in asked.map_err(Problem::Misused)?.iter().flatten() {
        fleet.take(asked.index, asked.at, asked.all());
    }
    // There is no third time: who has not answered the second is gone.
    fleet.give_up();
    let picture = Picture::of(&fleet, by, began.elapsed().as_secs_f64(), date());
    if let Some(why) = &picture.no_such_tag {
        return Err(Problem::Misused(format!("--by: {why}")));
    }
    let silent = picture.envoys.iter().all(|envoy| matches!(envoy.state, State::Gone { .. }));
    if silent {
        for warning in &picture.warnings {
            eprintln!("meshfilter: {warning}");
        }
    }
    let text = match arguments.format {
        Format::Json => serde_json::to_string_pretty(&picture).map(|text| text + "\n").unwrap_or_default(),
        Format::Text if silent => String::new(),
        Format::Text => plain::text(&picture, &Table::of(&picture, by)),
    };
    Ok((text, if silent { Outcome::Wrong } else { Outcome::Good }))
}

/// What the screen waits for.
enum Event {
    Asked(Asked),
    Key(KeyEvent),
    /// The size, or that the terminal was shown again.
    Draw,
    Quit,
}

impl From<Asked> for Event {
    fn from(asked: Asked) -> Self {
        Event::Asked(asked)
    }
}

fn live(arguments: &Arguments, by: By) -> Result<(), Problem> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Problem::Misused("this is no terminal; --once prints one plain table".to_owned()));
    }
    let window = arguments.window.unwrap_or(WINDOW);
    let began = Instant::now();
    let app = App::new(names(&arguments.admin), window.as_secs_f64(), by, check::colours());
    let runtime = runtime()?;
    // Room for one answer of each: whoever asks waits for whoever draws.
    let (send, events) = sync_channel(arguments.admin.len().saturating_add(16));
    let (asks, admins, every) = (send.clone(), arguments.admin.clone(), EVERY.min(window.mul_f64(0.5)));
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = admin::watch(&admins, every, began, &asks) => {}
                () = ended() => {
                    let _ = asks.send(Event::Quit);
                }
            }
        });
    });
    let mut terminal =
        ratatui::try_init().map_err(|error| Problem::Misused(format!("the terminal: {error}")))?;
    thread::spawn(move || read_keys(&send));
    let shown = show(&mut terminal, &events, app, began);
    ratatui::restore();
    shown.map_err(|error| Problem::Misused(format!("the terminal: {error}")))
}

/// Somebody ends the process: the terminal has to be put back first.
async fn ended() {
    let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

fn read_keys(send: &SyncSender<Event>) {
    loop {
        let event = match event::read() {
            Ok(Input::Key(key)) => Event::Key(key),
            Ok(Input::Resize(..) | Input::FocusGained) => Event::Draw,
            Ok(_) => continue,
            Err(_) => Event::Quit,
        };
        let last = matches!(event, Event::Quit);
        if send.send(event).is_err() || last {
            return;
        }
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    events: &Receiver<Event>,
    mut app: App,
    began: Instant,
) -> io::Result<()> {
    loop {
        app.refresh(began.elapsed().as_secs_f64(), date());
        terminal.draw(|frame| app.draw(frame))?;
        let mut next = match events.recv_timeout(IDLE) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // What has come meanwhile is drawn at once.
        while let Some(event) = next {
            match event {
                Event::Asked(asked) => app.take(asked.index, asked.at, asked.all()),
                Event::Key(key) => {
                    if app.key(key) {
                        return Ok(());
                    }
                }
                Event::Draw => {}
                Event::Quit => return Ok(()),
            }
            next = events.try_recv().ok();
        }
    }
}
