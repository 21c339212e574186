//! The `meshfilter` command as a user runs it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_good_document_is_summed_up() {
    let policy = file("good.yaml", "namespace: default\ndestinations: {port: 80}\n");
    let ran = run(&["check", &policy], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    assert!(ran.stdout.starts_with(&format!("{policy}: ok: ")), "{}", ran.stdout);
}

#[test]
fn a_wrong_document_is_explained_line_by_line() {
    let policy = file("wrong.yaml", "namespace: default\nrateLimitSlots: many\n");
    let ran = run(&["check", &policy], "");
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stdout,
        format!(
            "{policy}:2:17: rateLimitSlots: \"many\" does not belong here; use a whole number from 0 to 4294967295\n    \
             2 | rateLimitSlots: many\n      |                 ^^^^\n{policy}: 1 error\n"
        )
    );
}

#[test]
fn every_file_is_checked_whatever_the_others_are() {
    let (good, wrong) = (file("several-good.json", "{}"), file("several-wrong.json", "{\"a\": 1}"));
    let ran = run(&["check", &wrong, &good, "-"], "namespace: [a]\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains(&format!("{good}: ok: ")), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("{wrong}:1:2: a: there is no field \"a\" here")), "{}", ran.stdout);
    assert!(ran.stdout.contains("<stdin>:1:1: namespace: a list does not belong here"), "{}", ran.stdout);
}

#[test]
fn machines_get_json() {
    let ran = run(&["check", "--format", "json", "-"], "{\"http\": 5}");
    assert_eq!(ran.code, Some(1));
    let printed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let error = &printed["files"][0]["errors"][0];
    assert_eq!((&error["line"], &error["column"], &error["path"]), (&1.into(), &10.into(), &"http".into()));
}

#[test]
fn wrong_use_is_told_from_a_wrong_document() {
    for arguments in [&[][..], &["check"], &["chekc", "a"], &["check", "--format", "xml", "a"]] {
        let ran = run(arguments, "");
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{arguments:?}");
    }
    let wrong = file("beside-missing.yaml", "a: 1\n");
    let ran = run(&["check", "/no/such/file.yaml", &wrong], "");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("/no/such/file.yaml: No such file"), "{}", ran.stderr);
    assert!(ran.stdout.contains("there is no field"), "{}", ran.stdout);
}

#[test]
fn help_has_examples() {
    let ran = run(&["check", "--help"], "");
    assert_eq!(ran.code, Some(0));
    for part in ["Examples:", "meshfilter check policy.yaml", "--format", "NO_COLOR"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(run(&["--version"], "").stdout.contains(env!("CARGO_PKG_VERSION")));
}
