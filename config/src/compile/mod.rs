//! [`Document`] → [`Policy`]: what the types alone do not say is checked here, and everything that can be computed
//! before the first request is.

mod authentication;
mod authorization;
mod common;
mod fault;
mod http;
mod http_match;
mod meaning;
mod rate_limits;
mod telemetry;

use std::cell::RefCell;

use super::document::{AmbiguousPaths, Document};
use meshfilter_core::policy::Policy;
use meshfilter_core::request::{AttributeId, AttributeTable};
use meshfilter_json::{self as json, Errors, Path};

/// What compiling a section needs besides the section.
pub struct Context<'a> {
    /// Where errors go. A section with an error is compiled all the same, to find the others; the document is
    /// refused in the end.
    pub errors: &'a Errors,
    /// Whether paths that servers differ on are refused where a rule is about paths.
    pub refuses_ambiguous_paths: bool,
    environment: &'a dyn Fn(&str) -> Option<String>,
    attributes: RefCell<AttributeTable>,
    warnings: Errors,
    reserved_headers: RefCell<Vec<String>>,
}

impl<'a> Context<'a> {
    fn new(environment: &'a dyn Fn(&str) -> Option<String>, errors: &'a Errors) -> Self {
        Context {
            errors,
            refuses_ambiguous_paths: true,
            environment,
            attributes: RefCell::default(),
            warnings: Errors::default(),
            reserved_headers: RefCell::default(),
        }
    }

    /// Makes the policy read an attribute at every request.
    pub fn attribute(&self, path: &[&str]) -> AttributeId {
        self.attributes.borrow_mut().intern(path)
    }

    /// A variable of the plugin's environment.
    pub fn environment(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    /// Something that the operator should know although the document is good.
    pub fn warn(&self, path: &Path<'_>, message: impl std::fmt::Display) {
        self.warnings.add(path, message);
    }

    /// Makes a header, in lower case, one that only the filter may set.
    pub fn reserve_header(&self, name: &str) {
        let mut reserved = self.reserved_headers.borrow_mut();
        if !reserved.iter().any(|known| known == name) {
            reserved.push(name.to_owned());
        }
    }
}

/// What compiling a document came to. The policy is good only if there were no errors.
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// What the operator should know.
    pub warnings: Vec<json::Error>,
    /// The same number for documents that say the same, whatever the order of their members.
    pub version: u32,
}

/// Compiles a document; `environment` looks up the plugin's variables.
pub fn compile(
    document: &Document,
    environment: &dyn Fn(&str) -> Option<String>,
    errors: &Errors,
) -> Compiled {
    let refuses_ambiguous_paths = document.ambiguous_paths.unwrap_or_default() == AmbiguousPaths::Reject;
    let cx = Context { refuses_ambiguous_paths, ..Context::new(environment, errors) };
    let authentication = authentication::compile(document, &cx);
    let policy = Policy {
        authorization: authorization::compile(document, &authentication, &cx),
        authentication,
        routing: http::compile(document, &cx),
        rate_limits: rate_limits::compile(document, &cx),
        telemetry: telemetry::compile(document, &cx),
        ..Policy::default()
    };
    Compiled {
        policy: Policy {
            attributes: cx.attributes.into_inner(),
            reserved_headers: cx.reserved_headers.into_inner(),
            ..policy
        },
        warnings: cx.warnings.into_vec(),
        version: 0,
    }
}
