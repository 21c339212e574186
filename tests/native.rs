//! A panic in any hook of the native module ends nothing but its request. The module is that of
//! `cargo build --package meshfilter-native --features panics`, in which a header names the hook that panics.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin;
use meshfilter_cli::package::image::container_image;
use meshfilter_cli::package::module::Module;
use object::Object;
use serde_json::{Value, json};
use support::envoy::{self, Envoy, Upstreams, cluster};
use support::http::request;
use support::repository;

const HEADER: &str = "x-meshfilter-test-panic";

fn module() -> PathBuf {
    let module = repository("target/debug/libmeshfilter_native.so");
    assert!(module.exists(), "run `cargo build --package meshfilter-native --features panics`");
    module
}

/// An Envoy whose filter has the usual name; whatever is under `/slow` waits a little.
fn proxy(upstreams: &Upstreams) -> Value {
    proxy_of(upstreams, &["meshfilter"])
}

/// A listener for each name that a filter has.
fn proxy_of(upstreams: &Upstreams, filters: &[&str]) -> Value {
    let document = json!({
        "http": [{
            "match": [{"uri": {"prefix": "/slow"}}],
            "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "50ms"}},
        }],
        "telemetry": {},
    });
    let module = module();
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let listener = |name: &&str| {
        let plugin = json!({
            "name": name,
            "configuration": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": document},
        });
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "test",
            "route_config": {"virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "v1"}}],
            }]},
            "http_filters": [
                {"name": "meshfilter", "typed_config": envoy::native::filter(&plugin, &module)},
                {"name": "router", "typed_config": {"@type": router}},
            ],
        });
        json!({
            "name": name,
            "address": envoy::any_port(),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        })
    };
    json!({
        "admin": {"address": envoy::any_port()},
        "static_resources": {
            "clusters": upstreams.clusters().map(|(name, address)| cluster(name, address)).collect::<Value>(),
            "listeners": filters.iter().map(listener).collect::<Value>(),
        },
    })
}

#[test]
fn a_panic_ends_nothing_but_its_request() {
    let upstreams = Upstreams::start().unwrap();
    let envoy = Envoy::start_in(2, |_| proxy(&upstreams)).unwrap();
    let address = envoy.address().unwrap();
    let (over, good) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        // Others go on meanwhile, on both workers.
        for path in ["/", "/", "/slow", "/slow"] {
            let (over, good) = (&over, &good);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = request(address, path, &[]).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    good.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let provoked = [
            ("/", "request_headers", 500),
            ("/slow", "request_headers", 500),
            // The upstream has answered: its answer is replaced.
            ("/", "response_headers", 500),
            // It is told to nobody any more.
            ("/", "stream_complete", 200),
            ("/slow", "scheduled", 500),
        ];
        let mut panics = 0;
        for _ in 0..20 {
            for (path, hook, status) in provoked {
                let answer = request(address, path, &[(HEADER, hook)]).unwrap();
                // A worker that another stream wakes never calls that hook of this one.
                let expected = if hook == "scheduled" { [status, 200] } else { [status, status] };
                assert!(expected.contains(&answer.status), "{hook}: {}", answer.status);
                panics += usize::from(hook != "scheduled");
            }
        }
        let log = envoy.log();
        let logged = log.lines().filter(|line| line.contains("a test wants a panic in")).count();
        assert!(logged >= panics, "{logged} of {panics}");
        let before = good.load(Ordering::Relaxed);
        envoy::wait_until("the others", || (good.load(Ordering::Relaxed) > before + 20).then_some(()))
            .unwrap();
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(request(address, "/", &[]).unwrap().status, 200);
}

/// Those about a configuration, and those in which a stream has no request: of each, the listener of its own.
#[test]
fn nor_does_one_in_the_other_hooks() {
    let upstreams = Upstreams::start().unwrap();
    let hooks = ["new", "destroy", "config_scheduled", "config_http_callout_done", "config_destroy"];
    let names: Vec<String> = hooks.iter().map(|hook| format!("panics:{hook}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["meshfilter"]).collect();
    let envoy = Envoy::start_in(2, |_| proxy_of(&upstreams, &names)).unwrap();
    let addresses = envoy.addresses().unwrap();
    for _ in 0..10 {
        for (name, address) in &addresses {
            for path in ["/", "/slow"] {
                let status = request(*address, path, &[]).unwrap().status;
                assert_eq!(status, if name == "panics:new" { 500 } else { 200 }, "{name}");
            }
        }
    }
    let log = envoy.log();
    for hook in ["new", "destroy", "config_scheduled"] {
        assert!(log.contains(&format!("a test wants a panic in {hook}\n")), "{hook}: {log}");
    }
    // The configurations go last; a crash would be a signal.
    assert_eq!(envoy.shut_down().unwrap(), Some(0));

    // What begins with a panic is refused.
    for (name, variable) in [("panics:config_new", None), ("meshfilter", Some("program_init"))] {
        let configuration =
            std::env::temp_dir().join(format!("meshfilter-native-panic-{}.json", std::process::id()));
        fs::write(&configuration, proxy_of(&upstreams, &[name]).to_string()).unwrap();
        let output = Command::new(envoy::binary().unwrap())
            .args(["--mode", "validate", "-c"])
            .arg(&configuration)
            .envs(variable.map(|place| ("MESHFILTER_TEST_PANIC", place)))
            .output();
        fs::remove_file(&configuration).unwrap();
        let output = output.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {log}");
        assert!(log.contains("a test wants a panic in"), "{name}: {log}");
    }
}

/// One file for all of them; what is older says why it does not take it.
#[test]
fn envoys_from_1_38_take_the_same_file_and_older_ones_refuse_it() {
    let upstreams = Upstreams::start().unwrap();
    let configuration = std::env::temp_dir().join(format!("meshfilter-native-{}.json", std::process::id()));
    fs::write(&configuration, proxy(&upstreams).to_string()).unwrap();
    let validate = |envoy: &str| {
        let envoy = repository(".tools").join(envoy);
        assert!(envoy.exists(), "run `scripts/install-tools.sh envoy-1.38 envoy-1.39 envoy-oldest`");
        let output = Command::new(envoy).args(["--mode", "validate", "-c"]).arg(&configuration).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for envoy in ["envoy-1.38", "envoy-1.39", "envoy"] {
        let (accepts, log) = validate(envoy);
        assert!(accepts, "{envoy}: {log}");
        // It would warn of a module that was built for another version of the ABI.
        let version = log.lines().find(|line| line.contains("ABI version"));
        assert!(version.is_some_and(|line| line.ends_with("matched.")), "{envoy}: {log}");
    }
    let (accepts, log) = validate("envoy-oldest");
    fs::remove_file(&configuration).unwrap();
    assert!(!accepts && log.contains("DynamicModuleConfig"), "{log}");
}

#[test]
fn a_file_says_what_it_is_and_becomes_an_image_of_its_architecture() {
    let bytes = fs::read(module()).unwrap();
    let module = Module::read(bytes.clone()).unwrap();
    assert_eq!((module.facts.abi.as_str(), module.file_name()), ("dynamic-module", "libmeshfilter.so"));
    let platform = module.platform.as_ref().unwrap();
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(platform.architecture.to_string(), machine);
    assert!(platform.glibc.as_ref().is_some_and(|glibc| glibc.starts_with("2.")), "{platform:?}");
    let image = container_image(&module).unwrap();
    let configuration: Value = serde_json::from_slice(&image.blobs[0]).unwrap();
    assert_eq!(configuration["architecture"], machine);
    // Cut off, it is no module.
    assert!(Module::read(bytes[..bytes.len() / 2].to_vec()).is_err());
}

/// What `make native-all` leaves for others. No Envoy here runs that of the other architecture, but it can be read.
#[test]
fn what_is_shipped_asks_for_no_newer_glibc_than_it_says_and_has_every_hook() {
    let script = fs::read_to_string(repository("scripts/build-native.sh")).unwrap();
    let claimed = script.lines().find_map(|line| line.strip_prefix("glibc=")).unwrap();
    let page = fs::read_to_string(repository("docs/native.md")).unwrap();
    assert!(page.contains(&format!("glibc {claimed} or later")), "docs/native.md does not say {claimed}");
    let number =
        |version: &str| -> Vec<u32> { version.split('.').map(|part| part.parse().unwrap()).collect() };

    let entry = fs::read_to_string(repository("native/src/entry.rs")).unwrap();
    let words = entry.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let hooks: BTreeSet<&str> = words.filter(|word| word.starts_with("envoy_dynamic_module_on_")).collect();
    assert_eq!(hooks.len(), 23, "{hooks:?}");

    for (folder, architecture) in [("x86_64", "amd64"), ("aarch64", "arm64")] {
        let path = repository("target/native").join(folder).join("libmeshfilter.so");
        let bytes =
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; make native-all", path.display()));
        let exported: BTreeSet<Vec<u8>> = {
            let file = object::File::parse(bytes.as_slice()).unwrap();
            file.exports().unwrap().into_iter().map(|export| export.name().to_vec()).collect()
        };
        let missing: Vec<_> = hooks.iter().filter(|hook| !exported.contains(hook.as_bytes())).collect();
        assert!(missing.is_empty(), "{folder}: {missing:?}");
        let module = Module::read(bytes).unwrap();
        let platform = module.platform.unwrap();
        assert_eq!(platform.architecture.to_string(), architecture);
        let glibc = platform.glibc.unwrap();
        assert!(
            number(&glibc) <= number(claimed),
            "{folder} asks for glibc {glibc}, and {claimed} is claimed"
        );
    }
}

/// What `meshfilter bootstrap --module libmeshfilter.so` writes.
#[test]
fn the_builders_bootstrap_runs_with_it_and_metrics_have_their_names() {
    let policy = json!({
        "http": [{"name": "all", "route": [{"destination": {"cluster": "v2"}}]}],
        "telemetry": {},
    });
    let upstreams = Upstreams::start().unwrap();
    let endpoints = upstreams
        .clusters()
        .map(|(name, address)| (name.to_owned(), vec![address.to_string().parse().unwrap()]));
    let mut endpoints: Vec<_> = endpoints.filter(|(name, _)| ["v1", "v2"].contains(&name.as_str())).collect();
    endpoints[0].0 = "default".to_owned();
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        module: plugin::Module::of(module()).unwrap(),
        endpoints,
        echo: false,
        xff_hops: 0,
        certificates: None,
    };
    let plan = options.plan(&policy).unwrap();
    let envoy = Envoy::start_with(&plan.bootstrap.value()).unwrap();
    let answer = request(envoy.address().unwrap(), "/", &[]).unwrap();
    assert_eq!((answer.status, answer.header("x-upstream").as_deref()), (200, Some("v2")), "{}", envoy.log());
    envoy::wait_until("the counter, by its name", || {
        let counted = |(series, count): (support::check::Series, u64)| {
            series.name == "meshfilter_requests_total"
                && series.labels.get("route").is_some_and(|route| route == "all")
                && count == 1
        };
        envoy.prometheus().into_iter().any(counted).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", envoy.prometheus()));
}
