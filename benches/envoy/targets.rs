//! What this project wants to reach, and whether it does.

use crate::results::Results;

const MEGABYTE: f64 = 1e6;

/// Something that must not be more than it says.
pub struct Target {
    pub what: &'static str,
    pub most: f64,
    pub unit: &'static str,
    /// `None` where it was not measured.
    pub found: Option<Found>,
}

/// What was measured.
#[derive(Clone, Copy)]
pub enum Found {
    /// Of instructions that are added.
    Multiple(f64),
    /// Instructions that are added.
    Instructions(f64),
    Size(f64),
}

impl Target {
    /// Whether it is reached; `None` if nobody knows.
    pub fn holds(&self) -> Option<bool> {
        let (Found::Multiple(found) | Found::Instructions(found) | Found::Size(found)) = self.found?;
        Some(found <= self.most)
    }
}

/// All of them.
pub fn targets(results: &Results) -> Vec<Target> {
    let multiple = |what, most, one, other| Target {
        what,
        most,
        unit: "×",
        found: results.instruction_ratio(one, other).map(Found::Multiple),
    };
    let size =
        |what, most, unit, found: Option<f64>| Target { what, most, unit, found: found.map(Found::Size) };
    let ready = results.starts.iter().find(|start| start.name == "meshfilter" && start.workers == 1);
    vec![
        multiple("like for like, beside the tuned filters", 1.35, "filters-like", "native-tuned"),
        multiple("counting and timing every request, beside them", 1.7, "filters", "native-tuned"),
        multiple(
            "every token new, beside the filters as they come",
            0.95,
            "filters-new",
            "native-default-new",
        ),
        Target {
            what: "an empty document, added instructions",
            most: 26_000.0,
            unit: "",
            found: results.more_instructions("nothing-plain").map(Found::Instructions),
        },
        multiple("1000 authorization rules, beside 10", 1.1, "rules-1000", "rules-10"),
        multiple("1000 hosts, beside 10", 1.1, "hosts-1000", "hosts-10"),
        size("the module's file", 1.2, "MB", Some(results.module as f64 / MEGABYTE)),
        size("ready, with one worker", 500.0, "ms", ready.map(|start| start.ready)),
        size(
            "memory of many keys of a limit",
            16.0,
            "MB",
            results.keys.as_ref().map(|keys| keys.growth as f64 / MEGABYTE),
        ),
    ]
}
