//! What is used wrongly is told with the right use: exit code 2 for the use, 1 for a document that is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files that the table names, from one folder on.
const FILES: [(&str, &str); 14] = [
    ("nominated.http", "GET / HTTP/1.1\nHost: a\nConnection: close, x-forwarded-for\n\n"),
    ("upgrade.http", "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n"),
    ("connect.http", "CONNECT a:443 HTTP/1.1\nHost: a\n\n"),
    ("relative.http", "GET a/b HTTP/1.1\nHost: a\n\n"),
    ("p.yaml", "authorization: [{name: a, rules: [{to: [{operation: {paths: [/a]}}]}]}]\n"),
    ("bad.yaml", "http:\n- rote: []\n- route: [{destination: {host: a}, weight: -1}]\n"),
    ("two.yaml", "http: []\n---\nhttp: []\n"),
    ("folder/one.yaml", "http: []\n"),
    ("requests.jsonl", "nonsense\n"),
    ("case.yaml", "{name: n, policy: {}, requests: [{name: r, expect: {}}]}\n"),
    ("failing.yaml", "{name: n, policy: {}, requests: [{name: r, expect: {status: 403}}]}\n"),
    ("void.yaml", "# nothing yet\n"),
    ("m.wasm", ""),
    ("envoy", ""),
];

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("wrong-use");
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    std::fs::create_dir_all(folder.join("folder")).unwrap();
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, command: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(command.split_whitespace())
        .current_dir(folder)
        .env_remove("ENVOY")
        .env("PATH", "")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A command, its exit code, and what it says of it.
const TABLE: &[(&str, i32, &str)] = &[
    ("check empty", 2, "meshfilter: empty: there is no .yaml, .yml or .json file in this folder"),
    ("check p.yaml absent.yaml", 2, "meshfilter: absent.yaml: No such file"),
    ("explain void.yaml /", 1, "there is no document here"),
    ("bootstrap void.yaml --module m.wasm", 1, "there is no document here"),
    (
        "run void.yaml --module m.wasm --envoy envoy --listen 127.0.0.1:0 --admin 127.0.0.1:0",
        1,
        "there is no document here",
    ),
    ("explain p.yaml", 2, "<URL>"),
    ("explain absent.yaml /", 2, "meshfilter: absent.yaml: No such file"),
    ("explain empty /", 2, "meshfilter: empty: there is no .yaml, .yml or .json file in this folder"),
    (
        "explain two.yaml /",
        2,
        "meshfilter: two.yaml: there are 2 documents, and a policy is one; give the one that is meant",
    ),
    (
        "explain bad.yaml /",
        1,
        "bad.yaml:2:3: http[0].rote: there is no field \"rote\" here; did you mean \"route\"?",
    ),
    ("explain p.yaml -H x /", 2, "-H \"x\" is no header; write 'name: value'"),
    ("explain p.yaml --now yesterday /", 2, "yesterday"),
    ("explain p.yaml --source-ip nobody /", 2, "'nobody' for '--source-ip <ADDRESS>'"),
    ("explain p.yaml --response 99 /", 2, "99 is not in 200..=599"),
    ("explain p.yaml --expect nonsense /", 2, "--expect \"nonsense\" is neither a status nor a decision"),
    ("explain p.yaml --expect 403 /a", 1, "meshfilter: status is 200, should be 403"),
    ("explain p.yaml --request absent", 2, "meshfilter: absent: No such file"),
    (
        "explain p.yaml --request requests.jsonl",
        2,
        "is no request line; write METHOD PATH HTTP/1.1, or give a JSON line",
    ),
    (
        "explain p.yaml --request nominated.http",
        2,
        "with 400, before any filter: Connection names x-forwarded-for",
    ),
    ("explain p.yaml --request upgrade.http", 2, "Envoy refuses upgrades with 403"),
    ("explain p.yaml --request connect.http", 2, "Envoy answers CONNECT by itself"),
    ("explain p.yaml --request relative.http", 2, "is no request line"),
    ("check /dev/zero", 2, "meshfilter: /dev/zero: it has more than"),
    (
        "run /dev/null --watch --module m.wasm --envoy envoy",
        2,
        "/dev/null: it is no file that can be read again and again",
    ),
    ("explain p.yaml --claims { /", 2, "--claims"),
    ("explain p.yaml --jwks absent /", 2, "meshfilter: absent: No such file"),
    ("explain p.yaml --token a --claims {} /", 2, "cannot be used with"),
    ("explain p.yaml --rule x /", 2, "--claims <FILE|JSON>"),
    ("explain p.yaml ftp://x/", 2, "ftp is not http or https"),
    ("replay p.yaml p.yaml", 2, "<REQUESTS>..."),
    ("replay absent.yaml p.yaml requests.jsonl", 2, "meshfilter: absent.yaml: No such file"),
    ("replay p.yaml bad.yaml requests.jsonl", 1, "http[1].route[0].weight"),
    ("replay p.yaml p.yaml absent", 2, "meshfilter: absent: No such file"),
    (
        "replay p.yaml p.yaml empty",
        2,
        "meshfilter: empty: there is no .json, .jsonl, .log or .har file in this folder",
    ),
    ("replay p.yaml p.yaml requests.jsonl", 2, "meshfilter: requests.jsonl:1: "),
    ("replay p.yaml p.yaml --format xml requests.jsonl", 2, "[possible values: text, markdown, json]"),
    ("test", 2, "<CASES>..."),
    ("test absent.yaml", 2, "meshfilter: absent.yaml: No such file"),
    ("test empty", 2, "meshfilter: empty: there is no case in it"),
    (
        "test case.yaml",
        2,
        "meshfilter: case.yaml:1:44: requests[0].expect: nothing is expected; say what has to come back",
    ),
    ("test failing.yaml", 1, ""),
    ("test failing.yaml --filter zzz", 2, "meshfilter: no case has \"zzz\" in its name"),
    ("test failing.yaml --module m.wasm", 2, "--envoy <FILE>"),
    (
        "test failing.yaml --envoy absent",
        2,
        "meshfilter: --envoy absent: there is no such file; it has to be the envoy binary",
    ),
    (
        "test failing.yaml --envoy envoy --module absent.wasm",
        2,
        "meshfilter: --module absent.wasm: there is no such file; `make build`",
    ),
    ("test failing.yaml --schema", 2, "cannot be used with"),
    ("test failing.yaml --format xml", 2, "[possible values: text, json, junit]"),
    ("bootstrap", 2, "<POLICY>"),
    (
        "bootstrap empty --module m.wasm",
        2,
        "meshfilter: empty: there is no .yaml, .yml or .json file in this folder",
    ),
    ("bootstrap bad.yaml --module m.wasm", 1, "bad.yaml: 2 errors"),
    ("bootstrap p.yaml --module m.wasm --output nowhere/x", 2, "meshfilter: nowhere/x: No such file"),
    ("bootstrap p.yaml --module m.wasm --xff-hops many", 2, "--xff-hops"),
    ("run", 2, "<POLICY>"),
    ("run two.yaml --module m.wasm --envoy envoy", 2, "meshfilter: two.yaml: there are 2 documents"),
    (
        "run bad.yaml --module m.wasm --envoy envoy --listen 127.0.0.1:0 --admin 127.0.0.1:0",
        1,
        "bad.yaml: 2 errors",
    ),
    ("completions", 2, "<SHELL>"),
    ("completions tcsh", 2, "[possible values: bash, elvish, fish, powershell, zsh]"),
    ("nothing", 2, "unrecognized subcommand 'nothing'"),
];

#[test]
fn wrong_use_is_told_with_the_right_use() {
    let folder = folder();
    let mut wrong = Vec::new();
    for (command, code, says) in TABLE {
        let (got, output, said) = run(&folder, command);
        // What was asked for is answered all the same, where only a part of it is wrong.
        let answers =
            ["test failing.yaml", "explain p.yaml --expect", "check p.yaml", "replay p.yaml p.yaml requests"];
        let prints = answers.iter().any(|answers| command.starts_with(answers));
        if got != Some(*code) || !said.contains(says) || (!prints && !output.is_empty()) {
            wrong.push(format!(
                "{command}: exit code {got:?}, should be {code}, should say {says:?}\n{said}{output}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn destinations_that_the_mesh_would_not_find_are_told() {
    let folder = folder();
    let mesh = "\
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {selector: {app: a}, ports: [{port: 80, targetPort: 8080, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [a]
  http:
  - {match: [{uri: {prefix: /x}}], route: [{destination: {host: a, port: {number: 9999}}}]}
  - {route: [{destination: {host: a, subset: vX}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
";
    std::fs::write(folder.join("mesh.txt"), mesh).unwrap();
    let (code, _, said) =
        run(&folder, "import mesh.txt --namespace shop --echo --module m.wasm --output imported");
    assert_eq!(code, Some(0), "{said}");
    let host = "a.shop.svc.cluster.local";
    for what in [
        format!("no DestinationRule of {host} has the subset vX; it has v1, v2: in the mesh"),
        format!("{host} has no port 9999; it has 80: in the mesh"),
    ] {
        assert_eq!(said.matches(&what).count(), 1, "{what}: {said}");
    }
}

#[test]
fn a_folder_and_standard_input_are_read_as_files_are() {
    use std::io::Write;
    let folder = folder();
    for command in ["check folder", "explain folder /", "test failing.yaml --schema-not"] {
        let (code, _, said) = run(&folder, command);
        assert_eq!(code, Some(if command.ends_with("not") { 2 } else { 0 }), "{command}: {said}");
    }
    for (command, input) in [
        ("check -", "http: []\n---\nhttp: []\n"),
        ("explain - /", "http: []\n"),
        ("bootstrap - --echo --module m.wasm", "http: []\n"),
        ("test -", "{name: n, policy: {}, requests: [{name: r, expect: {status: 200}}]}\n"),
        ("replay p.yaml p.yaml -", "{\"method\": \"GET\", \"path\": \"/a\"}\n"),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
            .args(command.split_whitespace())
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {output:?}");
    }
    // Every document is checked, and its lines are the file's.
    std::fs::write(folder.join("several.yaml"), "# one\nhttp: []\n---\nhttp:\n- rote: []\n").unwrap();
    let (code, output, _) = run(&folder, "check several.yaml");
    assert_eq!(code, Some(1));
    assert!(
        output.contains("several.yaml: ok: ") && output.contains("several.yaml:5:3: http[0].rote"),
        "{output}"
    );
}

#[test]
fn completions_know_every_command_and_help_has_examples() {
    let folder = folder();
    let (_, help, _) = run(&folder, "--help");
    let (_, after) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = after
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = run(&folder, &format!("completions {shell}"));
        assert_eq!(code, Some(0));
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
        for option in ["watch", "endpoint", "envoy", "expect", "certificates"] {
            assert!(script.contains(option), "{shell}: {option}");
        }
    }
    for command in commands.iter().filter(|command| **command != "help") {
        let (code, help, _) = run(&folder, &format!("{command} --help"));
        assert_eq!(code, Some(0));
        let examples = help.split_once("Example").map(|(_, examples)| examples).unwrap_or_default();
        assert!(examples.contains(&format!("meshfilter {command}")), "{command}: {help}");
    }
}
