//! Annotations that say how often requests are tried, and how long they may take: of a Service, an HTTPRoute or a GRPCRoute.

use serde_json::{Map, Value, json};

use super::accrual::ACCRUAL;
use crate::import::field::{Field, Object};
use crate::import::mesh::{put, span};
use crate::import::read::Resource;

/// How they begin.
pub const ANNOTATIONS: &[&str] = &[RETRY, TIMEOUT];

/// How all begin that are taken of a Service.
pub const OF_SERVICES: &[&str] = &[RETRY, TIMEOUT, ACCRUAL];

const RETRY: &str = "retry.linkerd.io/";
const TIMEOUT: &str = "timeout.linkerd.io/";

/// What they say, in the words of an entry of `http`.
#[derive(Clone, Debug, Default)]
pub struct Annotated {
    entry: Map<String, Value>,
    /// Whether they speak of retries and of timeouts at all: then nobody else does.
    speaks: (bool, bool),
}

impl Annotated {
    /// Those of a resource.
    pub fn of(top: &Object<'_>, resource: &Resource) -> Self {
        let mut read = Annotated::default();
        let Some(metadata) = top.peek("metadata").and_then(|metadata| metadata.object()) else { return read };
        metadata.rest(|_| {});
        let Some(annotations) = metadata.peek("annotations") else { return read };
        let mut conditions: Vec<String> = Vec::new();
        let (mut limit, mut per_try) = (1_u64, None);
        for (name, field) in annotations.entries() {
            read.speaks.0 |= name.starts_with(RETRY);
            read.speaks.1 |= name.starts_with(TIMEOUT);
            if !ANNOTATIONS.iter().any(|known| name.starts_with(known)) {
                continue;
            }
            let Some(text) = field.text() else { continue };
            let time = || {
                let time = field.span()?;
                field.taken("timeout");
                Some(Value::from(span(time)))
            };
            match name {
                "retry.linkerd.io/http" if resource.kind != "GRPCRoute" => {
                    conditions.extend(statuses(&field, text));
                }
                "retry.linkerd.io/grpc" if resource.kind != "HTTPRoute" => {
                    field.taken("retries.retryOn");
                    conditions.extend(text.split(',').map(|status| status.trim().to_ascii_lowercase()));
                }
                "retry.linkerd.io/http" | "retry.linkerd.io/grpc" => {
                    field.refuse(format!("Linkerd does not take it of a {}", resource.kind), "leave it out");
                }
                "retry.linkerd.io/limit" => match text.parse() {
                    Ok(number) => {
                        field.taken("retries.attempts");
                        limit = number;
                    }
                    Err(_) => drop(field.wrong::<()>(format!("{text} is not a number"))),
                },
                "retry.linkerd.io/timeout" => {
                    per_try = time();
                }
                "timeout.linkerd.io/request" => {
                    if let Some(time) = time() {
                        read.entry.insert("timeout".to_owned(), time);
                    }
                }
                "timeout.linkerd.io/response" => {
                    if let Some(time) = time()
                        && !read.entry.contains_key("timeout")
                    {
                        read.entry.insert("timeout".to_owned(), time);
                    }
                }
                _ => field.refuse("Envoy has no such timeout for one route", "leave it out"),
            }
        }
        if !conditions.is_empty() {
            let mut retries = json!({"attempts": limit, "retryOn": conditions.join(",")});
            if let Some(per_try) = per_try {
                put(&mut retries, "perTryTimeout", per_try);
            }
            read.entry.insert("retries".to_owned(), retries);
        }
        read
    }

    /// These, and of what they do not speak, what others say.
    pub fn over(&self, others: &Map<String, Value>) -> Map<String, Value> {
        let mut entry = self.entry.clone();
        for (name, speaks) in [("retries", self.speaks.0), ("timeout", self.speaks.1)] {
            if let Some(value) = others.get(name).filter(|_| !speaks) {
                entry.insert(name.to_owned(), value.clone());
            }
        }
        entry
    }
}

/// `5xx`, `gateway-error`, statuses and ranges of them.
fn statuses(field: &Field<'_>, text: &str) -> Vec<String> {
    let mut conditions = Vec::new();
    for part in text.split(',').map(str::trim) {
        let bounds = part.split_once('-').and_then(|(from, to)| from.parse().ok().zip(to.parse().ok()));
        match (part, bounds) {
            ("5xx" | "gateway-error", _) => conditions.push(part.to_owned()),
            (_, Some((from, to))) if (100..600_u16).contains(&from) && from <= to && to < 600 => {
                conditions.extend((from..=to).map(|status| status.to_string()));
            }
            _ if part.parse().is_ok_and(|status: u16| (100..600).contains(&status)) => {
                conditions.push(part.to_owned());
            }
            _ => drop(field.wrong::<()>(format!(
                "{part} is no condition; use 5xx, gateway-error or statuses such as 500-504"
            ))),
        }
    }
    field.taken("retries.retryOn");
    conditions
}
