//! HTTPRouteGroup, TCPRoute, UDPRoute: what TrafficSplit and TrafficTarget name.

use serde_json::Value;

use crate::import::context::Context;
use crate::import::dialect::no_hint;
use crate::import::field::{Field, Object, Reading};
use crate::import::mesh::condition::Condition;
use crate::import::read::Resource;

/// Where its matches stand depends on the version: in `spec`, or beside it.
fn matches<'a>(top: &Object<'a>) -> Option<Field<'a>> {
    let spec = top.field("spec").and_then(|spec| spec.object());
    let within = spec.and_then(|spec| spec.field("matches"));
    let beside = top.field("matches");
    within.or(beside)
}

/// Reads a group: what it says is taken where it is named.
pub fn http(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let read = matches(top).map(|matches| group(&matches)).unwrap_or_default();
    if read.is_empty() {
        resource.log.error("spec.matches", "it has no matches", "say which requests it is for");
    }
    if !is_named(resource, cx) {
        resource.log.warn("metadata.name", "no TrafficTarget and no TrafficSplit names it", "");
    }
}

fn is_named(resource: &Resource, cx: &Context<'_>) -> bool {
    let words = |other: &Resource| -> Vec<String> {
        let lists = ["/spec/matches", "/spec/rules", "/specs", "/spec/specs"];
        let lists = lists.iter().filter_map(|list| other.value.pointer(list)?.as_array());
        let named = lists.flatten().filter_map(|rule| rule.get("name")?.as_str());
        named.map(|name| format!("{}/{name}", cx.namespace(other))).collect()
    };
    let own = format!("{}/{}", cx.namespace(resource), resource.name);
    ["TrafficTarget", "TrafficSplit"].iter().any(|kind| !cx.with((kind, "routes"), words, &own).is_empty())
}

/// Matches by their names.
fn group(field: &Field<'_>) -> Vec<(String, Condition)> {
    let mut found = Vec::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        let mut all = Vec::new();
        let name = object.field("name").and_then(|field| {
            field.taken("what the match is called");
            field.text().map(str::to_owned)
        });
        if let Some(field) = object.field("methods") {
            let methods = field.texts();
            field.taken("match.method");
            // As all of them together.
            if !methods.is_empty() && !methods.contains(&"*") {
                all.push(Condition::Method(methods.into_iter().map(str::to_ascii_uppercase).collect()));
            }
        }
        if let Some(field) = object.field("pathRegex")
            && let Some(regex) = field.text()
        {
            field.taken("match.uri.regex");
            if regex != ".*" && !regex.is_empty() {
                all.push(Condition::Path(regex.to_owned()));
            }
        }
        if let Some(field) = object.field("headers") {
            // Some versions have a list of them.
            let maps = match field.value() {
                Value::Array(_) => field.items(),
                _ => vec![field],
            };
            for (name, field) in maps.iter().flat_map(Field::entries) {
                if let Some(regex) = field.text() {
                    field.taken(format!("match.headers[{name}].regex"));
                    all.push(Condition::Header(name.to_owned(), regex.to_owned()));
                }
            }
        }
        found.push((name.unwrap_or_default(), Condition::All(all)));
    }
    found
}

/// The matches that a rule names: those of the group, or the named ones of them.
pub fn named(item: &Field<'_>, rule: &Object<'_>, namespace: &str, cx: &Context<'_>) -> Vec<Condition> {
    if let Some(kind) = rule.field("kind") {
        kind.taken("what is named");
        if kind.text().is_some_and(|kind| kind != "HTTPRouteGroup") {
            kind.forbid("requests are chosen by an HTTPRouteGroup alone", "name one");
        }
    }
    if let Some(group) = rule.field("apiGroup") {
        group.taken("what is named");
    }
    let wanted = rule.field("matches").map(|field| {
        let wanted = field.texts();
        field.taken("the matches of the group that count");
        (field, wanted)
    });
    let Some(name) = rule.field("name") else {
        item.problem_here("it names no HTTPRouteGroup", "give it a name");
        return Vec::new();
    };
    name.taken("the group whose matches count");
    let Some(text) = name.text() else { return Vec::new() };
    let Some(resource) = cx.find("HTTPRouteGroup", namespace, text) else {
        name.problem_here(format!("there is no HTTPRouteGroup {namespace}/{text}"), "put it into the input");
        return Vec::new();
    };
    let all = resource.log.silently(|| {
        let reading = Reading { log: &resource.log, hint: no_hint };
        let top = Field::root(&resource.value, reading).object();
        let top = top.inspect(|top| top.rest(|_| {}));
        top.as_ref().and_then(matches).map(|matches| group(&matches)).unwrap_or_default()
    });
    let Some((field, wanted)) = wanted.filter(|(_, wanted)| !wanted.is_empty()) else {
        return all.into_iter().map(|(_, condition)| condition).collect();
    };
    for missing in wanted.iter().filter(|wanted| !all.iter().any(|(name, _)| name == *wanted)) {
        let known: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        field.problem_here(
            format!("the HTTPRouteGroup {text} has no match {missing}"),
            format!("it has {}", known.join(", ")),
        );
    }
    all.into_iter()
        .filter(|(name, _)| wanted.contains(&name.as_str()))
        .map(|(_, condition)| condition)
        .collect()
}

/// A TCPRoute: ports.
pub fn ports(top: &Object<'_>, _: &Resource, _: &mut Context<'_>) {
    let Some(spec) = top.field("spec").and_then(|spec| spec.object()) else { return };
    if let Some(field) = spec.field("matches") {
        field.taken("the ports of the TrafficTarget that names it");
    }
}

/// A UDPRoute.
pub fn datagrams(top: &Object<'_>, _: &Resource, _: &mut Context<'_>) {
    if let Some(spec) = top.field("spec") {
        spec.no_meaning("no request comes as UDP here");
    }
}
