//! OpenAPI 3: its path templates become one tag, so that metrics know `/users/{*}` and not every user.

use serde_json::{Value, json};

use super::context::Context;
use super::dialect::{Dialect, Kind, Phase, no_finish};
use super::field::Object;
use super::read::{OPEN_API, Resource};
use super::scope::Audience;

/// The tag: its value is the template.
const TAG: &str = "path_template";

/// OpenAPI.
pub static DIALECT: Dialect =
    Dialect { name: "OpenAPI", kinds: KINDS, istio_metrics: false, finish: no_finish };

const KINDS: &[Kind] = &[Kind::new(OPEN_API, &[], Phase::Policies, Audience::Everyone, read)];

const OTHER: &str = "what requests and answers have in them is not looked at";

fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    if let Some(field) = top.field("openapi")
        && let Some(version) = field.text()
    {
        match version.starts_with("3.") {
            true => field.taken("what this document is"),
            false => field.forbid(format!("OpenAPI {version} is not known"), "use 3.0 or 3.1"),
        }
    }
    if let Some(field) = top.field("swagger") {
        field.forbid("Swagger 2 has its paths in another form", "turn it into OpenAPI 3 first");
    }
    let mut bases = Vec::new();
    for server in top.field("servers").into_iter().flat_map(|servers| servers.items()) {
        let Some(server) = server.object() else { continue };
        if let Some(url) = server.field("url")
            && let Some(text) = url.text()
        {
            url.taken(format!("the beginning of the templates of the tag {TAG}"));
            let base = base(text);
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
        server
            .rest(|field| field.no_meaning_as_a_whole("where a proxy's services are is said by --endpoint"));
    }
    if bases.is_empty() {
        bases.push(String::new());
    }
    let mut templates: Vec<String> = Vec::new();
    match top.field("paths") {
        Some(paths) => {
            for (path, field) in paths.entries() {
                if !path.starts_with('/') {
                    field.no_meaning_as_a_whole("it is no path");
                    continue;
                }
                let (template, whole) = template(path);
                if !whole {
                    field.warn(
                        format!("{path} has a parameter that is part of a segment: taken as {template}"),
                        "let parameters be whole segments",
                    );
                }
                field.taken_as_a_whole(format!("telemetry.tags[{TAG}].value.pathTemplate: {template}"));
                templates.extend(bases.iter().map(|base| format!("{base}{template}")));
            }
        }
        None => resource.log.warn("", "it has no paths: there is nothing to take", ""),
    }
    top.rest(|field| field.no_meaning_as_a_whole(OTHER));
    if templates.is_empty() {
        return;
    }
    // What is named in full comes first, as OpenAPI has it.
    templates.sort_by(|a, b| order(a).cmp(&order(b)));
    templates.dedup();
    let named = |tag: &Value| tag.get("name").is_some_and(|name| name == TAG);
    let known = cx.mesh.tags.iter_mut().find(|(tag, _)| named(tag));
    match known.and_then(|(tag, _)| tag.pointer_mut("/value/pathTemplate")) {
        // Several documents are one service's, or those of several behind one proxy.
        Some(list) => {
            let known = list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            let mut all: Vec<String> = known.chain(templates).collect();
            all.sort_by(|a, b| order(a).cmp(&order(b)));
            all.dedup();
            *list = json!(all);
        }
        None => {
            let tag = json!({"name": TAG, "value": {"pathTemplate": templates}, "default": "other"});
            cx.mesh.tags.push((tag, cx.origin(resource, "paths")));
        }
    }
}

/// Segments, those with a parameter last.
fn order(template: &str) -> Vec<(bool, &str)> {
    template.split('/').map(|segment| (segment == "{*}", segment)).collect()
}

/// A path of OpenAPI as a template of the policy; whether every parameter is a whole segment.
fn template(path: &str) -> (String, bool) {
    let mut whole = true;
    let segment = |segment: &str| match segment.contains(['{', '}', '*']) {
        true => {
            whole &= segment.starts_with('{') && segment.ends_with('}') && segment.matches('{').count() == 1;
            "{*}".to_owned()
        }
        false => segment.to_owned(),
    };
    let segments: Vec<String> = path.split('/').map(segment).collect();
    (segments.join("/"), whole)
}

/// The path of a server's address, without a slash at the end.
fn base(url: &str) -> String {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => url,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    if path.starts_with('/') { template(path).0 } else { String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::import::testing::{errors, imported, policy, warnings};

    const API: &str = "\
openapi: 3.0.3
info: {title: Users, version: '1'}
servers: [{url: 'https://api.example.com/v1/'}]
paths:
  /users/{id}: {get: {responses: {'200': {description: ok}}}}
  /users/me: {get: {responses: {'200': {description: ok}}}}
  /users: {post: {responses: {'201': {description: made}}}}
components: {schemas: {}}
";

    #[test]
    fn paths_become_one_tag() {
        assert_eq!(
            policy(API),
            json!({"telemetry": {"tags": [{
                "name": "path_template",
                "value": {"pathTemplate": ["/v1/users", "/v1/users/me", "/v1/users/{*}"]},
                "default": "other",
            }]}})
        );
        let as_json = serde_json::to_string(&json!({"openapi": "3.1.0", "paths": {"/a/{b}": {}}})).unwrap();
        assert_eq!(policy(&as_json)["telemetry"]["tags"][0]["value"]["pathTemplate"], json!(["/a/{*}"]));
    }

    #[test]
    fn several_documents_are_one_tag() {
        let text = format!("{API}---\nopenapi: 3.1.0\npaths:\n  /books/{{id}}: {{}}\n");
        assert_eq!(
            policy(&text)["telemetry"]["tags"][0]["value"]["pathTemplate"],
            json!(["/books/{*}", "/v1/users", "/v1/users/me", "/v1/users/{*}"])
        );
    }

    #[test]
    fn what_is_another_version_is_refused_and_what_is_wider_is_told() {
        for (text, expected) in [
            ("openapi: 4.0.0\npaths: {}\n", "1: openapi: OpenAPI 4.0.0 is not known; use 3.0 or 3.1"),
            (
                "swagger: '2.0'\npaths: {}\n",
                "1: swagger: Swagger 2 has its paths in another form; turn it into OpenAPI 3 first",
            ),
        ] {
            assert_eq!(errors(&imported(text).report), [expected]);
        }
        let told = warnings(&imported("openapi: 3.0.0\npaths: {'/files/{name}.json': {}}\n").report);
        assert!(told[0].contains("taken as /files/{*}"), "{told:?}");
    }
}
