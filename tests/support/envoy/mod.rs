//! A stock Envoy with the module in it, as a child of the test.

mod bootstrap;
pub mod native;
mod run;
pub mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use meshfilter_cli::cases::envoy as real;
use meshfilter_cli::envoy::cluster::Endpoint;
use meshfilter_cli::envoy::{Address, Cluster};
use serde_json::{Value, json};

pub use bootstrap::{Bootstrap, Configuration, replace_file};
pub use real::{CLUSTERS, PATIENCE, Upstreams, wait_at_most, wait_until};
pub use run::run;
pub use sample::Sample;

use super::repository;

/// The binary: `MESHFILTER_ENVOY`, or what `make tools` installs.
pub fn binary() -> Result<PathBuf, String> {
    existing("MESHFILTER_ENVOY", ".tools/envoy", "make tools")
}

/// The first two numbers of the binary's version.
pub fn version() -> Result<(u32, u32), String> {
    static VERSION: OnceLock<Result<(u32, u32), String>> = OnceLock::new();
    VERSION.get_or_init(|| real::version(&binary()?)).clone()
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

/// Any free port on loopback.
pub fn any_port() -> Value {
    Address::new("127.0.0.1", 0).value()
}

/// A cluster with one endpoint.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    Cluster::new(name, vec![Endpoint::At(Address::from(address))]).value()
}

/// A running Envoy. It is killed with the value.
pub struct Envoy(real::Envoy);

impl Deref for Envoy {
    type Target = real::Envoy;

    fn deref(&self) -> &real::Envoy {
        &self.0
    }
}

impl Envoy {
    /// Starts Envoy and waits until it serves. The error has what it logged.
    pub fn start(bootstrap: &Bootstrap) -> Result<Self, String> {
        bootstrap.launch()?.start(|folder| bootstrap.written(folder)).map(Envoy)
    }

    /// [`Self::start`] with a bootstrap that stands elsewhere.
    pub fn start_with(bootstrap: &Value) -> Result<Self, String> {
        Self::start_in(1, |_| bootstrap.clone())
    }

    /// [`Self::start_with`] where the bootstrap needs to know the folder, or there are more workers.
    pub fn start_in(workers: u32, bootstrap: impl FnOnce(&Path) -> Value) -> Result<Self, String> {
        let launch = real::Launch { workers, ..real::Launch::new(binary()?) };
        launch.start(|folder| write(folder, &bootstrap(folder))).map(Envoy)
    }

    /// Starts a program that is or becomes Envoy, with the log that it has when nobody asks for more.
    pub fn start_as(program: &Path, workers: u32, bootstrap: &Value) -> Result<Self, String> {
        // In valgrind, on a machine that is busy, it takes its time.
        let patience = std::time::Duration::from_secs(600);
        let launch =
            real::Launch { workers, talkative: false, patience, ..real::Launch::new(program.to_owned()) };
        launch.start(|folder| write(folder, bootstrap)).map(Envoy)
    }

    /// [`Self::start_in`] with one worker, and a second bootstrap, in YAML, that Envoy merges into the first.
    pub fn start_merged(second: &str, bootstrap: impl FnOnce(&Path) -> Value) -> Result<Self, String> {
        let arguments = ["--config-yaml", second].map(str::to_owned).to_vec();
        let launch = real::Launch { arguments, ..real::Launch::new(binary()?) };
        launch.start(|folder| write(folder, &bootstrap(folder))).map(Envoy)
    }

    /// Starts Envoy with a configuration that it has to refuse; gives its exit code and what it logged.
    pub fn refuse(bootstrap: &Bootstrap) -> Result<(Option<i32>, String), String> {
        bootstrap.launch()?.spawn(|folder| bootstrap.written(folder))?.ended()
    }

    /// Ends it as an operator does, with requests under way or not; its exit code, none if a signal ended it.
    pub fn shut_down(self) -> Result<Option<i32>, String> {
        self.admin_post("/quitquitquit").map_err(|error| error.to_string())?;
        Ok(self.0.ended()?.0)
    }
}

/// Writes a bootstrap, with the module that is asked for.
fn write(folder: &Path, bootstrap: &Value) -> Result<real::Written, String> {
    let mut bootstrap = bootstrap.clone();
    let mut environment = BTreeMap::new();
    native::switch_bootstrap(&mut bootstrap, &mut environment)?;
    let configuration = folder.join("bootstrap.json");
    fs::write(&configuration, bootstrap.to_string())
        .map_err(|error| format!("{}: {error}", configuration.display()))?;
    Ok(real::Written { configuration, environment })
}
