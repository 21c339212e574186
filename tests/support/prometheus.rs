//! A real Prometheus, as a child of the test.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::envoy::wait_until;
use super::{http, repository};

/// The guides' alerts.
pub const ALERTS: &str = r#"
groups:
- name: istio-alerts
  rules:
  - alert: IstioHighErrorRate
    expr: sum(rate(istio_requests_total{response_code=~"5.*"}[5m])) / sum(rate(istio_requests_total[5m])) > 0.05
  - alert: IstioHighLatency
    expr: histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket[5m])) by (le)) > 600000
"#;

/// A running Prometheus. It is killed with the value.
pub struct Prometheus {
    child: Child,
    folder: PathBuf,
    api: Api,
}

/// A Prometheus's HTTP API, wherever it runs.
#[derive(Clone, Copy, Debug)]
pub struct Api(pub SocketAddr);

/// A value of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name is `__name__`.
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// A label; empty where there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// A program that `scripts/install-tools.sh` provides: `prometheus`, `promtool`, `docker-registry`.
pub fn tool(name: &str) -> Result<PathBuf, String> {
    let path = repository(".tools/bin").join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is missing: run `make tools`", path.display())),
    }
}

impl Prometheus {
    /// Starts with these files in its folder; `prometheus.yaml` is the one that it reads first.
    pub fn start(files: &[(&str, &Value)]) -> Result<Self, String> {
        // Several may run in one process, each with a folder of its own.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("meshfilter-prometheus-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for (name, content) in files {
            fs::write(folder.join(name), content.to_string()).map_err(|error| error.to_string())?;
        }
        let log = fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let child = Command::new(tool("prometheus")?)
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("Prometheus does not start: {error}"))?;
        let mut prometheus = Prometheus { child, folder, api: Api(SocketAddr::from(([127, 0, 0, 1], 0))) };
        let address = wait_until("Prometheus listens", || {
            let ended = prometheus.child.try_wait().ok().flatten().is_some();
            let log = prometheus.log();
            let address = log
                .lines()
                .find(|line| line.contains("Listening on"))
                .and_then(|line| line.split("address=").nth(1));
            match address.and_then(|address| address.trim().parse().ok()) {
                Some(address) => Some(Ok(address)),
                None => ended.then(|| Err(format!("Prometheus ended:\n{log}"))),
            }
        });
        prometheus.api = Api(address.map_err(|error| format!("{error}\n{}", prometheus.log()))??);
        prometheus.api.wait_until_ready()?;
        Ok(prometheus)
    }

    pub fn api(&self) -> Api {
        self.api
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Api {
    pub fn wait_until_ready(self) -> Result<(), String> {
        wait_until("Prometheus ready", || {
            let ready = http::request(self.0, "/-/ready", &[]);
            ready.is_ok_and(|answer| answer.status == 200).then_some(())
        })
    }

    /// Asks the API; the error is Prometheus's own.
    pub fn get(self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let answer = http::request(self.0, &format!("/api/v1/{path}?{}", pairs.join("&")), &[])
            .map_err(|error| format!("Prometheus: {path}: {error}"))?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        match body["status"].as_str() {
            Some("success") => Ok(body["data"].clone()),
            _ => Err(format!("Prometheus: {path} {parameters:?}: {}", body["error"])),
        }
    }

    /// The instant vector that an expression comes to.
    pub fn query(self, expression: &str) -> Result<Vec<Sample>, String> {
        let data = self.get("query", &[("query", expression)])?;
        let samples = data["result"].as_array().into_iter().flatten().map(|sample| {
            let labels = sample["metric"].as_object()?;
            let labels =
                labels.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            Some(Sample { labels: labels.collect(), value: sample["value"][1].as_str()?.parse().ok()? })
        });
        samples.collect::<Option<_>>().ok_or_else(|| format!("{expression} is no instant vector: {data}"))
    }

    /// The only value that an expression comes to.
    pub fn number(self, expression: &str) -> Result<f64, String> {
        match self.query(expression)?.as_slice() {
            [sample] => Ok(sample.value),
            other => Err(format!("{expression} should be one value, is {other:?}")),
        }
    }
}
