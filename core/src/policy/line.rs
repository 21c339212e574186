//! The lines of the log that are about a request, in one form: `event=… policy="…" mode=… key=value … request_id="…"`.
//!
//! Nothing of a token, no header's value and no claim goes into one.

use std::fmt;

use super::Mode;
use crate::request::Request;

/// Says at debug what a policy did with a request. `more` has keys and values, texts quoted.
pub fn debug(event: &str, policy: &str, mode: Mode, request: &Request, more: fmt::Arguments<'_>) {
    write(log::Level::Debug, event, policy, mode, request, more);
}

/// Says the same at info.
pub fn info(event: &str, policy: &str, mode: Mode, request: &Request, more: fmt::Arguments<'_>) {
    write(log::Level::Info, event, policy, mode, request, more);
}

fn write(
    level: log::Level,
    event: &str,
    policy: &str,
    mode: Mode,
    request: &Request,
    more: fmt::Arguments<'_>,
) {
    log::log!(
        level,
        "meshfilter: event={event} policy={policy:?} mode={} {more} request_id=\"{}\"",
        mode.as_str(),
        request.header("x-request-id").unwrap_or_default().escape_ascii(),
    );
}
