//! An Envoy as a child of this process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{self, Response};
use crate::proxy::Series;

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The first two numbers of a binary's version.
///
/// # Errors
/// That it cannot be asked, or says something else.
pub fn version(program: &Path) -> Result<(u32, u32), String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // …/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    let version = text.split("version: ").nth(1).and_then(|rest| rest.split('/').nth(1));
    let numbers = version.and_then(|version| {
        let mut numbers = version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    numbers.ok_or_else(|| format!("{}: this says no version of Envoy: {text}", program.display()))
}

/// Waits until something is so, and asks again every few milliseconds.
///
/// # Errors
/// That it is not, within [`PATIENCE`].
pub fn wait_until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    wait_at_most(PATIENCE, what, ask)
}

/// [`wait_until`] with less patience.
///
/// # Errors
/// That it is not, within that time.
pub fn wait_at_most<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if began.elapsed() > patience {
            return Err(format!("waited {patience:?} in vain: {what}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// How an Envoy is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What is or becomes Envoy.
    pub program: PathBuf,
    /// How many workers it has.
    pub workers: u32,
    /// How long connections of a replaced listener may last.
    pub drain: Duration,
    /// Whether its logs are complete, and soon there.
    pub talkative: bool,
    /// More arguments.
    pub arguments: Vec<String>,
    /// How long it is waited for until it serves.
    pub patience: Duration,
}

impl Launch {
    /// One worker of this binary.
    pub fn new(program: PathBuf) -> Self {
        Launch {
            program,
            workers: 1,
            drain: Duration::from_secs(1),
            talkative: true,
            arguments: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Starts Envoy and waits until it serves.
    ///
    /// # Errors
    /// Why it does not, and what it logged.
    pub fn start(&self, write: impl FnOnce(&Path) -> Result<Written, String>) -> Result<Envoy, String> {
        self.spawn(write)?.ready(self.patience)
    }

    /// Starts Envoy, and does not wait. Into its folder is written what it reads.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn spawn(&self, write: impl FnOnce(&Path) -> Result<Written, String>) -> Result<Envoy, String> {
        let folder = tempfile::Builder::new().prefix("meshfilter-").tempdir();
        let folder = folder.map_err(|error| format!("no folder for Envoy's files: {error}"))?;
        let Written { configuration, environment } = write(folder.path())?;
        let mut command = Command::new(&self.program);
        command
            .args(["--disable-hot-restart", "--log-level", "info"])
            .args(["--drain-time-s", &self.drain.as_secs().to_string()])
            .args(["--concurrency", &self.workers.to_string()]);
        if self.talkative {
            command.args(["--file-flush-interval-msec", "10"]);
            command.args(["--component-log-level", "wasm:debug,dynamic_modules:debug"]);
        }
        let child = command
            .args(&self.arguments)
            .envs(environment)
            .arg("-c")
            .arg(configuration)
            .arg("--admin-address-path")
            .arg(folder.path().join("admin"))
            .arg("--log-path")
            .arg(folder.path().join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        Ok(Envoy { child, folder, admin: SocketAddr::from(([127, 0, 0, 1], 0)) })
    }
}

/// What Envoy is started with.
#[derive(Clone, Debug)]
pub struct Written {
    /// The bootstrap.
    pub configuration: PathBuf,
    /// Variables besides those of this process.
    pub environment: BTreeMap<String, String>,
}

/// A running Envoy. It is killed with the value.
pub struct Envoy {
    child: Child,
    folder: tempfile::TempDir,
    admin: SocketAddr,
}

impl Envoy {
    fn ready(self, patience: Duration) -> Result<Self, String> {
        let mut envoy = self;
        let admin = envoy.folder.path().join("admin");
        let mut exited = None;
        let address = wait_at_most(patience, "Envoy's admin address", || {
            exited = envoy.child.try_wait().ok().flatten();
            if exited.is_some() {
                return Some(None);
            }
            fs::read_to_string(&admin).ok()?.parse().ok().map(Some)
        });
        let ready = address.and_then(|address| {
            envoy.admin = address.unwrap_or(envoy.admin);
            wait_at_most(patience, "Envoy ready", || {
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

    /// Waits until it ends; gives its exit code, and what it logged.
    ///
    /// # Errors
    /// That it does not end.
    pub fn ended(mut self) -> Result<(Option<i32>, String), String> {
        let status = wait_until("Envoy ends", || self.child.try_wait().ok().flatten())
            .map_err(|error| format!("{error}\n{}", self.log()))?;
        Ok((status.code(), self.log()))
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where the files of this Envoy are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What Envoy logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of the access log, each one a JSON object.
    pub fn access_log(&self) -> Vec<Value> {
        let bytes = fs::read(self.folder.path().join("access")).unwrap_or_default();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Where the admin interface is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin interface.
    ///
    /// # Errors
    /// That it does not answer.
    pub fn admin(&self, path: &str) -> io::Result<Response> {
        http::request(self.admin, path, &[])
    }

    /// Tells the admin interface to do something.
    ///
    /// # Errors
    /// That it does not answer.
    pub fn admin_post(&self, path: &str) -> io::Result<Response> {
        http::Client::connect(self.admin)?.request("POST", path, &[])
    }

    /// The address of the only listener.
    ///
    /// # Errors
    /// That there is none.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.addresses()?.into_values().next().ok_or_else(|| "Envoy has no listener".to_owned())
    }

    /// The addresses of the listeners, by their names.
    ///
    /// # Errors
    /// That there is none.
    pub fn addresses(&self) -> Result<BTreeMap<String, SocketAddr>, String> {
        wait_until("Envoy listens", || {
            let listeners = self.admin("/listeners?format=json").ok()?;
            let listeners: Value = serde_json::from_slice(&listeners.body).ok()?;
            let address = |listener: &Value| {
                let port = listener.pointer("/local_address/socket_address/port_value")?.as_u64()?;
                let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?));
                Some((listener.get("name")?.as_str()?.to_owned(), address))
            };
            let found: BTreeMap<_, _> =
                listeners.get("listener_statuses")?.as_array()?.iter().filter_map(address).collect();
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

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
