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

/// A compiled expression.
#[derive(Clone)]
pub struct Program(Rc<Engines>);

/// The backtracker is the faster one, and keeps a bit for every state at every byte: it takes values up to a length.
struct Engines {
    backtracker: BoundedBacktracker,
    pike: PikeVM,
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
            Some(Engines {
                backtracker: BoundedBacktracker::new_from_nfa(nfa.clone()).ok()?,
                pike: PikeVM::new_from_nfa(nfa).ok()?,
                memory: RefCell::default(),
            })
        };
        let engines =
            engines().ok_or_else(|| format!("is too large: it takes more than {SIZE_LIMIT} bytes"))?;
        if !cost::is_bounded(engines.pike.get_nfa(), anywhere) {
            return Err(format!(
                "could take longer than 30 ms for a long header: a byte makes the proxy look at more than {} states; \
                 repeat fewer times, or say more exactly what is repeated",
                cost::MOST_STATES
            ));
        }
        Ok(Program(Rc::new(engines)))
    }

    /// Whether it matches at the beginning.
    pub fn starts(&self, value: &[u8]) -> bool {
        let Engines { backtracker, pike, memory } = &*self.0;
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

    /// Puts something else in the place of every match. `put` gets the groups, and what it adds to.
    pub fn replace(&self, value: &[u8], put: impl Fn(&Captures, &mut Vec<u8>)) -> Vec<u8> {
        let Engines { backtracker, pike, memory } = &*self.0;
        let mut memory = memory.borrow_mut();
        let mut groups = backtracker.create_captures();
        let mut matches = Searcher::new(Input::new(value));
        let mut replaced = Vec::with_capacity(value.len());
        let mut from = 0;
        loop {
            let next = matches.advance(|input| {
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
            from = found.end();
        }
        replaced.extend_from_slice(value.get(from..).unwrap_or_default());
        replaced
    }
}
