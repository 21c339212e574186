//! The `authorization` section: policies by their action, rules with their conditions in the cheapest form.

mod address;
mod peer;
mod rule;
mod token;
mod values;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::common::{check_body, names, refuse, reply_headers};
use super::meaning::Meaning;
use super::{Context, Path};
use crate::document::{self, AuthorizationAction, DenyReply, Document, Mode};
use meshfilter_core::host::LocalReply;
use meshfilter_core::policy::authentication::Authentication;
use meshfilter_core::policy::authorization::{
    Authorization, AuthorizationPolicy, Rule, Rules, Sources, Stage,
};
use meshfilter_core::request::AttributeId;

/// Compiles the `authorization` section.
pub fn compile(document: &Document, authentication: &Authentication, cx: &Context<'_>) -> Authorization {
    let path = Path::ROOT.field("authorization");
    let policies = &document.authorization;
    let names = names(policies.iter().map(|policy| policy.name.as_deref()), &path, cx);
    let section = Section::new(document, cx);

    let mut groups = Groups::default();
    let mut compiled = Vec::with_capacity(policies.len());
    let mut unmatched: Option<LocalReply> = None;
    for (place, (policy, name)) in policies.iter().zip(names).enumerate() {
        let path = path.index(place);
        section.refuse_what_is_istios(policy, &path);
        let rules = section.rules(policy, place, &path);
        let action = policy.action.unwrap_or_default();
        let mode = policy.mode.unwrap_or_default();
        groups.add(action, mode, place, rules);
        if policy.deny.is_some() && action == AuthorizationAction::Audit {
            cx.errors.add(&path.field("deny"), "an AUDIT policy refuses nothing; leave deny out");
        }
        let reply = section.reply(policy.deny.as_ref(), &name, &path.field("deny"));
        if unmatched.is_none()
            && policy.deny.is_some()
            && (action, mode) == (AuthorizationAction::Allow, Mode::Enforce)
        {
            unmatched = Some(LocalReply { details: details("none"), ..reply.clone() });
        }
        compiled.push(AuthorizationPolicy { name, mode, reply });
    }

    let sources = section.sources();
    let mut in_force = groups.deny.iter().chain(&groups.allow);
    let about_paths = in_force.any(|rule| rule.depends_on_path()) || authentication.depends_on_path();
    Authorization {
        policies: compiled.into(),
        sources,
        refuses_ambiguous_paths: cx.refuses_ambiguous_paths && about_paths,
        audit: Rules::new(groups.audit),
        enforced: Stage {
            deny: Rules::new(groups.deny),
            allow: Rules::new(groups.allow),
            allowing: groups.allowing.into(),
        },
        shadow: Stage {
            deny: Rules::new(groups.shadow_deny),
            allow: Rules::new(groups.shadow_allow),
            allowing: groups.shadow_allowing.into(),
        },
        unmatched: unmatched.unwrap_or_else(|| refusal("none")),
        ..Authorization::default()
    }
}

/// What compiling the rules needs, and what they turn out to ask of a request.
pub struct Section<'a> {
    cx: &'a Context<'a>,
    document: &'a Document,
    headers: RefCell<Vec<String>>,
    peer_uri: Cell<Option<AttributeId>>,
    /// The rules that are compiled are those of an ALLOW policy.
    lets_pass: Cell<bool>,
}

#[derive(Default)]
struct Groups {
    audit: Vec<Rule>,
    deny: Vec<Rule>,
    allow: Vec<Rule>,
    shadow_deny: Vec<Rule>,
    shadow_allow: Vec<Rule>,
    allowing: Vec<usize>,
    shadow_allowing: Vec<usize>,
}

impl Groups {
    fn add(&mut self, action: AuthorizationAction, mode: Mode, place: usize, rules: Vec<Rule>) {
        let group = match (action, mode) {
            (AuthorizationAction::Audit, _) => &mut self.audit,
            (AuthorizationAction::Deny, Mode::Enforce) => &mut self.deny,
            (AuthorizationAction::Deny, Mode::Shadow) => &mut self.shadow_deny,
            (AuthorizationAction::Allow, Mode::Enforce) => {
                self.allowing.push(place);
                &mut self.allow
            }
            (AuthorizationAction::Allow, Mode::Shadow) => {
                self.shadow_allowing.push(place);
                &mut self.shadow_allow
            }
        };
        group.extend(rules);
    }
}

impl<'a> Section<'a> {
    /// Nothing is compiled yet.
    pub fn new(document: &'a Document, cx: &'a Context<'a>) -> Self {
        Section {
            cx,
            document,
            headers: RefCell::default(),
            peer_uri: Cell::new(None),
            lets_pass: Cell::new(false),
        }
    }

    /// What the rules turned out to ask of a request.
    pub fn sources(self) -> Sources {
        Sources { headers: self.headers.into_inner().into(), peer_uri: self.peer_uri.get() }
    }
}

impl Section<'_> {
    fn refuse_what_is_istios(&self, policy: &document::AuthorizationPolicy, path: &Path<'_>) {
        let place = "this document is for the proxy that it is given to; leave it out";
        refuse(
            [
                ("selector", policy.selector, place),
                ("targetRef", policy.target_ref, place),
                ("targetRefs", policy.target_refs, place),
                (
                    "provider",
                    policy.provider,
                    "a plugin has no external authorizer; put Envoy's ext_authz before it",
                ),
            ],
            path,
            self.cx,
        );
    }

    fn rules(&self, policy: &document::AuthorizationPolicy, place: usize, path: &Path<'_>) -> Vec<Rule> {
        let path = path.field("rules");
        let rules = policy.rules.as_deref().unwrap_or_default();
        let action = policy.action.unwrap_or_default();
        if rules.is_empty() && action != AuthorizationAction::Allow && !self.cx.errors.any_within(&path) {
            self.cx.warn(&path, "without rules this policy never matches; an empty rule, {}, always does");
        }
        self.lets_pass.set(action == AuthorizationAction::Allow);
        let compile = |(number, rule)| self.rule(rule, (place, number), &path.index(number));
        rules.iter().enumerate().map(compile).collect()
    }

    fn reply(&self, deny: Option<&DenyReply>, name: &Rc<str>, path: &Path<'_>) -> LocalReply {
        let mut reply = refusal(name);
        let Some(deny) = deny else { return reply };
        if let Some(status) = deny.status {
            if !(200..=599).contains(&status) {
                let message = format_args!("{status} is not the status of an answer; use 200 to 599");
                self.cx.errors.add(&path.field("status"), message);
            }
            reply.status = status;
        }
        check_body(reply.status, deny.body.is_some(), path, self.cx);
        if let Some(body) = &deny.body {
            reply.body = body.clone().into_bytes();
        }
        reply.headers = reply_headers(&deny.headers, &path.field("headers"), self.cx);
        reply
    }

    /// What the values of a header are, by its number.
    fn meaning(&self, slot: usize) -> Meaning {
        self.headers.borrow().get(slot).map_or(Meaning::Header, |name| Meaning::of_header(name))
    }

    /// The number of a header, by its name in lower case.
    fn header(&self, name: &str) -> usize {
        let mut headers = self.headers.borrow_mut();
        headers.iter().position(|known| known == name).unwrap_or_else(|| {
            headers.push(name.to_owned());
            headers.len().saturating_sub(1)
        })
    }
}

/// The refusal of Envoy's RBAC filter.
fn refusal(name: &str) -> LocalReply {
    LocalReply {
        status: 403,
        details: details(name),
        body: b"RBAC: access denied".to_vec(),
        ..LocalReply::default()
    }
}

fn details(name: &str) -> String {
    format!("rbac_access_denied_matched_policy[{name}]")
}

#[cfg(test)]
mod tests;
