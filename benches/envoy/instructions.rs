//! What requests make a processor do, counted instead of timed: the same on every machine, however busy.
//!
//! Envoy runs in valgrind's callgrind, which counts instructions and simulates caches. That makes it some fifty times slower, and
//! changes nothing of what it does for a request.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::configurations::{Configuration, Group};
use crate::load::Load;
use crate::measure;
use crate::proxy::{Processors, Proxy};
use crate::requests::Wallet;
use crate::support::envoy::binary;
use crate::support::repository;

/// Requests before anything is simulated, so many more before it is counted, and so many that count.
const WARM: usize = 1000;
const SIMULATED: usize = 200;
const COUNTED: usize = 200;

/// Requests that a configuration gets.
pub const SENT: usize = WARM + SIMULATED + COUNTED;

/// A usual server processor: 32 KiB of each first-level cache, and 1 MiB of the second.
const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,8,64"];

/// What a configuration makes a processor do for each request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counts {
    pub name: String,
    pub title: String,
    pub group: Group,
    /// What is subtracted.
    pub bare: String,
    /// Which of Envoy's own it stands beside.
    pub native: Option<String>,
    pub instructions: f64,
    /// Lines of code, and of data, that the first-level caches did not have.
    pub code_misses: f64,
    pub data_misses: f64,
    /// Lines of either that the second-level cache did not have.
    pub far_misses: f64,
}

/// Counts for each of these.
pub fn count(
    load: &mut Load,
    configurations: &[Configuration],
    wallet: &Wallet,
    processors: &Processors,
) -> Result<Vec<Counts>, String> {
    let folder = repository("target/bench/callgrind");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let program = program(&folder)?;
    let upstreams = load.upstreams().map_err(|error| error.to_string())?;
    let one = |configuration: &Configuration| {
        eprintln!("counting {}", configuration.name);
        // Startup is the compiler's, which has threads of its own.
        processors.unpin()?;
        let counts = count_one(load, &program, &folder, configuration, &upstreams, wallet, processors);
        counts.map_err(|error| format!("{}: {error}", configuration.name))
    };
    configurations.iter().map(one).collect()
}

fn count_one(
    load: &mut Load,
    program: &Path,
    folder: &Path,
    configuration: &Configuration,
    upstreams: &[SocketAddr],
    wallet: &Wallet,
    processors: &Processors,
) -> Result<Counts, String> {
    let proxy = Proxy::start_as(program, configuration, &configuration.filters, upstreams, processors)?;
    processors.pin_client()?;
    let mut pool = wallet.pool(configuration.traffic);
    let connections = measure::connections(configuration);
    let mut client = load.connect(proxy.address, connections).map_err(|error| error.to_string())?;
    load.run(&mut client, WARM, &mut pool)?;
    control(&proxy, &["--instr=on"])?;
    load.run(&mut client, SIMULATED, &mut pool)?;
    control(&proxy, &["--zero"])?;
    load.run(&mut client, COUNTED, &mut pool)?;
    control(&proxy, &["--dump"])?;
    let path = folder.join(format!("{}.1", proxy.envoy.id()));
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The profile stays, for `callgrind_annotate`.
    let kept = folder.join(&configuration.name);
    fs::rename(&path, &kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    let line = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.ok_or_else(|| format!("{} has no line {key:?}", path.display()))
    };
    let (events, totals) = (line("events: ")?, line("totals: ")?);
    let totals: Vec<f64> = totals.split_ascii_whitespace().filter_map(|total| total.parse().ok()).collect();
    let each = |wanted: &[&str]| -> f64 {
        let events = events.split_ascii_whitespace().zip(&totals);
        events.filter(|(event, _)| wanted.contains(event)).map(|(_, total)| total).sum::<f64>()
            / COUNTED as f64
    };
    Ok(Counts {
        name: configuration.name.clone(),
        title: configuration.title.clone(),
        group: configuration.group,
        bare: configuration.bare.clone(),
        native: configuration.native.clone(),
        instructions: each(&["Ir"]),
        code_misses: each(&["I1mr"]),
        data_misses: each(&["D1mr", "D1mw"]),
        far_misses: each(&["ILmr", "DLmr", "DLmw"]),
    })
}

/// A program that starts Envoy in callgrind, with nothing counted yet.
fn program(folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join("envoy");
    let text = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --instr-atstart=no --cache-sim=yes {} --smc-check=all-non-file \
         --callgrind-out-file='{}/%p' '{}' \"$@\"\n",
        CACHES.join(" "),
        folder.display(),
        binary()?.canonicalize().map_err(|error| error.to_string())?.display()
    );
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, executable).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Whether it is there to count with.
pub fn available() -> bool {
    Command::new("callgrind_control").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn control(proxy: &Proxy, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("callgrind_control").args(arguments).arg(proxy.envoy.id().to_string()).output();
    let output =
        output.map_err(|error| format!("callgrind_control: {error} (Debian: apt install valgrind)"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("callgrind_control: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
