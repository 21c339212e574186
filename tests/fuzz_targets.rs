//! The fuzz targets without a fuzzer: the kept corpus, and random bytes and mixtures of what the corpus has.

mod support;
#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::repository;

/// The kept inputs of a target.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = repository("fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_target_has_a_corpus_and_it_passes() {
    let mut size = 0;
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name}");
        for input in inputs {
            size += input.len();
            target(&input);
        }
    }
    assert!(size < 1_000_000, "{size} bytes: minimise the corpus");
    let folders = std::fs::read_dir(repository("fuzz/corpus")).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// Pieces of what the target's corpus has, put together anew, with bytes that are in none.
fn mixture(name: &str) -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<Vec<u8>> = corpus(name)
        .iter()
        .flat_map(|input| input.chunks(24).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect();
    let piece = prop_oneof![
        6 => prop::sample::select(pieces),
        1 => vec(any::<u8>(), 0..24),
        1 => prop::sample::select(b"\0\r\n\xff%;,.=&?#\"\\/{}[]:".to_vec()).prop_map(|byte| vec![byte]),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn no_bytes_make_a_target_panic() {
    for (name, target) in targets::TARGETS {
        let mut runner =
            TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
        let strategy = prop_oneof![2 => mixture(name), 1 => vec(any::<u8>(), 0..300)];
        let ran = runner.run(&strategy, |input| {
            target(&input);
            Ok(())
        });
        ran.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
