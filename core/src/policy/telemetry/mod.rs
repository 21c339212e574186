//! What is told about it: tags, counters, histograms.

mod istio;
mod labels;
mod metrics;
mod tag;
mod text;

pub use istio::{Attributes, Istio, Service};
pub use labels::{LabelId, LabelValues};
pub use metrics::{Counting, MAX_LABEL_SETS};
pub use tag::{AttributeKind, Tag, TagSource, phase_of};

use super::metric::{Counter, Gauge};
use std::rc::Rc;

use super::{Facts, shared};
use crate::host::{HeaderMap, Host, Instant, MapType};
use crate::request::{HeaderEdit, Request};
use crate::trace::{self, Event};
use metrics::{Counted, Outcome, RequestMetrics, VerdictMetrics};

/// The longest value of a response header that a tag makes, in bytes; it is kept until the response comes.
const MAX_DOWNSTREAM_LENGTH: usize = 1024;

/// What a tag says in place of a value that is not told.
pub const OTHER: &str = "other";

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// The compiled section.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// What is told about requests; `None` where the section is absent. The policies' decisions are counted all the
    /// same.
    requests: Option<Requests>,
    verdicts: VerdictMetrics,
}

#[derive(Debug)]
struct Requests {
    tags: Vec<Tag>,
    /// Whether any tag waits for the response, for its headers, and for the end.
    late: bool,
    response_headers: bool,
    last: bool,
    metrics: RequestMetrics,
    overflows: Counter,
}

/// What telemetry remembers of a request until it is over.
#[derive(Debug, Default)]
pub struct Tagged {
    /// One for each tag that is a label.
    labels: Vec<LabelId>,
    responded: bool,
    response_code: Option<u16>,
    /// What Istio's labels say, where they are wanted.
    istio: Option<istio::Seen>,
}

/// When a tag's value is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// When the request is decided.
    Decided,
    /// When the response's headers are there.
    Response,
    /// When the stream is over.
    End,
}

/// What tags can be told from: each has its time.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// The request is decided.
    Request(&'a Request<'a>),
    /// The response's headers are there.
    Response(&'a HeaderMap<'a>),
    /// The stream is over.
    End,
}

impl Known<'_> {
    fn phase(self) -> Phase {
        match self {
            Known::Request(_) => Phase::Decided,
            Known::Response(_) => Phase::Response,
            Known::End => Phase::End,
        }
    }
}

impl Telemetry {
    /// Tells about requests with these tags.
    pub fn new(tags: Vec<Tag>, what: Counting) -> Self {
        let requests = Requests {
            late: tags.iter().any(|tag| tag.phase() == Phase::Response),
            last: tags.iter().any(|tag| tag.phase() == Phase::End),
            response_headers: tags.iter().any(|tag| matches!(tag.source, TagSource::ResponseHeader(_))),
            metrics: RequestMetrics::new(what),
            overflows: Tag::overflow_counter("all"),
            tags,
        };
        Telemetry { requests: Some(requests), verdicts: VerdictMetrics::default() }
    }

    /// Shows what stands at 0 until something happens.
    pub fn start(&self, host: &dyn Host) {
        VerdictMetrics::announce(host);
        let Some(requests) = &self.requests else { return };
        let tags: Vec<&str> = requests.labels().map(|tag| tag.name.as_str()).collect();
        requests.metrics.announce(&tags, host);
        requests.overflows.define(host);
        for tag in requests.tags.iter().filter(|tag| tag.labels.is_some()) {
            tag.overflows.define(host);
        }
    }

    /// Shows how long the requests that go on to these destinations took, by the entries' names.
    pub fn define<'a>(
        &self,
        known: impl Iterator<Item = (&'a Rc<str>, Option<&'a Rc<str>>)>,
        host: &dyn Host,
    ) {
        if let Some(requests) = &self.requests {
            requests.metrics.define(known, host);
        }
    }

    /// Whether nothing is told of a request about which no policy had a say.
    pub fn is_empty(&self) -> bool {
        self.requests.is_none()
    }

    /// How many tags there are.
    pub fn len(&self) -> usize {
        self.requests.as_ref().map_or(0, |requests| requests.tags.len())
    }

    /// The request was decided: tags go into filter state, and into headers of the request and the response.
    pub fn on_decided(&self, request: &mut Request, facts: &mut Facts, host: &dyn Host) {
        let Some(requests) = &self.requests else { return };
        if let Some(istio) = &requests.metrics.what.istio {
            facts.tagged.istio = Some(istio.seen(request, facts.decision.is_refusal(), host));
        }
        let headers = requests.tell(Known::Request(request), facts, host);
        for (name, value) in headers {
            request.set_header(name, &value);
        }
    }

    /// Whether a tag waits for the response's headers.
    pub fn heeds_response(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.late)
    }

    /// The response's headers are there.
    pub fn on_response(&self, facts: &mut Facts, host: &dyn Host) {
        let Some(requests) = &self.requests else { return };
        if !requests.late {
            return;
        }
        let headers = if requests.response_headers {
            host.header_map(MapType::HttpResponseHeaders).unwrap_or_default()
        } else {
            HeaderMap::default()
        };
        if let Some(status) = headers.get(b":status") {
            facts.tagged.response_code = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
        }
        requests.tell(Known::Response(&headers), facts, host);
    }

    /// The stream of a request that came then is over: counters and histograms.
    pub fn on_log(&self, received_at: Instant, facts: &mut Facts, host: &dyn Host) {
        for verdict in &facts.verdicts {
            self.verdicts.count(verdict, host);
        }
        if let Some(requests) = &self.requests {
            requests.on_log(received_at, facts, host);
        }
    }
}

impl Requests {
    /// Finds the value of every tag that is known now, and brings it where it belongs. The request headers come
    /// back: the value may be borrowed from the request.
    fn tell(&self, known: Known<'_>, facts: &mut Facts, host: &dyn Host) -> Vec<(String, Vec<u8>)> {
        let mut labels = std::mem::take(&mut facts.tagged.labels);
        labels.resize(self.labels().count(), LabelId::NONE);
        let mut upstream = Vec::new();
        let mut downstream = Vec::new();
        let mut next_label = 0usize;
        for tag in &self.tags {
            let place = next_label;
            next_label = next_label.saturating_add(tag.in_metrics.into());
            if tag.phase() != known.phase() {
                continue;
            }
            let found = match known {
                Known::Request(request) => tag.source.early(request, facts),
                Known::Response(response) => tag.source.late(response, host),
                Known::End => tag.source.last(host),
            };
            // What the response says is nobody's choice who asks.
            let takes_place = known.phase() != Phase::Decided || !facts.decision.is_refusal();
            let told = tag.told(found, takes_place, host);
            if told.overflowed {
                tag.overflows.add(1, host);
            }
            if let Some(label) = labels.get_mut(place).filter(|_| tag.in_metrics) {
                *label = told.label;
            }
            let Some(value) = told.value else { continue };
            trace::tell(|| Event::Tag { name: tag.name.clone(), value: value.to_vec() });
            if tag.in_logs && host.set_filter_state(&tag.name, &text::log_text(&value)).is_err() {
                log::debug!("meshfilter: the proxy does not take filter state {}", tag.name);
            }
            if let Some(name) = &tag.upstream {
                upstream.push((name.clone(), text::header_text(&value).into_owned()));
            }
            if let Some(name) = &tag.downstream {
                let value = value.get(..MAX_DOWNSTREAM_LENGTH).unwrap_or(&value);
                downstream.push(HeaderEdit::Set(name.clone().into(), text::header_text(value).into_owned()));
            }
        }
        facts.response_edits.append(&mut downstream);
        let tagged = &mut facts.tagged;
        tagged.labels = labels;
        tagged.responded |= matches!(known, Known::Response(_));
        upstream
    }

    fn on_log(&self, received_at: Instant, facts: &mut Facts, host: &dyn Host) {
        // A client that left before the response came.
        if self.late && !facts.tagged.responded {
            self.tell(Known::Response(&HeaderMap::default()), facts, host);
        }
        if self.last {
            self.tell(Known::End, facts, host);
        }
        let what = &self.metrics.what;
        let code = || {
            let read = || {
                let bytes = host.property(&["response", "code"])?;
                u16::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
            };
            let code = facts.tagged.response_code.or_else(read);
            code.filter(|code| (100..1000).contains(code)).unwrap_or(0)
        };
        let outcome = Outcome {
            route: facts.route.as_ref(),
            destination: facts.destination.as_ref(),
            decision: facts.decision,
            response_code: what.response_code.then(code),
            labels: &facts.tagged.labels,
            milliseconds: what.duration.then(|| milliseconds(received_at, host.now())),
            istio: what.istio.as_ref().map(|istio| istio.at_the_end(facts, host)),
        };
        if self.metrics.count(&outcome, self.labels(), host) == Counted::AsOther {
            self.overflows.add(1, host);
        }
    }

    fn labels(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|tag| tag.in_metrics)
    }
}

/// Shows which document this VM decides by; documents that say the same show the same number.
pub fn record_version(version: u32, host: &dyn Host) {
    let labels = [("plugin", shared::plugin_name(host))];
    Gauge::new("meshfilter_configuration_version", &labels).set(version.into(), host);
}

fn milliseconds(from: Instant, to: Instant) -> u64 {
    to.saturating_sub(from).checked_div(NANOSECONDS_PER_MILLISECOND).unwrap_or(0)
}
