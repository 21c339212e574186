//! The ConfigMap in which Linkerd keeps what it was installed with: whose trust domain identities are of, which addresses are
//! the cluster's, and who gets in where nothing else says it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::import::context::Context;
use crate::import::field::Object;
use crate::import::istio::CONFIG_MAP;
use crate::import::read::Resource;

/// Its name, in whatever namespace Linkerd is.
const NAME: &str = "linkerd-config";

/// The namespace of the control plane, unless Linkerd is put elsewhere.
const NAMESPACE: &str = "linkerd";

/// Under these names it is kept what it says.
const DOMAIN: &str = "linkerd.trustDomain";
const NETWORKS: &str = "linkerd.networks";
const ACCESS: &str = "linkerd.access";

/// The trust domain of Linkerd's identities, unless Linkerd is told another.
const USUAL_DOMAIN: &str = "cluster.local";

/// The addresses of a cluster, unless Linkerd is told others.
const CLUSTER: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];

/// Whether a resource is that ConfigMap.
pub fn are_in(resource: &Resource) -> bool {
    resource.name == NAME && resource.value.pointer("/data/values").is_some()
}

/// The trust domain of Linkerd's identities.
pub fn trust_domain<'c>(cx: &'c Context<'_>) -> &'c str {
    cx.mesh.found.get(DOMAIN).and_then(Value::as_str).unwrap_or(USUAL_DOMAIN)
}

/// The addresses of the cluster.
pub fn networks(cx: &Context<'_>) -> Vec<String> {
    let said = cx.mesh.found.get(NETWORKS).and_then(Value::as_array);
    let said = said.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    said.unwrap_or_else(|| CLUSTER.map(str::to_owned).to_vec())
}

/// Who gets in where neither a Server nor an annotation says it, and the resource that says it.
pub fn access(cx: &Context<'_>) -> Option<(String, usize)> {
    let said = cx.mesh.found.get(ACCESS)?;
    let index = said.get("resource")?.as_u64()?;
    Some((said.get("access")?.as_str()?.to_owned(), usize::try_from(index).ok()?))
}

/// Reads the ConfigMap.
pub fn read(top: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    const REST: &str = "it is about what Linkerd installs and injects";
    if let Some(reason) = not_the_mesh_s(resource, cx) {
        top.rest(|field| field.no_meaning_as_a_whole(&reason));
        return;
    }
    if let Some(data) = top.field("data").and_then(|data| data.object()) {
        if let Some(field) = data.field("values")
            && let Some(value) = field.document()
        {
            field.taken("Linkerd's settings");
            if let Some(object) = field.within(&value).object() {
                values(&object, resource, cx);
                object.rest(|field| field.no_meaning_as_a_whole(REST));
            }
        }
        data.rest(|field| field.no_meaning_as_a_whole(REST));
    }
    top.rest(|field| field.no_meaning_as_a_whole(REST));
}

/// Why a ConfigMap of this name is not the one of the control plane: that is in the namespace `linkerd` where one is there.
/// Of several in others it is not known, which is an error.
fn not_the_mesh_s(resource: &Resource, cx: &Context<'_>) -> Option<String> {
    let all = cx.all(CONFIG_MAP).filter(|other| are_in(other));
    let places: BTreeSet<&str> = all.map(|other| cx.namespace(other)).collect();
    let own = cx.namespace(resource);
    if places.len() < 2 || own == NAMESPACE {
        return None;
    }
    if places.contains(NAMESPACE) {
        let reason = format!("{NAME} of the namespace {NAMESPACE} is the control plane's");
        resource.log.warn("", format!("left out: {reason}"), "leave it out");
        return Some(reason);
    }
    let places = places.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!("{NAME} is in several namespaces, and one of them has the control plane: {places}");
    resource.log.error("metadata.namespace", &message, "leave the others out");
    Some(message)
}

fn values(object: &Object<'_>, resource: &Resource, cx: &mut Context<'_>) {
    let mut own = USUAL_DOMAIN;
    // Without a domain of their own, identities have the cluster's.
    for name in ["clusterDomain", "identityTrustDomain"] {
        let Some(field) = object.field(name) else { continue };
        let Some(domain) = field.text() else { continue };
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !domain.bytes().all(known) {
            field.forbid(format!("{domain} is no trust domain"), "use one such as cluster.local");
            continue;
        }
        field.taken("the trust domain of identities");
        if !domain.is_empty() {
            own = domain;
        }
    }
    cx.mesh.found.insert(DOMAIN, own.into());
    if let Some(field) = object.field("clusterNetworks")
        && let Some(networks) = field.text()
    {
        field.taken("the addresses that cluster-authenticated and cluster-unauthenticated let in");
        let networks: Vec<&str> =
            networks.split(',').map(str::trim).filter(|cidr| !cidr.is_empty()).collect();
        if !networks.is_empty() {
            cx.mesh.found.insert(NETWORKS, json!(networks));
        }
    }
    if let Some(proxy) = object.field("proxy").and_then(|field| field.object()) {
        if let Some(field) = proxy.field("defaultInboundPolicy")
            && let Some(access) = field.text()
        {
            field.taken("who gets in where neither a Server nor an annotation says it");
            cx.mesh.found.insert(ACCESS, json!({"access": access, "resource": resource.index}));
        }
        proxy.rest(|field| field.no_meaning_as_a_whole("it is about Linkerd's own proxy"));
    }
}

/// Says once of which trust domain accounts and namespaces are taken to be, where the input does not say it.
pub fn assumed(cx: &Context<'_>) {
    if cx.mesh.found.contains_key(DOMAIN) {
        return;
    }
    let kinds =
        ["MeshTLSAuthentication", "AuthorizationPolicy", "ServerAuthorization", "HTTPLocalRateLimitPolicy"];
    let mut all = kinds.into_iter().flat_map(|kind| cx.all(kind));
    let Some(first) = all.find(|resource| super::is_ours(resource) && names_accounts(resource)) else {
        return;
    };
    first.log.warn(
        "",
        format!(
            "accounts and namespaces are taken for those of the trust domain {USUAL_DOMAIN}, which is Linkerd's own by default"
        ),
        format!("put the ConfigMap {NAME} of Linkerd's namespace into the input, which says it"),
    );
}

/// Whether a resource names accounts or namespaces, and no identities.
fn names_accounts(resource: &Resource) -> bool {
    let list = |at: &str| resource.value.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let is_account = |reference: &Value| {
        let kind = reference.get("kind").and_then(Value::as_str);
        matches!(kind, None | Some("ServiceAccount" | "Namespace"))
    };
    let accounts = list("/spec/client/meshTLS/serviceAccounts").next().is_some();
    let overridden = list("/spec/overrides").next().is_some();
    let mut references = list("/spec/identityRefs").chain(list("/spec/requiredAuthenticationRefs"));
    accounts || overridden || references.any(is_account)
}
