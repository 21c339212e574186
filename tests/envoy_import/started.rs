//! All of the shared YAML in one Envoy: every file that is imported becomes a listener that Envoy takes.

use std::collections::BTreeMap;
use std::process::Command;

use meshfilter_cli::envoy::Address;
use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::Module;
use meshfilter_cli::import::import;
use meshfilter_cli::import::read::Inputs;
use meshfilter_cli::import::repair::Repairs;
use meshfilter_cli::import::scope::Wanted;
use meshfilter_cli::import::write::envoy;

use crate::support::envoy::{binary, module};
use crate::tls::{Identity, issuer};
use crate::traffic::tempfile;
use crate::{seeds, shared};

#[test]
fn every_file_that_is_imported_becomes_an_envoy_that_starts() {
    let Some(folder) = shared::folder() else { return };
    let certificates = tempfile();
    let mesh = issuer("mesh");
    Identity::new(&mesh, &["spiffe://cluster.local/ns/default/sa/app"]).write(&mesh, &certificates);
    let mut options = Options::new(Module::of(module().unwrap()).unwrap());
    options.listen = Address::new("127.0.0.1", 0);
    options.admin = Address::new("127.0.0.1", 0);
    options.echo = true;
    options.certificates = Some(certificates);
    let wanted = envoy::Wanted { options, endpoints: Vec::new(), moved: BTreeMap::new(), folder: tempfile() };
    let mut texts = seeds::printed(&folder);
    texts.extend(seeds::files(&folder.join("istio/samples")));
    texts.extend(seeds::files(&folder.join("linkerd_smi")));
    let (mut together, mut refused) = (None::<meshfilter_cli::envoy::Bootstrap>, 0);
    let mut count = 0;
    for (name, text) in &texts {
        let mut inputs = Inputs::default();
        inputs.add(name, text.as_bytes(), Repairs::Made);
        let imported = import(&mut inputs, &Wanted::default(), Repairs::Made);
        if !imported.report.errors.is_empty() {
            refused += 1;
            continue;
        }
        let written = wanted.write(&imported.mesh, &imported.scope, &imported.policy);
        let mut bootstrap = written.unwrap_or_else(|errors| panic!("{name}: {errors:#?}")).bootstrap;
        count += 1;
        let Some(all) = &mut together else {
            together = Some(bootstrap);
            continue;
        };
        for mut listener in bootstrap.listeners.drain(..).filter(|listener| listener.address.is_some()) {
            listener.name = format!("{}-{count}", listener.name);
            all.listeners.push(listener);
        }
        for cluster in bootstrap.clusters {
            match all.clusters.iter().find(|known| known.name == cluster.name) {
                None => all.clusters.push(cluster),
                // The same name in another file is another cluster.
                Some(known) if known.value() != cluster.value() => {
                    let mut cluster = cluster;
                    cluster.name = format!("{}-{count}", cluster.name);
                    all.clusters.push(cluster);
                }
                Some(_) => {}
            }
        }
    }
    let path = tempfile().join("envoy.yaml");
    std::fs::write(&path, together.unwrap().yaml()).unwrap();
    let ran = Command::new(binary().unwrap())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    println!("{} files: {count} start, {refused} are refused", texts.len());
    assert!(count > 30, "{count}");
}
