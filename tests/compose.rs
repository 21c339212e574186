//! `docker-compose.yml` as a user starts it, wherever a Docker Engine answers.
//!
//! It has a `main` of its own, so that it is ignored, and says why, where a test of the usual kind could only pass.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

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
    build_module()?;
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

fn build_module() -> Result<(), String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    match works(&[cargo, "build", "--quiet", "--release", "--lib", "--target", "wasm32-wasip1"]) {
        true => Ok(()),
        false => Err("the module does not build".to_owned()),
    }
}

/// Takes the image that is there, or pulls it, or builds one of its name.
fn provide_image() -> Result<(), String> {
    if works(&["docker", "image", "inspect", IMAGE]) || works(&["timeout", "120", "docker", "pull", IMAGE]) {
        return Ok(());
    }
    let envoy = std::env::var("ENVOY").unwrap_or_else(|_| ".tools/envoy".to_owned());
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&envoy).exists() {
        return Err(format!("{IMAGE} cannot be pulled, and there is no {envoy} to build it from"));
    }
    println!("{IMAGE} cannot be pulled; building it from {envoy}");
    match works(&["tests/build-envoy-image.sh", &envoy, IMAGE]) {
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
        let begin = Instant::now();
        loop {
            match get(self.port, "/", &[]) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                answer if begin.elapsed() > READY_WITHIN => {
                    return Err(format!("not ready within {READY_WITHIN:?}; the last answer: {answer:?}"));
                }
                _ => sleep(Duration::from_millis(100)),
            }
        }
    }

    fn exercise(&self) -> Result<(), String> {
        for _ in 0..10 {
            let answer = get(self.port, "/", &[("canary", "true")])?;
            if answer.status != 200 || answer.header("x-upstream") != Some("v2") {
                return Err(format!("the canary header should have led to v2: {answer:?}"));
            }
        }
        let mut stable = 0;
        for _ in 0..100 {
            let answer = get(self.port, "/", &[])?;
            if answer.status != 200 {
                return Err(format!("a plain request should pass: {answer:?}"));
            }
            stable += u32::from(answer.header("x-upstream") == Some("v1"));
        }
        // Five standard deviations of 90 in 100.
        if !(75..100).contains(&stable) {
            return Err(format!("of 100 requests about 90 should have gone to v1, not {stable}"));
        }
        let stats = get(self.admin, "/stats/prometheus", &[])?;
        match stats.body.contains("meshfilter_requests_total{") {
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

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let exchange = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error: std::io::Error| format!("GET {path}: {error}"))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("GET {path}: no answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
