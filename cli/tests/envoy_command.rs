//! `meshfilter run` and `bootstrap` with a real Envoy: what is pushed under load, what is left behind, what is said.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::Module;
use meshfilter_cli::envoy::policy::{Names, name_key_clusters};
use meshfilter_cli::envoy::{Address, Bootstrap, listener::Chain};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use support::envoy::{self, native, wait_until};
use support::http::{Client, Keeping, Response, request, request_bytes};
use support::{case, token};
use support::{repository, shown};

/// What decides: the wasm module, or the native one.
fn module() -> PathBuf {
    if native::is_native() { native::native_module().unwrap() } else { envoy::module().unwrap() }
}

/// A folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("command-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("tmp")).unwrap();
    folder
}

/// A running `meshfilter run`, and what it says.
struct Run {
    process: Child,
    folder: PathBuf,
    output: Arc<Mutex<String>>,
    errors: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Run {
    /// Starts it in its folder, where its temporary files go, too; everything listens where there is room.
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
            .arg("run")
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--module")
            .arg(module())
            .arg("--envoy")
            .arg(envoy::binary().unwrap())
            .env("TMPDIR", folder.join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, of_output) = heard(process.stdout.take().unwrap());
        let (errors, of_errors) = heard(process.stderr.take().unwrap());
        Run { process, folder: folder.to_owned(), output, errors, readers: vec![of_output, of_errors] }
    }

    /// Where it listens, once it is ready.
    fn address(&mut self) -> SocketAddr {
        let ready = Regex::new(r"https?://(\S+) is ready after").unwrap();
        wait_until("it is ready", || {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.errors());
            Some(ready.captures(&self.errors())?[1].parse().unwrap())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.errors()))
    }

    fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    fn says(&self, what: &str, times: usize) {
        wait_until(what, || (self.errors().matches(what).count() >= times).then_some(()))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.errors()));
    }

    /// Its Envoy.
    fn envoy(&self) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = std::fs::read_to_string(path).unwrap();
        Pid::from_raw(children.trim().parse().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits until it has ended; nothing of it may be left.
    fn ended(mut self, envoy: Pid) -> (ExitStatus, String) {
        let status = wait_until("it ends", || self.process.try_wait().unwrap()).unwrap();
        assert!(!Path::new(&format!("/proc/{}", envoy.as_raw_nonzero())).exists(), "Envoy is still there");
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let left: Vec<_> = std::fs::read_dir(self.folder.join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        (status, self.errors())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A test that failed leaves nothing, either.
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            let _ = self.process.wait();
        }
    }
}

/// What somebody says, line by line.
fn heard(from: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::<Mutex<String>>::default();
    let said = text.clone();
    let reader = thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            said.lock().unwrap().push_str(&format!("{line}\n"));
        }
    });
    (text, reader)
}

/// Everybody gets this version.
fn policy(version: u32) -> String {
    format!(
        "http:\n- headers: {{response: {{set: {{x-version: 'v{version}'}}}}}}\n  route: [{{destination: {{host: webapp-{version}}}}}]\n"
    )
}

/// A file is moved into place, as editors do.
fn put(path: &Path, text: &str) {
    envoy::replace_file(path, text).unwrap();
}

#[test]
fn what_is_pushed_under_load_loses_no_request_and_what_is_wrong_changes_nothing() {
    const CLIENTS: usize = 4;
    const VERSIONS: u32 = 4;
    let folder = folder("watch");
    let file = folder.join("policy.yaml");
    put(&file, &policy(0));
    let mut run = Run::start(&folder, &[file.to_str().unwrap(), "--echo", "--watch"]);
    let address = run.address();
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = || {
        let mut client = Keeping::new(address);
        while !ended.load(Ordering::Relaxed) {
            let answer = client.request("GET", "/", &[]).unwrap();
            // The destination belongs to the version, which the old policy or the new one chose.
            let version = answer.header("x-version").unwrap_or_default().replace('v', "webapp-");
            let destination = answer.header("x-destination").unwrap_or_default();
            assert_eq!((answer.status, destination), (200, version));
            sent.fetch_add(1, Ordering::Relaxed);
        }
        client.connections
    };
    let connections = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let now = || request(address, "/", &[]).unwrap().header("x-version");
        let push = || {
            for version in 1..=VERSIONS {
                put(&file, &policy(version));
                run.says("has changed: pushed", version as usize);
                assert_eq!(now(), Some(format!("v{version}")));
                put(&file, "http: [{rote: []}, {ruote: []}]\n");
                run.says("has changed and is wrong: the policy from before stays", version as usize);
                assert_eq!(now(), Some(format!("v{version}")));
            }
        };
        // The clients end, whatever happens here.
        let pushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(push));
        ended.store(true, Ordering::Relaxed);
        let connections: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        pushed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        connections
    });
    assert!(sent.load(Ordering::Relaxed) > u64::from(VERSIONS));
    assert_eq!(connections, CLIENTS, "no connection was closed");
    // A file that is gone, or says nothing, or is none, changes nothing either.
    let in_force = || request(address, "/", &[]).unwrap().header("x-version");
    std::fs::remove_file(&file).unwrap();
    run.says("policy.yaml: No such file or directory (os error 2): the policy from before stays", 1);
    assert_eq!(in_force(), Some(format!("v{VERSIONS}")));
    put(&file, "# nothing yet\n");
    run.says("has changed and is wrong: the policy from before stays", VERSIONS as usize + 1);
    assert!(run.errors().contains("there is no document here"), "{}", run.errors());
    assert_eq!(in_force(), Some(format!("v{VERSIONS}")));
    std::fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    run.says("it is no file that can be read again and again: the policy from before stays", 1);
    assert_eq!(in_force(), Some(format!("v{VERSIONS}")));
    put(&file, &policy(9));
    run.says("has changed: pushed", VERSIONS as usize + 1);
    assert_eq!(in_force(), Some("v9".to_owned()));
    // Every error of a wrong file is told.
    for error in ["http[0].rote: there is no field \"rote\"", "http[1].ruote: there is no field \"ruote\""] {
        assert!(run.errors().contains(error), "{}", run.errors());
    }
    let envoy = run.envoy();
    run.signal(Signal::INT);
    let (status, said) = run.ended(envoy);
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.ends_with("meshfilter: ended\n"), "{said}");
}

/// A mesh in which requests go to a version, and where its spans go.
fn mesh(version: &str, least: &str) -> String {
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http: [{{route: [{{destination: {{host: reviews, subset: {version}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews}}
spec:
  host: reviews
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 9}}}}}}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
---
kind: IstioOperator
apiVersion: install.istio.io/v1alpha1
spec:
  meshConfig:
    enableTracing: true
    defaultConfig: {{tracing: {{sampling: {least}, zipkin: {{address: '127.0.0.1:9411'}}}}}}
"
    )
}

#[test]
fn what_is_imported_runs_and_is_imported_again() {
    let folder = folder("import");
    let (meshes, other) = (folder.join("mesh"), folder.join("other.yaml"));
    std::fs::create_dir_all(&meshes).unwrap();
    put(&meshes.join("mesh.yaml"), &mesh("v1", "1.0"));
    let allow = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec: {selector: {matchLabels: {app: reviews}}, rules: [{to: [{operation: {methods: [GET]}}]}]}
";
    put(&other, allow);
    let files = [meshes.to_str().unwrap(), other.to_str().unwrap()];
    let mut run = Run::start(
        &folder,
        &["--watch", "--echo", "--labels", "app=reviews", "--import", files[0], files[1]],
    );
    let address = run.address();
    let ask = |method: &str| {
        let mut client = Client::connect(address).unwrap();
        client.send(&request_bytes(method, b"/", "reviews", &[("x-any", "1")])).unwrap();
        let answer = client.receive(method).unwrap();
        (answer.status, answer.header("x-destination").unwrap_or_default())
    };
    let at = |version: &str| (200, format!("reviews.default.svc.cluster.local|{version}"));
    assert_eq!(ask("GET"), at("v1"));
    assert_eq!(ask("POST").0, 403);
    run.says("-H 'host: reviews'", 1);
    assert!(!run.output().contains("curl"), "standard output is the access log's: {}", run.output());
    put(&meshes.join("mesh.yaml"), &mesh("v2", "1.0"));
    run.says("mesh.yaml has changed: pushed\n", 1);
    assert_eq!(ask("GET"), at("v2"));
    put(&other, &allow.replace("GET", "POST"));
    run.says("other.yaml has changed: pushed\n", 1);
    assert_eq!((ask("GET").0, ask("POST")), (403, at("v2")));
    // What nobody knows is told, and changes nothing.
    put(&other, &allow.replace("methods", "metods"));
    run.says("other.yaml has changed and is wrong: the policy from before stays", 1);
    assert!(run.errors().contains("spec.rules[0].to[0].operation.metods"), "{}", run.errors());
    assert_eq!(ask("POST"), at("v2"));
    // A file that comes is imported, too; Envoy's own part waits for a restart.
    put(&other, &allow.replace("GET", "POST"));
    let more = meshes.join("more.yaml");
    put(&more, &allow.replace("readers", "askers"));
    run.says("more.yaml", 1);
    wait_until("both may", || ((ask("GET"), ask("POST")) == (at("v2"), at("v2"))).then_some(())).unwrap();
    put(&meshes.join("mesh.yaml"), &mesh("v2", "50.0"));
    run.says("comes with a restart", 1);
    let envoy = run.envoy();
    run.signal(Signal::INT);
    let (status, said) = run.ended(envoy);
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn whoever_ends_it_leaves_nothing() {
    let folder = folder("ends");
    let file = folder.join("policy.yaml");
    put(&file, &policy(0));
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut run = Run::start(&folder, &[file.to_str().unwrap(), "--echo"]);
        run.address();
        let envoy = run.envoy();
        run.signal(signal);
        let (status, said) = run.ended(envoy);
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.ends_with("meshfilter: ended\n"), "{said}");
    }
    let mut run = Run::start(&folder, &[file.to_str().unwrap(), "--echo"]);
    run.address();
    let envoy = run.envoy();
    kill_process(envoy, Signal::KILL).unwrap();
    let (status, said) = run.ended(envoy);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("meshfilter: Envoy was killed by signal 9"), "{said}");
    // While it starts, too.
    let run = Run::start(&folder, &[file.to_str().unwrap(), "--echo"]);
    let envoy = wait_until("Envoy is started", || {
        let path = format!("/proc/{0}/task/{0}/children", run.process.id());
        Pid::from_raw(std::fs::read_to_string(path).ok()?.trim().parse().ok()?)
    })
    .unwrap();
    run.signal(Signal::INT);
    assert_eq!(run.ended(envoy).0.code(), Some(0));
}

#[test]
fn a_raw_request_is_explained_as_envoy_takes_it() {
    let folder = folder("raw");
    let file = folder.join("policy.yaml");
    let to =
        |what: &str, host: &str| format!("- match: [{what}]\n  route: [{{destination: {{host: {host}}}}}]\n");
    let policy = [
        "http:\n".to_owned(),
        to("{headers: {x-role: {exact: admin}}}", "admins"),
        to("{authority: {exact: webapp}}", "webapps"),
        to("{uri: {exact: /only}}", "only"),
        to("{headers: {te: {prefix: ''}}}", "trailers"),
        to("{}", "others"),
    ];
    put(&file, &policy.concat());
    let mut run = Run::start(&folder, &[file.to_str().unwrap(), "--echo"]);
    let address = run.address();
    for (head, destination) in [
        ("GET http://webapp/only HTTP/1.1\r\nHost: other\r\n", "webapps"),
        ("GET http://other HTTP/1.1\r\nHost: webapp\r\n", "others"),
        ("GET /only HTTP/1.1\r\nHost: webapp\r\n", "webapps"),
        ("GET /only HTTP/1.1\r\nHost: a\r\nX-Role: admin\r\n", "admins"),
        ("GET /only HTTP/1.1\r\nHost: a\r\nX-Role: admin\r\nConnection: keep-alive, X-Role\r\n", "only"),
        (
            "GET /only HTTP/1.1\r\nHost: a\r\nX-Role:  admin \r\nConnection: x-forwarded-port, te\r\n",
            "admins",
        ),
        ("GET /only/.; HTTP/1.1\r\nHost: a\r\n", "others"),
        ("GET /a/.;/..;x/only HTTP/1.1\r\nHost: a\r\n", "only"),
        ("GET /a//../only HTTP/1.1\r\nHost: a\r\n", "others"),
        ("GET /only//.. HTTP/1.1\r\nHost: a\r\n", "others"),
        ("GET /a\\..;/only HTTP/1.1\r\nHost: a\r\n", "others"),
        ("GET /%2e;/only HTTP/1.1\r\nHost: a\r\n", "others"),
        ("GET / HTTP/1.1\r\nHost: webapp\r\nHost: a\r\n", "others"),
        (
            "GET / HTTP/1.1\r\nHost: webapp\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
            "webapps",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n", "others"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n", "trailers"),
    ] {
        let raw = format!("{head}\r\n");
        let mut client = Client::connect(address).unwrap();
        client.send(raw.as_bytes()).unwrap();
        let answer = client.receive("GET").unwrap();
        assert_eq!(
            (answer.status, answer.header("x-destination")),
            (200, Some(destination.to_owned())),
            "{head}"
        );
        let recorded = folder.join("request.http");
        put(&recorded, &raw);
        let explained = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
            .arg("explain")
            .arg(&file)
            .arg("--request")
            .arg(&recorded)
            .arg("--expect")
            .arg(format!("destination={destination}"))
            .output()
            .unwrap();
        assert!(explained.status.success(), "{head}: {}", String::from_utf8_lossy(&explained.stdout));
    }
    // What the codec refuses is told as that.
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-forwarded-for\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: a,b,c,d,e,f,g,h,i,j\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", 403),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\n", 426),
        ("get / HTTP/1.1\r\nHost: a\r\n", 400),
        ("FOO / HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nx_role: admin\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nx-role : admin\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nx-role: ad\0min\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a#\r\n", 400),
    ] {
        let raw = format!("{head}\r\n");
        let mut client = Client::connect(address).unwrap();
        client.send(raw.as_bytes()).unwrap();
        assert_eq!(client.receive("GET").unwrap().status, status, "{head}");
        assert!(meshfilter_cli::recorded::read_one(raw.as_bytes()).is_err(), "{head}");
    }
}

#[test]
fn an_envoy_that_does_not_start_says_why() {
    let folder = folder("refused");
    let file = folder.join("policy.yaml");
    put(&file, &policy(0));
    let broken = folder.join(if native::is_native() { "broken.so" } else { "broken.wasm" });
    put(&broken, "this is no module");
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(["run", file.to_str().unwrap(), "--echo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .arg("--module")
        .arg(&broken)
        .arg("--envoy")
        .arg(envoy::binary().unwrap())
        .env("TMPDIR", folder.join("tmp"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()), "{said}");
    assert!(said.contains("meshfilter: Envoy ended with exit code 1; its log ends:\n"), "{said}");
    assert_eq!(std::fs::read_dir(folder.join("tmp")).unwrap().count(), 0);
}

/// What the pages show is what is printed, but for times and ports.
#[test]
fn the_pages_show_what_run_prints() {
    let page = std::fs::read_to_string(repository("README.md")).unwrap();
    let (_, after) = page.split_once("$ meshfilter run examples/policies/canary.yaml --echo\n").unwrap();
    let (shown, after) = after.split_once("```").unwrap();
    let other = std::fs::read_to_string(repository("docs/run.md")).unwrap();
    assert!(other.contains(shown), "docs/run.md shows something else than README.md");
    let folder = folder("page");
    let policy = repository("examples/policies/canary.yaml");
    let mut run = Run::start(&folder, &[policy.to_str().unwrap(), "--echo"]);
    let address = run.address();
    let plain = |text: &str| {
        let text = Regex::new(r"127\.0\.0\.1:\d+").unwrap().replace_all(text, "127.0.0.1:…").into_owned();
        Regex::new(r"after [\d.]+ s").unwrap().replace_all(&text, "after … s").into_owned()
    };
    let printed = wait_until("the curl lines", || {
        let said = run.errors();
        said.contains("/api/orders\n\n").then_some(said)
    })
    .unwrap();
    assert_eq!(plain(printed.trim_end()), plain(shown.trim_end()));
    // And what the requests get that stand below.
    let (_, block) = after.split_once("```\n$ curl").unwrap();
    let block = format!("$ curl{}", block.split_once("```").unwrap().0);
    let lines: Vec<&str> = block.lines().collect();
    assert!(lines.len() >= 4);
    let given = Regex::new(r"-H '([^:]+): ([^']+)'").unwrap();
    for pair in lines.chunks(2) {
        let header = given.captures(pair[0]).map(|found| (found[1].to_owned(), found[2].to_owned()));
        let path = pair[0].rsplit_once(":10000").unwrap().1;
        let headers: Vec<(&str, &str)> =
            header.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        // A split is drawn: what is shown has to come, sooner or later.
        wait_until(pair[0], || {
            let body = request(address, path, &headers).unwrap().text();
            (body.replace("example.com", "…").trim_end() == pair[1].replace("127.0.0.1:10000", "…"))
                .then_some(())
        })
        .unwrap();
    }
    let envoy = run.envoy();
    run.signal(Signal::INT);
    assert_eq!(run.ended(envoy).0.code(), Some(0));
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with this URI in it, and its key.
fn identity(issuer: &Issuer, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap().der().clone();
    (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

/// One request over TLS, with a certificate or without one.
fn over_tls(
    address: SocketAddr,
    issuer: &Issuer,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> std::io::Result<Response> {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = Client::over(StreamOwned::new(connection, TcpStream::connect(address)?));
    client.send(&request_bytes("GET", b"/", "localhost", &[("x-any", "1")]))?;
    client.receive("GET")
}

#[test]
fn tls_and_plain_text_come_to_one_port_and_only_a_good_certificate_is_a_name() {
    let folder = folder("tls");
    let (mesh, other) = (issuer("mesh"), issuer("other"));
    let key = KeyPair::generate().unwrap();
    let server =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &mesh).unwrap();
    put(&folder.join("cert-chain.pem"), &server.pem());
    put(&folder.join("key.pem"), &key.serialize_pem());
    put(&folder.join("root-cert.pem"), &mesh.pem());
    let file = folder.join("policy.yaml");
    let rules = "authorization: [{name: frontend, rules: [{from: [{source: {principals: [mesh.local/ns/a/sa/frontend]}}]}]}]\n";
    put(&file, rules);
    let certificates = folder.to_str().unwrap();
    let mut run = Run::start(&folder, &[file.to_str().unwrap(), "--echo", "--certificates", certificates]);
    let address = run.address();
    let name = "spiffe://mesh.local/ns/a/sa/frontend";
    assert_eq!(request(address, "/", &[]).unwrap().status, 403, "plain text has no name");
    assert_eq!(over_tls(address, &mesh, None).unwrap().status, 403, "nor has TLS without a certificate");
    assert_eq!(over_tls(address, &mesh, Some(identity(&mesh, name))).unwrap().status, 200);
    let backend = identity(&mesh, "spiffe://mesh.local/ns/a/sa/backend");
    assert_eq!(over_tls(address, &mesh, Some(backend)).unwrap().status, 403);
    let forged = over_tls(address, &mesh, Some(identity(&other, name)));
    assert!(forged.is_err(), "{forged:?}");
    let envoy = run.envoy();
    run.signal(Signal::INT);
    assert_eq!(run.ended(envoy).0.code(), Some(0));
}

/// Every policy that is shown or tested becomes an Envoy. One Envoy looks at all of them: its VM is dear.
#[test]
fn every_policy_becomes_an_envoy_that_is_accepted() {
    let mut all: Vec<(String, Value, BTreeMap<String, String>)> = Vec::new();
    for (file, mut policy) in shown::all() {
        // Where a page shows that keys stand there, some have to.
        let rules = policy.pointer_mut("/authentication/jwtRules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter(|rule| rule.get("jwks").is_some()) {
            rule["jwks"] = token::jwks();
        }
        all.push((file, policy, BTreeMap::new()));
    }
    for case in case::read_all(&repository("tests/cases")).unwrap() {
        all.push((case.id, case.policy, case.environment));
    }
    assert!(all.len() > 150, "{}", all.len());
    let module = Module::of(module()).unwrap();
    let mut whole = Bootstrap::default();
    let mut environment = BTreeMap::new();
    for (number, (name, mut policy, variables)) in all.into_iter().enumerate() {
        name_key_clusters(&mut policy);
        let options = Options { echo: true, ..Options::new(module.clone()) };
        let Bootstrap { admin, mut listeners, clusters, labels, .. } =
            options.plan(&policy).unwrap_or_else(|errors| panic!("{name}: {errors:?}")).bootstrap;
        whole.admin = admin;
        whole.labels.extend(labels);
        for cluster in clusters {
            // The same name may have its keys somewhere else in another policy.
            whole.clusters.retain(|known| known.name != cluster.name);
            whole.clusters.push(cluster);
        }
        for listener in &mut listeners {
            if listener.address.is_none() && number > 0 {
                continue;
            }
            for Chain { http, .. } in &mut listener.chains {
                if let Some(plugin) = &mut http.plugin
                    && !Names::of(&policy).variables.is_empty()
                {
                    plugin.vm_id = name.clone();
                }
            }
        }
        listeners.retain(|listener| listener.address.is_some() || number == 0);
        if let Some(listener) = listeners.first_mut() {
            listener.name = format!("{number} {name}");
            let port = 10_000 + u16::try_from(number).unwrap();
            listener.address = Some(Address::new("127.0.0.1", port));
        }
        whole.listeners.append(&mut listeners);
        environment.extend(variables);
    }
    whole.labels.sort();
    whole.labels.dedup();
    let folder = folder("validate");
    let file = folder.join("envoy.yaml");
    put(&file, &whole.yaml());
    let output = Command::new(envoy::binary().unwrap())
        .args(["--mode", "validate", "--log-level", "warning", "-c"])
        .arg(&file)
        .envs(environment)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the command writes is what Envoy takes, for each policy of the examples.
#[test]
fn the_command_writes_what_envoy_takes() {
    let folder = folder("written");
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .arg("bootstrap")
        .arg(repository("examples/policies/canary.yaml"))
        .args(["--echo", "--module"])
        .arg(module())
        .arg("--output")
        .arg(folder.join("envoy.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(envoy::binary().unwrap())
        .args(["--mode", "validate", "--log-level", "warning", "-c"])
        .arg(folder.join("envoy.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
