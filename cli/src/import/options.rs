//! What import and `run --import` take, and what comes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::write_files;
use super::ports::{self, Listens};
use super::print;
use super::read::Inputs;
use super::repair::Repairs;
use super::scope::Wanted;
use super::write::envoy;
use super::{Imported, import};
use crate::bootstrap::{Proxy, absolute, endpoint};
use crate::envoy::plan::{Options, default_listen, join_authorities};
use crate::envoy::plugin::Module;
use crate::envoy::{Address, Bootstrap};
use crate::input::Document;
use crate::{Outcome, check};

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

    /// Where clients come; with --gateway, SERVERPORT=HOST:PORT moves a port of the Gateway, and HOST:PORT says the host;
    /// without it, SERVERPORT is the port of the workload that policies are for
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

type Labels = BTreeMap<String, String>;

/// Says what is wrong with how the command is used.
pub(super) fn misused(problem: &str) -> Outcome {
    eprintln!("meshfilter: {problem}");
    Outcome::Misused
}

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

impl ImportOptions {
    /// What comes of an input, and, where that is wanted and nothing is wrong, its Envoy; what is missing goes to the report.
    pub(super) fn import(
        &self,
        inputs: &mut Inputs,
        scope: &Wanted,
        wanted: Option<envoy::Wanted>,
    ) -> (Imported, Option<envoy::Written>) {
        let mut imported = import(inputs, scope, self.repairs());
        // Whoever takes the policy alone knows where it listens.
        if wanted.is_some() || !self.listen.is_empty() {
            let (address, moved) = self.listens();
            ports::place(&mut imported, inputs, Listens { address: &address, moved: &moved });
        }
        // What is wrong already would be wrong once more.
        let Some(wanted) = wanted.filter(|_| imported.report.errors.is_empty()) else {
            return (imported, None);
        };
        match wanted.write(&imported.mesh, &imported.scope, &imported.policy) {
            Ok(mut written) => {
                let warnings = std::mem::take(&mut written.warnings);
                imported.report.warnings.extend(warnings.into_iter().map(super::nowhere));
                (imported, Some(written))
            }
            Err(errors) => {
                imported.report.errors.extend(errors.into_iter().map(super::nowhere));
                (imported, None)
            }
        }
    }

    /// The policy and the Envoy of texts; its further files are in the folder. What is wrong was said.
    pub(crate) fn prepare(
        &self,
        texts: &[Document],
        scope: &Wanted,
        module: Module,
        folder: &Path,
    ) -> Result<(Value, Bootstrap), Outcome> {
        let mut inputs = Inputs::of(texts, self.repairs());
        let wanted = self.envoy(folder, module)?;
        let (Imported { policy, report, .. }, written) = self.import(&mut inputs, scope, Some(wanted));
        if !report.errors.is_empty() || !report.warnings.is_empty() {
            eprint!("{}", print::problems(&report, &inputs, check::colours_on_errors()));
        }
        let Some(written) = written.filter(|_| report.errors.is_empty()) else {
            return Err(Outcome::Wrong);
        };
        write_files(folder, &written.files).map_err(|error| misused(&error))?;
        Ok((policy.value, written.bootstrap))
    }

    /// The same for a policy, which has no use for what is said of a mesh; the name of an option that says something of one.
    pub(crate) fn proxy(&self, policy: &str) -> Result<Proxy, &'static str> {
        let of_a_mesh = [
            ("--labels", self.labels.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--gateway", self.gateway.is_some()),
            ("--repair", self.repair),
            ("--listen SERVERPORT=HOST:PORT", self.listen.iter().any(|listen| listen.server_port.is_some())),
        ];
        if let Some((name, _)) = of_a_mesh.into_iter().find(|(_, given)| *given) {
            return Err(name);
        }
        Ok(Proxy {
            policy: policy.to_owned(),
            listen: self.listen.last().map_or_else(default_listen, |listen| listen.address.clone()),
            admin: self.admin.clone(),
            module: self.module.clone(),
            endpoint: self.endpoint.clone(),
            echo: self.echo,
            xff_hops: self.xff_hops,
            certificates: self.certificates.clone(),
        })
    }

    /// Every address that is given, as `settle` has it.
    ///
    /// # Errors
    /// What `settle` says.
    pub(crate) fn settle(
        &mut self,
        settle: impl Fn(&Address, &str) -> Result<Address, String>,
    ) -> Result<(), String> {
        for Listen { server_port, address } in &mut self.listen {
            let option =
                server_port.map_or_else(|| "--listen ".to_owned(), |port| format!("--listen {port}="));
            *address = settle(address, &option)?;
        }
        self.admin = settle(&self.admin, "--admin ")?;
        Ok(())
    }

    /// The module that is given.
    pub(crate) fn module(&self) -> Option<&Path> {
        self.module.as_deref()
    }

    /// Where the admin interface is.
    pub(crate) fn admin(&self) -> &Address {
        &self.admin
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
                .find(|listen| listen.server_port.is_none() || self.gateway.is_none())
                .map(|listen| listen.server_port.unwrap_or(listen.address.port))
                // Any port is none that somebody means.
                .filter(|port| *port != 0),
            endpoints: self.endpoint.iter().map(|(name, _)| name.clone()).collect(),
            echo: self.echo,
        }
    }

    /// Where clients come, and what is said of single ports.
    fn listens(&self) -> (Address, BTreeMap<u16, Address>) {
        let of_all = |listen: &&Listen| listen.server_port.is_none() || self.gateway.is_none();
        let address = self.listen.iter().rfind(of_all).map_or_else(default_listen, |of| of.address.clone());
        let moved = self.listen.iter().filter_map(|of| Some((of.server_port?, of.address.clone())));
        (address, moved.collect())
    }

    /// The Envoy that is wanted. What is wrong was said.
    pub(super) fn envoy(&self, folder: &Path, module: Module) -> Result<envoy::Wanted, Outcome> {
        let mut options = Options::new(module);
        let moved;
        (options.listen, moved) = self.listens();
        let several = self.listen.iter().filter(|listen| listen.server_port.is_none()).count() > 1;
        if several || (self.listen.len() > 1 && self.gateway.is_none()) {
            return Err(misused(
                "--listen stands once; with --gateway, SERVERPORT=HOST:PORT moves each of the Gateway's ports",
            ));
        }
        if self.admin.ip().is_none_or(|address| !address.is_loopback()) {
            eprintln!("meshfilter: --admin {}: whoever reaches this port rules the proxy", self.admin);
        }
        options.admin = self.admin.clone();
        options.echo = self.echo;
        options.xff_hops = self.xff_hops;
        options.certificates = self.certificates.as_deref().map(absolute);
        if let Some(folder) = &options.certificates
            && let Err(error) = join_authorities(folder)
        {
            eprintln!("meshfilter: {error}");
        }
        Ok(envoy::Wanted { options, endpoints: self.endpoint.clone(), moved, folder: absolute(folder) })
    }
}
