//! `make demo`: the policies of the usual service-mesh guides, decided on real requests by the module in a stock Envoy.
//!
//! Every step says what it expects and what came. Envoy stays up for you to try until Ctrl-C; with `ONCE=1` the demo
//! ends by itself, and fails if a step did not do what it says.

mod console;
mod http;
mod proxy;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use console::Console;
use http::Request;
use proxy::{Proxy, Result};

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
        "Envoy 1.40.0 with meshfilter.wasm on http://localhost:{}, ready in {:.1} s",
        proxy.port,
        begin.elapsed().as_secs_f64()
    ));
    console.note("bootstrap and policy: envoy/envoy.yaml");

    canary(console, &proxy)?;
    split(console, &proxy)?;
    identity(console, &proxy)?;
    faults(console, &proxy)?;
    limit(console, &proxy)?;
    tags(console, &proxy)?;

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
        reached += usize::from(request.send(proxy.port)?.upstream() == "v2");
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
        match request.send(proxy.port)?.upstream() {
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
        let answer = request.send(proxy.port)?;
        let met = answer.status == status && answer.body.contains(body);
        let came = answer.body.trim_end();
        console.check(what, format!("{status} {body}"), format!("{} {came}", answer.status), met);
    }
    Ok(())
}

fn faults(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("Faults: half of the test requests wait 5 s, a tenth is aborted");
    let request = Request::get("/").header("test-fault", "true");
    console.note(request.curl(proxy.port));
    console.progress(format!("{FAULTS} requests at once, half of them for 5 s"));
    let answers = request.send_at_once(proxy.port, FAULTS)?;
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
        match request_of_bob.send(proxy.port)? {
            answer if answer.status == 200 => passed += 1,
            answer => refused = Some(answer),
        }
    }
    // The bucket refills while it is emptied: by 5 tokens in 3 s.
    let met = (BUCKET..BUCKET + 5).contains(&passed);
    console.check("120 requests of bob", "100 pass, and what refills", passed, met);
    let came = refused.as_ref().map_or("none is refused".to_owned(), |answer| {
        format!(
            "{} {}, retry-after: {}",
            answer.status,
            answer.body.trim_end(),
            answer.header("retry-after").unwrap_or("-")
        )
    });
    let met = refused.is_some_and(|answer| answer.status == 429 && answer.header("retry-after") == Some("1"));
    console.check("the others", "429, retry-after: 1", came, met);
    let status = request("carol").send(proxy.port)?.status;
    console.check("a request of carol", 200, status, status == 200);
    Ok(())
}

fn tags(console: &mut Console, proxy: &Proxy) -> Result<()> {
    console.step("The tenant of the token is a tag in logs and metrics");
    let request = Request::get("/api/orders")
        .header("user-role", "admin")
        .header("x-request-id", "demo-1")
        .bearer(&token("dave", "globex", json!({})));
    request.send(proxy.port)?;

    let logged = eventually(|| {
        let log = proxy.access_log()?;
        Ok(log.lines().find(|line| line.contains("globex") && line.contains("demo-1")).map(str::to_owned))
    })?;
    let met = logged.is_some();
    let came = if met { "both" } else { "no such line" };
    console.check("the access log", "tenant globex, request demo-1", came, met);
    console.note(logged.unwrap_or_default());

    let series = |labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        eventually(move || {
            let stats = proxy.stats()?;
            let counters = stats.lines().filter(|line| line.starts_with("meshfilter_requests_total{"));
            Ok(counters
                .filter(|line| labels.iter().all(|label| line.contains(label)))
                .map(str::to_owned)
                .next())
        })
    };
    for (what, labels) in [
        ("/stats/prometheus: the request of dave", ["tenant=\"globex\"", "decision=\"allowed\""]),
        ("/stats/prometheus: the refused ones of bob", ["tenant=\"initech\"", "decision=\"rate_limited\""]),
    ] {
        let counted = series(&labels)?;
        let came =
            counted.as_deref().and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned());
        console.check(what, labels.join(" "), came.as_deref().unwrap_or("no such series"), counted.is_some());
        console.note(counted.unwrap_or_default());
    }
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
