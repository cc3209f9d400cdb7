//! What every store keeps to about the scopes of applications. The cases are run by the contract.

use crate::contract::load;
use crate::facts::*;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Observation;
use riskgate::domain::history::PROFILE_TTL;
use riskgate::domain::history::ScopeUsage;
use riskgate::domain::history::ScopeUse;
use riskgate::domain::history::scopes::Bearers;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;

pub fn used(client: SubjectKey, bearers: Bearers, at: Timestamp) -> Observation {
    let mut used = ScopeUse::new(client, "app", "carbon.super", bearers, at).unwrap();
    used.grant(["read", "write"].into_iter(), at);
    used.take(["read"].into_iter(), at);
    Observation {
        at,
        scopes: vec![used],
        ..Observation::default()
    }
}

async fn usage_at(
    store: &Arc<dyn StateStore>,
    client: SubjectKey,
    now: Timestamp,
) -> Option<ScopeUsage> {
    load(store, &HistoryQuery::of_scopes(client, now))
        .await
        .scopes
}

pub async fn scopes_are_summed_up_for_each_client(store: Arc<dyn StateStore>) {
    let (one, other) = (subject(1_000), subject(1_001));
    assert_eq!(usage_at(&store, one, START).await, None);
    let later = START.plus(DAY);
    let batch = [
        used(one, Bearers::Users, START),
        used(one, Bearers::Users, later),
        used(one, Bearers::Itself, later),
        used(other, Bearers::Users, later),
    ];
    store.record(&batch[..1]).await.unwrap();
    store.record(&batch[1..]).await.unwrap();
    let usage = usage_at(&store, one, later).await.unwrap();
    assert_eq!((usage.client_id.as_str(), usage.last), ("app", later));
    assert_eq!((usage.users.tokens, usage.users.since), (2, START));
    let read = usage.users.scopes["read"];
    assert_eq!((read.granted, read.used, read.last_used), (2, 2, later));
    assert_eq!(usage.users.scopes["write"].used, 0);
    assert_eq!(usage.itself.tokens, 1);
    assert_eq!(
        usage_at(&store, other, later).await.unwrap().users.tokens,
        1
    );
    // They are asked for by name, and end like a profile.
    assert_eq!(load(&store, &query(1, later)).await.scopes, None);
    assert_eq!(usage_at(&store, one, later.plus(PROFILE_TTL)).await, None);
}

pub async fn scopes_that_many_nodes_write_are_all_counted(store: Arc<dyn StateStore>) {
    let client = subject(1_000);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store
                .record(&[used(client, Bearers::Users, START)])
                .await
                .unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let usage = usage_at(&store, client, START).await.unwrap();
    assert_eq!(usage.users.tokens, 40);
    assert_eq!(usage.users.scopes["read"].granted, 40);
}
