//! `meshfilter run`: what is missing is told in one line, with what to do.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

/// A file of its own.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{name}"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .arg("run")
        .args(arguments)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_remove("ENVOY")
        .env("PATH", "")
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_is_missing_is_told_in_one_line() {
    let (policy, module, envoy) = (file("policy.yaml", "{}"), file("m.wasm", ""), file("envoy", ""));
    let any = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for (arguments, expected) in [
        (vec!["absent.yaml"], "meshfilter: absent.yaml: No such file"),
        (
            vec![&policy, "--module", "absent.wasm"],
            "meshfilter: --module absent.wasm: there is no such file; `make build`",
        ),
        (
            vec![&policy, "--module", &module],
            "meshfilter: there is no Envoy; install it (https://www.envoyproxy.io/docs/envoy/latest/start/install), run `make \
             tools` in this repository, or say where it is with --envoy or $ENVOY",
        ),
        (
            vec![&policy, "--module", &module, "--envoy", "absent"],
            "meshfilter: --envoy absent: there is no such file; it has to be the envoy binary",
        ),
        (vec!["-", "--watch"], "meshfilter: --watch: standard input does not change; give a file"),
        (
            vec!["--watch", "--import", &policy, "-"],
            "meshfilter: --watch: standard input does not change; give a file",
        ),
        (vec!["--import", "absent.yaml"], "meshfilter: absent.yaml: No such file"),
        (
            vec![&policy, "--labels", "app=a"],
            "meshfilter: --labels says something of a mesh: it goes with --import FILE, not with a policy",
        ),
        (
            vec![&policy, "--module", &module, "--envoy", &envoy, any[0], any[1], any[2], any[3]],
            "Permission denied",
        ),
    ] {
        let (code, said) = run(&arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_another_one() {
    let (policy, module, envoy) = (file("taken.yaml", "{}"), file("taken.wasm", ""), file("taken-envoy", ""));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let arguments = [&policy, "--module", &module, "--envoy", &envoy, "--listen", &address];
    let (code, said) = run(&arguments);
    assert_eq!(code, Some(2));
    assert_eq!(
        said,
        format!(
            "meshfilter: {address} is taken by another program; end it, or use another port: --listen 127.0.0.1:{}\n",
            port.saturating_add(1)
        )
    );
}

#[test]
fn a_wrong_policy_starts_nothing() {
    let (module, envoy) = (file("wrong.wasm", ""), file("wrong-envoy", ""));
    let policy = file("wrong.yaml", "http: [{rote: []}]\n");
    let arguments = [
        &policy,
        "--module",
        &module,
        "--envoy",
        &envoy,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let (code, said) = run(&arguments);
    assert_eq!(code, Some(1));
    assert!(said.contains("http[0].rote: there is no field \"rote\" here"), "{said}");
    // And what is imported does not, either.
    let mesh = file("wrong-mesh.yaml", "kind: VirtualService\nmetadata: {name: a}\nspec: {htp: []}\n");
    let (rest, from) = (arguments[1..].to_vec(), ["--import", &mesh]);
    let (code, said) = run(&[rest, from.to_vec()].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains("spec.htp: htp is not a field here; did you mean http?"), "{said}");
}
