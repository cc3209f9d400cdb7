//! `riskgate state copy | show | forget` and `riskgate keys rotate`, as an operator calls them: the real binary, real files,
//! a real Redis.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic is how a test reports a failure"
)]

#[path = "stores/facts.rs"]
#[allow(
    dead_code,
    reason = "shared with the store tests, which use more of it"
)]
mod facts;
#[path = "support/redis.rs"]
mod redis_server;

use crate::facts::*;
use crate::redis_server::RedisServer;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::redis::RedisStore;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Joined;
use riskgate::domain::history::Lesson;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::domain::history::ScopeUse;
use riskgate::domain::history::scopes::Bearers;
use riskgate::domain::history::scopes::Groups;
use riskgate::domain::ids::Pseudonymizer;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::secret::Secret;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tempfile::TempDir;

/// A deployment: a folder with a secret, and the names that it makes.
struct Deployment {
    folder: TempDir,
    keys: Keys,
    people: Pseudonymizer,
}

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Deployment {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().to_owned();
        let keys = Keys::load(&config, &OsEntropy).unwrap();
        let people = Pseudonymizer::new(keys.pseudonyms.expose());
        Self {
            folder,
            keys,
            people,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn embedded(&self) -> EmbeddedStore {
        let path = self.path().join("state.redb");
        EmbeddedStore::open(&path, self.settings()).unwrap()
    }

    fn settings(&self) -> EmbeddedSettings {
        let settings = assemble::store(&Config::default(), "test", &self.keys);
        settings.unwrap().embedded
    }

    fn redis(&self, server: &RedisServer) -> RedisStore {
        let settings = RedisSettings {
            seal_key: self.keys.seals.clone(),
            ..patient()
        };
        RedisStore::connect(&server.url(), settings).unwrap()
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(args)
            .arg("--data")
            .arg(self.path())
            .current_dir(self.path())
            .env_remove("RISKGATE_SECRET")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            code: output.status.code().unwrap(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(i64::try_from(since.unwrap().as_millis()).unwrap())
}

fn lesson_of(subject: SubjectKey, at: Timestamp) -> Lesson {
    Lesson {
        subject,
        ..lesson(1, at)
    }
}

/// Three hundred people, one of them Alice, with failures, tokens and sessions.
async fn fill(store: &dyn StateStore, alice: SubjectKey, at: Timestamp) {
    let mut batch: Vec<_> = (10..310).map(|n| learnt(lesson(n, at))).collect();
    for n in 0..4_u64 {
        let mut lesson = lesson_of(alice, at);
        lesson.familiarity.device = Some(hash(n % 2));
        batch.push(learnt(lesson));
    }
    let mut failed = attempt(1, true, true);
    failed.subject = Some(alice);
    batch.push(tried(failed, at));
    for n in 0..20 {
        let mut of_alice = provenance(1, at);
        of_alice.subject = Some(alice);
        let of = if n < 5 { of_alice } else { provenance(n, at) };
        batch.push(linked(link(LinkKind::RefreshToken, n), of, at, DAY));
    }
    // Many names from one address: more than a sketch keeps one by one.
    let mut scopes = ScopeUse::new(subject(1_000), "app", "t", Bearers::Users, at).unwrap();
    let staff = Groups::of(std::iter::once(&serde_json::json!("staff")));
    scopes.grant(["read"].into_iter(), &staff, at);
    batch.push(Observation {
        at,
        scopes: vec![scopes],
        ..Observation::default()
    });
    // Two of the names are one account's.
    let names = vec![alice, subject(10)];
    let joined = |subject, is_account| Joined {
        subject,
        is_account,
        at,
        names: names.clone(),
    };
    batch.push(Observation {
        at,
        joined: vec![
            joined(subject(2_000), true),
            joined(alice, false),
            joined(subject(10), false),
        ],
        ..Observation::default()
    });
    batch.extend((0..200).map(|n| tried(attempt(10_000 + n, true, false), at)));
    store.record(&batch).await.unwrap();
}

fn asked(subject: SubjectKey, at: Timestamp) -> HistoryQuery {
    HistoryQuery {
        subject: Some(subject),
        links: vec![link(LinkKind::RefreshToken, 7)],
        scopes: Some(crate::facts::subject(1_000)),
        ..query(1, at)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_copied_to_redis_and_back() {
    let here = Deployment::new();
    let server = RedisServer::start();
    let at = now();
    let alice = here.people.user("carbon.super", "alice");
    let store = here.embedded();
    fill(&store, alice, at).await;
    let before = store.load(&asked(alice, at)).await.unwrap();
    let population = store.population().await.unwrap();
    drop(store);

    let from = format!("embedded:{}", here.path().display());
    let copy = |from: &str, to: &str| here.run(&["state", "copy", "--from", from, "--to", to]);
    let first = copy(&from, &server.url());
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(
        first.out.contains("profile                 302          0"),
        "{}",
        first.out
    );
    let redis = here.redis(&server);
    let there = redis.load(&asked(alice, at)).await.unwrap();
    assert_eq!(there.profile, before.profile);
    assert_eq!(there.links, before.links);
    assert!(before.scopes.is_some());
    assert_eq!(there.scopes, before.scopes);
    close(there.address.failures_24h, before.address.failures_24h);
    close(there.tenant.attempts, before.tenant.attempts);
    close(there.subject.addresses_24h, before.subject.addresses_24h);
    let ratio = there.address.users_1h / before.address.users_1h;
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
    assert_eq!(redis.population().await.unwrap().total, population.total);
    // Each with the time that it has left: the token ended a day after its issue, wherever it is.
    let late = asked(alice, at.plus(DAY + Duration::from_secs(5)));
    assert!(redis.load(&late).await.unwrap().links.is_empty());
    let ttl = server.command(&[b"EVAL", b"local m = 0 for _, k in ipairs(redis.call('KEYS', 'rg:1:refresh_token:*')) do m = math.max(m, redis.call('PTTL', k)) end return m", b"0"]);
    let ttl: i64 = String::from_utf8_lossy(&ttl)
        .trim()
        .trim_start_matches(':')
        .parse()
        .unwrap();
    assert!((1..=24 * 3_600_000).contains(&ttl), "{ttl}");

    // A second copy changes nothing, not even what has been learnt there meanwhile.
    redis.record(&[learnt(lesson_of(alice, at))]).await.unwrap();
    let second = copy(&from, &server.url());
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(
        second
            .out
            .contains("profile                   0        302"),
        "{}",
        second.out
    );
    let there = redis.load(&asked(alice, at)).await.unwrap();
    assert_eq!(there.profile.unwrap().successes, 5);
    let ratio = there.address.users_1h / before.address.users_1h;
    assert!((0.9..1.1).contains(&ratio), "{ratio}");

    // And back, into another folder.
    let other = tempfile::tempdir().unwrap();
    let back = format!("embedded:{}", other.path().display());
    let third = copy(&server.url(), &back);
    assert_eq!(third.code, 0, "{}", third.err);
    let path = other.path().join("state.redb");
    let store = EmbeddedStore::open(&path, here.settings()).unwrap();
    assert_eq!(
        store.population().await.unwrap().total,
        population.total + 1
    );
    let history = store.load(&asked(alice, at)).await.unwrap();
    assert_eq!(history.profile.unwrap().successes, 5);
    assert_eq!(history.links, before.links);
    assert_eq!(history.scopes, before.scopes);
    close(history.address.failures_24h, before.address.failures_24h);
    let ratio = history.address.users_1h / before.address.users_1h;
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_cannot_be_made_says_why() {
    let here = Deployment::new();
    let server = RedisServer::start();
    let from = format!("embedded:{}", here.path().display());
    let copy = |from: &str, to: &str| here.run(&["state", "copy", "--from", from, "--to", to]);
    let missing = copy(&from, &server.url());
    assert_eq!(missing.code, 2, "{}", missing.err);
    assert!(
        missing.err.contains("there is no state file"),
        "{}",
        missing.err
    );

    let at = now();
    let alice = here.people.user("carbon.super", "alice");
    let store = here.embedded();
    fill(&store, alice, at).await;
    // The gateway has it.
    let held = copy(&from, &server.url());
    assert_eq!(held.code, 1, "{}", held.err);
    assert!(held.err.contains("stop the gateway first"), "{}", held.err);
    drop(store);

    // A store that is away is named as it was given, wherever the state of the configuration is.
    let away = "redis://127.0.0.1:1";
    for (from, to, key) in [
        (from.as_str(), away, "--to"),
        (away, from.as_str(), "--from"),
    ] {
        let nowhere = copy(from, to);
        assert_eq!(nowhere.code, 2, "{}", nowhere.err);
        let said = format!("{key}: the state store cannot be reached");
        let mends = format!("or `tls=true` in {key}");
        assert!(
            nowhere.err.contains(&said) && nowhere.err.contains(&mends),
            "{}",
            nowhere.err
        );
        assert!(!nowhere.err.contains("state.url"), "{}", nowhere.err);
    }
    let strange = copy(&from, "memcached://127.0.0.1");
    assert_eq!(strange.code, 2, "{}", strange.err);

    // A server that another deployment uses.
    let other = RedisSettings {
        seal_key: Secret::new(b"another deployment's".to_vec()),
        ..patient()
    };
    let theirs = RedisStore::connect(&server.url(), other).unwrap();
    fill(&theirs, alice, at).await;
    let foreign = copy(&from, &server.url());
    assert_eq!(foreign.code, 2, "{}", foreign.err);
    assert!(foreign.err.contains("another secret"), "{}", foreign.err);
    let profile = theirs.load(&asked(alice, at)).await.unwrap().profile;
    assert_eq!(profile.unwrap().successes, 4, "nothing was touched");
    let target = tempfile::tempdir().unwrap();
    let to = format!("embedded:{}", target.path().display());
    let foreign = copy(&server.url(), &to);
    // Counters are not sealed; profiles and links are left out and counted.
    assert!(
        foreign.code == 2 || foreign.out.contains("do not open"),
        "{}",
        foreign.out
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_shown_and_forgotten_in_both_stores() {
    for is_redis in [false, true] {
        let here = Deployment::new();
        let server = RedisServer::start();
        let url = if is_redis {
            server.url()
        } else {
            "embedded:".to_owned()
        };
        let at = now();
        let alice = here.people.user("carbon.super", "alice");
        let redis = here.redis(&server);
        if is_redis {
            fill(&redis, alice, at).await;
        } else {
            fill(&here.embedded(), alice, at).await;
        }
        let run = |args: &[&str]| {
            let store = ["--store", url.as_str()];
            here.run(&[args, &store].concat())
        };
        let shown = run(&["state", "show", "--user", "Alice"]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        for part in [
            "4 confirmed logins",
            "devices    2",
            "failures   1.0",
            "addresses  1",
            "names      1 more of the same account",
        ] {
            assert!(shown.out.contains(part), "{part}: {}", shown.out);
        }
        assert!(!shown.out.to_lowercase().contains("alice"), "{}", shown.out);
        assert_eq!(run(&["state", "show", "--user", "nobody"]).code, 3);
        let loud = run(&[
            "state",
            "show",
            "--user",
            "alice",
            "--tenant",
            "Carbon.Super",
        ]);
        assert_eq!(loud.code, 0, "{}", loud.err);
        assert_eq!(
            run(&["state", "show", "--user", "alice", "--tenant", "other"]).code,
            3
        );

        let device = format!("{:016x}", hash(1));
        let one = run(&["state", "forget", "--user", "alice", "--device", &device]);
        assert_eq!(one.code, 0, "{}", one.err);
        let again = run(&["state", "forget", "--user", "alice", "--device", &device]);
        assert_eq!(again.code, 3, "{}", again.out);
        assert!(
            run(&["state", "show", "--user", "alice"])
                .out
                .contains("devices    1")
        );
        assert_eq!(
            run(&["state", "forget", "--user", "alice", "--all-devices"]).code,
            0
        );
        let shown = run(&["state", "show", "--user", "alice"]);
        assert!(
            shown.out.contains("devices    0") && shown.out.contains("4 confirmed"),
            "{}",
            shown.out
        );

        let all = run(&["state", "forget", "--user", "alice", "--everything"]);
        assert_eq!(all.code, 0, "{}", all.err);
        assert!(
            all.out.contains("and 5 codes, tokens and sessions"),
            "{}",
            all.out
        );
        let shown = run(&["state", "show", "--user", "alice"]);
        assert!(
            shown.out.contains("0 confirmed") && !shown.out.contains("failures"),
            "{}",
            shown.out
        );
        // Nobody else has lost anything.
        let history = if is_redis {
            redis.load(&asked(subject(10), at)).await.unwrap()
        } else {
            here.embedded().load(&asked(subject(10), at)).await.unwrap()
        };
        assert_eq!(history.links.len(), 1);
        // Where her name stood with another one of her account, it stands no more.
        let names = history.profile.unwrap().names;
        assert_eq!(names.kept(), [subject(10)]);
        // What must be said is said.
        assert_eq!(run(&["state", "forget", "--user", "alice"]).code, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_logins_that_do_not_open_are_removed_on_request_in_both_stores() {
    let here = Deployment::new();
    let server = RedisServer::start();
    let file = here.embedded();
    file.record(&[learnt(lesson(1, now()))]).await.unwrap();
    file.change_review_queue(Arc::new(|_| true)).await.unwrap();
    drop(file);
    // Of a secret that nobody has any more.
    let stranger = RedisSettings {
        seal_key: Secret::new(b"another secret".to_vec()),
        ..patient()
    };
    let stranger = RedisStore::connect(&server.url(), stranger).unwrap();
    stranger
        .change_review_queue(Arc::new(|_| true))
        .await
        .unwrap();
    assert!(here.redis(&server).review_queue().await.is_err());
    for url in ["embedded:", &server.url()] {
        let forget = || here.run(&["state", "forget-held", "--store", url]);
        let forgotten = forget();
        assert_eq!(forgotten.code, 0, "{}", forgotten.err);
        assert!(
            forgotten.out.contains("signs in again"),
            "{}",
            forgotten.out
        );
        assert_eq!(forget().code, 3);
    }
    for store in [&here.embedded() as &dyn StateStore, &here.redis(&server)] {
        assert!(store.review_queue().await.unwrap().items().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_found_under_the_previous_secret_after_a_rotation() {
    let here = Deployment::new();
    let at = now();
    let alice = here.people.user("carbon.super", "alice");
    fill(&here.embedded(), alice, at).await;
    let rotated = here.run(&["keys", "rotate"]);
    assert_eq!(rotated.code, 0, "{}", rotated.err);
    assert!(
        rotated.out.contains("secret.previous.key"),
        "{}",
        rotated.out
    );
    let shown = here.run(&["state", "show", "--user", "alice"]);
    assert!(
        shown.out.contains("under the previous secret") && shown.out.contains("4 confirmed"),
        "{}",
        shown.out
    );
    let again = here.run(&["keys", "rotate"]);
    assert_eq!(again.code, 2, "{}", again.out);
    assert!(again.err.contains("--force"), "{}", again.err);
}
