//! Matchers that every policy shares. They are compiled with the configuration and work on bytes.

pub mod cidr;
pub mod claim;
pub mod host;
pub mod path;
mod path_template;
pub mod regex;
pub mod string;
mod text_set;
mod truth;

pub use cidr::AddressSet;
pub use claim::ClaimPath;
pub use path_template::PathTemplate;
pub use regex::{ByteMatch, FullMatch, Subject};
pub use string::{Pattern, StringMatch};
pub use text_set::{TextSet, Wildcard};
pub use truth::Truth;
