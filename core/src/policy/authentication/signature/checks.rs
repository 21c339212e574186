use std::cell::Cell;

/// What verifying has cost one request so far. The client decides how many tokens it sends and which keys they may be of,
/// so there is an end to it.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    in_module: Cell<u8>,
    on_host: Cell<u8>,
}

/// A PS512 signature costs the module a millisecond.
const MOST_IN_MODULE: u8 = 4;

/// The proxy's own cryptography takes a tenth of one.
const MOST_ON_HOST: u8 = 16;

impl Checks {
    /// Whether one more signature may be checked in the module.
    pub fn in_module(&self) -> bool {
        take(&self.in_module, MOST_IN_MODULE)
    }

    /// Whether the proxy may be asked once more.
    pub fn on_host(&self) -> bool {
        take(&self.on_host, MOST_ON_HOST)
    }
}

fn take(taken: &Cell<u8>, most: u8) -> bool {
    let is_left = taken.get() < most;
    taken.set(taken.get().saturating_add(1));
    is_left
}
