//! What every store keeps to about demands. The cases are run by the contract.

use crate::contract::load;
use crate::facts::*;
use riskgate::domain::demand::Demand;
use riskgate::domain::demand::DemandChange;
use riskgate::domain::demand::DemandKey;
use riskgate::domain::demand::DemandScope;
use riskgate::domain::demand::Proved;
use riskgate::domain::demand::Raise;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Previous;
use riskgate::domain::history::Renaming;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;

async fn demand_at(store: &Arc<dyn StateStore>, key: DemandKey, now: Timestamp) -> Option<Demand> {
    let asked = HistoryQuery {
        demands: vec![demand_key(DemandScope::Source, 999), key],
        ..query(1, now)
    };
    let history = load(store, &asked).await;
    assert!(history.demands.keys().all(|found| *found == key));
    history.demands.get(&key).copied()
}

pub async fn a_demand_is_kept_until_its_end(store: Arc<dyn StateStore>) {
    for scope in DemandScope::ALL {
        let key = demand_key(scope, 1);
        assert_eq!(demand_at(&store, key, START).await, None);
        let challenged = DemandChange::Challenged(raise(42, START));
        store.record(&[demanded(key, challenged)]).await.unwrap();
        let expected = challenged.apply(None);
        assert_eq!(demand_at(&store, key, START).await, Some(expected));
        let end = START.plus(MINUTE * 10);
        assert_eq!(demand_at(&store, key, end).await, None);
        // Raised again, it lives on; the maximum stays.
        let later = START.plus(MINUTE * 8);
        let again = DemandChange::Challenged(raise(31, later));
        store.record(&[demanded(key, again)]).await.unwrap();
        let demand = demand_at(&store, key, end).await.unwrap();
        assert_eq!((demand.points, demand.challenges_at(end)), (42, 0));
        assert_eq!(demand.challenges_at(later), 2);
        // Other scopes and ids are others.
        let other = demand_key(scope, 2);
        assert_eq!(demand_at(&store, other, START).await, None);
    }
}

pub async fn fifty_at_once_raise_one_demand_to_its_maximum(store: Arc<dyn StateStore>) {
    let key = demand_key(DemandScope::Source, 1);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50_u8 {
        let store = store.clone();
        let change = DemandChange::Challenged(raise(50 - n, START));
        tasks.spawn(async move { store.record(&[demanded(key, change)]).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let demand = demand_at(&store, key, START).await.unwrap();
    assert_eq!((demand.points, demand.challenges), (50, 50));
}

pub async fn a_proof_removes_no_later_demand(store: Arc<dyn StateStore>) {
    let key = demand_key(DemandScope::User, 1);
    let at = |minute| START.plus(MINUTE * minute);
    let proved = |minute| {
        let proved = Proved {
            subject: subject(1),
            at: at(minute),
        };
        demanded(key, DemandChange::Proved(proved, at(minute + 10)))
    };
    let raised = |minute, points| {
        demanded(
            key,
            DemandChange::Raised(Raise {
                until: at(30),
                ..raise(points, at(minute))
            }),
        )
    };
    store.record(&[raised(0, 40)]).await.unwrap();
    store.record(&[proved(1)]).await.unwrap();
    let met = demand_at(&store, key, at(1)).await.unwrap();
    assert!(!met.is_outstanding(at(1)));
    store.record(&[raised(5, 80)]).await.unwrap();
    // The proof of before comes once more, late.
    store.record(&[proved(2)]).await.unwrap();
    let owed = demand_at(&store, key, at(5)).await.unwrap();
    assert!(owed.is_outstanding(at(5)));
    assert_eq!(owed.points, 80);
    store.record(&[proved(6)]).await.unwrap();
    let met = demand_at(&store, key, at(6)).await.unwrap();
    assert!(!met.is_outstanding(at(6)));
}

pub async fn a_demand_under_a_previous_name_is_found(store: Arc<dyn StateStore>) {
    let (before, present) = (
        demand_key(DemandScope::User, 1),
        demand_key(DemandScope::User, 2),
    );
    let change = DemandChange::Raised(raise(42, START));
    store.record(&[demanded(before, change)]).await.unwrap();
    let asked = HistoryQuery {
        demands: vec![present],
        ..query(2, START)
    };
    let previous = HistoryQuery {
        demands: vec![before],
        ..query(1, START)
    };
    let asked = HistoryQuery {
        previous: Some(Previous {
            query: Box::new(previous),
            renaming: Renaming::default()
                .with_subject(subject(1), subject(2))
                .with_demand(before, present),
        }),
        ..asked
    };
    let demand = load(&store, &asked).await.demands[&present];
    let proof = Proved {
        subject: subject(2),
        at: START,
    };
    assert!(demand.is_outstanding(START) && demand.is_met_by(&proof));
}

/// What was raised by a clock that was days ahead is owed, and met by a proof of now; what was met then exempts from nothing.
pub async fn a_demand_of_a_clock_that_was_ahead_is_met_now(store: Arc<dyn StateStore>) {
    let ahead = START.plus(DAY * 3);
    let owed = demand_key(DemandScope::User, 1);
    let met = demand_key(DemandScope::Browser, 2);
    let proved = |key, at: Timestamp| {
        let proved = Proved {
            subject: subject(1),
            at,
        };
        demanded(key, DemandChange::Proved(proved, at.plus(MINUTE * 10)))
    };
    let ahead_of_time = [
        demanded(owed, DemandChange::Challenged(raise(42, ahead))),
        demanded(met, DemandChange::Raised(raise(42, ahead))),
        proved(met, ahead.plus(MINUTE)),
    ]
    .map(|observation| riskgate::domain::history::Observation {
        at: ahead,
        ..observation
    });
    store.record(&ahead_of_time).await.unwrap();
    let demand = demand_at(&store, owed, START).await.unwrap();
    assert!(demand.is_outstanding(START) && demand.until <= START.plus(DAY));
    assert_eq!(demand.challenges_at(START), 0);
    let demand = demand_at(&store, met, START).await;
    assert!(demand.is_none_or(|demand| !demand.is_outstanding(START)));

    let now = START.plus(MINUTE);
    let (raised, proof) = (DemandChange::Raised(raise(50, now)), proved(owed, now));
    store.record(&[demanded(met, raised), proof]).await.unwrap();
    let demand = demand_at(&store, met, now).await.unwrap();
    assert!(demand.is_outstanding(now), "the old proof: {demand:?}");
    let demand = demand_at(&store, owed, now).await.unwrap();
    assert!(!demand.is_outstanding(now), "the new proof: {demand:?}");
}
