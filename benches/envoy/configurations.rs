//! What is measured: how Envoy is configured each time, and what it has to answer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::native;
use crate::policies::{self, Metrics};
use crate::requests::{Paths, Tokens, Traffic};
use crate::support::envoy;

/// So many tokens that no limit is reached.
const PLENTY: u32 = 1_000_000_000;
/// So few that one is.
const FEW: u32 = 2;

/// Which table a configuration is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Everything at once.
    Chain,
    /// Each policy alone.
    Alone,
    /// Many `http` entries.
    Entries,
    /// Many entries, each for another host.
    Hosts,
    /// Many authorization rules.
    Rules,
    /// Two workers.
    Workers,
    /// Many request headers.
    Headers,
}

/// What a probe must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// 200 from any upstream.
    Good,
    /// The subject of the token is what the upstream gets, and not the token.
    Identified,
    /// The second upstream, by a header.
    Canary,
    NoToken,
    BadToken,
    NoRole,
    NoSuchService,
    Faulty,
}

/// One way to configure Envoy.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub name: String,
    /// What it is called in the tables.
    pub title: String,
    pub group: Group,
    pub workers: u32,
    pub filters: Vec<Value>,
    /// The same with limits of so few tokens that the third request is refused; `None` where there is no limit.
    pub limited: Option<Vec<Value>>,
    pub routes: Vec<Value>,
    /// In place of one with these routes for every host.
    pub virtual_hosts: Option<Vec<Value>>,
    /// What Envoy itself does at a request's end.
    pub access_log: Vec<Value>,
    pub traffic: Traffic,
    /// What is subtracted from it.
    pub bare: String,
    /// Which of Envoy's own it stands beside.
    pub native: Option<String>,
    pub probes: Vec<Probe>,
}

/// The modules that are measured.
pub struct Modules {
    pub meshfilter: PathBuf,
    pub empty: PathBuf,
}

use Probe::{BadToken, Canary, Faulty, Good, Identified, NoRole, NoSuchService, NoToken};

const CHAIN_PROBES: [Probe; 7] = [Good, Identified, Canary, NoToken, BadToken, NoRole, Faulty];

/// All of them.
pub fn all(modules: &Modules) -> Vec<Configuration> {
    let mut all = chain(modules);
    all.extend(alone(modules));
    for count in [10, 100, 1000] {
        all.extend(many(modules, count));
    }
    for count in [10, 1000] {
        all.extend(hosts(modules, count));
    }
    all.extend(variants(modules));
    all
}

impl Configuration {
    pub fn bare() -> Self {
        Configuration {
            name: "bare".to_owned(),
            title: "bare Envoy".to_owned(),
            group: Group::Chain,
            workers: 1,
            filters: Vec::new(),
            limited: None,
            routes: native::plain_route(),
            virtual_hosts: None,
            access_log: Vec::new(),
            traffic: Traffic::USUAL,
            bare: "bare".to_owned(),
            native: None,
            probes: vec![Good],
        }
    }

    fn new(name: &str, title: &str, filters: Vec<Value>, probes: &[Probe]) -> Self {
        Configuration {
            name: name.to_owned(),
            title: title.to_owned(),
            filters,
            probes: probes.to_vec(),
            ..Self::bare()
        }
    }

    fn ours(modules: &Modules, name: &str, title: &str, document: &Value, probes: &[Probe]) -> Self {
        let filters = vec![policies::meshfilter(&modules.meshfilter, document)];
        Configuration { routes: policies::routes(), ..Self::new(name, title, filters, probes) }
    }

    /// The same with another build of the module; `None` where there is no module, or a build was put in already.
    pub fn with_module(&self, module: &Path, name: &str, other: &Path) -> Option<Self> {
        let filters = |filters: &[Value]| {
            let mut filters = filters.to_vec();
            let mut found = false;
            for filter in &mut filters {
                if let Some(code) = filter.pointer_mut("/typed_config/config/vm_config/code/local/filename")
                    && code.as_str().map(Path::new) == Some(module)
                {
                    *code = Value::from(other.to_string_lossy());
                    // A build for Envoy's own address space.
                    if other.extension().is_some_and(|extension| extension == "so") {
                        filter["typed_config"] =
                            envoy::native::filter(&filter["typed_config"]["config"], other);
                    }
                    found = true;
                }
            }
            found.then_some(filters)
        };
        Some(Configuration {
            name: format!("{}@{name}", self.name),
            title: format!("{}, {name}", self.title),
            filters: filters(&self.filters)?,
            limited: self.limited.as_deref().and_then(filters),
            ..self.clone()
        })
    }

    fn beside(mut self, native: &str) -> Self {
        self.native = Some(native.to_owned());
        self
    }
}

fn native_chain(cached: bool, tokens: u32) -> Vec<Value> {
    vec![
        native::jwt_authn(cached),
        native::rbac(),
        native::fault(),
        native::local_ratelimit(tokens),
        native::header_to_metadata(),
    ]
}

fn tuned() -> Configuration {
    Configuration {
        limited: Some(native_chain(true, FEW)),
        routes: native::routes(),
        ..Configuration::new(
            "native-tuned",
            "native filters, tuned",
            native_chain(true, PLENTY),
            &CHAIN_PROBES,
        )
    }
}

/// The same, and what meshfilter's telemetry tells about every request.
fn tuned_and_metrics() -> Configuration {
    Configuration {
        name: "native-metrics".to_owned(),
        title: "native filters, tuned, and metrics".to_owned(),
        access_log: vec![native::metrics()],
        ..tuned()
    }
}

fn default() -> Configuration {
    Configuration {
        limited: Some(native_chain(false, FEW)),
        filters: native_chain(false, PLENTY),
        name: "native-default".to_owned(),
        title: "native filters, as they come".to_owned(),
        ..tuned()
    }
}

/// What stands in documents beside what the native filters do.
#[derive(Clone, Copy)]
struct Kind {
    suffix: &'static str,
    title: &'static str,
    metrics: Metrics,
    native: &'static str,
}

/// What the tuned filters do, and no more.
const LIKE: Kind =
    Kind { suffix: "-like", title: ", like for like", metrics: Metrics::Cheap, native: "native-tuned" };
/// Every request counted and timed.
const FULL: Kind = Kind { suffix: "", title: "", metrics: Metrics::Full, native: "native-metrics" };

fn ours(modules: &Modules, kind: Kind) -> Configuration {
    let filters =
        |tokens| vec![policies::meshfilter(&modules.meshfilter, &policies::chain(tokens, kind.metrics))];
    Configuration {
        limited: Some(filters(FEW)),
        routes: policies::routes(),
        ..named("meshfilter", "meshfilter", kind, filters(PLENTY))
    }
}

/// Routing is left to Envoy, as beside its own filters.
fn filters(modules: &Modules, kind: Kind) -> Configuration {
    let filters =
        |tokens| vec![policies::meshfilter(&modules.meshfilter, &policies::filters(tokens, kind.metrics))];
    Configuration {
        limited: Some(filters(FEW)),
        routes: native::routes(),
        ..named("filters", "meshfilter, routing left to Envoy", kind, filters(PLENTY))
    }
}

fn named(name: &str, title: &str, kind: Kind, filters: Vec<Value>) -> Configuration {
    let Kind { suffix, title: more, .. } = kind;
    Configuration::new(&format!("{name}{suffix}"), &format!("{title}{more}"), filters, &CHAIN_PROBES)
        .beside(kind.native)
}

fn chain(modules: &Modules) -> Vec<Configuration> {
    let new = |configuration: Configuration, native: Option<&str>| Configuration {
        name: format!("{}-new", configuration.name),
        title: format!("{}, every token new", configuration.title),
        traffic: Traffic { tokens: Tokens::New, ..Traffic::USUAL },
        native: native.map(str::to_owned),
        ..configuration
    };
    vec![
        Configuration::bare(),
        Configuration::new("empty", "an empty wasm filter", vec![policies::wasm(&modules.empty)], &[Good]),
        Configuration::ours(modules, "nothing", "meshfilter, an empty document", &json!({}), &[Good]),
        Configuration {
            routes: native::plain_route(),
            ..Configuration::ours(
                modules,
                "nothing-plain",
                "meshfilter, an empty document and a plain route",
                &json!({}),
                &[Good],
            )
        },
        tuned(),
        tuned_and_metrics(),
        default(),
        filters(modules, LIKE),
        filters(modules, FULL),
        ours(modules, LIKE),
        ours(modules, FULL),
        new(tuned(), None),
        new(default(), None),
        new(filters(modules, FULL), Some("native-default-new")),
        new(ours(modules, FULL), Some("native-default-new")),
    ]
}

fn alone(modules: &Modules) -> Vec<Configuration> {
    let identity = [Good, Identified, NoToken, BadToken];
    let own = |name: &str, document: &Value, probes: &[Probe]| {
        let native = format!("native-{name}");
        Configuration::ours(
            modules,
            name,
            &format!("{}, meshfilter", name.replace('-', " ")),
            document,
            probes,
        )
        .beside(&native)
    };
    let native = |name: &str, filter: &str, filters: Vec<Value>, probes: &[Probe]| {
        let title = format!("{}, {filter}", name.replace('-', " "));
        Configuration::new(&format!("native-{name}"), &title, filters, probes)
    };
    let limited = |document: &Value| Some(vec![policies::meshfilter(&modules.meshfilter, document)]);
    let all = vec![
        native("authentication", "jwt_authn with a cache", vec![native::jwt_authn(true)], &identity),
        own("authentication", &policies::authentication(), &identity),
        native("authorization", "rbac", vec![native::rbac()], &[Good, NoRole]),
        own("authorization", &policies::authorization(), &[Good, NoRole]),
        Configuration {
            routes: native::routes(),
            ..native("routing", "Envoy's routes", Vec::new(), &[Good, Canary])
        },
        own("routing", &policies::routing(), &[Good, Canary]),
        native("faults", "fault", vec![native::fault()], &[Good, Faulty]),
        own("faults", &policies::faults(), &[Good, Faulty]),
        Configuration {
            limited: Some(vec![native::local_ratelimit(FEW)]),
            ..native("rate-limits", "local_ratelimit", vec![native::local_ratelimit(PLENTY)], &[Good])
        },
        Configuration {
            limited: limited(&policies::rate_limits(FEW)),
            ..own("rate-limits", &policies::rate_limits(PLENTY), &[Good])
        },
        native("telemetry", "header_to_metadata", vec![native::header_to_metadata()], &[Good]),
        own("telemetry", &policies::telemetry(Metrics::Full), &[Good]),
    ];
    all.into_iter().map(|configuration| Configuration { group: Group::Alone, ..configuration }).collect()
}

/// So many entries, and so many rules.
fn many(modules: &Modules, count: usize) -> [Configuration; 4] {
    let traffic = Traffic { paths: Paths::Services(count), ..Traffic::USUAL };
    let entries = [format!("native-entries-{count}"), format!("entries-{count}")];
    let rules = [format!("native-rules-{count}"), format!("rules-{count}")];
    let titled = |what: &str, whose: &str| format!("{count} {what}, {whose}");
    let own = |names: &[String; 2], title: &str, document: &Value, probes: &[Probe]| {
        Configuration::ours(modules, &names[1], title, document, probes).beside(&names[0])
    };
    [
        Configuration {
            group: Group::Entries,
            traffic,
            routes: native::many_routes(count),
            ..Configuration::new(&entries[0], &titled("entries", "Envoy's routes"), Vec::new(), &[])
        },
        Configuration {
            group: Group::Entries,
            traffic,
            ..own(&entries, &titled("entries", "meshfilter"), &policies::many_entries(count), &[])
        },
        Configuration {
            group: Group::Rules,
            traffic,
            ..Configuration::new(
                &rules[0],
                &titled("rules", "rbac"),
                vec![native::many_rules(count)],
                &[NoSuchService],
            )
        },
        Configuration {
            group: Group::Rules,
            traffic,
            ..own(&rules, &titled("rules", "meshfilter"), &policies::many_rules(count), &[NoSuchService])
        },
    ]
}

/// So many entries, each for a host of its own, beside as many virtual hosts.
fn hosts(modules: &Modules, count: usize) -> [Configuration; 2] {
    let traffic = Traffic { paths: Paths::Hosts(count), ..Traffic::USUAL };
    let (native, own) = (format!("native-hosts-{count}"), format!("hosts-{count}"));
    let title = |whose: &str| format!("{count} hosts, {whose}");
    [
        Configuration {
            group: Group::Hosts,
            traffic,
            virtual_hosts: Some(native::many_hosts(count)),
            ..Configuration::new(&native, &title("Envoy's virtual hosts"), Vec::new(), &[])
        },
        Configuration {
            group: Group::Hosts,
            traffic,
            ..Configuration::ours(modules, &own, &title("meshfilter"), &policies::many_hosts(count), &[])
                .beside(&native)
        },
    ]
}

/// The chain with two workers, and with many headers.
fn variants(modules: &Modules) -> Vec<Configuration> {
    let chains = || [Configuration::bare(), tuned(), ours(modules, FULL).beside("native-tuned")];
    let workers = chains().map(|configuration| Configuration {
        group: Group::Workers,
        workers: 2,
        ..renamed(configuration, "2-workers", "2 workers")
    });
    let headers = chains().map(|configuration| Configuration {
        group: Group::Headers,
        traffic: Traffic { headers: 60, ..Traffic::USUAL },
        ..renamed(configuration, "60-headers", "60 headers")
    });
    workers.into_iter().chain(headers).collect()
}

fn renamed(configuration: Configuration, suffix: &str, what: &str) -> Configuration {
    Configuration {
        name: format!("{}-{suffix}", configuration.name),
        title: format!("{}, {what}", configuration.title),
        bare: format!("{}-{suffix}", configuration.bare),
        native: configuration.native.map(|native| format!("{native}-{suffix}")),
        ..configuration
    }
}
