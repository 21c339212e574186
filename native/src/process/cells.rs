use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use meshfilter::host::SharedCell;

use super::lock;

/// The cells of the process, by their names. A policy asks for one when it is compiled, and keeps it: a request looks for none.
/// There are as many as documents have ever named, so that one which comes back finds what was taken.
pub struct Cells(Mutex<BTreeMap<String, Arc<SharedCell>>>);

impl Cells {
    pub const fn new() -> Self {
        Cells(Mutex::new(BTreeMap::new()))
    }

    /// The cell of this name.
    pub fn cell(&self, name: &str) -> Arc<SharedCell> {
        lock(&self.0).entry(name.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_a_name_gets_the_same_cell() {
        let cells = Cells::new();
        lock(&cells.cell("a"))[0] = 7;
        assert_eq!(*lock(&cells.cell("a")), [7, 0, 0, 0]);
        assert_eq!(*lock(&cells.cell("b")), [0; 4]);
    }
}
