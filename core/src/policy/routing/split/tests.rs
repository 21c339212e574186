use super::*;

fn split(weights: &[u64]) -> Split {
    let sticky = Sticky::new("entry", StickyBy::Header("x".to_owned()));
    let destinations = weights.iter().map(|weight| (Destination::default(), *weight)).collect();
    Split::new(destinations, Some(sticky))
}

/// How much of the circle each pair of arms shares: `moved[a][b]` went from `a` to `b`, as a share.
fn moved(from: &[u64], to: &[u64]) -> Vec<Vec<f64>> {
    let (from, to) = (split(from).arcs, split(to).arcs);
    let arms = from.iter().chain(&to).map(|arc| arc.destination).max().unwrap().saturating_add(1);
    let mut moved = vec![vec![0.0; arms]; arms];
    let (mut start, mut left, mut right) = (0u128, 0, 0);
    while start < CIRCLE {
        let end = from[left].end.min(to[right].end);
        moved[from[left].destination][to[right].destination] +=
            end.saturating_sub(start) as f64 / CIRCLE as f64;
        start = end;
        left = left.saturating_add(usize::from(from[left].end == end));
        right = right.saturating_add(usize::from(to[right].end == end));
    }
    moved
}

fn total_moved(moved: &[Vec<f64>]) -> f64 {
    let cells = moved
        .iter()
        .enumerate()
        .flat_map(|(a, row)| row.iter().enumerate().map(move |(b, share)| (a, b, share)));
    cells.filter(|(a, b, _)| a != b).map(|(_, _, share)| share).sum()
}

/// The least that any division could move: what the arms that grow grow by.
fn least(from: &[u64], to: &[u64]) -> f64 {
    let share = |weights: &[u64], arm: usize| weights[arm] as f64 / weights.iter().sum::<u64>() as f64;
    (0..from.len()).map(|arm| (share(to, arm) - share(from, arm)).max(0.0)).sum()
}

#[test]
fn the_arcs_cover_the_circle_and_have_their_shares() {
    for weights in [
        vec![90, 10],
        vec![0, 1],
        vec![1, 0, 0],
        vec![1, 1, 1],
        vec![80, 15, 5],
        vec![10, 20, 30, 25, 15],
        vec![1; 50],
        vec![0, 0, u32::MAX.into(), 1, 7],
    ] {
        let arcs = split(&weights).arcs;
        let total: u64 = weights.iter().sum();
        let mut sizes = vec![0u128; weights.len()];
        let mut start = 0;
        for arc in &arcs {
            assert!(arc.end > start, "{weights:?}: {arcs:?}");
            sizes[arc.destination] += arc.end - start;
            start = arc.end;
        }
        assert_eq!(start, CIRCLE, "{weights:?}");
        for (size, weight) in sizes.iter().zip(&weights) {
            let (size, share) = (*size as f64 / CIRCLE as f64, *weight as f64 / total as f64);
            assert!((size - share).abs() < 1e-12, "{weights:?}: {size} {share}");
        }
    }
}

#[test]
fn moving_weight_between_the_first_and_another_moves_only_that() {
    for (from, to) in [
        (vec![90, 10], vec![80, 20]),
        (vec![80, 20], vec![90, 10]),
        (vec![100, 0], vec![0, 100]),
        (vec![80, 10, 10], vec![70, 20, 10]),
        (vec![80, 10, 10], vec![70, 10, 20]),
        (vec![50, 30, 20], vec![0, 80, 20]),
        (vec![70, 10, 10, 10], vec![60, 10, 20, 10]),
        (vec![60, 10, 10, 10, 10], vec![50, 20, 10, 10, 10]),
        (vec![80, 20, 0], vec![70, 20, 10]),
    ] {
        let grown = (0..to.len()).find(|arm| to[*arm] > from[*arm]).unwrap();
        let moved = moved(&from, &to);
        for (a, row) in moved.iter().enumerate() {
            for (b, share) in row.iter().enumerate() {
                assert!(a == b || b == grown || *share == 0.0, "{from:?} {to:?}: {a} to {b}: {share}");
            }
        }
        assert!((total_moved(&moved) - least(&from, &to)).abs() < 1e-12, "{from:?} {to:?}");
    }
}

#[test]
fn the_random_number_is_taken_as_envoys_weighted_clusters_do() {
    let split = split(&[30, 0, 30, 40]);
    for (random, arm) in [(0, 0), (29, 0), (30, 2), (59, 2), (60, 3), (99, 3), (100, 0), (u64::MAX, 0)] {
        assert_eq!(split.drawn(random), arm, "{random}");
    }
    assert_eq!(Split::new(Vec::new(), None).drawn(7), 0);
}

#[cfg(not(target_family = "wasm"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The users of a canary that grows at the cost of the rest stay its users, those who move come from the
        /// rest, and the canary has its share of them.
        #[test]
        fn a_canary_grows_at_the_cost_of_the_first(small in 1u64..50, more in 1u64..50, salt: u64) {
            let grown = small.saturating_add(more);
            let (before, after) = (split(&[100u64.saturating_sub(small), small]), split(&[100u64.saturating_sub(grown), grown]));
            let sticky = Sticky::new(&format!("entry {salt}"), StickyBy::Header("x".to_owned()));
            let users = 4_000u32;
            let mut joined = 0u32;
            for user in 0..users {
                let hash = sticky.hash(&user.to_le_bytes());
                match (before.at_hash(hash), after.at_hash(hash)) {
                    (0, 1) => joined = joined.saturating_add(1),
                    (old, new) => prop_assert_eq!(old, new),
                }
            }
            let share = more as f64 / 100.0;
            let sigma = (f64::from(users) * share * (1.0 - share)).sqrt();
            // Five sigma: the case is drawn a few hundred times.
            prop_assert!((f64::from(joined) - f64::from(users) * share).abs() < 5.0 * sigma, "{} joined", joined);
        }

        /// Whatever is moved between two of up to three: never more than twice what must move.
        #[test]
        fn no_move_costs_more_than_twice(a in 0u64..100, b in 0u64..100, c in 1u64..100, by in 0u64..100, which in 0usize..6) {
            let (giver, taker) = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)][which];
            let from = vec![a, b, c];
            let mut to = from.clone();
            let by = by.min(from[giver]);
            to[giver] = to[giver].saturating_sub(by);
            to[taker] = to[taker].saturating_add(by);
            let (moved, least) = (total_moved(&moved(&from, &to)), least(&from, &to));
            prop_assert!(moved <= 2.0 * least + 1e-9, "{:?} {:?}: {} of {}", from, to, moved, least);
            if giver == 0 || taker == 0 {
                prop_assert!(moved <= least + 1e-9, "{:?} {:?}: {} of {}", from, to, moved, least);
            }
        }
    }
}
