//! What the system says about Envoy's memory. Linux only.

use std::fs;

/// In bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// What is in memory of the whole process.
    pub resident: u64,
    /// What the modules' linear memories have grown to; they never shrink.
    pub linear: u64,
}

impl Memory {
    pub fn of(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = resident.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
        Some(Memory { resident, linear: linear(&maps) })
    }
}

/// V8 reserves gigabytes behind every linear memory, so that nothing can reach beyond it.
const GUARD: u64 = 1 << 31;

/// The sum of the mappings that have such a reservation right behind them.
fn linear(maps: &str) -> u64 {
    let mapping = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?, words.next()?.to_owned()))
    };
    let mappings: Vec<_> = maps.lines().filter_map(mapping).collect();
    let pairs = mappings.windows(2);
    let memories = pairs.filter(|pair| {
        let [(_, end, kind), (start, guard_end, guard)] = pair else { return false };
        end == start && kind.starts_with("rw") && guard.starts_with("---") && guard_end - start >= GUARD
    });
    memories.map(|pair| pair[0].1 - pair[0].0).sum()
}
