//! Routing, faults and rate limits in a real Envoy: its own filters beside ours in one process, statistics, load.
//!
//! `MESHFILTER_SEED` repeats a run; the seed is printed. `MESHFILTER_LOAD_SECONDS` makes the load last longer.

mod faults;
mod global;
mod keys;
mod limits;
mod load;
mod open;
mod pair;
mod routing;
mod service;
mod statistics;
#[path = "../support/mod.rs"]
mod support;

use support::{http2, random};
