//! Panics where a test wants them, in builds with the feature `panics` alone: a request's header names the place, or a
//! configuration's name, or a variable of the process.

use crate::abi::Filter;
use crate::process::Configuration;

/// In what is done about a stream.
#[cfg(feature = "panics")]
pub fn of_stream(filter: Filter, place: &str) {
    let named = |value: &[u8]| value == place.as_bytes();
    wanted(
        filter.with_header(crate::abi::HeaderMapKind::Request, "x-meshfilter-test-panic", named)
            == Some(true),
        place,
    );
}

/// In what is done about a configuration, or about a stream that has no filter then.
#[cfg(feature = "panics")]
pub fn of_configuration(configuration: &Configuration, place: &str) {
    wanted(configuration.name.strip_prefix(b"panics:") == Some(place.as_bytes()), place);
}

/// In what is done about the process.
#[cfg(feature = "panics")]
pub fn of_process(place: &str) {
    wanted(std::env::var_os("MESHFILTER_TEST_PANIC").is_some_and(|named| named == place), place);
}

#[cfg(feature = "panics")]
#[allow(clippy::panic)]
fn wanted(is_wanted: bool, place: &str) {
    if is_wanted {
        panic!("a test wants a panic in {place}");
    }
}

#[cfg(not(feature = "panics"))]
pub fn of_stream(_: Filter, _: &str) {}

#[cfg(not(feature = "panics"))]
pub fn of_configuration(_: &Configuration, _: &str) {}

#[cfg(not(feature = "panics"))]
pub fn of_process(_: &str) {}
