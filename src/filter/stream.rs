use std::rc::Rc;

use super::effects::{self, Edits};
use super::way;
use crate::host::{HeaderMap, Host, Instant, LocalReply, MapType, Result, Status};
use crate::pipeline::Pipeline;
use crate::policy::{Facts, Policy, Step, Wait};
use crate::request::Request;

/// What the proxy does after its callback. The numbers are those of proxy-wasm's `Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// On to the next filter.
    Continue = 0,
    /// Nothing, until the filter resumes the request or has answered it.
    Pause = 1,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Continue,
    Wait(Wait),
    /// Answered or closed.
    Ended,
}

/// What was decided, and what it changes in the proxy's own headers.
struct Decided {
    step: Step,
    edits: Edits,
}

/// One request and its response.
///
/// Clients can have very many requests open at once, each with headers as large as the proxy takes, and the memory of a VM
/// ends at 1 GiB. So a stream has a copy of the headers only while it is being decided about: none while it waits, none
/// afterwards.
pub struct Stream {
    id: u32,
    host: Rc<dyn Host>,
    policy: Rc<Policy>,
    pipeline: Pipeline,
    /// `None` until there is a request.
    received_at: Option<Instant>,
    /// Whether telemetry has heard how it was decided.
    decided: bool,
    facts: Facts,
}

impl Stream {
    pub(super) fn new(id: u32, policy: Rc<Policy>, host: Rc<dyn Host>) -> Self {
        Stream {
            id,
            host,
            policy,
            pipeline: Pipeline::default(),
            received_at: None,
            decided: false,
            facts: Facts::default(),
        }
    }

    /// The proxy's id of this stream.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// When its request came; none if it did not yet. Under a policy that asks nothing it is not known.
    pub fn received_at(&self) -> Option<Instant> {
        self.received_at
    }

    /// What is known of the request so far.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn on_request_headers(&mut self) -> Progress {
        // Nobody asks when where nothing is decided or told.
        let asked = self.policy.passive.is_none();
        self.received_at = Some(if asked { self.host.now() } else { Instant::default() });
        self.decide()
    }

    fn decide(&mut self) -> Progress {
        if self.policy.may_be_skipped(&*self.host) {
            self.decided = true;
            return Progress::Continue;
        }
        match self.with_request(Self::advance) {
            Ok(decided) => self.carry_out(decided),
            Err(status) => {
                log::error!("meshfilter: the proxy does not give the request's headers: {status:?}");
                refuse(&*self.host)
            }
        }
    }

    /// Looks at the request, whose headers the proxy lends meanwhile.
    fn with_request<T>(&mut self, look: fn(&mut Self, &mut Request<'_>) -> T) -> Result<T> {
        let host = self.host.clone();
        let mut found = None;
        host.lend_header_map(MapType::HttpRequestHeaders, &mut |headers| {
            let mut request = self.request(headers);
            found = Some(look(self, &mut request));
        })?;
        found.ok_or(Status::InternalFailure)
    }

    /// The only place that asks the proxy about the request.
    fn request<'h>(&self, headers: HeaderMap<'h>) -> Request<'h> {
        let attribute = |path: &Vec<String>| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.host.property(&path)
        };
        let attributes = self.policy.attributes.paths().iter().map(attribute).collect();
        Request::new(headers, attributes, self.received_at.unwrap_or_default())
    }

    /// Goes on after a pause, in this stream's context.
    pub(super) fn resume(&mut self) -> Progress {
        let progress = self.decide();
        if progress == Progress::Continue && self.host.resume_request().is_err() {
            log::debug!("meshfilter: stream {} is gone", self.id);
        }
        progress
    }

    /// The tokens of the callouts that it waits for.
    pub(super) fn calls(&self) -> Vec<u32> {
        self.facts.asked.calls().collect()
    }

    /// A callout of this request's was answered; `true` if the request can go on.
    pub(super) fn on_http_call_response(&mut self, token: u32) -> bool {
        self.policy.rate_limits.on_http_call_response(token, &mut self.facts, &*self.host)
    }

    /// Decides as far as it can be decided now. What comes of it is carried out when the headers are not lent any more.
    fn advance(&mut self, request: &mut Request<'_>) -> Result<Decided> {
        let host = &*self.host;
        let step = self.pipeline.run(&self.policy, request, &mut self.facts, host);
        if !matches!(step, Step::Wait(_)) {
            self.policy.telemetry.on_decided(request, &mut self.facts, host);
            self.facts.forget();
            self.decided = true;
        }
        let edits = match step {
            Step::Continue => way::send_on(host, request, &self.facts)?,
            // What was changed so far is in the map that is read again.
            Step::Wait(_) => way::change_so_far(request, &mut self.facts),
            Step::Reply(_) | Step::Reset => Edits::default(),
        };
        Ok(Decided { step, edits })
    }

    fn carry_out(&self, decided: Result<Decided>) -> Progress {
        let host = &*self.host;
        let carry_out = |Decided { step, edits }| match step {
            Step::Continue => effects::apply_to_request(host, edits).map(|()| Progress::Continue),
            Step::Wait(wait) => effects::apply_to_request(host, edits).map(|()| Progress::Wait(wait)),
            Step::Reply(mut reply) => {
                if !LocalReply::may_have_body(reply.status) {
                    reply.body.clear();
                }
                host.send_local_reply(&reply).map(|()| Progress::Ended)
            }
            Step::Reset => host.reset_stream().map(|()| Progress::Ended),
        };
        decided.and_then(carry_out).unwrap_or_else(|status| {
            log::error!("meshfilter: the proxy refuses what was decided: {status:?}");
            refuse(host)
        })
    }

    /// Whether anything is done when the response's headers are there.
    pub fn heeds_response(&self) -> bool {
        !self.facts.response_edits.is_empty() || self.policy.telemetry.heeds_response()
    }

    pub(super) fn on_response_headers(&mut self) {
        if !self.heeds_response() {
            return;
        }
        self.policy.telemetry.on_response(&mut self.facts, &*self.host);
        let edits = std::mem::take(&mut self.facts.response_edits);
        if let Err(status) = effects::apply(&*self.host, MapType::HttpResponseHeaders, edits) {
            log::error!("meshfilter: the proxy refuses a response header: {status:?}");
        }
    }

    pub(super) fn on_log(&mut self) {
        let Some(received_at) = self.received_at else { return };
        // A client that left while its request waited. The proxy shows the headers once more.
        if !self.decided && !self.policy.telemetry.is_empty() {
            let decided: fn(&mut Self, &mut Request<'_>) = |stream, request| {
                stream.policy.telemetry.on_decided(request, &mut stream.facts, &*stream.host);
            };
            if self.with_request(decided).is_err() {
                decided(self, &mut Request::default());
            }
        }
        self.policy.telemetry.on_log(received_at, &mut self.facts, &*self.host);
    }

    /// Gives back what the request holds; the stream may be gone before its time.
    pub(super) fn abandon(&mut self) {
        self.pipeline.abandon(&mut self.facts, &*self.host);
    }
}

/// What could not be decided or carried out is refused, and it is not the caller's fault.
pub(super) fn refuse(host: &dyn Host) -> Progress {
    let _ = host.send_local_reply(&LocalReply {
        status: 500,
        details: "meshfilter_internal_error".to_owned(),
        body: b"internal error".to_vec(),
        ..LocalReply::default()
    });
    Progress::Ended
}
