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
pub const MESHES: [&str; 6] = ["istio", "linkerd", "gateway", "smi", "consul", "kubernetes"];

/// So many resources of a mesh, as YAML.
pub fn mesh(name: &str, resources: usize) -> String {
    let mut text = String::new();
    match name {
        "istio" => (0..resources / 4).for_each(|n| istio(n, &mut text)),
        "linkerd" => (0..resources / 2).for_each(|n| linkerd(n, &mut text)),
        "smi" => (0..resources / 2).for_each(|n| smi(n, &mut text)),
        "consul" => (0..resources / 2).for_each(|n| consul(n, &mut text)),
        "kubernetes" => (0..resources / 2).for_each(|n| kubernetes(n, &mut text)),
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

/// All targets are for the proxy: every one is looked at for its port.
fn smi(n: usize, text: &mut String) {
    let _ = write!(
        text,
        "\
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: target-{n}}}
spec:
  destination: {{kind: ServiceAccount, name: app, namespace: default, port: 8080}}
  rules: [{{kind: HTTPRouteGroup, name: routes-{n}, matches: [api]}}]
  sources: [{{kind: ServiceAccount, name: client-{n}, namespace: default}}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: routes-{n}}}
spec: {{matches: [{{name: api, pathRegex: '/api/{n}/.*', methods: [GET]}}]}}
---
"
    );
}

fn consul(n: usize, text: &mut String) {
    let _ = write!(
        text,
        "\
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceRouter
metadata: {{name: svc-{n}}}
spec: {{routes: [{{match: {{http: {{pathPrefix: /v2}}}}, destination: {{serviceSubset: v2}}}}]}}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceResolver
metadata: {{name: svc-{n}}}
spec: {{defaultSubset: v1, subsets: {{v1: {{filter: 'Service.Meta.version == v1'}}, v2: {{filter: 'Service.Meta.version == v2'}}}}}}
---
"
    );
}

fn kubernetes(n: usize, text: &mut String) {
    let _ = write!(
        text,
        "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: svc-{n}}}
spec: {{rules: [{{host: svc-{n}.example.com, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: svc-{n}, \
         port: {{number: 80}}}}}}}}]}}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: svc-{n}, annotations: {{timeout.linkerd.io/request: 5s}}}}
spec: {{selector: {{app: svc-{n}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
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
    options.echo = ["TrafficSplit", "ServiceRouter", "Ingress"]
        .iter()
        .any(|kind| text.contains(&format!("kind: {kind}")));
    let wanted =
        envoy::Wanted { options, endpoints: Vec::new(), moved: Default::default(), folder: "out".into() };
    let written = wanted.write(&imported.mesh, &imported.scope, &imported.policy).unwrap();
    imported.policy.yaml().len() + written.bootstrap.yaml().len()
}
