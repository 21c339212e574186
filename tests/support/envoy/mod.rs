//! A stock Envoy with the module in it, as a child of the test.

mod bootstrap;
pub mod native;
mod run;
pub mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use bootstrap::{Bootstrap, Configuration, any_port, cluster, replace_file};
pub use run::run;
pub use sample::Sample;

use super::check::{Seen, Series, upstream_name};
use super::http::{self, Response, Upstream};
use super::repository;

/// The clusters that Envoy has in every case.
pub const CLUSTERS: [&str; 8] =
    ["webapp|v1", "webapp|v2", "webapp|v3", "webapp", "v1", "v2", "mirror", "fallback"];

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long connections of a replaced listener may last, unless a bootstrap says otherwise.
const DRAIN: Duration = Duration::from_secs(1);

/// The header by which a request is found again in the access log and at the upstreams.
pub const ID_HEADER: &str = "x-case-request";

/// The binary: `MESHFILTER_ENVOY`, or what `make tools` installs.
pub fn binary() -> Result<PathBuf, String> {
    existing("MESHFILTER_ENVOY", ".tools/envoy", "make tools")
}

/// The first two numbers of the binary's version.
pub fn version() -> Result<(u32, u32), String> {
    static VERSION: OnceLock<Result<(u32, u32), String>> = OnceLock::new();
    let ask = || {
        let output = Command::new(binary()?).arg("--version").output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // …/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
        let version = text.split("version: ").nth(1).and_then(|rest| rest.split('/').nth(1));
        let numbers = version.and_then(|version| {
            let mut numbers = version.split('.').map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        });
        numbers.ok_or_else(|| format!("which version is this? {text}"))
    };
    VERSION.get_or_init(ask).clone()
}

/// The module: `MESHFILTER_WASM`, or what `make build` leaves.
pub fn module() -> Result<PathBuf, String> {
    existing("MESHFILTER_WASM", "target/wasm32-wasip1/release/meshfilter.wasm", "make build")
}

fn existing(variable: &str, default: &str, remedy: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os(variable).map_or_else(|| repository(default), PathBuf::from);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is missing: run `{remedy}`, or set {variable}", path.display())),
    }
}

/// Waits until something is so, and asks again every few milliseconds.
pub fn wait_until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    wait_at_most(PATIENCE, what, ask)
}

/// [`wait_until`] with less patience.
pub fn wait_at_most<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {patience:?} in vain: {what}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Logs that a test can read, and soon.
const LOGS: [&str; 4] =
    ["--file-flush-interval-msec", "10", "--component-log-level", "wasm:debug,dynamic_modules:debug"];

/// One echo server for each cluster that a case can name.
pub struct Upstreams(BTreeMap<&'static str, Upstream>);

impl Upstreams {
    pub fn start() -> io::Result<Self> {
        let start = |cluster: &'static str| Ok((cluster, Upstream::echo(upstream_name(cluster))?));
        CLUSTERS.into_iter().map(start).collect::<io::Result<_>>().map(Upstreams)
    }

    /// Name of the cluster and address of its upstream.
    pub fn clusters(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.0.iter().map(|(cluster, upstream)| (*cluster, upstream.address()))
    }

    /// They remember nothing from now on.
    pub fn forget(&self) {
        self.0.values().for_each(Upstream::forget);
    }

    /// The requests with this id, wherever they arrived.
    pub fn seen(&self, id: &str) -> Vec<Seen> {
        let has_id = |seen: &Seen| {
            seen.headers.iter().any(|(name, value)| name == ID_HEADER && value == id.as_bytes())
        };
        self.0.values().flat_map(Upstream::seen).filter(has_id).collect()
    }
}

/// A running Envoy. It is killed with the value.
pub struct Envoy {
    child: Child,
    folder: PathBuf,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts Envoy and waits until it serves. The error has what it logged.
    pub fn start(bootstrap: &Bootstrap) -> Result<Self, String> {
        Self::launch(bootstrap.workers, bootstrap.drain, |folder| bootstrap.write(folder))?.ready()
    }

    /// [`Self::start`] with a bootstrap that is not made from `envoy/envoy.yaml`.
    pub fn start_with(bootstrap: &serde_json::Value) -> Result<Self, String> {
        Self::start_in(1, |_| bootstrap.clone())
    }

    /// [`Self::start_with`] where the bootstrap needs to know the folder, or there are more workers.
    pub fn start_in(
        workers: u32,
        bootstrap: impl FnOnce(&Path) -> serde_json::Value,
    ) -> Result<Self, String> {
        Self::launch(workers, DRAIN, |folder| write_bootstrap(folder, &bootstrap(folder)))?.ready()
    }

    /// Starts a program that is or becomes Envoy, with the log that it has when nobody asks for more.
    pub fn start_as(program: &Path, workers: u32, bootstrap: &serde_json::Value) -> Result<Self, String> {
        let write = |folder: &Path| write_bootstrap(folder, bootstrap);
        Self::launch_as(program, workers, DRAIN, &[], write)?.ready()
    }

    /// [`Self::start_in`] with one worker, and a second bootstrap, in YAML, that Envoy merges into the first.
    pub fn start_merged(
        second: &str,
        bootstrap: impl FnOnce(&Path) -> serde_json::Value,
    ) -> Result<Self, String> {
        let write = |folder: &Path| write_bootstrap(folder, &bootstrap(folder));
        let arguments = [&LOGS[..], &["--config-yaml", second]].concat();
        Self::launch_with(1, DRAIN, &arguments, write)?.ready()
    }

    fn ready(self) -> Result<Self, String> {
        let mut envoy = self;
        let admin = envoy.folder.join("admin");
        let mut exited = None;
        let address = wait_until("Envoy's admin address", || {
            exited = envoy.child.try_wait().ok().flatten();
            if exited.is_some() {
                return Some(None);
            }
            fs::read_to_string(&admin).ok()?.parse().ok().map(Some)
        });
        let ready = address.and_then(|address| {
            envoy.admin = address.unwrap_or(envoy.admin);
            wait_until("Envoy ready", || {
                exited = exited.or_else(|| envoy.child.try_wait().ok().flatten());
                let ready = || envoy.admin("/ready").is_ok_and(|response| response.status == 200);
                (exited.is_some() || ready()).then_some(())
            })
        });
        match (ready, exited) {
            (Ok(()), None) => Ok(envoy),
            (Ok(()), Some(status)) => Err(format!("Envoy ended with {status}\n{}", envoy.log())),
            (Err(error), _) => Err(format!("{error}\n{}", envoy.log())),
        }
    }

    /// Starts Envoy with a configuration that it has to refuse; gives its exit code and what it logged.
    pub fn refuse(bootstrap: &Bootstrap) -> Result<(Option<i32>, String), String> {
        let mut envoy = Self::launch(bootstrap.workers, bootstrap.drain, |folder| bootstrap.write(folder))?;
        let status = wait_until("Envoy ends", || envoy.child.try_wait().ok().flatten())
            .map_err(|error| format!("{error}\n{}", envoy.log()))?;
        Ok((status.code(), envoy.log()))
    }

    fn launch(
        workers: u32,
        drain: Duration,
        write: impl FnOnce(&Path) -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        Self::launch_with(workers, drain, &LOGS, write)
    }

    fn launch_with(
        workers: u32,
        drain: Duration,
        arguments: &[&str],
        write: impl FnOnce(&Path) -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        Self::launch_as(&binary()?, workers, drain, arguments, write)
    }

    fn launch_as(
        program: &Path,
        workers: u32,
        drain: Duration,
        arguments: &[&str],
        write: impl FnOnce(&Path) -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("meshfilter-{}-{count}", std::process::id()));
        let wrong = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(wrong)?;
        let configuration = write(&folder)?;
        let child = Command::new(program)
            .args(["--disable-hot-restart", "--log-level", "info"])
            .args(["--drain-time-s", &drain.as_secs().to_string()])
            .args(arguments)
            .args(["--concurrency", &workers.to_string()])
            .envs(environment(&folder)?)
            .arg("-c")
            .arg(configuration)
            .arg("--admin-address-path")
            .arg(folder.join("admin"))
            .arg("--log-path")
            .arg(folder.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("Envoy does not start: {error}"))?;
        Ok(Envoy { child, folder, admin: SocketAddr::from(([127, 0, 0, 1], 0)) })
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where the files of this Envoy are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What Envoy logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of the access log, each one a JSON object.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        let bytes = fs::read(self.folder.join("access")).unwrap_or_default();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Where the admin interface is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin interface.
    pub fn admin(&self, path: &str) -> io::Result<Response> {
        http::request(self.admin, path, &[])
    }

    /// Tells the admin interface to do something.
    pub fn admin_post(&self, path: &str) -> io::Result<Response> {
        http::Client::connect(self.admin)?.request("POST", path, &[])
    }

    /// The address of the only listener.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.addresses()?.into_values().next().ok_or_else(|| "Envoy has no listener".to_owned())
    }

    /// The addresses of the listeners, by their names.
    pub fn addresses(&self) -> Result<BTreeMap<String, SocketAddr>, String> {
        wait_until("Envoy listens", || {
            let listeners = self.admin("/listeners?format=json").ok()?;
            let listeners: serde_json::Value = serde_json::from_slice(&listeners.body).ok()?;
            let address = |listener: &serde_json::Value| {
                let port = listener["local_address"]["socket_address"]["port_value"].as_u64()?;
                let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?));
                Some((listener["name"].as_str()?.to_owned(), address))
            };
            let found: BTreeMap<_, _> =
                listeners["listener_statuses"].as_array()?.iter().filter_map(address).collect();
            (!found.is_empty()).then_some(found)
        })
        .map_err(|error| format!("{error}\n{}", self.log()))
    }

    /// A counter or gauge by its flat name; 0 where there is none.
    pub fn stat(&self, name: &str) -> u64 {
        let text = self.admin("/stats").map(|response| response.text()).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// Everything that Prometheus would get.
    pub fn prometheus(&self) -> BTreeMap<Series, u64> {
        let text = self.admin("/stats/prometheus").map(|response| response.text()).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((Series::parse(series)?, value.parse::<f64>().ok()? as u64))
            })
            .collect()
    }
}

/// What a native module has of its environment besides what the test has.
fn environment(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    match fs::read(folder.join(ENVIRONMENT)) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        Err(_) => Ok(BTreeMap::new()),
    }
}

const ENVIRONMENT: &str = "environment.json";

/// Writes a bootstrap, with the module that is asked for.
fn write_bootstrap(folder: &Path, bootstrap: &serde_json::Value) -> Result<PathBuf, String> {
    let mut bootstrap = bootstrap.clone();
    let mut environment = environment(folder)?;
    native::switch_bootstrap(&mut bootstrap, &mut environment)?;
    if !environment.is_empty() {
        let text = serde_json::to_string(&environment).unwrap_or_default();
        fs::write(folder.join(ENVIRONMENT), text).map_err(|error| error.to_string())?;
    }
    let path = folder.join("bootstrap.json");
    fs::write(&path, bootstrap.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
