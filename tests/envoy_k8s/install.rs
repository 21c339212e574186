//! `docs/install.md`: every block of commands is run here, or is sent to an Envoy by the test of its overlay.

use std::net::SocketAddr;
use std::process::Command;

use super::kustomize::overlays;
use crate::support::envoy::binary;
use crate::support::http::{Client, request_bytes};
use crate::support::{install, repository};

/// Overlays that others build on.
const FOUNDATIONS: [&str; 2] = ["bootstrap", "istio"];

/// Sends what the page sends for an overlay, wherever that is.
pub fn exercise(overlay: &str, address: SocketAddr) {
    let blocks: Vec<_> =
        install::blocks().into_iter().filter(|block| block.overlay() == Some(overlay)).collect();
    assert_eq!(blocks.len(), 1, "docs/install.md has {} blocks for {overlay}", blocks.len());
    for install::Request { host, path, headers, expected } in blocks[0].requests() {
        let mut client = Client::connect(address).unwrap();
        client.send(&request_bytes("GET", path.as_bytes(), &host, &headers)).unwrap();
        let response = client.receive("GET").unwrap();
        let mut answer = format!("HTTP/1.1 {}\n", response.status);
        for (name, value) in &response.headers {
            answer.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value)));
        }
        answer.push_str(&response.text());
        assert!(answer.contains(&expected), "{overlay}: {host}{path} should say {expected}:\n{answer}");
    }
}

#[test]
fn every_block_has_its_test() {
    let mut applied = Vec::new();
    for block in install::blocks() {
        assert!(block.lines.len() <= 10, "{}: more than ten lines", block.section);
        match block.overlay() {
            Some(overlay) => {
                // Nothing but what `exercise` does.
                assert!(!block.requests().is_empty(), "{overlay}: no request");
                assert_eq!(block.requests().len() + 1, block.lines.len(), "{overlay}: {:?}", block.lines);
                applied.push(overlay.to_owned());
            }
            None => assert!(RUN.contains(&block.section.as_str()), "{}: nobody runs this", block.section),
        }
    }
    applied.sort();
    let mut all: Vec<String> = overlays();
    all.retain(|overlay| !FOUNDATIONS.contains(&overlay.as_str()));
    assert_eq!(applied, all, "each overlay has its lines");
}

/// Sections whose commands are run: here, and in `tests/compose.rs`.
const RUN: [&str; 4] = ["Bootstrap file", "Docker compose", "From a registry", "With the native module"];

#[test]
fn the_bootstrap_file() {
    let (script, expected) = install::block("Bootstrap file").script();
    let folder = std::env::temp_dir().join(format!("meshfilter-install-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Ports of its own, and no build within a test: whoever runs this has built.
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let [http, admin] = [port(), port()].map(|port| port.to_string());
    let bootstrap = std::fs::read_to_string(repository("envoy/envoy.yaml")).unwrap();
    let bootstrap = bootstrap.replace("port_value: 10000", &format!("port_value: {http}"));
    let [own, log] = ["envoy.yaml", "log"].map(|name| folder.join(name));
    std::fs::write(&own, bootstrap.replace("port_value: 9901", &format!("port_value: {admin}"))).unwrap();
    let build = "make build tools\n";
    assert!(script.starts_with(build));
    let script = script
        .replace(build, "")
        .replace(" envoy/envoy.yaml", &format!(" {}", own.display()))
        .replace("/tmp/meshfilter.yaml", &folder.join("meshfilter.yaml").display().to_string())
        .replace(
            ".tools/envoy",
            &format!(
                "{} --disable-hot-restart --concurrency 1 --log-path {}",
                binary().unwrap().display(),
                log.display()
            ),
        )
        .replace("localhost:10000", &format!("localhost:{http}"));
    // Should a command fail, Envoy ends all the same.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let output = Command::new("bash").args(["-ec", &script]).current_dir(repository("")).output().unwrap();
    let log = std::fs::read_to_string(log).unwrap_or_default();
    std::fs::remove_dir_all(&folder).unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{script}\n{answer}\n{}\n{log}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(expected.len(), 1);
    assert!(answer.contains(&expected[0]), "{answer}");
}
