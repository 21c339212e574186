//! The command itself: options, what is printed where, and the files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::read::Inputs;
use super::repair::Repairs;
use super::report::{self, Placed, Report};
use super::scope::Wanted;
use super::write::envoy;
use super::{Imported, import};
use crate::bootstrap::{absolute, endpoint, find_module};
use crate::envoy::Address;
use crate::envoy::plan::Options;
use crate::{Format, Outcome, check};

/// Turn the YAML of a mesh into a policy and an Envoy
///
/// Istio, Gateway API, Linkerd, SMI, Consul, Kubernetes: files as people have them, of which what is of another kind is left
/// alone. The report says of every field what became of it; a field that is not honoured and that would change who gets in,
/// where to, or how often, is an error, and nothing is written.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// YAML or JSON; a folder means every *.yaml, *.yml and *.json in it; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,

    /// The folder that policy.yaml and envoy.yaml are written to; without it the policy goes to standard output
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    #[command(flatten)]
    options: ImportOptions,

    /// How to print the report: to standard output with --output, else to standard error
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

// What import and run have in common. Clap would print a doc comment.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ImportOptions {
    /// Labels of the workload that the proxy stands before: policies for others are left out
    #[arg(long, value_name = "K=V,…", value_parser = labels)]
    labels: Option<Labels>,

    /// The namespace of the proxy, and of resources that have none
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,

    /// The Gateway whose servers the proxy opens; without it everything is taken, on --listen
    #[arg(long, value_name = "NS/NAME", value_parser = gateway)]
    gateway: Option<(String, String)>,

    /// Put what stands in the wrong place where it belongs
    #[arg(long)]
    repair: bool,

    /// Where clients come; with --gateway, SERVERPORT=HOST:PORT moves a port of the Gateway, and HOST:PORT says the host
    #[arg(long, value_name = "[SERVERPORT=]HOST:PORT", value_parser = listen)]
    listen: Vec<Listen>,

    /// Where Envoy's admin interface is; whoever reaches it rules the proxy
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9901")]
    admin: Address,

    /// meshfilter.wasm, or the native module (.so); default is the nearest
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,

    /// Where a host is: reviews, reviews.default, its full name or HOST:PORT, each also with |SUBSET; the server of a key set,
    /// of spans, of rate limits; `default` is where requests go that nothing matches
    #[arg(long, value_name = "NAME=HOST:PORT[,HOST:PORT…]", value_parser = endpoint)]
    endpoint: Vec<(String, Vec<Address>)>,

    /// Let Envoy itself answer in the place of every destination without an --endpoint
    #[arg(long)]
    echo: bool,

    /// How many proxies before this one are trusted to say who asks
    #[arg(long, value_name = "N", default_value_t = 0)]
    xff_hops: u32,

    /// Folder with cert-chain.pem, key.pem and root-cert.pem of the proxy, NAME/tls.crt, NAME/tls.key and NAME/ca.crt for a
    /// credentialName, and upstream-ca.pem beside the system's authorities
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kubectl get virtualservices,destinationrules,services,endpointslices -o yaml | meshfilter import - --output mesh
  meshfilter import mesh.yaml
  meshfilter import istio/ --labels app=webapp --endpoint webapp=10.0.0.1:8080 --output mesh && envoy -c mesh/envoy.yaml
  meshfilter import gateway.yaml routes.yaml --gateway istio-system/edge --listen 80=0.0.0.0:8080 --output mesh
  meshfilter import mesh.yaml --repair --echo --output mesh --format json | jq '.warnings[]'

The exit code is 1 if a field is refused that would change who gets in, where to, or how often, or if something is missing; then
nothing is written.";

type Labels = BTreeMap<String, String>;

/// One `--listen`.
#[derive(Clone, Debug)]
struct Listen {
    server_port: Option<u16>,
    address: Address,
}

fn labels(text: &str) -> Result<Labels, String> {
    let label = |pair: &str| {
        let (name, value) = pair.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    let wrong = "use K=V,…, such as app=webapp,version=v1";
    text.split(',').map(|pair| label(pair).ok_or_else(|| wrong.to_owned())).collect()
}

fn gateway(text: &str) -> Result<(String, String), String> {
    let (namespace, name) = text.split_once('/').unwrap_or((super::scope::DEFAULT_NAMESPACE, text));
    match namespace.is_empty() || name.is_empty() || name.contains('/') {
        true => Err("use NS/NAME, such as istio-system/edge".to_owned()),
        false => Ok((namespace.to_owned(), name.to_owned())),
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    match text.split_once('=') {
        None => Ok(Listen { server_port: None, address: text.parse()? }),
        Some((port, address)) => {
            let wrong =
                || format!("\"{port}\" is not a port; use SERVERPORT=HOST:PORT, such as 80=127.0.0.1:8080");
            Ok(Listen { server_port: Some(port.parse().map_err(|_| wrong())?), address: address.parse()? })
        }
    }
}

/// Imports, and writes or prints what comes of it.
pub(crate) fn run(arguments: &Arguments, output: &mut Vec<u8>) -> Outcome {
    match done(arguments, output) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn done(arguments: &Arguments, output: &mut Vec<u8>) -> Result<Outcome, Outcome> {
    let options = &arguments.options;
    let wanted = match &arguments.output {
        Some(folder) => Some(options.envoy(folder)?),
        None => None,
    };
    let mut inputs = options.read(&arguments.files)?;
    let mut imported = import(&mut inputs, &options.scope(), options.repairs());
    let moved =
        options.listen.iter().filter_map(|listen| Some((listen.server_port?, listen.address.clone())));
    imported.policy.move_ports(&moved.collect());
    let mut files: Vec<(PathBuf, Vec<u8>, bool)> = Vec::new();
    // What is wrong already would be wrong once more.
    if let Some(wanted) = wanted.filter(|_| imported.report.errors.is_empty()) {
        write_envoy(&wanted, &mut imported, &mut files);
    }
    let Imported { policy, report, .. } = imported;
    let good = report.errors.is_empty();
    print(&report, &inputs, arguments, output);
    if !good {
        return Ok(Outcome::Wrong);
    }
    let yaml = policy.yaml();
    match &arguments.output {
        None => output.extend_from_slice(yaml.as_bytes()),
        Some(folder) => {
            files.insert(0, (PathBuf::from("policy.yaml"), yaml.into_bytes(), false));
            write_files(folder, &files).map_err(|error| {
                eprintln!("meshfilter: {error}");
                Outcome::Misused
            })?;
        }
    }
    Ok(Outcome::Good)
}

/// Writes the Envoy of what was imported; what is missing goes to the report.
fn write_envoy(wanted: &envoy::Wanted, imported: &mut Imported, files: &mut Vec<(PathBuf, Vec<u8>, bool)>) {
    match wanted.write(&imported.mesh, &imported.scope, &imported.policy) {
        Ok(written) => {
            imported.report.warnings.extend(written.warnings.into_iter().map(nowhere));
            files.push((PathBuf::from("envoy.yaml"), written.bootstrap.yaml().into_bytes(), false));
            files.extend(written.files);
        }
        Err(errors) => imported.report.errors.extend(errors.into_iter().map(nowhere)),
    }
}

fn nowhere(message: String) -> Placed {
    super::nowhere(message)
}

fn print(report: &Report, inputs: &Inputs, arguments: &Arguments, output: &mut Vec<u8>) {
    match arguments.format {
        Format::Text => {
            let text = report::text(report, inputs, check::colours_on_errors());
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
        Format::Json => {
            let json = report::json(report);
            match arguments.output {
                Some(_) => output.extend_from_slice(json.as_bytes()),
                None => drop(io::stderr().lock().write_all(json.as_bytes())),
            }
        }
    }
}

impl ImportOptions {
    /// What is read.
    pub(crate) fn read(&self, files: &[String]) -> Result<Inputs, Outcome> {
        Inputs::read(files, self.repairs()).map_err(|error| {
            eprintln!("meshfilter: {error}");
            Outcome::Misused
        })
    }

    pub(crate) fn repairs(&self) -> Repairs {
        if self.repair { Repairs::Made } else { Repairs::Told }
    }

    /// Whom policies are for.
    pub(crate) fn scope(&self) -> Wanted {
        Wanted {
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            gateway: self.gateway.clone(),
            port: self
                .listen
                .iter()
                .find(|listen| listen.server_port.is_none())
                .map(|listen| listen.address.port),
            endpoints: self.endpoint.iter().map(|(name, _)| name.clone()).collect(),
            echo: self.echo,
        }
    }

    /// The Envoy that is wanted. What is wrong was said.
    pub(crate) fn envoy(&self, folder: &Path) -> Result<envoy::Wanted, Outcome> {
        let mut options = Options::new(find_module(self.module.as_deref())?);
        let mut moved = BTreeMap::new();
        let mut listens = 0_usize;
        for Listen { server_port, address } in &self.listen {
            match server_port {
                Some(port) => drop(moved.insert(*port, address.clone())),
                None => {
                    options.listen = address.clone();
                    listens = listens.saturating_add(1);
                }
            }
        }
        if listens > 1 || (!moved.is_empty() && self.gateway.is_none()) {
            eprintln!(
                "meshfilter: --listen stands once; with --gateway, SERVERPORT=HOST:PORT moves each of the Gateway's ports"
            );
            return Err(Outcome::Misused);
        }
        if self.admin.ip().is_none_or(|address| !address.is_loopback()) {
            eprintln!("meshfilter: --admin {}: whoever reaches this port rules the proxy", self.admin);
        }
        options.admin = self.admin.clone();
        options.echo = self.echo;
        options.xff_hops = self.xff_hops;
        options.certificates = self.certificates.as_deref().map(absolute);
        Ok(envoy::Wanted { options, endpoints: self.endpoint.clone(), moved, folder: absolute(folder) })
    }
}

/// Writes files into a folder: each beside its place first, then all are moved there. Files that hold keys are for their owner
/// alone.
fn write_files(folder: &Path, files: &[(PathBuf, Vec<u8>, bool)]) -> Result<(), String> {
    let wrong = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut moves = Vec::new();
    for (name, content, secret) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder).to_owned();
        fs::create_dir_all(&parent).map_err(|error| wrong(&parent, error))?;
        let mut named = path.file_name().unwrap_or_default().to_owned();
        named.push(".new");
        let beside = parent.join(named);
        let _ = fs::remove_file(&beside);
        let mode = if *secret { 0o600 } else { 0o644 };
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside);
        let written = opened.and_then(|mut file| file.write_all(content));
        written.map_err(|error| wrong(&beside, error))?;
        moves.push((beside, path));
    }
    for (beside, path) in moves {
        fs::rename(&beside, &path).map_err(|error| wrong(&path, error))?;
    }
    Ok(())
}
