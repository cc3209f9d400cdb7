//! Redis in its other forms: over TLS, behind a Sentinel. Each with real servers.

use crate::facts::*;
use crate::redis::connect;
use crate::redis::keys;
use crate::redis::teach_everything;
use crate::redis::text;
use crate::redis_server::RedisServer;
use riskgate::adapters::redis::RedisAuthorities;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::redis::RedisStore;
use riskgate::adapters::redis::RedisTls;
use riskgate::domain::secret::Secret;
use riskgate::flow::ports::StateError;
use riskgate::flow::ports::StateStore;
use std::time::Duration;
use std::time::Instant;

#[tokio::test]
async fn tls_is_spoken_and_the_certificate_checked() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = RedisServer::start_tls(&certificate, &key, &certificate);
    let trusting = RedisTls {
        authorities: RedisAuthorities::of(made.cert.pem().into_bytes()),
        client: None,
    };
    let store = connect(
        &server,
        RedisSettings {
            tls: trusting,
            ..patient()
        },
    );
    let asked = teach_everything(&store).await;
    assert!(store.load(&asked).await.unwrap().profile.is_some());
    // Whoever does not know the authority does not talk.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let wary = RedisTls {
        authorities: RedisAuthorities::of(other.cert.pem().into_bytes()),
        client: None,
    };
    let store = connect(
        &server,
        RedisSettings {
            tls: wary,
            ..patient()
        },
    );
    assert!(matches!(
        store.load(&asked).await,
        Err(StateError::Unavailable(_))
    ));
    // Certificates that are none are found before anything is started.
    let broken = RedisTls {
        authorities: RedisAuthorities::of(b"-----BEGIN CERTIFICATE-----\nx\n".to_vec()),
        client: None,
    };
    assert!(
        RedisStore::connect(
            &server.url(),
            RedisSettings {
                tls: broken,
                ..patient()
            }
        )
        .is_err()
    );
}

/// With a password for everybody, and with a user for us, who may do what the guide says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_with_credentials_of_their_own_are_asked_with_them() {
    let master = RedisServer::start();
    let with = |line: &str| {
        RedisServer::start_sentinel(&format!(
            "{line}\nsentinel monitor mymaster 127.0.0.1 {} 1\n",
            master.port()
        ))
    };
    let everybody = with("requirepass open-sesame");
    let named = with(
        "requirepass other\nuser riskgate on >open-sesame resetchannels -@all +role +sentinel|masters",
    );
    let asked = |sentinel: &RedisServer, username: Option<&str>, password: Option<&str>| {
        let settings = RedisSettings {
            sentinel_username: username.map(str::to_owned),
            sentinel_password: password.map(|text| Secret::new(text.to_owned())),
            ..patient()
        };
        let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port());
        RedisStore::connect(&url, settings).unwrap()
    };
    for (sentinel, username) in [(&everybody, None), (&named, Some("riskgate"))] {
        let store = asked(sentinel, username, Some("open-sesame"));
        store.ping().await.unwrap();
        for (password, said) in [
            (
                None,
                "wants a password, expected in state.sentinel_password_file",
            ),
            (
                Some("wrong-canary"),
                "refuses what state.sentinel_password_file",
            ),
        ] {
            let store = asked(sentinel, username.filter(|_| password.is_some()), password);
            let error = store.ping().await.unwrap_err().to_string();
            assert!(error.contains(said), "{username:?} {password:?}: {error}");
            assert!(!error.contains("wrong-canary"), "{error}");
        }
    }
    // It is the server behind them that refuses: nothing is said of Sentinels.
    assert_eq!(
        master.command(&[b"CONFIG", b"SET", b"requirepass", b"hidden"]),
        b"+OK\r\n"
    );
    let store = asked(&everybody, None, Some("open-sesame"));
    let error = store.ping().await.unwrap_err().to_string();
    assert!(!error.contains("entinel"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_asked_for_the_master() {
    let mut first = RedisServer::start();
    let second = RedisServer::start_with(&["--replicaof", "127.0.0.1", &first.port().to_string()]);
    let sentinel = RedisServer::start_sentinel(&format!(
        "requirepass open-sesame\nsentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 1500\nsentinel failover-timeout mymaster 3000\n",
        first.port()
    ));
    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port());
    let settings = RedisSettings {
        sentinel_password: Some(Secret::new("open-sesame".to_owned())),
        ..patient()
    };
    let store = RedisStore::connect(&url, settings).unwrap();
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    assert!(!keys(&first).is_empty());
    // The replica is in step and known to the sentinel before the master dies.
    let end = Instant::now() + Duration::from_secs(120);
    let port = second.port().to_string();
    while keys(&second).is_empty()
        || !text(&sentinel.command_as("open-sesame", &[b"SENTINEL", b"REPLICAS", b"mymaster"]))
            .contains(&port)
    {
        assert!(Instant::now() < end, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.kill();
    let started = Instant::now();
    let profile = loop {
        if let Ok(history) = store.load(&query(1, START)).await
            && store.record(&[learnt(lesson(2, START))]).await.is_ok()
        {
            break history.profile;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "no failover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(profile.unwrap().successes, 1);
    eprintln!(
        "sentinel failover: served again after {:?}",
        started.elapsed()
    );
}
