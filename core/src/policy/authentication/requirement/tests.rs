use super::*;
use crate::policy::authentication::Status;

const MISSING: Failure = Failure::MISSING;
const EXPIRED: Failure = Failure::Token(Status::JwtExpired);
const FORGED: Failure = Failure::Token(Status::JwtVerificationFail);
const FOREIGN: Failure = Failure::Token(Status::JwtUnknownIssuer);

/// What a rule says in a test.
#[derive(Clone, Copy)]
enum Says {
    Good,
    Bad(Failure),
    Waits(Instant),
}
use Says::{Bad, Good, Waits as Later};

fn evaluate(require: &Require, rules: &[Says]) -> Outcome<usize> {
    require.evaluate(&mut |rule, _| match rules[rule] {
        Good => Outcome::Good(vec![rule]),
        Bad(failure) => Outcome::Failed { failure, rule: Some(rule), found: failure != MISSING },
        Later(deadline) => Outcome::Wait(deadline),
    })
}

fn failure(require: &Require, rules: &[Says]) -> Failure {
    match evaluate(require, rules) {
        Outcome::Failed { failure, .. } => failure,
        other => panic!("{other:?}"),
    }
}

fn any() -> Require {
    Require::Any(vec![Require::Rule(0), Require::Rule(1)])
}

fn all() -> Require {
    Require::All(vec![Require::Rule(0), Require::Rule(1)])
}

fn optional(require: Require) -> Require {
    Require::Optional(Box::new(require))
}

#[test]
fn any_takes_the_first_good_token() {
    assert_eq!(evaluate(&any(), &[Good, Good]), Outcome::Good(vec![0]));
    assert_eq!(evaluate(&any(), &[Bad(EXPIRED), Good]), Outcome::Good(vec![1]));
    assert_eq!(failure(&Require::Any(vec![]), &[]), MISSING);
}

#[test]
fn any_chooses_its_error_as_envoy_does() {
    for (first, second, expected) in [
        (MISSING, MISSING, MISSING),
        (MISSING, FOREIGN, FOREIGN),
        (FOREIGN, MISSING, FOREIGN),
        (FOREIGN, EXPIRED, EXPIRED),
        (EXPIRED, FOREIGN, EXPIRED),
        (EXPIRED, MISSING, EXPIRED),
        (EXPIRED, FORGED, FORGED),
        (FORGED, EXPIRED, EXPIRED),
        (Failure::KEYS, EXPIRED, Failure::KEYS),
        (EXPIRED, Failure::KEYS, Failure::KEYS),
        (Failure::KEYS, MISSING, Failure::KEYS),
    ] {
        assert_eq!(failure(&any(), &[Bad(first), Bad(second)]), expected, "{first:?} {second:?}");
    }
}

#[test]
fn all_needs_each_and_reports_the_first_that_fails() {
    assert_eq!(evaluate(&all(), &[Good, Good]), Outcome::Good(vec![0, 1]));
    assert_eq!(failure(&all(), &[Bad(EXPIRED), Bad(FORGED)]), EXPIRED);
    assert_eq!(failure(&all(), &[Good, Bad(MISSING)]), MISSING);
}

#[test]
fn optional_passes_none_at_all_but_nothing_bad() {
    let nothing = Outcome::Good(vec![]);
    assert_eq!(evaluate(&optional(any()), &[Bad(MISSING), Bad(MISSING)]), nothing);
    assert_eq!(evaluate(&optional(any()), &[Bad(EXPIRED), Good]), Outcome::Good(vec![1]));
    assert_eq!(failure(&optional(any()), &[Bad(EXPIRED), Bad(MISSING)]), EXPIRED);
    assert_eq!(failure(&optional(any()), &[Bad(MISSING), Bad(FOREIGN)]), FOREIGN);
    assert_eq!(evaluate(&optional(all()), &[Bad(MISSING), Bad(MISSING)]), nothing);
    assert_eq!(failure(&optional(all()), &[Good, Bad(MISSING)]), MISSING, "half of them is not none");
    assert_eq!(failure(&optional(all()), &[Bad(MISSING), Bad(EXPIRED)]), MISSING);
}

#[test]
fn permissive_passes_everything_and_keeps_what_is_good() {
    let permissive = Require::Permissive(vec![0, 1]);
    assert_eq!(evaluate(&permissive, &[Good, Good]), Outcome::Good(vec![0, 1]));
    assert_eq!(evaluate(&permissive, &[Bad(FORGED), Good]), Outcome::Good(vec![1]));
    assert_eq!(evaluate(&permissive, &[Bad(Failure::KEYS), Bad(MISSING)]), Outcome::Good(vec![]));
    assert_eq!(evaluate(&permissive, &[Good, Later(5)]), Outcome::Wait(5), "keys are awaited first");
}

#[test]
fn trees_drop_what_a_failed_branch_accepted() {
    let tree = Require::Any(vec![all(), Require::Rule(2)]);
    assert_eq!(evaluate(&tree, &[Good, Bad(EXPIRED), Good]), Outcome::Good(vec![2]));
    assert_eq!(evaluate(&tree, &[Good, Good, Bad(EXPIRED)]), Outcome::Good(vec![0, 1]));
    assert_eq!(failure(&tree, &[Good, Bad(MISSING), Bad(MISSING)]), MISSING);
    let tree = Require::All(vec![optional(Require::Rule(0)), Require::Permissive(vec![1])]);
    assert_eq!(evaluate(&tree, &[Bad(MISSING), Bad(EXPIRED)]), Outcome::Good(vec![]));
    assert_eq!(evaluate(&Require::None, &[]), Outcome::Good(vec![]));
}

#[test]
fn nothing_is_combined_before_every_key_set_is_known() {
    for require in [any(), all(), optional(any()), Require::Permissive(vec![0, 1])] {
        for rules in [[Later(9), Later(7)], [Later(7), Good], [Later(7), Bad(MISSING)]] {
            assert_eq!(evaluate(&require, &rules), Outcome::Wait(7), "{require:?}");
        }
    }
    assert_eq!(evaluate(&all(), &[Bad(EXPIRED), Later(7)]), Outcome::Wait(7));
    assert_eq!(evaluate(&any(), &[Good, Later(7)]), Outcome::Good(vec![0]), "it is not even asked");
}
