//! `meshfilter limits`: what a rate limit service has to be configured with for a policy.

mod limitador;
mod ratelimit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::ValueEnum;
use meshfilter::config::document::{Descriptor, Document, RateLimit, Source};
use meshfilter::config::{Errors, Path};
use meshfilter::json;
use meshfilter::policy::rate_limit::global::Unit;
use serde_json::Value;

use super::{Outcome, check, input, report};

/// Write what a rate limit service has to know of a policy
///
/// A limit stands in the policy, at rateLimits[].global.limit. envoyproxy/ratelimit takes it from each question, and has
/// to know the domain alone; Limitador takes its limits from a file. Either file is written here, to standard output
/// unless --output says where.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The policy in YAML or JSON; - is standard input
    #[arg(value_name = "POLICY")]
    policy: String,

    /// Which service it is for
    #[arg(long = "for", value_enum, value_name = "SERVICE")]
    service: Service,

    /// Write this domain alone; envoyproxy/ratelimit has a file for each
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,

    /// Where to write it; default is standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter limits policy.yaml --for ratelimit --output config/web.yaml
  meshfilter limits policy.yaml --for limitador > limits.yaml && limitador-server limits.yaml redis redis://127.0.0.1:6379

The exit code is 1 if the policy is wrong, or if an entry with `global` does not say its limit.";

/// A service whose configuration can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// github.com/envoyproxy/ratelimit
    Ratelimit,
    /// github.com/Kuadrant/limitador
    Limitador,
}

/// Everything that policies say of one domain's limits.
type Domains = BTreeMap<String, Vec<Limit>>;

/// One limit of a service.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    /// The entry's name.
    name: String,
    /// What a descriptor has to be for it to count.
    shape: Shape,
    /// At which places of a question it may stand, from 0.
    places: BTreeSet<usize>,
    requests_per_unit: u32,
    unit: Unit,
}

/// The keys of a descriptor, with the values of those that have a fixed one.
type Shape = Vec<(String, Option<String>)>;

/// Writes the configuration.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    let bytes = match input::read(&arguments.policy) {
        Ok(bytes) => bytes,
        Err(error) => return misused(&format!("{}: {error}", arguments.policy)),
    };
    let mut domains = Domains::new();
    let checked = check::check_further(&arguments.policy, &bytes, |policy, errors| {
        domains = limits(policy, arguments.service, errors);
    });
    if !checked.errors.is_empty() {
        eprint!("{}", report::text(&[checked], check::colours_on_errors()));
        return Outcome::Wrong;
    }
    let known = domains.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(domain) = &arguments.domain {
        domains.retain(|name, _| name == domain);
        if domains.is_empty() {
            return misused(&format!("--domain {domain}: the policy has {known}"));
        }
    }
    let Some(text) = text(&domains, arguments.service) else {
        return misused(&format!("ratelimit has a file for each domain; choose with --domain: {known}"));
    };
    match &arguments.output {
        None => output.extend_from_slice(text.as_bytes()),
        Some(path) => {
            if let Err(error) = std::fs::write(path, text) {
                return misused(&format!("{}: {error}", path.display()));
            }
        }
    }
    Outcome::Good
}

/// The configuration for a policy without an error, of one domain where the service has a file for each.
///
/// # Errors
/// What is missing, or cannot be told the service, with its path.
pub fn written(policy: &Value, service: Service) -> Result<String, String> {
    let errors = Errors::default();
    let domains = limits(policy, service, &errors);
    let said: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
    if !said.is_empty() {
        return Err(said.join("\n"));
    }
    text(&domains, service).ok_or_else(|| "ratelimit has a file for each domain".to_owned())
}

/// `None` where the service has a file for each domain, and there are several.
fn text(domains: &Domains, service: Service) -> Option<String> {
    let text = match service {
        Service::Limitador => limitador::write(domains),
        Service::Ratelimit => {
            let (domain, limits) = domains.first_key_value().filter(|_| domains.len() == 1)?;
            ratelimit::write(domain, limits)
        }
    };
    Some(format!(
        "# The limits of rateLimits[].global.limit, as `meshfilter limits --for {}` writes them.\n{text}",
        service.name()
    ))
}

fn misused(problem: &str) -> Outcome {
    eprintln!("meshfilter: {problem}");
    Outcome::Misused
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Ratelimit => "ratelimit",
            Service::Limitador => "limitador",
        }
    }
}

/// The limits of a policy without an error, by their domains.
fn limits(policy: &Value, service: Service, errors: &Errors) -> Domains {
    let document: Document = json::read(policy, &Path::ROOT, &Errors::default()).unwrap_or_default();
    let (mut domains, list) = (Domains::new(), Path::ROOT.field("rateLimits"));
    for (index, entry) in document.rate_limits.iter().enumerate() {
        let entry_path = list.index(index);
        let name = entry.name.clone().unwrap_or_else(|| entry_path.to_string());
        collect(entry, &name, &entry_path, service, &mut domains, errors);
    }
    if domains.is_empty() && errors.count() == 0 {
        errors.add(
            if document.rate_limits.is_empty() { &Path::ROOT } else { &list },
            "no entry asks a rate limit service; one with global: {cluster, domain, descriptors, limit} does",
        );
    }
    domains
}

fn collect(
    entry: &RateLimit,
    name: &str,
    path: &Path<'_>,
    service: Service,
    domains: &mut Domains,
    errors: &Errors,
) {
    let Some(global) = &entry.global else { return };
    let path = path.field("global");
    let limit = global.limit.and_then(|limit| Some((limit.requests_per_unit?, limit.unit?)));
    let (Some(domain), Some((requests_per_unit, unit))) = (&global.domain, limit) else {
        errors.add(
            &path,
            "without a limit there is nothing to tell the service; give one, such as \
             limit: {requestsPerUnit: 100, unit: MINUTE}",
        );
        return;
    };
    let known = domains.entry(domain.clone()).or_default();
    let listed = path.field("descriptors");
    // What may be missing is left out of the question, and what follows moves up.
    let mut movable = 0_usize;
    for (index, descriptor) in global.descriptors.iter().enumerate() {
        let shape = shape(descriptor);
        let place = listed.index(index);
        if service == Service::Ratelimit
            && shape.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.contains('*')))
        {
            errors.add(&place, "ratelimit reads * in a value as a wildcard; choose a literal without it");
        }
        let places = index.saturating_sub(movable)..=index;
        movable = movable.saturating_add(usize::from(!is_certain(descriptor)));
        let same = known.iter_mut().find(|limit| limit.shape == shape);
        match same {
            Some(limit) if (limit.requests_per_unit, limit.unit) != (requests_per_unit, unit) => errors.add(
                &place,
                format_args!(
                    "{} has another limit for the same keys in the domain {domain}, and the service cannot tell \
                     them apart; add an entry such as {{key: limit, value: {{literal: {name}}}}}, or use \
                     another domain",
                    limit.name
                ),
            ),
            Some(limit) => limit.places.extend(places),
            None => known.push(Limit {
                name: name.to_owned(),
                shape,
                places: places.collect(),
                requests_per_unit,
                unit,
            }),
        }
    }
}

fn shape(descriptor: &Descriptor) -> Shape {
    let entry = |entry: &meshfilter::config::document::DescriptorEntry| {
        Some((entry.key.clone()?, entry.value.as_ref()?.literal.clone()))
    };
    descriptor.entries.iter().filter_map(entry).collect()
}

/// Whether no value of it can be missing.
fn is_certain(descriptor: &Descriptor) -> bool {
    let certain = |source: &Source| {
        source.literal.is_some()
            || source.default.is_some()
            || source.path == Some(true)
            || source.method == Some(true)
    };
    descriptor.entries.iter().all(|entry| entry.value.as_ref().is_some_and(certain))
}

#[cfg(test)]
mod tests;
