//! Tags on spans: what a collector of OpenTelemetry gets, decoded by messages of its protocol
//! (opentelemetry-proto 1.x, trace/v1 and common/v1).

use std::collections::BTreeMap;

use prost::Message;

use super::sample::{Proxy, Upstreams, bearer};
use crate::support::envoy::sample::read;
use crate::support::envoy::{cluster, wait_until};
use crate::support::http::Upstream;

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| Some((pair.key.clone(), pair.value.clone()?.string_value?));
    attributes.iter().filter_map(text).collect()
}

/// A request's id less the digit in which Envoy notes why it is traced.
fn without_trace_reason(id: &str) -> String {
    [&id[..14], &id[15..]].concat()
}

/// The spans' attributes by their request ids, and the resources' attributes.
type Received = (BTreeMap<String, BTreeMap<String, String>>, Vec<BTreeMap<String, String>>);

fn received(collector: &Upstream) -> Received {
    let (mut spans, mut resources) = (BTreeMap::new(), Vec::new());
    for request in collector.seen() {
        let header = |name: &str| {
            request.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
        };
        assert_eq!(request.path, b"/v1/traces");
        assert_eq!(header("content-type"), Some(b"application/x-protobuf".as_slice()));
        let export = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        for of_resource in export.resource_spans {
            resources.push(texts(&of_resource.resource.unwrap_or_default().attributes));
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                assert_eq!(span.trace_id.len(), 16);
                assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
                let attributes = texts(&span.attributes);
                spans.insert(without_trace_reason(&attributes["request_id"]), attributes);
            }
        }
    }
    (spans, resources)
}

#[test]
fn a_collector_gets_the_tags_on_every_span() {
    let upstreams = Upstreams::start();
    let collector = Upstream::start("collector", |_| (Vec::new(), Vec::new())).unwrap();
    let mut tracing = read("envoy/tracing.yaml").unwrap();
    let mut sample = upstreams.sample();
    sample.manager().unwrap()["tracing"]["provider"] = tracing["provider"].take();
    // Else they are sent by fives, or after 5 s.
    sample.bootstrap()["layered_runtime"]["layers"][0]["static_layer"]["tracing.opentelemetry.min_flush_spans"] =
        1.into();
    let name = tracing["cluster"]["name"].as_str().unwrap();
    sample.cluster(cluster(name, collector.address())).unwrap();
    let proxy = Proxy::new(sample.start(1).unwrap());

    let token = bearer("alice", "acme");
    let authorization = ("authorization", token.as_str());
    let (role, canary) = (("user-role", "user"), ("canary", "true"));
    let expected = [
        (vec![authorization, role, canary], "canary-by-header", "webapp|v2", "allowed", "acme", "200"),
        (vec![authorization, canary], "", "", "authz_denied", "acme", "403"),
        (vec![], "", "", "authn_denied", "none", "401"),
    ];
    // Envoy traces by the request's id, if it is a UUID.
    let id = |index: usize| format!("6f1f2a5e-0c7e-4c61-9d0a-00000000000{index}");
    for (index, (headers, .., status)) in expected.iter().enumerate() {
        let id = id(index);
        let headers = [headers.as_slice(), &[("x-request-id", &id)]].concat();
        assert_eq!(proxy.get("/api/orders", &headers).status.to_string(), *status);
    }

    let (spans, resources) = wait_until("the spans", || {
        let received = received(&collector);
        (received.0.len() == expected.len()).then_some(received)
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", received(&collector), proxy.envoy.log()));
    for (index, (_, route, destination, decision, tenant, status)) in expected.into_iter().enumerate() {
        let span = &spans[&without_trace_reason(&id(index))];
        let tag = |name: &str| span.get(name).map_or("", String::as_str);
        let told = ["route", "destination", "decision", "tenant", "http.status_code"].map(tag);
        assert_eq!(told, [route, destination, decision, tenant, status], "{span:?}");
    }
    assert!(resources.iter().all(|resource| resource["service.name"] == "webapp-proxy"), "{resources:?}");
}
