//! Matchers that every policy shares. They are compiled with the configuration and work on bytes.

pub mod claim;
pub mod http;
pub mod regex;
pub mod string;

pub use claim::ClaimPath;
pub use http::HttpMatch;
pub use regex::FullMatch;
pub use string::{Pattern, StringMatch};
