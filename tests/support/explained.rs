//! Holds `meshfilter explain` to Envoy: what it says of a request is what Envoy with the module did with it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use meshfilter::config::Errors;
use meshfilter::config::source::{Language, Source};
use meshfilter::trace::{self, Event};
use meshfilter_cli::explain::{Document, Story, tell};
use meshfilter_cli::proxy::{self, Proxy, Settings, called, upstream_name};
use serde_json::Value;

use super::case::Case;
use super::check::{Exchange, Headers};

/// What depends on how fast the requests came one after the other.
const TIMED: [&str; 3] = ["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"];
/// What the proxies write each by themselves.
const OWN: [&str; 6] =
    [":path", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "content-type", ":scheme"];

/// Details of refusals before any filter.
const OF_ENVOY: [&str; 2] = ["absolute_path_rejected", "path_normalization_failed"];

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A policy that explains requests, one after the other.
pub struct Explainer {
    document: Document,
    proxies: Vec<Proxy>,
}

/// What it says of one, with different random numbers, and whether they decide about it.
pub struct Explained {
    told: Vec<(Story, proxy::Answer)>,
    is_drawn: bool,
}

impl Explainer {
    pub fn new(case: &Case) -> Result<Self, String> {
        Self::with(&case.policy, &case.environment, case.clusters.clone())
    }

    /// In an Envoy that has these clusters; none: every one.
    pub fn with(
        policy: &Value,
        environment: &BTreeMap<String, String>,
        clusters: Option<Vec<String>>,
    ) -> Result<Self, String> {
        let source = Source::read(Language::Json, &policy.to_string(), &Errors::default())
            .map_err(|error| error.message)?;
        let start = |seed: u64| {
            let settings = Settings {
                environment: environment.clone(),
                seed: Some(seed),
                now: Some(now()),
                clusters: clusters.clone(),
                ..Settings::default()
            };
            Proxy::start(policy, settings).map_err(|errors| format!("{errors:?}"))
        };
        let proxies = (1..=3).map(start).collect::<Result<_, _>>()?;
        Ok(Explainer { document: Document { file: "policy.json".to_owned(), source }, proxies })
    }

    pub fn explain(&mut self, request: &proxy::Request) -> Explained {
        let mut is_drawn = false;
        let one = |proxy: &mut Proxy| {
            proxy.host.set_wall_clock(now());
            let (answer, events) = trace::listen(|| proxy.send(request));
            is_drawn |= events.iter().any(is_a_draw);
            (tell(&self.document, &events, request, &answer, Default::default()), answer)
        };
        let told: Vec<(Story, proxy::Answer)> = self.proxies.iter_mut().map(one).collect();
        // A cookie that the request did not have is drawn, and with it the arm.
        let mut cookies = told.iter().map(|(_, answer)| values(&answer.headers, "set-cookie"));
        let first = cookies.next();
        is_drawn |= cookies.any(|other| Some(other) != first);
        Explained { told, is_drawn }
    }
}

impl Explained {
    /// Everything in which it differs from what Envoy did.
    pub fn differences(&self, exchange: &Exchange) -> Vec<String> {
        self.differences_but(exchange, &[])
    }

    /// [`Self::differences`], without response headers that the upstream gave.
    pub fn differences_but(&self, exchange: &Exchange, of_the_upstream: &[&str]) -> Vec<String> {
        let envoy = &exchange.answer;
        let mut found = Vec::new();
        let Some((story, answer)) = self.told.first() else { return found };
        // What Envoy itself refuses never comes to the filter.
        if self.is_drawn || OF_ENVOY.contains(&envoy.details.as_str()) {
            return found;
        }
        let mut compare = |what: &str, explained: String, got: String| {
            if explained != got {
                found.push(format!("explain says that {what} is {explained}, with Envoy it is {got}"));
            }
        };
        compare("status", format!("{:?}", story.answer.status), format!("{:?}", envoy.status));
        if envoy.status.is_some() {
            compare("details", story.answer.details.clone(), envoy.details.clone());
        }
        if let Some(decision) = decision_of(&envoy.details, envoy.status) {
            compare("decision", story.decision.to_string(), decision.to_owned());
        }
        let upstream = |name: Option<&str>| name.unwrap_or("none").to_owned();
        if exchange.decided {
            compare("decision", story.decision.to_string(), envoy.decision.to_string());
            compare("route", upstream(story.route.as_deref()), upstream(envoy.route.as_deref()));
            compare(
                "destination",
                upstream(story.destination.as_deref()),
                upstream(envoy.destination.as_deref()),
            );
        }
        compare(
            "who answered",
            upstream(story.upstream.as_ref().map(|upstream| upstream_name(&upstream.cluster))),
            upstream(envoy.upstream.as_ref().map(|seen| called(upstream_name(&seen.cluster)))),
        );
        for name in self.fixed(|answer| &answer.headers) {
            if of_the_upstream.contains(&name.as_str()) {
                continue;
            }
            let [explained, got] = [values(&answer.headers, &name), values(&envoy.headers, &name)];
            compare(&format!("response header {name}"), explained, got);
        }
        if let (Some(explained), Some(got)) = (&answer.upstream, &envoy.upstream) {
            let text = |path: &[u8]| path.escape_ascii().to_string();
            compare("path at the upstream", text(&explained.path), text(&got.path));
            for (name, _) in &explained.headers {
                if !OWN.contains(&name.as_str()) && !name.starts_with("x-meshfilter-") {
                    let [explained, got] = [values(&explained.headers, name), values(&got.headers, name)];
                    compare(&format!("header {name} at the upstream"), explained, got);
                }
            }
        }
        found
    }

    /// The names of headers that are the same whatever is drawn, and however fast requests come.
    fn fixed(&self, headers: impl Fn(&proxy::Answer) -> &Headers) -> Vec<String> {
        let all: Vec<&Headers> = self.told.iter().map(|(_, answer)| headers(answer)).collect();
        let Some(first) = all.first() else { return Vec::new() };
        let mut names: Vec<String> = first.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| {
            !TIMED.contains(&name.as_str())
                && !OWN.contains(&name.as_str())
                && name != ":status"
                && all.iter().all(|other| values(other, name) == values(first, name))
        });
        names
    }
}

/// Whether a random number decided.
fn is_a_draw(event: &Event) -> bool {
    match event {
        Event::Split { shares, sticky, .. } => !sticky && shares.len() > 1,
        Event::Draw { parts_per_million, .. } | Event::Mirror { parts_per_million, .. } => {
            (1..1_000_000).contains(parts_per_million)
        }
        _ => false,
    }
}

fn values(headers: &Headers, name: &str) -> String {
    let all = headers.iter().filter(|(known, _)| known == name);
    all.map(|(_, value)| value.escape_ascii().to_string()).collect::<Vec<_>>().join(", ")
}

/// The decision that Envoy's details tell of, where they do.
fn decision_of(details: &str, status: Option<u16>) -> Option<&'static str> {
    let begins = |start: &str| details.starts_with(start);
    status?;
    if begins("via_upstream") {
        Some("allowed")
    } else if begins("jwt_authn_access_denied") {
        Some("authn_denied")
    } else if begins("rbac_access_denied") || begins("meshfilter_ambiguous_path") {
        Some("authz_denied")
    } else if begins("local_rate_limited") || begins("meshfilter_rate_limit") {
        Some("rate_limited")
    } else if begins("fault_filter_abort") {
        Some("fault_aborted")
    } else {
        None
    }
}
