//! The whole run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use crate::check::check;
use crate::configurations::{self, Configuration, Group, Modules};
use crate::documents;
use crate::instructions;
use crate::load::Load;
use crate::measure::{self, Measured};
use crate::proxy::{self, Processors, Proxy};
use crate::report::report;
use crate::requests::Wallet;
use crate::resources;
use crate::results::{Figure, Machine, Results};
use crate::support::{envoy, repository};

/// So many new tokens that neither cache knows one that comes round again.
const NEW_TOKENS: usize = 20_000;
/// Fewer rounds do not make a whole run.
const WHOLE: usize = 40;
/// Beside the configurations, what else can be asked for by its name.
const STARTS: &str = "starts";
const KEYS: &str = "keys";
const INSTRUCTIONS: &str = "instructions";
/// What is started and looked at.
const STARTED: [&str; 4] = ["bare", "empty", "native-tuned", "meshfilter"];
/// What is counted beside the chain.
const COUNTED: [&str; 12] = [
    "native-entries-10",
    "entries-10",
    "native-entries-1000",
    "entries-1000",
    "native-hosts-10",
    "hosts-10",
    "native-hosts-1000",
    "hosts-1000",
    "native-rules-10",
    "rules-10",
    "native-rules-1000",
    "rules-1000",
];

/// Measures what requests cost in Envoy.
#[derive(Parser)]
struct Arguments {
    /// How often the time of every configuration is measured; 0 measures none
    #[arg(long, default_value_t = WHOLE)]
    rounds: usize,
    /// Requests that are measured each time
    #[arg(long, default_value_t = 2000, value_parser = positive)]
    slice: usize,
    /// What is measured, by its name; everything unless given
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of the module, beside this one: name=path
    #[arg(long, value_name = "NAME=PATH", value_parser = named_module)]
    other: Vec<(String, PathBuf)>,
    /// How many keys of a limit are sent
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Go before everything else on this machine, as real-time processes: for a machine that is busy
    #[arg(long)]
    first: bool,
    /// Make the page and the picture from this run, whatever it measured
    #[arg(long)]
    page: bool,
    /// Draw the page and the picture from the figures of the last whole run, and measure nothing
    #[arg(long)]
    redraw: bool,
    /// Fail unless the page and the picture are those of the figures of the last whole run
    #[arg(long)]
    check: bool,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "use a whole number from 1".to_owned())
}

fn named_module(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or_else(|| "write name=path".to_owned())?;
    // Cargo starts a bench in its package's folder.
    let path = repository(path);
    if !path.is_file() {
        return Err(format!("there is no file {}", path.display()));
    }
    Ok((name.to_owned(), path))
}

pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.redraw {
        return documents::redraw(&documents::read()?);
    }
    if arguments.check {
        documents::check()?;
    }
    let results = measure(arguments)?;
    println!("{}", report(&results));
    let whole = arguments.only.is_empty() && arguments.other.is_empty() && arguments.rounds >= WHOLE;
    match whole || arguments.page {
        true => documents::write(&results),
        false => {
            eprintln!(
                "docs/performance.* stay as they are: this was not everything, {WHOLE} times, and not told to make them"
            );
            Ok(())
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Results, String> {
    // Before this thread has a processor of its own, and sees no other.
    let machine = Machine::describe(&envoy::binary()?)?;
    let processors = Processors::choose()?;
    let modules = Modules { meshfilter: envoy::module()?, empty: empty_module()? };
    let known = configurations::all(&modules);
    let with_others = |configurations: Vec<Configuration>| {
        let other = |(name, path): &(String, PathBuf)| {
            let other = |one: &Configuration| one.with_module(&modules.meshfilter, name, path);
            configurations.iter().filter_map(other).collect::<Vec<_>>()
        };
        let others: Vec<Configuration> = arguments.other.iter().flat_map(other).collect();
        [configurations, others].concat()
    };
    let chosen = with_others(choose(&known, &arguments.only)?);
    let chosen = if arguments.rounds > 0 { chosen } else { Vec::new() };
    let order: Vec<String> = chosen.iter().map(|configuration| configuration.name.clone()).collect();
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);

    eprintln!("signing tokens");
    let sent = measure::sent(arguments.rounds, arguments.slice).max(instructions::SENT);
    let wallet = Wallet::new(NEW_TOKENS.min(sent))?;
    processors.pin_client()?;
    let mut load = Load::new().map_err(|error| error.to_string())?;
    let starts = match wanted(STARTS) {
        true => {
            let started: Vec<Configuration> =
                known.iter().filter(|one| STARTED.contains(&one.name.as_str())).cloned().collect();
            resources::starts(&mut load, &started, &wallet, &processors)?
        }
        false => Vec::new(),
    };
    let instructions = match wanted(INSTRUCTIONS) {
        // Not everybody who measures everything has it.
        true if instructions::available() || !arguments.only.is_empty() => {
            // Those that are named beside it, or all that say something new.
            let all = arguments.only.iter().all(|only| [INSTRUCTIONS, STARTS, KEYS].contains(&only.as_str()));
            let counted = |one: &&Configuration| match all {
                true => one.group == Group::Chain || COUNTED.contains(&one.name.as_str()),
                false => arguments.only.contains(&one.name),
            };
            let counted = with_others(known.iter().filter(counted).cloned().collect());
            instructions::count(&mut load, &counted, &wallet, &processors)?
        }
        _ => Vec::new(),
    };
    let keys = match wanted(KEYS) {
        true => Some(resources::keys(&mut load, &modules, arguments.keys, arguments.slice, &processors)?),
        false => None,
    };
    if arguments.first {
        proxy::go_first(std::process::id())?;
    }
    let upstreams = load.upstreams().map_err(|error| error.to_string())?;
    let start = |configuration: &Configuration| {
        let proxy = Proxy::start(configuration, &configuration.filters, &upstreams, &processors)?;
        if arguments.first {
            proxy::go_first(proxy.envoy.id())?;
        }
        Ok(proxy)
    };
    let mut all = Vec::new();
    for configuration in chosen {
        eprintln!("starting {}", configuration.name);
        let proxy = start(&configuration)?;
        check(&mut load, &proxy, &configuration, &wallet, &processors)?;
        let pool = wallet.pool(configuration.traffic);
        all.push(Measured { configuration, proxy, pool });
    }
    let slices = measure::rounds(&mut load, &mut all, arguments.rounds, arguments.slice, start)?;
    all.sort_by_key(|measured| order.iter().position(|name| *name == measured.configuration.name));
    Ok(Results {
        rounds: arguments.rounds,
        slice: arguments.slice,
        machine,
        figures: all.iter().filter_map(|measured| Figure::new(&measured.configuration, &slices)).collect(),
        module: size(&modules.meshfilter)?,
        starts,
        keys,
        instructions,
    })
}

/// Those that are named, with what is subtracted from them and what they stand beside.
fn choose(all: &[Configuration], names: &[String]) -> Result<Vec<Configuration>, String> {
    let known: Vec<&str> = all
        .iter()
        .map(|configuration| configuration.name.as_str())
        .chain([STARTS, KEYS, INSTRUCTIONS])
        .collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            return Err(format!("there is no {name:?}; take some of {}", known.join(", ")));
        }
    }
    let named = |configuration: &Configuration| names.is_empty() || names.contains(&configuration.name);
    let beside = |one: &Configuration| [Some(one.bare.clone()), one.native.clone()];
    let needed: Vec<String> = all.iter().filter(|one| named(one)).flat_map(beside).flatten().collect();
    Ok(all.iter().filter(|one| named(one) || needed.contains(&one.name)).cloned().collect())
}

/// Compiles the empty filter.
fn empty_module() -> Result<PathBuf, String> {
    let module = repository("target/bench/empty.wasm");
    let folder = module.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let source = repository("benches/envoy/empty.rs");
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "cdylib", "--target", "wasm32-unknown-unknown"])
        .args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "strip=symbols", "-o"])
        .args([&module, &source])
        .output()
        .map_err(|error| format!("rustc: {error}"))?;
    match output.status.success() {
        true => Ok(module),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn size(path: &Path) -> Result<u64, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(metadata.len())
}
