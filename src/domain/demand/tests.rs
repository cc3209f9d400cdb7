//! The rules of a demand.

use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp(1_700_000_000_000);

fn subject(n: u8) -> SubjectKey {
    SubjectKey(Pseudonym::from_bytes([n; 16]))
}

fn raise(minute: u32, points: u8, about: Option<u8>) -> Raise {
    let at = START.plus(MINUTE * minute);
    Raise {
        at,
        until: at.plus(MINUTE * 10),
        points,
        about: about.map(subject),
    }
}

fn proved(minute: u32, who: u8) -> DemandChange {
    let proved = Proved {
        subject: subject(who),
        at: START.plus(MINUTE * minute),
    };
    DemandChange::Proved(proved, proved.at.plus(MINUTE * 10))
}

fn after(changes: &[DemandChange]) -> Demand {
    changes
        .iter()
        .fold(None, |demand, change| Some(change.apply(demand)))
        .unwrap()
}

fn at(minute: u32) -> Timestamp {
    START.plus(MINUTE * minute)
}

#[test]
fn a_demand_holds_until_its_end() {
    let demand = after(&[DemandChange::Raised(raise(0, 40, None))]);
    assert!(demand.is_outstanding(at(9)) && !demand.is_outstanding(at(10)));
}

#[test]
fn the_maximum_of_the_window_counts() {
    let demand = after(&[
        DemandChange::Raised(raise(0, 90, None)),
        DemandChange::Raised(raise(5, 31, None)),
    ]);
    assert_eq!((demand.points, demand.until), (90, at(15)));
    // In whatever order they are reported.
    let demand = after(&[
        DemandChange::Raised(raise(5, 31, None)),
        DemandChange::Raised(raise(0, 90, None)),
    ]);
    assert_eq!(
        (demand.points, demand.until, demand.at),
        (90, at(15), at(5))
    );
    // What has ended does not count.
    let demand = after(&[
        DemandChange::Raised(raise(0, 90, None)),
        DemandChange::Raised(raise(10, 31, None)),
    ]);
    assert_eq!(demand.points, 31);
}

#[test]
fn a_proof_meets_what_was_raised_before_it_and_nothing_later() {
    let raised = DemandChange::Raised(raise(5, 40, Some(1)));
    assert!(!after(&[raised, proved(5, 1)]).is_outstanding(at(5)));
    // Within the skew of two clocks, and beyond it.
    assert!(!after(&[raised, proved(4, 1)]).is_outstanding(at(5)));
    assert!(after(&[raised, proved(3, 1)]).is_outstanding(at(5)));
    let again = DemandChange::Raised(raise(8, 40, Some(1)));
    assert!(after(&[raised, proved(6, 1), again]).is_outstanding(at(8)));
    // A proof that was on its way for long does not remove a later demand.
    assert!(after(&[raised, again, proved(6, 1)]).is_outstanding(at(8)));
}

#[test]
fn only_the_proof_of_the_same_user_counts() {
    let raised = DemandChange::Raised(raise(0, 40, Some(1)));
    assert!(after(&[raised, proved(1, 2)]).is_outstanding(at(1)));
    let nobody = DemandChange::Raised(raise(0, 40, None));
    assert!(!after(&[nobody, proved(1, 2)]).is_outstanding(at(1)));
    let other = DemandChange::Raised(raise(0, 40, Some(2)));
    for proofs in [proved(1, 1), proved(1, 2)] {
        assert!(after(&[raised, other, proofs]).is_outstanding(at(1)));
    }
    // Who comes after somebody who has met theirs owes only their own.
    let later = DemandChange::Raised(raise(2, 40, Some(2)));
    let demand = after(&[raised, proved(1, 1), later]);
    assert_eq!(demand.about, About::One(subject(2)));
    assert!(!after(&[raised, proved(1, 1), later, proved(2, 2)]).is_outstanding(at(2)));
}

#[test]
fn challenges_and_failed_proofs_are_counted() {
    let challenged = |minute| DemandChange::Challenged(raise(minute, 40, Some(1)));
    let demand = after(&[challenged(0), challenged(1), challenged(2)]);
    assert_eq!(demand.challenges_at(at(3)), 3);
    assert_eq!(demand.challenges_at(at(10)), 0);
    let demand = after(&[challenged(0), challenged(8), challenged(11)]);
    assert_eq!(demand.challenges_at(at(11)), 1);
    let failed = DemandChange::ProofFailed(raise(1, 40, Some(1)));
    let demand = after(&[challenged(0), failed, failed]);
    assert_eq!((demand.failed, demand.is_outstanding(at(1))), (2, true));
    assert_eq!(after(&[challenged(0), failed, proved(2, 1)]).failed, 0);
}

#[test]
fn a_copy_of_before_the_proof_is_met_by_it() {
    let copy = after(&[DemandChange::Raised(raise(0, 40, Some(1)))]);
    let alone = after(&[proved(1, 1)]);
    assert!(!copy.merged(&alone).is_outstanding(at(1)));
    assert!(!alone.merged(&copy).is_outstanding(at(1)));
    let other = after(&[proved(1, 2)]);
    assert!(copy.merged(&other).is_outstanding(at(1)));
}

fn any_change() -> impl Strategy<Value = DemandChange> {
    (0..4_u8, 0..12_u32, 0..100_u8, proptest::option::of(1..3_u8)).prop_map(
        |(kind, minute, points, about)| match kind {
            0 => DemandChange::Raised(raise(minute, points, about)),
            1 => DemandChange::Challenged(raise(minute, points, about)),
            2 => DemandChange::ProofFailed(raise(minute, points, about)),
            _ => proved(minute, about.unwrap_or(1)),
        },
    )
}

proptest! {
    #[test]
    fn merging_never_forgets_what_no_proof_meets(
        one in proptest::collection::vec(any_change(), 1..6),
        other in proptest::collection::vec(any_change(), 1..6),
        minute in 0..20_u32,
    ) {
        let (one, other) = (after(&one), after(&other));
        let merged = one.merged(&other);
        prop_assert_eq!(one.merged(&one), one);
        let now = at(minute);
        prop_assert_eq!(merged.is_outstanding(now), other.merged(&one).is_outstanding(now));
        for (demand, known) in [(one, other), (other, one)] {
            let met_elsewhere = known.proved.is_some_and(|proof| demand.is_met_by(&proof));
            if demand.is_outstanding(now) && !met_elsewhere {
                prop_assert!(merged.is_outstanding(now), "{:?} and {:?} gave {:?}", one, other, merged);
                prop_assert!(merged.points >= demand.points);
            }
        }
        prop_assert!(merged.challenges_at(now) >= one.challenges_at(now).min(other.challenges_at(now)));
    }
}
