//! A mesh → a policy document and an Envoy.

pub mod envoy;
pub mod policy;
