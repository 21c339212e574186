//! What a client is told.

use super::bucket::Tokens;
use super::set::Taken;
use super::{Applied, GlobalLimit, Level, Limit};
use crate::host::LocalReply;
use crate::policy::{Decision, Facts, Step, line};
use crate::request::{HeaderEdit, Request};
use meshfilter_json::Deserialize;

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// What a client is told about a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LimitHeaders {
    /// `retry-after` and `x-ratelimit-*` on refusals.
    #[default]
    Refused,
    /// `x-ratelimit-*` on allowed responses, too.
    Draft03,
    /// Nothing, not even `retry-after`.
    None,
}

impl Level {
    /// Whole seconds until there is enough, rounded up.
    fn seconds(&self) -> u64 {
        self.wait.div_ceil(NANOSECONDS_PER_SECOND)
    }

    /// The emptiest comes first, and of equally empty ones that which stays so longest.
    pub(super) fn rank(&self) -> (Tokens, u64) {
        (self.remaining >> 64, u64::MAX.saturating_sub(self.wait))
    }

    /// The headers of Envoy's rate limit filters.
    fn headers(&self, seconds: u64) -> [(&'static str, String); 3] {
        [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", (self.remaining >> 64).to_string()),
            ("x-ratelimit-reset", seconds.to_string()),
        ]
    }
}

/// How a request is refused that comes too often.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// What gRPC callers get; `None` leaves the mapping of `status` to the proxy.
    pub grpc_status: Option<u32>,
    /// Its body, unless the limit has a better one.
    pub body: Option<Vec<u8>>,
    /// What the client is told.
    pub headers: LimitHeaders,
}

/// Refuses a request, in the words of that limit among the refusing ones that lets the next request through last.
pub(super) fn refuse(applied: &[Applied<'_>], taken: &[Taken], request: &Request, facts: &mut Facts) -> Step {
    let refusing = applied.iter().zip(taken).filter(|(_, taken)| !taken.allowed);
    let levels = refusing.map(|(applied, taken)| (applied.limit, applied.limit.level(taken)));
    let Some((limit, level)) = levels.max_by_key(|(_, level)| level.wait) else { return unavailable(facts) };
    say(limit, &level, request);
    over(&limit.refusal, "local_rate_limited", b"local_rate_limited", Some(level), Vec::new(), facts)
}

/// Refuses a request that comes too often. `headers` are those that it has in any case.
pub(super) fn over(
    refusal: &Refusal,
    details: &str,
    default_body: &[u8],
    level: Option<Level>,
    mut headers: Vec<(String, Vec<u8>)>,
    facts: &mut Facts,
) -> Step {
    facts.decision = Decision::RateLimited;
    if let Some(level) = level.filter(|_| refusal.headers != LimitHeaders::None) {
        // Never "at once": that would be an invitation to a tight loop.
        let seconds = level.seconds().max(1);
        headers.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
        let told = level.headers(seconds);
        headers.extend(told.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
    }
    Step::Reply(Box::new(LocalReply {
        status: refusal.status,
        details: details.to_owned(),
        body: refusal.body.as_deref().unwrap_or(default_body).to_vec(),
        headers,
        grpc_status: refusal.grpc_status,
    }))
}

/// Remembers what the client of an allowed request is to be told: how full the emptiest bucket is, of those that are
/// to be told about.
pub(super) fn tell(headers: LimitHeaders, level: Option<Level>, facts: &mut Facts) {
    let told = (headers == LimitHeaders::Draft03).then_some(level).flatten();
    facts.asked.tightest = facts.asked.tightest.into_iter().chain(told).min_by_key(Level::rank);
}

/// Says why a request is refused, or in shadow mode would be.
pub(super) fn say(limit: &Limit, level: &Level, request: &Request) {
    let more = format_args!("reason=\"too few tokens\" retry_after_ms={}", level.wait.div_ceil(1_000_000));
    line::debug("refused", &limit.name, limit.mode, request, more);
}

/// Tells the client of an allowed request.
pub(super) fn announce(facts: &mut Facts) {
    let Some(level) = facts.asked.tightest.take() else { return };
    let told = level.headers(level.seconds());
    let edits = told.into_iter().map(|(name, value)| HeaderEdit::Set(name.into(), value.into_bytes()));
    facts.response_edits.extend(edits);
}

/// Refuses a request about which a service did not decide, in the words of Envoy's own filter.
pub(super) fn undecided(limit: &GlobalLimit, request: &Request, facts: &mut Facts) -> Step {
    let more = format_args!("cluster={:?} reason=\"the service did not decide\"", limit.cluster);
    line::debug("refused", &limit.name, limit.mode, request, more);
    facts.decision = Decision::RateLimited;
    Step::Reply(Box::new(LocalReply {
        status: 500,
        details: "rate_limiter_error".to_owned(),
        ..LocalReply::default()
    }))
}

/// Refuses a request that cannot be decided; it is not the caller's fault.
pub(super) fn unavailable(facts: &mut Facts) -> Step {
    facts.decision = Decision::RateLimited;
    Step::Reply(Box::new(LocalReply {
        status: 503,
        details: "meshfilter_rate_limit_unavailable".to_owned(),
        body: b"rate limit unavailable".to_vec(),
        ..LocalReply::default()
    }))
}
