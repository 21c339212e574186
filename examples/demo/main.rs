//! `make demo`: the policies of the usual service-mesh guides, decided on real requests by the module in a stock Envoy.
//!
//! Every step says what it expects and what came. Envoy stays up for you to try until Ctrl-C; with `ONCE=1` the demo
//! ends by itself, and fails if a step did not do what it says.

mod console;
mod http;
mod proxy;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use console::Console;
use http::Request;
use proxy::{Proxy, Result};
use support::check::Series;
use support::envoy::native::is_native;

const SPLIT: usize = 1000;
const FAULTS: usize = 300;
const BUCKET: usize = 100;

fn main() -> ExitCode {
    let mut console = Console::new();
    match run(&mut console) {
        Ok(()) if console.failures() == 0 => ExitCode::SUCCESS,
        Ok(()) => {
            console.line(format!("\n{} expectation(s) were not met", console.failures()));
            ExitCode::FAILURE
        }
        Err(error) => {
            console.line(format!("\nthe demo cannot go on: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(console: &mut Console) -> Result<()> {
    let begin = Instant::now();
    console.progress("starting Envoy");
    let proxy = Proxy::start()?;
    console.line(format!(
        "Envoy 1.40.0 with {} on http://localhost:{}, ready in {:.1} s",
        if is_native() { "libmeshfilter.so" } else { "meshfilter.wasm" },
        proxy.port,
        begin.elapsed().as_secs_f64()
    ));
    console.note("policy: that of envoy/envoy.yaml");

    canary(console, &proxy)?;
    split(console, &proxy)?;
    identity(console, &proxy)?;
    faults(console, &proxy)?;
    limit(console, &proxy)?;
    tags(console, &proxy)?;
    metrics(console, &proxy)?;

    console.line(format!("\nDone in {:.0} s.", begin.elapsed().as_secs_f64()));
    if std::env::var("ONCE").is_ok_and(|once| once == "1") {
        return Ok(());
    }
    try_yourself(console, &proxy);
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn canary(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("A header chooses the canary");
    let request = Request::get("/").header("canary", "true");
    console.note(request.curl(proxy.port));
    let mut reached = 0;
    for _ in 0..20 {
        reached += usize::from(proxy.send(&request)?.upstream() == "v2");
    }
    console.check("20 requests with canary: true", "20 reach v2", format!("{reached}"), reached == 20);
    Ok(())
}

fn split(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("Everyone else is split 90 to 10");
    let request = Request::get("/");
    let (mut v1, mut v2) = (0, 0);
    for sent in 0..SPLIT {
        if sent % 25 == 0 {
            console.progress(format!("{sent} of {SPLIT} requests"));
        }
        match proxy.send(&request)?.upstream().as_str() {
            "v1" => v1 += 1,
            "v2" => v2 += 1,
            _ => {}
        }
    }
    console.bar("v1", v1, SPLIT);
    console.bar("v2", v2, SPLIT);
    let (low, high) = around(0.1, SPLIT);
    let met = v1 + v2 == SPLIT && (low..=high).contains(&v2);
    console.check(&format!("{SPLIT} requests"), format!("{low} to {high} reach v2"), v2, met);
    Ok(())
}

fn identity(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("Tokens say who is asking, and policies whether they may");
    let good = token("alice", "acme", json!({}));
    let request = || Request::get("/api/orders").header("user-role", "user");
    console.note("curl -H 'authorization: Bearer …' -H 'user-role: user' /api/orders");
    for (what, request, status, body) in [
        ("no token", request(), 401, "Jwt is missing"),
        (
            "an expired one",
            request().bearer(&token("alice", "acme", json!({"exp": "-1h"}))),
            401,
            "Jwt is expired",
        ),
        (
            "one for someone else",
            request().bearer(&token("alice", "acme", json!({"aud": "billing"}))),
            403,
            "Audiences in Jwt are not allowed",
        ),
        ("one that was tampered with", request().bearer(&tampered(&good)), 401, "Jwt verification fails"),
        (
            "a good one, without the role",
            Request::get("/api/orders").bearer(&good),
            403,
            "RBAC: access denied",
        ),
        ("a good one, with the role", request().bearer(&good), 200, "x-user=alice"),
    ] {
        let answer = proxy.send(&request)?;
        let met = answer.status == status && answer.body.contains(body);
        let came = format!("{} {}", answer.status, answer.body);
        console.check(what, format!("{status} {body}"), came, met);
    }
    Ok(())
}

fn faults(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("Faults: half of the test requests wait 5 s, a tenth is aborted");
    let request = Request::get("/").header("test-fault", "true");
    console.note(request.curl(proxy.port));
    console.progress(format!("{FAULTS} requests at once, half of them for 5 s"));
    let answers = proxy.send_at_once(&request, FAULTS)?;
    let delays: Vec<f64> =
        answers.iter().map(|answer| answer.took.as_secs_f64()).filter(|seconds| *seconds > 2.0).collect();
    let aborted = answers.iter().filter(|answer| answer.status == 500).count();

    let (low, high) = around(0.5, FAULTS);
    let met = (low..=high).contains(&delays.len());
    console.check(
        &format!("of {FAULTS} requests"),
        format!("{low} to {high} are delayed"),
        delays.len(),
        met,
    );
    let (shortest, longest) =
        delays.iter().fold((f64::MAX, 0.0_f64), |(low, high), delay| (low.min(*delay), high.max(*delay)));
    let met = shortest >= 5.0 && longest < 6.0;
    console.check(
        "the delays",
        "5 s, and less than 1 s more",
        format!("{shortest:.3} to {longest:.3} s"),
        met,
    );
    let (low, high) = around(0.1, FAULTS);
    let met = (low..=high).contains(&aborted);
    console.check(&format!("of {FAULTS} requests"), format!("{low} to {high} are aborted"), aborted, met);
    Ok(())
}

fn limit(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("A bucket of 100 requests a minute for every user");
    let request = |user: &str| {
        Request::get("/api/orders").header("user-role", "user").bearer(&token(user, "initech", json!({})))
    };
    let request_of_bob = request("bob");
    let (mut passed, mut refused) = (0, None);
    for sent in 0..BUCKET + 20 {
        console.progress(format!("{sent} requests of bob"));
        match proxy.send(&request_of_bob)? {
            answer if answer.status == 200 => passed += 1,
            answer => refused = Some(answer),
        }
    }
    // The bucket refills while it is emptied: by 5 tokens in 3 s.
    let met = (BUCKET..BUCKET + 5).contains(&passed);
    console.check("120 requests of bob", "100 pass, and what refills", passed, met);
    let retry_after = refused.as_ref().and_then(|answer| answer.header("retry-after")).unwrap_or_default();
    let (status, body) = refused.map_or((0, String::new()), |answer| (answer.status, answer.body));
    let came = format!("{status} {body}, retry-after: {retry_after}");
    let met = status == 429 && retry_after == "1";
    console.check("the others", "429, retry-after: 1", came, met);
    let status = proxy.send(&request("carol"))?.status;
    console.check("a request of carol", 200, status, status == 200);
    Ok(())
}

fn tags(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("The tenant of the token is a tag in logs and metrics");
    let request = Request::get("/api/orders")
        .header("user-role", "admin")
        .header("x-request-id", "demo-1")
        .bearer(&token("dave", "globex", json!({})));
    proxy.send(&request)?;

    let logged = eventually(|| {
        let log = proxy.access_log()?;
        Ok(log.lines().find(|line| line.contains("tenant=\"globex\"")).map(str::to_owned))
    })?;
    let met = logged.as_ref().is_some_and(|line| line.contains("request_id=\"demo-1\""));
    let came = if met { "both, in" } else { "no such line" };
    console.check("the access log", "tenant=\"globex\" request_id=\"demo-1\"", came, met);
    if let Some(line) = logged {
        console.note(line);
    }

    for (tenant, decision) in [("globex", "allowed"), ("initech", "rate_limited")] {
        let has = |series: &Series, label: &str, value: &str| {
            series.labels.get(label).is_some_and(|found| found == value)
        };
        let counted = eventually(|| {
            let series = proxy.counter("meshfilter_requests_total")?;
            let found = |(series, _): &(Series, u64)| {
                has(series, "tenant", tenant) && has(series, "decision", decision)
            };
            // A series stands at 0 until the module tells what it counted, half a second later.
            Ok(series.into_iter().find(found).map(|(_, value)| value).filter(|value| *value > 0))
        })?;
        let came = counted.map_or("no such series".to_owned(), |value| value.to_string());
        let expected = format!("tenant=\"{tenant}\" decision=\"{decision}\"");
        console.check("a series of /stats/prometheus", expected, came, counted.is_some());
    }
    Ok(())
}

fn metrics(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("What meshfilter_requests_total says about all of it");
    let total = |series: &[(Series, u64)]| series.iter().map(|(_, value)| value).sum::<u64>();
    let all = eventually(|| {
        let series = proxy.counter("meshfilter_requests_total")?;
        Ok((total(&series) >= proxy.sent()).then_some(series))
    })?;
    let series = all.map_or_else(|| proxy.counter("meshfilter_requests_total"), Ok)?;

    let labels = ["route", "destination", "decision", "response_code"];
    let mut rows = BTreeMap::<[&str; 4], u64>::new();
    for (series, value) in &series {
        *rows.entry(labels.map(|label| series.labels.get(label).map_or("", String::as_str))).or_default() +=
            value;
    }
    let row = |[route, destination, decision, code]: [&str; 4], value: &str| {
        format!("   {route:<18} {destination:<12} {decision:<16} {code:>4} {value:>8}")
    };
    console.line(console.paint("1", row(["route", "destination", "decision", "code"], "requests")));
    for (labels, value) in rows {
        console.line(row(labels, &value.to_string()));
    }
    let counted = total(&series);
    let met = counted == proxy.sent();
    console.check("every request is counted once", proxy.sent(), counted, met);
    Ok(())
}

fn try_yourself(console: &Console, proxy: &Proxy) {
    let alice = token("alice", "acme", json!({}));
    console.line("Envoy stays up until Ctrl-C. Try:\n");
    for request in [
        Request::get("/"),
        Request::get("/").header("canary", "true"),
        Request::get("/").header("test-fault", "true"),
        Request::get("/api/orders"),
        Request::get("/api/orders").header("user-role", "user").bearer(&alice),
    ] {
        console.line(format!("  {}", request.curl(proxy.port)));
    }
    console.line(format!("  curl -s localhost:{}/stats/prometheus | grep ^meshfilter_\n", proxy.admin));
}

/// A token of the demo's issuer, good for an hour. `claims` are laid over its own.
fn token(user: &str, tenant: &str, claims: Value) -> String {
    let mut all = json!({
        "iss": "https://auth.example.com",
        "aud": "webapp-api",
        "sub": user,
        "tenant": tenant,
        "exp": "+1h",
    });
    if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
        all.extend(claims);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    support::token::sign("rsa1", "RS256", &Map::new(), &all, now).expect("the test keys sign")
}

/// The same token with another payload under the old signature.
fn tampered(token: &str) -> String {
    let forged = self::token("mallory", "acme", json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let payload = forged.split('.').nth(1).unwrap_or_default();
    [parts[0], payload, parts[2]].join(".")
}

/// What lies within four standard deviations of a share of so many draws.
fn around(share: f64, draws: usize) -> (usize, usize) {
    let (mean, deviation) = (share * draws as f64, (share * (1.0 - share) * draws as f64).sqrt());
    ((mean - 4.0 * deviation).ceil() as usize, (mean + 4.0 * deviation).floor() as usize)
}

/// Asks until there is an answer, for 3 s: logs and counters are written with a little delay.
fn eventually<T>(ask: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
    let begin = Instant::now();
    loop {
        match ask()? {
            None if begin.elapsed() < Duration::from_secs(3) => sleep(Duration::from_millis(100)),
            answer => return Ok(answer),
        }
    }
}
