use crate::policy::metric::metric_name;
use serde_json::{Value, json};

use super::super::signing::jwks;
use super::*;
use crate::host::HeaderMap;
use crate::host::fake::Fake;

const CLUSTER: &str = "auth";

fn settings() -> Settings {
    Settings {
        cluster: CLUSTER.to_owned(),
        location: Location::KeySet(Url::parse("https://auth.example.com/keys?v=1").unwrap()),
        cache_duration: Duration::from_secs(600),
        max_stale: Duration::from_secs(86_400),
        timeout: Duration::from_secs(5),
    }
}

fn remote() -> Remote {
    Remote::new(settings())
}

fn discovering() -> Remote {
    Remote::new(Settings { location: Location::discover("https://auth.example.com/").unwrap(), ..settings() })
}

/// The one call that waits for an answer.
fn one_call(host: &Fake) -> (u32, HttpCall) {
    let calls = host.take_calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls.into_iter().next().unwrap()
}

fn answer_with(host: &Fake, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
    let headers: HeaderMap = headers.iter().copied().collect();
    host.set_call_response(headers, body.into());
}

fn good(names: &[&str]) -> String {
    jwks(names).to_string()
}

/// Begins a fetch that must be due, and answers it well.
fn fetch(remote: &Remote, host: &Fake, headers: &[(&str, &str)], names: &[&str]) {
    remote.poll(host);
    let (token, _) = one_call(host);
    answer_with(host, &[&[(":status", "200")], headers].concat(), good(names));
    assert!(remote.on_http_call_response(token, host));
}

fn fail(remote: &Remote, host: &Fake) {
    remote.poll(host);
    let (token, _) = one_call(host);
    answer_with(host, &[(":status", "503")], "no healthy upstream");
    assert!(remote.on_http_call_response(token, host));
}

/// Lets time pass until the next poll, and polls.
fn next(remote: &Remote, host: &Fake) -> bool {
    host.advance(Duration::from_nanos(remote.next_poll().saturating_sub(host.now())));
    remote.poll(host)
}

/// Polls until a fetch begins; says after how long.
fn until_fetch(remote: &Remote, host: &Fake) -> Duration {
    let begin = host.now();
    for _ in 0..100_000 {
        next(remote, host);
        if remote.local.borrow().call.is_some() {
            return Duration::from_nanos(host.now().saturating_sub(begin));
        }
    }
    panic!("no fetch begins");
}

fn keys(remote: &Remote, kid: &str, host: &Fake) -> Keys {
    remote.keys(Some(kid), host, host.now())
}

fn is_ready(remote: &Remote, kid: &str, host: &Fake) -> bool {
    matches!(keys(remote, kid, host), Keys::Ready(keys) if keys.may_have(kid))
}

#[test]
fn fetches_are_counted_from_0_and_the_last_good_one_has_a_time() {
    let (host, remote) = (Fake::new(), remote());
    host.set_wall_clock(Duration::from_secs(1_700_000_000));
    remote.start(&host);
    let name = |result: &str| format!("meshfilter_jwks_fetches_total<destination=auth><result={result}>");
    for result in FAILURES.into_iter().chain(["success"]) {
        assert_eq!(host.metrics()[&name(result)].value, 0, "{result}");
    }
    let succeeded = "meshfilter_jwks_last_success_timestamp_seconds<destination=auth>";
    fail(&remote, &host);
    assert_eq!((fetches(&host, "bad_status"), host.metric_value(succeeded)), (1, 0));
    until_fetch(&remote, &host);
    let (token, _) = one_call(&host);
    answer_with(&host, &[(":status", "200")], good(&["rsa1"]));
    remote.on_http_call_response(token, &host);
    assert_eq!((fetches(&host, "success"), host.metric_value(succeeded)), (1, host.wall_clock().as_secs()));
    assert!(host.wall_clock().as_secs() >= 1_700_000_000);
}

fn fetches(host: &Fake, result: &str) -> u64 {
    let labels = [("destination", CLUSTER), ("result", result)];
    host.metric_value(&metric_name("meshfilter_jwks_fetches_total", &labels))
}

#[test]
fn a_key_set_is_fetched_before_anybody_asks() {
    let (host, remote) = (Fake::new(), remote());
    assert!(remote.next_poll() <= host.now());
    remote.poll(&host);
    let (token, call) = one_call(&host);
    assert_eq!((call.cluster.as_str(), call.timeout), (CLUSTER, Duration::from_secs(5)));
    let header =
        |name: &str| call.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(header(":method"), Some("GET"));
    assert_eq!(header(":path"), Some("/keys?v=1"));
    assert_eq!(header(":authority"), Some("auth.example.com"));
    answer_with(&host, &[(":status", "200")], good(&["rsa1"]));
    assert!(!remote.on_http_call_response(token.wrapping_add(1), &host), "not its call");
    assert!(remote.on_http_call_response(token, &host));
    assert!(is_ready(&remote, "rsa1", &host));
    assert_eq!(fetches(&host, "success"), 1);
    // Known keys cost no hostcall.
    host.take_hostcalls();
    assert!(matches!(remote.keys(Some("rsa1"), &host, 0), Keys::Ready(_)));
    assert!(matches!(remote.keys(None, &host, 0), Keys::Ready(_)));
    assert!(host.take_hostcalls().is_empty());
}

#[test]
fn one_worker_fetches_and_all_read() {
    let host = Fake::new();
    let workers: Vec<Remote> = (0..5).map(|_| remote()).collect();
    for worker in &workers {
        assert!(matches!(keys(worker, "rsa1", &host), Keys::Wait(_)));
        worker.poll(&host);
    }
    let (token, _) = one_call(&host);
    answer_with(&host, &[(":status", "200")], good(&["rsa1"]));
    assert!(workers[0].on_http_call_response(token, &host));
    for worker in &workers[1..] {
        // They look every few milliseconds while somebody waits.
        assert!(worker.next_poll() <= host.now() + 20 * MILLISECOND);
        assert!(next(worker, &host), "those who wait are told");
        assert!(is_ready(worker, "rsa1", &host));
        assert!(!next(worker, &host), "and told once");
    }
    assert_eq!(host.take_calls().len(), 0);
    assert_eq!(fetches(&host, "success"), 1);
    // A request that is faster than the poll reads for itself, and takes nobody the news away.
    let late = remote();
    assert!(matches!(keys(&late, "rsa1", &host), Keys::Ready(_)));
    assert!(late.poll(&host));
}

#[test]
fn a_new_configuration_finds_the_keys_of_the_old() {
    let host = Fake::new();
    fetch(&remote(), &host, &[], &["rsa1"]);
    let pushed = Remote::new(Settings { timeout: Duration::from_secs(1), ..settings() });
    assert!(is_ready(&pushed, "rsa1", &host));
    pushed.poll(&host);
    assert_eq!(host.take_calls().len(), 0);
}

#[test]
fn a_request_waits_so_long_and_no_longer() {
    let (host, remote) = (Fake::new(), remote());
    let since = host.now();
    let Keys::Wait(deadline) = remote.keys(Some("rsa1"), &host, since) else { panic!("no wait") };
    assert_eq!(deadline, since + 5 * SECOND);
    fail(&remote, &host);
    host.advance(Duration::from_millis(4_999));
    // The deadline is that of the request, however often it asks.
    assert!(matches!(remote.keys(Some("rsa1"), &host, since), Keys::Wait(again) if again == deadline));
    host.advance(Duration::from_millis(1));
    assert!(matches!(remote.keys(Some("rsa1"), &host, since), Keys::Unavailable));
}

#[test]
fn it_is_fetched_anew_before_it_is_old() {
    for (cache_control, least, most) in [
        ("public", 555, 570),
        ("max-age=100", 70, 80),
        ("max-age=86400", 555, 570),
        ("max-age=0", 3, 4),
        ("no-cache", 555, 570),
    ] {
        let (host, remote) = (Fake::new(), remote());
        fetch(&remote, &host, &[("cache-control", cache_control)], &["rsa1"]);
        let after = until_fetch(&remote, &host);
        let range = Duration::from_secs(least)..=Duration::from_secs(most);
        assert!(range.contains(&after), "{cache_control}: {after:?}");
        assert!(is_ready(&remote, "rsa1", &host), "nobody waits meanwhile");
    }
}

#[test]
fn rotation_reaches_every_worker() {
    let host = Fake::new();
    let (one, two) = (remote(), remote());
    fetch(&one, &host, &[], &["rsa1"]);
    two.poll(&host);
    until_fetch(&one, &host);
    fetch_ends(&one, &host, &["rsa2"]);
    assert!(!is_ready(&one, "rsa1", &host) && is_ready(&one, "rsa2", &host));
    host.advance(Duration::from_secs(1));
    assert!(two.poll(&host));
    let Keys::Ready(keys) = two.keys(None, &host, host.now()) else { panic!("no keys") };
    assert!(!keys.may_have("rsa1") && keys.may_have("rsa2"));
}

fn fetch_ends(remote: &Remote, host: &Fake, names: &[&str]) {
    let (token, _) = one_call(host);
    answer_with(host, &[(":status", "200")], good(names));
    assert!(remote.on_http_call_response(token, host));
}

#[test]
fn an_unknown_kid_waits_for_one_fetch_in_five_seconds() {
    let host = Fake::new();
    let (one, two) = (remote(), remote());
    fetch(&one, &host, &[], &["rsa1"]);
    two.poll(&host);
    host.advance(Duration::from_secs(1));
    // Both workers meet the new key at once.
    assert!(matches!(keys(&one, "rsa2", &host), Keys::Wait(_)));
    assert!(matches!(keys(&two, "rsa2", &host), Keys::Wait(_)));
    assert!(one.next_poll() <= host.now(), "at once");
    one.poll(&host);
    two.poll(&host);
    assert!(matches!(keys(&two, "rsa2", &host), Keys::Wait(_)));
    fetch_ends(&one, &host, &["rsa1", "rsa2"]);
    assert!(is_ready(&one, "rsa2", &host));
    assert!(next(&two, &host));
    assert!(is_ready(&two, "rsa2", &host));
    // A third is looked for no sooner than five seconds later; until then nobody waits for it.
    for _ in 0..100 {
        for worker in [&one, &two] {
            assert!(matches!(keys(worker, "rsa3", &host), Keys::Ready(_)));
            worker.poll(&host);
        }
    }
    assert_eq!(host.take_calls().len(), 0);
    host.advance(Duration::from_secs(5));
    assert!(matches!(keys(&two, "rsa3", &host), Keys::Wait(_)));
    two.poll(&host);
    fetch_ends(&two, &host, &["rsa1", "rsa2"]);
    assert!(matches!(keys(&two, "rsa3", &host), Keys::Ready(_)));
    assert_eq!(fetches(&host, "success"), 3);
}

#[test]
fn an_unknown_kid_does_not_wait_for_an_issuer_that_is_down() {
    let (host, remote) = (Fake::new(), remote());
    fetch(&remote, &host, &[], &["rsa1"]);
    let since = host.now();
    assert!(matches!(remote.keys(Some("rsa2"), &host, since), Keys::Wait(_)));
    fail(&remote, &host);
    assert!(matches!(remote.keys(Some("rsa2"), &host, since), Keys::Ready(_)), "the old keys decide");
    assert!(is_ready(&remote, "rsa1", &host));
    // One that never answers: the time that the request has runs out.
    host.advance(Duration::from_secs(6));
    let since = host.now();
    assert!(matches!(remote.keys(Some("rsa2"), &host, since), Keys::Wait(_)));
    remote.poll(&host);
    host.advance(Duration::from_secs(5));
    assert!(matches!(remote.keys(Some("rsa2"), &host, since), Keys::Ready(_)));
}

#[test]
fn what_is_no_key_set_keeps_the_old_and_is_counted() {
    let long = format!("{}{}", good(&["rsa2"]), " ".repeat(MAX_RESPONSE_LENGTH));
    let longest = long.get(..MAX_RESPONSE_LENGTH).unwrap();
    let rsa2 = good(&["rsa2"]);
    for (status, body, result) in [
        (Some("404"), rsa2.as_str(), "bad_status"),
        (Some("301"), &rsa2, "bad_status"),
        (Some("503"), &rsa2, "bad_status"),
        (Some("504"), &rsa2, "bad_status"),
        (None, &rsa2, "no_answer"),
        (Some("200"), "", "bad_key_set"),
        (Some("200"), "<html>", "bad_key_set"),
        (Some("200"), r#"{"keys":[]}"#, "bad_key_set"),
        (Some("200"), r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "bad_key_set"),
        (Some("200"), &long, "too_large"),
    ] {
        let (host, remote) = (Fake::new(), remote());
        fetch(&remote, &host, &[], &["rsa1"]);
        until_fetch(&remote, &host);
        let (token, _) = one_call(&host);
        let headers: Vec<_> = status.map(|status| (":status", status)).into_iter().collect();
        answer_with(&host, &headers, body);
        assert!(remote.on_http_call_response(token, &host));
        assert!(is_ready(&remote, "rsa1", &host), "{result}");
        assert_eq!((fetches(&host, result), fetches(&host, "success")), (1, 1), "{status:?} {result}");
    }
    let (host, remote) = (Fake::new(), remote());
    remote.poll(&host);
    let (token, _) = one_call(&host);
    answer_with(&host, &[(":status", "200")], longest);
    assert!(remote.on_http_call_response(token, &host));
    assert!(is_ready(&remote, "rsa2", &host), "a whole mebibyte is taken");
}

#[test]
fn failures_back_off_from_one_second_to_thirty() {
    let (host, remote) = (Fake::new(), remote());
    fail(&remote, &host);
    for expected in [1, 2, 4, 8, 16, 30, 30, 30] {
        let after = until_fetch(&remote, &host);
        let most = Duration::from_secs(expected);
        assert!((most * 3 / 4..=most).contains(&after), "{after:?} is not about {expected} s");
        let (token, _) = one_call(&host);
        answer_with(&host, &[(":status", "504")], "");
        assert!(remote.on_http_call_response(token, &host));
    }
    fetch_after_failures(&remote, &host);
}

/// A success ends the counting.
fn fetch_after_failures(remote: &Remote, host: &Fake) {
    until_fetch(remote, host);
    fetch_ends(remote, host, &["rsa1"]);
    assert_eq!(remote.local.borrow().state.failures, 0);
    assert!(until_fetch(remote, host) > Duration::from_secs(500));
}

#[test]
fn old_keys_stay_in_force_for_a_time() {
    let host = Fake::new();
    let remote = Remote::new(Settings { max_stale: Duration::from_secs(3_600), ..settings() });
    fetch(&remote, &host, &[], &["rsa1"]);
    let end = host.now() + (600 + 3_600) * SECOND;
    while host.now() + SECOND < end {
        assert!(is_ready(&remote, "rsa1", &host));
        next(&remote, &host);
        for (token, _) in host.take_calls() {
            answer_with(&host, &[(":status", "503")], "");
            remote.on_http_call_response(token, &host);
        }
    }
    host.advance(Duration::from_secs(2));
    remote.poll(&host);
    host.take_calls();
    assert!(matches!(keys(&remote, "rsa1", &host), Keys::Wait(_)));
    let long_ago = host.now() - 10 * SECOND;
    assert!(matches!(remote.keys(Some("rsa1"), &host, long_ago), Keys::Unavailable));
    // A new worker does not believe the old text either.
    let other = Remote::new(Settings { max_stale: Duration::from_secs(3_600), ..settings() });
    assert!(matches!(keys(&other, "rsa1", &host), Keys::Wait(_)));
}

#[test]
fn a_worker_that_dies_while_it_fetches_is_replaced() {
    let host = Fake::new();
    let (dead, other) = (remote(), remote());
    dead.poll(&host);
    host.take_calls();
    drop(dead);
    let after = until_fetch(&other, &host);
    assert!((Duration::from_secs(5)..=Duration::from_secs(7)).contains(&after), "{after:?}");
    fetch_ends(&other, &host, &["rsa1"]);
    assert!(is_ready(&other, "rsa1", &host));
}

#[test]
fn an_answer_after_the_lease_does_not_overwrite_what_is_newer() {
    let host = Fake::new();
    let (slow, other) = (remote(), remote());
    slow.poll(&host);
    let (slow_token, _) = one_call(&host);
    host.advance(Duration::from_secs(7));
    fetch(&other, &host, &[], &["rsa2"]);
    let before = slow.shared.state(&host).0;
    answer_with(&host, &[(":status", "503")], "");
    slow.on_http_call_response(slow_token, &host);
    assert_eq!(slow.shared.state(&host).0, before);
}

#[test]
fn a_cluster_that_is_not_there_yet_is_tried_again() {
    let (host, remote) = (Fake::new(), remote());
    host.refuse_http_calls(true);
    assert!(remote.poll(&host), "those who wait look again");
    assert_eq!(fetches(&host, "no_cluster"), 1);
    host.refuse_http_calls(false);
    assert!(until_fetch(&remote, &host) <= Duration::from_secs(1));
    fetch_ends(&remote, &host, &["rsa1"]);
    assert!(is_ready(&remote, "rsa1", &host));
}

#[test]
fn discovery_asks_the_issuer_where_its_keys_are() {
    let (host, remote) = (Fake::new(), discovering());
    remote.poll(&host);
    let (token, call) = one_call(&host);
    assert!(call.headers.contains(&(":path".to_owned(), "/.well-known/openid-configuration".to_owned())));
    let configuration =
        json!({"issuer": "https://auth.example.com/", "jwks_uri": "https://evil.internal:1/k"});
    answer_with(&host, &[(":status", "200")], configuration.to_string());
    assert!(!remote.on_http_call_response(token, &host), "no keys yet");
    let (token, call) = one_call(&host);
    // Whatever the answer names, the cluster is asked and nobody else.
    assert_eq!(call.cluster, CLUSTER);
    assert!(call.headers.contains(&(":path".to_owned(), "/k".to_owned())));
    answer_with(&host, &[(":status", "200")], good(&["rsa1"]));
    assert!(remote.on_http_call_response(token, &host));
    assert!(is_ready(&remote, "rsa1", &host));
}

#[test]
fn a_configuration_of_another_issuer_is_not_followed() {
    for configuration in [
        json!({"issuer": "https://evil.example", "jwks_uri": "https://auth.example.com/k"}),
        json!({"issuer": "https://auth.example.com"}),
        json!("text"),
        Value::Null,
    ] {
        let (host, remote) = (Fake::new(), discovering());
        remote.poll(&host);
        let (token, _) = one_call(&host);
        answer_with(&host, &[(":status", "200")], configuration.to_string());
        assert!(remote.on_http_call_response(token, &host));
        assert_eq!(host.take_calls().len(), 0);
        assert_eq!(fetches(&host, "bad_configuration"), 1, "{configuration}");
    }
}
