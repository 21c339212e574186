//! The filters of rules and of backends.

use serde_json::{Map, Value, json};

use super::backend::{Backend, backend};
use crate::import::context::Context;
use crate::import::field::Field;
use crate::import::read::Resource;

/// What filters come to, in the words of an entry.
#[derive(Debug, Default)]
pub struct Filters {
    /// `headers`, `redirect`, `rewrite`, `mirrors`, `corsPolicy`.
    pub value: Map<String, Value>,
    /// The filter that replaces a prefix, by its path: every match has to have one.
    pub prefix: Option<String>,
}

/// Of a rule.
pub fn of_rule(field: &Field<'_>, to: &str, resource: &Resource, cx: &Context<'_>) -> Filters {
    let mut filters = Filters::default();
    for item in field.items() {
        read(&item, to, resource, Some(cx), &mut filters);
    }
    filters
}

/// Of a backend: changes of headers alone.
pub fn of_backend(field: &Field<'_>, to: &str, resource: &Resource) -> Map<String, Value> {
    let mut filters = Filters::default();
    for item in field.items() {
        read(&item, to, resource, None, &mut filters);
    }
    filters.value
}

/// The members by their types.
const MEMBERS: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("RequestMirror", "requestMirror"),
    ("CORS", "cors"),
    ("ExtensionRef", "extensionRef"),
    ("ExternalAuth", "externalAuth"),
];

/// `cx`: for those of a rule; those of a backend have less.
fn read(item: &Field<'_>, to: &str, resource: &Resource, cx: Option<&Context<'_>>, filters: &mut Filters) {
    let Some(object) = item.object() else { return };
    let kind = object.field("type").and_then(|field| Some((field.text()?, field)));
    let Some((kind, kind_field)) = kind else {
        item.problem_here("it has no type", "give it type, such as RequestHeaderModifier");
        object.rest(|field| field.no_meaning("nobody knows which filter this is"));
        return;
    };
    let Some((_, member)) = MEMBERS.iter().find(|(known, _)| *known == kind) else {
        kind_field.forbid(
            format!("nothing is known of the filter \"{kind}\""),
            "say in the policy what it is to do",
        );
        object.rest(|field| field.no_meaning("the filter is refused"));
        return;
    };
    if matches!(*member, "extensionRef" | "externalAuth") {
        let (reason, remedy) = match *member {
            "extensionRef" => (
                "which filter this names is another program's knowledge",
                "write what it does into the policy, or add the filter in envoy.yaml",
            ),
            _ => (
                "it asks a server of its own, which this policy cannot",
                "put Envoy's ext_authz filter before the module",
            ),
        };
        kind_field.forbid(reason, remedy);
        object.rest(|field| field.no_meaning("the filter is refused"));
        return;
    }
    let of_headers = matches!(*member, "requestHeaderModifier" | "responseHeaderModifier");
    if cx.is_none() && !of_headers {
        kind_field.forbid(
            format!("{kind} for one of several backends would hold for all of them"),
            "write it into the filters of a rule of its own",
        );
        object.rest(|field| field.no_meaning("the filter is refused"));
        return;
    }
    kind_field.taken(to);
    let Some(field) = object.field(member) else {
        item.problem_here(format!("it has no {member}"), format!("give it {member}"));
        return;
    };
    match (*member, cx) {
        ("requestHeaderModifier", _) => changes(&field, &format!("{to}.headers.request"), "request", filters),
        ("responseHeaderModifier", _) => {
            changes(&field, &format!("{to}.headers.response"), "response", filters)
        }
        ("requestRedirect", _) => redirect(&field, &format!("{to}.redirect"), filters),
        ("urlRewrite", _) => rewrite(&field, &format!("{to}.rewrite"), filters),
        ("requestMirror", Some(cx)) => mirror(&field, &format!("{to}.mirrors"), resource, cx, filters),
        ("cors", _) => {
            if let Some(cors) = cors(&field, &format!("{to}.corsPolicy")) {
                filters.value.insert("corsPolicy".to_owned(), cors);
            }
        }
        _ => {}
    }
}

fn changes(field: &Field<'_>, to: &str, side: &str, filters: &mut Filters) {
    let Some(object) = field.object() else { return };
    let mut changed = Map::new();
    for name in ["set", "add"] {
        let Some(field) = object.field(name) else { continue };
        let mut values = Map::new();
        for item in field.items() {
            let Some(object) = item.object() else { continue };
            let (Some(named), Some(value)) = (object.field("name"), object.field("value")) else {
                item.problem_here("it has no name or no value", "give it both");
                continue;
            };
            let (Some(header), Some(text)) = (named.text(), value.text()) else { continue };
            let header = header.to_ascii_lowercase();
            if values.contains_key(&header) {
                item.no_meaning("of several for one name the first counts");
                continue;
            }
            for field in [&named, &value] {
                field.taken(format!("{to}.{name}[{header}]"));
            }
            // In the policy a percent sign begins an attribute of Envoy's.
            values.insert(header, text.replace('%', "%%").into());
        }
        if !values.is_empty() {
            changed.insert(name.to_owned(), Value::Object(values));
        }
    }
    if let Some(field) = object.field("remove") {
        let names: Vec<String> = field.texts().into_iter().map(str::to_ascii_lowercase).collect();
        if !names.is_empty() {
            field.taken(format!("{to}.remove"));
            changed.insert("remove".to_owned(), json!(names));
        }
    }
    let headers = filters.value.entry("headers").or_insert_with(|| json!({}));
    if let Some(headers) = headers.as_object_mut()
        && !changed.is_empty()
    {
        headers.insert(side.to_owned(), Value::Object(changed));
    }
}

/// What becomes of the path.
enum Path {
    Full(String),
    Prefix(String),
}

fn path(field: &Field<'_>, to: &str) -> Option<Path> {
    let object = field.object()?;
    let kind = object.field("type");
    let text = |name: &'static str| -> Option<String> {
        let field = object.field(name)?;
        let text = field.text()?;
        field.taken(to);
        Some(text.to_owned())
    };
    let (full, prefix) = (text("replaceFullPath"), text("replacePrefixMatch"));
    let Some(kind) = kind else {
        field.problem_here("it has no type", "give it ReplaceFullPath or ReplacePrefixMatch");
        return None;
    };
    let path = match (kind.text()?, full, prefix) {
        ("ReplaceFullPath", Some(full), None) => Path::Full(full),
        ("ReplacePrefixMatch", None, Some(prefix)) => Path::Prefix(prefix),
        ("ReplaceFullPath" | "ReplacePrefixMatch", _, _) => {
            kind.forbid(
                "type and member do not fit each other",
                "use replaceFullPath with ReplaceFullPath, replacePrefixMatch with ReplacePrefixMatch",
            );
            return None;
        }
        (other, _, _) => {
            return kind
                .wrong(format!("\"{other}\" is not known; use ReplaceFullPath or ReplacePrefixMatch"));
        }
    };
    kind.taken(to);
    Some(path)
}

fn redirect(field: &Field<'_>, to: &str, filters: &mut Filters) {
    let Some(object) = field.object() else { return };
    let mut redirect = Map::new();
    for (name, member) in [("scheme", "scheme"), ("hostname", "authority")] {
        if let Some(field) = object.field(name)
            && let Some(text) = field.text()
        {
            field.taken(format!("{to}.{member}"));
            redirect.insert(member.to_owned(), text.into());
        }
    }
    if let Some(field) = object.field("port")
        && let Some(port) = field.whole(1, 65_535)
    {
        field.taken(format!("{to}.port"));
        redirect.insert("port".to_owned(), port.into());
    } else if redirect.contains_key("scheme") {
        redirect.insert("derivePort".to_owned(), "FROM_PROTOCOL_DEFAULT".into());
    }
    redirect.insert("redirectCode".to_owned(), 302.into());
    if let Some(field) = object.field("statusCode")
        && let Some(code) = field.whole(300, 399)
    {
        field.taken(format!("{to}.redirectCode"));
        redirect.insert("redirectCode".to_owned(), code.into());
    }
    if let Some(field) = object.field("path") {
        match path(&field, &format!("{to}.uri")) {
            Some(Path::Full(full)) => drop(redirect.insert("uri".to_owned(), full.into())),
            Some(Path::Prefix(prefix)) => {
                redirect.insert("prefixRewrite".to_owned(), slash(prefix).into());
                filters.prefix = Some(field.path().to_owned());
            }
            None => {}
        }
    }
    filters.value.insert("redirect".to_owned(), Value::Object(redirect));
}

/// Nothing in place of a prefix leaves the slash.
fn slash(prefix: String) -> String {
    if prefix.is_empty() { "/".to_owned() } else { prefix }
}

fn rewrite(field: &Field<'_>, to: &str, filters: &mut Filters) {
    let Some(object) = field.object() else { return };
    let mut rewrite = Map::new();
    if let Some(field) = object.field("hostname")
        && let Some(host) = field.text()
    {
        field.taken(format!("{to}.authority"));
        rewrite.insert("authority".to_owned(), host.into());
    }
    if let Some(field) = object.field("path") {
        match path(&field, &format!("{to}.uri")) {
            // `uri` alone would stand in for a prefix that matched.
            Some(Path::Full(full)) => {
                let with = slash(full).replace('\\', "\\\\");
                rewrite.insert("uriRegexRewrite".to_owned(), json!({"match": "^.*$", "rewrite": with}));
            }
            Some(Path::Prefix(prefix)) => {
                rewrite.insert("uri".to_owned(), slash(prefix).into());
                filters.prefix = Some(field.path().to_owned());
            }
            None => {}
        }
    }
    if !rewrite.is_empty() {
        filters.value.insert("rewrite".to_owned(), Value::Object(rewrite));
    }
}

fn mirror(field: &Field<'_>, to: &str, resource: &Resource, cx: &Context<'_>, filters: &mut Filters) {
    let Some(object) = field.object() else { return };
    let mut mirror = Map::new();
    let mut share = None;
    if let Some(field) = object.field("percent")
        && let Some(percent) = field.whole(0, 100)
    {
        field.taken(format!("{to}.percentage"));
        share = Some(json!(percent));
    }
    if let Some(field) = object.field("fraction")
        && let Some(value) = fraction(&field, &format!("{to}.percentage"))
    {
        share = Some(value);
    }
    if let Some(share) = share {
        mirror.insert("percentage".to_owned(), json!({ "value": share }));
    }
    let Some(field) = object.field("backendRef") else {
        field.problem_here("it has no backendRef", "give it backendRef.name and backendRef.port");
        return;
    };
    match backend(&field, &format!("{to}.destination"), resource, cx) {
        Some(Backend::At(destination)) => drop(mirror.insert("destination".to_owned(), destination.value())),
        // Copies that go nowhere are lost without a word, as the specification has it; the warning is said.
        Some(Backend::Nowhere) | None => return,
    }
    let mirrors = filters.value.entry("mirrors").or_insert_with(|| json!([]));
    if let Some(mirrors) = mirrors.as_array_mut() {
        mirrors.push(Value::Object(mirror));
    }
}

/// A share, in percent.
pub fn fraction(field: &Field<'_>, to: &str) -> Option<Value> {
    let object = field.object()?;
    let part = |name: &'static str, least: u64| -> Option<Option<u64>> {
        let Some(field) = object.field(name) else { return Some(None) };
        let whole = field.whole(least, u64::from(u32::MAX))?;
        field.taken(to);
        Some(Some(whole))
    };
    let (numerator, denominator) = (part("numerator", 0), part("denominator", 1));
    let (numerator, denominator) = (numerator?.unwrap_or(0), denominator?.unwrap_or(100));
    if numerator > denominator {
        return field.wrong(format!("{numerator} of {denominator} is more than all"));
    }
    let whole = numerator.saturating_mul(100);
    if whole.checked_rem(denominator) == Some(0) {
        return whole.checked_div(denominator).map(Value::from);
    }
    let number = |whole: u64| format!("{whole}").parse::<f64>().unwrap_or_default();
    Some(json!(number(whole) / number(denominator)))
}

/// CORS, of the Gateway API and of Envoy Gateway: they differ in how an age is written.
pub fn cors(field: &Field<'_>, to: &str) -> Option<Value> {
    let object = field.object()?;
    let mut cors = Map::new();
    if let Some(field) = object.field("allowOrigins") {
        let origins: Vec<Value> = field.texts().into_iter().map(origin).collect();
        field.taken(format!("{to}.allowOrigins"));
        cors.insert("allowOrigins".to_owned(), Value::Array(origins));
    }
    for name in ["allowMethods", "allowHeaders", "exposeHeaders"] {
        if let Some(field) = object.field(name) {
            let texts = field.texts();
            field.taken(format!("{to}.{name}"));
            cors.insert(name.to_owned(), json!(texts));
        }
    }
    if let Some(field) = object.field("maxAge") {
        let age = match field.value().is_string() {
            true => field.span().map(crate::import::mesh::span),
            false => field.whole(0, u64::from(u32::MAX)).map(|seconds| format!("{seconds}s")),
        };
        if let Some(age) = age {
            field.taken(format!("{to}.maxAge"));
            cors.insert("maxAge".to_owned(), age.into());
        }
    }
    if let Some(field) = object.field("allowCredentials")
        && let Some(flag) = field.flag()
    {
        field.taken(format!("{to}.allowCredentials"));
        cors.insert("allowCredentials".to_owned(), flag.into());
    }
    // Preflights are the gateway's to answer, those of other sites without leave.
    cors.insert("unmatchedPreflights".to_owned(), "IGNORE".into());
    Some(Value::Object(cors))
}

/// An origin, perhaps with `*` in it: `https://*.example.com`.
fn origin(text: &str) -> Value {
    match text == "*" || !text.contains('*') {
        true => json!({ "exact": text }),
        false => {
            let parts: Vec<String> = text.split('*').map(regex::escape).collect();
            json!({ "regex": parts.join(".*") })
        }
    }
}
