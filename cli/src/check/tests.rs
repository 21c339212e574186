use super::*;

fn errors(file: &str, text: &str) -> Vec<String> {
    let line = |problem: &Problem| {
        let Place { line, column, length } = problem.place;
        format!("{line}:{column}+{length} {}: {}", problem.path, problem.message)
    };
    check(file, text.as_bytes()).errors.iter().map(line).collect()
}

/// A file that was emptied by mistake would let everything pass.
#[test]
fn nothing_has_to_be_said() {
    for text in ["{}", "\u{feff}{}", "--- {}\n", "# all pass\n{}\n"] {
        let checked = check("policy.yaml", text.as_bytes());
        assert!(checked.errors.is_empty() && checked.summary.is_some(), "{text:?}: {checked:?}");
    }
    for text in ["", "\n", "# later\n", "\u{feff}", "---\n", "---\n# later\n...\n"] {
        let expected =
            "1:1+1 : there is no document here; a policy that decides nothing and lets everything pass is {}";
        assert_eq!(errors("policy.yaml", text), [expected], "{text:?}");
    }
}

/// What bootstrap, run and the others take, with the cluster that they would name.
#[test]
fn a_key_set_without_its_cluster_is_a_warning() {
    let text = b"authentication:\n  jwtRules:\n  - {issuer: a, jwksUri: \"https://auth.example.com/keys\"}\n";
    let checked = check_as_others("policy.yaml", text);
    assert!(checked.errors.is_empty(), "{checked:?}");
    let [warning] = checked.warnings.as_slice() else { panic!("{checked:?}") };
    assert_eq!((warning.path.as_str(), warning.place.line), ("authentication.jwtRules[0]", 3));
    assert!(
        warning.message.contains("bootstrap and run name it \"auth.example.com:443\""),
        "{}",
        warning.message
    );
    // A plugin is given what stands there.
    assert_eq!(check("policy.yaml", text).errors.len(), 1);
}

#[test]
fn errors_come_in_the_order_of_the_text_with_their_places() {
    let text = "namespace: 5\nhtpp: []\nhttp:\n- wieght: 1\nrateLimitSlots: many\n";
    let errors = errors("policy.yaml", text);
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors[0].starts_with("1:12+1 namespace: 5 does not belong here"), "{errors:#?}");
    assert!(errors[1].starts_with("2:1+4 htpp: there is no field \"htpp\" here"), "{errors:#?}");
    assert!(errors[2].starts_with("4:3+6 http[0].wieght: there is no field"), "{errors:#?}");
    assert!(errors[3].starts_with("5:17+4 rateLimitSlots: \"many\" does not belong here"), "{errors:#?}");
}

#[test]
fn a_member_that_stands_twice_is_shown_once_where_it_is_too_many() {
    let expected = ["2:1+9 namespace: this member stands twice; keep one"];
    assert_eq!(errors("policy.yaml", "namespace: a\nnamespace: b\n"), expected);
    let expected = ["2:1+11 namespace: this member stands twice; keep one"];
    assert_eq!(errors("policy.json", "{\"namespace\": \"a\",\n\"namespace\": \"b\"}"), expected);
}

#[test]
fn null_and_lists_are_no_documents() {
    for text in ["null", "[]", "~", "text"] {
        let errors = errors("policy.yaml", text);
        assert!(errors[0].starts_with("1:1+"), "{text}: {errors:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_shown() {
    let checked = check("policy.yaml", b"a: 1\nb: \xe9\xff\n");
    assert_eq!(checked.errors[0].place, Place { line: 2, column: 4, length: 1 });
}

#[test]
fn a_whole_resource_is_told_where_its_parts_belong() {
    for (kind, remedy) in [
        ("RequestAuthentication", "jwtRules of its spec under authentication"),
        ("AuthorizationPolicy", "an entry of authorization"),
        ("VirtualService", "http of its spec under http"),
        ("WasmPlugin", "spec.pluginConfig"),
        ("EnvoyExtensionPolicy", "config in its spec.wasm"),
        ("EnvoyFilter", "configPatches"),
        ("ConfigMap", "data"),
        ("Deployment", "a policy has only"),
    ] {
        let errors = errors("x.yaml", &format!("apiVersion: v1\nkind: {kind}\nspec: {{}}\n"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("2:1+4 kind: ") && errors[0].contains(remedy), "{errors:?}");
    }
}

#[test]
fn a_bootstrap_is_told_where_its_policy_is() {
    let errors = errors("envoy.yaml", "admin: {}\nstatic_resources: {listeners: []}\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("2:1+16 static_resources: this is a bootstrap of Envoy"), "{errors:?}");
}

#[test]
fn the_file_name_decides_how_strictly_it_is_read() {
    assert!(errors("policy.yaml", "namespace: a # why\n").is_empty());
    assert!(errors("policy.json", "namespace: a\n")[0].contains("not JSON"));
    assert!(errors("-", "{\"namespace\": \"a\",}")[0].contains("not JSON: trailing comma"));
}

#[test]
fn a_document_has_the_places_of_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "http: []\n---\n# second\nhtpp: []\n").unwrap();
    let mut output = Vec::new();
    let files = vec![file.path().display().to_string()];
    let outcome = run(&Arguments { files, format: Format::Text }, &mut output);
    assert!(outcome == Outcome::Wrong);
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains(":4:1: htpp: there is no field") && text.contains("    4 | htpp: []"), "{text}");
}
