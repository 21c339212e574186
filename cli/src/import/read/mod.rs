//! Text → resources, each of which knows where it stands.

mod text;

use meshfilter::config::source::{Language, Place, Source};
use serde_json::Value;

pub use text::{RENDER, TEMPLATE, Trouble, is_template, may_be_template};

use super::repair::Repairs;
use super::report::{Log, Placed};
use crate::input::{self, Document};

/// The kind of a document that has `openapi` where resources have theirs.
pub const OPEN_API: &str = "OpenAPI";

/// A text that was read, and the documents in it.
#[derive(Debug)]
pub struct Input {
    /// As it was given.
    pub name: String,
    /// What stands in it.
    pub text: String,
    documents: Vec<Source>,
}

/// One resource.
#[derive(Debug)]
pub struct Resource {
    /// Such as `VirtualService`; empty where it has none.
    pub kind: String,
    /// The group of its `apiVersion`, such as `networking.istio.io`; `None` where it has none.
    pub group: Option<String>,
    /// The version of its `apiVersion`, such as `v1beta1`.
    pub version: String,
    /// Its own.
    pub name: String,
    /// As it is written there.
    pub namespace: Option<String>,
    /// All of it.
    pub value: Value,
    /// What is said of it.
    pub log: Log,
    /// Its place among all.
    pub index: usize,
    input: usize,
    document: usize,
    /// The way to it in its document.
    way: String,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The texts.
    pub texts: Vec<Input>,
    /// The resources in them.
    pub resources: Vec<Resource>,
    /// What keeps texts from being read.
    pub errors: Vec<Placed>,
    /// What was put right in a text.
    pub warnings: Vec<Placed>,
}

impl Inputs {
    /// Reads files, folders and standard input.
    ///
    /// # Errors
    /// A file that is not there or that cannot be read.
    pub fn read(files: &[String], repairs: Repairs) -> Result<Self, String> {
        Ok(Inputs::of(&texts(files)?, repairs))
    }

    /// Reads texts.
    pub fn of(texts: &[Document], repairs: Repairs) -> Self {
        let mut inputs = Inputs::default();
        for Document { file, text, .. } in texts {
            inputs.add(file, text, repairs);
        }
        inputs
    }

    /// Reads one text; what is wrong with it is among the errors.
    pub fn add(&mut self, file: &str, bytes: &[u8], repairs: Repairs) {
        let name = if file == "-" { "<stdin>" } else { file };
        let read = text::read(file, bytes, repairs);
        let placed = |trouble: Trouble| Placed {
            file: name.to_owned(),
            place: trouble.place,
            resource: String::new(),
            path: trouble.path,
            message: trouble.message,
            remedy: trouble.remedy,
        };
        self.errors.extend(read.errors.into_iter().map(placed));
        self.warnings.extend(read.warnings.into_iter().map(placed));
        let input = self.texts.len();
        let mut documents = Vec::new();
        for (document, mut source) in read.documents.into_iter().enumerate() {
            let value = source.value.take();
            documents.push(source);
            self.resources_of(value, String::new(), input, document);
        }
        self.texts.push(Input { name: name.to_owned(), text: read.text, documents });
    }

    /// A resource, or those in a list of them.
    fn resources_of(&mut self, mut value: Value, way: String, input: usize, document: usize) {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(items) = value.get_mut("items").map(Value::take).filter(|_| kind.ends_with("List")) {
            if let Value::Array(items) = items {
                for (index, item) in items.into_iter().enumerate() {
                    let way = format!("{way}{}items[{index}]", if way.is_empty() { "" } else { "." });
                    self.resources_of(item, way, input, document);
                }
                return;
            }
            value = Value::from("the items of a list are no list");
        }
        // An API's description has no kind, but says what it is.
        let is_api = kind.is_empty() && ["openapi", "swagger"].iter().any(|name| value.get(name).is_some());
        let kind = if is_api { OPEN_API.to_owned() } else { kind };
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let version = text("/apiVersion");
        let (group, version) = match version.as_deref().map(|version| version.rsplit_once('/')) {
            Some(Some((group, version))) => (Some(group.to_owned()), version.to_owned()),
            // Somebody has left out the version.
            Some(None) if version.as_ref().is_some_and(|version| version.contains('.')) => {
                (version, String::new())
            }
            Some(None) => (Some(String::new()), version.unwrap_or_default()),
            None => (None, String::new()),
        };
        self.resources.push(Resource {
            kind,
            group,
            version,
            name: text("/metadata/name").unwrap_or_default(),
            namespace: text("/metadata/namespace").filter(|namespace| !namespace.is_empty()),
            value,
            log: Log::default(),
            index: self.resources.len(),
            input,
            document,
            way,
        });
    }

    /// The file that a resource stands in.
    pub fn file(&self, resource: &Resource) -> &str {
        self.texts.get(resource.input).map_or("", |input| &input.name)
    }

    /// Where in its file a field of a resource stands, or the resource itself.
    pub fn place(&self, resource: &Resource, path: &str, at_name: bool) -> Place {
        let source = self.texts.get(resource.input).and_then(|input| input.documents.get(resource.document));
        let Some(source) = source else { return Place::START };
        let way = &resource.way;
        let path = match (way.is_empty(), path.is_empty()) {
            (true, true) => "kind".to_owned(),
            (true, false) => path.to_owned(),
            (false, true) => format!("{way}.kind"),
            (false, false) => format!("{way}.{path}"),
        };
        source.place(&path, at_name)
    }

    /// Where a resource begins.
    pub fn start(&self, resource: &Resource) -> usize {
        let first = ["apiVersion", "kind", "metadata"];
        first.iter().map(|name| self.place(resource, name, true).line).min().unwrap_or(1)
    }
}

impl Resource {
    /// When it was made, as a number that grows; those of which that is not known come last.
    pub fn created(&self) -> i64 {
        let text = self.value.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        let digits: String = text.unwrap_or_default().chars().filter(char::is_ascii_digit).take(14).collect();
        digits.parse().unwrap_or(i64::MAX)
    }

    /// The older comes first; of those made in the same second the name decides.
    pub fn age(&self) -> (i64, &str, &str) {
        match self.created() {
            i64::MAX => (i64::MAX, "", ""),
            created => (created, &self.name, self.namespace.as_deref().unwrap_or_default()),
        }
    }
}

/// The document in a text that stands in another.
///
/// # Errors
/// What is wrong with it.
pub fn inner(text: &str) -> Result<Value, String> {
    let read = text::read("inner.yaml", text.as_bytes(), Repairs::Told);
    match read.errors.into_iter().next() {
        Some(error) => Err(error.message),
        None => Ok(read.documents.into_iter().next().map(|document| document.value).unwrap_or_default()),
    }
}

/// The whole text of every file that the arguments mean.
///
/// # Errors
/// A file that is not there or that cannot be read.
pub fn texts(files: &[String]) -> Result<Vec<Document>, String> {
    let mut found = Vec::new();
    for given in files {
        let paths = input::files(given).map_err(|error| format!("{given}: {error}"))?;
        for folder in input::folders_within(given) {
            eprintln!(
                "meshfilter: warning: {folder}: a folder within a folder is not read; name it, too, if it counts"
            );
        }
        if paths.is_empty() {
            return Err(format!("{given}: there is no *.yaml, *.yml or *.json in this folder"));
        }
        for file in paths {
            let text = input::read(&file).map_err(|error| format!("{file}: {error}"))?;
            found.push(Document { file, text, before: 0 });
        }
    }
    Ok(found)
}

/// In which language a text is.
fn language(file: &str, text: &str) -> Language {
    Language::of(file, text)
}

#[cfg(test)]
mod tests;
