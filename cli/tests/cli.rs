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

/// The subcommands that the command's own help lists.
fn subcommands() -> Vec<String> {
    let help = run(&["--help"], "").stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let lines = commands.lines().take_while(|line| !line.is_empty());
    let names: Vec<String> =
        lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    assert!(
        ["check", "schema", "completions"].iter().all(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );
    names.into_iter().filter(|name| name != "help").collect()
}

#[test]
fn help_has_examples() {
    for name in subcommands() {
        let ran = run(&[&name, "--help"], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        let (_, examples) =
            ran.stdout.split_once("Examples:\n").unwrap_or_else(|| panic!("{name}: {}", ran.stdout));
        assert!(examples.contains(&format!("meshfilter {name} ")), "{name}: {examples}");
    }
    for part in ["Examples:", "exit code"] {
        assert!(run(&["--help"], "").stdout.contains(part), "{part}");
    }
    let check = run(&["check", "--help"], "").stdout;
    for part in ["--format", "NO_COLOR", "CLICOLOR_FORCE"] {
        assert!(check.contains(part), "{part}: {check}");
    }
    assert!(run(&["--version"], "").stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn json_is_shown_with_a_mark_under_the_place_too() {
    let policy = file("wrong.json", "{\n\t\"namespace\": \"値\", \"rateLimitSlots\": [1],\n\t\"x\": 1}\n");
    let ran = run(&["check", &policy], "");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout.contains(
            "    2 |  \"namespace\": \"値\", \"rateLimitSlots\": [1],\n      |                     ^^^^^^^^^^^^^^^^\n"
        ),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("    3 |  \"x\": 1}\n      |  ^^^\n"), "{}", ran.stdout);
}

#[test]
fn of_a_line_without_end_a_piece_is_shown() {
    let keys: Vec<String> = (0..3000).map(|number| format!("\"k{number}\": {number}")).collect();
    let ran = run(&["check", "-"], &format!("{{{}, \"namespace\": 5}}", keys.join(", ")));
    assert_eq!(ran.code, Some(1));
    let longest =
        ran.stdout.lines().filter(|line| line.contains(" | ")).map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|longest| longest < 120), "{longest:?}");
}

/// Runs the command in a terminal of its own and gives what appeared there.
#[cfg(unix)]
fn in_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let output = Command::new("python3")
        .args(["-c", spawn, env!("CARGO_BIN_EXE_meshfilter")])
        .args(arguments)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .env_remove("CLICOLOR_FORCE")
        // Where it is set, a dumb terminal counts as a log that can show colours.
        .env_remove("CI")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[cfg(unix)]
#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let policy = file("colours.yaml", "namespace: 5\n");
    let (code, shown) = in_a_terminal(&["check", &policy], &[]);
    assert_eq!(code, Some(1));
    assert!(shown.contains("\x1b[1;31mnamespace\x1b[0m: 5 does not belong here"), "{shown:?}");
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb"), ("CLICOLOR", "0")] {
        let (code, shown) = in_a_terminal(&["check", &policy], &[environment]);
        assert!(code == Some(1) && !shown.contains('\x1b'), "{environment:?}: {shown:?}");
        assert!(shown.contains("namespace: 5 does not belong here"), "{environment:?}: {shown:?}");
    }
    // Machines get none even there.
    assert!(!in_a_terminal(&["check", "--format", "json", &policy], &[]).1.contains('\x1b'));

    assert!(!run(&["check", &policy], "").stdout.contains('\x1b'));
    let forced = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(["check", &policy])
        .env("CLICOLOR_FORCE", "1")
        .output()
        .unwrap();
    assert!(String::from_utf8(forced.stdout).unwrap().contains("\x1b[1;31m"));
}

#[test]
fn completions_know_every_subcommand() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(&["completions", shell], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{shell}");
        for name in subcommands() {
            assert!(ran.stdout.contains(&name), "{shell}: {name}");
        }
    }
    assert_eq!(run(&["completions", "cmd"], "").code, Some(2));
}

#[cfg(unix)]
#[test]
fn a_shell_completes_with_them() {
    let script = file("completions.bash", &run(&["completions", "bash"], "").stdout);
    let complete = format!(
        "source {script}; COMP_WORDS=(meshfilter check --format ''); COMP_CWORD=3; \
         _meshfilter meshfilter '' --format; echo \"${{COMPREPLY[@]}}\"; complete -p meshfilter"
    );
    let output = Command::new("bash").args(["-euc", &complete]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("text json\n") && printed.contains("-F _meshfilter"), "{printed}");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_no_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_meshfilter")).arg("schema").stdout(full).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("the output cannot be written"));
}

#[test]
fn an_image_made_beside_the_policies_leaves_them_alone() {
    // As the shell writes out `meshfilter image MODULE --output . --policy policies/*.yaml`, in the folder itself.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("image-here");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("policies/more")).unwrap();
    let mine = [
        ("policies/a.yaml", "namespace: a\n"),
        ("policies/b.yaml", "namespace: b\n"),
        ("policies/more/notes.txt", "mine"),
        ("oci.txt", "mine"),
    ];
    for (name, text) in mine {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("module.wasm"), module()).unwrap();
    let image = |policies: &[&str]| {
        let arguments = [&["image", "module.wasm", "--output", ".", "--policy"], policies].concat();
        Command::new(env!("CARGO_BIN_EXE_meshfilter")).args(arguments).current_dir(&folder).output().unwrap()
    };
    let kept = || {
        for (name, text) in mine {
            assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), text, "{name}");
        }
    };
    for policies in [&["policies/a.yaml", "policies/b.yaml"][..], &["policies/b.yaml"]] {
        let ran = image(policies);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        kept();
        assert!(folder.join("oci/index.json").exists() && folder.join("policies/b.json").exists());
        assert_eq!(
            folder.join("policies/a.json").exists(),
            policies.len() == 2,
            "only what it wrote is taken back"
        );
    }
    // A policy of one's own with the name of what would be written stops it.
    std::fs::write(folder.join("policies/a.json"), "{\"namespace\": \"mine\"}").unwrap();
    let ran = image(&["policies/a.yaml"]);
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stdout));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("policies/a.json: `meshfilter image` did not write this"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("policies/a.json")).unwrap(), "{\"namespace\": \"mine\"}");
    kept();
}

/// The smallest module that says that it is meshfilter.
fn module() -> Vec<u8> {
    let facts =
        r#"{"version":"1.2.3","commit":"abc","commitTime":"1700000000","abi":"0.2.1","policies":["http"]}"#;
    let named = |name: &str, content: &[u8]| {
        [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), content].concat()
    };
    // Each length in two bytes.
    let section = |id: u8, content: Vec<u8>| {
        let size =
            [u8::try_from(content.len() % 128).unwrap() | 0x80, u8::try_from(content.len() / 128).unwrap()];
        [&[id], &size[..], &content].concat()
    };
    let export = [&[1], named("proxy_abi_version_0_2_1", &[0, 0]).as_slice()].concat();
    let facts = named(meshfilter::version::SECTION, facts.as_bytes());
    [b"\0asm\x01\0\0\0".to_vec(), section(7, export), section(0, facts)].concat()
}

#[test]
fn limits_are_written_for_a_service_that_can_be_told_them() {
    let entry = |domain: &str, limit: &str| {
        format!(
            "- global:\n    cluster: rls\n    domain: {domain}\n    descriptors: [{{entries: [{{key: user, value: {{claim: sub}}}}]}}]\n{limit}"
        )
    };
    let limit = "    limit: {requestsPerUnit: 5, unit: HOUR}\n";
    let both = file("limits.yaml", &format!("rateLimits:\n{}{}", entry("a", limit), entry("b", limit)));
    let ran = run(&["limits", &both, "--for", "limitador"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.matches("seconds: 3600").count(), 2, "{}", ran.stdout);
    let ran = run(&["limits", &both, "--for", "ratelimit"], "");
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stderr, "meshfilter: ratelimit has a file for each domain; choose with --domain: a, b\n");
    let ran = run(&["limits", &both, "--for", "ratelimit", "--domain", "b"], "");
    assert!(ran.code == Some(0) && ran.stdout.contains("\ndomain: b\n"), "{} {}", ran.stdout, ran.stderr);
    let ran = run(&["limits", &both, "--for", "ratelimit", "--domain", "c"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), "meshfilter: --domain c: the policy has a, b\n"));
    assert_eq!(run(&["limits", &both], "").code, Some(2), "for whom?");
    let wrong = file("no-limit.yaml", &format!("rateLimits:\n{}", entry("a", "")));
    let ran = run(&["limits", &wrong, "--for", "limitador"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(
        ran.stderr
            .contains("no-limit.yaml:2:3: rateLimits[0].global: without a limit there is nothing to tell"),
        "{}",
        ran.stderr
    );
}
