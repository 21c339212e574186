//! Limits as Limitador's file has them, and which of them a question counts by.

use std::collections::HashMap;
use std::path::Path;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use limitador::counter::Counter;
use limitador::errors::LimitadorError;
use limitador::limit::{Context, Expression, Limit};

use crate::Failure;

/// The limits of a file, by their namespaces.
pub struct Limits(HashMap<String, Vec<Limit>>);

impl Limits {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let list: Vec<Limit> = serde_saphyr::from_str(&text).map_err(|error| wrong(&error))?;
        let mut limits: HashMap<String, Vec<Limit>> = HashMap::new();
        for limit in list {
            limits.entry(limit.namespace().as_ref().to_owned()).or_default().push(limit);
        }
        Ok(Limits(limits))
    }

    /// The counters of all limits that apply.
    pub fn counters(
        &self,
        domain: &str,
        descriptors: &[RateLimitDescriptor],
    ) -> Result<Vec<Counter>, LimitadorError> {
        let context = context(descriptors);
        let limits = self.0.get(domain).into_iter().flatten().filter(|limit| limit.applies(&context));
        limits.filter_map(|limit| Counter::new(limit.clone(), &context).transpose()).collect()
    }
}

/// What conditions and variables see: `descriptors`, a list of maps.
pub fn context(descriptors: &[RateLimitDescriptor]) -> Context<'static> {
    let pairs = |descriptor: &RateLimitDescriptor| {
        descriptor.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    };
    let mut context = Context::default();
    context.list_binding("descriptors".to_owned(), descriptors.iter().map(pairs).collect());
    context
}

/// The value of a key of the only descriptor.
pub fn variable(key: &str) -> Option<Expression> {
    Expression::parse(format!("descriptors[0][{}]", serde_json::to_string(key).ok()?)).ok()
}
