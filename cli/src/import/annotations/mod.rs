//! Annotations that no reader takes. Those of programs that make proxies of a resource may say who gets in: there are too many
//! such programs to know them all, so that what a name speaks of counts.

pub mod accrual;
pub mod inbound;
pub mod times;

use super::dialect::Kind;
use super::field::Field;

/// What proxies are made of.
const OF_PROXIES: [&str; 4] = ["Ingress", "Gateway", "HTTPRoute", "GRPCRoute"];

/// Where programs that make proxies have their annotations, of a Service, too.
const CONTROLLERS: [&str; 24] = [
    "alb.ingress.kubernetes.io",
    "appgw.ingress.kubernetes.io",
    "appprotect.f5.com",
    "appprotectdos.f5.com",
    "cloud.google.com",
    "contour.heptio.com",
    "custom.nginx.org",
    "getambassador.io",
    "haproxy-ingress.github.io",
    "haproxy.com",
    "haproxy.org",
    "ingress.citrix.com",
    "ingress.kubernetes.io",
    "ingress.pomerium.io",
    "k8s.apisix.apache.org",
    "konghq.com",
    "networking.gke.io",
    "nginx.com",
    "nginx.ingress.kubernetes.io",
    "nginx.org",
    "projectcontour.io",
    "traefik.ingress.kubernetes.io",
    "traefik.io",
    "zalando.org",
];

/// Of these every annotation changes what the proxy does.
const ALWAYS: [&str; 3] = ["appprotect.f5.com", "appprotectdos.f5.com", "custom.nginx.org"];

/// Programs that make no proxy, whatever their annotations are called.
const HARMLESS: [&str; 10] = [
    "app.kubernetes.io",
    "argoproj.io",
    "cattle.io",
    "cert-manager.io",
    "external-dns.alpha.kubernetes.io",
    "fluxcd.io",
    "helm.sh",
    "kubectl.kubernetes.io",
    "prometheus.io",
    "pulumi.com",
];

/// Annotations of workloads that say something of their traffic. The others of a mesh are about its own proxy.
const OF_TRAFFIC: [&str; 11] = [
    "balancer.alpha.linkerd.io/",
    "balancer.linkerd.io/",
    "traffic.sidecar.istio.io/",
    "networking.istio.io/",
    "proxy.istio.io/config",
    "config.linkerd.io/default-inbound-policy",
    "config.linkerd.io/opaque-ports",
    "config.linkerd.io/proxy-require-identity",
    "config.linkerd.io/skip-",
    "retry.linkerd.io/",
    "timeout.linkerd.io/",
];

/// What the name of an annotation speaks of that changes who gets in, where to, or how often.
const DECIDES: [&str; 60] = [
    "access",
    "acl",
    "action",
    "affinity",
    "alias",
    "allow",
    "app-root",
    "armor",
    "auth",
    "black",
    "block",
    "canary",
    "captcha",
    "cidr",
    "client-c",
    "condition",
    "cors",
    "csrf",
    "deny",
    "denied",
    "filter",
    "firewall",
    "forbid",
    "frontendconfig",
    "geo",
    "header",
    "iap",
    "jwt",
    "limit",
    "method",
    "middleware",
    "mirror",
    "mtls",
    "oidc",
    "override",
    "permit",
    "plugin",
    "polic",
    "predicate",
    "prefix",
    "protect",
    "proxy-redirect",
    "quota",
    "range",
    "redirect",
    "regex",
    "reject",
    "restrict",
    "rewrite",
    "satisfy",
    "secur",
    "shield",
    "snippet",
    "strip",
    "throttl",
    "tls.options",
    "verify",
    "vhost",
    "waf",
    "white",
];

/// Says of an annotation of a kind of resource what becomes of it.
pub fn told(name: &str, field: &Field<'_>, kind: &Kind) {
    let (domain, rest) = name.rsplit_once('/').unwrap_or(("", name));
    let of = |known: &str| {
        domain.strip_suffix(known).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let of_a_mesh = of("istio.io") || domain.ends_with("linkerd.io");
    let of_a_proxy = OF_PROXIES.contains(&kind.name);
    let rest = rest.to_ascii_lowercase();
    let decides = DECIDES.iter().any(|word| rest.contains(word)) || ALWAYS.contains(&domain);
    let harmless = HARMLESS.iter().any(|known| of(known));
    let controller = CONTROLLERS.contains(&domain);
    let remedy = "write what it does into the policy";
    if !harmless && decides && (of_a_proxy || (kind.name == "Service" && controller)) {
        field.forbid(
            format!("the annotation {name} is another program's"),
            format!("{remedy}, and leave it out"),
        );
    } else if of_a_mesh && kind.labels && !OF_TRAFFIC.iter().any(|known| name.starts_with(known)) {
        field.no_meaning("it is how the mesh puts its own proxy in");
    } else if of_a_mesh {
        field.refuse(
            format!("the annotation {name} is not honoured"),
            "what it asks for has to be said in the policy or in Envoy's configuration",
        );
    } else if of_a_proxy && controller {
        field.refuse(format!("the annotation {name} is another program's"), remedy);
    } else {
        field.no_meaning("annotations of other programs decide nothing here");
    }
}
