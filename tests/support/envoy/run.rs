//! Runs a case through a real Envoy, and holds `explain` to what came of it.

use meshfilter_cli::cases::envoy::{Program, send_all};
use meshfilter_cli::envoy::plugin::Module;

use super::{binary, module, native};
use crate::support::case::Case;
use crate::support::explained::{Explained, Explainer};
use crate::support::native::sent as as_sent;

/// Runs a case; the error has everything that was not as expected, and what Envoy logged.
pub fn run(case: &Case) -> Result<(), String> {
    let module = match native::is_native() {
        true => Module::Native(native::native_module()?),
        false => Module::Wasm(module()?),
    };
    let ran = send_all(case, &Program { envoy: binary()?, module })?;
    // What is for Envoy alone cannot be explained.
    let mut explainer = match case.only {
        None => Some(Explainer::new(case)?),
        Some(_) => None,
    };
    let outcome = ran.outcome(case, |sent| {
        let explained: Option<Explained> =
            explainer.as_mut().map(|explainer| explainer.explain(&as_sent(&sent.request)));
        explained.map(|explained| explained.differences(&sent.exchange)).unwrap_or_default()
    });
    outcome.into_result()
}
