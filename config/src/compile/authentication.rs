use std::collections::HashSet;
use std::rc::Rc;

use super::{Context, Path};
use crate::document::{self, Document};
use meshfilter_core::policy::authentication::{Authentication, Rule};

mod keys;
mod requirement;
mod rule;

/// Compiles the `authentication` section.
pub fn compile(document: &Document, cx: &Context<'_>) -> Authentication {
    let Some(section) = &document.authentication else { return Authentication::default() };
    let path = Path::ROOT.field("authentication");
    let place = path.field("jwtRules");
    let names = rule_names(&section.jwt_rules, cx);
    let rules: Vec<_> = section
        .jwt_rules
        .iter()
        .zip(&names)
        .enumerate()
        .filter_map(|(index, (rule, name))| {
            rule::compile(rule, name.clone(), &place.index(index), document, cx)
        })
        .collect();
    reserve_headers(&section.jwt_rules, &rules, &place, cx);

    let place = path.field("requirements");
    let requirements = section.requirements.as_deref().unwrap_or_default();
    if section.requirements.is_some() && (requirements.is_empty() || names.is_empty()) {
        let remedy = if names.is_empty() { "add jwtRules" } else { "add an entry or leave the list out" };
        cx.errors.add(&place, format_args!("there is nothing to require; {remedy}"));
    }
    let everything = requirements.iter().position(|entry| entry.matches.is_none());
    if let Some(last) = everything.filter(|last| last.saturating_add(1) < requirements.len()) {
        cx.warn(&place.index(last), "matches every request; the entries after it are never reached");
    }
    let requirements = requirements
        .iter()
        .enumerate()
        .map(|(index, entry)| requirement::compile(entry, &names, &place.index(index), cx))
        .collect();
    let bypass_cors_preflight = section.bypass_cors_preflight.unwrap_or(true);
    Authentication::new(rules, requirements, bypass_cors_preflight, section.mode.unwrap_or_default())
}

/// A rule's name is the given one, or its issuer, or, where another rule has that name, its place.
fn rule_names(rules: &[document::JwtRule], cx: &Context<'_>) -> Vec<Rc<str>> {
    let path = Path::ROOT.field("authentication");
    let path = path.field("jwtRules");
    let mut taken = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let Some(name) = rule.name.as_deref() else { continue };
        let place = path.index(index);
        if name.is_empty() {
            cx.errors.add(&place.field("name"), "an empty name; leave it out or give one");
        } else if !taken.insert(name) {
            cx.errors.add(&place.field("name"), format_args!("\"{name}\" is used twice; give each its own"));
        }
    }
    let mut names: Vec<Rc<str>> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let free = |issuer: &&String| {
            let is_used = taken.contains(issuer.as_str()) || names.iter().any(|name| **name == ***issuer);
            !issuer.is_empty() && !is_used
        };
        let name = rule.name.as_ref().or(rule.issuer.as_ref().filter(free));
        names.push(name.map_or_else(|| format!("jwtRules[{index}]").into(), |name| name.as_str().into()));
    }
    names
}

/// Makes the headers that say who was verified such that only the filter sets them.
fn reserve_headers(documents: &[document::JwtRule], rules: &[Rule], path: &Path<'_>, cx: &Context<'_>) {
    let read: HashSet<&str> = rules.iter().flat_map(|rule| rule.locations.header_names()).collect();
    let reserve = |name: &str, place: &Path<'_>| {
        let name = name.to_ascii_lowercase();
        if read.contains(name.as_str()) {
            cx.errors.add(place, format_args!("\"{name}\" is where a token stands; use another header"));
        } else if is_the_protocols(&name) {
            cx.errors
                .add(place, format_args!("\"{name}\" is the protocol's own; use a header such as x-user"));
        } else {
            cx.reserve_header(&name);
        }
    };
    for (index, rule) in documents.iter().enumerate() {
        let rule_place = path.index(index);
        if let Some(name) = &rule.output_payload_to_header {
            reserve(name, &rule_place.field("outputPayloadToHeader"));
        }
        let list = rule_place.field("outputClaimToHeaders");
        for (index, entry) in rule.output_claim_to_headers.iter().enumerate() {
            if let Some(name) = &entry.header {
                reserve(name, &list.index(index).field("header"));
            }
        }
    }
}

/// Headers that steer the exchange itself: to remove or to set them would do more than to tell who asks.
fn is_the_protocols(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "origin",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    name.starts_with(':') || NAMES.contains(&name)
}

#[cfg(test)]
mod tests;
