//! An HTTP Archive 1.2. Of its entries only what a request is gets read; the rest is skipped as it comes, so that an archive
//! of any size is read in little memory.

use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Recorded, is_ours, time, url};
use crate::proxy::Request;

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "startedDateTime")]
    started: Option<String>,
    request: Asked,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

/// Reads an entry, or the first of an archive.
pub fn read_value(value: &Value) -> Result<Recorded, String> {
    let entry = match value.get("log") {
        Some(log) => log["entries"].get(0).ok_or("the archive has no entry")?,
        None => value,
    };
    recorded(Entry::deserialize(entry).map_err(|error| format!("the entry: {error}"))?)
}

/// Hands on every entry of an archive as it is read.
///
/// # Errors
/// What is wrong with the archive.
pub fn read_all(
    input: impl Read,
    each: &mut dyn FnMut(Result<Recorded, String>) -> bool,
) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_reader(input);
    let found =
        At { path: &["log", "entries"], each }.deserialize(&mut json).map_err(|error| error.to_string())?;
    if found { Ok(()) } else { Err("this is no HTTP Archive: it has no log.entries".to_owned()) }
}

fn recorded(entry: Entry) -> Result<Recorded, String> {
    let (tls, host, path) = url(&entry.request.url)?;
    let mut request = Request {
        method: entry.request.method,
        path: path.into_bytes(),
        tls: tls.unwrap_or(false),
        ..Request::default()
    };
    if let Some(host) = host {
        request.host = host.into_bytes();
    }
    for Header { name, value } in entry.request.headers {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "host" => request.host = value.into_bytes(),
            name if is_ours(name) => {}
            _ => request.headers.push((name, value.into_bytes())),
        }
    }
    let time = entry.started.as_deref().map(time).transpose()?;
    Ok(Recorded { request, time, claims: None, line: None })
}

/// Walks down to the list at a path, and hands on what is in it.
struct At<'a> {
    path: &'a [&'static str],
    each: &'a mut dyn FnMut(Result<Recorded, String>) -> bool,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        if self.path.is_empty() {
            deserializer.deserialize_seq(self)
        } else {
            deserializer.deserialize_map(self)
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an HTTP Archive")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            match self.path.split_first() {
                Some((first, rest)) if name == *first => {
                    found |= map.next_value_seed(At { path: rest, each: &mut *self.each })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let mut goes_on = true;
        while let Some(entry) = list.next_element::<Entry>()? {
            goes_on = goes_on && (self.each)(recorded(entry));
        }
        Ok(true)
    }
}
