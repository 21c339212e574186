use crate::import::mesh::services::Labels;
use crate::import::testing::{errors, imported};

#[test]
fn who_answers_is_found_by_labels_and_named_ports() {
    let text = "\
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: web}, {name: admin, port: 81, targetPort: 9901}]
---
apiVersion: v1
kind: Pod
metadata: {name: r1, namespace: shop, labels: {app: reviews, version: v1}}
spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 9080}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: r2, namespace: shop, labels: {app: reviews, version: v2}}
spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 9081}]}]}
status: {podIP: 10.0.0.2}
";
    let imported = imported(text);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let host = "reviews.shop.svc.cluster.local";
    let services = &imported.mesh.services;
    let at = |port, labels: &[(&str, &str)]| -> Vec<String> {
        let labels: Labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        services.answering(host, port, &labels).iter().map(|(address, _)| address.to_string()).collect()
    };
    assert_eq!(at(Some(80), &[]), ["10.0.0.1:9080", "10.0.0.2:9081"]);
    assert_eq!(at(None, &[("version", "v2")]), ["10.0.0.2:9081"]);
    assert_eq!(at(Some(81), &[("version", "v1")]), ["10.0.0.1:9901"]);
    assert!(at(Some(80), &[("version", "v3")]).is_empty());
}

#[test]
fn endpoint_slices_have_the_labels_of_their_pods() {
    let text = "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-x, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: p, namespace: default}}
- {addresses: [10.0.0.2], conditions: {ready: false}, nodeName: n}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {version: v1}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: b}
subsets: [{addresses: [{ip: 10.0.0.3}], ports: [{port: 9000}]}]
---
apiVersion: v1
kind: Service
metadata: {name: c}
spec: {type: ExternalName, externalName: c.example.com}
";
    let imported = imported(text);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let services = &imported.mesh.services;
    let version = Labels::from([("version".to_owned(), "v1".to_owned())]);
    let found = services.answering("a.default.svc.cluster.local", Some(80), &version);
    assert_eq!(found[0].0.to_string(), "10.0.0.1:8080");
    assert_eq!(found.len(), 1);
    assert_eq!(
        services.answering("b.default.svc.cluster.local", None, &Labels::new())[0].0.to_string(),
        "10.0.0.3:9000"
    );
    let external = services.get("c.default.svc.cluster.local").unwrap().external_name.as_deref();
    assert_eq!(external, Some("c.example.com"));
}

#[test]
fn nothing_of_a_secret_is_told() {
    let text = "\
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {tls.crt: Y2VydA==, tls.key: c2VjcmV0, other: c2VjcmV0}
stringData: {ca.crt: root}
";
    let imported = imported(text);
    let secret = &imported.mesh.secrets[&("default".to_owned(), "s".to_owned())];
    assert_eq!(secret.key.as_deref(), Some(b"secret".as_slice()));
    assert_eq!(secret.authorities.as_deref(), Some(b"root".as_slice()));
    let told = format!("{:?} {secret:?}", imported.report);
    assert!(!told.contains("c2VjcmV0") && !told.contains("secret\""), "{told}");
    let broken = text.replace("c2VjcmV0,", "'*secret*',");
    let imported = crate::import::testing::imported(&broken);
    assert_eq!(errors(&imported.report), ["4: data[tls.key]: this is not base64"]);
}

#[test]
fn an_ingress_has_exact_paths_before_prefixes() {
    let text = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: other, port: {number: 80}}}
  rules:
  - host: a.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: a, port: {name: http}}}}
      - {path: /api, pathType: Prefix, backend: {service: {name: b, port: {number: 8080}}}}
      - {path: /api, pathType: Exact, backend: {service: {name: c, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 81}]}
";
    let imported = imported(text);
    assert_eq!(errors(&imported.report), Vec::<String>::new());
    let found: Vec<String> = imported.policy.value["http"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!("{} {} {}", entry["name"], entry["hosts"], entry["route"][0]["destination"]["port"])
        })
        .collect();
    assert_eq!(
        found,
        [
            r#""web/0-2" ["a.example.com"] {"number":80}"#,
            r#""web/0-1" ["a.example.com"] {"number":8080}"#,
            r#""web/0-0" ["a.example.com"] {"number":81}"#,
            r#""web/default" null {"number":80}"#,
        ]
    );
    let annotated = text.replace(
        "{name: web}",
        "{name: web, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /, nginx.ingress.kubernetes.io/proxy-body-size: 1m}}",
    );
    let imported = crate::import::testing::imported(&annotated);
    let told = errors(&imported.report);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains(
            "rewrite-target is another program's; write what it does into the policy, and leave it out"
        ),
        "{told:?}"
    );
}

#[test]
fn annotations_that_may_say_who_gets_in_are_errors_whatever_the_program() {
    let text = |kind: &str, name: &str| {
        let (version, spec) = match kind {
            "Ingress" => {
                ("networking.k8s.io/v1", "{defaultBackend: {service: {name: a, port: {number: 80}}}}")
            }
            "Gateway" => {
                ("gateway.networking.k8s.io/v1", "{listeners: [{name: http, port: 80, protocol: HTTP}]}")
            }
            _ => ("v1", "{ports: [{port: 80}]}"),
        };
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, annotations: {{{name}: x}}}}\nspec: {spec}\n"
        )
    };
    let found = |kind: &str, name: &str| {
        let report = imported(&text(kind, name)).report;
        (
            errors(&report).len(),
            crate::import::testing::warnings(&report).iter().any(|told| told.contains(name)),
        )
    };
    for name in [
        "alb.ingress.kubernetes.io/inbound-cidrs",
        "cloud.google.com/armor-config",
        "custom.nginx.org/anything",
        "haproxy.org/allow-list",
        "ingress.kubernetes.io/auth-type",
        "ingress.pomerium.io/policy",
        "konghq.com/plugins",
        "nginx.org/policies",
        "unheard-of.example/ip-whitelist",
    ] {
        assert_eq!(found("Ingress", name).0, 1, "{name}");
    }
    for (kind, name, expected) in [
        ("Gateway", "konghq.com/plugins", (1, false)),
        ("Service", "konghq.com/plugins", (1, false)),
        ("Service", "service.beta.kubernetes.io/aws-load-balancer-ssl-negotiation-policy", (0, false)),
        ("Ingress", "nginx.ingress.kubernetes.io/proxy-body-size", (0, true)),
        ("Ingress", "kubernetes.io/ingress.class", (0, false)),
        ("Ingress", "helm.sh/resource-policy", (0, false)),
    ] {
        assert_eq!(found(kind, name), expected, "{kind} {name}");
    }
}
