//! What `kubectl kustomize` makes of a folder, for that part of kustomize that `envoy/k8s` uses. Anything else is an error.
//! Where there is a kubectl, a test holds it to the original.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::support::case::yaml;
use crate::support::repository;

/// Objects with this annotation stay out of the output.
const LOCAL: &str = "config.kubernetes.io/local-config";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _version: String,
    #[serde(rename = "kind")]
    _kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    config_map_generator: Vec<ConfigMap>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    replacements: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigMap {
    name: String,
    files: Vec<String>,
    #[serde(default)]
    options: ConfigMapOptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigMapOptions {
    disable_name_suffix_hash: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Selector,
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    kind: String,
    name: Option<String>,
}

impl Selector {
    fn selects(&self, object: &Value) -> bool {
        object["kind"] == self.kind.as_str()
            && self.name.as_ref().is_none_or(|name| object["metadata"]["name"] == name.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    source: Source,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Source {
    kind: String,
    name: Option<String>,
    field_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    select: Selector,
    field_paths: Vec<String>,
    options: Option<Part>,
}

/// A part of a text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    delimiter: String,
    index: usize,
}

/// The objects of an overlay of `envoy/k8s`.
pub fn build(overlay: &str) -> Vec<Value> {
    let folder = repository("envoy/k8s").join(overlay);
    let mut objects = accumulate(&folder, Vec::new()).unwrap_or_else(|error| panic!("{overlay}: {error}"));
    name_by_content(&mut objects);
    objects
}

/// The only object of this kind, and of this name if there are several.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let selector = Selector { kind: kind.to_owned(), name: Some(name.to_owned()) };
    let found: Vec<&Value> = objects.iter().filter(|object| selector.selects(object)).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0]
}

/// Every overlay: what has a kustomization and is no component.
pub fn overlays() -> Vec<String> {
    let folders = fs::read_dir(repository("envoy/k8s")).unwrap().flatten().map(|entry| entry.path());
    let is_overlay = |folder: &std::path::PathBuf| {
        let text = fs::read_to_string(folder.join("kustomization.yaml"));
        text.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).contains("kind: Kustomization\n")
    };
    let mut names: Vec<String> = folders
        .filter(is_overlay)
        .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Adds a folder's objects to those that are there.
fn accumulate(folder: &Path, mut objects: Vec<Value>) -> Result<Vec<Value>, String> {
    let kustomization: Kustomization = serde_json::from_value(read(&folder.join("kustomization.yaml"))?)
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    for resource in &kustomization.resources {
        let path = folder.join(resource);
        match path.is_dir() {
            true => objects.extend(accumulate(&path, Vec::new())?),
            false if resource.contains("..") => return Err(format!("{resource} is outside of the folder")),
            false => objects.push(read(&path)?),
        }
    }
    for component in &kustomization.components {
        objects = accumulate(&folder.join(component), objects)?;
    }
    for generator in &kustomization.config_map_generator {
        objects.push(generate(folder, generator)?);
    }
    for Patch { target, patch } in &kustomization.patches {
        let patch: json_patch::Patch =
            serde_json::from_value(yaml(patch)?).map_err(|error| error.to_string())?;
        let mut patched = 0;
        for object in objects.iter_mut().filter(|object| target.selects(object)) {
            json_patch::patch(object, &patch).map_err(|error| format!("{}: {error}", target.kind))?;
            patched += 1;
        }
        if patched == 0 {
            return Err(format!("there is no {} to patch", target.kind));
        }
    }
    if let Some(namespace) = &kustomization.namespace {
        for object in &mut objects {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
    }
    for replacement in &kustomization.replacements {
        replace(&mut objects, replacement)?;
    }
    objects.retain(|object| object["metadata"]["annotations"][LOCAL] != "true");
    Ok(objects)
}

fn read(path: &Path) -> Result<Value, String> {
    let wrong = |error: String| format!("{}: {error}", path.display());
    yaml(&fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?).map_err(wrong)
}

fn generate(folder: &Path, generator: &ConfigMap) -> Result<Value, String> {
    let mut data = Map::new();
    for file in &generator.files {
        let (key, file) = file.split_once('=').unwrap_or((file, file));
        let text = fs::read_to_string(folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
        data.insert(key.to_owned(), text.into());
    }
    let mut map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator.name}, "data": data});
    if !generator.options.disable_name_suffix_hash {
        map[HASH] = true.into();
    }
    Ok(map)
}

/// Marks what gets a hash in its name, once everything else is done.
const HASH: &str = "needs a hash";

fn name_by_content(objects: &mut [Value]) {
    let mut renamed = Vec::new();
    for object in objects.iter_mut() {
        if object.as_object_mut().and_then(|map| map.remove(HASH)).is_some() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let hashed = format!("{name}-{}", hash(object));
            object["metadata"]["name"] = hashed.as_str().into();
            renamed.push((name, hashed));
        }
    }
    // The one kind of reference that is used.
    for object in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
        let volumes = object.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            for (name, hashed) in &renamed {
                if volume["configMap"]["name"] == name.as_str() {
                    volume["configMap"]["name"] = hashed.as_str().into();
                }
            }
        }
    }
}

/// Kustomize's: of the data as Go writes JSON, and without vowels and digits that could make words.
fn hash(map: &Value) -> String {
    let text = json!({"data": map["data"], "kind": "ConfigMap", "name": ""}).to_string();
    let text = text.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026");
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let letter = |digit: char| match digit {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    };
    hex.chars().take(10).map(letter).collect()
}

fn replace(objects: &mut [Value], replacement: &Replacement) -> Result<(), String> {
    let Source { kind, name, field_path } = &replacement.source;
    let selector = Selector { kind: kind.clone(), name: name.clone() };
    let sources: Vec<&Value> = objects.iter().filter(|object| selector.selects(object)).collect();
    let [source] = sources.as_slice() else { return Err(format!("there is not one {kind} to copy from")) };
    let mut source = (*source).clone();
    let value = at(&mut source, field_path)?.clone();
    for target in &replacement.targets {
        for object in objects.iter_mut().filter(|object| target.select.selects(object)) {
            for path in &target.field_paths {
                let field = at(object, path)?;
                *field = match &target.options {
                    None => value.clone(),
                    Some(Part { delimiter, index }) => {
                        let (Some(whole), Some(value)) = (field.as_str(), value.as_str()) else {
                            return Err(format!("{path} is no text"));
                        };
                        let mut parts: Vec<&str> = whole.split(delimiter).collect();
                        *parts.get_mut(*index).ok_or_else(|| format!("{path} has no part {index}"))? = value;
                        parts.join(delimiter).into()
                    }
                };
            }
        }
    }
    Ok(())
}

/// `a.b`, `a.0`, `a.[name=b]`, and `a.[b.c]` where a key has dots.
fn at<'a>(object: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        let end = match rest.starts_with('[') {
            true => rest.find(']').map_or(rest.len(), |end| end + 1),
            false => rest.find('.').unwrap_or(rest.len()),
        };
        let (part, left) = rest.split_at(end);
        rest = left.strip_prefix('.').unwrap_or(left);
        let bracketed = part.strip_prefix('[').and_then(|part| part.strip_suffix(']'));
        value = match (value, bracketed.map(|part| part.split_once('=').ok_or(part))) {
            (Value::Array(list), Some(Ok((key, name)))) => list.iter_mut().find(|item| item[key] == name),
            (Value::Array(list), None) => part.parse().ok().and_then(|index: usize| list.get_mut(index)),
            (Value::Object(map), Some(Err(key))) => map.get_mut(key),
            (Value::Object(map), None) => map.get_mut(part),
            _ => None,
        }
        .ok_or_else(|| format!("{path} is not there: {part}"))?;
    }
    Ok(value)
}
