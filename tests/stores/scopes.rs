//! What every store keeps to about the scopes of applications. The cases are run by the contract.

use crate::contract::load;
use crate::facts::*;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Observation;
use riskgate::domain::history::PROFILE_TTL;
use riskgate::domain::history::ScopeUsage;
use riskgate::domain::history::ScopeUse;
use riskgate::domain::history::scopes::Bearers;
use riskgate::domain::history::scopes::CLIENT_SCOPES_MAX;
use riskgate::domain::history::scopes::GROUP_SCOPES_MAX;
use riskgate::domain::history::scopes::GROUPS_MAX;
use riskgate::domain::history::scopes::Groups;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;

fn in_group(name: &str) -> Groups {
    Groups::of(std::iter::once(&serde_json::json!(name)))
}

pub fn used(client: SubjectKey, bearers: Bearers, at: Timestamp) -> Observation {
    let mut used = ScopeUse::new(client, "app", "carbon.super", bearers, at).unwrap();
    used.grant(["read", "write"].into_iter(), &in_group("staff"), at);
    used.take(["read"].into_iter(), &in_group("staff"), at);
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
    let staff = &usage.further.groups["staff"];
    assert_eq!((staff.tokens, staff.scopes["read"].used), (2, 2));
    assert_eq!(usage.further.groups.len(), 1);
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

/// As many names as are kept, each as long as it may be, and more of them: what is kept stays within its bound and whole.
pub async fn scopes_of_more_groups_than_are_kept_are_bounded(store: Arc<dyn StateStore>) {
    let client = subject(1_000);
    let name = |kind: &str, number: usize| format!("{kind}-{number:0>90}");
    let scopes: Vec<String> = (0..2 * CLIENT_SCOPES_MAX)
        .map(|number| name("scope", number))
        .collect();
    let later = START.plus(DAY);
    for group in 0..2 * GROUPS_MAX {
        let mut used = ScopeUse::new(client, "app", "carbon.super", Bearers::Users, later).unwrap();
        let group = in_group(&name("group", group));
        let mut itself =
            ScopeUse::new(client, "app", "carbon.super", Bearers::Itself, later).unwrap();
        let all = || scopes.iter().map(String::as_str);
        for _ in 0..3 {
            used.grant(all(), &group, later);
        }
        used.take(all(), &Groups::default(), later);
        used.ask(all(), later);
        itself.grant(all(), &Groups::default(), later);
        itself.ask(all(), later);
        let observation = Observation {
            at: later,
            scopes: vec![used, itself],
            ..Observation::default()
        };
        store.record(&[observation]).await.unwrap();
    }
    let usage = usage_at(&store, client, later).await.unwrap();
    assert!(usage.is_sound());
    assert_eq!(usage.users.tokens, 3 * 2 * GROUPS_MAX as u64);
    assert_eq!(usage.users.scopes.len(), CLIENT_SCOPES_MAX);
    assert_eq!(usage.further.groups.len(), GROUPS_MAX);
    assert!(
        usage
            .further
            .groups
            .values()
            .all(|line| line.scopes.len() == GROUP_SCOPES_MAX && line.tokens == 3)
    );
    assert_eq!(usage.further.groups_left_out, 3 * GROUPS_MAX as u64);
    assert_eq!(usage.further.users.len(), CLIENT_SCOPES_MAX);
    assert_eq!(usage.further.crowded, later);
}
