//! What an analyst decides leaves its record, whatever becomes of the store's answer.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "support/town.rs"]
#[allow(dead_code, reason = "each test binary uses a part of the town")]
mod town;

use crate::town::Town;
use crate::town::keys;
use riskgate::adapters::memory::FaultyStore;
use riskgate::adapters::memory::StoreFault;
use riskgate::domain::ids::Pseudonym;
use riskgate::domain::ids::RequestId;
use riskgate::domain::review::Asker;
use riskgate::domain::review::Bound;
use riskgate::domain::review::HeldLogin;
use riskgate::domain::review::ReviewSettings;
use riskgate::flow::ports::Clock;
use riskgate::flow::ports::QueueChange;
use riskgate::flow::ports::StateError;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;

/// Holds a login: its id.
async fn held(town: &Town, n: u8) -> String {
    let at = town.clock.now();
    let login = HeldLogin {
        id: Pseudonym::from_bytes([n; 16]),
        at,
        expires: at.plus(Duration::from_secs(3600)),
        tenant: "carbon.super".to_owned(),
        client: None,
        application: "demo-web".to_owned(),
        subject: Some(town.user("alice")),
        bound: Bound::Browser(u64::from(n)),
        source: 1,
        known_device: false,
        door: "login".to_owned(),
        score: Some(77),
        reasons: Vec::new(),
        decision_id: RequestId::new("0198".to_owned()),
        country: None,
        network: None,
        ruling: None,
        used: false,
    };
    let id = login.id.to_string();
    let asker = Asker {
        tenant: login.tenant.clone(),
        client: None,
        subject: login.subject,
        bounds: vec![login.bound],
    };
    let change: QueueChange = Arc::new(move |queue| {
        let held = queue.hold(login.clone(), &asker, &ReviewSettings::default());
        held.is_ok()
    });
    town.store.change_review_queue(change).await.unwrap();
    id
}

/// A node whose store can be told to fail, beside a town that holds a login.
async fn away(n: u8) -> (Town, Arc<FaultyStore>, String) {
    let town = Town::new();
    let id = held(&town, n).await;
    let inner = Arc::clone(&town.store) as Arc<dyn StateStore>;
    let store = Arc::new(FaultyStore::new(inner));
    let node = town.beside(Arc::clone(&store) as Arc<dyn StateStore>, &keys(7, None));
    (node, store, id)
}

fn actions(town: &Town) -> Vec<String> {
    let records = town.recorded();
    let actions = records.iter().map(|record| record.action.to_string());
    actions.collect()
}

#[tokio::test(start_paused = true)]
async fn a_word_whose_answer_is_lost_stands_and_leaves_its_record_once() {
    for (n, is_release, action) in [(1, true, "released"), (2, false, "refused")] {
        let (node, store, id) = away(n).await;
        store.set(StoreFault::Unheard(StateError::Timeout));
        let decided = node.flow.decide_review(&id, is_release, "ann", "why").await;
        assert_eq!(decided.unwrap().to_string(), id);
        assert_eq!(actions(&node), [action]);
        let queue = node.store.review_queue().await.unwrap();
        assert!(queue.items()[0].ruling.is_some());
        // The same word again is no other ruling.
        let again = node.flow.decide_review(&id, is_release, "ann", "why").await;
        assert!(again.is_ok());
        assert!(actions(&node).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_to_write_is_followed_until_it_answers() {
    let (node, store, id) = away(3).await;
    // The call before it is in time.
    store.set(StoreFault::Delayed(Duration::from_millis(2_900)));
    let slow = async {
        sleep(Duration::from_millis(2_800)).await;
        store.set(StoreFault::Delayed(Duration::from_secs(20)));
    };
    let refused = node.flow.decide_review(&id, false, "ann", "why");
    let (decided, ()) = tokio::join!(refused, slow);
    assert_eq!(decided.unwrap().to_string(), id);
    assert_eq!(actions(&node), ["refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_word_that_did_not_reach_the_store_leaves_no_record() {
    let (node, store, id) = away(4).await;
    let gone = || StateError::Unavailable("gone".to_owned());
    store.set(StoreFault::Delayed(Duration::from_millis(10)));
    let comes_back = async {
        sleep(Duration::from_millis(5)).await;
        // From the write on.
        store.set(StoreFault::Failing(gone()));
        sleep(Duration::from_secs(20)).await;
        store.set(StoreFault::None);
    };
    let refused = node.flow.decide_review(&id, false, "ann", "why");
    let (decided, ()) = tokio::join!(refused, comes_back);
    assert!(decided.is_err());
    assert!(actions(&node).is_empty());
    let queue = node.store.review_queue().await.unwrap();
    assert!(queue.items()[0].ruling.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_word_that_is_never_answered_is_recorded_as_such() {
    let (node, store, id) = away(5).await;
    store.set(StoreFault::Delayed(Duration::from_millis(10)));
    let goes = async {
        sleep(Duration::from_millis(5)).await;
        store.set(StoreFault::Hanging);
    };
    let begun = Instant::now();
    let refused = node.flow.decide_review(&id, false, "ann", "why");
    let (decided, ()) = tokio::join!(refused, goes);
    assert!(decided.is_err());
    assert!(begun.elapsed() <= Duration::from_secs(70));
    assert_eq!(actions(&node), ["refusal_unanswered"]);
}
