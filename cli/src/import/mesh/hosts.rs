//! Names of hosts: short ones and full ones.

use std::collections::{BTreeMap, BTreeSet};

/// The domain of Kubernetes' services.
pub const DOMAIN: &str = "cluster.local";

/// A service's full name.
pub fn of_service(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{DOMAIN}")
}

/// What a host is in full, named in a namespace: `reviews`, `reviews.default`, `reviews.default.svc`. Names of which nothing is
/// known are full already.
pub fn full(host: &str, namespace: &str, namespaces: &BTreeSet<String>) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.contains('*') || host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [name] => of_service(name, namespace),
        [name, namespace] if namespaces.contains(*namespace) => of_service(name, namespace),
        [name, namespace, "svc"] => of_service(name, namespace),
        _ => host,
    }
}

/// Name and namespace of a service's full name.
pub fn parts(host: &str) -> Option<(&str, &str)> {
    let rest = host.strip_suffix(DOMAIN)?.strip_suffix(".svc.")?;
    let (name, namespace) = rest.split_once('.')?;
    (!name.contains('*') && !namespace.contains('.')).then_some((name, namespace))
}

/// All that a service is called, the shortest first; `short`: also by its name alone.
pub fn names(host: &str, short: bool) -> Vec<String> {
    let Some((name, namespace)) = parts(host) else { return vec![host.to_owned()] };
    let own = short.then(|| name.to_owned());
    let longer = [format!("{name}.{namespace}"), format!("{name}.{namespace}.svc"), host.to_owned()];
    own.into_iter().chain(longer).collect()
}

/// Which hosts are called by their name alone: those of a namespace, and others where nobody else has the name.
pub fn with_short_names<'h>(hosts: impl Iterator<Item = &'h str>, namespace: &str) -> BTreeSet<String> {
    let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for host in hosts {
        if let Some((name, _)) = parts(host) {
            by_name.entry(name).or_default().insert(host);
        }
    }
    let one = |hosts: BTreeSet<&str>| {
        let own = hosts.iter().find(|host| parts(host).is_some_and(|(_, of)| of == namespace));
        own.or_else(|| hosts.first().filter(|_| hosts.len() == 1)).map(|host| (*host).to_owned())
    };
    by_name.into_values().filter_map(one).collect()
}

/// Whether a pattern has a host: `*`, `*.example.com`, or the host itself.
pub fn has(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => pattern == host,
    }
}

/// What two patterns have in common: the more specific one, if it is within the other.
pub fn common<'h>(a: &'h str, b: &'h str) -> Option<&'h str> {
    if has(a, b) {
        Some(b)
    } else if has(b, a) {
        Some(a)
    } else {
        None
    }
}

/// The first part of a host's name, which its short and its full name have in common.
pub fn first(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_the_namespace_they_are_written_in() {
        let namespaces = BTreeSet::from(["shop".to_owned()]);
        for (host, expected) in [
            ("reviews", "reviews.default.svc.cluster.local"),
            ("Reviews.", "reviews.default.svc.cluster.local"),
            ("reviews.shop", "reviews.shop.svc.cluster.local"),
            ("reviews.shop.svc", "reviews.shop.svc.cluster.local"),
            ("reviews.shop.svc.cluster.local", "reviews.shop.svc.cluster.local"),
            ("example.com", "example.com"),
            ("*.shop", "*.shop"),
            ("*", "*"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(full(host, "default", &namespaces), expected, "{host}");
        }
    }

    #[test]
    fn a_service_has_four_names() {
        assert_eq!(names("a.b.svc.cluster.local", true), ["a", "a.b", "a.b.svc", "a.b.svc.cluster.local"]);
        assert_eq!(names("a.example.com", true), ["a.example.com"]);
        let hosts = ["a.b.svc.cluster.local", "a.c.svc.cluster.local", "d.c.svc.cluster.local", "x.com"];
        let short = with_short_names(hosts.into_iter(), "b");
        assert_eq!(Vec::from_iter(short), ["a.b.svc.cluster.local", "d.c.svc.cluster.local"]);
        assert!(with_short_names(hosts.into_iter().take(2), "x").is_empty());
    }

    #[test]
    fn patterns_have_hosts_in_common() {
        for (a, b, expected) in [
            ("*", "a.com", Some("a.com")),
            ("*.a.com", "b.a.com", Some("b.a.com")),
            ("*.a.com", "a.com", None),
            ("*.a.com", "*.b.a.com", Some("*.b.a.com")),
            ("a.com", "*", Some("a.com")),
            ("a.com", "b.com", None),
        ] {
            assert_eq!(common(a, b), expected, "{a} {b}");
        }
    }
}
