//! `docker-compose.yml` as a user starts it, and as `docs/install.md` does, wherever a Docker Engine answers.
//!
//! It has a `main` of its own, so that it is ignored, and says why, where a test of the usual kind could only pass.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use support::envoy;
use support::http::{self, Response};
use support::{install, prometheus};

const IMAGE: &str = "envoyproxy/envoy:v1.40.0";
const PROMETHEUS: &str = "prom/prometheus:v3.5.0";
const REGISTRY: &str = "registry:2";
const READY_WITHIN: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    type Test = fn(&'static [&'static str]) -> Result<(), String>;
    let tests: [(&str, Test); 5] = [
        ("compose with the profile observability", bring_up_prometheus),
        ("compose", bring_up_and_ask),
        ("compose in docs/install.md", |compose| run_the_page(compose, "Docker compose")),
        ("compose with the native module in docs/install.md", |compose| {
            run_the_page(compose, "With the native module")
        }),
        ("compose with a registry in docs/install.md", |compose| run_the_page(compose, "From a registry")),
    ];
    let engine = engine();
    if let Err(reason) = engine {
        println!("compose is NOT RUN: {reason}");
    }
    // `make envoy-native` has built it.
    let lacks = |name: &str| name.contains("native") && envoy::native::native_module().is_err();
    let trials = tests.map(|(name, test)| match engine {
        Ok(compose) if !lacks(name) => Trial::test(name, move || Ok(test(compose)?)),
        _ => Trial::test(name, || Ok(())).with_kind("not run").with_ignored_flag(true),
    });
    let mut trials = Vec::from(trials);
    // Reading it takes no engine.
    trials.push(match compose_command() {
        Some(compose) => {
            Trial::test("compose reads the profiles of the fleet", move || Ok(read_fleet(compose)?))
        }
        None => Trial::test("compose reads the profiles of the fleet", || Ok(())).with_ignored_flag(true),
    });
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
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
    stack.up(&["up", "--detach"]).and_then(|()| stack.exercise()).map_err(|reason| {
        let logs = stack.run(&["logs", "--no-color", "--tail", "30", "proxy"]);
        format!("{reason}\n{}", String::from_utf8_lossy(&logs.stdout))
    })
}

/// The commands of a section of the page, with ports and a project of their own.
fn run_the_page(compose: &'static [&'static str], section: &str) -> Result<(), String> {
    envoy::module()?;
    provide_image()?;
    if section == "From a registry" {
        provide_registry()?;
    }
    // Takes the services down should a command fail.
    let stack = Stack::new(compose);
    let (script, expected) = install::block(section).script();
    let registry = free_port();
    let script = script
        .replace("make build native\n", "")
        .replace("make build\n", "")
        .replace("docker compose", &compose.join(" "))
        .replace("cargo run -q --", env!("CARGO_BIN_EXE_meshfilter"))
        .replace("localhost:5000", &format!("localhost:{registry}"))
        .replace("localhost:10000", &format!("localhost:{}", stack.port));
    let output = command(&["bash", "-ec", &script])
        .env("COMPOSE_PROJECT_NAME", &stack.project)
        .env("MESHFILTER_PORT", stack.port.to_string())
        .env("MESHFILTER_ADMIN_PORT", stack.admin.to_string())
        .env("MESHFILTER_REGISTRY_PORT", registry.to_string())
        .output()
        .map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let says = |expected: &String| answer.contains(expected.trim());
    match output.status.success() && !expected.is_empty() && expected.iter().all(says) {
        true => Ok(()),
        false => Err(format!("{script}\n{answer}\n{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The images of the services cannot be built of anything here.
fn read_fleet(compose: &'static [&'static str]) -> Result<(), String> {
    for (profile, service) in [("fleet", "ratelimit"), ("fleet-limitador", "limitador")] {
        let output = command(compose).args(["--profile", profile, "config"]).output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let file = format!("envoy/fleet/{service}.yaml");
        let wanted =
            ["edge-1:", "edge-2:", "redis:", &format!("{service}:"), "envoy/fleet/envoy.yaml", &file];
        if let Some(missing) = wanted.iter().find(|text| !said.contains(**text)) {
            return Err(format!("{profile}: no {missing} in {said}"));
        }
        if !output.status.success() || !support::repository(&file).exists() {
            return Err(format!("{profile}: {said}"));
        }
    }
    Ok(())
}

/// Grafana is left out: there is no package of it to build an image from.
fn bring_up_prometheus(compose: &'static [&'static str]) -> Result<(), String> {
    envoy::module()?;
    provide_image()?;
    provide_prometheus()?;
    let stack = Stack::new(compose);
    stack.up(&["--profile", "observability", "up", "--detach", "proxy", "prometheus"])?;
    let api = prometheus::Api(SocketAddr::from(([127, 0, 0, 1], stack.prometheus)));
    api.wait_until_ready()?;
    let rules = api.get("rules", &[])?["groups"].as_array().map_or(0, Vec::len);
    if rules != 3 {
        return Err(format!("Prometheus should have three groups of rules, not {rules}"));
    }
    envoy::wait_until("Prometheus has scraped the proxy", || {
        let canary = get(stack.port, "/", &[("canary", "true")]).ok()?;
        let counted = api.number(r#"sum(meshfilter_requests_total{destination="webapp|v2"})"#).ok()?;
        (canary.status == 200 && counted > 0.0).then_some(())
    })
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(support::ROOT);
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
    // One test at a time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().map_err(|_| "another test failed to build the image")?;
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

/// The same for Prometheus, of Debian's program. It starts as the official image does.
fn provide_prometheus() -> Result<(), String> {
    if works(&["docker", "image", "inspect", PROMETHEUS])
        || works(&["timeout", "120", "docker", "pull", PROMETHEUS])
    {
        return Ok(());
    }
    let binary = debian_binary("prometheus")?;
    println!("{PROMETHEUS} cannot be pulled; building it from {}", binary.display());
    let entry = r#"ENTRYPOINT ["/usr/local/bin/prometheus"]"#;
    let command =
        r#"CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/prometheus"]"#;
    match works(&["tests/build-image.sh", &binary.to_string_lossy(), PROMETHEUS, entry, command]) {
        true => Ok(()),
        false => Err("tests/build-image.sh fails for Prometheus".to_owned()),
    }
}

/// What `scripts/install-tools.sh` unpacked, rather than the script that runs it, or found installed.
fn debian_binary(name: &str) -> Result<PathBuf, String> {
    let unpacked = support::repository(".tools/debian/usr/bin").join(name);
    if unpacked.exists() { Ok(unpacked) } else { prometheus::tool(name) }
}

/// The same for the registry, which Debian has, too.
fn provide_registry() -> Result<(), String> {
    if works(&["docker", "image", "inspect", REGISTRY])
        || works(&["timeout", "120", "docker", "pull", REGISTRY])
    {
        return Ok(());
    }
    let binary = debian_binary("docker-registry")?;
    let folder = std::env::temp_dir().join(format!("meshfilter-registry-image-{}", std::process::id()));
    let configuration = folder.join("etc/docker/registry");
    let text =
        "{version: 0.1, storage: {filesystem: {rootdirectory: /var/lib/registry}}, http: {addr: ':5000'}}";
    let written = std::fs::create_dir_all(&configuration)
        .and_then(|()| std::fs::write(configuration.join("config.yml"), text));
    written.map_err(|error| error.to_string())?;
    println!("{REGISTRY} cannot be pulled; building it from {}", binary.display());
    let entry =
        r#"ENTRYPOINT ["/usr/local/bin/docker-registry", "serve", "/etc/docker/registry/config.yml"]"#;
    let built = command(&["tests/build-image.sh", &binary.to_string_lossy(), REGISTRY, entry])
        .env("FILES", &folder)
        .status();
    let _ = std::fs::remove_dir_all(&folder);
    match built.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err("tests/build-image.sh fails for the registry".to_owned()),
    }
}

/// The services under a project name and ports of their own; taken down when dropped.
struct Stack {
    compose: &'static [&'static str],
    project: String,
    port: u16,
    admin: u16,
    prometheus: u16,
}

impl Stack {
    fn new(compose: &'static [&'static str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let project = format!("meshfilter-test-{}-{count}", std::process::id());
        Stack { compose, project, port: free_port(), admin: free_port(), prometheus: free_port() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(self.compose)
            .args(["--project-name", &self.project])
            .args(arguments)
            .env("MESHFILTER_PORT", self.port.to_string())
            .env("MESHFILTER_ADMIN_PORT", self.admin.to_string())
            .env("PROMETHEUS_PORT", self.prometheus.to_string())
            .output()
            .unwrap()
    }

    fn up(&self, command: &[&str]) -> Result<(), String> {
        let up = self.run(command);
        if !up.status.success() {
            return Err(String::from_utf8_lossy(&up.stderr).into_owned());
        }
        envoy::wait_at_most(READY_WITHIN, "the services answer", || {
            get(self.port, "/", &[]).ok().filter(|answer| answer.status == 200)
        })
        .map(|_| ())
    }

    fn exercise(&self) -> Result<(), String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let running = command(&["docker", "ps", "--quiet", "--filter", &project]).output();
        let running = running.map_err(|error| error.to_string())?.stdout;
        let count = String::from_utf8_lossy(&running).lines().count();
        if count != 3 {
            return Err(format!(
                "without a profile there should be the proxy and two upstreams, not {count} services"
            ));
        }
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
        let down = self.run(&["down", "--volumes", "--remove-orphans", "--timeout", "2"]);
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
