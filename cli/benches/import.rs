//! What an import of 10 000 resources takes, for each kind of mesh: processor time, and the most memory at a time.
//!
//! `cargo bench --profile native -p meshfilter-cli --bench import`

#[path = "../tests/bounds/many.rs"]
mod many;

use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const RESOURCES: usize = 10_000;

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let named = std::env::args().nth(1).filter(|name| many::MESHES.contains(&name.as_str()));
    let Some(name) = named else {
        // The most memory is a process's.
        let own = std::env::current_exe().expect("a program");
        for name in many::MESHES {
            assert!(Command::new(&own).arg(name).status().expect("the program").success());
        }
        return;
    };
    let text = many::mesh(&name, RESOURCES);
    let began = processor();
    let written = many::imported(&text);
    let took = processor() - began;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    println!(
        "{name}: {RESOURCES} resources, {} KiB, became {} KiB in {took:.1?} of processor; the most memory {}",
        text.len() / 1024,
        written / 1024,
        most.trim()
    );
}
