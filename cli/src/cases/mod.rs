//! Cases: policies with requests and what has to come of them. `meshfilter test` runs them, and so do the project's own tests:
//! natively on the fake host and through a real Envoy.

pub mod case;
pub mod check;
#[cfg(not(target_family = "wasm"))]
pub mod envoy;
pub mod lines;
pub mod native;
pub mod outcome;
pub mod sign;
pub mod token;

pub use case::{Case, Only};
pub use outcome::{Outcome, RequestOutcome};

/// The JSON Schema of case files, for editors.
#[cfg(not(target_family = "wasm"))]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(case::File).to_value();
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), "meshfilter case".into());
    }
    schema
}
