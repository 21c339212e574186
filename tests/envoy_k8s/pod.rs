//! The sidecar without a control plane: the files that its pod would have, in folders of a test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::install;
use super::istio::{bearer, has_labels};
use super::kustomize::{build, find};
use super::proxy::substitute;
use crate::support::case::yaml;
use crate::support::envoy::{Envoy, module, wait_until};
use crate::support::http::{Upstream, request};

/// A ConfigMap as the kubelet mounts it: files that lead through `..data`, so that all of them change at once.
fn mount(map: &Value, folder: &Path, version: u32) {
    let data = folder.join(format!("..{version}"));
    fs::create_dir_all(&data).unwrap();
    for (name, text) in map["data"].as_object().unwrap() {
        fs::write(data.join(name), text.as_str().unwrap()).unwrap();
        let link = folder.join(name);
        if !link.exists() {
            symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// What the kubelet gives the container: its arguments, environment and files.
struct Container {
    /// Volume of each path.
    mounts: BTreeMap<String, Value>,
    arguments: Vec<String>,
}

impl Container {
    fn read(objects: &[Value], name: &str) -> Self {
        let pod = &find(objects, "Deployment", "webapp")["spec"]["template"]["spec"];
        let containers = pod["initContainers"].as_array().unwrap();
        let container = containers.iter().find(|container| container["name"] == name).unwrap();
        let volume = |name: &Value| {
            let volumes = pod["volumes"].as_array().unwrap();
            volumes.iter().find(|volume| volume["name"] == *name).unwrap().clone()
        };
        let mount = |mount: &Value| (mount["mountPath"].as_str().unwrap().to_owned(), volume(&mount["name"]));
        let mut environment = BTreeMap::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            let text = match &variable["valueFrom"]["configMapKeyRef"] {
                Value::Null => &variable["value"],
                reference => &find(objects, "ConfigMap", reference["name"].as_str().unwrap())["data"]
                    [reference["key"].as_str().unwrap()],
            };
            environment.insert(variable["name"].as_str().unwrap(), text.as_str().unwrap());
        }
        // Kubernetes puts variables into arguments.
        let argument = |argument: &Value| {
            let mut text = argument.as_str().unwrap().to_owned();
            for (name, value) in &environment {
                text = text.replace(&format!("$({name})"), value);
            }
            text
        };
        Container {
            mounts: container["volumeMounts"].as_array().unwrap().iter().map(mount).collect(),
            arguments: container["args"].as_array().into_iter().flatten().map(argument).collect(),
        }
    }

    /// The ConfigMap that is mounted at a path.
    fn config_map<'a>(&self, objects: &'a [Value], path: &str) -> &'a Value {
        find(objects, "ConfigMap", self.mounts[path]["configMap"]["name"].as_str().unwrap())
    }
}

#[test]
fn a_sidecar_reads_its_policy_from_a_config_map_and_follows_it() {
    let objects = build("sidecar");
    let container = Container::read(&objects, "envoy");
    let [_, file, _, labels] = container.arguments.as_slice() else { panic!("{:?}", container.arguments) };
    let (folder, file) = file.rsplit_once('/').unwrap();
    let bootstrap = container.config_map(&objects, folder)["data"][file].as_str().unwrap();
    let mut policy = container.config_map(&objects, "/etc/meshfilter/policy").clone();
    let image = &container.mounts["/etc/meshfilter/module"]["image"];
    assert_eq!(image["reference"], "registry.example.com/meshfilter:0.1.0");

    // What is in the image, and the paths of this machine.
    let module = module().unwrap().display().to_string();
    let text = policy["data"]["policy.yaml"].as_str().unwrap().to_owned();
    assert_eq!(text.matches("/etc/meshfilter/module/plugin.wasm").count(), 1);
    policy["data"]["policy.yaml"] = text.replace("/etc/meshfilter/module/plugin.wasm", &module).into();
    let app = Upstream::echo("app").unwrap();
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bootstrap = yaml(bootstrap).unwrap();
    let ports = [(10000, 0), (15021, 0), (8080, app.address().port()), (9901, admin.port())];
    for (from, to) in ports {
        set_port(&mut bootstrap, from, to);
    }
    let mut mounted = PathBuf::new();
    let envoy = Envoy::start_merged(labels, |folder| {
        mounted = folder.join("policy");
        fs::create_dir(&mounted).unwrap();
        mount(&policy, &mounted, 1);
        let path = |name: &str| mounted.join(name).display().to_string();
        let files = [
            ("/etc/meshfilter/policy/policy.yaml", path("policy.yaml")),
            ("/etc/meshfilter/policy", path("")),
        ];
        substitute(&mut bootstrap, &files);
        bootstrap
    })
    .unwrap();
    let addresses = envoy.addresses().unwrap();
    // The Envoy of the variant is the same one.
    install::exercise("sidecar", addresses["http"]);
    install::exercise("sidecar-init", addresses["http"]);
    let get = |path: &str, headers: &[(&str, &str)]| request(addresses["http"], path, headers).unwrap();
    assert_eq!(get("/", &[]).header("x-upstream"), Some("app".to_owned()));
    assert_eq!(get("/api/orders", &[]).text(), "Jwt is missing");
    let bearer = bearer("alice");
    let allowed = get("/api/orders", &[("authorization", &bearer)]);
    assert!(allowed.text().contains(r#""x-user":"alice""#), "{}", allowed.text());
    has_labels(&envoy, &[("decision", "allowed"), ("tenant", "globex")]);

    // The kubelet and Prometheus see two paths of the admin interface, and nothing else.
    let health = |path: &str| request(addresses["health"], path, &[]).unwrap().status;
    assert_eq!(
        ["/ready", "/stats/prometheus", "/config_dump", "/quitquitquit"].map(health),
        [200, 200, 404, 404]
    );

    // An edited ConfigMap decides without a restart; a broken one does not.
    let good = policy["data"]["policy.yaml"].as_str().unwrap().to_owned();
    let edited = |from: &str, to: &str| {
        assert_eq!(good.matches(from).count(), 1, "{from}");
        json!({"data": {"policy.yaml": good.replace(from, to)}})
    };
    mount(&edited("{prefix: /api/}", "{prefix: /}"), &mounted, 2);
    wait_until("the new policy", || (get("/", &[]).status == 401).then_some(()))
        .unwrap_or_else(|error| panic!("{error}\n{}", envoy.log()));
    mount(&edited("maxTokens: 100", "maxTokens: none"), &mounted, 3);
    let refused = || envoy.log().contains("maxTokens").then_some(());
    wait_until("the refusal", refused).unwrap_or_else(|error| panic!("{error}\n{}", envoy.log()));
    assert_eq!(get("/", &[]).status, 401);
}

fn set_port(value: &mut Value, from: u16, to: u16) {
    match value {
        Value::Object(map) => {
            if map.get("port_value").is_some_and(|port| *port == from) {
                map.insert("port_value".to_owned(), to.into());
                map.insert("address".to_owned(), "127.0.0.1".into());
            }
            map.values_mut().for_each(|value| set_port(value, from, to));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| set_port(value, from, to)),
        _ => {}
    }
}

/// The first container of the variant, run as it stands but for its paths.
#[test]
fn the_first_container_fetches_the_module_and_holds_it_to_its_digest() {
    let objects = build("sidecar-init");
    let pod = &find(&objects, "Deployment", "webapp")["spec"]["template"]["spec"];
    let first = &pod["initContainers"][0];
    assert_eq!(first["command"], json!(["/bin/sh", "-ec"]));
    let script = first["args"][0].as_str().unwrap();
    // The rest is as in the sidecar: Envoy's container, and its files.
    let plain = build("sidecar");
    let sidecar = &find(&plain, "Deployment", "webapp")["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][1], sidecar["initContainers"][0]);
    let others = |objects: &[Value]| -> Vec<Value> {
        objects.iter().filter(|object| object["kind"] != "Deployment").cloned().collect()
    };
    assert_eq!(others(&objects), others(&plain));
    // What it writes is what Envoy reads.
    let shared = |container: &Value| {
        container["volumeMounts"].as_array().unwrap().iter().any(|mount| {
            *mount == json!({"name": "module", "mountPath": "/etc/meshfilter/module"})
                || *mount
                    == json!({"name": "module", "mountPath": "/etc/meshfilter/module", "readOnly": true})
        })
    };
    assert!(shared(first) && shared(&pod["initContainers"][1]));
    assert!(Container::read(&objects, "envoy").mounts["/etc/meshfilter/module"]["emptyDir"].is_object());

    let bytes = fs::read(module().unwrap()).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let served = bytes.clone();
    let server = Upstream::start("module", move |_| (Vec::new(), served.clone())).unwrap();
    let folder = std::env::temp_dir().join(format!("meshfilter-init-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let script = script.replace("/etc/meshfilter/module", &folder.display().to_string());
    let run = |digest: &str| {
        let url = format!("http://{}/meshfilter.wasm", server.address());
        Command::new("/bin/sh").args(["-ec", &script]).env("URL", url).env("SHA256", digest).output().unwrap()
    };
    let right = run(&digest);
    let fetched = fs::read(folder.join("plugin.wasm"));
    let wrong = run(&"0".repeat(64));
    fs::remove_dir_all(&folder).unwrap();
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    assert!(fetched.unwrap() == bytes);
    assert!(!wrong.status.success());
}
