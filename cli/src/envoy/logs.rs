//! Access logs and spans, with the policy's tags.

use serde_json::{Map, Value, json};

use super::kind;

/// Tags whose values the policy's author chose. Any other is cut, since a client may have.
const OWN: [&str; 3] = ["route", "destination", "decision"];

/// The longest value of a tag in a log line, in characters.
const MAX_VALUE: usize = 64;

fn state(tag: &str) -> String {
    format!("%FILTER_STATE(wasm.{tag}:PLAIN)%")
}

fn bounded_state(tag: &str) -> String {
    match OWN.contains(&tag) {
        true => state(tag),
        false => format!("%FILTER_STATE(wasm.{tag}:PLAIN):{MAX_VALUE}%"),
    }
}

/// Two logs to standard output: text for people, JSON for machines. Runtime keys say how much of each.
pub fn access_logs(tags: &[String]) -> Value {
    let mut text =
        "[%START_TIME%] \"%REQUEST_HEADER(:METHOD)% %PATH(NQ:PATH):200% %PROTOCOL%\" %RESPONSE_CODE% \
                    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DURATION%ms"
            .to_owned();
    for tag in tags {
        text.push_str(&format!(" {tag}=\"{}\"", bounded_state(tag)));
    }
    text.push('\n');
    let fields: [(&str, &str); 12] = [
        ("time", "%START_TIME%"),
        ("method", "%REQUEST_HEADER(:METHOD)%"),
        ("authority", "%REQUEST_HEADER(:AUTHORITY):200%"),
        ("path", "%PATH(NQ:PATH):200%"),
        ("protocol", "%PROTOCOL%"),
        ("client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        ("peer", "%DOWNSTREAM_PEER_URI_SAN%"),
        ("status", "%RESPONSE_CODE%"),
        ("flags", "%RESPONSE_FLAGS%"),
        ("details", "%RESPONSE_CODE_DETAILS%"),
        ("duration_ms", "%DURATION%"),
        ("upstream", "%UPSTREAM_HOST%"),
    ];
    let mut object: Map<String, Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    for tag in tags {
        let name = if object.contains_key(tag) { format!("tag.{tag}") } else { tag.clone() };
        object.insert(name, bounded_state(tag).into());
    }
    json!([
        log("text", 100, &json!({"text_format_source": {"inline_string": text}})),
        log("json", 0, &json!({"json_format": object})),
    ])
}

fn log(name: &str, percent: u32, format: &Value) -> Value {
    json!({
        "name": name,
        "filter": {"runtime_filter": {
            "runtime_key": format!("access_log.{name}"),
            "percent_sampled": {"numerator": percent},
        }},
        "typed_config": {"@type": kind("extensions.access_loggers.stream.v3.StdoutAccessLog"), "log_format": format},
    })
}

/// The tags of spans.
pub fn custom_tags(tags: &[String]) -> Value {
    tags.iter().map(|tag| json!({"tag": tag, "value": state(tag)})).collect()
}
