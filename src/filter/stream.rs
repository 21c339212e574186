use std::rc::Rc;

use super::{effects, way};
use crate::host::{Host, Instant, LocalReply, MapType, Result};
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
    /// Empty outside of the callback that decides.
    request: Request,
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
            request: Request::default(),
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
        if let Err(status) = self.read_request() {
            log::error!("meshfilter: the proxy does not give the request's headers: {status:?}");
            return refuse(&*self.host);
        }
        let progress = self.advance();
        self.request = Request::default();
        progress
    }

    /// The only place that asks the proxy about the request.
    fn read_request(&mut self) -> Result<()> {
        let headers = self.host.header_map(MapType::HttpRequestHeaders)?;
        let attribute = |path: &Vec<String>| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.host.property(&path)
        };
        let attributes = self.policy.attributes.paths().iter().map(attribute).collect();
        self.request = Request::new(headers, attributes, self.received_at.unwrap_or_default());
        Ok(())
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

    fn advance(&mut self) -> Progress {
        let step = self.pipeline.run(&self.policy, &mut self.request, &mut self.facts, &*self.host);
        if !matches!(step, Step::Wait(_)) {
            self.policy.telemetry.on_decided(&mut self.request, &mut self.facts, &*self.host);
            self.facts.forget();
            self.decided = true;
        }
        let host = &*self.host;
        let ended = match step {
            Step::Continue => way::send_on(host, &mut self.request, &self.facts).map(|()| Progress::Continue),
            // What was changed so far is in the map that is read again.
            Step::Wait(wait) => {
                way::change_so_far(host, &mut self.request, &mut self.facts).map(|()| Progress::Wait(wait))
            }
            Step::Reply(mut reply) => {
                if !LocalReply::may_have_body(reply.status) {
                    reply.body.clear();
                }
                self.host.send_local_reply(&reply).map(|()| Progress::Ended)
            }
            Step::Reset => self.host.reset_stream().map(|()| Progress::Ended),
        };
        ended.unwrap_or_else(|status| {
            log::error!("meshfilter: the proxy refuses what was decided: {status:?}");
            refuse(&*self.host)
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
            let _ = self.read_request();
            self.policy.telemetry.on_decided(&mut self.request, &mut self.facts, &*self.host);
            self.request = Request::default();
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
