//! What matching an expression can cost: how many states are looked at for one byte, whatever the value is.
//!
//! The engine looks at every state that some beginning of the value leads to. Which sets of states those are is found
//! without a value, as one builds a deterministic automaton: from a set to the next by every byte that makes a difference.
//! Where that comes to too many sets, they are taken together, step by step: the bound is then not exact, but never too
//! low. RE2 bounds its program's size instead, which says less: a long list of words is cheap, `.*a.{0,500}b` is not.

use std::collections::HashSet;

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::primitives::StateID;

/// States that are at a byte at the same time, in order.
type Set = Vec<u32>;

/// The most states that a byte may make the engine look at. One takes the module some 15 ns, and the longest header has
/// 60 KiB: 30 ms.
pub(super) const MOST_STATES: usize = 32;

/// How much looking for an exact answer may take, for each state of the expression, and for any answer altogether: states
/// that are looked at.
const EFFORT_FOR_A_STATE: usize = 500;
const MOST_EFFORT: usize = 400_000;

/// The most states that any byte of a value makes the engine look at; none if that is more than [`MOST_STATES`], cannot be
/// told with a little effort, or the expression is very large. `anywhere`: a match may begin at every byte.
pub(super) fn of(nfa: &NFA, anywhere: bool) -> Option<usize> {
    let effort = nfa.states().len().saturating_mul(EFFORT_FOR_A_STATE).min(MOST_EFFORT);
    let exact = Explorer::new(nfa, anywhere).exact(effort);
    let most = exact.or_else(|| Explorer::new(nfa, anywhere).coarse(MOST_EFFORT))?;
    (most <= MOST_STATES).then_some(most)
}

struct Explorer<'a> {
    nfa: &'a NFA,
    anywhere: bool,
    /// One of each class of bytes that the expression does not tell apart.
    bytes: Vec<u8>,
    /// In which round a state was last seen.
    seen: Vec<u32>,
    round: u32,
    /// The states that were looked at, altogether.
    effort: usize,
}

impl<'a> Explorer<'a> {
    fn new(nfa: &'a NFA, anywhere: bool) -> Self {
        let classes = nfa.byte_classes();
        Explorer {
            nfa,
            anywhere,
            bytes: classes.representatives(0..=u8::MAX).filter_map(|unit| unit.as_u8()).collect(),
            seen: vec![0; nfa.states().len()],
            round: 0,
            effort: 0,
        }
    }

    /// Goes from set to set, each by itself. What is found to be more than [`MOST_STATES`] is at least that.
    fn exact(mut self, effort: usize) -> Option<usize> {
        let (first, mut most) = self.close([self.nfa.start_anchored()].into());
        let mut known = HashSet::from([first.clone()]);
        let mut open = vec![first];
        while let Some(set) = open.pop() {
            for index in 0..self.bytes.len() {
                let (next, cost) = self.step(&set, index);
                most = most.max(cost);
                if most > MOST_STATES {
                    return Some(most);
                }
                if self.effort > effort {
                    return None;
                }
                if !next.is_empty() && !known.contains(&next) {
                    known.insert(next.clone());
                    open.push(next);
                }
            }
        }
        Some(most)
    }

    /// Goes from all sets of one step to all of the next, taken together.
    fn coarse(mut self, effort: usize) -> Option<usize> {
        let (mut all, mut most) = self.close([self.nfa.start_anchored()].into());
        let mut known = HashSet::new();
        while known.insert(all.clone()) {
            let mut next = Set::new();
            for index in 0..self.bytes.len() {
                let (mut some, cost) = self.step(&all, index);
                most = most.max(cost);
                if most > MOST_STATES {
                    return Some(most);
                }
                next.append(&mut some);
                if self.effort > effort {
                    return None;
                }
            }
            next.sort_unstable();
            next.dedup();
            all = next;
        }
        Some(most)
    }

    /// Where a byte leads, and how many states are looked at on the way.
    fn step(&mut self, set: &[u32], byte: usize) -> (Set, usize) {
        let Some(byte) = self.bytes.get(byte).copied() else { return Default::default() };
        let states = self.nfa.states();
        let next = set.iter().filter_map(|id| match states.get(*id as usize)? {
            State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
            State::Sparse(sparse) => sparse.matches_byte(byte),
            State::Dense(dense) => dense.matches_byte(byte),
            _ => None,
        });
        let begin = self.anywhere.then(|| self.nfa.start_anchored());
        self.close(next.chain(begin).collect())
    }

    /// All that is reached without a byte. Assertions are taken to hold.
    fn close(&mut self, mut stack: Vec<StateID>) -> (Set, usize) {
        self.round = self.round.saturating_add(1);
        let (mut set, mut cost) = (Set::new(), 0_usize);
        let states = self.nfa.states();
        while let Some(id) = stack.pop() {
            let Some(seen) = self.seen.get_mut(id.as_usize()).filter(|seen| **seen != self.round) else {
                continue;
            };
            *seen = self.round;
            let mut looked_at = 1;
            match states.get(id.as_usize()) {
                Some(State::Union { alternates }) => stack.extend(alternates.iter().rev()),
                Some(State::BinaryUnion { alt1, alt2 }) => stack.extend([*alt2, *alt1]),
                Some(State::Look { next, .. } | State::Capture { next, .. }) => stack.push(*next),
                Some(State::Sparse(sparse)) => {
                    // Its ranges are looked through one by one, and are close together.
                    looked_at = (sparse.transitions.len() / 8).saturating_add(1);
                    set.push(id.as_u32());
                }
                Some(State::ByteRange { .. } | State::Dense(_)) => set.push(id.as_u32()),
                Some(State::Fail | State::Match { .. }) | None => {}
            }
            cost = cost.saturating_add(looked_at);
        }
        self.effort = self.effort.saturating_add(cost).saturating_add(1);
        set.sort_unstable();
        (set, cost)
    }
}
