use super::super::Path;
use super::super::common::{claim, request_header};
use super::super::meaning::{Meaning, Wanted};
use super::Section;
use super::values::{HEADERS, HOSTS, NOT_EMPTY, PATHS, PRESENT, Strings, list, refuse_scalar};
use crate::document::{
    AuthorizationCondition, AuthorizationOperation, AuthorizationRule, AuthorizationSource,
    AuthorizationValue, ClaimRequirement,
};
use meshfilter_core::matchers::path::unescape_text;
use meshfilter_core::matchers::{ClaimPath, PathTemplate, Wildcard};
use meshfilter_core::policy::authorization::{Attribute, Condition, PathSet, Rule, Test, Values};
use meshfilter_core::request::AttributeId;
use meshfilter_core::trace::Place;

/// What a condition's key may be, for the message.
pub(super) const KEYS: &str = "request.headers[name], request.query[name], request.cookies[name], request.auth.principal, \
     request.auth.audiences, request.auth.presenter, request.auth.claims[name], source.ip, remote.ip, source.principal, \
     source.namespace, source.serviceAccount, source.trustDomain, destination.ip, destination.port, connection.sni or \
     experimental.envoy.filters.NAME[key]";

impl<'s> Section<'s> {
    pub(super) fn rule(&self, rule: &AuthorizationRule, place: (usize, usize), path: &Path<'_>) -> Rule {
        let mut from = Vec::new();
        let at = path.field("from");
        for (index, element) in list(&rule.from, &at, self.cx).unwrap_or_default().iter().enumerate() {
            let at = at.index(index);
            match &element.source {
                Some(source) => from.push(self.source(source, &at.field("source"))),
                None if self.cx.errors.any_within(&at) => {}
                None => self.cx.errors.add(&at, "there is no source in it; add one or leave from out"),
            }
        }
        let mut to = Vec::new();
        let at = path.field("to");
        for (index, element) in list(&rule.to, &at, self.cx).unwrap_or_default().iter().enumerate() {
            let at = at.index(index);
            match &element.operation {
                Some(operation) => to.push(self.operation(operation, &at.field("operation"))),
                None if self.cx.errors.any_within(&at) => {}
                None => self.cx.errors.add(&at, "there is no operation in it; add one or leave to out"),
            }
        }
        let at = path.field("when");
        let conditions = list(&rule.when, &at, self.cx).unwrap_or_default().iter().enumerate();
        let when = conditions.flat_map(|(index, condition)| self.condition(condition, &at.index(index)));
        Rule::new(place, from.into(), to.into(), when.collect())
    }

    fn source(&self, source: &AuthorizationSource, path: &Path<'_>) -> Box<[Test]> {
        let mut tests = Tests { path, section: self, tests: Vec::new(), lists: 0 };
        tests.add("principals", &source.principals, false, Section::principals);
        tests.add("notPrincipals", &source.not_principals, true, Section::principals);
        tests.add("namespaces", &source.namespaces, false, Section::namespaces);
        tests.add("notNamespaces", &source.not_namespaces, true, Section::namespaces);
        let by_name = tests.lists > 0;
        tests.add("trustDomains", &source.trust_domains, false, Section::trust_domains);
        tests.add("notTrustDomains", &source.not_trust_domains, true, Section::trust_domains);
        tests.add("requestPrincipals", &source.request_principals, false, Section::request_principals);
        tests.add("notRequestPrincipals", &source.not_request_principals, true, Section::request_principals);
        tests.add("serviceAccounts", &source.service_accounts, false, Section::service_accounts);
        tests.add("notServiceAccounts", &source.not_service_accounts, true, Section::service_accounts);
        tests.add("ipBlocks", &source.ip_blocks, false, Section::direct_peer);
        tests.add("notIpBlocks", &source.not_ip_blocks, true, Section::direct_peer);
        tests.add("remoteIpBlocks", &source.remote_ip_blocks, false, Section::client);
        tests.add("notRemoteIpBlocks", &source.not_remote_ip_blocks, true, Section::client);
        let accounts = source.service_accounts.is_some() || source.not_service_accounts.is_some();
        if by_name && accounts {
            self.cx.errors.add(
                path,
                "serviceAccounts cannot stand beside principals or namespaces; write namespace/account instead",
            );
        }
        tests.finish("there is nothing in it; say who asks, or leave from out")
    }

    fn operation(&self, operation: &AuthorizationOperation, path: &Path<'_>) -> Box<[Test]> {
        let mut tests = Tests { path, section: self, tests: Vec::new(), lists: 0 };
        tests.add("methods", &operation.methods, false, Section::methods);
        tests.add("notMethods", &operation.not_methods, true, Section::methods);
        tests.add("paths", &operation.paths, false, Section::paths);
        tests.add("notPaths", &operation.not_paths, true, Section::paths);
        tests.add("hosts", &operation.hosts, false, Section::hosts);
        tests.add("notHosts", &operation.not_hosts, true, Section::hosts);
        tests.add("ports", &operation.ports, false, Section::ports);
        tests.add("notPorts", &operation.not_ports, true, Section::ports);
        tests.finish("there is nothing in it; say what is asked for, or leave to out")
    }

    fn condition(&self, condition: &AuthorizationCondition, path: &Path<'_>) -> Vec<Test> {
        let cx = self.cx;
        let reported = cx.errors.any_within(path);
        let Some(key) = &condition.key else {
            if !reported {
                cx.errors.add(&path.field("key"), format_args!("there is no key; use {KEYS}"));
            }
            return Vec::new();
        };
        let key = self.key(key, &path.field("key"));
        self.lists(key, &condition.values, &condition.not_values, reported, path)
    }

    /// What the claims of a good token must hold.
    pub fn required_claims(&self, claims: &[ClaimRequirement], path: &Path<'_>) -> Rule {
        let cx = self.cx;
        let when = claims.iter().enumerate().flat_map(|(index, source)| {
            let path = path.index(index);
            let reported = cx.errors.any_within(&path);
            let Some(text) = &source.claim else {
                if !reported {
                    cx.errors.add(&path, "\"claim\" is missing; add it");
                }
                return Vec::new();
            };
            let key = claim(text, &path.field("claim"), cx).map(|claim| Key::Text(Attribute::Claim(claim)));
            self.lists(key, &source.values, &source.not_values, reported, &path)
        });
        Rule::new((0, 0), Box::default(), Box::default(), when.collect())
    }

    /// What `key` names, compared with both lists of a condition.
    fn lists(
        &self,
        key: Option<Key<'s>>,
        values: &Option<Vec<AuthorizationValue>>,
        not_values: &Option<Vec<AuthorizationValue>>,
        reported: bool,
        path: &Path<'_>,
    ) -> Vec<Test> {
        let cx = self.cx;
        if values.is_none() && not_values.is_none() && !reported {
            cx.errors.add(path, "there are neither values nor notValues; add one of them");
        }
        let Some(key) = key else { return Vec::new() };
        [(values, "values", false), (not_values, "notValues", true)]
            .into_iter()
            .filter_map(|(given, name, negated)| {
                let path = path.field(name);
                let condition = self.compare(&key, list(given, &path, cx)?, &path)?;
                Some(Test { condition, negated, place: Place::of(&path) })
            })
            .collect()
    }

    fn key(&self, key: &str, path: &Path<'_>) -> Option<Key<'s>> {
        Some(match key {
            "source.ip" => Key::List(Section::direct_peer_values),
            "remote.ip" => Key::List(Section::client_values),
            "destination.ip" => Key::List(Section::destination_values),
            "destination.port" => Key::List(Section::port_values),
            "source.principal" => Key::List(Section::principals),
            "source.namespace" => Key::List(Section::namespaces),
            "source.serviceAccount" => Key::List(Section::service_accounts),
            "source.trustDomain" => Key::List(Section::trust_domains),
            "request.auth.principal" => Key::List(Section::request_principals),
            _ => match self.attribute(key, path)? {
                Attribute::PathSegment(_) => {
                    let message =
                        "a part of the path belongs among the values; use to.operation.paths for the path";
                    self.cx.errors.add(path, message);
                    return None;
                }
                attribute => Key::Text(attribute),
            },
        })
    }

    /// What a key, or an `{attribute: …}` among the values, names.
    pub(super) fn attribute(&self, name: &str, path: &Path<'_>) -> Option<Attribute> {
        let cx = self.cx;
        let inner =
            |prefix: &str| name.strip_prefix(prefix)?.strip_suffix(']').filter(|inner| !inner.is_empty());
        if let Some(header) = inner("request.headers[") {
            return Some(match request_header(header, path, cx).as_str() {
                ":authority" => Attribute::Host,
                ":path" => Attribute::PathAndQuery,
                name => Attribute::Header(self.header(name)),
            });
        }
        if let Some(parameter) = inner("request.query[") {
            return Some(Attribute::Query(parameter.to_owned()));
        }
        if let Some(cookie) = inner("request.cookies[") {
            return Some(Attribute::Cookie(cookie.to_owned()));
        }
        if let Some(index) = inner("request.path[").and_then(|index| index.parse().ok()) {
            return Some(Attribute::PathSegment(index));
        }
        if let Some(claim) = name.strip_prefix("request.auth.claims").filter(|claim| claim.starts_with('[')) {
            return ClaimPath::parse(claim)
                .map(Attribute::Claim)
                .map_err(|error| cx.errors.add(path, error))
                .ok();
        }
        if let Some((filter, key)) =
            inner("experimental.envoy.filters.").and_then(|inner| inner.split_once('['))
            && !filter.is_empty()
            && !key.is_empty()
        {
            let filter = format!("envoy.filters.{filter}");
            return Some(Attribute::Metadata(cx.attribute(&["metadata", "filter_metadata", &filter, key])));
        }
        let claim = |name: &str| ClaimPath::parse(name).ok().map(Attribute::Claim);
        match name {
            "request.auth.principal" => Some(Attribute::RequestPrincipal),
            "request.auth.audiences" => claim("aud"),
            "request.auth.presenter" => claim("azp"),
            "source.principal" | "source.namespace" | "source.serviceAccount" | "source.trustDomain" => {
                self.needs_identity();
                Some(match name {
                    "source.principal" => Attribute::Principal,
                    "source.namespace" => Attribute::Namespace,
                    "source.serviceAccount" => Attribute::ServiceAccount,
                    _ => Attribute::TrustDomain,
                })
            }
            "connection.sni" => {
                Some(Attribute::ServerName(cx.attribute(&["connection", "requested_server_name"])))
            }
            _ => {
                cx.errors.add(path, format_args!("\"{name}\" is not an attribute; use {KEYS}"));
                None
            }
        }
    }

    fn compare(&self, key: &Key<'s>, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        match key {
            Key::List(compile) => compile(self, values, path),
            Key::Text(Attribute::Metadata(id)) => Some(self.metadata(*id, values, path)),
            Key::Text(Attribute::Claim(claim)) => Some(self.claim(claim.clone(), values, path)),
            Key::Text(attribute) => {
                let strings = match attribute {
                    Attribute::Header(slot) => Strings { meaning: self.meaning(*slot), ..HEADERS },
                    Attribute::Cookie(_) => Strings { meaning: Meaning::Cookie, ..PRESENT },
                    Attribute::Query(_) => PRESENT,
                    Attribute::Host => HOSTS,
                    Attribute::PathAndQuery => Strings { meaning: Meaning::PathAndQuery, ..NOT_EMPTY },
                    _ => NOT_EMPTY,
                };
                let text = |text: &str, path: &Path<'_>| strings.text(text, path, self.cx);
                let values = self.collect(values.iter().enumerate(), path, strings, text);
                Some(Condition::Text(attribute.clone(), values))
            }
        }
    }

    /// Numbers and booleans are compared as such, beside the texts.
    fn claim(&self, claim: ClaimPath, values: &[AuthorizationValue], path: &Path<'_>) -> Condition {
        let (mut scalars, mut plain) = (Vec::new(), Vec::new());
        for (index, value) in values.iter().enumerate() {
            match value {
                AuthorizationValue::Scalar(value) => scalars.push(value.clone()),
                value => plain.push((index, value)),
            }
        }
        let values = self.indexed(plain.into_iter(), path, |text, path| NOT_EMPTY.text(text, path, self.cx));
        Condition::Text(Attribute::Claim(claim), Values { scalars: scalars.into(), ..values })
    }

    /// Istio's `[v]` asks for a list that has `v`.
    fn metadata(&self, id: AttributeId, values: &[AuthorizationValue], path: &Path<'_>) -> Condition {
        let (mut in_list, mut plain) = (Vec::new(), Vec::new());
        for (index, value) in values.iter().enumerate() {
            let item = match value {
                AuthorizationValue::Text(text) => {
                    text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))
                }
                _ => None,
            };
            match item {
                Some(item) => in_list.push(NOT_EMPTY.text(item, &path.index(index), self.cx)),
                None => plain.push((index, value)),
            }
        }
        let plain = self.indexed(plain.into_iter(), path, |text, path| NOT_EMPTY.text(text, path, self.cx));
        Condition::Any(Box::new([
            Condition::Text(Attribute::Metadata(id), plain),
            Condition::MetadataList(id, in_list.into_iter().collect()),
        ]))
    }

    /// Compiles a list in which attributes may stand.
    pub(super) fn values(
        &self,
        values: &[AuthorizationValue],
        path: &Path<'_>,
        text: impl Fn(&str, &Path<'_>) -> Wildcard,
    ) -> Values {
        self.indexed(values.iter().enumerate(), path, text)
    }

    /// The same, for values that have kept their places.
    pub(super) fn indexed<'v>(
        &self,
        values: impl Iterator<Item = (usize, &'v AuthorizationValue)>,
        path: &Path<'_>,
        text: impl Fn(&str, &Path<'_>) -> Wildcard,
    ) -> Values {
        self.collect(values, path, NOT_EMPTY, text)
    }

    /// The same, with what the regular expressions among them are about.
    fn collect<'v>(
        &self,
        values: impl Iterator<Item = (usize, &'v AuthorizationValue)>,
        path: &Path<'_>,
        strings: Strings,
        text: impl Fn(&str, &Path<'_>) -> Wildcard,
    ) -> Values {
        let (mut texts, mut attributes) = (Vec::new(), Vec::new());
        for (index, value) in values {
            let place = path.index(index);
            match value {
                AuthorizationValue::Text(value) => texts.push(text(value, &place)),
                AuthorizationValue::Regex(regex) => {
                    texts.extend(strings.regex(regex, &place.field("regex"), self.cx));
                }
                AuthorizationValue::Attribute(name) => {
                    attributes.extend(self.attribute(name, &place.field("attribute")));
                }
                AuthorizationValue::Scalar(value) => refuse_scalar(value, &place, self.cx),
            }
        }
        Values { texts: texts.into_iter().collect(), attributes: attributes.into(), ..Values::default() }
    }

    fn methods(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        let texts = Strings { meaning: Meaning::Method, ..PRESENT }.set(values, path, self.cx);
        Some(Condition::Text(
            Attribute::Header(self.header(":method")),
            Values { texts, ..Values::default() },
        ))
    }

    fn hosts(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        Some(Condition::Host(HOSTS.set(values, path, self.cx)))
    }

    fn paths(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        let (mut texts, mut templates) = (Vec::new(), Vec::new());
        for (index, value) in values.iter().enumerate() {
            let place = path.index(index);
            match value {
                AuthorizationValue::Text(text) if PathTemplate::is_meant(text) => {
                    match PathTemplate::parse(&unescape_text(text)) {
                        Ok(template) => templates.push(template),
                        Err(error) => self.cx.errors.add(&place, error),
                    }
                }
                AuthorizationValue::Text(text) => texts.push(self.path_text(text, &place)),
                other => texts.extend(PATHS.other(other, &place, self.cx)),
            }
        }
        Some(Condition::Path(PathSet { texts: texts.into_iter().collect(), templates: templates.into() }))
    }

    fn path_text(&self, text: &str, path: &Path<'_>) -> Wildcard {
        if let Some(wanted) = Wanted::of(text) {
            Meaning::Path.check_refused(wanted, path, self.cx);
            if self.lets_pass.get() && (wanted.text.contains(';') || wanted.text.contains("//")) {
                self.cx.warn(
                    path,
                    format_args!(
                        "\"{text}\" never matches: an ALLOW has to match the path without its parameters and with \
                         single slashes, too; write it so"
                    ),
                );
            }
        }
        PATHS.text(text, path, self.cx)
    }
}

/// How the values of a condition are compiled.
enum Key<'s> {
    List(fn(&Section<'s>, &[AuthorizationValue], &Path<'_>) -> Option<Condition>),
    Text(Attribute),
}

/// The conditions of one source or operation, as they are collected.
struct Tests<'a> {
    path: &'a Path<'a>,
    section: &'a Section<'a>,
    tests: Vec<Test>,
    lists: usize,
}

impl<'a> Tests<'a> {
    fn add<T>(
        &mut self,
        name: &str,
        given: &Option<Vec<T>>,
        negated: bool,
        compile: fn(&Section<'a>, &[T], &Path<'_>) -> Option<Condition>,
    ) {
        let path = self.path.field(name);
        self.lists = self.lists.saturating_add(given.is_some().into());
        let values = list(given, &path, self.section.cx);
        let condition = values.and_then(|values| compile(self.section, values, &path));
        self.tests.extend(condition.map(|condition| Test { condition, negated, place: Place::of(&path) }));
    }

    fn finish(self, when_empty: &str) -> Box<[Test]> {
        if self.lists == 0 && !self.section.cx.errors.any_within(self.path) {
            self.section.cx.errors.add(self.path, when_empty);
        }
        self.tests.into()
    }
}
