//! Joins a line of the log with `explain`: the code of the request path decides again, and says by which rule, field and value.

use std::time::Duration;

use meshfilter::trace;
use serde::Serialize;
use serde_json::{Map, Value};

use super::line::Line;
use crate::explain::{Document, Story, tell};
use crate::member::member;
use crate::package::Problem;
use crate::proxy::{Normalized, Proxy, Request, Settings, StandIn, normalize, put_keys};
use crate::recorded::tags::{Names, Tags};
use crate::recorded::{self, Recorded};

/// What is behind a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Who decided, where it stands, and the condition with the value that it saw.
    pub reason: String,
    /// Whether the policy decides the recorded request as the log says.
    pub agrees: bool,
}

/// A policy that explains.
pub struct Explainer {
    document: Document,
    policy: Value,
    tags: Tags,
    /// For policies that remember nothing.
    proxy: Option<Proxy>,
    remembers: bool,
}

impl Explainer {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(document: Document, keys: Option<&Value>) -> Result<Self, Problem> {
        let mut policy = document.source.value.clone();
        if let Some(keys) = keys {
            put_keys(&mut policy, keys);
        }
        StandIn::prepare(&mut policy);
        let tags = Tags::of(&policy);
        if let Some(members) = policy.as_object_mut() {
            // It decides nothing, and its histograms would grow with the requests.
            members.remove("telemetry");
        }
        let filled = |name: &str| member(&policy, name).as_array().is_some_and(|list| !list.is_empty());
        let mut explainer = Explainer {
            remembers: filled("rateLimits") || has_max_active(&policy),
            tags,
            document,
            policy,
            proxy: None,
        };
        explainer.proxy = Some(explainer.start(None)?);
        Ok(explainer)
    }

    /// What the policy calls route, decision and destination in logs.
    pub fn names(&self) -> &Names {
        &self.tags.names
    }

    fn start(&self, now: Option<Duration>) -> Result<Proxy, Problem> {
        let settings =
            Settings { seed: Some(1), now, environment: std::env::vars().collect(), ..Settings::default() };
        Proxy::start(&self.policy, settings).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Problem::Wrong(format!("{}: the policy is refused\n{}", self.document.file, lines.join("\n")))
        })
    }

    /// The route that the policy chooses for this line.
    pub fn route(&mut self, value: &Value, line: &Line) -> Option<String> {
        self.decide(value, line).ok()?.0.route
    }

    /// Why this line came out as it did.
    pub fn why(&mut self, value: &Value, line: &Line) -> Why {
        let (story, told) = match self.decide(value, line) {
            Ok(decided) => decided,
            Err(error) => return Why { reason: error, agrees: false },
        };
        let logged = line.decision.as_deref().unwrap_or("allowed");
        let details = line.details.as_deref().unwrap_or_default();
        if story.decision == logged
            && (details.is_empty() || logged == "allowed" || story.answer.details == details)
        {
            return self.agreed(&story, line);
        }
        let unknown = match told {
            true => "",
            false => "; headers, cookies, the query and claims are in the log where they are tags",
        };
        match logged {
            "rate_limited" => {
                let limits = story.looked("limit");
                match limits.is_empty() {
                    true => Why {
                        reason: format!("no limit of this policy applies to what the log says{unknown}"),
                        agrees: false,
                    },
                    false => Why {
                        reason: limits.iter().map(|limit| emptied(limit)).collect::<Vec<_>>().join("; "),
                        agrees: true,
                    },
                }
            }
            "fault_aborted" => {
                let faults = story.looked("fault");
                match faults.is_empty() {
                    true => Why {
                        reason: format!("no fault of this policy applies to what the log says{unknown}"),
                        agrees: false,
                    },
                    false => Why { reason: faults.join("; "), agrees: true },
                }
            }
            "authn_denied" => {
                let said =
                    details.strip_prefix("jwt_authn_access_denied{").and_then(|text| text.strip_suffix('}'));
                let said = said.unwrap_or(details).replace('_', " ");
                let asked = story.looked("authenticate");
                Why { reason: format!("{said}; {}", asked.join("; ")), agrees: story.decision == logged }
            }
            _ => Why {
                reason: format!("this policy says {}: {}{unknown}", story.decision, story.reason()),
                agrees: false,
            },
        }
    }

    /// Where the log says to which destination it went, that one was drawn, or it is another policy's.
    fn agreed(&self, story: &Story, line: &Line) -> Why {
        let (Some(logged), Some(told)) = (line.destination.as_deref(), story.destination.as_deref()) else {
            return Why { reason: story.reason(), agrees: true };
        };
        match story.reason_for(logged) {
            _ if told == logged || logged == "none" => Why { reason: story.reason(), agrees: true },
            Some(reason) => Why { reason, agrees: true },
            None => Why {
                reason: format!("this policy says destination {told}: {}", story.reason()),
                agrees: false,
            },
        }
    }

    /// The story of the request, and whether the line has headers or claims of its own.
    fn decide(&mut self, value: &Value, line: &Line) -> Result<(Story, bool), String> {
        let mut recorded = recorded::read_value(value)?;
        let told = value.get("headers").is_some() || recorded.claims.is_some();
        recorded.line = Some(value.clone());
        self.tags.fill(&mut recorded);
        let Recorded { mut request, claims, time, .. } = recorded;
        let now = time.unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
        });
        let mut claims = claims.unwrap_or_default();
        match normalize(&request.path) {
            Normalized::Path(path) => request.path = path,
            Normalized::Refused => {
                return Err("Envoy answers this path with 400 before the filter sees it".to_owned());
            }
        }
        let refused = line.decision.as_deref() == Some("authn_denied");
        // Whoever was aborted drew a number within the chance.
        let random = (line.decision.as_deref() == Some("fault_aborted")).then_some(0);
        let mut story =
            self.tell(&request, Some(&claims).filter(|claims| !claims.is_empty()), now, random)?;
        // Who came past authentication had a token that the log does not have.
        if story.decision == "authn_denied" && !refused {
            claims.entry("sub").or_insert_with(|| "someone".into());
            story = self.tell(&request, Some(&claims), now, random)?;
        }
        Ok((story, told))
    }

    fn tell(
        &mut self,
        request: &Request,
        claims: Option<&Map<String, Value>>,
        now: Duration,
        random: Option<u64>,
    ) -> Result<Story, String> {
        let mut request = request.clone();
        if let Some(claims) = claims
            && let Ok(stand_in) = StandIn::of(&self.policy, None, claims)
        {
            stand_in.put(&mut request, claims, now);
        }
        let wrong = |problem: Problem| match problem {
            Problem::Wrong(message) | Problem::Misused(message) => message,
        };
        let mut proxy = match self.proxy.take().filter(|_| !self.remembers) {
            Some(proxy) => proxy,
            None => self.start(Some(now)).map_err(wrong)?,
        };
        proxy.host.set_wall_clock(now);
        proxy.host.fix_random(random);
        let (answer, events) = trace::listen(|| proxy.send(&request));
        self.proxy = Some(proxy);
        Ok(tell(&self.document, &events, &request, &answer, now))
    }
}

/// What is said of a limit whose bucket is full here, and was not there.
fn emptied(limit: &str) -> String {
    let bucket =
        limit.rsplit_once(", ").filter(|(_, level)| level.ends_with(" left")).map(|(bucket, _)| bucket);
    format!("{}, no tokens left", bucket.unwrap_or(limit))
}

fn has_max_active(policy: &Value) -> bool {
    let entries = member(policy, "http").as_array().map_or(&[][..], Vec::as_slice);
    entries.iter().any(|entry| !member(member(entry, "fault"), "maxActive").is_null())
}
