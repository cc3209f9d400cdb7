//! What a process runs out of: file descriptors and processor time. Operators are answered, logins go on as far as they
//! can, and when it is over everything is as before.

use crate::flood::issuer;
use crate::flood::limited;
use crate::flood::login;
use crate::gateway::Options;
use crate::gateway::World;
use crate::traffic::alone;
use crate::traffic::join_all;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpStream;

const FILES: u32 = 256;
/// Waiting clients, more than there are descriptors.
const CLIENTS: usize = 400;
/// Of clients who give the gateway time.
const PORTION: usize = 20;
const FORM: [(&str, &str); 2] = [("grant_type", "client_credentials"), ("scope", "read")];

async fn world(config: &str) -> World {
    let port = issuer().await;
    let config = format!("[upstream]\nurl = 'http://127.0.0.1:{port}'\n{config}");
    World::start(Options {
        config: config.leak(),
        open_files: Some(FILES),
        ..Options::default()
    })
    .await
}

/// Clients who come `at_once`, or as fast as the gateway takes them or turns them away: what is accepted and not closed yet
/// takes a descriptor.
async fn crowd(world: &World, at_once: bool) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let start = Instant::now();
        while !at_once
            && number % PORTION == 0
            && met(world).await < number as f64
            && start.elapsed() < Duration::from_secs(30)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stream = TcpStream::connect(("127.0.0.1", world.port)).await;
        held.push(stream.expect("the system accepts"));
    }
    held
}

/// How many clients have a place or were turned away.
async fn met(world: &World) -> f64 {
    let refused = world
        .metric("riskgate_connections_refused_total", &[("full", "all")])
        .await;
    world.metric("riskgate_connections", &[]).await + refused
}

/// How soon logins go on once there are descriptors: two seconds in `make hardening`, on a machine that does nothing else.
fn at_once() -> Duration {
    match std::env::var_os("RISKGATE_HARDENING") {
        Some(_) => Duration::from_secs(2),
        None => Duration::from_secs(30),
    }
}

/// Until a login is answered with tokens; how long that took.
async fn until_served(world: &World) -> Duration {
    let start = Instant::now();
    loop {
        let request = world
            .request(reqwest::Method::POST, "/oauth2/token")
            .timeout(Duration::from_secs(5))
            .form(&FORM);
        if request
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
        {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "never served again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As shipped the limit is known, and connections leave a reserve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_descriptors_connections_are_refused_before_they_run_out() {
    let _alone = alone().await;
    let world = world("[server]\nhead_timeout_seconds = 300\n").await;
    let held = crowd(&world, false).await;
    let end = Instant::now() + Duration::from_secs(60);
    let refused = async || {
        world
            .metric("riskgate_connections_refused_total", &[("full", "all")])
            .await
    };
    while refused().await < 1.0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let most = world.open_files();
    assert_eq!(world.admin("/health/ready").await.0, 200);
    assert!(refused().await >= 1.0);
    assert!(most < FILES as usize - 32, "{most} descriptors");
    let before = world.processor_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = world.processor_time() - before;
    // A loop that spins takes all of it.
    assert!(used < 100, "{used} ticks of two seconds");
    drop(held);
    let took = until_served(&world).await;
    eprintln!(
        "{CLIENTS} clients, {FILES} descriptors: {most} in use, {used} of 200 ticks used; served {took:.1?} later"
    );
    eprintln!(
        "hardening|R26 clients beyond the descriptors: connections, refused, operators unanswered|{CLIENTS}|{}|0",
        CLIENTS - 80
    );
    assert!(took < at_once(), "{took:?}");
    assert!(
        !world.log().contains("Too many open files"),
        "{}",
        world.log()
    );
}

/// With more places than descriptors they do run out: the gateway waits without spinning, and goes on at once when some
/// are there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_the_gateway_waits_and_goes_on() {
    let _alone = alone().await;
    let world = world("[server]\nhead_timeout_seconds = 300\nconnections_max = 10000\n").await;
    let held = crowd(&world, true).await;
    let end = Instant::now() + Duration::from_secs(60);
    while !world.log().contains("Too many open files") && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        world.log().contains("Too many open files"),
        "{}",
        world.log()
    );
    let before = world.processor_time();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = world.processor_time() - before;
    drop(held);
    let took = until_served(&world).await;
    eprintln!(
        "no descriptors for 3 s: {used} of 300 ticks used; served {took:.1?} after they were there again"
    );
    assert!(used < 150, "{used} of 300 ticks");
    assert!(took < at_once(), "{took:?}");
    assert_eq!(world.admin("/health/ready").await.0, 200);
}

/// Two busy threads for each core beside the gateway, sixteen people side by side, and a flood of three times as many:
/// nobody fails, and nine in ten are scored. What is refused is refused in no more time than the others need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_scored_while_the_processor_is_taken() {
    const LOGINS: usize = 200;
    const PEOPLE: usize = 16;
    let _alone = alone().await;
    let world = limited(20).await;
    let over = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let busy: Vec<_> = (0..2 * cores)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let next = AtomicUsize::new(0);
    let people = (0..PEOPLE).map(|_| async {
        let mut times = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= LOGINS {
                return times;
            }
            let address = format!("198.18.{number}.7");
            let (status, took) = login(&world, "others", &format!("user-{number}"), &address).await;
            assert_eq!(status, 200);
            times.push(took);
        }
    });
    let flood = (0..3 * PEOPLE).map(|worker| {
        let (world, next) = (&world, &next);
        async move {
            let mut times = Vec::new();
            while next.load(Ordering::Relaxed) < LOGINS {
                let address = format!("203.0.113.{worker}");
                let (status, took) =
                    login(world, "flood", &format!("name-{worker}"), &address).await;
                if status == 429 {
                    times.push(took);
                }
            }
            times
        }
    });
    let (people, flood) = tokio::join!(join_all(people.collect()), join_all(flood.collect()));
    over.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().expect("a busy thread ends");
    }
    let median = |times: Vec<Vec<Duration>>| {
        let mut times: Vec<_> = times.into_iter().flatten().collect();
        times.sort();
        (times.len(), times[times.len() / 2])
    };
    let ((logins, usual), (refused, quick)) = (median(people), median(flood));
    let records = world.records().await;
    let scored = records
        .iter()
        .filter(|record| record.client_id.as_deref() == Some("others"))
        .filter(|record| record.status.as_deref() == Some("scored"))
        .count();
    eprintln!(
        "processor taken: {scored} of {logins} logins scored, median {usual:.1?}; {refused} refused, median {quick:.1?}"
    );
    eprintln!(
        "hardening|R25 logins while the processor is taken: tried, failed, unscored|{logins}|0|{}",
        logins - scored
    );
    assert!(scored * 10 >= logins * 9, "{scored} of {logins}");
    assert!(refused > 0 && quick < usual * 2, "{quick:?}, {usual:?}");
}
