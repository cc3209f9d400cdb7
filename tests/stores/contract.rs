//! What every store keeps to.

use crate::demands::a_demand_is_kept_until_its_end;
use crate::demands::a_demand_of_a_clock_that_was_ahead_is_met_now;
use crate::demands::a_demand_under_a_previous_name_is_found;
use crate::demands::a_proof_removes_no_later_demand;
use crate::demands::fifty_at_once_raise_one_demand_to_its_maximum;
use crate::facts::*;
use crate::redis_server::RedisServer;
use crate::review::a_full_queue_can_be_kept;
use crate::review::devices_are_forgotten_one_by_one_and_together;
use crate::review::fifty_holds_and_rulings_at_once_are_all_kept;
use crate::review::forgetting_loses_no_lesson;
use crate::review::held_logins_are_kept_and_decided;
use crate::scopes::scopes_are_summed_up_for_each_client;
use crate::scopes::scopes_of_more_groups_than_are_kept_are_bounded;
use crate::scopes::scopes_that_many_nodes_write_are_all_counted;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::adapters::memory::MemoryStore;
use riskgate::adapters::redis::RedisStore;
use riskgate::domain::history::ClientBaseline;
use riskgate::domain::history::ClientUse;
use riskgate::domain::history::History;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Joined;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::domain::history::PLACES_MAX;
use riskgate::domain::history::PROFILE_TTL;
use riskgate::domain::history::Previous;
use riskgate::domain::history::Profile;
use riskgate::domain::history::Renamed;
use riskgate::domain::history::Renaming;
use riskgate::domain::history::VALUES_MAX;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::Redemption;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A store and what it stands on.
struct Subject {
    store: Arc<dyn StateStore>,
    _ground: Ground,
}

enum Ground {
    File(#[expect(dead_code, reason = "kept until the store is done")] TempDir),
    Memory,
    Server(#[expect(dead_code, reason = "kept until the store is done")] RedisServer),
}

fn memory() -> Subject {
    Subject {
        store: Arc::new(MemoryStore::new()),
        _ground: Ground::Memory,
    }
}

/// What was learnt stays in memory for the length of a case, or goes to the file at once.
fn embedded(flush_interval: Duration) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings {
        flush_interval,
        ..EmbeddedSettings::default()
    };
    let store = EmbeddedStore::open(&folder.path().join("state.redb"), settings).unwrap();
    Subject {
        store: Arc::new(store),
        _ground: Ground::File(folder),
    }
}

fn redis() -> Subject {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), patient()).unwrap();
    Subject {
        store: Arc::new(store),
        _ground: Ground::Server(server),
    }
}

/// One test per store and case.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod over_memory { $(#[tokio::test] async fn $case() { super::$case(super::memory().store).await; })+ }
        mod over_embedded { $(#[tokio::test] async fn $case() {
            let subject = super::embedded(super::HOUR);
            super::$case(subject.store.clone()).await;
        })+ }
        mod over_the_file { $(#[tokio::test] async fn $case() {
            let subject = super::embedded(std::time::Duration::ZERO);
            super::$case(subject.store.clone()).await;
        })+ }
        mod over_redis { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() {
            let subject = super::redis();
            super::$case(subject.store.clone()).await;
        })+ }
    };
}

contract!(
    an_empty_store_knows_nothing,
    a_profile_learns_as_the_pure_one_does,
    a_profile_is_forgotten_after_its_time,
    profiles_of_two_subjects_are_apart,
    a_profile_is_bounded,
    links_live_for_their_time,
    a_link_is_overwritten_by_the_later,
    links_of_different_kinds_are_apart,
    counters_halve_at_their_pace,
    counters_take_late_and_early_reports,
    successes_count_as_attempts_only,
    distinct_names_of_an_address_are_estimated,
    distinct_addresses_of_a_subject_are_estimated,
    trusted_subjects_are_counted_for_thirty_days,
    an_unknown_name_gets_nothing_of_its_own,
    a_batch_counts_as_much_as_its_parts,
    the_population_is_counted_and_bounded,
    a_store_answers_a_ping,
    a_client_has_a_baseline,
    names_of_one_account_are_kept_with_profiles,
    what_was_kept_under_a_previous_name_is_found_and_moves,
    counters_under_previous_names_are_added,
    a_ticket_is_redeemed_once,
    a_ticket_is_good_for_what_it_was_given_for,
    fifty_at_once_redeem_one_ticket_once,
    held_logins_are_kept_and_decided,
    a_full_queue_can_be_kept,
    scopes_are_summed_up_for_each_client,
    scopes_of_more_groups_than_are_kept_are_bounded,
    scopes_that_many_nodes_write_are_all_counted,
    fifty_holds_and_rulings_at_once_are_all_kept,
    devices_are_forgotten_one_by_one_and_together,
    forgetting_loses_no_lesson,
    a_demand_is_kept_until_its_end,
    a_demand_of_a_clock_that_was_ahead_is_met_now,
    fifty_at_once_raise_one_demand_to_its_maximum,
    a_proof_removes_no_later_demand,
    a_demand_under_a_previous_name_is_found,
);

async fn names_of_one_account_are_kept_with_profiles(store: Arc<dyn StateStore>) {
    let joined = |of: u64, is_account, names: &[u64]| Joined {
        subject: subject(of),
        is_account,
        at: START,
        names: names.iter().map(|name| subject(*name)).collect(),
    };
    let told = |joined: Vec<Joined>| Observation {
        at: START,
        joined,
        ..Observation::default()
    };
    let names_of = async |of| {
        let profile = load(&store, &query(of, START)).await.profile;
        profile.map(|profile| profile.names.kept().to_vec())
    };
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    // The account's profile is made; that of a name which has not logged in is not.
    let all = [1, 2].map(subject).to_vec();
    let first = told(vec![joined(9, true, &[1])]);
    let second = told(vec![
        joined(9, true, &[1, 2]),
        joined(1, false, &[1, 2]),
        joined(2, false, &[1, 2]),
    ]);
    store.record(&[first]).await.unwrap();
    store.record(std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(names_of(9).await, Some(all.clone()));
    assert_eq!(names_of(1).await, Some(all.clone()));
    assert_eq!(names_of(2).await, None);
    // With its first login in the same batch it is.
    store
        .record(&[learnt(lesson(2, START)), second])
        .await
        .unwrap();
    assert_eq!(names_of(2).await, Some(all.clone()));
    // A login teaches as before, and what is known of the names stays.
    store
        .record(&[learnt(lesson(1, START.plus(DAY)))])
        .await
        .unwrap();
    let profile = load(&store, &query(1, START.plus(DAY)))
        .await
        .profile
        .unwrap();
    assert_eq!((profile.successes, profile.names.kept()), (2, &all[..]));
    let account = load(&store, &query(9, START)).await.profile.unwrap();
    assert_eq!(account.successes, 0);
}

async fn a_client_has_a_baseline(store: Arc<dyn StateStore>) {
    let used = |minute: u32, scope: u64| Observation {
        at: START.plus(MINUTE * minute),
        client: Some(ClientUse {
            client: subject(1),
            at: START.plus(MINUTE * minute),
            scopes: vec![hash(scope)],
            prefix: Some(hash(2)),
            tls: Some(hash(10)),
            network: Some(NetworkKind::Hosting),
            learns: !minute.is_multiple_of(5),
        }),
        ..Observation::default()
    };
    let mut expected = ClientBaseline::default();
    for minute in 0..30 {
        let one = used(minute, u64::from(minute % 2));
        expected.learn(one.client.as_ref().unwrap());
        store.record(&[one]).await.unwrap();
    }
    let asked = HistoryQuery {
        client: Some(subject(1)),
        ..query(1, START.plus(HOUR))
    };
    assert_eq!(load(&store, &asked).await.client, Some(expected));
    // Only who asks for it gets it.
    assert_eq!(load(&store, &query(1, START)).await.client, None);
}

/// The names of `query(1, …)` and of `lesson(1, …)` under another secret: everything is shifted.
fn under_another_secret(asked: &HistoryQuery) -> Previous {
    let renaming = lesson(1, START)
        .familiarity
        .values()
        .into_iter()
        .flatten()
        .fold(Renaming::default(), |renaming, value| {
            renaming.with_value(value, value ^ (1 << 40))
        });
    Previous {
        query: Box::new(HistoryQuery {
            subject: Some(subject(1)),
            ..asked.clone()
        }),
        renaming,
    }
}

async fn what_was_kept_under_a_previous_name_is_found_and_moves(store: Arc<dyn StateStore>) {
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    let now = START.plus(DAY);
    let asked = HistoryQuery {
        subject: Some(subject(2)),
        ..query(2, now)
    };
    assert_eq!(load(&store, &asked).await.profile, None);
    let asked = HistoryQuery {
        previous: Some(under_another_secret(&asked)),
        ..asked
    };
    let profile = load(&store, &asked).await.profile.unwrap();
    assert_eq!(profile.successes, 1);
    assert_eq!(profile.addresses.count(hash(1) ^ (1 << 40)), 1);
    assert_eq!(profile.addresses.count(hash(1)), 0);

    let mut next = lesson(2, now);
    for value in next.familiarity.values_mut() {
        *value = value.map(|value| value ^ (1 << 40));
    }
    let observation = Observation {
        renamed: Some(Renamed {
            subject: subject(1),
            renaming: under_another_secret(&asked).renaming,
        }),
        ..learnt(next)
    };
    store.record(&[observation]).await.unwrap();
    let moved = load(&store, &query(2, now)).await.profile.unwrap();
    assert_eq!(moved.successes, 2);
    assert_eq!(moved.addresses.count(hash(1) ^ (1 << 40)), 2);
    assert_eq!(load(&store, &query(1, now)).await.profile, None);
}

async fn counters_under_previous_names_are_added(store: Arc<dyn StateStore>) {
    let mut other = attempt(2, true, true);
    other.address = hash(100);
    store
        .record(&[
            learnt(lesson(1, START)),
            tried(attempt(1, true, true), START),
            tried(other, START),
        ])
        .await
        .unwrap();
    let asked = HistoryQuery {
        address: hash(100),
        ..query(2, START)
    };
    let asked = HistoryQuery {
        previous: Some(under_another_secret(&query(1, START))),
        ..asked
    };
    let history = load(&store, &asked).await;
    close(history.address.failures_24h, 2.0);
    close(history.subject.failures_24h, 2.0);
    close(history.address.users_1h, 1.0);
}

async fn a_ticket_is_redeemed_once(store: Arc<dyn StateStore>) {
    let (ticket, binding) = (pseudonym(1), pseudonym(2));
    let redeem = || store.redeem_ticket(ticket, binding, START);
    assert_eq!(redeem().await.unwrap(), Redemption::Unknown);
    store
        .issue_ticket(ticket, binding, START, MINUTE * 5)
        .await
        .unwrap();
    assert_eq!(redeem().await.unwrap(), Redemption::Redeemed);
    assert_eq!(redeem().await.unwrap(), Redemption::AlreadyRedeemed);
    // Giving it again does not bring it back.
    store
        .issue_ticket(ticket, binding, START, MINUTE * 5)
        .await
        .unwrap();
    assert_eq!(redeem().await.unwrap(), Redemption::AlreadyRedeemed);
}

async fn a_ticket_is_good_for_what_it_was_given_for(store: Arc<dyn StateStore>) {
    let (ticket, binding) = (pseudonym(1), pseudonym(2));
    store
        .issue_ticket(ticket, binding, START, MINUTE * 5)
        .await
        .unwrap();
    let wrong = store.redeem_ticket(ticket, pseudonym(3), START).await;
    assert_eq!(wrong.unwrap(), Redemption::Unknown);
    // And used up by that.
    let right = store.redeem_ticket(ticket, binding, START).await;
    assert_eq!(right.unwrap(), Redemption::AlreadyRedeemed);
    let late = pseudonym(4);
    store
        .issue_ticket(late, binding, START, MINUTE * 5)
        .await
        .unwrap();
    let end = START.plus(MINUTE * 5);
    let redeemed = store.redeem_ticket(late, binding, end).await;
    assert_eq!(redeemed.unwrap(), Redemption::Unknown);
}

async fn fifty_at_once_redeem_one_ticket_once(store: Arc<dyn StateStore>) {
    for round in 0..5 {
        let (ticket, binding) = (pseudonym(round), pseudonym(1_000));
        store
            .issue_ticket(ticket, binding, START, MINUTE * 5)
            .await
            .unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let store = store.clone();
            tasks.spawn(async move { store.redeem_ticket(ticket, binding, START).await });
        }
        let (mut redeemed, mut already) = (0, 0);
        while let Some(done) = tasks.join_next().await {
            match done.unwrap().unwrap() {
                Redemption::Redeemed => redeemed += 1,
                Redemption::AlreadyRedeemed => already += 1,
                Redemption::Unknown => {}
            }
        }
        assert_eq!((redeemed, already), (1, 49));
    }
}

pub async fn load(store: &Arc<dyn StateStore>, query: &HistoryQuery) -> History {
    store.load(query).await.unwrap()
}

async fn an_empty_store_knows_nothing(store: Arc<dyn StateStore>) {
    let query = HistoryQuery {
        links: vec![link(LinkKind::Code, 1)],
        ..query(1, START)
    };
    assert_eq!(load(&store, &query).await, History::default());
    assert_eq!(store.population().await.unwrap().total, 0);
}

async fn a_profile_learns_as_the_pure_one_does(store: Arc<dyn StateStore>) {
    let mut expected = Profile::default();
    for day in 0..5 {
        let mut lesson = lesson(1, START.plus(DAY * day));
        lesson.familiarity.address = Some(hash(u64::from(day % 2)));
        lesson.cookie_known = day > 0;
        expected.learn(&lesson);
        store.record(&[learnt(lesson)]).await.unwrap();
    }
    let history = load(&store, &query(1, START.plus(DAY * 6))).await;
    assert_eq!(history.profile, Some(expected));
}

async fn a_profile_is_forgotten_after_its_time(store: Arc<dyn StateStore>) {
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    let last_moment = START.plus(PROFILE_TTL - Duration::from_secs(1));
    assert!(load(&store, &query(1, last_moment)).await.profile.is_some());
    assert_eq!(
        load(&store, &query(1, START.plus(PROFILE_TTL)))
            .await
            .profile,
        None
    );
    // Whoever comes back after that is a stranger.
    let back = START.plus(PROFILE_TTL + DAY);
    store.record(&[learnt(lesson(1, back))]).await.unwrap();
    assert_eq!(
        load(&store, &query(1, back))
            .await
            .profile
            .unwrap()
            .successes,
        1
    );
}

async fn profiles_of_two_subjects_are_apart(store: Arc<dyn StateStore>) {
    store
        .record(&[
            learnt(lesson(1, START)),
            learnt(lesson(2, START)),
            learnt(lesson(1, START)),
        ])
        .await
        .unwrap();
    assert_eq!(
        load(&store, &query(1, START))
            .await
            .profile
            .unwrap()
            .successes,
        2
    );
    assert_eq!(
        load(&store, &query(2, START))
            .await
            .profile
            .unwrap()
            .successes,
        1
    );
    assert_eq!(load(&store, &query(3, START)).await.profile, None);
    assert_eq!(
        load(
            &store,
            &HistoryQuery {
                subject: None,
                ..query(1, START)
            }
        )
        .await
        .profile,
        None
    );
}

async fn a_profile_is_bounded(store: Arc<dyn StateStore>) {
    let mut batch = Vec::new();
    for n in 0..200u32 {
        let mut lesson = lesson(1, START.plus(MINUTE * n));
        let value = Some(hash(u64::from(n)));
        lesson.familiarity.address = value;
        lesson.familiarity.device = value;
        lesson.coordinates =
            riskgate::domain::signals::network::Coordinates::new(n as f32 / 4.0, n as f32 / 2.0);
        batch.push(learnt(lesson));
    }
    store.record(&batch).await.unwrap();
    let profile = load(&store, &query(1, START.plus(HOUR * 4)))
        .await
        .profile
        .unwrap();
    assert_eq!(profile.successes, 200);
    assert_eq!(profile.addresses.iter().count(), VALUES_MAX);
    assert_eq!(profile.devices.count(hash(199)), 1);
    assert_eq!(profile.places.len(), PLACES_MAX);
}

async fn links_live_for_their_time(store: Arc<dyn StateStore>) {
    let (code, token) = (link(LinkKind::Code, 1), link(LinkKind::RefreshToken, 2));
    let batch = [
        linked(code, provenance(1, START), START, Duration::from_secs(300)),
        linked(token, provenance(2, START), START, DAY),
    ];
    store.record(&batch).await.unwrap();
    let asked = |now| HistoryQuery {
        links: vec![code, token, link(LinkKind::Session, 3)],
        ..query(1, now)
    };
    let history = load(&store, &asked(START.plus(Duration::from_secs(299)))).await;
    assert_eq!(history.links.len(), 2);
    assert_eq!(history.links.get(&code), Some(&provenance(1, START)));
    assert_eq!(history.links.get(&token), Some(&provenance(2, START)));
    let history = load(&store, &asked(START.plus(Duration::from_secs(300)))).await;
    assert_eq!(history.links.keys().collect::<Vec<_>>(), [&token]);
    assert!(load(&store, &asked(START.plus(DAY))).await.links.is_empty());
}

async fn a_link_is_overwritten_by_the_later(store: Arc<dyn StateStore>) {
    let key = link(LinkKind::Session, 1);
    let batch = [
        linked(key, provenance(1, START), START, HOUR),
        linked(key, provenance(2, START), START, HOUR),
    ];
    store.record(&batch).await.unwrap();
    let asked = HistoryQuery {
        links: vec![key],
        ..query(1, START)
    };
    assert_eq!(
        load(&store, &asked).await.links.get(&key),
        Some(&provenance(2, START))
    );
    store
        .record(&[linked(key, provenance(3, START), START, HOUR)])
        .await
        .unwrap();
    assert_eq!(
        load(&store, &asked).await.links.get(&key),
        Some(&provenance(3, START))
    );
}

async fn links_of_different_kinds_are_apart(store: Arc<dyn StateStore>) {
    let kinds = [
        LinkKind::AccessToken,
        LinkKind::Code,
        LinkKind::PushedRequest,
        LinkKind::RefreshToken,
    ];
    let batch: Vec<_> = (0..)
        .zip(kinds)
        .map(|(n, kind)| linked(link(kind, 7), provenance(n, START), START, HOUR))
        .collect();
    store.record(&batch).await.unwrap();
    let asked = HistoryQuery {
        links: kinds.map(|kind| link(kind, 7)).to_vec(),
        ..query(1, START)
    };
    let history = load(&store, &asked).await;
    for (n, kind) in (0..).zip(kinds) {
        assert_eq!(
            history.links.get(&link(kind, 7)),
            Some(&provenance(n, START)),
            "{kind:?}"
        );
    }
    let other = HistoryQuery {
        links: vec![link(LinkKind::Transaction, 7)],
        ..query(1, START)
    };
    assert!(load(&store, &other).await.links.is_empty());
}

async fn counters_halve_at_their_pace(store: Arc<dyn StateStore>) {
    let batch: Vec<_> = (0..8)
        .map(|_| tried(attempt(1, true, true), START))
        .collect();
    store.record(&batch).await.unwrap();
    let now = load(&store, &query(1, START)).await;
    for count in [
        now.subject.failures_10m,
        now.subject.failures_24h,
        now.address.failures_10m,
        now.address.failures_24h,
        now.address.attempts_24h,
        now.prefix_failures_1h,
        now.asn.failures,
        now.asn.attempts,
        now.agent.failures,
        now.agent.attempts,
        now.tenant.failures,
        now.tenant.attempts,
    ] {
        close(count, 8.0);
    }
    let later = load(&store, &query(1, START.plus(MINUTE * 10))).await;
    close(later.subject.failures_10m, 4.0);
    close(later.address.failures_10m, 4.0);
    close(later.tenant.failures, 2.0);
    close(later.tenant.attempts, 2.0);
    let later = load(&store, &query(1, START.plus(HOUR))).await;
    close(later.prefix_failures_1h, 4.0);
    close(later.asn.failures, 4.0);
    close(later.asn.attempts, 4.0);
    close(later.agent.failures, 4.0);
    close(later.agent.attempts, 4.0);
    let later = load(&store, &query(1, START.plus(DAY))).await;
    close(later.subject.failures_24h, 4.0);
    close(later.address.failures_24h, 4.0);
    close(later.address.attempts_24h, 4.0);
    // Adding decays what is there first.
    store
        .record(&[tried(attempt(1, true, true), START.plus(DAY))])
        .await
        .unwrap();
    let later = load(&store, &query(1, START.plus(DAY))).await;
    close(later.subject.failures_24h, 5.0);
    close(later.address.attempts_24h, 5.0);
    close(later.subject.failures_10m, 1.0);
}

async fn counters_take_late_and_early_reports(store: Arc<dyn StateStore>) {
    store
        .record(&[tried(attempt(1, true, true), START.plus(MINUTE * 10))])
        .await
        .unwrap();
    // Reported late: it has decayed for ten minutes already.
    store
        .record(&[tried(attempt(1, true, true), START)])
        .await
        .unwrap();
    let history = load(&store, &query(1, START.plus(MINUTE * 10))).await;
    close(history.subject.failures_10m, 1.5);
    // A clock that is set back by a year does not stop the counters.
    let past = Timestamp(START.millis() - 365 * 24 * 3_600_000);
    store
        .record(&[tried(attempt(1, true, true), past)])
        .await
        .unwrap();
    close(
        load(&store, &query(1, past)).await.subject.failures_10m,
        2.5,
    );
    close(
        load(&store, &query(1, past.plus(MINUTE * 10)))
            .await
            .subject
            .failures_10m,
        1.25,
    );
}

async fn successes_count_as_attempts_only(store: Arc<dyn StateStore>) {
    store
        .record(&[
            tried(attempt(1, false, true), START),
            tried(attempt(1, true, true), START),
        ])
        .await
        .unwrap();
    let history = load(&store, &query(1, START)).await;
    close(history.address.failures_24h, 1.0);
    close(history.address.attempts_24h, 2.0);
    close(history.asn.failures, 1.0);
    close(history.asn.attempts, 2.0);
    close(history.tenant.attempts, 2.0);
    close(history.prefix_failures_1h, 1.0);
    close(history.subject.failures_24h, 1.0);
}

async fn distinct_names_of_an_address_are_estimated(store: Arc<dyn StateStore>) {
    for n in 0..10 {
        // Twice each: a name counts once.
        let batch = [
            tried(attempt(n, true, false), START),
            tried(attempt(n, true, n % 2 == 0), START),
        ];
        store.record(&batch).await.unwrap();
    }
    close(
        load(&store, &query(1, START.plus(MINUTE)))
            .await
            .address
            .users_1h,
        10.0,
    );
    close(
        load(&store, &query(1, START.plus(MINUTE * 90)))
            .await
            .address
            .users_1h,
        5.0,
    );
    close(
        load(&store, &query(1, START.plus(HOUR * 2)))
            .await
            .address
            .users_1h,
        0.0,
    );
    // Names that come back in the next hour are not counted twice.
    let next = START.plus(HOUR);
    let batch: Vec<_> = (5..15)
        .map(|n| tried(attempt(n, true, false), next))
        .collect();
    store.record(&batch).await.unwrap();
    close(load(&store, &query(1, next)).await.address.users_1h, 15.0);
    close(
        load(&store, &query(1, next.plus(MINUTE * 30)))
            .await
            .address
            .users_1h,
        12.5,
    );
    // Another address has seen nobody.
    let other = HistoryQuery {
        address: hash(99),
        ..query(1, next)
    };
    assert_eq!(load(&store, &other).await.address, Default::default());
    // Many are estimated.
    let batch: Vec<_> = (100..5_100)
        .map(|n| tried(attempt(n, true, false), next))
        .collect();
    store.record(&batch).await.unwrap();
    let users = load(&store, &query(1, next)).await.address.users_1h;
    assert!((4_300.0..5_700.0).contains(&users), "{users}");
}

async fn distinct_addresses_of_a_subject_are_estimated(store: Arc<dyn StateStore>) {
    for n in 0..6 {
        let mut attempt = attempt(1, n % 2 == 0, true);
        attempt.address = hash(100 + n);
        store
            .record(&[tried(attempt, START), tried(attempt, START)])
            .await
            .unwrap();
    }
    close(
        load(&store, &query(1, START)).await.subject.addresses_24h,
        6.0,
    );
    close(
        load(&store, &query(1, START.plus(HOUR * 36)))
            .await
            .subject
            .addresses_24h,
        3.0,
    );
    close(
        load(&store, &query(1, START.plus(DAY * 2)))
            .await
            .subject
            .addresses_24h,
        0.0,
    );
    close(
        load(&store, &query(2, START)).await.subject.addresses_24h,
        0.0,
    );
}

async fn trusted_subjects_are_counted_for_thirty_days(store: Arc<dyn StateStore>) {
    let batch: Vec<_> = (0..4).map(|n| learnt(lesson(n, START))).collect();
    store.record(&batch).await.unwrap();
    store.record(&batch).await.unwrap();
    close(
        load(&store, &query(1, START))
            .await
            .address
            .trusted_subjects,
        4.0,
    );
    close(
        load(&store, &query(1, START.plus(DAY * 45)))
            .await
            .address
            .trusted_subjects,
        2.0,
    );
    close(
        load(&store, &query(1, START.plus(DAY * 60)))
            .await
            .address
            .trusted_subjects,
        0.0,
    );
    // Failures make nobody trusted.
    store
        .record(&[tried(attempt(50, true, true), START)])
        .await
        .unwrap();
    close(
        load(&store, &query(1, START))
            .await
            .address
            .trusted_subjects,
        4.0,
    );
}

async fn an_unknown_name_gets_nothing_of_its_own(store: Arc<dyn StateStore>) {
    store
        .record(&[tried(attempt(1, true, false), START)])
        .await
        .unwrap();
    let history = load(&store, &query(1, START)).await;
    assert_eq!(history.profile, None);
    assert_eq!(history.subject, Default::default());
    close(history.address.users_1h, 1.0);
}

async fn a_batch_counts_as_much_as_its_parts(store: Arc<dyn StateStore>) {
    let batch: Vec<_> = (0..40)
        .map(|n| {
            tried(
                attempt(n % 4, n % 2 == 0, n % 4 == 0),
                START.plus(Duration::from_secs(n)),
            )
        })
        .collect();
    store.record(&batch).await.unwrap();
    let at_once = load(&store, &query(0, START.plus(MINUTE))).await;
    let again = super::contract::memory().store;
    for observation in &batch {
        again
            .record(std::slice::from_ref(observation))
            .await
            .unwrap();
    }
    let one_by_one = load(&again, &query(0, START.plus(MINUTE))).await;
    close(
        at_once.address.failures_10m,
        one_by_one.address.failures_10m,
    );
    close(
        at_once.subject.failures_10m,
        one_by_one.subject.failures_10m,
    );
    close(at_once.tenant.attempts, one_by_one.tenant.attempts);
    close(at_once.address.users_1h, one_by_one.address.users_1h);
}

async fn the_population_is_counted_and_bounded(store: Arc<dyn StateStore>) {
    for n in 0..20u64 {
        let batch: Vec<_> = (0..300)
            .map(|i| {
                let mut lesson = lesson(1, START);
                lesson.familiarity.asn = Some(hash(1_000_000 + n * 1_000 + i));
                learnt(lesson)
            })
            .collect();
        store.record(&batch).await.unwrap();
    }
    let population = store.population().await.unwrap();
    assert_eq!(population.total, 6_000);
    assert_eq!(population.counts.get(&hash(6)), Some(&6_000), "the country");
    assert_eq!(population.counts.get(&hash(4)), Some(&6_000), "the agent");
    assert_eq!(
        population.counts.get(&hash(1_000_000)),
        Some(&1),
        "a network"
    );
    assert_eq!(population.counts.len(), 4_096);
    assert_eq!(
        population.counts.get(&hash(9)),
        None,
        "devices are not counted"
    );
}

async fn a_store_answers_a_ping(store: Arc<dyn StateStore>) {
    store.ping().await.unwrap();
    assert!(["embedded", "memory", "redis"].contains(&store.kind()));
}
