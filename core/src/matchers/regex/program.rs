//! A compiled expression. Searching takes time in proportion to the expression and to the value, and never more.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{Compiler, Config, WhichCaptures};
use regex_automata::util::captures::Captures;
use regex_automata::util::iter::Searcher;
use regex_automata::{Anchored, Input, PatternID};
use regex_syntax::hir::Hir;

use super::cost;

/// What one compiled expression may take, in bytes; Envoy refuses large programs, too.
const SIZE_LIMIT: usize = 1 << 20;

/// What replacing in one value may take, in states that are looked at: as much as one search through the longest header
/// with the costliest expression. Every replacement is followed by a search of its own, which may look at all of the rest.
const MOST_WORK: usize = cost::MOST_STATES << 16;

/// The longest result of replacing in a value that is not longer, in bytes: more than fits a header.
const MOST_REPLACED: usize = 1 << 16;

/// A compiled expression.
#[derive(Clone)]
pub struct Program(Rc<Engines>);

/// The backtracker is the faster one, and keeps a bit for every state at every byte: it takes values up to a length.
struct Engines {
    backtracker: BoundedBacktracker,
    pike: PikeVM,
    /// The most states that a byte makes them look at.
    cost: usize,
    memory: RefCell<Memory>,
}

/// What searching uses, kept from one search to the next.
#[derive(Default)]
struct Memory {
    backtracker: Option<backtrack::Cache>,
    pike: Option<pikevm::Cache>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl Program {
    /// Compiles an expression, with or without its groups. `anywhere`: a match may begin at every byte.
    ///
    /// # Errors
    /// It is too large, or costs too much.
    pub fn new(expression: &Hir, groups: WhichCaptures, anywhere: bool) -> Result<Self, String> {
        let config = Config::new().utf8(false).nfa_size_limit(Some(SIZE_LIMIT)).which_captures(groups);
        let engines = || {
            let nfa = Compiler::new().configure(config).build_from_hir(expression).ok()?;
            Some((BoundedBacktracker::new_from_nfa(nfa.clone()).ok()?, PikeVM::new_from_nfa(nfa).ok()?))
        };
        let (backtracker, pike) =
            engines().ok_or_else(|| format!("is too large: it takes more than {SIZE_LIMIT} bytes"))?;
        let cost = cost::of(pike.get_nfa(), anywhere).ok_or_else(|| {
            format!(
                "could take longer than 30 ms for a long header: a byte makes the proxy look at more than {} states; \
                 repeat fewer times, or say more exactly what is repeated",
                cost::MOST_STATES
            )
        })?;
        Ok(Program(Rc::new(Engines { backtracker, pike, cost, memory: RefCell::default() })))
    }

    /// Whether both are searched in no more time than one may take.
    pub fn is_cheap_beside(&self, other: &Program) -> bool {
        self.0.cost.saturating_add(other.0.cost) <= cost::MOST_STATES
    }

    /// Whether it matches at the beginning.
    pub fn starts(&self, value: &[u8]) -> bool {
        let Engines { backtracker, pike, memory, .. } = &*self.0;
        let input = Input::new(value).anchored(Anchored::Yes).earliest(true);
        let mut memory = memory.borrow_mut();
        let cache = memory.backtracker.get_or_insert_with(|| backtracker.create_cache());
        match backtracker.try_is_match(cache, input.clone()) {
            Ok(is_match) => is_match,
            // Too long for it.
            Err(_) => pike.is_match(memory.pike.get_or_insert_with(|| pike.create_cache()), input),
        }
    }

    /// How many groups it has, the whole match among them.
    pub fn groups(&self) -> usize {
        self.0.pike.get_nfa().group_info().group_len(PatternID::ZERO)
    }

    /// Puts something else in the place of every match. `put` gets the groups, and what it adds to. Nothing, where that
    /// takes too long or gets too long.
    pub fn replace(&self, value: &[u8], put: impl Fn(&Captures, &mut Vec<u8>)) -> Option<Vec<u8>> {
        let Engines { backtracker, pike, cost, memory } = &*self.0;
        let mut memory = memory.borrow_mut();
        let mut groups = backtracker.create_captures();
        let mut matches = Searcher::new(Input::new(value));
        let most_replaced = MOST_REPLACED.max(value.len());
        let mut replaced = Vec::with_capacity(value.len());
        let mut from = 0;
        // The backtracker also clears its bits, which takes the time of a state for some 256 states.
        let cost = cost.saturating_add(pike.get_nfa().states().len() / 256);
        let mut work = Some(MOST_WORK);
        loop {
            let next = matches.advance(|input| {
                let rest = input.get_span().len().saturating_add(1);
                work = work.and_then(|work| work.checked_sub(rest.saturating_mul(cost)));
                if work.is_none() {
                    return Ok(None);
                }
                let cache = memory.backtracker.get_or_insert_with(|| backtracker.create_cache());
                if backtracker.try_captures(cache, input.clone(), &mut groups).is_err() {
                    let cache = memory.pike.get_or_insert_with(|| pike.create_cache());
                    pike.captures(cache, input.clone(), &mut groups);
                }
                Ok(groups.get_match())
            });
            let Some(found) = next else { break };
            replaced.extend_from_slice(value.get(from..found.start()).unwrap_or_default());
            put(&groups, &mut replaced);
            if replaced.len() > most_replaced {
                return None;
            }
            from = found.end();
        }
        work?;
        replaced.extend_from_slice(value.get(from..).unwrap_or_default());
        Some(replaced)
    }
}
