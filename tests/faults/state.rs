//! The state store is away, slow, full or hostile: logins are scored from the request and the device cookie alone.

use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::table::Breaker;
use crate::table::Moment;
use crate::table::breaker;
use crate::table::opened_and_closed;
use crate::traffic::Crowd;
use crate::traffic::Phase;
use crate::traffic::Scored;
use crate::traffic::alone;
use crate::traffic::bar;
use crate::traffic::in_time;
use crate::traffic::is_measured;
use crate::traffic::normal;
use crate::traffic::recovered;
use crate::traffic::recovery_max;
use crate::traffic::until_part;
use crate::traffic::world;
use crate::wire::Closed;
use crate::wire::Wire;
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const FALLBACKS: &str = "riskgate_score_fallbacks_total";

async fn on_redis(url: &str) -> World {
    world(&format!("state.url = \"{url}\"\n")).await
}

/// What a login gets without state: a score from the request alone, with the cause in record, metric and reasons.
fn assert_stateless(phase: &Phase) {
    phase.assert_marked();
    for Scored { record, .. } in &phase.scored {
        // With the state at hand, a busy machine may still be too slow for the model now and then.
        let has_state = record.source.as_deref() == Some("native");
        if let Some(cause) = record.fallback.as_ref().filter(|_| !has_state) {
            assert!(
                matches!(&**cause, "state_timeout" | "state_unavailable"),
                "{record:?}"
            );
            assert_eq!(record.source.as_deref(), Some("stateless"), "{record:?}");
            assert!(
                record
                    .reasons
                    .iter()
                    .any(|reason| reason == "state_unavailable"),
                "{record:?}"
            );
        }
    }
    assert!(phase.causes("unscored").is_empty());
}

/// Every request of the phase went without state.
fn assert_all_stateless(phase: &Phase) {
    assert_stateless(phase);
    for Scored { record, .. } in &phase.scored {
        assert!(
            matches!(record.source.as_deref(), Some("stateless" | "provenance")),
            "{record:?}"
        );
        assert!(
            record
                .reasons
                .iter()
                .any(|reason| reason == "state_unavailable"),
            "{record:?}"
        );
    }
    assert!(
        phase
            .at("authorize")
            .any(|record| record.fallback.is_some())
    );
    assert!(phase.at("login").any(|record| record.fallback.is_some()));
}

/// Each fallback that was recorded was counted, under its cause.
async fn assert_counted(world: &World, before: &[(&str, f64)], phase: &Phase) {
    let causes = phase.causes("scored");
    for (cause, earlier) in before {
        let counted = world.metric(FALLBACKS, &[("cause", cause)]).await - earlier;
        let recorded = causes.get(*cause).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let recorded = recorded as f64;
        assert!(
            (counted - recorded).abs() < 0.5,
            "{cause}: {counted} counted, {recorded} recorded"
        );
    }
}

async fn counted(world: &World) -> Vec<(&'static str, f64)> {
    let mut counts = Vec::new();
    for cause in ["state_timeout", "state_unavailable"] {
        counts.push((cause, world.metric(FALLBACKS, &[("cause", cause)]).await));
    }
    counts
}

async fn until_degraded(world: &World) {
    until_part(world, "state", |detail| detail.is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_answering_in_the_middle_of_traffic() {
    let _alone = alone().await;
    let redis = RedisServer::start();
    let world = on_redis(&redis.url()).await;
    recovered(&world).await;
    let usual = Crowd::people(5).log_in(&world).await;

    let began = Cell::new(Moment::now());
    let name = "stopped under traffic (SIGSTOP)";
    let faulty = in_time(name, async || {
        redis.cont();
        recovered(&world).await;
        logins_over_silence(&world, || {
            began.set(Moment::now());
            redis.stop();
        })
        .await
    })
    .await;
    assert_silence(&faulty, &usual);
    until_degraded(&world).await;
    assert_all_stateless(&Crowd::people(2).log_in(&world).await);

    let ended = Moment::now();
    redis.cont();
    eprintln!(
        "redis goes on: scored as before after {:?}",
        recovered(&world).await
    );
    let breaker = opened_and_closed(&world, name, began.get(), ended).await;
    faulty.tally().print(name, breaker);
    normal("redis answers again", async || {
        Crowd::people(2).log_in(&world).await
    })
    .await;
}

/// Logins, the first of which still see the store answer: until its silence has been noticed in both ways, by the time that a
/// read has and by doing without. A read that took its time need not be one whose decision lacked it: what came of a login
/// that this node remembers is decided all the same.
async fn logins_over_silence(world: &World, fall_silent: impl Fn()) -> Phase {
    let before = counted(world).await;
    let unavailable = world
        .metric(FALLBACKS, &[("cause", "state_unavailable")])
        .await;
    let late = late_reads(world).await;
    let is_noticed = Cell::new(false);
    let (phase, ()) = tokio::join!(Crowd::people(1).until(world, || is_noticed.get()), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        fall_silent();
        let end = Instant::now() + recovery_max();
        loop {
            let now = world
                .metric(FALLBACKS, &[("cause", "state_unavailable")])
                .await;
            if now > unavailable && late_reads(world).await > late {
                break;
            }
            assert!(
                Instant::now() < end,
                "{} reads took their time, {} decisions did without",
                late_reads(world).await - late,
                now - unavailable
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        is_noticed.set(true);
    });
    assert_counted(world, &before, &phase).await;
    phase
}

/// Connections stay open and are accepted, and for some seconds nothing is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_pauses_its_clients() {
    let pause = bar(Duration::from_secs(4), Duration::from_secs(12));
    let millis = pause.as_millis().to_string();
    let _alone = alone().await;
    let redis = RedisServer::start();
    let world = on_redis(&redis.url()).await;
    recovered(&world).await;
    let usual = Crowd::people(5).log_in(&world).await;

    let began = Cell::new(Moment::now());
    let name = format!(
        "silent for {} s under traffic (CLIENT PAUSE)",
        pause.as_secs()
    );
    let faulty = in_time(&name, async || {
        recovered(&world).await;
        logins_over_silence(&world, || {
            began.set(Moment::now());
            let pause: [&[u8]; 4] = [b"CLIENT", b"PAUSE", millis.as_bytes(), b"ALL"];
            assert_eq!(redis.command(&pause), b"+OK\r\n");
        })
        .await
    })
    .await;
    assert_silence(&faulty, &usual);
    let ended = began.get().plus(pause);
    let rest = Crowd::people(1).until(&world, || began.get().elapsed() > pause);
    assert_stateless(&rest.await);
    eprintln!(
        "redis is no longer silent: scored as before after {:?}",
        recovered(&world).await
    );
    let breaker = opened_and_closed(&world, &name, began.get(), ended).await;
    faulty.tally().print(&name, breaker);
}

/// A server that falls silent in the middle of these logins was noticed by them alone.
fn assert_silence(faulty: &Phase, usual: &Phase) {
    faulty.print("redis falls silent", Some(usual));
    assert_stateless(faulty);
    faulty.assert_not_felt(usual);
    let causes = faulty.causes("scored");
    assert!(causes.contains_key("state_unavailable"), "{causes:?}");
}

async fn late_reads(world: &World) -> f64 {
    let labels = [("operation", "load"), ("kind", "timeout")];
    world.metric("riskgate_state_errors_total", &labels).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_on_its_port() {
    let _alone = alone().await;
    let mut redis = RedisServer::start();
    let world = on_redis(&redis.url()).await;
    recovered(&world).await;
    let usual = Crowd::people(5).log_in(&world).await;

    let name = "killed (SIGKILL)";
    let mut began = Moment::now();
    redis.kill();
    let before = counted(&world).await;
    let faulty = Crowd::people(8).log_in(&world).await;
    assert_counted(&world, &before, &faulty).await;
    assert_all_stateless(&faulty);
    let faulty = if faulty.is_late() {
        faulty.print("redis killed (late, so once more)", None);
        redis.restart();
        recovered(&world).await;
        began = Moment::now();
        redis.kill();
        Crowd::people(8).log_in(&world).await
    } else {
        faulty
    };
    faulty.assert_in_time(name);
    faulty.assert_not_felt(&usual);
    faulty.print(name, Some(&usual));
    // Long enough that the pauses between two probes have grown as far as they do.
    let end = Instant::now() + Duration::from_secs(9);
    let open = Crowd::people(1)
        .until(&world, || Instant::now() > end)
        .await;
    assert_all_stateless(&open);
    open.tally()
        .print("still away, breaker open", Breaker::default());

    let ended = Moment::now();
    redis.restart();
    eprintln!(
        "redis is back: scored as before after {:?}",
        recovered(&world).await
    );
    let breaker = opened_and_closed(&world, name, began, ended).await;
    faulty.tally().print(name, breaker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_was_never_there() {
    let _alone = alone().await;
    let closed = Closed::port();
    let port = closed.address().port();
    let world = on_redis(&format!("redis://127.0.0.1:{port}")).await;
    let began = Moment::now();
    let faulty = in_time("redis never there", async || {
        Crowd::people(6).log_in(&world).await
    })
    .await;
    assert_all_stateless(&faulty);
    faulty.print("redis never there", None);
    until_degraded(&world).await;

    let ended = Moment::now();
    drop(closed);
    let _redis = RedisServer::start_on(port, &[]);
    eprintln!(
        "redis comes for the first time: scored after {:?}",
        recovered(&world).await
    );
    let breaker = opened_and_closed(&world, "never there", began, ended).await;
    faulty.tally().print("never there", breaker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_takes_no_more_writes() {
    let _alone = alone().await;
    let redis = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let world = on_redis(&redis.url()).await;
    recovered(&world).await;
    let usual = Crowd::people(4).log_in(&world).await;
    redis.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    let began = Moment::now();
    let faulty = normal("redis full", async || Crowd::people(6).log_in(&world).await).await;
    // Reading goes on; only what is learnt meanwhile is lost.
    faulty.assert_not_felt(&usual);
    faulty.print("redis full", Some(&usual));
    let turned = breaker(&world, began, None).await;
    faulty.tally().print("full (noeviction)", turned);
    let end = Instant::now() + Duration::from_secs(60);
    while world.metric("riskgate_state_writes_lost_total", &[]).await < 0.5 {
        assert!(Instant::now() < end, "no write is counted as lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        world
            .metric("riskgate_state_errors_total", &[("operation", "record")])
            .await
            > 0.0
    );

    redis.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    world.settle().await;
    let lost = world.metric("riskgate_state_writes_lost_total", &[]).await;
    normal("redis answers again", async || {
        Crowd::people(2).log_in(&world).await
    })
    .await;
    world.settle().await;
    let still = world.metric("riskgate_state_writes_lost_total", &[]).await;
    assert!((still - lost).abs() < 0.5, "{lost} then {still}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_slowly() {
    let _alone = alone().await;
    let redis = RedisServer::start();
    let wire = Wire::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let world = on_redis(&format!("redis://{}", wire.address())).await;
    recovered(&world).await;
    let usual = Crowd::people(4).log_in(&world).await;

    // Within the time that a read may take, the state is used.
    let began = Moment::now();
    wire.delay(Duration::from_millis(5));
    let faulty = in_time("redis 5 ms late", async || {
        Crowd::people(6).log_in(&world).await
    })
    .await;
    faulty.print("redis 5 ms late", Some(&usual));
    faulty.assert_not_felt(&usual);
    assert_stateless_or_scored(&faulty);
    let used = faulty
        .at("authorize")
        .filter(|record| record.source.as_deref() == Some("model"));
    assert!(used.count() > 0, "no read was in time");
    let turned = breaker(&world, began, None).await;
    faulty.tally().print("answers 5 ms late", turned);

    // Later than that, it is not: 15 ms as shipped, half a second elsewhere.
    let late = if is_measured() {
        [20, 100]
    } else {
        [700, 1_500]
    };
    for millis in late {
        wire.delay(Duration::ZERO);
        recovered(&world).await;
        let name = format!("answers {millis} ms late");
        let began = Moment::now();
        wire.delay(Duration::from_millis(millis));
        let faulty = in_time(&name, async || Crowd::people(6).log_in(&world).await).await;
        faulty.print(&name, Some(&usual));
        assert_all_stateless(&faulty);
        faulty.assert_not_felt(&usual);
        let ended = Moment::now();
        wire.delay(Duration::ZERO);
        eprintln!(
            "redis is quick again: scored as before after {:?}",
            recovered(&world).await
        );
        let breaker = opened_and_closed(&world, &name, began, ended).await;
        faulty.tally().print(&name, breaker);
    }
}

/// At the edge of the time allowed a busy machine may be late now and then.
fn assert_stateless_or_scored(phase: &Phase) {
    phase.assert_marked();
    assert!(phase.causes("unscored").is_empty());
    assert!(
        phase
            .causes("scored")
            .keys()
            .all(|cause| cause.starts_with("state_") || cause.starts_with("model_t"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_holds_what_nobody_of_us_wrote() {
    let _alone = alone().await;
    let redis = RedisServer::start();
    let world = on_redis(&redis.url()).await;
    recovered(&world).await;
    let usual = Crowd::people(4).log_in(&world).await;
    world.settle().await;

    let huge = vec![b'9'; 1024 * 1024];
    let values: [&[u8]; 8] = [
        b"",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"-9223372036854775808",
        b"NaN",
        b"{\"score\":100}",
        b"\x00\x01\x02",
        b"99999999999999999999999999999999999999999999",
        &huge,
    ];
    for value in values {
        let keys = overwrite(&redis, value);
        assert!(keys > 10, "only {keys} keys");
        let name = format!("hostile values, {} bytes each", value.len());
        let began = Moment::now();
        let logins = async || {
            overwrite(&redis, value);
            Crowd::people(2).log_in(&world).await
        };
        // Only what is too large to be read in time costs the history; the rest reads as missing.
        let faulty = if value.len() < huge.len() {
            normal(&name, logins).await
        } else {
            in_time(&name, logins).await
        };
        faulty.print(&name, Some(&usual));
        let turned = breaker(&world, began, None).await;
        faulty.tally().print(&name, turned);
        assert_stateless_or_scored(&faulty);
        overwrite(&redis, b"");
        recovered(&world).await;
    }
    // Values of another type.
    for key in keys_of(&redis) {
        redis.command(&[b"DEL", &key]);
        redis.command(&[b"SADD", &key, b"member"]);
    }
    let faulty = normal("values of another type", async || {
        Crowd::people(2).log_in(&world).await
    })
    .await;
    faulty.print("values of another type", Some(&usual));
    faulty
        .tally()
        .print("values of another type", Breaker::default());

    redis.command(&[b"FLUSHALL"]);
    normal("redis answers again", async || {
        Crowd::people(2).log_in(&world).await
    })
    .await;
    assert!(world.metric("riskgate_panics_total", &[]).await < 0.5);
}

fn keys_of(redis: &RedisServer) -> Vec<Vec<u8>> {
    let answer = redis.command(&[b"KEYS", b"rg:1:*"]);
    let lines = answer
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines
        .filter(|line| line.starts_with(b"rg:1:"))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Puts `value` under every key; says how many there are.
fn overwrite(redis: &RedisServer, value: &[u8]) -> usize {
    let keys = keys_of(redis);
    for key in &keys {
        redis.command(&[b"SET", key, value]);
    }
    keys.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_answers_in_the_place_of_redis() {
    let _alone = alone().await;
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$999999999999\r\n",
        b"*2147483647\r\n",
        b"-ERR \xff\xfe\r\n",
        b"\x00\x00\x00\x00",
    ];
    for answer in answers {
        let stranger = Stranger::start(answer).await;
        let world = on_redis(&format!("redis://{}", stranger.address)).await;
        let name = format!("`{}` in place of redis", answer.escape_ascii());
        let began = Moment::now();
        let faulty = in_time(&name, async || Crowd::people(2).log_in(&world).await).await;
        faulty.print(&name, None);
        assert_all_stateless(&faulty);
        let turned = breaker(&world, began, None).await;
        faulty.tally().print(&name, turned);
        assert!(world.metric("riskgate_panics_total", &[]).await < 0.5);
    }
}

/// A server that says the same to everything.
struct Stranger {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Stranger {
    async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}
