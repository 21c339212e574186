//! What this project wants to reach, and whether it does.

use crate::results::{Ratio, Results};

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
    Ratio(Ratio),
    Size(f64),
}

impl Target {
    /// Whether it is reached; `None` too where the lowest slices and the tenth percentiles do not agree on it.
    pub fn holds(&self) -> Option<bool> {
        let (one, other) = match self.found? {
            Found::Ratio(ratio) => (ratio.lowest, ratio.tenth),
            Found::Size(size) => (size, size),
        };
        let holds = one <= self.most;
        (holds == (other <= self.most)).then_some(holds)
    }
}

/// All of them.
pub fn targets(results: &Results) -> Vec<Target> {
    let ratio = |what, most, one, other| Target {
        what,
        most,
        unit: "×",
        found: results.ratio(one, other).map(Found::Ratio),
    };
    let size = |what, most, bytes: Option<u64>| Target {
        what,
        most,
        unit: "MB",
        found: bytes.map(|bytes| Found::Size(bytes as f64 / MEGABYTE)),
    };
    vec![
        ratio("what native filters do, beside the tuned ones", 0.8, "filters", "native-tuned"),
        ratio("what native filters do, beside them as they come", 0.2, "filters", "native-default"),
        ratio("what native filters do, every token new", 1.15, "filters-new", "native-default-new"),
        ratio("routing, too, beside the tuned ones", 0.8, "meshfilter", "native-tuned"),
        ratio("routing, too, beside them as they come", 0.2, "meshfilter", "native-default"),
        ratio("routing, too, every token new", 1.15, "meshfilter-new", "native-default-new"),
        ratio("1000 entries, beside 10", 1.5, "entries-1000", "entries-10"),
        ratio("1000 authorization rules, beside 10", 1.5, "rules-1000", "rules-10"),
        size("the module's file", 1.3, Some(results.module)),
        size("memory of many keys of a limit", 16.0, results.keys.as_ref().map(|keys| keys.growth)),
    ]
}
