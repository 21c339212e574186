//! `docker-compose.yml` as a user starts it, wherever a Docker Engine answers.
//!
//! It has a `main` of its own, so that it is ignored, and says why, where a test of the usual kind could only pass.

#[path = "support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use support::envoy;
use support::http::{self, Response};

const IMAGE: &str = "envoyproxy/envoy:v1.40.0";
const READY_WITHIN: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let trial = match engine() {
        Ok(compose) => Trial::test("compose", move || Ok(bring_up_and_ask(compose)?)),
        Err(reason) => {
            println!("compose is NOT RUN: {reason}");
            Trial::test("compose", || Ok(())).with_kind("not run").with_ignored_flag(true)
        }
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// The command that reaches a Docker Engine, or why there is none.
fn engine() -> Result<&'static [&'static str], &'static str> {
    let compose = compose_command().ok_or("neither `docker compose` nor docker-compose is installed")?;
    match works(&["docker", "version", "--format", "{{.Server.Version}}"]) {
        true => Ok(compose),
        false => Err("no Docker Engine answers"),
    }
}

fn bring_up_and_ask(compose: &'static [&'static str]) -> Result<(), String> {
    envoy::module()?;
    provide_image()?;
    let stack = Stack::new(compose);
    stack.up().and_then(|()| stack.exercise()).map_err(|reason| {
        let logs = stack.run(&["logs", "--no-color", "--tail", "30", "proxy"]);
        format!("{reason}\n{}", String::from_utf8_lossy(&logs.stdout))
    })
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn works(words: &[&str]) -> bool {
    command(words).output().is_ok_and(|output| output.status.success())
}

/// Version 2 is a plugin of `docker`, version 1 a command of its own.
fn compose_command() -> Option<&'static [&'static str]> {
    let candidates: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    candidates.into_iter().find(|words| works(&[words, &["version"][..]].concat()))
}

/// Takes the image that is there, or pulls it, or builds one of its name.
fn provide_image() -> Result<(), String> {
    if works(&["docker", "image", "inspect", IMAGE]) || works(&["timeout", "120", "docker", "pull", IMAGE]) {
        return Ok(());
    }
    let binary = envoy::binary().map_err(|error| format!("{IMAGE} cannot be pulled, and {error}"))?;
    let binary = binary.to_string_lossy();
    println!("{IMAGE} cannot be pulled; building it from {binary}");
    match works(&["tests/build-envoy-image.sh", &binary, IMAGE]) {
        true => Ok(()),
        false => Err("tests/build-envoy-image.sh fails".to_owned()),
    }
}

/// The services under a project name and ports of their own; taken down when dropped.
struct Stack {
    compose: &'static [&'static str],
    project: String,
    port: u16,
    admin: u16,
}

impl Stack {
    fn new(compose: &'static [&'static str]) -> Self {
        let project = format!("meshfilter-test-{}", std::process::id());
        Stack { compose, project, port: free_port(), admin: free_port() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(self.compose)
            .args(["--project-name", &self.project])
            .args(arguments)
            .env("MESHFILTER_PORT", self.port.to_string())
            .env("MESHFILTER_ADMIN_PORT", self.admin.to_string())
            .output()
            .unwrap()
    }

    fn up(&self) -> Result<(), String> {
        let up = self.run(&["up", "--detach"]);
        if !up.status.success() {
            return Err(String::from_utf8_lossy(&up.stderr).into_owned());
        }
        envoy::wait_at_most(READY_WITHIN, "the services answer", || {
            get(self.port, "/", &[]).ok().filter(|answer| answer.status == 200)
        })
        .map(|_| ())
    }

    fn exercise(&self) -> Result<(), String> {
        for _ in 0..10 {
            let answer = get(self.port, "/", &[("canary", "true")])?;
            if answer.status != 200 || answer.header("x-upstream").as_deref() != Some("v2") {
                return Err(format!("the canary header should have led to v2: {answer:?}"));
            }
        }
        let mut stable = 0;
        for _ in 0..100 {
            let answer = get(self.port, "/", &[])?;
            if answer.status != 200 {
                return Err(format!("a plain request should pass: {answer:?}"));
            }
            stable += u32::from(answer.header("x-upstream").as_deref() == Some("v1"));
        }
        // Five standard deviations of 90 in 100.
        if !(75..100).contains(&stable) {
            return Err(format!("of 100 requests about 90 should have gone to v1, not {stable}"));
        }
        let stats = get(self.admin, "/stats/prometheus", &[])?;
        match stats.text().contains("meshfilter_requests_total{") {
            true => Ok(()),
            false => Err("the proxy does not count meshfilter_requests_total".to_owned()),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let down = self.run(&["down", "--volumes", "--timeout", "2"]);
        if !down.status.success() {
            eprintln!("{} stays up: {}", self.project, String::from_utf8_lossy(&down.stderr));
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).unwrap().port()
}

fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Response, String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    http::request(address, path, headers).map_err(|error| format!("GET {path}: {error}"))
}
