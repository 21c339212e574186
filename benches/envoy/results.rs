//! What came out: figures by configuration, and what they say of each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::configurations::{Configuration, Group};
use crate::instructions::Counts;
use crate::measure::Slices;
use crate::resources::{ManyKeys, Start};

/// Where the lowest slice and the tenth percentile lead to ratios further apart, the machine was too noisy to tell.
const APART: f64 = 0.05;
/// Microseconds; less than this is too little to be compared with.
const LITTLE: f64 = 1.0;
/// Instructions; fewer are too few to be compared with.
const FEW: f64 = 1000.0;

/// Everything that a run found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// How often the time of every configuration was measured.
    pub rounds: usize,
    /// Requests of a slice.
    pub slice: usize,
    pub machine: Machine,
    /// Empty where no time was measured.
    pub figures: Vec<Figure>,
    /// Bytes of the module's file.
    pub module: u64,
    pub starts: Vec<Start>,
    pub keys: Option<ManyKeys>,
    pub instructions: Vec<Counts>,
}

/// Where it was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub kernel: String,
    pub envoy: String,
}

/// What a configuration costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub title: String,
    pub group: Group,
    /// Microseconds of processor time for each request in the lowest slice.
    pub lowest: f64,
    /// The same in the slice below which there are a tenth of them.
    pub tenth: f64,
    /// What is subtracted.
    pub bare: String,
    /// Which of Envoy's own it stands beside.
    pub native: Option<String>,
}

/// A ratio of what is added to a bare Envoy.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// From the lowest slices.
    pub lowest: f64,
    /// From the tenth percentiles.
    pub tenth: f64,
}

impl Ratio {
    /// Whether both ways to tell agree.
    pub fn is_steady(self) -> bool {
        (self.tenth / self.lowest - 1.0).abs() <= APART
    }
}

impl Figure {
    /// From a configuration's slices, of which there is at least one.
    pub fn new(configuration: &Configuration, slices: &Slices) -> Option<Self> {
        let mut sorted = slices.get(&configuration.name)?.clone();
        sorted.sort_by(f64::total_cmp);
        let tenth = sorted.len().div_ceil(10) - 1;
        Some(Figure {
            name: configuration.name.clone(),
            title: configuration.title.clone(),
            group: configuration.group,
            lowest: *sorted.first()?,
            tenth: *sorted.get(tenth)?,
            bare: configuration.bare.clone(),
            native: configuration.native.clone(),
        })
    }
}

impl Results {
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// Microseconds that a configuration adds to a bare Envoy.
    pub fn added(&self, name: &str) -> Option<f64> {
        let figure = self.figure(name)?;
        Some(figure.lowest - self.figure(&figure.bare)?.lowest)
    }

    /// How many times as much one adds as another; `None` where the other adds next to nothing.
    pub fn ratio(&self, one: &str, other: &str) -> Option<Ratio> {
        let added = |name: &str, of: fn(&Figure) -> f64| {
            let figure = self.figure(name)?;
            Some(of(figure) - of(self.figure(&figure.bare)?))
        };
        let ratio = |of: fn(&Figure) -> f64| {
            let other = added(other, of).filter(|other| *other >= LITTLE)?;
            Some(added(one, of)? / other)
        };
        Some(Ratio { lowest: ratio(|figure| figure.lowest)?, tenth: ratio(|figure| figure.tenth)? })
    }

    pub fn counts(&self, name: &str) -> Option<&Counts> {
        self.instructions.iter().find(|counts| counts.name == name)
    }

    /// Instructions that a configuration adds to a bare Envoy.
    pub fn more_instructions(&self, name: &str) -> Option<f64> {
        let counts = self.counts(name)?;
        Some(counts.instructions - self.counts(&counts.bare)?.instructions)
    }

    /// How many times as many instructions one adds as another; `None` where the other adds next to none.
    pub fn instruction_ratio(&self, one: &str, other: &str) -> Option<f64> {
        let other = self.more_instructions(other).filter(|other| *other >= FEW)?;
        Some(self.more_instructions(one)? / other)
    }

    /// Bytes of memory that an Envoy has after it was started with so many workers.
    pub fn resident(&self, name: &str, workers: u32) -> Option<u64> {
        let start = self.starts.iter().find(|start| start.name == name && start.workers == workers);
        Some(start?.resident)
    }

    /// The figures of each group, in their order.
    pub fn groups(&self) -> BTreeMap<Group, Vec<&Figure>> {
        let mut groups: BTreeMap<Group, Vec<&Figure>> = BTreeMap::new();
        for figure in &self.figures {
            groups.entry(figure.group).or_default().push(figure);
        }
        groups
    }
}

impl Machine {
    pub fn describe(envoy: &std::path::Path) -> Result<Self, String> {
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let information = read("/proc/cpuinfo")?;
        let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let version = std::process::Command::new(envoy).arg("--version").output();
        let version = version.map_err(|error| format!("{}: {error}", envoy.display()))?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let is_number = |part: &&str| {
            part.split('.').count() == 3 && part.starts_with(|first: char| first.is_ascii_digit())
        };
        let number = version.split('/').find(is_number);
        Ok(Machine {
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            envoy: number.unwrap_or("unknown").to_owned(),
        })
    }
}
