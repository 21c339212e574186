//! HTTPMatchRequests that a security decision rests on: they are read as authorization reads its rules.
//!
//! Routing asks where a request goes, and reads it once, as Envoy does. A requirement asks who may send it, and a limit
//! how often: what hangs on their matches must hold in whichever way the upstream reads the request. So each match is
//! asked in every reading of the path, and of what cannot be told both answers count.

use std::cell::OnceCell;

use super::http_match::claim_matches;
use super::{Facts, HttpMatch, RemoteIp, UriMatch};
use crate::matchers::path::{self, Readings};
use crate::matchers::{AddressSet, ClaimPath, Pattern, StringMatch, Truth, host};
use crate::request::Request;
use crate::trace::{self, Event, Place};

/// Conditions of which one has to hold. Without any, every request is meant.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Any of these.
    pub matches: Box<[HttpMatch]>,
    /// Whether the document has paths that servers differ on refused. Where it does not, they are matched as they are.
    pub refuses_ambiguous_paths: bool,
}

/// A request and what is known of it. What several guards ask for is read once.
pub struct Sight<'a> {
    /// The request.
    pub request: &'a Request<'a>,
    /// What the stages before learned.
    pub facts: &'a Facts,
    readings: OnceCell<Readings<'a>>,
    is_ambiguous: OnceCell<bool>,
}

impl<'a> Sight<'a> {
    /// Nothing is read yet.
    pub fn new(request: &'a Request, facts: &'a Facts) -> Self {
        Sight { request, facts, readings: OnceCell::new(), is_ambiguous: OnceCell::new() }
    }

    /// Each reading of the path.
    pub fn readings(&self) -> impl Iterator<Item = &[u8]> {
        self.readings.get_or_init(|| Readings::of(self.request.path())).iter()
    }

    fn is_ambiguous(&self) -> bool {
        *self.is_ambiguous.get_or_init(|| path::is_ambiguous(self.request.path()))
    }
}

impl Guard {
    /// Whether every request is meant.
    pub fn is_for_all(&self) -> bool {
        self.matches.is_empty()
    }

    /// Whether the path has a say.
    pub fn depends_on_path(&self) -> bool {
        let names_it = |name: &str| name == ":path";
        self.matches.iter().any(|conditions| {
            conditions.uri.is_some()
                || conditions.headers.iter().any(|(name, _)| names_it(name))
                || conditions.without_headers.iter().any(|(name, _)| names_it(name))
        })
    }

    /// Whether a request is meant, if its path is read so.
    pub fn holds(&self, sight: &Sight<'_>, path: &[u8]) -> Truth {
        if self.is_for_all() {
            return Truth::Yes;
        }
        let unclear = self.refuses_ambiguous_paths && sight.is_ambiguous();
        let view = View { sight, path, unclear };
        Truth::any(self.matches.iter().map(|conditions| view.holds(conditions)))
    }

    /// Whether a request is meant in one of its readings, or may be.
    pub fn may_hold(&self, sight: &Sight<'_>) -> bool {
        self.is_for_all() || sight.readings().any(|path| self.holds(sight, path) > Truth::No)
    }
}

/// A request in one reading of its path.
#[derive(Clone, Copy)]
struct View<'v, 'a> {
    sight: &'v Sight<'a>,
    path: &'v [u8],
    /// What is asked about the path cannot be told.
    unclear: bool,
}

impl View<'_, '_> {
    /// Whether all conditions hold. What they mean is said at [`HttpMatch::is_match`].
    fn holds(&self, conditions: &HttpMatch) -> Truth {
        let HttpMatch {
            place,
            name: _,
            uri,
            scheme,
            method,
            authority,
            port,
            remote_ip,
            headers,
            without_headers,
            query_params,
            cookies,
            claims,
            without_claims,
        } = conditions;
        let Sight { request, facts, .. } = self.sight;
        let pseudo = |member, pattern: &Option<Pattern>, name, ignore_case| {
            pattern.as_ref().map_or(Truth::Yes, |pattern| {
                let value = request.header(name).unwrap_or_default();
                told(pattern.truth(value, ignore_case), place, member, "", [value])
            })
        };
        let parts: [&dyn Fn() -> Truth; 12] = [
            &|| uri.as_ref().map_or(Truth::Yes, |uri| self.uri(uri, place)),
            &|| pseudo("method", method, ":method", false),
            &|| {
                authority.as_ref().map_or(Truth::Yes, |pattern| {
                    told(self.host(pattern), place, "authority", "", [request.authority()])
                })
            },
            &|| pseudo("scheme", scheme, ":scheme", true),
            &|| {
                port.map_or(Truth::Yes, |(id, port)| {
                    let number = request.number(id);
                    let holds = number.map_or(Truth::Unknown, |number| (number == i64::from(port)).into());
                    told(holds, place, "port", "", number.map(|number| number.to_string()))
                })
            },
            &|| remote_ip.as_ref().map_or(Truth::Yes, |remote| self.remote_ip(remote, place)),
            &|| {
                Truth::all(headers.iter().map(|(name, value)| {
                    let holds = match value {
                        StringMatch::Present(pattern) => self.header_is(name, pattern),
                        StringMatch::Absent => !self.header_is(name, &Pattern::Any),
                    };
                    told(holds, place, "headers", name, request.header_values(name))
                }))
            },
            &|| {
                Truth::all(without_headers.iter().map(|(name, pattern)| {
                    let holds = !self.header_is(name, pattern);
                    told(holds, place, "withoutHeaders", name, request.header_values(name))
                }))
            },
            &|| {
                Truth::all(query_params.iter().map(|(name, value)| {
                    let holds = value.truth(request.query_values(name));
                    told(holds, place, "queryParams", name, request.query_values(name))
                }))
            },
            &|| {
                Truth::all(cookies.iter().map(|(name, value)| {
                    let holds = value.truth(request.cookie_values(name));
                    told(holds, place, "cookies", name, request.cookie_values(name))
                }))
            },
            &|| {
                Truth::all(claims.iter().map(|(path, value)| {
                    let holds = match value {
                        StringMatch::Present(pattern) => claim_matches(facts.claim(path), pattern),
                        StringMatch::Absent => !claim_matches(facts.claim(path), &Pattern::Any),
                    };
                    told_claim(holds, place, "claims", path, facts)
                }))
            },
            &|| {
                Truth::all(without_claims.iter().map(|(path, pattern)| {
                    let holds = !claim_matches(facts.claim(path), pattern);
                    told_claim(holds, place, "withoutClaims", path, facts)
                }))
            },
        ];
        let holds = Truth::all(parts.iter().map(|part| part()));
        trace::tell(|| Event::Match { place: place.clone(), holds });
        holds
    }

    fn uri(&self, uri: &UriMatch, place: &Place) -> Truth {
        let holds = self.unless_unclear(|| uri.pattern.truth(self.path, uri.ignore_case));
        trace::tell(|| {
            let seen = vec![self.sight.request.path().to_vec()];
            let condition = trace::Condition::of(place, "uri", "", holds, seen);
            Event::Condition(trace::Condition { reading: Some(self.path.to_vec()), ..condition })
        });
        holds
    }

    /// Whether the client's address is where it has to be. Of one that is not known it cannot be told.
    fn remote_ip(&self, remote: &RemoteIp, place: &Place) -> Truth {
        let address = self.sight.request.ip(remote.address);
        let seen = || address.into_iter().map(|address| address.to_string());
        let has =
            |blocks: &AddressSet| address.map_or(Truth::Unknown, |address| blocks.contains(address).into());
        let within = remote
            .within
            .as_ref()
            .map_or(Truth::Yes, |blocks| told(has(blocks), place, "remoteIpBlocks", "", seen()));
        within.min(
            remote
                .not_within
                .as_ref()
                .map_or(Truth::Yes, |blocks| told(!has(blocks), place, "notRemoteIpBlocks", "", seen())),
        )
    }

    fn unless_unclear(&self, holds: impl FnOnce() -> Truth) -> Truth {
        if self.unclear { Truth::Unknown } else { holds() }
    }

    fn host(&self, pattern: &Pattern) -> Truth {
        host::passes(self.sight.request.authority(), |host| pattern.truth(host, true))
    }

    /// Whether one of a header's values matches. Pseudo-headers count as what they are.
    fn header_is(&self, name: &str, pattern: &Pattern) -> Truth {
        let request = self.sight.request;
        if request.header(name).is_none() {
            return Truth::No;
        }
        match name {
            ":authority" => self.host(pattern),
            ":path" => self.unless_unclear(|| {
                let rest = request.path_and_query().get(request.path().len()..).unwrap_or_default();
                pattern.truth(&[self.path, rest].concat(), false)
            }),
            _ => {
                let ignore_case = name == ":scheme";
                Truth::each(request.header_values(name).map(|value| pattern.truth(value, ignore_case)))
            }
        }
    }
}

/// Tells about a member of a match, and hands on whether it holds.
#[inline(always)]
fn told<T: AsRef<[u8]>>(
    holds: Truth,
    place: &Place,
    member: &'static str,
    key: &str,
    seen: impl IntoIterator<Item = T>,
) -> Truth {
    trace::tell(|| {
        let seen = seen.into_iter().map(|value| value.as_ref().to_vec()).collect();
        Event::Condition(trace::Condition::of(place, member, key, holds, seen))
    });
    holds
}

#[inline(always)]
fn told_claim(holds: Truth, place: &Place, member: &'static str, path: &ClaimPath, facts: &Facts) -> Truth {
    trace::tell(|| {
        let seen = facts.claim(path).map(|value| value.to_string().into_bytes()).into_iter().collect();
        Event::Condition(trace::Condition::of(place, member, &path.to_string(), holds, seen))
    });
    holds
}
