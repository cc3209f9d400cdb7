//! Names, lifetimes and arithmetic of the entries.

use super::*;

const HOUR_MS: i64 = 3_600_000;

#[test]
fn merging_in_any_order_gives_the_same_counts() {
    let early = Rates::new(Timestamp(0), [8.0, 0.0, 0.0, 0.0]);
    let late = Rates::new(Timestamp(60_000), [1.0, 0.0, 0.0, 0.0]);
    let one = early.merged(Kind::Prefix, &late);
    let other = late.merged(Kind::Prefix, &early);
    assert_eq!(one.at(), Timestamp(60_000));
    assert!((one.values()[0] - other.values()[0]).abs() < 1e-5);
    assert!((early.decayed_to(Kind::Prefix, Timestamp(HOUR_MS))[0] - 4.0).abs() < 1e-5);
}

#[test]
fn counters_from_a_clock_that_ran_ahead_are_brought_back() {
    let ahead = Rates::new(Timestamp(365 * 24 * HOUR_MS), [5.0; RATES_MAX]);
    let now = Rates::new(Timestamp(1_000), [1.0, 1.0, 0.0, 0.0]);
    let merged = ahead.merged(Kind::Agent, &now);
    assert_eq!(merged, Rates::new(Timestamp(1_000), [6.0, 6.0, 5.0, 5.0]));
}

/// They must not stand still for those who read them either, since of a user only failures are counted.
#[test]
fn counters_from_a_clock_that_ran_ahead_fade_with_their_distance() {
    const WEEK: i64 = 7 * 24 * HOUR_MS;
    let failed = Rates::new(Timestamp(WEEK), [5.0, 5.0, 0.0, 0.0]);
    let [minutes, day, ..] = failed.decayed_to(Kind::Subject, Timestamp(0));
    assert!(minutes < 0.01 && day < 0.05, "{minutes} {day}");
    // Between nodes whose clocks are not quite the same they count as they are.
    let near = Timestamp(WEEK - 540_000);
    assert_eq!(failed.decayed_to(Kind::Subject, near)[..2], [5.0, 5.0]);
}

#[test]
fn counters_survive_their_encoding() {
    let counts = |kind: &Kind| !kind.half_lives().is_empty();
    for kind in Kind::ALL.into_iter().filter(counts) {
        let mut values = [0.0; RATES_MAX];
        for (i, _) in kind.half_lives().iter().enumerate() {
            values[i] = i as f32 + 0.5;
        }
        let rates = Rates::new(Timestamp(1_700_000_000_123), values);
        assert_eq!(
            Rates::decode(kind, &rates.encode(kind)),
            Some(rates),
            "{kind:?}"
        );
    }
}

#[test]
fn hostile_counters_read_as_missing() {
    let good = Rates::new(Timestamp(5), [1.0, 2.0, 3.0, 0.0]).encode(Kind::Address);
    for cut in 0..good.len() {
        assert_eq!(Rates::decode(Kind::Address, &good[..cut]), None);
    }
    for (place, bytes) in [
        (9, f32::NAN.to_le_bytes()),
        (9, (-1f32).to_le_bytes()),
        (13, f32::INFINITY.to_le_bytes()),
        (0, [9; 4]),
    ] {
        let mut bad = good.clone();
        bad[place..place + 4].copy_from_slice(&bytes);
        assert_eq!(
            Rates::decode(Kind::Address, &bad),
            None,
            "{place} {bytes:?}"
        );
    }
    let mut bad = good;
    bad[1..9].copy_from_slice(&f64::NAN.to_le_bytes());
    assert_eq!(Rates::decode(Kind::Address, &bad), None);
}

#[test]
fn a_few_values_are_counted_one_by_one() {
    let mut bytes = vec![SCHEMA];
    bytes.extend_from_slice(&10.0_f64.to_le_bytes());
    bytes.push(2);
    for value in [1_u32, 2, 2, 3, 4] {
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    let expected = WindowCounts {
        epoch: 10,
        current: 3.0,
        both: 4.0,
    };
    assert_eq!(WindowCounts::decode(&bytes), Some(expected));
    let few = FewWindows::decode(&bytes).unwrap();
    assert_eq!(few.previous, [1 << 32, 2 << 32]);
    for cut in [0, 5, 9, 12, 15, 29] {
        assert_eq!(WindowCounts::decode(&bytes[..cut]), None, "{cut}");
    }
    bytes[9] = 200;
    assert_eq!(WindowCounts::decode(&bytes), None);
}

#[test]
fn addresses_without_failures_are_forgotten_sooner() {
    let quiet = Rates::new(Timestamp(0), [0.0, 0.0, 5.0, 0.0]);
    let loud = Rates::new(Timestamp(0), [0.0, 1.0, 5.0, 0.0]);
    assert_eq!(quiet.ttl(Kind::Address), DAY);
    assert_eq!(loud.ttl(Kind::Address), DAY * 10);
    let failed = Rates::new(Timestamp(0), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(failed.ttl(Kind::Subject), DAY * 10);
    assert_eq!(failed.ttl(Kind::Prefix), HOUR * 10);
}

#[test]
fn a_window_slides_over_its_two_buckets() {
    let counts = WindowCounts {
        epoch: 10,
        current: 4.0,
        both: 10.0,
    };
    let at = |part: f32| Timestamp(10 * HOUR_MS + (part * HOUR_MS as f32) as i64);
    assert!((counts.estimate(Kind::Users, at(0.0)) - 10.0).abs() < 1e-3);
    assert!((counts.estimate(Kind::Users, at(0.5)) - 7.0).abs() < 1e-3);
    assert!((counts.estimate(Kind::Users, at(1.5)) - 2.0).abs() < 1e-3);
    assert_eq!(counts.estimate(Kind::Users, at(2.5)), 0.0);
    assert_eq!(counts.estimate(Kind::Users, at(-5.0)), 10.0);
}
