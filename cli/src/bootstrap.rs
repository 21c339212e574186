//! `meshfilter bootstrap`: a policy becomes a whole Envoy.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::envoy::Address;
use super::envoy::plan::{Options, Plan, join_authorities};
use super::envoy::plugin::Module;
use super::input::{self, Document};
use super::{Outcome, check, report};

/// Write a whole configuration of Envoy around a policy
///
/// It has the listener, the module with the policy in it, the routes that read what the policy decided, logs, metrics
/// and spans with its tags, and a cluster for everything that the policy names: destinations, mirrors, key sets, rate
/// limit services. Every option that the policy's security rests on stands there with its reason.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    proxy: Proxy,

    /// Where to write it; default is standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

// What stands around a policy. Clap would print a doc comment.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Proxy {
    /// The policy in YAML or JSON; - is standard input, a folder is the one file in it
    #[arg(value_name = "POLICY")]
    pub policy: String,

    /// Where clients come
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10000")]
    pub listen: Address,

    /// Where Envoy's admin interface is; whoever reaches it rules the proxy
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9901")]
    pub admin: Address,

    /// meshfilter.wasm, or the native module (.so); default is the nearest of ./meshfilter.wasm, target/, dist/,
    /// /etc/envoy/
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,

    /// Where a destination is: its host, HOST|SUBSET or its cluster's name; `default` is where requests go that the
    /// policy sends nowhere. A host without one is a name that DNS knows
    #[arg(long, value_name = "NAME=HOST:PORT[,HOST:PORT…]", value_parser = endpoint)]
    pub endpoint: Vec<(String, Vec<Address>)>,

    /// Let Envoy itself answer in the place of every destination without an endpoint
    #[arg(long)]
    pub echo: bool,

    /// How many proxies before this one are trusted to say who asks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub xff_hops: u32,

    /// Folder with cert-chain.pem and key.pem: TLS is taken beside plain text, as Istio's PERMISSIVE. With root-cert.pem
    /// clients may show certificates of these authorities, and with upstream-ca.pem these are trusted beside the system's
    /// where key sets are
    #[arg(long, value_name = "DIR")]
    pub certificates: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter bootstrap policy.yaml --echo --output envoy.yaml && envoy -c envoy.yaml
  meshfilter bootstrap policy.yaml --endpoint 'webapp|v1=10.0.0.1:8080' --endpoint 'webapp|v2=10.0.0.2:8080,10.0.0.3:8080'
  meshfilter bootstrap policy.yaml --listen 0.0.0.0:8080 --module /etc/envoy/meshfilter.wasm --endpoint default=app:8080

The exit code is 1 if the policy is wrong, or if it is not known where something is that it names.";

/// Where the module may be, the nearest first.
const MODULES: [&str; 4] = [
    "meshfilter.wasm",
    "target/wasm32-wasip1/release/meshfilter.wasm",
    "dist/meshfilter.wasm",
    "/etc/envoy/meshfilter.wasm",
];

/// Writes a bootstrap.
pub fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    let Prepared { plan, .. } = match find_module(arguments.proxy.module.as_deref())
        .and_then(|module| arguments.proxy.prepare(module))
    {
        Ok(prepared) => prepared,
        Err(outcome) => return outcome,
    };
    let text = plan.bootstrap.yaml();
    match &arguments.output {
        None => output.extend_from_slice(text.as_bytes()),
        Some(path) => {
            if let Err(error) = std::fs::write(path, text) {
                eprintln!("meshfilter: {}: {error}", path.display());
                return Outcome::Misused;
            }
        }
    }
    Outcome::Good
}

/// A policy that was checked, and the Envoy around it.
pub(super) struct Prepared {
    /// With what the document leaves to its reader.
    pub policy: Value,
    pub plan: Plan,
}

impl Proxy {
    /// Reads the policy and plans the Envoy around it. What is wrong was said.
    pub fn prepare(&self, module: Module) -> Result<Prepared, Outcome> {
        let document = input::one(&self.policy).map_err(|error| {
            eprintln!("meshfilter: {error}");
            Outcome::Misused
        })?;
        self.prepare_from(&document, module)
    }

    /// [`Self::prepare`] with the policy's text.
    pub fn prepare_from(&self, document: &Document, module: Module) -> Result<Prepared, Outcome> {
        let checked = check::check_filled(&document.file, &document.text);
        if !checked.errors.is_empty() || !checked.warnings.is_empty() {
            eprint!("{}", report::text(std::slice::from_ref(&checked), check::colours_on_errors()));
        }
        if !checked.errors.is_empty() {
            return Err(Outcome::Wrong);
        }
        if let Some(folder) = &self.certificates
            && let Err(error) = join_authorities(folder)
        {
            eprintln!("meshfilter: {error}");
        }
        let plan = self.options(module).plan(&checked.policy).map_err(|errors| {
            for error in errors {
                eprintln!("meshfilter: {error}");
            }
            Outcome::Wrong
        })?;
        for warning in &plan.warnings {
            eprintln!("meshfilter: {warning}");
        }
        if self.admin.ip().is_none_or(|address| !address.is_loopback()) {
            eprintln!("meshfilter: --admin {}: whoever reaches this port rules the proxy", self.admin);
        }
        Ok(Prepared { policy: checked.policy, plan })
    }

    fn options(&self, module: Module) -> Options {
        Options {
            listen: self.listen.clone(),
            admin: self.admin.clone(),
            module,
            endpoints: self.endpoint.clone(),
            echo: self.echo,
            xff_hops: self.xff_hops,
            certificates: self.certificates.as_deref().map(absolute),
        }
    }
}

/// The module that is meant: the one that is given, or the nearest. What is wrong was said.
pub(super) fn find_module(given: Option<&Path>) -> Result<Module, Outcome> {
    let nearest =
        || MODULES.iter().find_map(|path| std::path::absolute(path).ok().filter(|path| path.exists()));
    let Some(path) = given.map(Path::to_owned).or_else(nearest) else {
        eprintln!(
            "meshfilter: there is no module; build it with `make build`, or say where it is with --module; looked for {}",
            MODULES.join(", ")
        );
        return Err(Outcome::Misused);
    };
    Module::of(path).map_err(|error| {
        eprintln!("meshfilter: --module {error}");
        Outcome::Misused
    })
}

/// [`find_module`], for an Envoy that is started here and now: the file has to be there. What is wrong was said.
pub(super) fn existing_module(given: Option<&Path>) -> Result<Module, Outcome> {
    let module = find_module(given)?;
    let (Module::Wasm(path) | Module::Native(path)) = &module;
    if !path.is_file() {
        eprintln!(
            "meshfilter: --module {}: there is no such file; `make build` leaves one in target/wasm32-wasip1/release",
            path.display()
        );
        return Err(Outcome::Misused);
    }
    let path = absolute(path);
    Ok(match module {
        Module::Wasm(_) => Module::Wasm(path),
        Module::Native(_) => Module::Native(path),
    })
}

/// Envoy may be started somewhere else.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `NAME=HOST:PORT[,HOST:PORT…]`.
pub(super) fn endpoint(text: &str) -> Result<(String, Vec<Address>), String> {
    let (name, addresses) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("use NAME=HOST:PORT, such as webapp=127.0.0.1:8080")?;
    let addresses: Result<Vec<Address>, String> = addresses.split(',').map(str::parse).collect();
    Ok((name.to_owned(), addresses?))
}
