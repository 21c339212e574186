//! `meshfilter bootstrap`: what is missing or names nothing is told with what would be right, and what is written is
//! what was meant.

use std::path::PathBuf;
use std::process::Command;

use meshfilter::config::Errors;
use meshfilter::config::source::{Language, Source};
use serde_json::{Value, json};

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A policy in a file of its own.
fn file(name: &str, policy: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bootstrap-{name}.yaml"));
    std::fs::write(&path, policy).unwrap();
    path.display().to_string()
}

fn bootstrap(policy: &str, arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(["bootstrap", policy])
        .args(arguments)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn read(text: &str) -> Value {
    let errors = Errors::default();
    let value = Source::read(Language::Yaml, text, &errors).unwrap().value;
    assert!(errors.into_vec().is_empty());
    value
}

fn good(policy: &str, arguments: &[&str]) -> (Value, String) {
    let ran = bootstrap(policy, &[arguments, &["--module", "/etc/envoy/meshfilter.wasm"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    (read(&ran.stdout), ran.stderr)
}

fn cluster<'a>(bootstrap: &'a Value, name: &str) -> &'a Value {
    let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
    clusters
        .iter()
        .find(|cluster| cluster["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {clusters:#?}"))
}

fn addresses(cluster: &Value) -> Vec<String> {
    let endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array().unwrap();
    let address = |endpoint: &Value| {
        let socket = &endpoint["endpoint"]["address"]["socket_address"];
        format!("{}:{}", socket["address"].as_str().unwrap_or("?"), socket["port_value"])
    };
    endpoints.iter().map(address).collect()
}

fn manager(bootstrap: &Value) -> &Value {
    &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

const CANARY: &str = "\
http:
- match: [{headers: {canary: {exact: 'true'}}}]
  route: [{destination: {host: webapp, subset: v2}}]
- route: [{destination: {host: webapp, subset: v1}}]
";

#[test]
fn a_subset_without_an_endpoint_is_told_with_the_flags_to_give() {
    let ran = bootstrap(&file("subset", CANARY), &["--module", "m.wasm"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert_eq!(
        ran.stderr,
        "meshfilter: DNS does not know where webapp|v2, webapp|v1 are; say it, or let Envoy itself answer with --echo:\n  \
         --endpoint 'webapp|v2=HOST:PORT' --endpoint 'webapp|v1=HOST:PORT'\n"
    );
}

#[test]
fn an_endpoint_of_a_name_that_the_policy_does_not_have_is_an_error() {
    let ran = bootstrap(
        &file("unknown", "http: [{route: [{destination: {host: webapp}}]}]"),
        &["--module", "m.wasm", "--endpoint", "webap=127.0.0.1:1"],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert_eq!(ran.stderr, "meshfilter: --endpoint webap: the policy has no webap; it has webapp, default\n");
}

#[test]
fn wrong_use_is_told_with_the_right_use() {
    let policy = file("use", "{}");
    let ran = bootstrap(&policy, &["--module", "filter.elf"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        ran.stderr,
        "meshfilter: --module filter.elf: a module ends in .wasm, or in .so where it is native\n"
    );
    let ran = bootstrap(&policy, &["--endpoint", "webapp:80"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("use NAME=HOST:PORT, such as webapp=127.0.0.1:8080"), "{}", ran.stderr);
    let ran = bootstrap(&policy, &["--listen", "10000"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("\"10000\" is not HOST:PORT; use one such as 127.0.0.1:10000"),
        "{}",
        ran.stderr
    );
    let ran = bootstrap("absent.yaml", &["--module", "m.wasm"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("meshfilter: absent.yaml: No such file"), "{}", ran.stderr);
    let ran = bootstrap(&policy, &["--module", "m.wasm", "--certificates", "nowhere"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.stderr.matches("there is no ").count(), 2, "{}", ran.stderr);
}

#[test]
fn a_module_that_is_nowhere_is_told_with_how_to_get_one() {
    if std::path::Path::new("/etc/envoy/meshfilter.wasm").exists() {
        return assert_eq!(bootstrap(&file("module", "{}"), &[]).code, Some(0));
    }
    let ran = bootstrap(&file("module", "{}"), &[]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.starts_with(
            "meshfilter: there is no module; build it with `make build`, or say where it is with --module; looked for \
             meshfilter.wasm, "
        ),
        "{}",
        ran.stderr
    );
}

#[test]
fn every_error_of_a_policy_comes_as_check_has_it() {
    let path = file("errors", "http:\n- rote: []\n- route: [{destination: {host: a}, weight: -1}]\n");
    let ran = bootstrap(&path, &["--module", "m.wasm"]);
    let checked = Command::new(env!("CARGO_BIN_EXE_meshfilter")).args(["check", &path]).output().unwrap();
    assert_eq!((ran.code, checked.status.code()), (Some(1), Some(1)));
    assert_eq!(ran.stderr, String::from_utf8(checked.stdout).unwrap());
    assert!(ran.stderr.contains("2 errors"), "{}", ran.stderr);
}

#[test]
fn everything_that_the_policy_names_is_a_cluster() {
    let policy = "\
destinations: {port: 8080}
http:
- match: [{uri: {prefix: /a}}]
  route: [{destination: {host: a, subset: v1}, weight: 1}, {destination: {host: b, port: {number: 81}}, weight: 1}]
  mirrors: [{destination: {host: copies}}]
- route: [{destination: {cluster: own.name}}]
authentication:
  jwtRules:
  - {issuer: https://issuer.example, jwksUri: 'https://keys.example:8443/jwks'}
  - {issuer: https://other.example, jwksUri: 'http://plain.example/jwks', jwksCluster: plain}
  - {issuer: https://discovered.example}
rateLimits:
- {name: fleet, global: {cluster: limits, domain: d, descriptors: [{entries: [{key: k, value: {literal: v}}]}]}}
";
    let (bootstrap, warnings) = good(
        &file("named", policy),
        &["--endpoint", "a|v1=10.0.0.1:80,10.0.0.2:80", "--endpoint", "keys.example=10.0.0.3:443"],
    );
    for (name, expected, kind) in [
        ("a|v1", vec!["10.0.0.1:80", "10.0.0.2:80"], "STATIC"),
        ("b", vec!["b:81"], "STRICT_DNS"),
        ("copies", vec!["copies:8080"], "STRICT_DNS"),
        ("own.name", vec!["own.name:8080"], "STRICT_DNS"),
        ("keys.example:8443", vec!["10.0.0.3:443"], "STATIC"),
        ("plain", vec!["plain.example:80"], "STRICT_DNS"),
        ("discovered.example:443", vec!["discovered.example:443"], "STRICT_DNS"),
        ("limits", vec!["limits:8081"], "STRICT_DNS"),
    ] {
        let cluster = cluster(&bootstrap, name);
        assert_eq!(
            (addresses(cluster), &cluster["type"]),
            (expected.iter().map(ToString::to_string).collect(), &json!(kind)),
            "{name}"
        );
    }
    let tls = &cluster(&bootstrap, "keys.example:8443")["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "keys.example");
    assert_eq!(
        tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"],
        json!([{"san_type": "DNS", "matcher": {"exact": "keys.example"}}])
    );
    assert!(tls["common_tls_context"]["validation_context"]["trusted_ca"]["filename"].is_string());
    assert_eq!(cluster(&bootstrap, "plain")["transport_socket"], Value::Null);
    let http2 = &cluster(&bootstrap, "limits")["typed_extension_protocol_options"];
    assert!(http2["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"]["http2_protocol_options"].is_object());
    let filters = manager(&bootstrap)["http_filters"].as_array().unwrap();
    let rules = &filters[1]["typed_config"]["config"]["configuration"]["value"]["authentication"]["jwtRules"];
    assert_eq!(rules[0]["jwksCluster"], "keys.example:8443");
    assert_eq!(
        (&rules[1]["jwksCluster"], &rules[2]["jwksCluster"]),
        (&json!("plain"), &json!("discovered.example:443"))
    );
    // Nobody said where the rest goes.
    assert!(
        warnings.contains("are answered with 404; to send them on: --endpoint default=HOST:PORT"),
        "{warnings}"
    );
    assert_eq!(
        manager(&bootstrap)["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_rewritten_host_goes_to_the_route_in_a_header() {
    let (bootstrap, _) = good(&file("rewritten", CANARY), &["--echo"]);
    let manager = manager(&bootstrap);
    let told = manager["http_filters"][0]["typed_config"]["on_request_headers"].as_array().unwrap();
    let rewrites = told.iter().find(|told| told["object_key"] == "meshfilter.rewrites").unwrap();
    assert_eq!(rewrites["format_string"]["text_format_source"]["inline_string"], "route");
    let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!(route["cluster_header"], "x-meshfilter-cluster");
    assert_eq!(route["host_rewrite_header"], "x-meshfilter-authority");
}

#[test]
fn one_cluster_cannot_be_two_things() {
    let policy = "\
authentication:
  jwtRules:
  - {issuer: https://a.example, jwksUri: 'https://a.example/jwks', jwksCluster: keys}
  - {issuer: https://b.example, jwksUri: 'https://b.example/jwks', jwksCluster: keys}
";
    let ran = bootstrap(&file("twice", policy), &["--module", "m.wasm"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stderr,
        "meshfilter: the cluster keys would be two things, of which one is the key set at b.example:443; give it a \
         jwksCluster of its own\n"
    );
}

#[test]
fn tags_variables_and_delays_reach_the_rest_of_the_configuration() {
    let policy = "\
http: [{fault: {delay: {percentage: {value: 1}, fixedDelay: 90s}}, route: [{destination: {host: a}}]}]
telemetry:
  tags:
  - {name: tenant, value: {header: x-tenant}}
  - {name: zone, value: {environment: ZONE}, in: [logs]}
  - {name: counted, value: {literal: x}, in: [metrics]}
";
    let (bootstrap, _) = good(&file("tags", policy), &["--xff-hops", "2"]);
    let labels = bootstrap["stats_config"]["stats_tags"].as_array().unwrap();
    let labels: Vec<&str> = labels.iter().map(|tag| tag["tag_name"].as_str().unwrap()).collect();
    assert_eq!(labels[labels.len() - 2..], ["tenant", "counted"]);
    let manager = manager(&bootstrap);
    assert_eq!(manager["stream_idle_timeout"], "150s");
    assert_eq!(manager["xff_num_trusted_hops"], 2);
    let logged = manager["access_log"][1]["typed_config"]["log_format"]["json_format"].as_object().unwrap();
    assert_eq!(logged["zone"], "%FILTER_STATE(wasm.zone:PLAIN):64%");
    assert!(!logged.contains_key("counted"));
    assert_eq!(manager["tracing"]["custom_tags"][0]["value"], "%FILTER_STATE(wasm.tenant:PLAIN)%");
    let config = &manager["http_filters"][1]["typed_config"]["config"];
    assert_eq!(config["vm_config"]["environment_variables"]["host_env_keys"], json!(["ZONE"]));
    assert_eq!(config["vm_config"]["vm_id"], "meshfilter");
}

#[test]
fn a_native_module_is_the_same_policy_in_another_filter() {
    let ran = bootstrap(&file("native", CANARY), &["--echo", "--module", "/usr/lib/libmeshfilter.so"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let bootstrap = read(&ran.stdout);
    let filter = &manager(&bootstrap)["http_filters"][1]["typed_config"];
    assert_eq!(
        filter["@type"],
        "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"
    );
    assert_eq!(filter["dynamic_module_config"]["module"]["local"]["filename"], "/usr/lib/libmeshfilter.so");
    assert_eq!(filter["filter_config"]["value"], read(CANARY));
}

#[test]
fn what_security_rests_on_stands_there_with_its_reason() {
    let ran = bootstrap(&file("reasons", "{}"), &["--module", "m.wasm"]);
    let lines: Vec<&str> = ran.stdout.lines().map(str::trim).collect();
    for option in [
        "use_remote_address: true",
        "normalize_path: true",
        "path_with_escaped_slashes_action: REJECT_REQUEST",
        "headers_with_underscores_action: REJECT_REQUEST",
        "max_concurrent_streams: 100",
        "stream_idle_timeout: 60s",
        "request_headers_timeout: 10s",
        "failure_policy: FAIL_RELOAD",
        "vm_id: meshfilter",
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}",
    ] {
        let index = lines
            .iter()
            .position(|line| *line == option)
            .unwrap_or_else(|| panic!("{option}: {}", ran.stdout));
        assert!(lines[index.checked_sub(1).unwrap()].starts_with("# "), "{option}");
    }
    let open = bootstrap(&file("open", "{}"), &["--module", "m.wasm", "--admin", "0.0.0.0:9901"]);
    assert!(
        open.stderr.contains("--admin 0.0.0.0:9901: whoever reaches this port rules the proxy"),
        "{}",
        open.stderr
    );
}

/// What a policy becomes that is written out in the repository. `MESHFILTER_WRITE_DOCS=1` writes it anew.
#[test]
fn the_files_of_the_fleet_are_what_the_commands_write() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let policy = "examples/policies/fleet.yaml";
    let envoy = "bootstrap examples/policies/fleet.yaml --listen 0.0.0.0:10000 --admin 127.0.0.1:9901 --module \
                 /etc/envoy/meshfilter.wasm --endpoint ratelimit=ratelimit:8081 --echo";
    for (file, arguments) in [
        ("envoy/fleet/envoy.yaml", envoy.to_owned()),
        ("envoy/fleet/ratelimit.yaml", format!("limits {policy} --for ratelimit")),
        ("envoy/fleet/limitador.yaml", format!("limits {policy} --for limitador")),
    ] {
        let ran = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
            .args(arguments.split_whitespace())
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
        let written = String::from_utf8(ran.stdout).unwrap();
        if std::env::var_os("MESHFILTER_WRITE_DOCS").is_some() {
            std::fs::write(root.join(file), &written).unwrap();
        } else {
            let there = std::fs::read_to_string(root.join(file)).unwrap();
            assert_eq!(there, written, "{file}: MESHFILTER_WRITE_DOCS=1 writes it anew");
        }
    }
}
