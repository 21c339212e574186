//! What is decided, and how: one module for each policy, each a pure function of the request, of what the stages
//! before it learned, and of what the [`Host`](crate::host::Host) trait gives.

mod ambiguous_path;
pub mod authentication;
pub mod authorization;
mod facts;
pub mod fault;
mod guard;
mod http_match;
mod line;
pub mod metric;
mod mode;
pub mod rate_limit;
pub mod routing;
pub mod shared;
mod source;
pub mod telemetry;

pub use facts::{Decision, Facts, Token, Verdict};
pub use guard::{Guard, Sight};
pub use http_match::{HttpMatch, RemoteIp, Unknown, UriMatch};
pub use mode::Mode;
pub use source::Source;

use std::fmt;

use crate::host::{HeaderMap, Host, Instant, LocalReply, MapType};
use crate::request::{AttributeTable, Request};

/// A validated, precompiled document. It never changes; a new document is a new policy.
#[derive(Debug, Default)]
pub struct Policy {
    /// Who is asking.
    pub authentication: authentication::Authentication,
    /// Whether they may.
    pub authorization: authorization::Authorization,
    /// The `http` entries: where to, and how.
    pub routing: routing::Routing,
    /// How often.
    pub rate_limits: rate_limit::RateLimits,
    /// What is told about it.
    pub telemetry: telemetry::Telemetry,
    /// The attributes that these read; each is fetched once per request.
    pub attributes: AttributeTable,
    /// Headers that only the filter may set, in lower case: removed from what the client sent.
    pub reserved_headers: Vec<String>,
    /// The lengths of those, where nothing else is asked of a request: see [`Policy::may_be_skipped`].
    pub passive: Option<u64>,
}

impl Policy {
    /// Prepares what needs the proxy: called once, when the configuration is accepted.
    pub fn start(&mut self, host: &dyn Host) {
        self.authentication.start(host);
        self.rate_limits.start(host);
        self.telemetry.start(host);
        if !host.defines_late() {
            self.telemetry.define(self.routing.destinations(), host);
        }
        let passive = self.authentication.is_empty()
            && self.authorization.is_empty()
            && !self.authorization.refuses_ambiguous_paths
            && self.routing.is_empty()
            && self.rate_limits.is_empty()
            && self.telemetry.is_empty();
        let lengths = self.reserved_headers.iter().fold(0, |set, name| set | HeaderMap::length(name.len()));
        self.passive = passive.then_some(lengths);
    }

    /// Whether a request can go on as it came without being read: nothing is asked of it, and it has no header that may be one
    /// of those that only the filter may set.
    pub fn may_be_skipped(&self, host: &dyn Host) -> bool {
        self.passive.is_some_and(|lengths| host.lacks_lengths(MapType::HttpRequestHeaders, lengths))
    }

    /// Removes what only the filter may say from what the client sent, and what an upstream may take for it. What a meshfilter
    /// earlier in the chain chose stays: it is in filter state, where no client can say anything.
    pub fn sanitize(&self, request: &mut Request, facts: &mut Facts, host: &dyn Host) -> Step {
        for name in &self.reserved_headers {
            if !request.may_have_twin(name) {
                continue;
            }
            request.remove_twins(name);
            if request.header(name).is_none() {
                continue;
            }
            if facts.earlier.is_none() {
                facts.earlier = Some(host.property(&routing::upstream::CHOSEN_STATE).unwrap_or_default());
            }
            if !facts.earlier_has(name) {
                request.remove_header(name);
                facts.not_envoys = true;
            }
        }
        Step::Continue
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (count, one, many)) in [
            (self.authentication.len(), "JWT rule", "JWT rules"),
            (self.authorization.len(), "authorization policy", "authorization policies"),
            (self.routing.len(), "http entry", "http entries"),
            (self.rate_limits.len(), "rate limit", "rate limits"),
            (self.telemetry.len(), "tag", "tags"),
        ]
        .into_iter()
        .enumerate()
        {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {}", if count == 1 { one } else { many })?;
        }
        Ok(())
    }
}

/// What a stage of the pipeline comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// On to the next stage.
    Continue,
    /// The request has to wait, and the stage is run again afterwards.
    Wait(Wait),
    /// The request is answered here.
    Reply(Box<LocalReply>),
    /// The stream is closed without an answer.
    Reset,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A point in time.
    Until(Instant),
    /// A key set, but no longer than until then.
    Keys(Instant),
    /// Answers about this request, but no longer than until then.
    Answers(Instant),
}
