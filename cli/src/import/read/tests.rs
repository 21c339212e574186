use std::fs;

use super::*;

fn read(file: &str, text: &[u8]) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add(file, text, Repairs::Told);
    inputs
}

fn names(inputs: &Inputs) -> Vec<String> {
    let name =
        |resource: &Resource| format!("{} {}:{}", resource.kind, resource.name, inputs.start(resource));
    inputs.resources.iter().map(name).collect()
}

fn error(text: &[u8]) -> String {
    let inputs = read("a.yaml", text);
    assert_eq!(inputs.errors.len(), 1, "{:?}", inputs.errors);
    let Placed { place, message, remedy, .. } = &inputs.errors[0];
    format!("{}:{}: {message}; {remedy}", place.line, place.column)
}

#[test]
fn lists_and_streams_of_resources_are_read_with_their_places() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a}
- kind: ServiceList
  items:
  - {kind: Service, metadata: {name: b}}
---
# nothing
---
kind: Service
metadata:
  name: c
  namespace: shop
";
    let inputs = read("a.yaml", text.as_bytes());
    assert_eq!(names(&inputs), ["Service a:4", "Service b:9", "Service c:13"]);
    assert_eq!(inputs.resources[0].group.as_deref(), Some(""));
    assert_eq!(inputs.resources[2].namespace.as_deref(), Some("shop"));
    assert_eq!(inputs.place(&inputs.resources[1], "metadata.name", false).line, 9);
    let json = br#"{"kind": "List", "items": [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}]}"#;
    let inputs = read("-", json);
    assert_eq!(names(&inputs), ["Deployment d:1"]);
    assert_eq!(
        (inputs.resources[0].group.as_deref(), inputs.resources[0].version.as_str()),
        (Some("apps"), "v1")
    );
}

#[test]
fn marks_of_other_editors_do_no_harm() {
    let inputs =
        read("a.yaml", b"\xef\xbb\xbfkind: Service\r\nmetadata:\r\n  name: a\r\n---\r\nkind: Service\r\n");
    assert_eq!(names(&inputs), ["Service a:1", "Service :5"]);
    assert!(inputs.errors.is_empty());
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    assert_eq!(
        error(b"kind: Service\n\tmetadata: {}\n"),
        "2:1: a tab indents this line; YAML is indented with spaces; "
    );
    assert_eq!(error(b"kind: \xff\n"), "1:7: this byte is not part of UTF-8 text; save the file as UTF-8");
    assert!(error(b"kind: [\n").contains("this is not YAML"));
    assert!(error(b"kind: a\nkind: b\n").contains("stands twice"));
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{},", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", alias.repeat(10));
    }
    assert!(error(bomb.as_bytes()).contains("too large"));
}

#[test]
fn templates_of_helm_are_told_as_what_they_are() {
    let template = "this is the text of a Helm template, not YAML yet; import what it becomes: helm template CHART | \
                    meshfilter import -";
    for (text, place) in [
        ("kind: VirtualService\n{{- if .Values.on }}\nspec: {}\n{{- end }}\n", "2:1"),
        ("kind: VirtualService\nmetadata:\n  name: {{ .Values.name }}\n", "3:9"),
    ] {
        assert_eq!(error(text.as_bytes()), format!("{place}: {template}"));
    }
}

#[test]
fn a_folder_is_every_file_of_resources_in_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("b.yml", "kind: B\n"), ("a.yaml", "kind: A\n"), ("c.json", "{\"kind\": \"C\"}"), ("d.txt", "-")]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let folder = folder.path().display().to_string();
    let inputs = Inputs::read(std::slice::from_ref(&folder), Repairs::Told).unwrap();
    assert_eq!(
        inputs.resources.iter().map(|resource| resource.kind.as_str()).collect::<Vec<_>>(),
        ["A", "B", "C"]
    );
    assert!(Inputs::read(&[format!("{folder}/none.yaml")], Repairs::Told).unwrap_err().contains("none.yaml"));
}

#[test]
fn keys_among_the_items_of_a_list_are_indented_as_it_is() {
    let text = "\
kind: AuthorizationPolicy
spec:
  rules:
    - from:
        - source:
            principals: [a]
        to:
        - operation:
            methods: [GET]
    - to:
      - operation: {}
";
    let inputs = read("a.yaml", text.as_bytes());
    let Placed { place, message, remedy, .. } = &inputs.errors[0];
    assert_eq!((place.line, place.column), (7, 9));
    assert_eq!(message, "to stands among the items of from (line 4), which is no YAML");
    assert_eq!(remedy, "indent it as from is, 2 less; --repair does");
    let mut inputs = Inputs::default();
    inputs.add("a.yaml", text.as_bytes(), Repairs::Made);
    assert!(inputs.errors.is_empty());
    assert_eq!(inputs.warnings.len(), 1);
    let rule = &inputs.resources[0].value["spec"]["rules"][0];
    assert_eq!(rule["to"][0]["operation"]["methods"][0], "GET");
    assert_eq!(rule["from"][0]["source"]["principals"][0], "a");
}
