//! Clients that ask without end while something else happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Runs so many clients while `during` runs, and one round at least; each calls `round` again and again with a state of
/// its own, and gives it back in the end.
pub fn under_load<S: Send, R>(
    clients: usize,
    state: impl Fn(usize) -> S + Sync,
    round: impl Fn(&mut S) + Sync,
    during: impl FnOnce() -> R,
) -> (R, Vec<S>) {
    let stopped = AtomicBool::new(false);
    let one_client = |number: usize| {
        let mut state = state(number);
        loop {
            round(&mut state);
            if stopped.load(Ordering::Relaxed) {
                return state;
            }
        }
    };
    thread::scope(|scope| {
        let one_client = &one_client;
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || one_client(number))).collect();
        let result = {
            let _stop = Stop(&stopped);
            during()
        };
        (result, threads.into_iter().map(|thread| thread.join().expect("a client")).collect())
    })
}

/// Stops the clients even if what they accompany fails: the scope would wait for them for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
