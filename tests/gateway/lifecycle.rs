//! Exchanges that break off, the end and the restart of the process, and reloads under traffic.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::enforcing;
use crate::gateway::on_both_stores;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wso2_sim::Outage;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// Sends a request and leaves once the gateway, or the identity server behind it, has come so far with it.
async fn send_and_leave(world: &World, request: &str, until: impl AsyncFn() -> bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", world.port))
        .await
        .expect("the gateway accepts");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the gateway reads");
    let end = Instant::now() + PATIENCE;
    while !until().await {
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stream);
    world.expect_record();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_of_its_request_leaves_one_record() {
    let world = World::start(Options::default()).await;
    let mark = world.mark().await;
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\n{FORM}Content-Length: 100\r\n\r\ngrant_type="
    );
    let is_taken = async || world.metric("riskgate_connections", &[]).await > 0.5;
    send_and_leave(&world, &request, is_taken).await;
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.door.as_deref(), &*record.action),
        (Some("token"), "refused"),
        "{record:#?}"
    );
    assert_eq!(record.error.as_deref(), Some("body_aborted"));
    assert!(world.received_since(mark).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_wait_for_the_answer_leaves_one_record() {
    let world = World::start(Options::default()).await;
    world.sim.set_response_delay(Duration::from_secs(3_600));
    for (door, request) in [
        (
            Some("token"),
            format!(
                "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\n{FORM}Content-Length: 29\r\n\r\ngrant_type=client_credentials"
            ),
        ),
        (
            None,
            "GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        ),
    ] {
        let mark = world.mark().await;
        let is_under_way = async || world.received_since(mark).len() == 1;
        send_and_leave(&world, &request, is_under_way).await;
        let record = world.record_since(mark).await;
        assert_eq!(
            (record.door.as_deref(), &*record.outcome, &*record.action),
            (door, "abandoned", "failed"),
            "{record:#?}"
        );
        assert!(!record.learnt);
    }
    // Nothing is left behind: the next request is served.
    world.sim.set_response_delay(Duration::ZERO);
    assert_eq!(world.get("/oauth2/jwks").await.status, 200);
    assert_eq!(
        world.metric("riskgate_assessments_in_flight", &[]).await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_server_that_fails_is_told_in_the_form_of_the_door() {
    let world = World::start(Options {
        mode: "enforce",
        config: "[upstream]\nread_timeout_seconds = 1",
        ..Options::default()
    })
    .await;
    let fields = [("grant_type", "client_credentials")];
    for (outage, status, kind) in [
        (Outage::Reset, 502, Some("closed")),
        (Outage::Hang, 504, Some("timeout")),
        (Outage::Status(503), 503, None),
    ] {
        world.sim.set_outage(outage);
        let mark = world.mark().await;
        let answer = world
            .post("/oauth2/token", Some("demo-service"), &fields)
            .await;
        assert_eq!(answer.status, status, "{outage:?}: {answer:?}");
        let record = world.record_since(mark).await;
        assert_eq!(
            (
                &*record.outcome,
                record.error.as_deref(),
                record.response_status
            ),
            ("upstream_error", kind, status),
            "{outage:?}: {record:#?}"
        );
        assert_eq!(
            (record.status.as_deref(), record.learnt),
            (Some("scored"), false),
            "{outage:?}"
        );
        assert_eq!(
            record.class, "scored",
            "{outage:?}: it was the identity server that failed"
        );
        if kind.is_some() {
            assert_eq!(
                answer.member("error"),
                "temporarily_unavailable",
                "{outage:?}"
            );
            assert!(answer.header("retry-after").is_some());
        }
    }
    world.sim.set_outage(Outage::Reset);
    let mut alice = world.person("alice");
    let path = alice.authorize_path(&[]);
    let answer = alice.get(&path).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (502, Some("text/html; charset=utf-8"))
    );
    assert!(world.metric("riskgate_upstream_errors_total", &[]).await >= 3.0);
    world.sim.set_outage(Outage::None);
    assert_eq!(
        world
            .post("/oauth2/token", Some("demo-service"), &fields)
            .await
            .status,
        200
    );
    assert_eq!(world.admin("/health/ready").await.0, 200);
}

on_both_stores!(
    a_restart_keeps_the_history_and_the_device,
    |store: Store| async move {
        let mut world = World::start(Options {
            mode: "enforce",
            store,
            ..Options::default()
        })
        .await;
        let (cookie, refresh) = {
            let mut alice = world.person("alice");
            let mut tokens = None;
            for logins in 1..=3 {
                alice.forget_session();
                let code = alice.sign_in().await;
                tokens = Some(alice.redeem(&code).await);
                world.until_learnt("alice", logins).await;
            }
            world.settle().await;
            (
                alice
                    .cookie("__Host-rg_device")
                    .expect("the cookie")
                    .to_owned(),
                tokens.expect("tokens").member("refresh_token"),
            )
        };
        let before = world.last_record_of("login").await;
        assert_eq!(world.restart().await, Some(0), "{}", world.log());
        assert_eq!(world.history_of("alice").await, 3);
        let mut alice = world.person("alice");
        alice.set_cookie("__Host-rg_device", &cookie);
        alice.log_in().await;
        let after = world.last_record_of("login").await;
        assert_eq!(
            (after.device.as_deref(), after.level.as_deref()),
            (Some("known"), Some("low")),
            "{after:#?}"
        );
        assert_eq!(
            (&after.subject, &after.address),
            (&before.subject, &before.address),
            "the pseudonyms stay"
        );
        assert!(after.score <= before.score, "{after:#?}");
        // What was issued before is still known.
        assert_eq!(
            alice
                .token(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)])
                .await
                .status,
            200
        );
        let record = world.last_record_of("token").await;
        assert_eq!(record.subject, after.subject, "{record:#?}");
        assert!(
            !record.reasons.iter().any(|reason| reason == "code_unknown"),
            "{record:#?}"
        );
    }
);

on_both_stores!(
    what_was_learnt_in_the_last_moment_is_kept,
    |store: Store| async move {
        let mut world = World::start(Options {
            mode: "enforce",
            store,
            ..Options::default()
        })
        .await;
        world.person("alice").sign_in().await;
        // Without a pause: the observation may still be in the queue.
        assert_eq!(world.restart().await, Some(0), "{}", world.log());
        assert_eq!(world.history_of("alice").await, 1);
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_what_is_under_way_end() {
    let mut world = World::start(Options {
        config: "[server]\ngrace_seconds = 30",
        ..Options::default()
    })
    .await;
    world.sim.set_response_delay(Duration::from_millis(1_500));
    let request = world.request(reqwest::Method::GET, "/oauth2/jwks");
    world.expect_record();
    let under_way =
        tokio::spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) });
    let end = Instant::now() + PATIENCE;
    while world.received().is_empty() {
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let start = Instant::now();
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    // It does not wait for all of the time that there is.
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(under_way.await.unwrap().ok(), Some(200));
    assert_eq!(world.last_record().await.response_status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_ends_at_once_and_lets_go_of_its_state() {
    let mut world = World::start(Options {
        config: "log.filter = \"info,riskgate::app=debug\"",
        ..Options::default()
    })
    .await;
    world.get("/oauth2/jwks").await;
    let start = Instant::now();
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    let log = world.log();
    assert!(!log.contains("may be lost"), "{log}");
    assert!(log.contains("the state is let go of"), "{log}");
}

/// Waits until the gateway has counted a reload.
pub(crate) async fn until_reloaded(world: &World, result: &str, count: f64) {
    let end = Instant::now() + PATIENCE;
    while world
        .metric("riskgate_reloads_total", &[("result", result)])
        .await
        < count
    {
        assert!(
            Instant::now() < end,
            "no reload was {result}\n{}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_is_taken_and_a_broken_one_is_refused() {
    let world = enforcing(always("allow")).await;
    let mut alice = world.person("alice");
    let path = alice.authorize_path(&[]);
    assert_eq!(alice.get(&path).await.status, 302);
    let first = world.last_record().await;

    world.set_policy(&always("block"));
    until_reloaded(&world, "ok", 1.0).await;
    assert_eq!(alice.get(&path).await.status, 403);
    let second = world.last_record().await;
    assert!(
        second.policy != first.policy && second.config > first.config,
        "{second:#?}"
    );

    for (number, broken) in [
        "version = 1\n[[rule]]\nname = \"x\"\nwhen = 'risk.scor > 1'\nverdict = \"allow\"\n",
        "not toml at all [",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        world.set_policy(broken);
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let refused = (number + 1) as f64;
        until_reloaded(&world, "refused", refused).await;
        assert_eq!(alice.get(&path).await.status, 403, "the old policy stays");
        assert_eq!(world.last_record().await.policy, second.policy);
    }
    world.set_policy(&always("allow"));
    until_reloaded(&world, "ok", 2.0).await;
    assert_eq!(alice.get(&path).await.status, 302);
    assert_eq!(
        world.last_record().await.policy,
        first.policy,
        "the same text is the same policy"
    );
    // Five looks at the same models: they were proved at the start, and no more.
    let log = world.log();
    let taken: Vec<_> = log
        .lines()
        .filter(|line| line.contains("were reloaded"))
        .collect();
    assert_eq!(taken.len(), 2, "{log}");
    assert!(
        taken.iter().all(|line| line.contains("models.proved=0 ")),
        "{taken:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn off_stops_scoring_at_once_and_undo_brings_it_back() {
    let world = enforcing(always("block")).await;
    let mut alice = world.person("alice");
    let path = alice.authorize_path(&[]);
    assert_eq!(alice.get(&path).await.status, 403);

    // Each change is a record of its own.
    world.expect_record();
    let (code, out, err) = world.command(&["off"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("(was \"enforce\"; 0 "), "{out}");
    until_reloaded(&world, "ok", 1.0).await;
    assert_eq!(alice.get(&path).await.status, 302);
    let record = world.last_record().await;
    assert_eq!(record.mode.as_deref(), Some("off"), "{record:#?}");

    world.expect_record();
    let (code, out, err) = world.command(&["off", "--undo"]);
    assert_eq!(code, Some(0), "{out}{err}");
    until_reloaded(&world, "ok", 2.0).await;
    assert_eq!(alice.get(&path).await.status, 403);

    let (code, out, err) = world.command(&["off", "--undo"]);
    assert_eq!(code, Some(2), "{out}{err}");
    assert!(err.contains("before-off: is not there"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_names_the_changed_keys_that_need_a_restart() {
    let world = World::start(Options::default()).await;
    let file = world.config_file();
    let before = std::fs::read_to_string(&file).unwrap();
    let replace = |text: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    const WARNING: &str = "in force after a restart alone";
    let warnings = || {
        let log = world.log();
        let lines = log.lines().filter(|line| line.contains(WARNING));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // What is taken over is not named.
    replace(&format!("{before}\n[headers]\nreserved = [\"x-tag\"]\n"));
    until_reloaded(&world, "ok", 1.0).await;
    assert!(warnings().is_empty(), "{}", world.log());

    let more = "\n[limits]\nuser_per_minute = 7\n[traces]\nservice = \"a\"\n";
    replace(&format!("{before}{more}"));
    until_reloaded(&world, "ok", 2.0).await;
    let said = warnings();
    assert_eq!(said.len(), 1, "{}", world.log());
    assert!(
        said[0].contains("limits, traces") && said[0].contains("WARN"),
        "{said:?}"
    );
    // Taken back: it is as it was at the start.
    replace(&before);
    until_reloaded(&world, "ok", 3.0).await;
    assert_eq!(warnings(), said);
}
