//! The queue of held logins and forgetting of devices, as every store keeps to it.

use crate::facts::*;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::WhichDevices;
use riskgate::domain::ids::RequestId;
use riskgate::domain::review::Asker;
use riskgate::domain::review::Bound;
use riskgate::domain::review::HeldLogin;
use riskgate::domain::review::ReviewQueue;
use riskgate::domain::review::ReviewSettings;
use riskgate::domain::review::Ruling;
use riskgate::domain::time::AHEAD_MAX;
use riskgate::flow::ports::QueueChange;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub fn held(n: u64) -> HeldLogin {
    HeldLogin {
        id: pseudonym(n),
        at: START,
        expires: START.plus(DAY),
        tenant: "carbon.super".to_owned(),
        client: Some(subject(1_000)),
        application: "demo-web".to_owned(),
        subject: Some(subject(n)),
        bound: Bound::Browser(hash(n)),
        source: hash(n),
        known_device: false,
        door: "login".to_owned(),
        score: Some(77),
        reasons: vec!["impossible_travel".to_owned()],
        decision_id: RequestId::new("0198".to_owned()),
        country: Some("CH".to_owned()),
        network: Some("tor".to_owned()),
        ruling: None,
        used: false,
    }
}

pub fn hold(login: HeldLogin) -> QueueChange {
    Arc::new(move |queue| {
        let asker = Asker {
            tenant: login.tenant.clone(),
            client: login.client,
            subject: login.subject,
            bounds: vec![login.bound],
        };
        let held = queue.hold(login.clone(), &asker, &ReviewSettings::default());
        held == Ok(login.id)
    })
}

fn released(queue: &mut ReviewQueue, n: u64) -> bool {
    let ruling = Ruling {
        is_release: true,
        at: START.plus(MINUTE),
        operator: "ann".to_owned(),
        reason: "known number".to_owned(),
    };
    queue.rule(&pseudonym(n).to_string(), ruling).is_ok()
}

pub async fn held_logins_are_kept_and_decided(store: Arc<dyn StateStore>) {
    assert_eq!(store.review_queue().await.unwrap(), ReviewQueue::default());
    for n in 0..3 {
        store.change_review_queue(hold(held(n))).await.unwrap();
    }
    let queue = store.review_queue().await.unwrap();
    assert_eq!(queue.items(), [held(0), held(1), held(2)]);
    // Who waits already changes nothing.
    let again = HeldLogin {
        id: pseudonym(9),
        ..held(1)
    };
    let queue = store.change_review_queue(hold(again)).await.unwrap();
    assert_eq!(queue.items().len(), 3);
    let queue = store
        .change_review_queue(Arc::new(|queue| released(queue, 1)))
        .await
        .unwrap();
    assert_eq!(store.review_queue().await.unwrap(), queue);
    let ruling = queue.items()[1].ruling.clone().unwrap();
    assert!(ruling.is_release && ruling.operator == "ann");
    // A change that says that it is none is none.
    let untouched = store
        .change_review_queue(Arc::new(|queue| {
            *queue = ReviewQueue::default();
            false
        }))
        .await;
    drop(untouched);
    assert_eq!(store.review_queue().await.unwrap(), queue);
}

pub async fn a_full_queue_can_be_kept(store: Arc<dyn StateStore>) {
    let mut items = Vec::new();
    for n in 0..riskgate::domain::review::ITEMS_MAX as u64 {
        let mut item = held(n);
        item.application = "a".repeat(riskgate::domain::review::TEXT_MAX);
        item.tenant = "t".repeat(riskgate::domain::review::TEXT_MAX);
        item.reasons = vec!["unfamiliar_device_and_network".to_owned(); 8];
        items.push(item);
    }
    let full = ReviewQueue::from_items(items).unwrap();
    let new = full.clone();
    let change: QueueChange = Arc::new(move |queue| {
        *queue = new.clone();
        true
    });
    store.change_review_queue(change).await.unwrap();
    assert_eq!(store.review_queue().await.unwrap(), full);
}

pub async fn fifty_holds_and_rulings_at_once_are_all_kept(store: Arc<dyn StateStore>) {
    for n in 0..25 {
        store.change_review_queue(hold(held(n))).await.unwrap();
    }
    let ruled = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (store, ruled) = (Arc::clone(&store), Arc::clone(&ruled));
        tasks.spawn(async move {
            if n < 25 {
                let change: QueueChange = Arc::new(move |queue| released(queue, n));
                store.change_review_queue(change).await.unwrap();
                ruled.fetch_add(1, Ordering::Relaxed);
            } else {
                store.change_review_queue(hold(held(n))).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let queue = store.review_queue().await.unwrap();
    assert_eq!(queue.items().len(), 50);
    let released = queue
        .items()
        .iter()
        .filter(|item| item.ruling.is_some())
        .count();
    assert_eq!((released, ruled.load(Ordering::Relaxed)), (25, 25));
}

pub async fn devices_are_forgotten_one_by_one_and_together(store: Arc<dyn StateStore>) {
    let missing = store
        .forget_devices(subject(1), WhichDevices::All, START)
        .await;
    assert!(!missing.unwrap());
    for device in 0..4 {
        let mut one = lesson(1, START.plus(MINUTE * device));
        one.familiarity.device = Some(hash(u64::from(device)));
        store.record(&[learnt(one)]).await.unwrap();
    }
    let devices = || async {
        let query = HistoryQuery {
            subject: Some(subject(1)),
            ..query(1, START.plus(HOUR))
        };
        let profile = store.load(&query).await.unwrap().profile.unwrap();
        let known = (0..4).filter(|n| profile.devices.find(hash(*n)).is_some());
        (known.collect::<Vec<_>>(), profile.forgotten)
    };
    let forget = |which, at| store.forget_devices(subject(1), which, at);
    let now = START.plus(Duration::from_secs(600));
    assert!(forget(WhichDevices::One(hash(2)), now).await.unwrap());
    assert_eq!(devices().await, (vec![0, 1, 3], now));
    let later = now.plus(MINUTE);
    assert!(forget(WhichDevices::AllBut(hash(3)), later).await.unwrap());
    assert_eq!(devices().await, (vec![3], later));
    assert!(forget(WhichDevices::All, later).await.unwrap());
    assert_eq!(devices().await.0, Vec::<u64>::new());
}

pub async fn forgetting_loses_no_lesson(store: Arc<dyn StateStore>) {
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    // All within what clocks of nodes may differ by: tasks overtake one another, and a lesson that is later by more would bring
    // the profile back from a clock that was ahead.
    let moment = |n: u32| START.plus(AHEAD_MAX / 40 * n);
    for n in 1..=40 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let at = moment(n);
            if n % 2 == 0 {
                store.record(&[learnt(lesson(1, at))]).await.unwrap();
            } else {
                let which = WhichDevices::One(hash(u64::from(n) + 500));
                assert!(store.forget_devices(subject(1), which, at).await.unwrap());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let profile = store
        .load(&query(1, START.plus(HOUR)))
        .await
        .unwrap()
        .profile
        .unwrap();
    assert_eq!(profile.successes, 21);
    assert_eq!(profile.forgotten, moment(39));
}
