use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::set::Set;

/// The set that this worker wrote last, so that a bucket which nobody else takes from meanwhile is not read again.
///
/// Envoy gives every value that is written to shared data the next number of one sequence, and does not tell which. After a
/// swap that replaced number n, and with no other write in between, it is n + 1. Should somebody else have written,
/// whatever it was, it is another number, and nothing has n + 1 but this worker's own value: the next swap is refused,
/// and the set is read. So a guess is never wrong and taken for right, and buckets stay exact.
#[derive(Debug, Default)]
pub(super) struct LastWrite {
    written: RefCell<Option<Written>>,
    /// How many sets this worker wrote.
    writes: Cell<u64>,
    /// How many guesses in a row were wrong.
    wrong: Cell<u32>,
    /// So many sets are read before the next guess.
    pause: Cell<u32>,
}

#[derive(Debug)]
struct Written {
    key: Rc<str>,
    set: Set,
    cas: u32,
}

/// The longest pause is 2 to the power of this.
const LONGEST_PAUSE: u32 = 6;

impl LastWrite {
    /// What stands under a key if nobody has written since, and the number that it has then.
    pub fn expected(&self, key: &Rc<str>) -> Option<(Set, u32)> {
        if let Some(left) = self.pause.get().checked_sub(1) {
            self.pause.set(left);
            return None;
        }
        let written = self.written.take().filter(|written| written.key == *key)?;
        Some((written.set, written.cas))
    }

    /// How many sets were written so far, for [`LastWrite::wrote`].
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// A set took the place of the value with this number, which was read when `writes` were written.
    pub fn wrote(&self, key: &Rc<str>, set: Set, replaced: u32, writes: u64) {
        if writes == self.writes.get() {
            // The sequence leaves 0 out.
            let cas = replaced.wrapping_add(1).max(1);
            self.written.replace(Some(Written { key: key.clone(), set, cas }));
        }
        self.wrote_something();
    }

    /// Something was written whose number cannot be guessed.
    pub fn wrote_something(&self) {
        self.writes.set(self.writes.get().wrapping_add(1));
    }

    /// Whether the proxy took the swap for a guess.
    pub fn guessed(&self, right: bool) {
        let wrong = if right { 0 } else { self.wrong.get().saturating_add(1).min(LONGEST_PAUSE) };
        self.wrong.set(wrong);
        self.pause.set(if right { 0 } else { 1_u32.checked_shl(wrong).unwrap_or(0) });
    }
}
