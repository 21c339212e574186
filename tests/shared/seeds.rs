//! The YAML that the guides print: in fences, without fences, and without its line breaks or its indentation, which are
//! found again by the schemas of the resources.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// One printed resource, or several: where it is from, and its text.
pub type Printed = (String, String);

/// Everything that the guides print as YAML of Kubernetes, in their order.
pub fn printed(folder: &Path) -> Vec<Printed> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder.join("../seeds")).into_iter().flatten().flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let schemas = Schemas::read(folder);
    let mut printed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        let blocks = if text.contains("\n```") {
            fenced(&text)
        } else if text.lines().count() < 5
            || text.contains(".. code-block:: yaml apiVersion")
            || one_line(&text)
            || text.contains("\nspec:\nhosts:")
        {
            flat(&text, &schemas)
        } else {
            paragraphs(&text)
        };
        let blocks = blocks.into_iter().filter(|block| block.contains("kind"));
        printed.extend(blocks.enumerate().map(|(index, block)| (format!("{name}#{}", index + 1), block)));
    }
    printed
}

fn one_line(text: &str) -> bool {
    text.lines().map(str::len).max().unwrap_or_default() > 5000
}

fn fenced(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            match block.take() {
                Some(lines) => blocks.push(lines.join("\n") + "\n"),
                None => block = Some(Vec::new()),
            }
        } else if let Some(lines) = &mut block {
            lines.push(line);
        }
    }
    blocks.retain(|block| {
        block.lines().any(|line| line.starts_with("apiVersion:") || line.starts_with("kind:"))
    });
    blocks
}

/// Blocks from a line with `apiVersion` to the next empty one.
fn paragraphs(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines().chain([""]) {
        if line.trim_end().is_empty() {
            blocks.extend(block.take().map(|lines| lines.join("\n") + "\n"));
        } else if line.starts_with("apiVersion:") {
            block = Some(vec![line]);
        } else if let Some(lines) = &mut block {
            lines.push(line);
        }
    }
    blocks
}

/// Blocks of which only the words are left.
fn flat(text: &str, schemas: &Schemas) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("apiVersion:") {
        let from = rest.get(start..).unwrap_or_default();
        let next =
            from.get(1..).and_then(|after| after.find("apiVersion:")).map_or(from.len(), |next| next + 1);
        let words = words(from.get(..next).unwrap_or_default());
        let mut reader = Words { words, at: 0 };
        let kind = reader
            .words
            .iter()
            .position(|word| word == "kind:")
            .and_then(|at| reader.words.get(at + 1))
            .cloned();
        let kind = kind.unwrap_or_default();
        let value = reader.object(&schemas.of(&kind), &[]);
        blocks.push(format!("{value:#}\n"));
        rest = from.get(next..).unwrap_or_default();
    }
    blocks
}

/// Words, of which those in quotes, brackets and braces are one.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut depth, mut quoted) = (0_i32, false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        if c.is_whitespace() && depth == 0 && !quoted {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            word.push(c);
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

struct Words {
    words: Vec<String>,
    at: usize,
}

impl Words {
    fn key(&self, at: usize) -> Option<&str> {
        self.words.get(at)?.strip_suffix(':')
    }

    fn object(&mut self, schema: &Value, above: &[&Value]) -> Value {
        let mut object = Map::new();
        while let Some(name) = self.key(self.at).map(str::to_owned) {
            let free = json!({});
            let known = property(schema, &name);
            let elsewhere = above.iter().any(|above| property(above, &name).is_some());
            let map = schema.get("additionalProperties").filter(|inner| inner.is_object());
            let inner = match (known, map) {
                (Some(inner), _) => inner.clone(),
                (None, Some(inner)) if !elsewhere || object.is_empty() => inner.clone(),
                (None, None) if schema.get("properties").is_none() && !elsewhere => free,
                _ => break,
            };
            self.at += 1;
            let mut above = above.to_vec();
            above.push(schema);
            object.insert(name, self.value(&inner, &above));
        }
        Value::Object(object)
    }

    fn value(&mut self, schema: &Value, above: &[&Value]) -> Value {
        match self.words.get(self.at).map(String::as_str) {
            Some("-") => {
                let item = schema.get("items").cloned().unwrap_or_else(|| json!({}));
                let mut list = Vec::new();
                while self.words.get(self.at).map(String::as_str) == Some("-") {
                    let fits = match self.key(self.at + 1) {
                        Some(name) => property(&item, name).is_some() || item.get("properties").is_none(),
                        None => item.get("properties").is_none(),
                    };
                    if !fits {
                        break;
                    }
                    self.at += 1;
                    list.push(self.value(&item, above));
                }
                Value::Array(list)
            }
            Some(word) if word.ends_with(':') => self.object(schema, above),
            Some(word) => {
                let value = serde_json::from_str(word).unwrap_or_else(|_| json!(word.trim_matches('"')));
                self.at += 1;
                value
            }
            None => Value::Null,
        }
    }
}

fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(name)
}

struct Schemas(Vec<(String, Value)>);

impl Schemas {
    fn read(folder: &Path) -> Self {
        let mut schemas = Vec::new();
        for file in std::fs::read_dir(folder.join("crds")).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let kind = name.trim_end_matches(".json").rsplit('_').next().unwrap_or_default().to_owned();
            // `Gateway` and others of several groups: the guides' is Istio's.
            if name.contains("istio.io_v1beta1") || name.contains("istio.io_v1alpha") {
                let schema = serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
                schemas.push((kind, schema));
            }
        }
        schemas.push((
            "TrafficSplit".to_owned(),
            object(json!({
                "service": {},
                "backends": {"items": object(json!({"service": {}, "weight": {}}))},
            })),
        ));
        let range = object(json!({"min": {}, "max": {}}));
        schemas.push((
            "ServiceProfile".to_owned(),
            object(json!({
                "routes": {"items": object(json!({
                    "name": {},
                    "condition": object(json!({"method": {}, "pathRegex": {}})),
                    "responseClasses": {"items": object(json!({
                        "condition": object(json!({"status": range})),
                        "isFailure": {},
                    }))},
                }))},
                "retryBudget": object(json!({"retryRatio": {}, "minRetriesPerSecond": {}, "ttl": {}})),
            })),
        ));
        Schemas(schemas)
    }

    /// The whole of a resource of a kind. What the guides write and no schema has is what they mean by it.
    fn of(&self, kind: &str) -> Value {
        let found = self.0.iter().find(|(name, _)| name == kind).map(|(_, schema)| schema.clone());
        let mut schema = found.unwrap_or_else(|| object(json!({})));
        if let Some(spec) = schema.pointer("/properties/spec").cloned() {
            schema = spec;
        }
        if kind == "DestinationRule"
            && let Some(outliers) =
                schema.pointer("/properties/trafficPolicy/properties/outlierDetection").cloned()
        {
            schema["properties"]["trafficPolicy"]["properties"]["circuitBreaker"] = outliers;
        }
        if kind == "EnvoyFilter" {
            let bucket = object(json!({"max_tokens": {}, "tokens_per_fill": {}, "fill_interval": {}}));
            let limit = object(json!({"stat_prefix": {}, "token_bucket": bucket}));
            let config = object(json!({"@type": {}, "type_url": {}, "value": limit}));
            schema["properties"]["configPatches"]["items"]["properties"]["patch"]["properties"]["value"] =
                object(json!({"name": {}, "typed_config": config}));
        }
        object(json!({
            "apiVersion": {},
            "kind": {},
            "metadata": object(json!({"name": {}, "namespace": {}})),
            "spec": schema,
        }))
    }
}

fn object(properties: Value) -> Value {
    json!({ "properties": properties })
}

/// Files of a folder and of those in it, by their paths from there.
pub fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
