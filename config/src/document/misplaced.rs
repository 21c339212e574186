//! Words that stand in other products' documents, or elsewhere in this one.

/// What to write in place of a word that is often pasted where it means nothing.
pub fn misplaced(name: &str) -> Option<&'static str> {
    let plain = name.to_ascii_lowercase().replace('_', "");
    Some(match plain.as_str() {
        "presence" => {
            "authentication.requirements say which tokens must stand: [{require: all}] for one of each rule, [{require: any}] for one of them, [{require: optional}] where none may be"
        }
        "providers" => "a provider is a rule in authentication.jwtRules",
        "requires" | "providername" | "requirementmap" | "requirementname" => {
            "which tokens a request needs stands in authentication.requirements, as require and rules"
        }
        "remotejwks" => "use jwksUri and jwksCluster",
        "localjwks" | "inlinestring" => "use jwks, or jwksFromEnvironment",
        "forwardpayloadheader" => "use outputPayloadToHeader",
        "claimtoheaders" => "use outputClaimToHeaders: [{header: x-user, claim: sub}]",
        "forward" => "use forwardOriginalToken",
        "triggerrules" | "excludedpaths" | "includedpaths" => {
            "use authentication.requirements: [{match: [{uri: {prefix: /health}}], require: none}]"
        }
        "selector" | "targetref" | "targetrefs" | "workloadselector" => {
            "a policy is for the proxy that loads it; leave this out"
        }
        "apiversion" | "kind" | "metadata" | "spec" | "status" => {
            "this is a Kubernetes resource; take what stands under its spec"
        }
        _ => return None,
    })
}
