//! What `meshfilter import` writes, in real Envoys: traffic, gateways, mutual TLS, limits.

#[path = "../shared/seeds.rs"]
mod seeds;
#[allow(dead_code)]
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../support/mod.rs"]
mod support;

mod consul;
mod envoy_gateway;
mod gateway;
mod gateway_api;
#[path = "../support/grpc.rs"]
mod grpc;
mod keys;
mod linkerd;
mod listeners;
mod observed;
mod peers;
mod ports;
#[allow(dead_code)]
#[path = "../envoy_traffic/service.rs"]
mod service;
mod started;
mod tls;
mod traffic;
mod twice;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use meshfilter_cli::envoy::Address;
use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::Module;
use meshfilter_cli::import::ports::{Listens, place};
use meshfilter_cli::import::read::Inputs;
use meshfilter_cli::import::repair::Repairs;
use meshfilter_cli::import::scope::Wanted;
use meshfilter_cli::import::write::envoy;
use meshfilter_cli::import::{Imported, import};
use serde_json::json;
use support::envoy::{Envoy, module};

/// What is imported, and how.
pub struct Import<'a> {
    pub yaml: &'a str,
    pub endpoints: Vec<(&'a str, Vec<SocketAddr>)>,
    pub certificates: Option<PathBuf>,
    pub gateway: Option<(&'a str, &'a str)>,
    pub namespace: Option<&'a str>,
    /// Ports of the gateway, which go to any free one.
    pub ports: Vec<u16>,
    /// Where a port of the gateway or of the workload is.
    pub at: Option<(u16, u16)>,
}

impl<'a> Import<'a> {
    pub fn new(yaml: &'a str) -> Self {
        Import {
            yaml,
            endpoints: Vec::new(),
            certificates: None,
            gateway: None,
            namespace: None,
            ports: Vec::new(),
            at: None,
        }
    }

    pub fn endpoint(mut self, name: &'a str, addresses: &[SocketAddr]) -> Self {
        self.endpoints.push((name, addresses.to_vec()));
        self
    }

    /// A running Envoy of it; `folder` keeps its files.
    pub fn start(self, folder: &Path) -> Envoy {
        let (imported, wanted) = self.import(folder);
        let written = wanted.write(&imported.mesh, &imported.scope, &imported.policy).unwrap();
        for (name, content, _) in &written.files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let mut bootstrap = written.bootstrap.value();
        // Histograms and gauges are told once in this time; the default of 5 s would make every test wait.
        bootstrap["stats_flush_interval"] = "0.2s".into();
        // So are spans, unless several came.
        let at_once =
            json!({"tracing.opentelemetry.min_flush_spans": 1, "tracing.zipkin.min_flush_spans": 1});
        let layers = &mut bootstrap["layered_runtime"]["layers"];
        let layer = json!({"name": "test", "static_layer": at_once});
        match layers.as_array_mut() {
            Some(layers) => layers.push(layer),
            None => *layers = json!([layer]),
        }
        Envoy::start_with(&bootstrap).unwrap()
    }

    fn import(self, folder: &Path) -> (Imported, envoy::Wanted) {
        let mut inputs = Inputs::default();
        inputs.add("mesh.yaml", self.yaml.as_bytes(), Repairs::Told);
        let gateway = self.gateway.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        let named = self.endpoints.iter().map(|(name, _)| (*name).to_owned()).collect();
        let namespace = self.namespace.map(str::to_owned);
        let port = self.at.map(|(port, _)| port);
        let scope = Wanted { gateway, namespace, port, endpoints: named, ..Wanted::default() };
        let mut imported = import(&mut inputs, &scope, Repairs::Told);
        assert!(imported.report.errors.is_empty(), "{:#?}", imported.report.errors);
        let mut options = Options::new(Module::of(module().unwrap()).unwrap());
        let any = Address::new("127.0.0.1", 0);
        (options.listen, options.admin) = (any.clone(), any.clone());
        options.certificates = self.certificates;
        let endpoints = self
            .endpoints
            .into_iter()
            .map(|(name, addresses)| (name.to_owned(), addresses.into_iter().map(Address::from).collect()));
        // Where ports are asked for, they have to be known.
        let free = || Address::from(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let mut moved: BTreeMap<u16, Address> = self.ports.into_iter().map(|port| (port, free())).collect();
        if let Some((port, at)) = self.at {
            options.listen = Address::new("127.0.0.1", at);
            moved.insert(port, options.listen.clone());
        }
        place(&mut imported, &inputs, Listens { address: &options.listen, moved: &moved });
        assert!(imported.report.errors.is_empty(), "{:#?}", imported.report.errors);
        let wanted =
            envoy::Wanted { options, endpoints: endpoints.collect(), moved, folder: folder.to_owned() };
        (imported, wanted)
    }
}
