//! Routing, faults and rate limits in a real Envoy: its own filters beside ours in one process, statistics, load.
//!
//! `MESHFILTER_SEED` says with which seed; it is always the same otherwise. `MESHFILTER_LOAD_SECONDS` makes the load last longer.

mod blanks;
mod choice;
mod cors;
mod ends;
mod explained;
mod faults;
mod global;
#[path = "../support/grpc.rs"]
mod grpc;
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
