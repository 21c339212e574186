//! Several workers, one bucket.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use super::hosts::{Interrupted, Shared, Worker};
use super::*;

#[test]
fn workers_that_come_between_each_other_pass_no_more_than_the_bucket_has() {
    let fake = Fake::new();
    let (mine, others) = (policy(&per_user(1000), &fake), policy(&per_user(1000), &fake));
    let passed = Cell::new(0);
    let count = |passes: bool| passed.set(passed.get() + u32::from(passes));
    // Before two writes of three another worker takes one token: up to several mismatches in a row.
    let other = |writes: u64| {
        if !writes.is_multiple_of(3) {
            count(passes(&others, &fake, &[("x-user", "a")]));
        }
    };
    let host = Interrupted { fake: &fake, other: &other, writes: Cell::new(0) };
    for _ in 0..2000 {
        count(passes(&mine, &host, &[("x-user", "a")]));
    }
    assert!(host.writes.get() > 500);
    assert_eq!(passed.get(), 1000);
    assert!(fake.metric_value("meshfilter_cas_retries_total") > 300);
}

#[test]
fn who_is_slower_every_time_is_refused_in_the_end() {
    let fake = Fake::new();
    let (mine, others) = (policy(&per_user(100_000), &fake), policy(&per_user(100_000), &fake));
    let other = |_| assert!(passes(&others, &fake, &[("x-user", "a")]));
    let host = Interrupted { fake: &fake, other: &other, writes: Cell::new(0) };
    let reply = refused(take(&mine, &host, &[("x-user", "a")]).0);
    assert_eq!((reply.status, headers(&reply)[0]), (429, ("retry-after", "1")));
    assert_eq!(host.writes.get(), 101);
    assert_eq!(fake.metric_value("meshfilter_cas_retries_total"), 101);
}

#[test]
fn what_was_taken_is_given_back_when_a_later_bucket_is_emptied_meanwhile() {
    let fake = Fake::new();
    let limits = json!([
        {"name": "wide", "tokenBucket": bucket(5)},
        {"name": "narrow", "key": [{"header": "x-user"}], "tokenBucket": bucket(1)},
    ]);
    let (mine, others) = (policy(&limits, &fake), policy(&limits, &fake));
    // Between the look at both buckets and the first write, the other worker takes from both.
    let other = |writes: u64| {
        if writes == 1 {
            assert!(passes(&others, &fake, &[("x-user", "a")]));
        }
    };
    let host = Interrupted { fake: &fake, other: &other, writes: Cell::new(0) };
    let (step, facts) = take(&mine, &host, &[("x-user", "a")]);
    refused(step);
    let words: Vec<_> = facts.verdicts.iter().map(|verdict| verdict.decision).collect();
    assert_eq!(words, ["allowed", "limited"]);
    // One of the five was really taken: four more users pass.
    let passed = (0..9).filter(|user| passes(&mine, &fake, &[("x-user", &user.to_string())])).count();
    assert_eq!(passed, 4);
}

/// Runs so many workers on threads of their own until each says that it is done, and one more afterwards that takes
/// what is left; what passed in all.
fn run(workers: usize, limits: &Value, done: impl Fn(u32, Duration) -> bool + Sync) -> usize {
    let (shared, started) = (Shared::default(), Instant::now());
    let send = |goes_on: &dyn Fn(u32, bool) -> bool| {
        let host = Worker::new(shared.clone(), started);
        let policy = policy(limits, &host);
        let mut passed = 0;
        for count in 0.. {
            let passes = passes(&policy, &host, &[("x-user", "a")]);
            passed += usize::from(passes);
            if !goes_on(count, passes) {
                break;
            }
        }
        passed
    };
    let passed = thread::scope(|scope| {
        let worker = || send(&|count, _| !done(count, started.elapsed()));
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
    });
    passed + send(&|_, passes| passes)
}

#[test]
fn four_workers_pass_exactly_what_one_bucket_has() {
    for _ in 0..5 {
        assert_eq!(run(4, &per_user(1000), |count, _| count >= 1000), 1000);
    }
}

#[test]
fn four_workers_under_load_pass_bucket_and_refill_and_hardly_less() {
    // A bucket of a second's refill: even on a busy machine no worker sleeps for so long that it overflows.
    let sizes = json!({"maxTokens": 2000, "tokensPerFill": 2000, "fillInterval": "1s"});
    let limits = json!([{"key": [{"header": "x-user"}], "tokenBucket": sizes}]);
    let (started, length) = (Instant::now(), Duration::from_secs(2));
    let passed = run(4, &limits, |_, elapsed| elapsed > length) as f64;
    let most = 2000.0 + 2000.0 * started.elapsed().as_secs_f64();
    let least = (2000.0 + 2000.0 * length.as_secs_f64()) * 0.99;
    assert!(passed <= most, "{passed} of {most}");
    assert!(passed >= least, "{passed}, less than {least}");
}
