//! Third-party cases on where tokens stand and which audiences are one, where the folder with them is there.

use std::path::Path;

use meshfilter::policy::authentication::{Audiences, HeaderLocation, Locations};
use meshfilter::request::Request;
use serde_json::Value;

/// Reads a file of cases; `None` where the folder is not there.
fn cases(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/envoy").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("{file}: not there, 0 cases run");
        return None;
    };
    // The cases leave a place for a token that any will do for.
    let text = text.replace("{GoodToken}", "aGVhZGVy.cGF5bG9hZA.c2ln");
    Some(serde_json::from_str(&text).expect("a file of cases is JSON"))
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn audiences_are_compared_as_envoy_does() {
    let Some(file) = cases("jwt_audience_cases.json") else { return };
    let cases = file["cases"].as_array().expect("cases");
    for case in cases {
        let (configured, audiences) = (texts(&case["configured"]), texts(&case["token_aud"]));
        let allowed =
            Audiences::new(configured.iter().map(String::as_str)).allow(audiences.iter().map(String::as_str));
        assert_eq!(Value::Bool(allowed), case["allowed"], "{case}");
    }
    println!("jwt_audience_cases.json: {} cases run, no differences", cases.len());
}

/// The providers that the cases on places were written for, as rules have their places.
fn providers() -> Vec<(&'static str, Locations)> {
    let header =
        |name: &str, prefix: &str| HeaderLocation { name: name.to_owned(), prefix: prefix.to_owned() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let headers = |headers: Vec<HeaderLocation>| Locations::new(headers, vec![], vec![]);
    vec![
        ("issuer1", headers(vec![])),
        ("issuer2", headers(vec![header("token-header", "")])),
        ("issuer3", Locations::new(vec![], names(&["token_param"]), vec![])),
        ("issuer4", Locations::new(vec![header("token-header", "")], names(&["token_param"]), vec![])),
        ("issuer5", headers(vec![header("prefix-header", "AAA")])),
        ("issuer6", headers(vec![header("prefix-header", "AAABBB")])),
        ("issuer7", headers(vec![header("prefix-header", "CCCDDD")])),
        ("issuer8", headers(vec![header("prefix-header", "\"CCCDDD\"")])),
        ("issuer9", Locations::new(vec![], vec![], names(&["token-cookie", "token-cookie-2"]))),
        ("issuer10", Locations::new(vec![], vec![], names(&["token-cookie-3"]))),
    ]
}

#[test]
fn tokens_are_found_where_envoy_finds_them() {
    let Some(file) = cases("jwt_extract_cases.json") else { return };
    let cases = file["cases"].as_array().expect("cases");
    for case in cases {
        let mut headers = vec![(":path".to_owned(), case["path"].as_str().unwrap_or("/").to_owned())];
        for pair in case["headers"].as_array().expect("headers") {
            let pair = texts(pair);
            headers.push((pair[0].clone(), pair[1].clone()));
        }
        let request = Request::new(headers.into_iter().collect(), Vec::new(), 0);
        // Envoy lists a token once with all its issuers; here each rule looks for its own.
        let mut expected = Vec::new();
        for token in case["expect_tokens"].as_array().expect("tokens") {
            // Blanks at the end of a header's value, which Envoy's own test has, are no part of it here.
            let text = token[0].as_str().expect("a token").trim_end();
            expected.extend(texts(&token[1]).into_iter().map(|issuer| (issuer, text.to_owned())));
        }
        let mut found = Vec::new();
        for (issuer, locations) in providers() {
            for one in locations.find(&request) {
                found.push((issuer.to_owned(), String::from_utf8(one.token.to_vec()).expect("text")));
            }
        }
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{}", case["id"]);
    }
    println!("jwt_extract_cases.json: {} cases run, no differences", cases.len());
}
