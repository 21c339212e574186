use serde_json::Value;

use super::attribute::Attribute;
use super::evaluation::{Evaluation, Sources, View};
use crate::host::HeaderMap;
use crate::matchers::{AddressSet, PathTemplate, TextSet, Truth, host};
use crate::policy::Token;
use crate::request::{AttributeId, Request};
use crate::trace::{self, Event};

/// One rule of a policy.
#[derive(Debug)]
pub struct Rule {
    /// The policy's place in the document.
    pub policy: usize,
    /// The rule's place in the policy.
    pub number: usize,
    /// One of these has to hold whole; none stands for any.
    pub from: Box<[Box<[Test]>]>,
    /// One of these has to hold whole; none stands for any.
    pub to: Box<[Box<[Test]>]>,
    /// All of these have to hold.
    pub when: Box<[Test]>,
}

/// A condition, or that it does not hold.
#[derive(Debug)]
pub struct Test {
    /// What is asked.
    pub condition: Condition,
    /// Whether it must not hold.
    pub negated: bool,
    /// Where its values stand.
    pub place: trace::Place,
}

/// What is asked of a request.
#[derive(Debug)]
pub enum Condition {
    /// One of the attribute's values is one of these.
    Text(Attribute, Values),
    /// `:authority`, in lower case, is one of these.
    Host(TextSet),
    /// The path is one of these.
    Path(PathSet),
    /// Issuer and subject of the token are one of these.
    RequestPrincipal(Vec<RequestPrincipal>, Values),
    /// The direct peer's address is in one of these blocks.
    DirectAddress(AttributeId, AddressSet),
    /// An address that the proxy always knows is.
    Address(AttributeId, AddressSet),
    /// A port is one of these.
    Port(AttributeId, Box<[u16]>),
    /// A list in the metadata that another filter left has one of these.
    MetadataList(AttributeId, TextSet),
    /// One of these holds.
    Any(Box<[Condition]>),
}

/// Texts to compare with: fixed ones, and what other attributes hold.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Fixed ones.
    pub texts: TextSet,
    /// Attributes, of which one has to be the same.
    pub attributes: Box<[Attribute]>,
    /// Numbers and booleans; only a claim has one.
    pub scalars: Box<[Value]>,
}

/// Paths: texts and templates.
#[derive(Debug, Default)]
pub struct PathSet {
    /// Texts.
    pub texts: TextSet,
    /// Templates.
    pub templates: Box<[PathTemplate]>,
}

/// A value of `requestPrincipals`: it was split at its last slash.
#[derive(Debug)]
pub struct RequestPrincipal {
    /// What `iss` has to be.
    pub issuer: TextSet,
    /// What `sub` has to be.
    pub subject: TextSet,
}

/// What becomes of a rule when the path has several readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It matches if it does in one of them: for what refuses.
    Any,
    /// It matches if it does in all: for what lets pass.
    All,
}

impl Rule {
    /// A rule, with its place.
    pub fn new(
        (policy, number): (usize, usize),
        from: Box<[Box<[Test]>]>,
        to: Box<[Box<[Test]>]>,
        when: Box<[Test]>,
    ) -> Self {
        Rule { policy, number, from, to, when }
    }

    /// Every condition.
    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.from.iter().chain(&self.to).flatten().chain(&self.when)
    }

    /// Whether it is about the path.
    pub fn depends_on_path(&self) -> bool {
        self.tests().any(|test| test.condition.depends_on_path())
    }

    /// Whether it surely matches a request with this token.
    pub fn surely_matches(&self, sources: &Sources, request: &Request, token: &Token) -> bool {
        self.matches(&Evaluation::new(sources, request, Some(token)), Reading::All) == Truth::Yes
    }

    /// Whether the rule matches.
    pub fn matches(&self, evaluation: &Evaluation<'_>, reading: Reading) -> Truth {
        let in_reading = |path: Option<&[u8]>| self.holds(&View { evaluation, path });
        let answer = match evaluation.readings() {
            None => in_reading(None),
            Some(readings) => {
                let answers = readings.iter().map(|path| in_reading(Some(path)));
                match reading {
                    Reading::Any => Truth::any(answers),
                    Reading::All => Truth::all(answers),
                }
            }
        };
        trace::tell(|| Event::Rule { policy: self.policy, number: self.number, holds: answer });
        answer
    }

    fn holds(&self, view: &View<'_, '_>) -> Truth {
        let all = |tests: &[Test]| Truth::all(tests.iter().map(|test| test.holds(view)));
        let one = |groups: &[Box<[Test]>]| match groups {
            [] => Truth::Yes,
            groups => Truth::any(groups.iter().map(|tests| all(tests))),
        };
        let and = |holds: Truth, next: &dyn Fn() -> Truth| {
            if holds == Truth::No { holds } else { holds.min(next()) }
        };
        and(and(one(&self.to), &|| one(&self.from)), &|| all(&self.when))
    }
}

impl Test {
    fn holds(&self, view: &View<'_, '_>) -> Truth {
        let answer = self.condition.holds(view);
        let answer = if self.negated { !answer } else { answer };
        trace::tell(|| Event::Condition(self.seen(view, answer)));
        answer
    }
}

impl Condition {
    pub(super) fn depends_on_path(&self) -> bool {
        match self {
            Condition::Path(_) => true,
            Condition::Text(attribute, values) => attribute.depends_on_path() || values.depend_on_path(),
            Condition::RequestPrincipal(_, values) => values.depend_on_path(),
            Condition::Any(conditions) => conditions.iter().any(Condition::depends_on_path),
            _ => false,
        }
    }

    /// Whether it is about the token.
    pub(super) fn depends_on_token(&self) -> bool {
        match self {
            Condition::RequestPrincipal(..) => true,
            Condition::Text(attribute, values) => {
                attribute.depends_on_token() || values.attributes.iter().any(Attribute::depends_on_token)
            }
            Condition::Any(conditions) => conditions.iter().any(Condition::depends_on_token),
            _ => false,
        }
    }

    fn holds(&self, view: &View<'_, '_>) -> Truth {
        let request = view.evaluation.request;
        match self {
            Condition::Text(attribute, values) => values.hold(view, attribute),
            Condition::Host(texts) => view
                .evaluation
                .host()
                .map_or(Truth::No, |host| host::passes(host, |host| texts.matches(host))),
            Condition::Path(paths) => view.path.map_or(Truth::No, |path| paths.matches(path)),
            Condition::RequestPrincipal(principals, values) => {
                let Some((issuer, subject)) = view.issuer_and_subject() else { return Truth::No };
                let (issuer, subject) = (issuer.as_bytes(), subject.as_bytes());
                let matches = |principal: &RequestPrincipal| {
                    principal.issuer.matches(issuer).min(principal.subject.matches(subject))
                };
                let whole = || values.hold(view, &Attribute::RequestPrincipal);
                match Truth::any(principals.iter().map(matches)) {
                    Truth::Yes => Truth::Yes,
                    found => found.max(if values.is_empty() { Truth::No } else { whole() }),
                }
            }
            Condition::DirectAddress(id, blocks) => match request.ip(*id) {
                Some(address) => blocks.contains(address).into(),
                None => {
                    view.evaluation.peer_is_missing.set(true);
                    Truth::Unknown
                }
            },
            Condition::Address(id, blocks) => match request.ip(*id) {
                Some(address) => blocks.contains(address).into(),
                None => Truth::Unknown,
            },
            Condition::Port(id, ports) => match request.number(*id) {
                Some(number) => ports.iter().any(|port| i64::from(*port) == number).into(),
                None => Truth::Unknown,
            },
            Condition::MetadataList(id, texts) => {
                let list = request.attribute(*id).and_then(|bytes| HeaderMap::parse(bytes.to_vec()).ok());
                Truth::any(list.iter().flat_map(HeaderMap::iter).map(|(value, _)| texts.matches(value)))
            }
            Condition::Any(conditions) => {
                Truth::any(conditions.iter().map(|condition| condition.holds(view)))
            }
        }
    }
}

impl Values {
    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.attributes.is_empty() && self.scalars.is_empty()
    }

    fn depend_on_path(&self) -> bool {
        self.attributes.iter().any(Attribute::depends_on_path)
    }

    /// Whether one of the attribute's values is one of these.
    fn hold(&self, view: &View<'_, '_>, attribute: &Attribute) -> Truth {
        let fixed = || attribute.any(view, &mut |value| self.texts.matches(value));
        match if self.texts.is_empty() { Truth::No } else { fixed() } {
            Truth::Yes => Truth::Yes,
            found => found
                .max(attribute.is_scalar(view, &self.scalars))
                .max(Truth::any(self.attributes.iter().map(|other| same(view, attribute, other)))),
        }
    }
}

/// Whether two attributes hold the same. Of what a client repeats, the upstream may take any: where only some of the
/// values are the same, it cannot be told.
fn same(view: &View<'_, '_>, one: &Attribute, other: &Attribute) -> Truth {
    let (texts, otherwise) = other.texts(view);
    one.every(view, &mut |value| texts.get(value).copied().unwrap_or(otherwise))
}

impl PathSet {
    fn matches(&self, path: &[u8]) -> Truth {
        match self.texts.matches(path) {
            Truth::Yes => Truth::Yes,
            found => found.max(self.templates.iter().any(|template| template.matches(path)).into()),
        }
    }
}
