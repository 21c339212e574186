use serde_json::json;

use super::*;

fn read(language: Language, text: &str) -> (Source, Vec<String>) {
    let errors = Errors::default();
    let source = Source::read(language, text, &errors).unwrap();
    (source, errors.into_vec().iter().map(ToString::to_string).collect())
}

fn yaml(text: &str) -> Value {
    let (source, errors) = read(Language::Yaml, text);
    assert_eq!(errors, Vec::<String>::new(), "{text}");
    source.value
}

fn refused(language: Language, text: &str) -> SyntaxError {
    Source::read(language, text, &Errors::default()).map(|source| source.value).unwrap_err()
}

fn at(line: usize, column: usize, length: usize) -> Place {
    Place { line, column, length }
}

#[test]
fn the_core_schema_decides_what_a_plain_scalar_is() {
    for (text, value) in [
        ("", json!({})),
        ("# only a comment\n", json!({})),
        ("~", json!(null)),
        ("yes", json!("yes")),
        ("on", json!("on")),
        ("True", json!(true)),
        ("5", json!(5)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("-.5", json!(-0.5)),
        ("1.2.3", json!("1.2.3")),
        ("10.0.0.0/8", json!("10.0.0.0/8")),
        ("5s", json!("5s")),
        (".", json!(".")),
        ("-", json!([null])),
        ("'5'", json!("5")),
        ("\"true\"", json!("true")),
        ("!!str 5", json!("5")),
        ("!!int 5", json!(5)),
        ("18446744073709551615", json!(u64::MAX)),
        ("|\n  a\n  b\n", json!("a\nb\n")),
    ] {
        assert_eq!(yaml(text), value, "{text:?}");
    }
}

#[test]
fn names_are_strings_whatever_they_look_like() {
    assert_eq!(yaml("1: a\ntrue: b\n~: c\n"), json!({"1": "a", "true": "b", "~": "c"}));
    assert!(refused(Language::Yaml, "? [a]\n: b\n").message.contains("this is no name"));
}

#[test]
fn aliases_are_written_out_but_not_without_end() {
    assert_eq!(yaml("a: &x {b: 1}\nc: [*x, *x]\n"), json!({"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}));
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{},", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", alias.repeat(10));
    }
    assert!(refused(Language::Yaml, &bomb).message.contains("too large"));
    assert!(refused(Language::Yaml, "a: &x [*x]\n").message.contains("part of what it stands for"));
    assert!(refused(Language::Yaml, "a: *nowhere\n").message.contains("not YAML"));
}

#[test]
fn what_json_cannot_say_is_told_with_its_place() {
    for (text, error) in [
        ("a: 1\nb: 2\na: 3\n", "a: this member stands twice; keep one"),
        ("a: .nan\n", "a: .nan is not a number that a policy can have; use a finite one"),
        ("a: -.inf\n", "a: -.inf is not a number that a policy can have; use a finite one"),
        ("a: [!secret x]\n", "a[0]: the tag !secret has no meaning here; leave it out"),
        ("a: !!binary eA==\n", "a: the tag !!binary has no meaning here; leave it out"),
        ("a: !!set {x: 1}\n", "a: the tag !!set has no meaning here; leave it out"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", "y.<<: merge keys are not part of YAML 1.2; write the members out"),
    ] {
        assert_eq!(read(Language::Yaml, text).1, [error], "{text:?}");
    }
}

#[test]
fn a_text_that_breaks_off_says_where() {
    let second = refused(Language::Yaml, "a: 1\n---\nb: 2\n");
    assert_eq!((second.place.line, second.place.column), (2, 1));
    assert!(second.message.contains("second document"), "{second:?}");

    let tab = refused(Language::Yaml, "http:\n- name: a\n\troute: []\n");
    assert_eq!(tab.place, at(3, 1, 1), "{tab:?}");
    assert!(tab.message.contains("indented with spaces"), "{tab:?}");

    let open = refused(Language::Yaml, "a: [1, 2\n");
    assert!(open.message.starts_with("this is not YAML: "), "{open:?}");

    for deep in ["[".repeat(200), "- ".repeat(200), "{a: ".repeat(200)] {
        let deep = refused(Language::Yaml, &deep);
        assert_eq!(deep.place.line, 1, "{deep:?}");
    }

    let json = refused(Language::Json, "{\n  \"é\": }\n");
    assert_eq!(json.place, at(2, 8, 1));
    assert_eq!(json.message, "this is not JSON: expected value");
}

const YAML: &str = r#"# a comment
http:
- name: canary
  match:
  - headers:
      x-a: {exact: "true"}
      "x.b[0]": {exact: é, regexp: y}
  route: [{destination: {host: webapp}, weight: -5}]
- fault:
    delay: {percentage: {value: 50},
      fixedDelay: 5s}
"#;

const JSON: &str = r#"{
  "http": [
    {"name": "é\"", "match": [{"headers": {"x.b[0]": {"exact": "é"}}}], "weight": -5},
    [ ], true
  ]
}"#;

#[test]
fn every_path_leads_to_its_place() {
    let (source, _) = read(Language::Yaml, YAML);
    for (path, at_name, place) in [
        ("", false, at(2, 1, 1)),
        ("http", false, at(2, 1, 4)),
        ("http[0]", false, at(3, 3, 1)),
        ("http[0].name", false, at(3, 9, 6)),
        ("http[0].name", true, at(3, 3, 4)),
        ("http[0].match[0].headers[x-a].exact", false, at(6, 20, 6)),
        ("http[0].match[0].headers[x-a]", false, at(6, 7, 3)),
        ("http[0].match[0].headers[x.b[0]].exact", false, at(7, 25, 1)),
        ("http[0].match[0].headers[x.b[0]].regexp", true, at(7, 28, 6)),
        ("http[0].route[0].weight", false, at(8, 49, 2)),
        ("http[0].route[0].destination.host", false, at(8, 32, 6)),
        ("http[1].fault.delay.fixedDelay", false, at(11, 19, 2)),
        // What is missing is shown at what it is missing from.
        ("http[1].fault.abort.httpStatus", false, at(9, 3, 5)),
        ("http[0].route[7].weight", false, at(8, 3, 5)),
        ("telemetry.tags", false, at(2, 1, 1)),
    ] {
        assert_eq!(source.place(path, at_name), place, "{path} {at_name}");
    }

    let (source, _) = read(Language::Json, JSON);
    for (path, place) in [
        ("", at(1, 1, 1)),
        ("http", at(2, 3, 6)),
        ("http[0]", at(3, 5, 1)),
        ("http[0].name", at(3, 14, 5)),
        ("http[0].match[0].headers[x.b[0]].exact", at(3, 64, 3)),
        ("http[0].weight", at(3, 83, 2)),
        ("http[1]", at(4, 5, 1)),
        ("http[2]", at(4, 10, 4)),
    ] {
        assert_eq!(source.place(path, false), place, "{path}");
    }
}

#[test]
fn of_a_member_that_stands_twice_the_second_is_shown() {
    for language in [Language::Yaml, Language::Json] {
        let (source, errors) = read(language, "{\"a\": 1,\n \"a\": 2}");
        assert_eq!(errors, ["a: this member stands twice; keep one"]);
        assert_eq!(source.place("a", true), at(2, 2, 3));
    }
}

#[test]
fn the_language_is_told_by_the_name_and_else_by_the_text() {
    for (file, text, language) in [
        ("a.yaml", "{}", Language::Yaml),
        ("a.YML", "{}", Language::Yaml),
        ("a.json", "a: 1", Language::Json),
        ("-", " {\"a\": 1}", Language::Json),
        ("policy", "a: 1", Language::Yaml),
    ] {
        assert_eq!(Language::of(file, text), language, "{file}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in "[ \\-{}\\[\\]:,a\"'|>&*!#\n\t%@`?~0.é\\\\]{0,60}", path in "[a.\\[\\]0]{0,12}") {
        for language in [Language::Yaml, Language::Json] {
            if let Ok(source) = Source::read(language, &text, &Errors::default()) {
                let place = source.place(&path, false);
                proptest::prop_assert!(place.line > 0 && place.column > 0 && place.length > 0);
            }
        }
    }

    #[test]
    fn what_json_says_yaml_says_too(text in "[a-z 0-9]{0,8}", number in proptest::num::i64::ANY, flag: bool) {
        let value = json!({"text": [text.clone(), {"n": number}], "flag": flag, "none": null, text: {}});
        for printed in [value.to_string(), format!("{value:#}")] {
            proptest::prop_assert_eq!(&read(Language::Json, &printed).0.value, &value);
            proptest::prop_assert_eq!(&read(Language::Yaml, &printed).0.value, &value);
        }
    }
}

#[test]
fn a_stream_has_several_documents_each_with_its_places() {
    let text = "# first\n---\na: 1\n---\n# nothing\n---\nb: [2]\nb: 3\n...\n---\nnull\n";
    let documents = Source::read_all(Language::Yaml, text).unwrap();
    let values: Vec<Value> = documents.iter().map(|(source, _)| source.value.clone()).collect();
    assert_eq!(values, [json!({"a": 1}), json!({"b": 3})]);
    assert_eq!(documents[0].0.place("a", false), at(3, 4, 1));
    assert_eq!(documents[1].0.place("b", true), at(8, 1, 1));
    assert_eq!(documents[1].1.count(), 1);
    assert_eq!(Source::read_all(Language::Yaml, "a: &x 1\n---\nb: *x\n").unwrap_err().place.line, 3);
    assert_eq!(Source::read_all(Language::Json, "{\"a\": 1}").unwrap().len(), 1);
}
