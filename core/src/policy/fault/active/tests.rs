use super::*;
use crate::host::fake::Fake;

const SECOND: u64 = 1_000_000_000;

fn places(limit: u32) -> ActiveFaults {
    ActiveFaults::new(limit, "entry", Duration::from_secs(5))
}

#[test]
fn two_workers_share_the_places_of_an_entry() {
    let host = Fake::new();
    let (one, other) = (places(1), places(1));
    let place = one.enter(&host, host.now() + 5 * SECOND).unwrap();
    assert!(other.enter(&host, host.now() + 5 * SECOND).is_none());
    assert!(other.is_full(&host));
    place.leave(&host);
    assert!(!other.is_full(&host));
    assert!(other.enter(&host, host.now() + 5 * SECOND).is_some());
    let another = ActiveFaults::new(1, "another", Duration::from_secs(5));
    assert!(!another.is_full(&host));
}

#[test]
fn a_crash_does_not_hold_a_place_for_ever_and_a_late_leave_takes_nobody_elses() {
    let host = Fake::new();
    let places = places(1);
    let lost = places.enter(&host, host.now() + 5 * SECOND).unwrap();
    host.advance(Duration::from_secs(14));
    assert!(places.is_full(&host), "the request may still come");
    host.advance(Duration::from_secs(3));
    let next = places.enter(&host, host.now() + 5 * SECOND);
    assert!(next.is_some());
    lost.leave(&host);
    assert!(places.is_full(&host), "the next one's place is its own");
}

#[test]
fn however_many_wait_the_value_stays_small() {
    let host = Fake::new();
    let places = ActiveFaults::new(u32::MAX, "entry", Duration::from_secs(3600));
    let mut held = Vec::new();
    for second in 0..3600 {
        held.extend(places.enter(&host, host.now() + second % 7 * 500 * SECOND));
        host.advance(Duration::from_secs(1));
    }
    let (keys, bytes) = host.shared_data_size();
    assert_eq!(keys, 1);
    assert!(bytes < 400, "{bytes}");
    for place in held {
        place.leave(&host);
    }
    let (bytes, _) = host.shared_data(places.key(&host)).unwrap();
    assert_eq!(total(&read(&bytes, host.now())), 0);
}

#[test]
fn what_cannot_be_read_is_nothing() {
    assert_eq!(read(&[1, 2, 3], 0), []);
    assert_eq!(read(&[0; 12], 0), []);
    let leases = [Leases { end: 5, count: 2 }, Leases { end: 9, count: 1 }];
    assert_eq!(read(&write(&leases), 0), leases);
    assert_eq!(read(&write(&leases), 5), leases[1..]);
}
