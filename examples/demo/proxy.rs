//! A stock Envoy with the bootstrap and the policy of `envoy/envoy.yaml`, moved to this machine's loopback: the module is the
//! one that was built, and the upstreams are two more listeners of the same process.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use meshfilter::config::Errors;
use meshfilter::config::source::{Language, Source};
use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::support::check::Series;
use crate::support::{envoy, repository};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Reads one of the repository's YAML files, with these words replaced.
fn yaml(path: &str, words: &[(&str, &str)]) -> Result<Value> {
    let mut text = fs::read_to_string(repository(path))?;
    for (word, replacement) in words {
        text = text.replace(word, replacement);
    }
    let errors = Errors::default();
    let source = Source::read(Language::Yaml, &text, &errors)
        .map_err(|error| format!("{path}:{}: {}", error.place.line, error.message))?;
    match errors.into_vec().first() {
        Some(error) => Err(format!("{path}: {error}").into()),
        None => Ok(source.value),
    }
}

pub struct Proxy {
    pub port: u16,
    pub admin: u16,
    process: Child,
    folder: PathBuf,
    sent: AtomicU64,
}

impl Proxy {
    pub fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("meshfilter-demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let [port, admin] = [free_port(10000)?, free_port(9901)?];
        let upstreams = [("v1", free_port(0)?), ("v2", free_port(0)?)];

        let mut bootstrap = yaml("envoy/envoy.yaml", &[])?;
        let access_log = folder.join("access.log");
        Place { port, admin, upstreams, module: envoy::module()?, access_log }.adapt(&mut bootstrap);
        for (name, port) in upstreams {
            let mut upstream = yaml("envoy/upstream.yaml", &[("%ENVIRONMENT(UPSTREAM)%", name)])?;
            let mut listener = upstream["static_resources"]["listeners"][0].take();
            listener["address"] = address("127.0.0.1", port);
            let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
            listeners.ok_or("envoy/envoy.yaml has no listeners")?.push(listener);
        }
        fs::write(folder.join("envoy.json"), bootstrap.to_string())?;

        let log = fs::File::create(folder.join("envoy.log"))?;
        let process = Command::new(envoy::binary()?)
            .arg("-c")
            .arg(folder.join("envoy.json"))
            .args(["--concurrency", "2", "--disable-hot-restart", "--file-flush-interval-msec", "100"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut proxy = Proxy { port, admin, process, folder, sent: AtomicU64::new(0) };
        proxy.await_ready()?;
        Ok(proxy)
    }

    fn await_ready(&mut self) -> Result<()> {
        let ready = envoy::wait_until("Envoy ready", || {
            let ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            let ready = || Request::get("/ready").send(self.admin).is_ok_and(|answer| answer.status == 200);
            (ended || ready()).then_some(!ended)
        });
        match ready {
            Ok(true) => Ok(()),
            _ => {
                let log = fs::read_to_string(self.folder.join("envoy.log"))?;
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
                Err(format!("Envoy does not get ready:\n{}", last.join("\n")).into())
            }
        }
    }

    /// Sends a request and waits for the answer.
    pub fn send(&self, request: &Request) -> Result<Answer> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(request.send(self.port)?)
    }

    /// Sends a request so often, all at once.
    pub fn send_at_once(&self, request: &Request, times: usize) -> Result<Vec<Answer>> {
        self.sent.fetch_add(times as u64, Ordering::Relaxed);
        let answers: std::io::Result<_> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..times).map(|_| scope.spawn(|| request.send(self.port))).collect();
            senders.into_iter().map(|sender| sender.join().expect("a sender does not panic")).collect()
        });
        Ok(answers?)
    }

    /// How many requests were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn access_log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("access.log"))?)
    }

    /// The series of a counter, as Prometheus gets them, and their values.
    pub fn counter(&self, name: &str) -> Result<Vec<(Series, u64)>> {
        let text = Request::get("/stats/prometheus").send(self.admin)?.body;
        let series = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((Series::parse(series).filter(|series| series.name == name)?, value.parse().ok()?))
        };
        Ok(text.lines().filter_map(series).collect())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What differs between the sample and the demo.
struct Place {
    port: u16,
    admin: u16,
    upstreams: [(&'static str, u16); 2],
    module: PathBuf,
    access_log: PathBuf,
}

impl Place {
    fn adapt(&self, value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|item| self.adapt(item)),
            Value::Object(map) => {
                if let Some(socket) = map.get_mut("socket_address") {
                    self.move_to_loopback(socket);
                }
                if map.get("filename").and_then(Value::as_str).is_some_and(|name| name.ends_with(".wasm")) {
                    map.insert("filename".to_owned(), json!(self.module));
                }
                let kind = map.get("@type").and_then(Value::as_str).unwrap_or_default();
                if kind.ends_with(".StdoutAccessLog") {
                    let file = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
                    map.insert("@type".to_owned(), file.into());
                    map.insert("path".to_owned(), json!(self.access_log));
                }
                map.values_mut().for_each(|value| self.adapt(value));
            }
            _ => {}
        }
    }

    fn move_to_loopback(&self, socket: &mut Value) {
        let upstream = |name: &str| self.upstreams.iter().find(|(known, _)| *known == name);
        let port = match (socket["address"].as_str().unwrap_or_default(), socket["port_value"].as_u64()) {
            (_, Some(10000)) => self.port,
            (_, Some(9901)) => self.admin,
            (name, _) => match upstream(name) {
                Some((_, port)) => *port,
                None => return,
            },
        };
        *socket = address("127.0.0.1", port)["socket_address"].take();
    }
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// This port if nobody has it, else another one.
fn free_port(wanted: u16) -> Result<u16> {
    let listener =
        TcpListener::bind(("127.0.0.1", wanted)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}
