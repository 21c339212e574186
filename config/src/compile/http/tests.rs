use serde_json::{Value, json};

use crate::{self as config, Compiled};

fn load(document: &Value) -> Result<Compiled, Vec<String>> {
    config::load(document.to_string().as_bytes(), &|_| None)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Each document has this one error.
fn refused(cases: &[(Value, &str)]) {
    for (document, expected) in cases {
        let errors = load(document).err().unwrap_or_default();
        assert!(errors.len() == 1 && errors[0].starts_with(expected), "{document}: {errors:#?}");
    }
}

/// Each entry has this one error.
fn entries_refused(cases: &[(Value, &str)]) {
    let documents = cases.iter().map(|(entry, expected)| (json!({"http": [entry]}), *expected));
    refused(&documents.collect::<Vec<_>>());
}

fn to(host: &str) -> Value {
    json!([{"destination": {"host": host}}])
}

#[test]
fn a_route_has_destinations_with_names_and_weights() {
    entries_refused(&[
        (json!({"route": []}), "http[0].route: an empty list leads nowhere"),
        (json!({"match": []}), "http[0].match: an empty list matches nothing"),
        (json!({"route": [{}]}), "http[0].route[0].destination: no destination"),
        (json!({"route": [{"destination": {}}]}), "http[0].route[0].destination: neither host nor cluster"),
        (
            json!({"route": [{"destination": {"host": "a", "cluster": "b"}}]}),
            "http[0].route[0].destination.cluster: a cluster's own name stands in place of",
        ),
        (
            json!({"route": [{"destination": {"cluster": "b", "subset": "b"}}]}),
            "http[0].route[0].destination.cluster: a cluster's own name stands in place of",
        ),
        (
            json!({"route": [{"destination": {"host": ""}}]}),
            "http[0].route[0].destination.host: an empty name",
        ),
        (
            json!({"route": [{"destination": {"host": "a", "port": {}}}]}),
            "http[0].route[0].destination.port.number: a port's number is from 1 to 65535",
        ),
        (
            json!({"route": [{"destination": {"host": "a", "port": {"number": 0}}}]}),
            "http[0].route[0].destination.port.number: a port's number is from 1 to 65535",
        ),
        (
            json!({"route": [{"destination": {"host": "a"}, "weight": -5}]}),
            "http[0].route[0].weight: -5 is not a weight; use a whole number from 0",
        ),
        (
            json!({"route": [{"destination": {"host": "a"}, "weight": 5_000_000_000i64}]}),
            "http[0].route[0].weight: 5000000000 is not a weight; use a whole number from 0 to 4294967295",
        ),
        (
            json!({"route": [{"destination": {"host": "a"}, "weight": 1.5}]}),
            "http[0].route[0].weight: 1.5 does not belong here; use a whole number",
        ),
        (
            json!({"route": [{"destination": {"host": "a"}}, {"destination": {"host": "b"}, "weight": 0}]}),
            "http[0].route: all weights are 0",
        ),
    ]);
    assert!(load(&json!({"http": [{"route": [{"destination": {"host": "a"}, "weight": 0}]}]})).is_ok());
    // What is misspelled is no 0.
    let misspelled =
        json!([{"destination": {"host": "a"}, "weigth": 90}, {"destination": {"host": "b"}, "weight": 0}]);
    let errors = load(&json!({"http": [{"route": misspelled}]})).err().unwrap();
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn the_pattern_of_clusters_has_known_parts() {
    let document = |destinations: Value| json!({"destinations": destinations, "http": [{"route": to("a")}]});
    refused(&[
        (
            document(json!({"clusterName": "outbound|{port}|{subset}|{host}"})),
            "http[0].route[0].destination: no port for the {port} of destinations.clusterName",
        ),
        (document(json!({"clusterName": "{hots}"})), "destinations.clusterName: {hots} is not a part"),
        (document(json!({"clusterName": "{host"})), "destinations.clusterName: a \"{\" without its \"}\""),
        (document(json!({"clusterName": ""})), "destinations.clusterName: an empty pattern"),
        (document(json!({"port": 0})), "destinations.port: 0 is not a port"),
    ]);
}

#[test]
fn names_are_given_once() {
    refused(&[
        (json!({"http": [{"name": "a", "match": [{}]}, {"name": "a"}]}), "http[1].name: \"a\" is used twice"),
        (json!({"http": [{"name": ""}]}), "http[0].name: an empty name"),
    ]);
}

#[test]
fn what_is_sticky_is_one_thing_of_a_route() {
    let entry = |sticky: Value| json!({"sticky": sticky, "route": to("a")});
    entries_refused(&[
        (json!({"sticky": {"header": "x"}}), "http[0].sticky: there is no route that could be kept to"),
        (entry(json!({})), "http[0].sticky: what is kept to must be one thing"),
        (entry(json!({"header": "x", "claim": "y"})), "http[0].sticky: what is kept to must be one thing"),
        (entry(json!({"header": "x y"})), "http[0].sticky.header: \"x y\" is not a header's name"),
        (entry(json!({"claim": "a..b"})), "http[0].sticky.claim: \"a..b\" is not a claim's path"),
        (entry(json!({"cookie": {}})), "http[0].sticky.cookie.name: \"\" is not a cookie's name"),
        (
            entry(json!({"cookie": {"name": "a;b"}})),
            "http[0].sticky.cookie.name: \"a;b\" is not a cookie's name",
        ),
        (
            entry(json!({"cookie": {"name": "a", "ttl": "0s"}})),
            "http[0].sticky.cookie.ttl: a cookie lives at least 1s",
        ),
        (entry(json!({"sourceAddress": false})), "http[0].sticky.sourceAddress: false asks for nothing"),
    ]);
}

#[test]
fn header_operations_leave_alone_what_is_no_header() {
    let request = |changes: Value| json!({"headers": {"request": changes}});
    let response = |changes: Value| json!({"headers": {"response": changes}});
    entries_refused(&[
        (
            request(json!({"set": {":path": "/"}})),
            "http[0].headers.request.set[:path]: \":path\" is not a header",
        ),
        (
            request(json!({"remove": ["Host"]})),
            "http[0].headers.request.remove[0]: the host cannot be changed here",
        ),
        (
            response(json!({"set": {"host": "a"}})),
            "http[0].headers.response.set[host]: the host cannot be changed",
        ),
        (
            response(json!({"add": {":status": "a"}})),
            "http[0].headers.response.add[:status]: \":status\" is not",
        ),
        (
            request(json!({"set": {"a b": "a"}})),
            "http[0].headers.request.set[a b]: \"a b\" is not a header's name",
        ),
        (request(json!({"set": {"x": "a\nb"}})), "http[0].headers.request.set[x]: a line break or NUL"),
        (
            request(json!({"set": {"x": "%REQ(y)%"}})),
            "http[0].headers.request.set[x]: a plugin cannot fill in Envoy's %…% operators",
        ),
        (
            request(json!({"set": {"x": "a %START_TIME% b"}})),
            "http[0].headers.request.set[x]: a plugin cannot fill in Envoy's %…% operators",
        ),
        (
            request(json!({"set": {"X-Meshfilter-Cluster": "a"}})),
            "http[0].headers.request.set[X-Meshfilter-Cluster]: \"X-Meshfilter-Cluster\" is the filter's own",
        ),
        (
            request(json!({"set": {"host": "a", ":authority": "b"}})),
            "http[0].headers.request: more than one host",
        ),
        (
            json!({"route": [{"destination": {"host": "a"}, "headers": {"response": {"remove": [":a"]}}}]}),
            "http[0].route[0].headers.response.remove[0]: \":a\" is not a header that may be changed",
        ),
    ]);
    assert!(
        load(&json!({"http": [request(json!({"set": {"x": "100%", "y": "5%% A%%B%%", "z": "% A %"}}))]}))
            .is_ok()
    );
}

#[test]
fn hosts_are_names_without_ports() {
    let wrong = |text: &str| {
        format!(
            "http[0].hosts[0]: \"{text}\" is not a host; use one such as a.example.com, *.example.com or *"
        )
    };
    for text in
        ["", "a.example.com:80", "a.*", "*a.example.com", "*.", "a..b", "https://a", "[::1", "*.[::1]", "a b"]
    {
        entries_refused(&[(json!({"hosts": [text]}), wrong(text).as_str())]);
    }
    entries_refused(&[
        (json!({"hosts": []}), "http[0].hosts: an empty list is for no host"),
        (
            json!({"hosts": ["a.example", "A.example"]}),
            "http[0].hosts[1]: \"A.example\" stands twice; keep one",
        ),
    ]);
    let warnings = |document: Value| load(&document).unwrap().warnings.len();
    assert_eq!(warnings(json!({"http": [{}, {"hosts": ["*.example.com", "[::1]", "*"]}]})), 0);
    assert_eq!(warnings(json!({"http": [{}, {"hosts": ["a"]}, {"match": [{"port": 1}]}]})), 1);
}

#[test]
fn a_rewrite_changes_something() {
    let entry = |rewrite: Value| json!({"rewrite": rewrite});
    entries_refused(&[
        (entry(json!({})), "http[0].rewrite: a rewrite of nothing"),
        (
            entry(json!({"uri": ""})),
            "http[0].rewrite.uri: an empty path; use /, which after a pathPrefix takes",
        ),
        (entry(json!({"authority": ""})), "http[0].rewrite.authority: an empty text"),
        (
            entry(json!({"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}})),
            "http[0].rewrite.uriRegexRewrite: beside uri",
        ),
        (
            entry(json!({"uriRegexRewrite": {"rewrite": "b"}})),
            "http[0].rewrite.uriRegexRewrite.match: no expression",
        ),
        (
            entry(json!({"uriRegexRewrite": {"match": "a"}})),
            "http[0].rewrite.uriRegexRewrite.rewrite: nothing to stand in",
        ),
        (
            entry(json!({"uriRegexRewrite": {"match": "(", "rewrite": "b"}})),
            "http[0].rewrite.uriRegexRewrite.match: \"(\" is not a regular expression",
        ),
        (
            entry(json!({"uriRegexRewrite": {"match": "(a)", "rewrite": "\\2"}})),
            "http[0].rewrite.uriRegexRewrite.rewrite: the expression has no group 2",
        ),
        (
            entry(json!({"uriRegexRewrite": {"match": "(a)", "rewrite": "\\x"}})),
            "http[0].rewrite.uriRegexRewrite.rewrite: a lone backslash",
        ),
    ]);
}

#[test]
fn an_entry_that_answers_sends_nothing_on() {
    let redirect = json!({"uri": "/x"});
    entries_refused(&[
        (json!({"redirect": redirect, "route": to("a")}), "http[0].route: beside a redirect"),
        (json!({"redirect": redirect, "rewrite": {"uri": "/"}}), "http[0].rewrite: beside a redirect"),
        (json!({"redirect": redirect, "timeout": "1s"}), "http[0].timeout: beside a redirect"),
        (json!({"redirect": redirect, "mirror": {"host": "a"}}), "http[0].mirror: beside a redirect"),
        (
            json!({"redirect": redirect, "mirrors": [{"destination": {"host": "a"}}]}),
            "http[0].mirrors: beside a redirect",
        ),
        (json!({"redirect": redirect, "retries": {"attempts": 1}}), "http[0].retries: beside a redirect"),
        (
            json!({"redirect": redirect, "directResponse": {"status": 200}}),
            "http[0].directResponse: beside a redirect",
        ),
        (
            json!({"directResponse": {"status": 200}, "route": to("a")}),
            "http[0].route: beside a direct response",
        ),
        (json!({"directResponse": {}}), "http[0].directResponse: no status"),
        (json!({"directResponse": {"status": 100}}), "http[0].directResponse.status: 100 is not a status"),
        (
            json!({"directResponse": {"status": 304, "body": {"string": "a"}}}),
            "http[0].directResponse.body: an answer of 304 has no body; leave it out or use 200",
        ),
        (json!({"directResponse": {"status": 600}}), "http[0].directResponse.status: 600 is not a status"),
        (
            json!({"directResponse": {"status": 200, "body": {}}}),
            "http[0].directResponse.body: a body is one text",
        ),
        (
            json!({"directResponse": {"status": 200, "body": {"string": "", "bytes": ""}}}),
            "http[0].directResponse.body: a body is one text",
        ),
        (
            json!({"directResponse": {"status": 200, "body": {"bytes": "a"}}}),
            "http[0].directResponse.body.bytes: not base64",
        ),
        (json!({"redirect": {"uri": "/a b"}}), "http[0].redirect.uri: empty, or with spaces"),
        (json!({"redirect": {"authority": ""}}), "http[0].redirect.authority: empty, or with spaces"),
        (json!({"redirect": {"scheme": "ftp"}}), "http[0].redirect.scheme: \"ftp\" is not a scheme"),
        (json!({"redirect": {"uri": "/", "redirectCode": 300}}), "http[0].redirect.redirectCode: 300 is not"),
        (json!({"redirect": {"port": 0}}), "http[0].redirect.port: 0 is not a port"),
        (
            json!({"redirect": {"port": 1, "derivePort": "FROM_REQUEST_PORT"}}),
            "http[0].redirect.derivePort: beside port",
        ),
        (
            json!({"redirect": {"uri": "/", "derivePort": "fromRequestPort"}}),
            "http[0].redirect.derivePort: \"fromRequestPort\" is not known here",
        ),
        (
            json!({"redirect": {"uri": "/", "prefixRewrite": "/"}}),
            "http[0].redirect.prefixRewrite: beside uri",
        ),
    ]);
}

#[test]
fn retries_and_timeouts_are_what_envoy_understands() {
    let entry = |retries: Value| json!({"retries": retries});
    entries_refused(&[
        (json!({"timeout": "5"}), "http[0].timeout: \"5\" does not belong here; use a duration"),
        (json!({"timeout": "-1s"}), "http[0].timeout: \"-1s\" does not belong here; use a duration"),
        (entry(json!({})), "http[0].retries: no number of attempts"),
        (entry(json!({"attempts": -1})), "http[0].retries.attempts: -1 is not a number of attempts"),
        (
            entry(json!({"attempts": 1, "retryOn": "sometimes"})),
            "http[0].retries.retryOn: \"sometimes\" is not a condition",
        ),
        (
            entry(json!({"attempts": 1, "retryOn": "99"})),
            "http[0].retries.retryOn: \"99\" is not a condition",
        ),
        (entry(json!({"attempts": 1, "retryOn": ","})), "http[0].retries.retryOn: no condition"),
        (
            entry(json!({"attempts": 1, "backoff": "25ms"})),
            "http[0].retries.backoff: no header tells Envoy's router so; set retry_back_off",
        ),
        (
            entry(json!({"attempts": 1, "retryRemoteLocalities": true})),
            "http[0].retries.retryRemoteLocalities: no header tells",
        ),
        (
            entry(json!({"attempts": 1, "retryIgnorePreviousHosts": false})),
            "http[0].retries.retryIgnorePreviousHosts: no header tells",
        ),
        (
            json!({"delegate": {"name": "a"}}),
            "http[0].delegate: a plugin does not know other VirtualServices",
        ),
    ]);
}

#[test]
fn mirrors_are_three_at_most() {
    let mirror = json!({"destination": {"host": "a"}});
    entries_refused(&[
        (json!({"mirrorPercentage": {"value": 5}}), "http[0].mirrorPercentage: there is no mirror"),
        (json!({"mirrorPercent": 5}), "http[0].mirrorPercent: there is no mirror"),
        (
            json!({"mirror": {"host": "a"}, "mirrorPercentage": {"value": 101}}),
            "http[0].mirrorPercentage.value: 101 is not a percentage",
        ),
        (json!({"mirror": {"host": "a"}, "mirrorPercent": -1}), "http[0].mirrorPercent: not a percentage"),
        (json!({"mirror": {}}), "http[0].mirror: neither host nor cluster"),
        (json!({"mirrors": []}), "http[0].mirrors: an empty list copies to nobody"),
        (json!({"mirror": {"host": "a"}, "mirrors": [mirror]}), "http[0].mirrors: beside mirror"),
        (json!({"mirrors": [mirror, mirror, mirror, mirror]}), "http[0].mirrors: 4 mirrors"),
        (json!({"mirrors": [{}]}), "http[0].mirrors[0].destination: no destination"),
        (
            json!({"mirrors": [{"destination": {"host": "a"}, "percentage": {"value": -1}}]}),
            "http[0].mirrors[0].percentage.value: -1 is not a percentage",
        ),
    ]);
}

#[test]
fn a_cors_policy_lets_someone_in() {
    let entry = |cors: Value| json!({"corsPolicy": cors});
    entries_refused(&[
        (entry(json!({})), "http[0].corsPolicy: no site is allowed"),
        (entry(json!({"allowOrigins": []})), "http[0].corsPolicy: no site is allowed"),
        (
            entry(json!({"allowOrigins": [{"exact": "a"}, {}]})),
            "http[0].corsPolicy.allowOrigins[1]: nothing to match",
        ),
        (
            entry(json!({"allowOrigins": [{"exact": "a"}], "allowOrigin": ["a"]})),
            "http[0].corsPolicy.allowOrigin: beside allowOrigins",
        ),
        (
            entry(json!({"allowOrigins": [{"exact": "a"}], "allowMethods": ["GET", "a b"]})),
            "http[0].corsPolicy.allowMethods[1]: \"a b\" is not a name",
        ),
        (
            entry(json!({"allowOrigins": [{"exact": "a"}], "unmatchedPreflights": "DROP"})),
            "http[0].corsPolicy.unmatchedPreflights: \"DROP\" is not known here",
        ),
    ]);
}

#[test]
fn all_errors_of_a_section_come_at_once() {
    let errors = load(&json!({"http": [
        {"name": "a", "match": [{"uri": {}}], "route": [{"destination": {"host": "a"}, "weight": -5}]},
        {"name": "a", "redirect": {"redirectCode": 200}, "timeout": "x"},
    ]}))
    .err()
    .unwrap();
    let places: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "http[1].timeout",
            "http[1].name",
            "http[0].match[0].uri",
            "http[0].route[0].weight",
            "http[1].redirect.redirectCode",
        ]
    );
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let warnings = |document: Value| -> Vec<String> {
        load(&document).unwrap().warnings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        warnings(json!({"http": [{"route": to("a")}, {"route": to("b")}]})),
        ["http[0]: matches every request; the entries after it are never reached"]
    );
    assert!(warnings(json!({"http": [{"match": [{"port": 1}]}, {"route": to("b")}]})).is_empty());
    assert_eq!(
        warnings(json!({"http": [{"redirect": {"redirectCode": 302}}]})),
        [
            "http[0].redirect: a redirect to the same address, where the client will ask again; add uri, prefixRewrite, authority, port or scheme"
        ]
    );
    assert!(warnings(json!({"http": [{"redirect": {"redirectCode": 302, "scheme": "https"}}]})).is_empty());
}

#[test]
fn the_filters_own_headers_are_reserved() {
    let reserved = |document: Value| {
        let mut reserved = load(&document).unwrap().policy.reserved_headers;
        reserved.sort_unstable();
        reserved.join(" ")
    };
    let own = "x-meshfilter-authority x-meshfilter-cluster x-meshfilter-mirror-cluster x-meshfilter-mirror-cluster-2 x-meshfilter-mirror-cluster-3";
    assert_eq!(
        reserved(json!({})),
        own,
        "a document without entries must not leave the choice to the client"
    );
    assert_eq!(reserved(json!({"http": [{}]})), own);
    assert_eq!(
        reserved(json!({"http": [{"timeout": "1s"}]})),
        format!("x-envoy-upstream-rq-timeout-ms {own}")
    );
    assert_eq!(
        reserved(json!({"http": [{"rewrite": {"uri": "/"}}]})),
        format!("x-envoy-original-path {own}")
    );
    assert_eq!(
        reserved(json!({"http": [{"rewrite": {"authority": "a.example"}}]})),
        format!("x-envoy-original-host {own}")
    );
    assert_eq!(
        reserved(json!({"http": [{"headers": {"request": {"set": {"host": "a.example"}}}}]})),
        format!("x-envoy-original-host {own}")
    );
    assert_eq!(
        reserved(json!({"http": [{"retries": {"attempts": 0}}]})),
        format!(
            "x-envoy-max-retries x-envoy-retriable-status-codes x-envoy-retry-grpc-on x-envoy-retry-on \
             x-envoy-upstream-rq-per-try-timeout-ms {own}"
        )
    );
}
