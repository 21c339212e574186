use std::rc::Rc;

use super::effects;
use crate::host::{Host, LocalReply, MapType, Result};
use crate::pipeline::Pipeline;
use crate::policy::{Facts, Policy, Step, Wait};
use crate::request::Request;

/// What the proxy does after its callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// On to the next filter.
    Continue,
    /// Nothing, until the filter resumes the request or has answered it.
    Pause,
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
pub struct Stream {
    id: u32,
    host: Rc<dyn Host>,
    policy: Rc<Policy>,
    pipeline: Pipeline,
    request: Request,
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
            facts: Facts::default(),
        }
    }

    /// The proxy's id of this stream.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What is known of the request so far.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn on_request_headers(&mut self) -> Progress {
        match self.read_request() {
            Ok(()) => self.advance(),
            Err(status) => {
                log::error!("meshfilter: the proxy does not give the request's headers: {status:?}");
                refuse(&*self.host)
            }
        }
    }

    /// The only place that asks the proxy about the request.
    fn read_request(&mut self) -> Result<()> {
        let headers = self.host.header_map(MapType::HttpRequestHeaders)?;
        let attribute = |path: &Vec<String>| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.host.property(&path)
        };
        let attributes = self.policy.attributes.paths().iter().map(attribute).collect();
        self.request = Request::new(headers, attributes, self.host.now());
        Ok(())
    }

    /// Goes on after a pause, in this stream's context.
    pub(super) fn resume(&mut self) -> Progress {
        let progress = self.advance();
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
        if let Step::Wait(wait) = step {
            return Progress::Wait(wait);
        }
        self.policy.telemetry.on_decided(&mut self.request, &mut self.facts, &*self.host);
        let ended = match step {
            Step::Continue | Step::Wait(_) => {
                effects::apply(&*self.host, MapType::HttpRequestHeaders, self.request.take_edits())
                    .map(|()| Progress::Continue)
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

    pub(super) fn on_response_headers(&mut self) {
        self.policy.telemetry.on_response(&self.request, &mut self.facts, &*self.host);
        let edits = std::mem::take(&mut self.facts.response_edits);
        if let Err(status) = effects::apply(&*self.host, MapType::HttpResponseHeaders, edits) {
            log::error!("meshfilter: the proxy refuses a response header: {status:?}");
        }
    }

    pub(super) fn on_log(&mut self) {
        self.policy.telemetry.on_log(&self.request, &mut self.facts, &*self.host);
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
