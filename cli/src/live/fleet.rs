//! The Envoys that are watched: which of them answer, and what they counted.

use serde::Serialize;

use super::ledger::Ledger;

/// So many polls in a row may fail before an Envoy counts as gone.
const LATE: u32 = 2;

/// What an Envoy says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// `1.40.0`
    pub version: String,
    /// `LIVE`, `DRAINING`, …
    pub state: String,
    /// How long it has been running, over all its hot restarts. Seconds.
    pub uptime: f64,
}

impl Info {
    /// Reads `/server_info`.
    ///
    /// # Errors
    /// That it is none.
    pub fn read(answer: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Told {
            version: String,
            state: String,
            uptime_all_epochs: String,
        }
        let wrong = |error: &dyn std::fmt::Display| format!("this is no admin interface of Envoy: {error}");
        let told: Told = serde_json::from_slice(answer).map_err(|error| wrong(&error))?;
        let uptime = told.uptime_all_epochs.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
        // <commit>/1.40.0/Clean/RELEASE/BoringSSL
        let version = told.version.split('/').nth(1).unwrap_or(&told.version);
        let clean = |text: &str| crate::report::printable(text.chars().take(40));
        Ok(Info {
            version: clean(version),
            state: clean(&told.state),
            uptime: uptime.ok_or_else(|| wrong(&format_args!("{:?} is no time", told.uptime_all_epochs)))?,
        })
    }
}

/// One Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// Its admin interface, as it was given.
    pub address: String,
    /// What it counted.
    pub ledger: Ledger,
    /// What it said last.
    pub info: Option<Info>,
    /// Since when it does not answer, and why.
    failure: Option<(f64, String)>,
    failures: u32,
}

/// How an Envoy is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Nothing was heard of it yet.
    Asked,
    /// It answers, and what it counts is in the picture.
    Live,
    /// It answers, and takes no new connections.
    Draining,
    /// It answers, and does not serve yet.
    Starting,
    /// It does not answer; it is not in the picture.
    Gone {
        /// For so long.
        seconds: f64,
        /// Why.
        error: String,
    },
}

impl Envoy {
    /// How it is at this time.
    pub fn state(&self, now: f64) -> State {
        if let Some((since, error)) = &self.failure
            && (self.failures >= LATE || self.info.is_none())
        {
            return State::Gone { seconds: (now - since).max(0.0), error: error.clone() };
        }
        match self.info.as_ref().map(|info| info.state.as_str()) {
            None => State::Asked,
            Some("DRAINING") => State::Draining,
            Some("PRE_INITIALIZING" | "INITIALIZING") => State::Starting,
            Some(_) => State::Live,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Fleet {
    /// In the order in which they were given.
    pub envoys: Vec<Envoy>,
}

impl Fleet {
    /// Remembers what they count in so many seconds.
    pub fn new(addresses: impl IntoIterator<Item = String>, window: f64) -> Self {
        let envoy =
            |address| Envoy { address, ledger: Ledger::new(window), info: None, failure: None, failures: 0 };
        Fleet { envoys: addresses.into_iter().map(envoy).collect() }
    }

    /// One of them was asked, and this came of it at this time, in seconds: what it says of itself, its statistics, and
    /// those with labels; or why there are none.
    pub fn take(&mut self, index: usize, at: f64, answers: Result<[&[u8]; 3], String>) {
        let Some(envoy) = self.envoys.get_mut(index) else { return };
        let taken = answers.and_then(|[info, stats, labelled]| {
            let info = Info::read(info)?;
            envoy.ledger.take(at, info.uptime, [stats, labelled])?;
            Ok(info)
        });
        match taken {
            Ok(info) => {
                envoy.info = Some(info);
                envoy.failure = None;
                envoy.failures = 0;
            }
            Err(error) => {
                envoy.failures = envoy.failures.saturating_add(1);
                let since = envoy.failure.take().map_or(at, |(since, _)| since);
                envoy.failure = Some((since, error));
            }
        }
    }

    /// Nobody is asked again: whoever did not answer the last time is gone.
    pub fn give_up(&mut self) {
        for envoy in self.envoys.iter_mut().filter(|envoy| envoy.failure.is_some()) {
            envoy.failures = LATE;
        }
    }

    /// What is compared over a longer time is counted anew.
    pub fn restart_totals(&mut self) {
        self.envoys.iter_mut().for_each(|envoy| envoy.ledger.restart_totals());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(state: &str, uptime: u32) -> String {
        format!(
            "{{\"version\":\"abc/1.40.0/Clean/RELEASE/BoringSSL\",\"state\":\"{state}\",\"uptime_all_epochs\":\"{uptime}s\"}}"
        )
    }

    #[test]
    fn an_envoy_that_goes_is_shown_and_comes_back() {
        let mut fleet = Fleet::new(["a".to_owned()], 4.0);
        let state = |fleet: &Fleet, now| fleet.envoys[0].state(now);
        assert_eq!(state(&fleet, 0.0), State::Asked);
        let stats = b"{\"stats\":[]}".as_slice();
        let take = |fleet: &mut Fleet, at, said: &str| fleet.take(0, at, Ok([said.as_bytes(), stats, b""]));
        take(&mut fleet, 1.0, &info("LIVE", 9));
        assert_eq!(
            (state(&fleet, 1.0), fleet.envoys[0].info.as_ref().unwrap().version.as_str()),
            (State::Live, "1.40.0")
        );
        // One that is late is not gone.
        fleet.take(0, 3.0, Err("no answer".to_owned()));
        assert_eq!(state(&fleet, 3.0), State::Live);
        fleet.take(0, 5.0, Err("refused".to_owned()));
        assert_eq!(state(&fleet, 8.0), State::Gone { seconds: 5.0, error: "refused".to_owned() });
        take(&mut fleet, 9.0, &info("DRAINING", 17));
        assert_eq!(state(&fleet, 9.0), State::Draining);
        take(&mut fleet, 11.0, &info("PRE_INITIALIZING", 0));
        assert_eq!(state(&fleet, 11.0), State::Starting);
    }

    #[test]
    fn what_is_no_envoy_is_told() {
        let mut fleet = Fleet::new(["a".to_owned()], 4.0);
        for (said, stats, wrong) in [
            ("<html>", "", "this is no admin interface of Envoy: expected value"),
            ("{}", "", "this is no admin interface of Envoy: missing field `version`"),
            (&info("LIVE", 1).replace("1s", "soon"), "", "\"soon\" is no time"),
            (&info("LIVE", 1), "garbage", "the answer is no statistics of Envoy"),
        ] {
            fleet.take(0, 1.0, Ok([said.as_bytes(), stats.as_bytes(), b""]));
            let State::Gone { error, .. } = fleet.envoys[0].state(1.0) else { panic!("{said}") };
            assert!(error.contains(wrong), "{error}");
        }
    }
}
