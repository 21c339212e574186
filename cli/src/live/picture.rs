//! What is happening, from what all Envoys counted: the answers to an operator's questions in their order. Is it healthy, which
//! route, which version, who is refused and why, what is near its limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::fleet::{Fleet, State};
use super::ledger::Series;
use super::metric::Kind;
use super::noise::{Finding, Share};
use super::quantile::{Latency, Quantile};
use super::stats::Bucket;

/// Decisions that refuse a request. Faults are injected on purpose, and counted by themselves.
const REFUSING: [&str; 3] = ["authn_denied", "authz_denied", "rate_limited"];

/// So many labels are named where one is asked for that there is not.
const NAMED: usize = 12;

/// What rows are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// A route and a destination.
    #[default]
    Both,
    /// A route.
    Route,
    /// A destination.
    Destination,
    /// A decision.
    Decision,
    /// A policy, its mode and what it decided.
    Policy,
    /// The value of a tag.
    Tag(String),
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => return Err("use route, destination, decision, policy, or the name of a tag".to_owned()),
            "route" => By::Route,
            "destination" => By::Destination,
            "decision" => By::Decision,
            "policy" => By::Policy,
            tag => By::Tag(tag.to_owned()),
        })
    }
}

impl By {
    /// The labels whose values make a row.
    pub fn labels(&self) -> Vec<&str> {
        match self {
            By::Both => vec!["route", "destination"],
            By::Route => vec!["route"],
            By::Destination => vec!["destination"],
            By::Decision => vec!["decision"],
            By::Policy => vec!["policy", "mode", "decision"],
            By::Tag(tag) => vec![tag],
        }
    }
}

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub struct Picture {
    /// How long the window is in truth, in seconds: the longest of all Envoys.
    pub window_seconds: f64,
    /// The labels whose values make a row.
    pub by: Vec<String>,
    pub envoys: Vec<Admin>,
    /// What deserves a look, for people.
    pub warnings: Vec<String>,
    /// Why there are no rows: nothing that is counted has this tag.
    #[serde(skip)]
    pub no_such_tag: Option<String>,
    /// All requests.
    pub all: Requests,
    /// By the values of the labels.
    pub rows: Vec<Row>,
    /// Destinations of one route beside the one with the most requests.
    pub comparisons: Vec<Comparison>,
    /// Requests that were not forwarded, by decision.
    pub refusals: Vec<Refusal>,
    /// What each policy decided.
    pub policies: Vec<Policy>,
    pub limits: Vec<Limit>,
    /// Places for buckets; none: no limit needs any.
    pub slots: Option<Slots>,
    pub key_sets: Vec<KeySet>,
}

#[derive(Debug, Serialize)]
pub struct Admin {
    pub address: String,
    #[serde(flatten)]
    pub state: State,
    pub version: Option<String>,
    pub uptime_seconds: Option<f64>,
}

/// What became of some requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// Within the window.
    pub requests: u64,
    /// A second.
    pub rps: f64,
    /// The share that was not answered with 5xx; none: no requests, or their codes are not counted.
    pub success: Option<f64>,
    /// The share that authentication, authorization and limits refused.
    pub refused: Option<f64>,
    /// Of those that were allowed. None: nothing is timed, or there were none.
    pub latency: Option<Latency>,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// By label.
    pub labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub requests: Requests,
}

/// A destination beside the stable one of its route, since the command began.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub route: String,
    pub stable: Side,
    pub canary: Side,
    /// The canary's share of 5xx beside stable's.
    pub failures: Finding,
    /// The canary's share of requests slower than stable's p99 beside stable's. None: nothing is timed.
    pub slow: Option<Finding>,
}

#[derive(Debug, Serialize)]
pub struct Side {
    pub destination: String,
    pub requests: u64,
    pub success: Option<f64>,
    pub p99: Option<Quantile>,
}

#[derive(Debug, Serialize)]
pub struct Refusal {
    pub decision: String,
    /// None: codes are not counted.
    pub response_code: Option<String>,
    pub requests: u64,
    pub rps: f64,
    /// Of all requests.
    pub share: f64,
}

#[derive(Debug, Serialize)]
pub struct Policy {
    pub policy: String,
    pub mode: String,
    pub decision: String,
    pub count: u64,
    pub rps: f64,
    /// Of all that the policy decided.
    pub share: f64,
}

#[derive(Debug, Serialize)]
pub struct Limit {
    pub policy: String,
    /// What it decided.
    pub count: u64,
    pub rps: f64,
    /// The share that it refused, or would have in shadow mode.
    pub limited: Option<f64>,
    /// Of those that passed, the share that left less than a tenth of its bucket.
    pub nearly_empty: Option<f64>,
    /// The share of questions that its service did not answer; none: there is no service, or it was not asked.
    pub unavailable: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Slots {
    pub used: u64,
    pub of: u64,
    /// Buckets that had to make room, a second.
    pub displaced_rps: f64,
}

#[derive(Debug, Serialize)]
pub struct KeySet {
    /// The cluster that it comes from.
    pub destination: String,
    /// Since the last success, of the Envoy where it is oldest; none: there was none.
    pub age_seconds: Option<f64>,
    /// Fetches within the window, by result.
    pub fetches: BTreeMap<String, u64>,
}

/// A count, and how many a second.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    rate: f64,
}

impl Sum {
    fn add(&mut self, series: &Series, seconds: f64) {
        let count = series.count();
        self.count = self.count.saturating_add(count);
        if seconds > 0.0 {
            self.rate += count as f64 / seconds;
        }
    }

    fn share_of(self, all: u64) -> Option<f64> {
        (all > 0).then(|| self.count as f64 / all as f64)
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    requests: Sum,
    failures: Sum,
    refused: Sum,
    /// Requests whose codes are counted.
    coded: u64,
    durations: Vec<Bucket>,
    /// Since the beginning, of those that were allowed.
    allowed: u64,
    allowed_failures: u64,
    allowed_durations: Vec<Bucket>,
}

impl Group {
    fn count(&mut self, series: &Series, seconds: f64) {
        let metric = &series.metric;
        let code = metric.label("response_code");
        let decision = metric.label("decision");
        let failed = code.is_some_and(|code| code.len() == 3 && code.starts_with('5'));
        self.requests.add(series, seconds);
        if code.is_some() {
            self.coded = self.coded.saturating_add(series.count());
        }
        if failed {
            self.failures.add(series, seconds);
        }
        if decision.is_some_and(|decision| REFUSING.contains(&decision)) {
            self.refused.add(series, seconds);
        }
        if decision.is_none_or(|decision| decision == "allowed") {
            self.allowed = self.allowed.saturating_add(series.total());
            if failed {
                self.allowed_failures = self.allowed_failures.saturating_add(series.total());
            }
        }
    }

    fn time(&mut self, series: &Series) {
        add(&mut self.durations, series.buckets());
        add(&mut self.allowed_durations, series.all_buckets());
    }

    fn told(&self) -> Requests {
        let Group { requests, failures, refused, coded, .. } = self;
        Requests {
            requests: requests.count,
            rps: requests.rate,
            success: failures.share_of(*coded).map(|failed| 1.0 - failed),
            refused: refused.share_of(requests.count),
            latency: Latency::of(&self.durations),
        }
    }

    fn side(&self, destination: &str) -> Side {
        Side {
            destination: destination.to_owned(),
            requests: self.allowed,
            success: (self.allowed > 0).then(|| 1.0 - self.allowed_failures as f64 / self.allowed as f64),
            p99: Quantile::of(0.99, &self.allowed_durations),
        }
    }
}

/// Adds buckets to others; where bounds differ, every bound stays and counts go to the next one that is not lower.
fn add(all: &mut Vec<Bucket>, more: &[Bucket]) {
    if more.is_empty() {
        return;
    }
    let same = all.len() == more.len() && all.iter().zip(more).all(|(one, other)| one.bound == other.bound);
    if same {
        for (bucket, other) in all.iter_mut().zip(more) {
            bucket.count = bucket.count.saturating_add(other.count);
        }
        return;
    }
    if all.is_empty() {
        all.extend_from_slice(more);
        return;
    }
    let mut bounds: Vec<f64> = all.iter().chain(more).map(|bucket| bucket.bound).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let below = |buckets: &[Bucket], bound: f64| {
        buckets.iter().take_while(|bucket| bucket.bound <= bound).last().map_or(0, |bucket| bucket.count)
    };
    let merged = bounds
        .into_iter()
        .map(|bound| Bucket { bound, count: below(all, bound).saturating_add(below(more, bound)) });
    *all = merged.collect();
}

#[derive(Default)]
struct LimitSums {
    decided: Sum,
    allowed: Sum,
    limited: Sum,
    nearly_empty: Option<Sum>,
    asked: Sum,
    failed: Sum,
    is_limit: bool,
}

#[derive(Default)]
struct Keys {
    oldest: Option<u64>,
    /// Fetches that failed, ever.
    failed: u64,
    fetches: BTreeMap<String, u64>,
}

/// What is added up while the series are looked at.
#[derive(Default)]
struct Sums<'a> {
    all: Group,
    rows: HashMap<Vec<&'a str>, Group>,
    pairs: HashMap<(&'a str, &'a str), Group>,
    refusals: BTreeMap<(&'a str, Option<&'a str>), Sum>,
    policies: BTreeMap<(&'a str, &'a str, &'a str), Sum>,
    limits: BTreeMap<&'a str, LimitSums>,
    slots: (u64, u64),
    displaced: Sum,
    waiting: BTreeMap<&'a str, u64>,
    keys: BTreeMap<&'a str, Keys>,
    versions: BTreeMap<&'a str, Vec<u64>>,
    overflows: BTreeMap<&'a str, u64>,
    reloads: u64,
    rejected: u64,
    /// Healthy endpoints and all of them.
    members: BTreeMap<&'a str, (u64, u64)>,
    labels: BTreeSet<&'a str>,
    /// Whether there is a histogram of allowed requests.
    timed: bool,
    /// Whether a policy counts requests.
    tells: bool,
}

impl Picture {
    /// The picture at `now` of the fleet's clock, in seconds; `date` is since the Unix epoch.
    pub fn of(fleet: &Fleet, by: &By, now: f64, date: Duration) -> Self {
        let states: Vec<State> = fleet.envoys.iter().map(|envoy| envoy.state(now)).collect();
        let labels = by.labels();
        let mut sums = Sums::default();
        let mut window: f64 = 0.0;
        for (envoy, state) in fleet.envoys.iter().zip(&states) {
            if matches!(state, State::Gone { .. } | State::Asked) {
                continue;
            }
            let seconds = envoy.ledger.seconds();
            window = window.max(seconds);
            for series in envoy.ledger.series() {
                sums.look(series, seconds, by, &labels);
            }
        }
        let requests = sums.all.requests.count;
        let mut warnings = sums.warnings();
        let no_such_tag = sums.no_such_tag(by);
        warnings.extend(no_such_tag.clone());
        if sums.untimed() {
            let why =
                "Envoy publishes durations every 5 s (stats_flush_interval), and none came within the window";
            warnings.push(why.to_owned());
        }
        for (envoy, state) in fleet.envoys.iter().zip(&states) {
            let said = match state {
                State::Gone { seconds, error } if *seconds < 1.0 => {
                    format!("{} does not answer: {error}", envoy.address)
                }
                State::Gone { seconds, error } => {
                    format!("{} has not answered for {}: {error}", envoy.address, span(*seconds))
                }
                State::Draining => format!("{} is draining: it takes no new connections", envoy.address),
                State::Starting => format!("{} does not serve yet", envoy.address),
                State::Asked | State::Live => continue,
            };
            warnings.insert(0, said);
        }
        Picture {
            window_seconds: window,
            by: labels.iter().map(|label| (*label).to_owned()).collect(),
            envoys: fleet
                .envoys
                .iter()
                .zip(states)
                .map(|(envoy, state)| Admin {
                    address: envoy.address.clone(),
                    state,
                    version: envoy.info.as_ref().map(|info| info.version.clone()),
                    uptime_seconds: envoy.info.as_ref().map(|info| info.uptime),
                })
                .collect(),
            warnings,
            no_such_tag,
            all: sums.all.told(),
            rows: sums.rows(&labels),
            comparisons: sums.comparisons(),
            refusals: sums.refusals(requests),
            policies: sums.policies(),
            limits: sums.limits(),
            slots: sums.slots(),
            key_sets: sums.key_sets(date),
        }
    }
}

impl<'a> Sums<'a> {
    fn look(&mut self, series: &'a Series, seconds: f64, by: &By, labels: &[&str]) {
        let metric = &series.metric;
        let label = |name: &str| metric.label(name).unwrap_or("none");
        match metric.kind {
            Kind::Requests => {
                self.tells = true;
                for (name, _) in &metric.labels {
                    self.labels.insert(name);
                }
                if series.count() == 0 && series.total() == 0 {
                    return;
                }
                self.all.count(series, seconds);
                if *by != By::Policy && labels.iter().all(|label| is_there(series, by, label)) {
                    let key = labels.iter().map(|name| label(name)).collect();
                    self.rows.entry(key).or_default().count(series, seconds);
                }
                self.pairs.entry((label("route"), label("destination"))).or_default().count(series, seconds);
                let decision = label("decision");
                if !matches!(decision, "allowed" | "redirected" | "direct_response" | "none") {
                    let code = metric.label("response_code");
                    self.refusals.entry((decision, code)).or_default().add(series, seconds);
                }
            }
            Kind::Durations => {
                let allowed = metric.label("decision").is_none_or(|decision| decision == "allowed");
                if allowed {
                    self.timed |= series.metric.label("route").is_some();
                    self.all.time(series);
                    self.pairs.entry((label("route"), label("destination"))).or_default().time(series);
                }
                // Tags are no labels of the histogram.
                let has = *by != By::Policy && labels.iter().all(|label| is_there(series, by, label));
                if (allowed || *by == By::Decision) && has && !series.buckets().is_empty() {
                    let key = labels.iter().map(|name| label(name)).collect();
                    self.rows.entry(key).or_default().time(series);
                }
            }
            Kind::Decisions => {
                let (policy, decision) = (label("policy"), label("decision"));
                let key = (policy, label("mode"), decision);
                let limit = self.limits.entry(policy).or_default();
                match decision {
                    "allowed" => limit.allowed.add(series, seconds),
                    "limited" => limit.limited.add(series, seconds),
                    _ => {}
                }
                limit.is_limit |= decision == "limited";
                limit.decided.add(series, seconds);
                self.policies.entry(key).or_default().add(series, seconds);
            }
            Kind::NearlyEmpty => {
                let limit = self.limits.entry(label("policy")).or_default();
                limit.is_limit = true;
                limit.nearly_empty.get_or_insert_default().add(series, seconds);
            }
            Kind::ServiceAnswers => {
                let limit = self.limits.entry(label("policy")).or_default();
                limit.is_limit = true;
                match label("result") {
                    // Nobody was asked.
                    "remembered" => {}
                    result => {
                        limit.asked.add(series, seconds);
                        if result == "failed" {
                            limit.failed.add(series, seconds);
                        }
                    }
                }
            }
            Kind::Slots => self.slots.1 = self.slots.1.saturating_add(series.level()),
            Kind::SlotsUsed => self.slots.0 = self.slots.0.saturating_add(series.level()),
            Kind::Displaced => self.displaced.add(series, seconds),
            Kind::Waiting => {
                let waiting = self.waiting.entry(label("reason")).or_default();
                *waiting = waiting.saturating_add(series.level());
            }
            Kind::KeyFetches => {
                let keys = self.keys.entry(label("destination")).or_default();
                if label("result") != "success" {
                    keys.failed = keys.failed.saturating_add(series.level());
                }
                if series.count() > 0 {
                    let count = keys.fetches.entry(label("result").to_owned()).or_default();
                    *count = count.saturating_add(series.count());
                }
            }
            Kind::KeySuccess => {
                let keys = self.keys.entry(label("destination")).or_default();
                if series.level() > 0 {
                    let oldest = keys.oldest.unwrap_or(u64::MAX);
                    keys.oldest = Some(oldest.min(series.level()));
                }
            }
            Kind::Configuration => self.versions.entry(label("plugin")).or_default().push(series.level()),
            Kind::Overflows => {
                // They stand there before the first request.
                self.tells = true;
                let overflows = self.overflows.entry(label("tag")).or_default();
                *overflows = overflows.saturating_add(series.count());
            }
            Kind::Reloads => self.reloads = self.reloads.saturating_add(series.total()),
            Kind::Rejected => self.rejected = self.rejected.saturating_add(series.total()),
            Kind::Healthy => {
                let members = self.members.entry(label("cluster")).or_default();
                members.0 = members.0.saturating_add(series.level());
            }
            Kind::Members => {
                let members = self.members.entry(label("cluster")).or_default();
                members.1 = members.1.saturating_add(series.level());
            }
        }
    }

    /// Whether requests are timed, and none of the times is there.
    fn untimed(&self) -> bool {
        self.timed && self.all.requests.count > 0 && self.all.durations.is_empty()
    }

    fn rows(&self, labels: &[&str]) -> Vec<Row> {
        let row = |(key, group): (&Vec<&str>, &Group)| Row {
            labels: labels
                .iter()
                .zip(key)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            requests: group.told(),
        };
        let mut rows: Vec<Row> =
            self.rows.iter().filter(|(_, group)| group.requests.count > 0).map(row).collect();
        rows.sort_by(|one, other| {
            other.requests.requests.cmp(&one.requests.requests).then_with(|| one.labels.cmp(&other.labels))
        });
        rows
    }

    /// Of every route with several destinations: each beside the one with the most requests.
    fn comparisons(&self) -> Vec<Comparison> {
        let mut routes: BTreeMap<&str, Vec<(&str, &Group)>> = BTreeMap::new();
        for ((route, destination), group) in &self.pairs {
            if *destination != "none" && group.allowed > 0 {
                routes.entry(route).or_default().push((destination, group));
            }
        }
        let mut comparisons = Vec::new();
        for (route, mut destinations) in routes {
            destinations.sort_by(|(one, a), (other, b)| b.allowed.cmp(&a.allowed).then(one.cmp(other)));
            let Some(((stable_name, stable), canaries)) = destinations.split_first() else { continue };
            for (name, canary) in canaries {
                comparisons.push(Comparison {
                    route: route.to_owned(),
                    stable: stable.side(stable_name),
                    canary: canary.side(name),
                    failures: failures(canary).beside(failures(stable)),
                    slow: slow(canary, stable),
                });
            }
        }
        comparisons
    }

    fn refusals(&self, all: u64) -> Vec<Refusal> {
        let mut refusals: Vec<Refusal> = self
            .refusals
            .iter()
            .filter(|(_, sum)| sum.count > 0)
            .map(|((decision, code), sum)| Refusal {
                decision: (*decision).to_owned(),
                response_code: code.map(str::to_owned),
                requests: sum.count,
                rps: sum.rate,
                share: sum.share_of(all).unwrap_or(0.0),
            })
            .collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.requests));
        refusals
    }

    fn policies(&self) -> Vec<Policy> {
        let mut all: HashMap<(&str, &str), u64> = HashMap::new();
        for ((policy, mode, _), sum) in &self.policies {
            let count = all.entry((policy, mode)).or_default();
            *count = count.saturating_add(sum.count);
        }
        let policy = |(key, sum): (&(&str, &str, &str), &Sum)| {
            let (policy, mode, decision) = *key;
            let decided = all.get(&(policy, mode)).copied().unwrap_or(0);
            Policy {
                policy: policy.to_owned(),
                mode: mode.to_owned(),
                decision: decision.to_owned(),
                count: sum.count,
                rps: sum.rate,
                share: sum.share_of(decided).unwrap_or(0.0),
            }
        };
        let mut policies: Vec<Policy> =
            self.policies.iter().filter(|(_, sum)| sum.count > 0).map(policy).collect();
        policies.sort_by_key(|policy| std::cmp::Reverse(policy.count));
        policies
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |(policy, sums): (&&str, &LimitSums)| {
            let LimitSums { decided, allowed, limited, nearly_empty, asked, failed, .. } = sums;
            Limit {
                policy: (*policy).to_owned(),
                count: decided.count,
                rps: decided.rate,
                limited: limited.share_of(decided.count),
                nearly_empty: nearly_empty.and_then(|sum| sum.share_of(allowed.count)),
                unavailable: failed.share_of(asked.count),
            }
        };
        let mut limits: Vec<Limit> =
            self.limits.iter().filter(|(_, sums)| sums.is_limit).map(limit).collect();
        let near = |limit: &Limit| limit.limited.unwrap_or(0.0) + limit.nearly_empty.unwrap_or(0.0);
        limits.sort_by(|one, other| near(other).total_cmp(&near(one)));
        limits
    }

    fn slots(&self) -> Option<Slots> {
        let (used, of) = self.slots;
        (of > 0).then_some(Slots { used, of, displaced_rps: self.displaced.rate })
    }

    fn key_sets(&self, date: Duration) -> Vec<KeySet> {
        let set = |(destination, keys): (&&str, &Keys)| KeySet {
            destination: (*destination).to_owned(),
            age_seconds: keys.oldest.map(|oldest| date.as_secs().saturating_sub(oldest) as f64),
            fetches: keys.fetches.clone(),
        };
        self.keys.iter().map(set).collect()
    }

    fn no_such_tag(&self, by: &By) -> Option<String> {
        let By::Tag(tag) = by else { return None };
        if self.labels.is_empty() || self.labels.contains(tag.as_str()) {
            return None;
        }
        let labels: Vec<&str> = self.labels.iter().copied().take(NAMED).collect();
        Some(format!(
            "no request has the label {tag}; there are {}, and a tag that is in the logs alone is none",
            labels.join(", ")
        ))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.reloads > 0 {
            warnings.push(format!(
                "a module crashed and was loaded again, {} times; its trace is in Envoy's log",
                self.reloads
            ));
        }
        if self.rejected > 0 {
            warnings.push(format!(
                "Envoy refused {} pushes; its log says why, and the old policy decides",
                self.rejected
            ));
        }
        for (plugin, versions) in &self.versions {
            let mut distinct = versions.clone();
            distinct.sort_unstable();
            distinct.dedup();
            if distinct.len() > 1 {
                warnings.push(format!("{} policies are in force in the plugin {plugin}", distinct.len()));
            }
        }
        if let Some(waiting) = self.waiting.get("keys").filter(|waiting| **waiting > 0) {
            warnings.push(format!("{waiting} requests wait for a key set"));
        }
        for (destination, keys) in &self.keys {
            if keys.oldest.is_none() && keys.failed > 0 {
                warnings.push(format!("no key set of {destination} could be had yet"));
            }
        }
        for (cluster, (healthy, all)) in &self.members {
            if healthy < all {
                warnings.push(format!("{healthy} of {all} endpoints of {cluster} are healthy"));
            }
        }
        for (policy, limit) in self.limits.iter().filter(|(_, limit)| limit.failed.count > 0) {
            warnings.push(format!(
                "the rate limit service of {policy} did not answer {} of {} questions",
                limit.failed.count, limit.asked.count
            ));
        }
        if !self.versions.is_empty() && !self.tells {
            let why =
                "no policy in force has telemetry: {}: requests are not counted, only what policies decide";
            warnings.push(why.to_owned());
        }
        for (tag, count) in &self.overflows {
            if *count > 0 {
                warnings.push(format!("{count} values of the tag {tag} became \"other\": raise its maxValues, or list its values"));
            }
        }
        warnings
    }
}

/// Whether a series of requests has what makes a row. A tag that it lacks is no row, since another plugin may count, too.
fn is_there(series: &Series, by: &By, label: &str) -> bool {
    !matches!(by, By::Tag(_)) || series.metric.label(label).is_some()
}

fn failures(group: &Group) -> Share {
    Share { some: group.allowed_failures, all: group.allowed }
}

/// Requests slower than the bounds of the bucket in which stable's p99 lies: above the upper one if the canary is slower, above the
/// lower one if it is faster.
fn slow(canary: &Group, stable: &Group) -> Option<Finding> {
    let p99 = Quantile::of(0.99, &stable.allowed_durations)?;
    let above = |buckets: &[Bucket], bound: f64| {
        let all = buckets.last().map_or(0, |last| last.count);
        let below = buckets.iter().take_while(|bucket| bucket.bound <= bound).last().map_or(0, |it| it.count);
        Share { some: all.saturating_sub(below), all }
    };
    let beside =
        |bound| above(&canary.allowed_durations, bound).beside(above(&stable.allowed_durations, bound));
    let (upper, lower) = (beside(p99.to), beside(p99.from));
    Some(match (upper, lower) {
        (Finding::Higher, _) => Finding::Higher,
        (_, Finding::Lower) => Finding::Lower,
        _ => upper,
    })
}

/// `12 s`, `5 min`, `3 h`, `2 d`.
pub fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..=119 => format!("{whole} s"),
        120..=7199 => format!("{} min", whole / 60),
        7200..=172_799 => format!("{} h", whole / 3600),
        _ => format!("{} d", whole / 86_400),
    }
}
