use std::borrow::Cow;
use std::collections::HashSet;

use super::{LabelId, LabelValues, OTHER, Phase};
use crate::host::{HeaderMap, Host};
use crate::matchers::PathTemplate;
use crate::policy::metric::Counter;
use crate::policy::{Facts, Source};
use crate::request::{AttributeId, Request, split_path};

/// A name, where its value comes from, and where it goes.
#[derive(Debug)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Where the value comes from.
    pub source: TagSource,
    /// Stands in where there is no value.
    pub default: Option<Box<[u8]>>,
    /// The values that are told.
    pub allowed: Option<HashSet<Box<[u8]>>>,
    /// The values that it had so far, where they are bounded or make a label.
    pub labels: Option<LabelValues>,
    /// Whether it is a label.
    pub in_metrics: bool,
    /// Whether it is filter state.
    pub in_logs: bool,
    /// The header of the request, in lower case.
    pub upstream: Option<String>,
    /// The header of the response, in lower case.
    pub downstream: Option<String>,
    /// Counts the values that had to give way.
    pub overflows: Counter,
}

/// Where a tag's value comes from.
#[derive(Debug)]
pub enum TagSource {
    /// What every policy can ask for.
    Request(Source),
    /// The first of these that the path fits, as the document writes it.
    PathTemplate(Vec<(PathTemplate, Box<[u8]>)>),
    /// The name of the chosen `http` entry.
    Route,
    /// The chosen destination's cluster.
    Destination,
    /// How the request ended.
    Decision,
    /// An attribute as it is when the request comes.
    Attribute(AttributeId, AttributeKind),
    /// An attribute as it is when the response comes.
    LateAttribute(Vec<String>, AttributeKind),
    /// An attribute as it is when the stream is over.
    LastAttribute(Vec<String>, AttributeKind),
    /// The first value of a response header.
    ResponseHeader(String),
}

/// How the proxy writes an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKind {
    /// As text.
    Text,
    /// As eight bytes, little endian.
    Integer,
    /// As one byte.
    Boolean,
}

/// A tag's value for one request.
pub(super) struct Told<'a> {
    pub value: Option<Cow<'a, [u8]>>,
    pub label: LabelId,
    /// Whether the value had to give way because there were too many.
    pub overflowed: bool,
}

impl Tag {
    /// The counter of the values that had to give way.
    pub fn overflow_counter(name: &str) -> Counter {
        Counter::new("meshfilter_tag_overflows_total", &[("tag", name)])
    }

    /// When its value is known.
    pub(super) fn phase(&self) -> Phase {
        match self.source {
            TagSource::LateAttribute(..) | TagSource::ResponseHeader(_) => Phase::Response,
            TagSource::LastAttribute(..) => Phase::End,
            _ => Phase::Decided,
        }
    }

    /// The value for a request, once its source is known. One that must not take a place among `maxValues` is `other`
    /// as a label, unless it has one.
    pub(super) fn told<'a>(
        &'a self,
        found: Option<Cow<'a, [u8]>>,
        takes_place: bool,
        host: &dyn Host,
    ) -> Told<'a> {
        let Some(value) = found.filter(|value| !value.is_empty()) else {
            let value = self.default.as_deref().map(Cow::Borrowed);
            return self.label(value, takes_place, host);
        };
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(value.as_ref())) {
            return Told { value: Some(OTHER.as_bytes().into()), label: LabelId::OTHER, overflowed: false };
        }
        self.label(Some(value), takes_place, host)
    }

    fn label<'a>(&'a self, value: Option<Cow<'a, [u8]>>, takes_place: bool, host: &dyn Host) -> Told<'a> {
        let (Some(labels), Some(text)) = (&self.labels, value.as_deref()) else {
            return Told { value, label: LabelId::NONE, overflowed: false };
        };
        match labels.id(text, takes_place, host) {
            label if !takes_place => Told { value, label, overflowed: false },
            LabelId::OTHER if text != OTHER.as_bytes() => {
                Told { value: Some(OTHER.as_bytes().into()), label: LabelId::OTHER, overflowed: true }
            }
            label => Told { value, label, overflowed: false },
        }
    }
}

impl TagSource {
    /// The value, if it is one that is known when the request is decided.
    pub(super) fn early<'a>(&'a self, request: &'a Request, facts: &'a Facts) -> Option<Cow<'a, [u8]>> {
        match self {
            TagSource::Request(source) => source.value(request, facts),
            TagSource::PathTemplate(templates) => {
                let (path, _) = split_path(request.original_path_and_query());
                let fits = templates.iter().find(|(template, _)| template.matches(path));
                fits.map(|(_, text)| Cow::Borrowed(&**text))
            }
            TagSource::Route => facts.route.as_deref().map(|name| name.as_bytes().into()),
            TagSource::Destination => facts.destination.as_deref().map(|name| name.as_bytes().into()),
            TagSource::Decision => Some(facts.decision.as_str().as_bytes().into()),
            TagSource::Attribute(id, kind) => kind.text(request.attribute(*id)?.into()),
            TagSource::LateAttribute(..) | TagSource::LastAttribute(..) | TagSource::ResponseHeader(_) => {
                None
            }
        }
    }

    /// The value, if it is one that is known when the response is there.
    pub(super) fn late<'a>(&'a self, response: &'a HeaderMap<'a>, host: &dyn Host) -> Option<Cow<'a, [u8]>> {
        match self {
            TagSource::ResponseHeader(name) => response.get(name.as_bytes()).map(Cow::Borrowed),
            TagSource::LateAttribute(path, kind) => kind.read(path, host),
            _ => None,
        }
    }

    /// The value, if it is one that only the end knows.
    pub(super) fn last(&self, host: &dyn Host) -> Option<Cow<'static, [u8]>> {
        match self {
            TagSource::LastAttribute(path, kind) => kind.read(path, host),
            _ => None,
        }
    }
}

/// The attributes of the proxy that only the end of a stream settles: while the body flows sizes grow, and trailers have
/// the status of a gRPC call.
const OF_THE_END: [&str; 8] = [
    "connection.termination_details",
    "request.duration",
    "request.size",
    "request.total_size",
    "response.backend_latency",
    "response.grpc_status",
    "response.size",
    "response.total_size",
];

/// Those that the response settles, unless it is broken off.
const OF_THE_RESPONSE: [&str; 4] = [
    "response.code_details",
    "response.flags",
    "upstream.request_attempt_count",
    "upstream.transport_failure_reason",
];

/// When the attribute of this name is read. One that goes into a header of the response cannot wait for its end.
pub fn phase_of(name: &str, to_upstream: bool, to_downstream: bool) -> Phase {
    match name.split('.').next() {
        // A header says how long the body is going to be.
        _ if name == "request.size" && to_upstream => Phase::Decided,
        _ if OF_THE_END.contains(&name) || name.starts_with("response.trailers") => Phase::End,
        _ if OF_THE_RESPONSE.contains(&name) && !to_downstream => Phase::End,
        Some("response" | "upstream") => Phase::Response,
        // The route that a request has before the filter is not the one that it gets after.
        Some("xds") if !to_upstream => Phase::Response,
        _ => Phase::Decided,
    }
}

/// The attributes of the proxy that are whole numbers, times and spans in nanoseconds included.
const INTEGERS: [&str; 18] = [
    "connection.id",
    "connection_id",
    "destination.port",
    "request.duration",
    "request.size",
    "request.time",
    "request.total_size",
    "response.backend_latency",
    "response.code",
    "response.flags",
    "response.grpc_status",
    "response.size",
    "response.total_size",
    "source.port",
    "upstream.cx_pool_ready_duration",
    "upstream.port",
    "upstream.request_attempt_count",
    "xds.listener_direction",
];

impl AttributeKind {
    /// How the proxy writes the attribute of this name.
    pub fn of(name: &str) -> Self {
        match name {
            "connection.mtls" => AttributeKind::Boolean,
            name if INTEGERS.contains(&name) => AttributeKind::Integer,
            _ => AttributeKind::Text,
        }
    }

    fn read(self, path: &[String], host: &dyn Host) -> Option<Cow<'static, [u8]>> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.text(host.property(&path)?.into())
    }

    fn text(self, bytes: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
        match self {
            AttributeKind::Text => Some(bytes),
            AttributeKind::Integer => {
                let number = i64::from_le_bytes(bytes.as_ref().try_into().ok()?);
                Some(number.to_string().into_bytes().into())
            }
            AttributeKind::Boolean => {
                let text = if bytes.first()? == &0 { "false" } else { "true" };
                Some(text.as_bytes().into())
            }
        }
    }
}
