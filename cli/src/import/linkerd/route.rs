//! HTTPRoute and GRPCRoute of `policy.linkerd.io`: of a Server they say what its policies are for, of a Service where its
//! requests go, as the Gateway API's do.

use std::collections::BTreeMap;

use super::server::{For, closed, is_for};
use crate::import::annotations::times::Annotated;
use crate::import::context::Context;
use crate::import::field::Object;
use crate::import::gateway::{matches, of_services};
use crate::import::mesh::hosts::of_service;
use crate::import::read::Resource;
use crate::import::smi::split;

/// Reads one.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let annotated = Annotated::of(top, resource);
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else {
        resource.log.error("spec", "a route without a spec says nothing", "give it spec.parentRefs");
        return;
    };
    let mut services = BTreeMap::new();
    let (mut of_servers, mut elsewhere) = (false, false);
    let Some(parents) = spec.field("parentRefs") else {
        resource.log.error(
            "spec.parentRefs",
            "it does not say whose requests it has",
            "name a Server or a Service",
        );
        return;
    };
    for item in parents.items() {
        let Some(parent) = item.object() else { continue };
        let text = |name: &'static str| parent.field(name).and_then(|field| field.text());
        text("group");
        let (kind, name) = (text("kind").unwrap_or("Server"), text("name").unwrap_or_default());
        let namespace = text("namespace").map(str::to_owned);
        for name in ["port", "sectionName"] {
            parent.field(name);
        }
        match kind {
            "Server" => {
                of_servers = true;
                match is_for(name, &item, resource, cx) {
                    For::Others => item.no_meaning("the proxy is not that Server"),
                    For::Us => {
                        item.taken("whose policies may name it");
                        closed(name, resource, cx);
                    }
                    For::Unknown => item.taken("whose policies may name it"),
                }
            }
            "Service" => {
                let namespace = namespace.unwrap_or_else(|| cx.namespace(resource).to_owned());
                let replaced = || Some((cx.replaced_for(resource, name, &namespace)?, "leave it out"));
                if let Some((reason, remedy)) = cx.not_its_service(resource, &namespace).or_else(replaced) {
                    elsewhere = true;
                    item.no_meaning(&reason);
                    item.warn(format!("left out: {reason}"), remedy);
                    continue;
                }
                item.taken("the hosts of the http entries");
                let host = of_service(name, &namespace);
                services.insert(host.clone(), split::destination(&host, cx));
            }
            other => item.forbid(format!("{other} takes no requests here"), "name a Server or a Service"),
        }
    }
    if let Some(field) = spec.field("hostnames") {
        match services.is_empty() {
            true => field.taken("authorization[].rules[].to[].operation.hosts"),
            false => field.forbid("requests of a Service are known by the Service's names", "leave it out"),
        }
    }
    if services.is_empty() {
        of_server(&spec, resource);
        if !of_servers && !elsewhere && !resource.log.has_errors() {
            parents.problem_here("it names nobody whose requests it has", "name a Server or a Service");
        }
    }
    of_services(&spec, services, &annotated, resource, cx);
}

/// What a Server's route has beside its matches, which its policies take.
fn of_server(spec: &Object<'_>, resource: &Resource) {
    let remedy = "say it in a route of the Service";
    for (index, item) in spec.field("rules").into_iter().flat_map(|rules| rules.items()).enumerate() {
        let Some(rule) = item.object() else { continue };
        matches::read(&rule, "authorization[].rules[].to[].operation", resource, index);
        if let Some(field) = rule.field("name") {
            field.no_meaning("policies name the whole route");
        }
        for filter in rule.field("filters").into_iter().flat_map(|filters| filters.items()) {
            let kind = filter.value().get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
            match kind {
                "RequestHeaderModifier" | "ResponseHeaderModifier" => {
                    filter.refuse("a Server's route says who gets in", remedy);
                }
                other => filter.forbid(format!("{other} of a Server's route is not taken"), remedy),
            }
        }
        if let Some(field) = rule.field("timeouts") {
            field.refuse("a Server's route says who gets in, not how long it may take", remedy);
        }
        if let Some(field) = rule.field("backendRefs") {
            field.refuse("a Server's route leads to the Server itself", "leave it out");
        }
    }
}
