use std::time::Duration;

use super::*;
use crate::host::HeaderMap;
use crate::host::fake::Fake;
use crate::policy::Verdict;

const MILLION: u32 = 1_000_000;

fn fault() -> Fault {
    Fault { name: "f".into(), mode: Mode::Enforce, until: None, max_active: None, delay: None, abort: None }
}

fn delayed(parts_per_million: u32, delay: Delay) -> Fault {
    Fault { delay: Some(DelayFault { parts_per_million, delay }), ..fault() }
}

fn aborted(parts_per_million: u32, ending: Ending) -> Fault {
    let body = b"fault filter abort".to_vec();
    Fault { abort: Some(AbortFault { parts_per_million, ending, body, headers: Vec::new() }), ..fault() }
}

fn five_seconds() -> Delay {
    Delay::Fixed(Duration::from_secs(5))
}

fn request(headers: &[(&str, &str)]) -> Request<'static> {
    Request::new(headers.iter().copied().collect::<HeaderMap>(), Vec::new(), 0)
}

fn plain() -> Request<'static> {
    request(&[])
}

fn verdicts(facts: &Facts) -> Vec<(&'static str, Mode)> {
    facts.verdicts.iter().map(|Verdict { decision, mode, .. }| (*decision, *mode)).collect()
}

fn wait_of(step: &Step, host: &Fake) -> Option<Duration> {
    match step {
        Step::Wait(Wait::Until(deadline)) => Some(Duration::from_nanos(deadline - host.now())),
        _ => None,
    }
}

#[test]
fn a_delay_waits_once_and_lets_the_request_go_on() {
    let (host, fault, request) = (Fake::new(), delayed(MILLION, five_seconds()), plain());
    let mut facts = Facts::default();
    let step = fault.delay(&request, &mut facts, &host);
    assert_eq!(wait_of(&step, &host), Some(Duration::from_secs(5)));
    // Woken too early, it waits for the same moment.
    host.advance(Duration::from_secs(4));
    assert_eq!(fault.delay(&request, &mut facts, &host), step);
    host.advance(Duration::from_secs(1));
    assert_eq!(fault.delay(&request, &mut facts, &host), Step::Continue);
    assert_eq!(verdicts(&facts), [("delayed", Mode::Enforce)]);
    assert_eq!(facts.fault.delayed(), Some(Duration::from_secs(5)));
    assert_eq!(facts.decision, Decision::Allowed);
}

#[test]
fn an_abort_answers_as_envoys_fault_filter() {
    for (ending, status, grpc_status) in [(Ending::Http(503), 503, None), (Ending::Grpc(14), 200, Some(14))] {
        let mut facts = Facts::default();
        let step = aborted(MILLION, ending).abort(&plain(), &mut facts, &Fake::new());
        let expected = LocalReply {
            status,
            details: "fault_filter_abort".to_owned(),
            body: b"fault filter abort".to_vec(),
            headers: Vec::new(),
            grpc_status,
        };
        assert_eq!(step, Step::Reply(Box::new(expected)));
        assert_eq!(facts.decision, Decision::FaultAborted);
        assert_eq!(verdicts(&facts), [("aborted", Mode::Enforce)]);
        assert!(facts.fault.aborted());
    }
}

#[test]
fn a_reset_gives_no_answer() {
    let mut facts = Facts::default();
    assert_eq!(aborted(MILLION, Ending::Reset).abort(&plain(), &mut facts, &Fake::new()), Step::Reset);
    assert_eq!(facts.decision, Decision::FaultAborted);
}

#[test]
fn in_shadow_mode_nothing_happens_but_the_verdict() {
    let host = Fake::new();
    let fault = Fault {
        mode: Mode::Shadow,
        abort: aborted(MILLION, Ending::Http(500)).abort,
        ..delayed(MILLION, five_seconds())
    };
    let mut facts = Facts::default();
    assert_eq!(fault.delay(&plain(), &mut facts, &host), Step::Continue);
    assert_eq!(fault.abort(&plain(), &mut facts, &host), Step::Continue);
    assert_eq!(verdicts(&facts), [("delayed", Mode::Shadow), ("aborted", Mode::Shadow)]);
    assert_eq!(facts.decision, Decision::Allowed);
    assert_eq!((facts.fault.delayed(), facts.fault.aborted()), (None, false));
}

/// The counts of 100 000 draws lie within four standard deviations; delay and abort are drawn independently.
#[test]
fn percentages_hold_and_draws_are_independent() {
    let host = Fake::new();
    host.set_seed(7);
    let (delay, abort) = (500_000, 100_000);
    let fault = Fault { abort: aborted(abort, Ending::Http(500)).abort, ..delayed(delay, five_seconds()) };
    let (mut delays, mut aborts, mut both) = (0, 0, 0);
    let draws = 100_000;
    for _ in 0..draws {
        let mut facts = Facts::default();
        let delayed = fault.delay(&plain(), &mut facts, &host) != Step::Continue;
        let aborted = fault.abort(&plain(), &mut facts, &host) != Step::Continue;
        delays += u32::from(delayed);
        aborts += u32::from(aborted);
        both += u32::from(delayed && aborted);
    }
    let share = |parts: u32| f64::from(parts) / f64::from(MILLION);
    for (count, p) in [(delays, share(delay)), (aborts, share(abort)), (both, share(delay) * share(abort))] {
        let n = f64::from(draws);
        let sigma = (n * p * (1.0 - p)).sqrt();
        assert!(
            (f64::from(count) - n * p).abs() < 4.0 * sigma,
            "{count} of {draws}, expected a share of {p}"
        );
    }
}

#[test]
fn small_percentages_hold_too() {
    let host = Fake::new();
    let fault = aborted(100, Ending::Http(500));
    let hit = |_: &u32| fault.abort(&plain(), &mut Facts::default(), &host) != Step::Continue;
    let count = (0..100_000).filter(hit).count();
    // 0.01 %: ten expected.
    assert!((1..=22).contains(&count), "{count}");
}

#[test]
fn nothing_is_asked_of_the_proxy_where_nothing_can_happen() {
    let host = Fake::new();
    let fault = Fault { abort: aborted(0, Ending::Http(500)).abort, ..delayed(0, five_seconds()) };
    let mut facts = Facts::default();
    assert_eq!(fault.delay(&plain(), &mut facts, &host), Step::Continue);
    assert_eq!(fault.abort(&plain(), &mut facts, &host), Step::Continue);
    assert_eq!(host.take_hostcalls().len(), 0);
}

#[test]
fn a_fault_ends_at_its_date_by_the_wall_clock() {
    let host = Fake::new();
    let until = Some(host.wall_clock() + Duration::from_secs(10));
    let fault = Fault { until, ..aborted(MILLION, Ending::Http(500)) };
    assert_ne!(fault.abort(&plain(), &mut Facts::default(), &host), Step::Continue);
    host.advance(Duration::from_secs(10));
    assert_eq!(fault.abort(&plain(), &mut Facts::default(), &host), Step::Continue);
    let fault = Fault { until, ..delayed(MILLION, five_seconds()) };
    assert_eq!(fault.delay(&plain(), &mut Facts::default(), &host), Step::Continue);
}

#[test]
fn what_is_over_the_maximum_passes_and_a_place_is_free_again_when_the_delay_is_over() {
    let host = Fake::new();
    let fault = Fault {
        max_active: Some(ActiveFaults::new(2, "f", Duration::from_secs(5))),
        abort: aborted(MILLION, Ending::Http(500)).abort,
        ..delayed(MILLION, five_seconds())
    };
    let begin = || {
        let mut facts = Facts::default();
        let step = fault.delay(&plain(), &mut facts, &host);
        (facts, step)
    };
    let (mut first, step) = begin();
    assert_ne!(step, Step::Continue);
    let (mut second, step) = begin();
    assert_ne!(step, Step::Continue);
    let (mut over, step) = begin();
    assert_eq!(step, Step::Continue);
    assert_eq!(fault.abort(&plain(), &mut over, &host), Step::Continue, "over it, no abort either");
    assert_eq!(verdicts(&over), []);
    // The first one's client leaves.
    first.fault.release(&host);
    first.fault.release(&host);
    let (_third, step) = begin();
    assert_ne!(step, Step::Continue);
    assert_eq!(begin().1, Step::Continue);
    host.advance(Duration::from_secs(5));
    assert_eq!(fault.delay(&plain(), &mut second, &host), Step::Continue);
    assert_ne!(
        fault.abort(&plain(), &mut second, &host),
        Step::Continue,
        "delayed, so part of the same fault"
    );
    second.fault.release(&host);
    assert_ne!(begin().1, Step::Continue);
    assert_eq!(begin().1, Step::Continue);
}

#[test]
fn headers_say_what_to_do_within_what_is_configured() {
    let fault = Fault { abort: aborted(MILLION, Ending::Headers).abort, ..delayed(MILLION, Delay::Headers) };
    let host = Fake::new();
    let delay = |value: &str| {
        let request = request(&[("x-envoy-fault-delay-request", value)]);
        wait_of(&fault.delay(&request, &mut Facts::default(), &host), &host)
    };
    assert_eq!(delay("200"), Some(Duration::from_millis(200)));
    for nothing in ["0", "abc", "-1", "", "1.5"] {
        assert_eq!(delay(nothing), None, "{nothing}");
    }
    assert_eq!(delay("99999999999999"), Some(headers::MAX_DELAY));
    let abort = |headers: &[(&str, &str)]| match fault.abort(&request(headers), &mut Facts::default(), &host)
    {
        Step::Reply(reply) => Some((reply.status, reply.grpc_status)),
        _ => None,
    };
    let (http, grpc) = ("x-envoy-fault-abort-request", "x-envoy-fault-abort-grpc-request");
    assert_eq!(abort(&[(http, "429")]), Some((429, None)));
    assert_eq!(abort(&[(http, "429"), (grpc, "5")]), Some((429, None)));
    assert_eq!(abort(&[(http, "199"), (grpc, "5")]), Some((200, Some(5))));
    assert_eq!(abort(&[(http, "429"), (http, "503")]), Some((429, None)), "only the first value counts");
    for nothing in [[(http, "199")], [(http, "600")], [(http, "abc")], [(grpc, "-1")], [("x", "y")]] {
        assert_eq!(abort(&nothing), None, "{nothing:?}");
    }
}

#[test]
fn a_percentage_in_a_header_only_lowers_the_configured_one() {
    let name = "x-envoy-fault-abort-request-percentage";
    for (value, expected) in [
        ("abc", 800_000),
        ("-1", 800_000),
        ("90", 800_000),
        ("60", 600_000),
        ("0", 0),
        ("4294967295", 800_000),
    ] {
        assert_eq!(headers::abort_percentage(&request(&[(name, value)]), 800_000), expected, "{value}");
    }
    assert_eq!(headers::delay_percentage(&request(&[(name, "1")]), 800_000), 800_000);
}

/// Mean and standard deviation of many draws, in seconds, and the shortest and the longest.
fn sample(delay: Delay) -> (f64, f64, f64, f64) {
    let host = Fake::new();
    let draw = |_| delay.length(&plain(), &host).map_or(0.0, |length| length.as_secs_f64());
    let draws: Vec<f64> = (0..100_000).map(draw).collect();
    let n = draws.len() as f64;
    let mean = draws.iter().sum::<f64>() / n;
    let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / n;
    let (shortest, longest) =
        draws.iter().fold((f64::MAX, 0.0_f64), |(a, b), draw| (a.min(*draw), b.max(*draw)));
    (mean, variance.sqrt(), shortest, longest)
}

#[test]
fn distributions_have_their_means_and_bounds() {
    let seconds = Duration::from_secs;
    for (delay, mean, deviation) in [
        (Delay::Uniform { min: seconds(2), max: seconds(4) }, 3.0, 2.0 / 12_f64.sqrt()),
        (Delay::Normal { mean: seconds(10), stddev: seconds(1) }, 10.0, 1.0),
        (Delay::Exponential { mean: seconds(2) }, 2.0, 2.0),
    ] {
        let (found_mean, found_deviation, shortest, longest) = sample(delay);
        let sigma = deviation / 100_000_f64.sqrt();
        assert!((found_mean - mean).abs() < 4.0 * sigma + 0.001, "{delay:?}: mean {found_mean}");
        assert!(
            (found_deviation - deviation).abs() < 0.03 * deviation,
            "{delay:?}: deviation {found_deviation}"
        );
        assert!(longest <= delay.longest().as_secs_f64(), "{delay:?}: {longest}");
        assert!(!matches!(delay, Delay::Uniform { .. }) || shortest >= 2.0);
    }
    // A bell that reaches below zero gives undelayed requests, never an error.
    let wide = Delay::Normal { mean: seconds(1), stddev: seconds(10) };
    let (_, _, shortest, longest) = sample(wide);
    assert!(shortest == 0.0 && longest <= 61.0);
    let endless = Delay::Exponential { mean: Duration::MAX };
    assert!(endless.length(&plain(), &Fake::new()).is_some());
}
