//! What a client is told.

use super::set::Taken;
use super::{Applied, Level, LimitHeaders};
use crate::host::LocalReply;
use crate::policy::{Decision, Facts, Step};
use crate::request::HeaderEdit;

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

impl Level {
    /// Whole seconds until there is enough, rounded up.
    fn seconds(&self) -> u64 {
        self.wait.div_ceil(NANOSECONDS_PER_SECOND)
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

/// Refuses a request, in the words of that limit among the refusing ones that lets the next request through last.
pub(super) fn refuse(applied: &[Applied<'_>], taken: &[Taken], facts: &mut Facts) -> Step {
    let refusing = applied.iter().zip(taken).filter(|(_, taken)| !taken.allowed);
    let levels = refusing.map(|(applied, taken)| (applied.limit, applied.limit.level(taken)));
    let Some((limit, level)) = levels.max_by_key(|(_, level)| level.wait) else { return unavailable(facts) };
    log::debug!("meshfilter: rate limit {}: refused, enough in {} ns", limit.name, level.wait);
    facts.decision = Decision::RateLimited;
    let mut headers = Vec::new();
    if limit.headers != LimitHeaders::None {
        // Never "at once": that would be an invitation to a tight loop.
        let seconds = level.seconds().max(1);
        headers.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
        let told = level.headers(seconds);
        headers.extend(told.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
    }
    Step::Reply(Box::new(LocalReply {
        status: limit.status,
        details: "local_rate_limited".to_owned(),
        body: limit.body.clone(),
        headers,
        grpc_status: None,
    }))
}

/// Tells the client of an allowed request how full the emptiest bucket is, of those that are to be told about.
pub(super) fn announce(applied: &[Applied<'_>], taken: &[Taken], facts: &mut Facts) {
    let told =
        applied.iter().zip(taken).filter(|(applied, _)| applied.limit.headers == LimitHeaders::Draft03);
    let levels = told.map(|(applied, taken)| applied.limit.level(taken));
    let Some(level) = levels.min_by_key(|level| (level.remaining >> 64, u64::MAX.saturating_sub(level.wait)))
    else {
        return;
    };
    let told = level.headers(level.seconds());
    facts
        .response_edits
        .extend(told.into_iter().map(|(name, value)| HeaderEdit::Set(name.into(), value.into_bytes())));
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
