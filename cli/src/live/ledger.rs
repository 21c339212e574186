//! What one Envoy counted in the last seconds: the differences between what it said before and what it says now.

use std::collections::{BTreeMap, VecDeque};

use super::labelled;
use super::metric::{Kind, Metric};
use super::stats::{self, Bucket, Said};

/// A counter, or a histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// How many.
    Number(u64),
    /// How many samples are not above each bound.
    Buckets(Vec<Bucket>),
}

impl Amount {
    /// What came since `before`. A counter that fell was reset and counts from zero, as Prometheus has it; nothing is ever
    /// negative.
    fn since(&self, before: Option<&Amount>) -> Amount {
        match (self, before) {
            (Amount::Number(now), Some(Amount::Number(before))) => {
                Amount::Number(now.checked_sub(*before).unwrap_or(*now))
            }
            (Amount::Buckets(now), Some(Amount::Buckets(before))) => {
                let same = now.len() == before.len()
                    && now.iter().zip(before).all(|(now, before)| now.bound == before.bound);
                let fell = now.iter().zip(before).any(|(now, before)| now.count < before.count);
                if !same || fell {
                    return self.clone();
                }
                let less = |(now, before): (&Bucket, &Bucket)| Bucket {
                    bound: now.bound,
                    count: now.count.saturating_sub(before.count),
                };
                Amount::Buckets(now.iter().zip(before).map(less).collect())
            }
            _ => self.clone(),
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Amount::Number(count) => *count == 0,
            Amount::Buckets(buckets) => buckets.last().is_none_or(|last| last.count == 0),
        }
    }

    fn combine(&mut self, other: &Amount, with: fn(u64, u64) -> u64) {
        match (&mut *self, other) {
            (Amount::Number(count), Amount::Number(other)) => *count = with(*count, *other),
            (Amount::Buckets(all), Amount::Buckets(other)) if all.len() == other.len() => {
                for (bucket, other) in all.iter_mut().zip(other) {
                    bucket.count = with(bucket.count, other.count);
                }
            }
            // Other bounds than before: a push changed them.
            (_, other) => *self = other.clone(),
        }
    }
}

/// One series over time.
#[derive(Debug)]
pub struct Series {
    /// What it is about.
    pub metric: Metric,
    /// What Envoy said last.
    last: Option<Amount>,
    /// What it says in the answer that is being read.
    next: Option<Amount>,
    /// By the answers that brought it; no zeros.
    recent: VecDeque<(u64, Amount)>,
    /// The sum of these.
    window: Option<Amount>,
    /// What came since the first answer.
    total: Option<Amount>,
    /// The last answer that had it.
    seen: u64,
}

impl Series {
    /// Of a gauge: where it stands.
    pub fn level(&self) -> u64 {
        match self.last {
            Some(Amount::Number(level)) => level,
            _ => 0,
        }
    }

    /// Of a counter: what came within the window.
    pub fn count(&self) -> u64 {
        number(self.window.as_ref())
    }

    /// Of a counter: what came since the first answer.
    pub fn total(&self) -> u64 {
        number(self.total.as_ref())
    }

    /// Of a histogram: what came within the window.
    pub fn buckets(&self) -> &[Bucket] {
        buckets(self.window.as_ref())
    }

    /// Of a histogram: what came since the first answer.
    pub fn all_buckets(&self) -> &[Bucket] {
        buckets(self.total.as_ref())
    }
}

fn number(amount: Option<&Amount>) -> u64 {
    match amount {
        Some(Amount::Number(count)) => *count,
        _ => 0,
    }
}

fn buckets(amount: Option<&Amount>) -> &[Bucket] {
    match amount {
        Some(Amount::Buckets(buckets)) => buckets,
        _ => &[],
    }
}

/// What is known of one Envoy.
#[derive(Debug)]
pub struct Ledger {
    window: f64,
    series: BTreeMap<Box<str>, Series>,
    /// The answers of the window: number, when it came, and how long after the one before. Seconds.
    answers: VecDeque<(u64, f64, f64)>,
    number: u64,
    /// When the last one came, and how long Envoy said that it had been running.
    last: Option<(f64, f64)>,
    /// How many names were looked up anew, ever.
    read: u64,
}

impl Ledger {
    /// Remembers so many seconds.
    pub fn new(window: f64) -> Self {
        Ledger { window, series: BTreeMap::new(), answers: VecDeque::new(), number: 0, last: None, read: 0 }
    }

    /// Takes an answer in its two parts (JSON, and series with labels) that came at `at`, from an Envoy that says it has been running for `uptime`, both in seconds. The
    /// first one says only where the counters stand, and so does one after a gap longer than the window.
    ///
    /// # Errors
    /// That it is no statistics; it is as if it had not come.
    pub fn take(&mut self, at: f64, uptime: f64, [stats, labelled]: [&[u8]; 2]) -> Result<(), String> {
        let number = self.number.saturating_add(1);
        for series in self.series.values_mut() {
            series.next = None;
        }
        let (series, read) = (&mut self.series, &mut self.read);
        let mut told = |said: Said<'_>| {
            let (name, amount) = match said {
                Said::Number(name, count) => (name, Amount::Number(count)),
                Said::Histogram(name, buckets) => (name, Amount::Buckets(buckets.to_vec())),
            };
            if let Some(known) = series.get_mut(name) {
                known.next = Some(amount);
                return;
            }
            *read = read.saturating_add(1);
            if let Some(metric) = Metric::of(name) {
                let known = Series {
                    metric,
                    last: None,
                    next: Some(amount),
                    recent: VecDeque::new(),
                    window: None,
                    total: None,
                    seen: number,
                };
                series.insert(name.into(), known);
            }
        };
        stats::read(stats, &mut told)?;
        labelled::read(labelled, &mut told)?;
        self.number = number;
        let since = self.last.map(|(last, running)| (at - last, running));
        let begins = since.is_none_or(|(since, _)| since > self.window.max(1.0) * 2.0);
        // Uptimes are whole seconds.
        let restarted = since.is_some_and(|(since, running)| uptime + 2.0 < running + since);
        self.last = Some((at, uptime));
        if begins {
            self.forget();
        } else {
            let since = since.map_or(0.0, |(since, _)| since);
            // A new process has counted for no longer than it runs.
            let counted = if restarted { since.min(uptime.max(1.0)) } else { since };
            self.answers.push_back((number, at, counted));
        }
        let oldest = self.expire(at);
        for series in self.series.values_mut() {
            series.commit(number, begins, restarted);
            series.expire(oldest);
        }
        // A series that Envoy no longer has is kept for as long as something of it is in the window.
        self.series.retain(|_, series| series.seen == number || series.window.is_some());
        Ok(())
    }

    /// Forgets what came within the window, as after a long silence; where the counters stand is kept.
    fn forget(&mut self) {
        self.answers.clear();
        for series in self.series.values_mut() {
            series.recent.clear();
            series.window = None;
        }
    }

    /// Drops answers that are out of the window, but never the last; the number of the first that is left.
    fn expire(&mut self, now: f64) -> u64 {
        // An answer comes a little late, and the one that began the window a little early.
        let slack = self.window * 0.05;
        while self.answers.len() > 1
            && self.answers.front().is_some_and(|(_, at, since)| at - since < now - self.window - slack)
        {
            self.answers.pop_front();
        }
        self.answers.front().map_or(u64::MAX, |(number, ..)| *number)
    }

    /// What came since the first answer is counted anew.
    pub fn restart_totals(&mut self) {
        for series in self.series.values_mut() {
            series.total = None;
        }
    }

    /// How long the window is in truth, in seconds; 0 before the second answer.
    pub fn seconds(&self) -> f64 {
        self.answers.iter().map(|(_, _, since)| since).sum()
    }

    /// All of it.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.series.values()
    }

    /// How many names were looked up anew.
    #[cfg(test)]
    pub fn names_read(&self) -> u64 {
        self.read
    }
}

impl Series {
    fn commit(&mut self, answer: u64, begins: bool, restarted: bool) {
        let Some(next) = self.next.take() else { return };
        self.seen = answer;
        if !begins && self.metric.kind.counts() {
            // What is new to a known Envoy began at zero.
            let since = next.since(self.last.as_ref().filter(|_| !restarted));
            if !since.is_nothing() {
                for sum in [&mut self.window, &mut self.total] {
                    match sum {
                        Some(sum) => sum.combine(&since, u64::saturating_add),
                        None => *sum = Some(since.clone()),
                    }
                }
                self.recent.push_back((answer, since));
            }
        }
        self.last = Some(next);
    }

    fn expire(&mut self, oldest: u64) {
        while let Some((_, amount)) = self.recent.pop_front_if(|(answer, _)| *answer < oldest) {
            if let Some(window) = &mut self.window {
                window.combine(&amount, u64::saturating_sub);
            }
        }
        if self.recent.is_empty() {
            self.window = None;
        }
    }
}

impl Kind {
    /// Whether it only grows; else it is a level.
    fn counts(self) -> bool {
        !matches!(
            self,
            Kind::Slots
                | Kind::SlotsUsed
                | Kind::Waiting
                | Kind::KeySuccess
                | Kind::Configuration
                | Kind::Healthy
                | Kind::Members
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ledger: &mut Ledger, at: f64, uptime: f64, stats: &[u8]) -> Result<(), String> {
        ledger.take(at, uptime, [stats, b""])
    }

    const REQUESTS: &str = "wasmcustom.meshfilter_requests_total<route=a>";
    const DURATIONS: &str = "wasmcustom.meshfilter_request_duration_milliseconds<route=a>";

    fn answer(requests: Option<u64>, samples: [u64; 2]) -> String {
        let counter = requests.map(|value| format!("{{\"name\":\"{REQUESTS}\",\"value\":{value}}},"));
        format!(
            "{{\"stats\":[{}{{\"histograms\":[{{\"name\":\"{DURATIONS}\",\"buckets\":[{{\"upper_bound\":1,\"interval\":0,\
             \"cumulative\":{}}},{{\"upper_bound\":2,\"interval\":0,\"cumulative\":{}}}]}}]}}]}}",
            counter.unwrap_or_default(),
            samples[0],
            samples[1]
        )
    }

    fn of(ledger: &Ledger, kind: Kind) -> &Series {
        ledger.series().find(|series| series.metric.kind == kind).unwrap()
    }

    fn counts(ledger: &Ledger) -> (u64, u64, Vec<u64>) {
        let requests = of(ledger, Kind::Requests);
        let samples = of(ledger, Kind::Durations).buckets().iter().map(|bucket| bucket.count).collect();
        (requests.count(), requests.total(), samples)
    }

    #[test]
    fn the_first_answer_says_where_counters_stand_and_the_next_what_came() {
        let mut ledger = Ledger::new(4.0);
        take(&mut ledger, 0.0, 100.0, answer(Some(1000), [500, 900]).as_bytes()).unwrap();
        assert_eq!((counts(&ledger), ledger.seconds()), ((0, 0, vec![]), 0.0));
        for (at, value, samples, expected, seconds) in [
            (2.0, 1010, [501, 905], (10, 10, vec![1, 5]), 2.0),
            (4.0, 1030, [501, 915], (30, 30, vec![1, 15]), 4.0),
            // The first two seconds are out of the window.
            (6.0, 1060, [511, 925], (50, 60, vec![10, 20]), 4.0),
            (8.0, 1060, [511, 925], (30, 60, vec![10, 10]), 4.0),
            (10.0, 1060, [511, 925], (0, 60, vec![]), 4.0),
        ] {
            take(&mut ledger, at, 100.0 + at, answer(Some(value), samples).as_bytes()).unwrap();
            assert_eq!((counts(&ledger), ledger.seconds()), (expected, seconds), "{at}");
        }
    }

    #[test]
    fn restarts_and_pushes_make_nothing_negative() {
        let mut ledger = Ledger::new(10.0);
        take(&mut ledger, 0.0, 100.0, answer(Some(1000), [1, 1]).as_bytes()).unwrap();
        // A counter fell.
        take(&mut ledger, 2.0, 102.0, answer(Some(7), [0, 3]).as_bytes()).unwrap();
        assert_eq!(counts(&ledger), (7, 7, vec![0, 3]));
        // It has more than before, but the process is a new one.
        take(&mut ledger, 4.0, 1.0, answer(Some(20), [5, 5]).as_bytes()).unwrap();
        assert_eq!(counts(&ledger), (27, 27, vec![5, 8]));
        // A push takes the series away, and brings it back.
        take(&mut ledger, 6.0, 3.0, answer(None, [5, 5]).as_bytes()).unwrap();
        assert_eq!(counts(&ledger), (27, 27, vec![5, 8]));
        take(&mut ledger, 8.0, 5.0, answer(Some(2), [5, 5]).as_bytes()).unwrap();
        assert_eq!(counts(&ledger), (29, 29, vec![5, 8]));
    }

    #[test]
    fn after_a_silence_it_begins_anew() {
        let mut ledger = Ledger::new(4.0);
        take(&mut ledger, 0.0, 100.0, answer(Some(0), [0, 0]).as_bytes()).unwrap();
        take(&mut ledger, 2.0, 102.0, answer(Some(10), [0, 10]).as_bytes()).unwrap();
        // One answer that is late is averaged over the time that it took.
        take(&mut ledger, 6.0, 106.0, answer(Some(50), [0, 50]).as_bytes()).unwrap();
        assert_eq!((counts(&ledger), ledger.seconds()), ((40, 50, vec![0, 40]), 4.0));
        take(&mut ledger, 600.0, 700.0, answer(Some(100_000), [0, 100_000]).as_bytes()).unwrap();
        assert_eq!((counts(&ledger), ledger.seconds()), ((0, 50, vec![]), 0.0));
        take(&mut ledger, 602.0, 702.0, answer(Some(100_004), [0, 100_004]).as_bytes()).unwrap();
        assert_eq!((counts(&ledger), ledger.seconds()), ((4, 54, vec![0, 4]), 2.0));
    }

    #[test]
    fn an_answer_that_breaks_off_never_came() {
        let mut ledger = Ledger::new(4.0);
        take(&mut ledger, 0.0, 100.0, answer(Some(5), [0, 5]).as_bytes()).unwrap();
        let whole = answer(Some(100), [0, 100]);
        take(&mut ledger, 2.0, 102.0, &whole.as_bytes()[..whole.len() - 1]).unwrap_err();
        assert_eq!((counts(&ledger), ledger.seconds()), ((0, 0, vec![]), 0.0));
        take(&mut ledger, 4.0, 104.0, answer(Some(9), [0, 9]).as_bytes()).unwrap();
        assert_eq!((counts(&ledger), ledger.seconds()), ((4, 4, vec![0, 4]), 4.0));
    }

    #[test]
    fn names_are_read_once_and_those_that_go_are_forgotten() {
        let mut ledger = Ledger::new(4.0);
        let stats = |names: std::ops::Range<u32>| {
            let one = |n: u32| {
                format!("{{\"name\":\"wasmcustom.meshfilter_requests_total<route={n}>\",\"value\":1}}")
            };
            format!("{{\"stats\":[{}]}}", names.map(one).collect::<Vec<_>>().join(","))
        };
        for round in 0..5 {
            take(&mut ledger, f64::from(round), f64::from(round), stats(0..1000).as_bytes()).unwrap();
        }
        assert_eq!(ledger.names_read(), 1000);
        for round in 5..100 {
            let names = round * 1000..(round + 1) * 1000;
            take(&mut ledger, f64::from(round), f64::from(round), stats(names).as_bytes()).unwrap();
        }
        assert!(ledger.series().count() <= 7000, "{}", ledger.series().count());
    }
}
