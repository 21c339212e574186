//! Where a rule's keys come from.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::super::common::positive;
use super::super::{Context, Path};
use crate::document::JwtRule;
use meshfilter_core::policy::authentication::{
    Algorithm, Algorithms, KeySet, KeySource, Location, Remote, Settings, Url,
};

const CACHE_DURATION: Duration = Duration::from_secs(600);
const MAX_STALE: Duration = Duration::from_secs(86_400);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Compiles a rule's key source: the one that is given, or the issuer's own by discovery; `None`
/// after an error.
pub fn compile(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Option<KeySource> {
    let given = [source.jwks.is_some(), source.jwks_uri.is_some(), source.jwks_from_environment.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        cx.errors.add(path, "more than one key set; keep one of jwks, jwksUri and jwksFromEnvironment");
    }
    if let Some(jwks) = &source.jwks {
        let place = path.field("jwks");
        return match jwks {
            Value::String(text) => inline(text.as_bytes(), &place, cx),
            Value::Object(_) => inline(jwks.to_string().as_bytes(), &place, cx),
            _ => {
                cx.errors.add(&place, "not a key set; use an object with keys, or its JSON text");
                None
            }
        };
    }
    if let Some(name) = &source.jwks_from_environment {
        let place = path.field("jwksFromEnvironment");
        return match cx.environment(name) {
            Some(text) => inline(text.as_bytes(), &place, cx),
            None => {
                cx.errors.add(
                    &place,
                    format_args!(
                        "there is no variable \"{name}\"; set it in the plugin's environment_variables"
                    ),
                );
                None
            }
        };
    }
    remote(source, path, cx)
}

/// A key set over HTTP: at `jwksUri`, or where the issuer's configuration says.
fn remote(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Option<KeySource> {
    let location = match (&source.jwks_uri, &source.issuer) {
        (Some(uri), _) => Url::parse(uri)
            .map(Location::KeySet)
            .map_err(|error| cx.errors.add(&path.field("jwksUri"), error))
            .ok(),
        (None, Some(issuer)) => {
            Location::discover(issuer).map_err(|error| cx.errors.add(&path.field("issuer"), error)).ok()
        }
        (None, None) => {
            cx.errors.add(path, "no keys; add jwks, jwksFromEnvironment, or jwksUri with its jwksCluster");
            return None;
        }
    };
    let cluster = source.jwks_cluster.as_ref().filter(|cluster| !cluster.is_empty());
    if cluster.is_none() {
        let message = "which Envoy cluster serves the key set? name it, or give the keys in jwks";
        cx.errors.add(&path.field("jwksCluster"), message);
    }
    let duration = |given, name, otherwise| positive(given, name, path, cx).unwrap_or(otherwise);
    let settings = Settings {
        cache_duration: duration(source.jwks_cache_duration, "jwksCacheDuration", CACHE_DURATION),
        max_stale: source.jwks_max_stale.map_or(MAX_STALE, |given| given.0),
        timeout: duration(source.timeout, "timeout", TIMEOUT),
        shared: source.jwks_shared.unwrap_or(true),
        cluster: cluster?.clone(),
        location: location?,
    };
    Some(KeySource::Remote(Box::new(Remote::new(settings))))
}

/// Reads a key set that is there already. What can be used of it is used; the rest is said.
fn inline(text: &[u8], path: &Path<'_>, cx: &Context<'_>) -> Option<KeySource> {
    match KeySet::parse(text) {
        Ok((keys, warnings)) => {
            for warning in warnings {
                cx.warn(path, warning);
            }
            Some(KeySource::Inline(Rc::new(keys)))
        }
        Err(error) => {
            cx.errors.add(path, error);
            None
        }
    }
}

/// The algorithms that may sign; every asymmetric one by default.
pub fn algorithms(names: Option<&[String]>, path: &Path<'_>, cx: &Context<'_>) -> Algorithms {
    let Some(names) = names else { return Algorithms::default() };
    let place = path.field("algorithms");
    if names.is_empty() {
        cx.errors.add(&place, "an empty list allows no token; add one such as RS256, or leave it out");
    }
    let known = |(index, name): (usize, &String)| {
        let algorithm = Algorithm::from_name(name);
        if algorithm.is_none() {
            let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
            cx.errors.add(
                &place.index(index),
                format_args!("\"{name}\" is not an algorithm; use one of {}", known.join(", ")),
            );
        }
        algorithm
    };
    names.iter().enumerate().filter_map(known).collect()
}
