//! A value as YAML for people: members in the order in which one reads them, and a reason above those that have one.

use serde_json::{Map, Value};

/// Why a member is there. The path is the end of the way to it, with dots.
pub type Comment = (&'static str, &'static str);

/// Members that come first, in this order; those that are not here follow by their names.
const ORDER: [&str; 63] = [
    "name",
    "@type",
    "namespace",
    "domain",
    "max_value",
    "seconds",
    "key",
    "value",
    "rate_limit",
    "conditions",
    "kid",
    "tag_name",
    "node",
    "admin",
    "stats_config",
    "layered_runtime",
    "overload_manager",
    "bootstrap_extensions",
    "dynamic_resources",
    "static_resources",
    "stats_tags",
    "stat_prefix",
    "address",
    "internal_listener",
    "per_connection_buffer_limit_bytes",
    "listener_filters",
    "filter_chain_match",
    "listeners",
    "clusters",
    "use_remote_address",
    "xff_num_trusted_hops",
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "common_http_protocol_options",
    "http2_protocol_options",
    "max_request_headers_kb",
    "preserve_external_request_id",
    "stream_idle_timeout",
    "request_headers_timeout",
    "tracing",
    "access_log",
    "http_filters",
    "route_config",
    "filter",
    "failure_policy",
    "vm_config",
    "vm_id",
    "runtime",
    "code",
    "dynamic_module_config",
    "filter_name",
    "domains",
    "request_mirror_policies",
    "match",
    "action",
    "from",
    "to",
    "when",
    "fault",
    "rewrite",
    "prefix",
    "type",
];

/// What is shorter stands in one line.
const WIDTH: usize = 100;

/// Writes a value. Every comment stands once, where it first fits.
pub fn write(value: &Value, comments: &[Comment]) -> String {
    let mut writer = Writer { out: String::new(), path: Vec::new(), comments: comments.to_vec() };
    match value {
        Value::Object(map) if !map.is_empty() => writer.members(map, 0, false),
        Value::Array(list) if !list.is_empty() => list.iter().for_each(|item| writer.item(item, 0)),
        _ => {
            writer.out.push_str(&flow(value));
            writer.out.push('\n');
        }
    }
    writer.out
}

struct Writer {
    out: String,
    path: Vec<String>,
    /// Those that were not written yet.
    comments: Vec<Comment>,
}

impl Writer {
    /// The members of an object; the first stands behind the dash of a list where `dashed`.
    fn members(&mut self, map: &Map<String, Value>, indent: usize, dashed: bool) {
        for (index, (name, value)) in in_order(map).into_iter().enumerate() {
            self.path.push(name.clone());
            let first = dashed && index == 0;
            if let Some(comment) = self.comment() {
                // Behind a dash there is no room; the comment is the list's item's.
                if !first {
                    for line in comment.lines() {
                        self.line(indent, &format!("# {line}"));
                    }
                }
            }
            if !first {
                self.out.push_str(&" ".repeat(indent));
            }
            self.out.push_str(&scalar_text(name));
            self.out.push(':');
            self.value(value, indent);
            self.path.pop();
        }
    }

    /// What stands behind a name.
    fn value(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) if !map.is_empty() && !self.fits(value, indent) => {
                self.out.push('\n');
                self.members(map, indent.saturating_add(2), false);
            }
            Value::Array(list) if !list.is_empty() && !self.fits(value, indent) => {
                self.out.push('\n');
                for item in list {
                    self.item(item, indent);
                }
            }
            Value::String(text) if is_block(text) => {
                self.out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
                for line in text.lines() {
                    match line.is_empty() {
                        true => self.out.push('\n'),
                        false => self.line(indent.saturating_add(2), line),
                    }
                }
            }
            _ => {
                self.out.push(' ');
                self.out.push_str(&flow(value));
                self.out.push('\n');
            }
        }
    }

    fn item(&mut self, item: &Value, indent: usize) {
        self.out.push_str(&" ".repeat(indent));
        self.out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() && !self.fits(item, indent) => {
                self.members(map, indent.saturating_add(2), true);
            }
            _ => {
                self.out.push_str(&flow(item));
                self.out.push('\n');
            }
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&" ".repeat(indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// The comment of the member that is next, if it was not written yet.
    fn comment(&mut self) -> Option<&'static str> {
        let index = self.comments.iter().position(|(path, _)| ends(&self.path, path))?;
        Some(self.comments.swap_remove(index).1)
    }

    /// Whether a value is short, and nothing in it is still to be explained.
    fn fits(&self, value: &Value, indent: usize) -> bool {
        let named = self.path.last().map_or(0, String::len);
        flow(value).len().saturating_add(indent).saturating_add(named) <= WIDTH
            && !has_lists_of_objects(value)
            && !has_blocks(value)
            && !self.explains(value, &self.path)
    }

    fn explains(&self, value: &Value, path: &[String]) -> bool {
        match value {
            Value::Object(map) => map.iter().any(|(name, value)| {
                let mut path = path.to_vec();
                path.push(name.clone());
                self.comments.iter().any(|(comment, _)| ends(&path, comment)) || self.explains(value, &path)
            }),
            Value::Array(list) => list.iter().any(|value| self.explains(value, path)),
            _ => false,
        }
    }
}

/// Whether a path ends in these members.
fn ends(path: &[String], comment: &str) -> bool {
    let wanted: Vec<&str> = comment.split('.').collect();
    let skip = path.len().checked_sub(wanted.len());
    skip.is_some_and(|skip| path.iter().skip(skip).zip(&wanted).all(|(have, want)| have == want))
}

/// Several things of which each has parts are easier to read below each other.
fn has_lists_of_objects(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.len() > 1 && list.iter().any(Value::is_object),
        Value::Object(map) => map.values().any(has_lists_of_objects),
        _ => false,
    }
}

/// Whether a text of several lines can stand as it is.
fn is_block(text: &str) -> bool {
    let printable = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    text.contains('\n')
        && text.bytes().all(printable)
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
}

fn has_blocks(value: &Value) -> bool {
    match value {
        Value::String(text) => is_block(text),
        Value::Array(list) => list.iter().any(has_blocks),
        Value::Object(map) => map.values().any(has_blocks),
        _ => false,
    }
}

fn in_order(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = map.iter().collect();
    let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    members.sort_by_key(|(name, _)| rank(name));
    members
}

/// In one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members: Vec<String> = in_order(map)
                .into_iter()
                .map(|(name, value)| format!("{}: {}", scalar_text(name), flow(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar_text(text),
        other => other.to_string(),
    }
}

/// A text, in quotes where it would be read as something else.
fn scalar_text(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./|".contains(&byte);
    let is_duration = text.strip_suffix('s').is_some_and(|seconds| {
        !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    });
    if is_duration || text.parse::<std::net::Ipv4Addr>().is_ok() {
        return text.to_owned();
    }
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    // YAML 1.1 knows more words than 1.2, and both have readers.
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if begins && text.bytes().all(plain) && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    // A JSON text is a double-quoted one of YAML.
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use meshfilter::config::Errors;
    use meshfilter::config::source::{Language, Source};
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        let errors = Errors::default();
        let value = Source::read(Language::Yaml, text, &errors).unwrap().value;
        assert!(errors.into_vec().is_empty());
        value
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let long = "x".repeat(120);
        for value in [
            json!({}),
            json!({"a": {}, "b": [], "c": null, "d": [1, -2, 0.5, true, "true", "no", "1", "", "a: b", "#", "- a"]}),
            json!({"a": [{"b": long, "c": [[1, 2], [{"d": "e"}]]}, {"f": {"g": long}}]}),
            json!({"a": "line\nline\t\u{1}ü\u{2028}\"\\", "a b": {"@type": "x", "0": "0x10", "~": "~", "1e3": "1_0"}}),
            json!({"name": "z", "list": [[long], [long, [long]]]}),
            json!([{"name": "z", "list": [long, long]}, {"name": "y"}, [1]]),
            json!({"a": "{\n  \"b\": 1\n}", "c": [{"d": {"e": "f\n\n  g\n", "h": " \n"}}, "i\nj"], "k": "l\n\n"}),
        ] {
            let text = write(&value, &[]);
            assert_eq!(read(&text), value, "{text}");
        }
    }

    #[test]
    fn comments_stand_once_above_what_they_explain() {
        let value = json!({"b": [{"x": {"on": 1}, "name": "k"}, {"x": {"on": 2}, "name": "m"}], "a": 1});
        let text = write(&value, &[("x.on", "Why.\nAnd how."), ("a", "First.")]);
        let expected = "# First.\na: 1\nb:\n- name: k\n  x:\n    # Why.\n    # And how.\n    \"on\": 1\n- {name: m, x: {\"on\": 2}}\n";
        assert_eq!(text, expected);
    }
}
