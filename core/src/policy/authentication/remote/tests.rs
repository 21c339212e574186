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
        shared: true,
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
    host.defines_no_more();
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
    assert_eq!(header("accept"), Some("application/jwk-set+json, application/json, */*;q=0.5"));
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
fn a_good_answer_after_the_lease_does_not_overwrite_the_text_either() {
    let host = Fake::new();
    let (slow, other) = (remote(), remote());
    slow.poll(&host);
    let (slow_token, _) = one_call(&host);
    host.advance(Duration::from_secs(7));
    fetch(&other, &host, &[], &["rsa2"]);
    let state = slow.shared.state(&host).0.unwrap();
    answer_with(&host, &[(":status", "200")], good(&["rsa1"]));
    slow.on_http_call_response(slow_token, &host);
    assert_eq!(slow.shared.state(&host).0, Some(state));
    assert_eq!(slow.shared.text(state.hash, &host), Some(good(&["rsa2"]).into_bytes()));
    next(&slow, &host);
    assert!(is_ready(&slow, "rsa2", &host) && !is_ready(&slow, "rsa1", &host), "and it reads what is newer");
}

/// The places of the key set in shared data.
fn places() -> [String; 2] {
    let place = settings().location.shared_key(CLUSTER);
    [place.clone(), format!("{place}.text")]
}

/// Which of the test keys a worker has; asking for an unknown one would make it fetch.
fn names(remote: &Remote, host: &Fake) -> Vec<&'static str> {
    let Keys::Ready(keys) = remote.keys(None, host, host.now()) else { return Vec::new() };
    ["rsa1", "rsa2", "ec256"].into_iter().filter(|name| keys.may_have(name)).collect()
}

fn overwrite(host: &Fake, place: &str, bytes: &[u8]) {
    let cas = host.shared_data(place).map_or(u32::MAX, |(_, cas)| cas);
    host.shared_data_swap(place, bytes, cas).unwrap();
}

fn poll_and_answer(remote: &Remote, host: &Fake, names: &[&str]) {
    next(remote, host);
    for (token, _) in host.take_calls() {
        answer_with(host, &[(":status", "200")], good(names));
        remote.on_http_call_response(token, host);
    }
}

#[test]
fn another_plugin_cannot_make_up_a_key_set() {
    let host = Fake::new();
    let [state_place, text_place] = places();
    let (one, two) = (remote(), remote());
    fetch(&one, &host, &[], &["rsa1"]);
    two.poll(&host);
    assert!(is_ready(&two, "rsa1", &host));
    let (old_state, old_text) =
        (host.shared_data(&state_place).unwrap().0, host.shared_data(&text_place).unwrap().0);
    // A newer version, with a text of its own.
    let mut forged = old_state.clone();
    forged[0] = 9;
    for state in [forged.as_slice(), &old_state, b"", &forged[..72]] {
        overwrite(&host, &text_place, good(&["rsa2"]).as_bytes());
        overwrite(&host, &state_place, state);
        for worker in [&one, &two] {
            poll_and_answer(worker, &host, &["rsa1"]);
            assert_eq!(names(worker, &host), ["rsa1"]);
        }
        let late = remote();
        let found = keys(&late, "rsa2", &host);
        assert!(
            matches!(found, Keys::Wait(_)),
            "what is forged is as good as nothing: {found:?} {}",
            state.len()
        );
        for _ in 0..20 {
            poll_and_answer(&late, &host, &["rsa1"]);
        }
        assert_eq!(names(&late, &host), ["rsa1"]);
    }
    // What was true once, put back: a key that the issuer has withdrawn stays withdrawn.
    until_fetch(&one, &host);
    fetch_ends(&one, &host, &["ec256"]);
    two.poll(&host);
    overwrite(&host, &text_place, &old_text);
    overwrite(&host, &state_place, &old_state);
    for worker in [&one, &two] {
        next(worker, &host);
        assert_eq!(names(worker, &host), ["ec256"]);
    }
}

#[test]
fn where_every_write_is_destroyed_each_worker_gets_on_by_itself() {
    let host = Fake::new();
    let workers: Vec<Remote> = (0..3).map(|_| remote()).collect();
    let mut fetches = 0;
    for _ in 0..600 {
        host.advance(Duration::from_millis(100));
        for worker in &workers {
            worker.poll(&host);
            host.overwrite_shared_data(b"nonsense");
            for (token, _) in host.take_calls() {
                fetches += 1;
                answer_with(&host, &[(":status", "200")], good(&["rsa1"]));
                worker.on_http_call_response(token, &host);
                host.overwrite_shared_data(b"nonsense");
            }
        }
    }
    assert!(workers.iter().all(|worker| is_ready(worker, "rsa1", &host)));
    assert_eq!(fetches, 3, "one for each in this minute");
}

#[test]
fn a_lease_whose_end_is_destroyed_is_not_waited_for() {
    let host = Fake::new();
    let (one, two) = (remote(), remote());
    one.poll(&host);
    assert_eq!(host.take_calls().len(), 1);
    assert!(matches!(keys(&two, "rsa1", &host), Keys::Wait(_)));
    two.poll(&host);
    assert_eq!(host.take_calls().len(), 0, "the other one has the lease");
    host.overwrite_shared_data(b"nonsense");
    next(&two, &host);
    fetch_ends(&two, &host, &["rsa1"]);
    assert!(is_ready(&two, "rsa1", &host));
    host.overwrite_shared_data(b"nonsense");
    next(&one, &host);
    assert_eq!(host.take_calls().len(), 0, "its own is under way");
}

#[test]
fn a_time_that_cannot_be_is_not_believed() {
    let host = Fake::new();
    let one = remote();
    fetch(&one, &host, &[], &["rsa1"]);
    let (state, cas) = one.shared.state(&host);
    let state = state.unwrap();
    let far = host.now() + 3_600 * SECOND;
    for wrong in [
        State { fetched_at: far, ..state },
        State { next_attempt: far, ..state },
        State { lease_until: far, ..state },
        State { unknown_at: far, ..state },
    ] {
        let cas = host.shared_data(&places()[0]).map_or(cas, |(_, cas)| Some(cas));
        one.shared.replace(wrong, cas, &host).unwrap();
        let late = remote();
        late.poll(&host);
        assert_eq!(host.take_calls().len(), 1, "{wrong:?}");
    }
}

#[test]
fn a_key_set_that_is_not_shared_is_fetched_by_each() {
    let host = Fake::new();
    let alone = || Remote::new(Settings { shared: false, ..settings() });
    let (one, two) = (alone(), alone());
    for (worker, name) in [(&one, "rsa1"), (&two, "rsa2")] {
        fetch(worker, &host, &[], &[name]);
        assert!(is_ready(worker, name, &host));
    }
    assert_eq!(host.shared_data_size(), (0, 0));
    let after = until_fetch(&one, &host);
    assert!(after > Duration::from_secs(500), "{after:?}");
    fetch_ends(&one, &host, &["ec256"]);
    assert!(is_ready(&one, "ec256", &host) && is_ready(&two, "rsa2", &host));
}

#[test]
fn a_status_is_named() {
    let host = Fake::new();
    answer_with(&host, &[(":status", "406")], "");
    assert_eq!(answer(&host).unwrap_err().to_string(), "bad_status 406");
    answer_with(&host, &[(":status", "x")], "");
    assert_eq!(answer(&host).unwrap_err().to_string(), "bad_status");
    answer_with(&host, &[], "");
    assert_eq!(answer(&host).unwrap_err().to_string(), "no_answer");
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
