//! Key sets over HTTP.
//!
//! One VM of the process fetches a key set, under a lease in the data that all share, and puts its text there; the
//! others read it. What another plugin may have written there is not believed: a VM that finds such goes by what it knows
//! itself. Nothing here blocks: [`Remote::poll`] is called when its time comes, an answer when it is there,
//! and a request that finds no keys waits for either.

mod freshness;
mod location;
mod seal;
mod shared;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use location::{Location, Url};
pub use seal::take_secret;

use self::shared::{Shared, State};
use super::{KeySet, Keys};
use crate::host::{BufferType, Host, HttpCall, Instant, MapType, MetricType};
use crate::policy::metric::{Counter, Gauge};

/// How a key set is fetched and how long it is believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Envoy cluster that serves it. No other is ever asked, whatever a URL says.
    pub cluster: String,
    /// Where on that cluster.
    pub location: Location,
    /// How long it is fresh at most.
    pub cache_duration: Duration,
    /// How long it stays in force after that, while none fresher can be had.
    pub max_stale: Duration,
    /// How long an answer may take, and how long a request waits for the first one.
    pub timeout: Duration,
    /// Whether one VM fetches it for all. If not, each does, and nothing is in the data that other plugins can write to.
    pub shared: bool,
}

/// The longest answer, in bytes.
pub const MAX_RESPONSE_LENGTH: usize = 1024 * 1024;

/// The gauge of when it was last fetched.
const LAST_SUCCESS: &str = "meshfilter_jwks_last_success_timestamp_seconds";

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// How often a worker looks whether another one has news.
const PEEK: u64 = SECOND;
/// The same while a request waits.
const PEEK_WAITING: u64 = 20 * MILLISECOND;
/// A key set is believed at least so long, however short its `max-age` is: less would be a request storm.
const MIN_LIFETIME: u64 = 5 * SECOND;
/// How long before its end a key set is fetched anew, at most; a fifth of its lifetime where that is less.
const MAX_LEAD: u64 = 30 * SECOND;
/// Tokens that name unknown keys make for one fetch in this time, in the whole process.
const UNKNOWN_KID_INTERVAL: u64 = 5 * SECOND;
const MIN_BACK_OFF: u64 = SECOND;
const MAX_BACK_OFF: u64 = 30 * SECOND;
/// A lease outlasts the answers that it is for.
const LEASE_MARGIN: u64 = SECOND;
/// A lease of another document may be longer than this one's own, up to this.
const LONG_LEASE: u64 = 300 * SECOND;
/// What a worker has just written may be a little later than the time that this one has read.
const CLOCK_MARGIN: u64 = SECOND;

/// A key set that is fetched over HTTP.
#[derive(Debug)]
pub struct Remote {
    settings: Settings,
    shared: Shared,
    local: RefCell<Local>,
}

/// What this worker knows.
#[derive(Debug, Default)]
struct Local {
    state: State,
    keys: Option<Rc<KeySet>>,
    /// The hash of the text that `keys` are of, or would be if it were a key set.
    read: Option<[u8; seal::LENGTH]>,
    call: Option<Call>,
    /// A token named a key that is not there.
    wanted: bool,
    /// An attempt has ended, and those who wait have not heard of it.
    news: bool,
    /// A request waits, at the latest until then.
    waiting_until: Instant,
    next_poll: Instant,
}

/// A callout under way.
#[derive(Clone, Copy, Debug)]
struct Call {
    token: u32,
    lease: u64,
    step: Fetch,
}

/// What is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    Configuration,
    KeySet,
}

/// Why a fetch came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    /// Its word in the metrics, one of [`FAILURES`].
    word: &'static str,
    /// What the server answered, where that is why.
    status: Option<u16>,
}

const FAILURES: [&str; 6] =
    ["no_cluster", "no_answer", "bad_status", "too_large", "bad_configuration", "bad_key_set"];

impl From<&'static str> for Failure {
    fn from(word: &'static str) -> Self {
        Failure { word, status: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word)?;
        self.status.map_or(Ok(()), |status| write!(f, " {status}"))
    }
}

impl Remote {
    /// A key set of which nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        let shared = match settings.shared {
            true => Shared::new(settings.location.shared_key(&settings.cluster)),
            false => Shared::Here(Cell::default()),
        };
        Remote { settings, shared, local: RefCell::default() }
    }

    /// Makes the proxy show the counters, at 0. What has no value yet is only announced: at 0 it would look very old.
    pub fn start(&self, host: &dyn Host) {
        host.announce(MetricType::Gauge, LAST_SUCCESS, &["destination"]);
        for result in FAILURES.into_iter().chain(["success"]) {
            self.fetches(result).define(host);
        }
    }

    /// The keys for a token that names `kid`; see [`super::KeySource::keys`].
    pub fn keys(&self, kid: Option<&str>, host: &dyn Host, since: Instant) -> Keys {
        let Ok(mut local) = self.local.try_borrow_mut() else { return Keys::Unavailable };
        if let Some(keys) = local.keys_for(kid) {
            return Keys::Ready(keys);
        }
        // Another worker may have been faster.
        self.read(&mut local, host);
        if let Some(keys) = local.keys_for(kid) {
            return Keys::Ready(keys);
        }
        let now = host.now();
        let deadline = since.saturating_add(nanoseconds(self.settings.timeout));
        if now >= deadline {
            return local.keys.clone().map_or(Keys::Unavailable, Keys::Ready);
        }
        if let Some(keys) = &local.keys {
            let State { lease_until, next_attempt, unknown_at, .. } = local.state;
            let again = unknown_at == 0 || now >= unknown_at.saturating_add(UNKNOWN_KID_INTERVAL);
            if now >= lease_until {
                if !again || now < next_attempt {
                    // It was looked for a moment ago: the key does not exist.
                    return Keys::Ready(keys.clone());
                }
                local.wanted = true;
            }
        }
        local.waiting_until = local.waiting_until.max(deadline);
        local.next_poll = now;
        Keys::Wait(deadline)
    }

    /// When [`Remote::poll`] wants to be called next.
    pub fn next_poll(&self) -> Instant {
        self.local.try_borrow().map_or(0, |local| local.next_poll)
    }

    /// Does what there is to do: reads what another worker fetched, begins a fetch. Says whether waiting requests
    /// should look again.
    pub fn poll(&self, host: &dyn Host) -> bool {
        let Ok(mut local) = self.local.try_borrow_mut() else { return false };
        let now = host.now();
        if now < local.next_poll {
            return false;
        }
        self.read(&mut local, host);
        if self.is_due(&local, now) {
            self.begin(&mut local, host);
        }
        self.schedule(&mut local, now);
        std::mem::take(&mut local.news)
    }

    /// Takes the answer of a callout, if it is one of this key set's. Says whether waiting requests should look
    /// again.
    pub fn on_http_call_response(&self, token: u32, host: &dyn Host) -> bool {
        let Ok(mut local) = self.local.try_borrow_mut() else { return false };
        let Some(call) = local.call.take_if(|call| call.token == token) else { return false };
        match (call.step, answer(host)) {
            (_, Err(failure)) => self.end(&mut local, call.lease, Err(failure), host),
            (Fetch::KeySet, Ok(text)) => self.end(&mut local, call.lease, Ok(text), host),
            (Fetch::Configuration, Ok(text)) => {
                let found = match &self.settings.location {
                    Location::Discovery { issuer, .. } => location::jwks_uri(&text, issuer),
                    Location::KeySet(_) => None,
                };
                match found.ok_or(Failure::from("bad_configuration")).and_then(|url| self.call(&url, host)) {
                    Ok(token) => local.call = Some(Call { token, step: Fetch::KeySet, ..call }),
                    Err(failure) => self.end(&mut local, call.lease, Err(failure), host),
                }
            }
        }
        self.schedule(&mut local, host.now());
        std::mem::take(&mut local.news)
    }

    /// Reads what all workers know.
    fn read(&self, local: &mut Local, host: &dyn Host) {
        let now = host.now();
        let state = self.believed(self.shared.state(host).0, local, now);
        if state.attempts != local.state.attempts {
            local.wanted = false;
            local.news = true;
        }
        local.state = state;
        if state.version > 0 && local.read != Some(state.hash) {
            match self.shared.text(state.hash, host) {
                Some(text) => {
                    // It was good where it was fetched.
                    if let Ok((keys, _)) = KeySet::parse(&text) {
                        local.keys = Some(Rc::new(keys));
                    }
                    local.read = Some(state.hash);
                }
                // Somebody has put another text there.
                None => local.wanted = true,
            }
        }
        if local.keys.is_some() && now >= self.end_of_force(&state) {
            log::warn!("meshfilter: the key set from {} is too old to be believed", self.settings.cluster);
            local.keys = None;
        }
    }

    /// The state that stands there, if it may be true: it can be sealed and old, put back by another plugin. Else what this
    /// VM knows itself, without the lease of another, of whose end nobody would tell.
    fn believed(&self, state: Option<State>, local: &Local, now: Instant) -> State {
        let soon = now.saturating_add(CLOCK_MARGIN);
        let may_be_true = |state: &State| {
            state.fetched_at >= local.state.fetched_at
                && state.fetched_at <= soon
                && state.unknown_at <= soon
                && state.next_attempt <= soon.saturating_add(MAX_BACK_OFF)
                && state.lease_until <= soon.saturating_add(self.lease().max(LONG_LEASE))
        };
        let lease_until = local.call.map_or(0, |_| local.state.lease_until);
        state.filter(may_be_true).unwrap_or(State { lease_until, ..local.state })
    }

    /// How long a fetch may take.
    fn lease(&self) -> u64 {
        let time = nanoseconds(self.settings.timeout).saturating_mul(self.settings.location.steps().into());
        time.saturating_add(LEASE_MARGIN)
    }

    fn is_due(&self, local: &Local, now: Instant) -> bool {
        let state = &local.state;
        let wanted = local.wanted
            && (state.unknown_at == 0 || now >= state.unknown_at.saturating_add(UNKNOWN_KID_INTERVAL));
        now >= state.lease_until && now >= self.next_fetch(state, wanted || local.keys.is_none())
    }

    /// When the next fetch should begin.
    fn next_fetch(&self, state: &State, wanted: bool) -> Instant {
        if wanted || state.version == 0 {
            return state.next_attempt;
        }
        let lifetime = self.lifetime(state);
        let lead = (lifetime / 5).min(MAX_LEAD);
        // Proxies that started together do not ask together. The holder is random, and all workers agree on it.
        let jitter = (lead / 2).saturating_mul(state.holder % 256) / 256;
        let refresh = lifetime.saturating_sub(lead).saturating_sub(jitter);
        state.fetched_at.saturating_add(refresh).max(state.next_attempt)
    }

    fn lifetime(&self, state: &State) -> u64 {
        state.lifetime.max(MIN_LIFETIME).min(nanoseconds(self.settings.cache_duration))
    }

    /// From when on the keys count no more.
    fn end_of_force(&self, state: &State) -> Instant {
        let fresh = state.fetched_at.saturating_add(self.lifetime(state));
        fresh.saturating_add(nanoseconds(self.settings.max_stale))
    }

    /// Begins to fetch, unless another worker does.
    fn begin(&self, local: &mut Local, host: &dyn Host) {
        let (state, cas) = self.shared.state(host);
        let now = host.now();
        let state = self.believed(state, local, now);
        if state.attempts != local.state.attempts || now < state.lease_until {
            return;
        }
        let leased = State {
            lease_until: now.saturating_add(self.lease()),
            holder: host.random().max(1),
            unknown_at: if local.wanted { now } else { state.unknown_at },
            ..state
        };
        if self.shared.replace(leased, cas, host).is_err() {
            return;
        }
        local.state = leased;
        let step = match self.settings.location {
            Location::KeySet(_) => Fetch::KeySet,
            Location::Discovery { .. } => Fetch::Configuration,
        };
        match self.call(self.settings.location.first(), host) {
            Ok(token) => local.call = Some(Call { token, lease: leased.holder, step }),
            Err(failure) => self.end(local, leased.holder, Err(failure), host),
        }
    }

    fn call(&self, url: &Url, host: &dyn Host) -> Result<u32, Failure> {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let call = HttpCall {
            cluster: self.settings.cluster.clone(),
            headers: vec![
                header(":method", "GET"),
                header(":path", &url.path),
                header(":authority", &url.authority),
                // The API server of Kubernetes has the first alone, and answers 406 to whoever does not take it.
                header("accept", "application/jwk-set+json, application/json, */*;q=0.5"),
                header("user-agent", concat!("meshfilter/", env!("CARGO_PKG_VERSION"))),
            ],
            body: Vec::new(),
            timeout: self.settings.timeout,
        };
        // A cluster that is not there yet is refused, too.
        host.http_call(&call).map_err(|_| "no_cluster".into())
    }

    /// An attempt is over: tells all workers what it came to.
    fn end(&self, local: &mut Local, lease: u64, result: Result<Vec<u8>, Failure>, host: &dyn Host) {
        let result = result.and_then(|text| match KeySet::parse(&text) {
            Ok((keys, warnings)) => Ok((text, keys, warnings)),
            Err(error) => {
                log::warn!("meshfilter: the key set from {}: {error}", self.settings.cluster);
                Err("bad_key_set".into())
            }
        });
        let now = host.now();
        // Where nothing stands that is believed, the lease was taken away by nobody who could have another.
        let known = local.state;
        let mine = |state: Option<State>| {
            let state = self.believed(state, local, now);
            Some(state).filter(|state| state.holder == lease)
        };
        let word = match result {
            Ok((text, keys, warnings)) => {
                for warning in warnings {
                    log::info!("meshfilter: the key set from {}: {warning}", self.settings.cluster);
                }
                let headers = host.header_map(MapType::HttpCallResponseHeaders).unwrap_or_default();
                let lifetime =
                    freshness::max_age(&headers).map_or(u64::MAX, |age| age.saturating_mul(SECOND));
                let hash = seal::hash(&text);
                let fetched = |state: State| State {
                    version: state.version.saturating_add(1),
                    fetched_at: now,
                    lifetime,
                    attempts: state.attempts.saturating_add(1),
                    failures: 0,
                    next_attempt: 0,
                    lease_until: 0,
                    hash,
                    ..state
                };
                // Whoever has the lease writes, and the text before the state: who sees the new hash finds it.
                if mine(self.shared.state(host).0).is_some() {
                    let stored = self.shared.set_text(&text, host).is_ok();
                    let change = |state| mine(state).filter(|_| stored).map(fetched);
                    local.state = self.shared.update(host, change).unwrap_or(fetched(known));
                }
                local.read = Some(hash);
                local.keys = Some(Rc::new(keys));
                let labels = [("destination", self.settings.cluster.as_str())];
                Gauge::new(LAST_SUCCESS, &labels).set(host.wall_clock().as_secs(), host);
                "success"
            }
            Err(failure) => {
                let random = host.random();
                let failed = |state: State| State {
                    attempts: state.attempts.saturating_add(1),
                    failures: state.failures.saturating_add(1),
                    next_attempt: now.saturating_add(back_off(state.failures, random)),
                    lease_until: 0,
                    ..state
                };
                if mine(self.shared.state(host).0).is_some() {
                    let change = |state| mine(state).map(failed);
                    local.state = self.shared.update(host, change).unwrap_or(failed(known));
                }
                log::warn!(
                    "meshfilter: no key set from {}{}: {failure}; {} in force",
                    self.settings.cluster,
                    self.settings.location.first().path,
                    if local.keys.is_some() { "the old one stays" } else { "none is" },
                );
                failure.word
            }
        };
        local.wanted = false;
        local.news = true;
        self.fetches(word).add(1, host);
    }

    fn fetches(&self, result: &str) -> Counter {
        let labels = [("destination", self.settings.cluster.as_str()), ("result", result)];
        Counter::new("meshfilter_jwks_fetches_total", &labels)
    }

    fn schedule(&self, local: &mut Local, now: Instant) {
        let waiting = now < local.waiting_until
            && (local.keys.is_none() || local.wanted || now < local.state.lease_until);
        let peek = now.saturating_add(if waiting { PEEK_WAITING } else { PEEK });
        let due =
            self.next_fetch(&local.state, local.wanted || local.keys.is_none()).max(local.state.lease_until);
        // What is due was tried just now, and another worker was faster.
        local.next_poll = if due > now { peek.min(due) } else { peek };
    }
}

impl Local {
    fn keys_for(&self, kid: Option<&str>) -> Option<Rc<KeySet>> {
        let keys = self.keys.as_ref()?;
        kid.is_none_or(|kid| keys.may_have(kid)).then(|| keys.clone())
    }
}

/// Reads a callout's answer.
fn answer(host: &dyn Host) -> Result<Vec<u8>, Failure> {
    let headers = host.header_map(MapType::HttpCallResponseHeaders).map_err(|_| "no_answer")?;
    match headers.get(b":status") {
        None => return Err("no_answer".into()),
        Some(b"200") => {}
        // Envoy's own words for a connection that failed and for a time that ran out are statuses, too.
        Some(status) => {
            let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            return Err(Failure { word: "bad_status", status });
        }
    }
    let longest = MAX_RESPONSE_LENGTH.saturating_add(1);
    let body = host.buffer(BufferType::HttpCallResponseBody, 0, longest).map_err(|_| "no_answer")?;
    if body.len() > MAX_RESPONSE_LENGTH { Err("too_large".into()) } else { Ok(body) }
}

/// How long to wait after a failure that came after so many others: twice as long each time, less up to a quarter
/// so that proxies which failed together do not come back together.
fn back_off(failures: u64, random: u64) -> u64 {
    let doubled = 1_u64.checked_shl(u32::try_from(failures).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    let longest = MIN_BACK_OFF.saturating_mul(doubled).min(MAX_BACK_OFF);
    longest.saturating_sub((longest / 4).saturating_mul(random % 256) / 256)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
