use std::rc::Rc;

use serde_json::{Value, json};

use crate::filter::{Flow, Root};
use crate::host::BufferType;
use crate::host::fake::{Fake, Stream};

const REWRITES: &str = "filter_state.meshfilter.rewrites";
const EDITS: &str = "filter_state.wasm.meshfilter.edits";
const CHOSEN: &str = "filter_state.wasm.meshfilter.chosen";
const OWN: &str = "xds.cluster_name";

/// What became of a request: its headers that are not the client's, and the filter state.
fn sent(policy: &Value, headers: &[(&str, &str)], properties: &[(&str, &str)]) -> (Vec<String>, String) {
    let host = Rc::new(Fake::new());
    host.set_buffer(BufferType::PluginConfiguration, policy.to_string().into_bytes());
    let root = Root::new(host.clone(), 1);
    assert!(root.on_configure(), "{policy}");
    let pseudo =
        [(":method", "GET"), (":path", "/api/x?q"), (":authority", "example.com"), (":scheme", "http")];
    let request = pseudo.iter().chain(headers).copied().collect();
    let property = |(name, value): &(&str, &str)| (name.to_string(), value.as_bytes().to_vec());
    let properties = properties.iter().map(property).collect();
    host.open_stream(2, Stream { request, properties, ..Stream::default() });
    assert_eq!(root.on_request_headers(&root.open(2)), Flow::Continue);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (headers, state) =
        host.with_stream(2, |stream| (stream.request.clone(), stream.filter_state.clone())).unwrap();
    let shown = headers.iter().filter(|(name, _)| ![b":method".as_slice(), b":scheme"].contains(name));
    let shown = shown.map(|(name, value)| format!("{}={}", text(name), text(value)));
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    let edits = state.get("meshfilter.edits").map(|edits| text(edits)).unwrap_or_default();
    (shown, edits)
}

fn rewrite(route: bool) -> Value {
    let mut entry = json!({
        "match": [{"uri": {"pathPrefix": "/api"}}],
        "rewrite": {"uri": "/", "authority": "backend"},
        "headers": {"request": {"set": {"x-a": "1"}, "add": {"x-b": "2"}, "remove": ["x-c"]}},
    });
    if route {
        entry["route"] = json!([{"destination": {"cluster": "v1"}}]);
    }
    json!({"http": [entry]})
}

const IN_PLACE: [&str; 6] = [
    ":authority=backend",
    ":path=/x?q",
    "x-a=1",
    "x-b=2",
    "x-envoy-original-host=example.com",
    "x-envoy-original-path=/api/x?q",
];

fn and(more: &[&str], less: &[&str]) -> Vec<String> {
    let all = IN_PLACE.iter().filter(|header| !less.contains(header)).chain(more);
    let mut all: Vec<String> = all.map(|header| header.to_string()).collect();
    all.sort();
    all
}

#[test]
fn where_nobody_else_makes_them_the_edits_are_made_here_and_envoys_own_cluster_is_kept() {
    let (headers, edits) = sent(&rewrite(true), &[("x-c", "3")], &[(OWN, "own")]);
    assert_eq!((headers, edits.as_str()), (and(&["x-meshfilter-cluster=v1"], &[]), ""));
    let (headers, _) = sent(&rewrite(false), &[("x-c", "3")], &[(OWN, "own")]);
    assert_eq!(headers, and(&["x-meshfilter-cluster=own"], &[]));
    // There is none: a redirect, or no route at all.
    for none in [&[(OWN, "")][..], &[]] {
        assert_eq!(sent(&rewrite(false), &[("x-c", "3")], none).0, and(&[], &[]));
    }
}

#[test]
fn a_route_that_reads_the_host_gets_it_in_a_header() {
    let properties = [(REWRITES, "route"), (OWN, "own")];
    let host = ["x-meshfilter-authority=backend", ":authority=example.com"];
    for (route, cluster) in [(true, "x-meshfilter-cluster=v1"), (false, "x-meshfilter-cluster=own")] {
        let (headers, edits) = sent(&rewrite(route), &[("x-c", "3")], &properties);
        assert_eq!(headers, and(&[host[0], host[1], cluster], &[":authority=backend"]));
        assert_eq!(edits, "");
    }
    // Without a cluster that way is not taken.
    assert_eq!(sent(&rewrite(false), &[], &properties[..1]).0, and(&[], &[]));
}

#[test]
fn a_filter_behind_gets_everything_that_came_after_the_choice() {
    let lines = "-x-c \n=x-a 1\n+x-b 2\n=:authority backend\n=x-envoy-original-host example.com\n=:path /x?q\n\
                 =x-envoy-original-path /api/x?q\n";
    let untouched = [":authority=example.com", ":path=/api/x?q", "x-c=3"].map(str::to_owned).to_vec();
    let properties = [(REWRITES, "filter"), (OWN, "own")];
    assert_eq!(sent(&rewrite(false), &[("x-c", "3")], &properties), (untouched.clone(), lines.to_owned()));
    let with_cluster = [untouched, vec!["x-meshfilter-cluster=v1".to_owned()]].concat();
    let (mut headers, edits) = sent(&rewrite(true), &[("x-c", "3")], &properties);
    headers.sort();
    let mut expected = with_cluster;
    expected.sort();
    assert_eq!((headers, edits.as_str()), (expected, lines));
    // Those of an earlier meshfilter come first.
    let earlier = [(REWRITES, "filter"), (EDITS, "=x-z 9\n")];
    assert_eq!(sent(&rewrite(false), &[("x-c", "3")], &earlier).1, format!("=x-z 9\n{lines}"));
    // Nothing is handed on where nothing could move: timeouts, or headers on the way to a destination.
    let policy = json!({"http": [{"timeout": "1s"}]});
    assert_eq!(sent(&policy, &[], &properties).1, "");
    let policy = json!({"http": [
        {"route": [{"destination": {"cluster": "v1"}}], "headers": {"request": {"set": {"x-a": "1"}}}}]});
    assert_eq!(sent(&policy, &[], &properties).1, "");
}

#[test]
fn what_a_client_forged_or_a_claim_added_is_no_choice_of_envoys_to_keep() {
    let own = [(OWN, "own")];
    let forged = sent(&rewrite(false), &[("x-c", "3"), ("x-meshfilter-cluster", "secret")], &own);
    assert_eq!(forged.0, and(&[], &[]));
}

#[test]
fn what_an_earlier_meshfilter_chose_stays_and_what_a_client_says_goes() {
    let said = [
        ("x-meshfilter-cluster", "v9"),
        ("x-meshfilter-mirror-cluster", "m"),
        ("x-envoy-upstream-rq-timeout-ms", "7"),
    ];
    let limits = json!({"rateLimits": [{"tokenBucket": {"maxTokens": 9, "fillInterval": "1s"}}]});
    let routed = |policy: &Value, properties: &[(&str, &str)]| -> Vec<String> {
        let (headers, _) = sent(policy, &said, properties);
        headers.into_iter().filter(|header| !header.starts_with(':')).collect()
    };
    // Nobody proves anything: all of it is the client's.
    assert_eq!(routed(&limits, &[]), ["x-envoy-upstream-rq-timeout-ms=7"]);
    let chosen = [(CHOSEN, "x-meshfilter-cluster x-envoy-upstream-rq-timeout-ms ")];
    // The mirror was not chosen there.
    let kept = ["x-envoy-upstream-rq-timeout-ms=7", "x-meshfilter-cluster=v9"];
    assert_eq!(routed(&limits, &chosen), kept);
    let timeouts = json!({"http": [{"match": [{"port": 1}], "timeout": "1s"}]});
    assert_eq!(routed(&timeouts, &chosen), kept);
    assert_eq!(routed(&timeouts, &[]), [""; 0]);
    // Whoever chooses later has the last word, and does not take the earlier choice for Envoy's own.
    let later = json!({"http": [{"route": [{"destination": {"cluster": "v1"}}]}]});
    assert_eq!(routed(&later, &chosen)[1], "x-meshfilter-cluster=v1");
    let rewriting = json!({"http": [{"rewrite": {"uri": "/y"}}]});
    let properties = [chosen[0], (OWN, "own")];
    assert!(routed(&rewriting, &properties).contains(&kept[1].to_owned()));
}
