//! Meshes of many resources, for the test and the bench of import.

use std::fmt::Write;

use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::Module;
use meshfilter_cli::import::import;
use meshfilter_cli::import::read::Inputs;
use meshfilter_cli::import::repair::Repairs;
use meshfilter_cli::import::scope::Wanted;
use meshfilter_cli::import::write::envoy;

/// Their names.
pub const MESHES: [&str; 3] = ["istio", "linkerd", "gateway"];

/// So many resources of a mesh, as YAML.
pub fn mesh(name: &str, resources: usize) -> String {
    let mut text = String::new();
    match name {
        "istio" => (0..resources / 4).for_each(|n| istio(n, &mut text)),
        "linkerd" => (0..resources / 2).for_each(|n| linkerd(n, &mut text)),
        _ => {
            text.push_str(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: eg, \
                 listeners: [{name: http, port: 80, protocol: HTTP}]}\n---\n",
            );
            (0..resources / 2).for_each(|n| gateway(n, &mut text));
        }
    }
    text
}

fn istio(n: usize, text: &mut String) {
    let _ = write!(
        text,
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc-{n}, namespace: shop}}
spec:
  hosts: [svc-{n}]
  http:
  - {{match: [{{headers: {{canary: {{exact: 'true'}}}}}}], route: [{{destination: {{host: svc-{n}, subset: v1}}}}]}}
  - {{route: [{{destination: {{host: svc-{n}, subset: v1}}, weight: 90}}, {{destination: {{host: svc-{n}}}, weight: 10}}], timeout: 5s}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc-{n}, namespace: shop}}
spec:
  host: svc-{n}
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 100}}}}}}
  subsets: [{{name: v1, labels: {{version: v1}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: svc-{n}, namespace: shop}}
spec: {{selector: {{app: svc-{n}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: svc-{n}-x, namespace: shop, labels: {{app: svc-{n}, version: v1}}}}
spec: {{containers: [{{name: app, ports: [{{name: http, containerPort: 8080}}]}}]}}
status: {{podIP: 10.{}.{}.1}}
---
",
        n / 256 % 256,
        n % 256
    );
}

fn linkerd(n: usize, text: &mut String) {
    let _ = write!(
        text,
        "\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {{name: svc-{n}.shop.svc.cluster.local, namespace: shop}}
spec:
  routes: [{{name: all, condition: {{method: GET, pathRegex: '/.*'}}, isRetryable: true, timeout: 1s}}]
  retryBudget: {{retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s}}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {{name: svc-{n}, namespace: shop}}
spec: {{service: svc-{n}, backends: [{{service: svc-{n}, weight: 9}}, {{service: svc-{n}-v2, weight: 1}}]}}
---
"
    );
}

fn gateway(n: usize, text: &mut String) {
    let _ = write!(
        text,
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: svc-{n}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [svc-{n}.example.com]
  rules: [{{matches: [{{path: {{value: /a}}}}], backendRefs: [{{name: svc-{n}, port: 80}}]}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{name: svc-{n}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: svc-{n}}}]
  timeout: {{http: {{requestTimeout: 2s}}}}
---
"
    );
}

/// Imports a text and writes policy and Envoy; gives the bytes that come of it.
pub fn imported(text: &str) -> usize {
    let mut inputs = Inputs::default();
    inputs.add("mesh.yaml", text.as_bytes(), Repairs::Told);
    let imported = import(&mut inputs, &Wanted::default(), Repairs::Told);
    assert!(imported.report.errors.is_empty(), "{:#?}", &imported.report.errors[..1]);
    let mut options = Options::new(Module::Wasm("meshfilter.wasm".into()));
    options.echo = text.contains("kind: TrafficSplit");
    let wanted =
        envoy::Wanted { options, endpoints: Vec::new(), moved: Default::default(), folder: "out".into() };
    let written = wanted.write(&imported.mesh, &imported.scope, &imported.policy).unwrap();
    imported.policy.yaml().len() + written.bootstrap.yaml().len()
}
