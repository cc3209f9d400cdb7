//! Connections have places: so many in all, so many from one address. Idle ones are closed, and the operators' listener
//! answers whatever comes.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

const GET: &[u8] = b"GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A connection from one of the machine's own addresses.
async fn from(world: &World, address: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((address, 0).into())
        .expect("an address of ours");
    let gateway = SocketAddr::from(([127, 0, 0, 1], world.port));
    socket.connect(gateway).await.expect("the system accepts")
}

/// Whether a connection is answered, or closed without a word.
async fn is_served(mut stream: TcpStream) -> bool {
    let mut answer = Vec::new();
    let asked = stream.write_all(GET).await;
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    let read = read.await.expect("an answer or an end");
    asked.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

/// Waits until a connection was counted as refused: it may be closed before that.
async fn refused(world: &World, full: &str) -> f64 {
    let name = "riskgate_connections_refused_total";
    let end = Instant::now() + PATIENCE;
    while world.metric(name, &[("full", full)]).await < 0.5 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.metric(name, &[("full", full)]).await
}

/// Waits until the gateway has this many connections.
async fn until_taken(world: &World, count: f64) {
    let end = Instant::now() + PATIENCE;
    while (world.metric("riskgate_connections", &[]).await - count).abs() > 0.5
        && Instant::now() < end
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.metric("riskgate_connections", &[]).await, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_places_and_others_have_theirs() {
    let world = World::start(Options {
        is_peer_trusted: false,
        config: "[server]\nconnections_per_address_max = 4",
        ..Options::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(from(&world, [127, 0, 0, 7]).await);
    }
    until_taken(&world, 4.0).await;
    assert!(!is_served(from(&world, [127, 0, 0, 7]).await).await);
    assert_eq!(refused(&world, "address").await, 1.0);
    world.expect_record();
    assert!(is_served(from(&world, [127, 0, 0, 8]).await).await);
    // A place that is given back is taken again.
    held.pop();
    until_taken(&world, 3.0).await;
    world.expect_record();
    assert!(is_served(from(&world, [127, 0, 0, 7]).await).await);
    world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_places_taken_operators_are_answered_and_idle_connections_make_room() {
    let world = World::start(Options {
        config: "[server]\nconnections_max = 20\nkeepalive_seconds = 3600\nhead_timeout_seconds = 300",
        ..Options::default()
    })
    .await;
    let mut held = Vec::new();
    for number in 0..20 {
        held.push(from(&world, [127, 0, 1, number]).await);
    }
    until_taken(&world, 20.0).await;
    assert!(!is_served(from(&world, [127, 0, 0, 7]).await).await);
    assert_eq!(refused(&world, "all").await, 1.0);
    assert_eq!(world.admin("/health/ready").await.0, 200);
    // The silent ones had minutes, and have seconds while places are scarce.
    let start = Instant::now();
    until_taken_below(&world, 20.0).await;
    eprintln!("room after {:.1?}", start.elapsed());
    assert!(start.elapsed() < PATIENCE);
    world.expect_record();
    assert!(is_served(from(&world, [127, 0, 0, 7]).await).await);
    world.records().await;
}

async fn until_taken_below(world: &World, count: f64) {
    let end = Instant::now() + PATIENCE;
    while world.metric("riskgate_connections", &[]).await >= count && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ten thousand, or as many as the limit of open files lets one process hold.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_closed_in_time_and_logins_go_on() {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the limits of this process");
    let files: usize = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or(1_024, |number| number.parse().unwrap_or(usize::MAX));
    let count = 10_000.min((files - 200) * 3 / 4);
    let world = World::start(Options {
        config: "[server]\nconnections_max = 19000\nhead_timeout_seconds = 4",
        ..Options::default()
    })
    .await;
    let memory = world.resident_kib();
    let start = Instant::now();
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let [high, low] = u16::try_from(number / 2_000).expect("a few").to_be_bytes();
        held.push(from(&world, [127, 2, high, low + 1]).await);
    }
    let connected = start.elapsed();
    // While they are there, or are being closed, somebody logs in.
    let mut alice = world.person("alice");
    let login = Instant::now();
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    let login = login.elapsed();
    let grown = world.resident_kib().saturating_sub(memory);
    assert_eq!(world.admin("/health/ready").await.0, 200);

    let closing = Instant::now();
    for stream in &mut held {
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "still open: {end:?}");
    }
    eprintln!(
        "{count} idle connections made in {connected:.1?} and closed after {:.1?} more; a login beside them took \
         {login:.1?}; memory grew by {grown} KiB",
        closing.elapsed()
    );
    // A connection is closed before it is counted. The client of the login may have made one more than it needed.
    let wanted = f64::from(u32::try_from(count).expect("a small number"));
    let missing = [("missing", "head")];
    let name = "riskgate_connections_given_up_total";
    let end = Instant::now() + PATIENCE;
    let mut given_up = world.metric(name, &missing).await;
    while given_up < wanted && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        given_up = world.metric(name, &missing).await;
    }
    assert!((wanted..wanted + 10.0).contains(&given_up), "{given_up}");
    // Far less than a client waits.
    assert!(login < Duration::from_secs(20), "{login:?}");
}

/// Waits until the gateway has read all that was sent to it, as the system tells it.
async fn until_read(world: &World) {
    let port = format!(":{:04X}", world.port);
    let unread = || -> u64 {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
        let of_gateway = table.lines().filter_map(|line| {
            let mut cells = line.split_whitespace().skip(1);
            let (local, _, _, queues) =
                (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
            let (_, unread) = queues.split_once(':')?;
            local
                .ends_with(&port)
                .then(|| u64::from_str_radix(unread, 16))?
                .ok()
        });
        of_gateway.sum()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while unread() > 0 {
        assert!(Instant::now() < end, "{} bytes are not read", unread());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Heads and bodies as large as they may be, of which the last byte does not come: wave after wave.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_make_the_gateway_hold_has_a_bound() {
    const CLIENTS: usize = 400;
    const WAVES: usize = 4;
    /// For each: a buffer of 64 KiB for reading, the body of 64 KiB in one that has doubled to hold it, its head, and room.
    const EACH_KIB: usize = 400;
    /// What three waves more may add: less than if something of each client stayed.
    const MORE_KIB: usize = 48 * 1024;
    let world = World::start(Options {
        config: "[server]\nconnections_max = 2000\nconnections_per_address_max = 2000\nbody_timeout_seconds = 300\n\
                 [limits]\naddress_per_minute = 0\nnetwork_per_minute = 0\nuser_per_minute = 0\nclient_per_minute = 0",
        ..Options::default()
    })
    .await;
    let large = "a".repeat(7_000);
    let mut request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nX-Large: {large}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 65536\r\n\r\ngrant_type="
    )
    .into_bytes();
    request.extend(vec![b'a'; 65_536 - "grant_type=".len() - 1]);
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let before = world.resident_kib();
    let mut after = Vec::new();
    for _ in 0..WAVES {
        let mut held = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let mut stream = from(&world, [127, 3, 0, 1]).await;
            stream.write_all(&request).await.expect("the gateway reads");
            world.expect_record();
            held.push(stream);
        }
        until_read(&world).await;
        // Somebody logs in beside them.
        alice.forget_session();
        let code = alice.sign_in().await;
        assert_eq!(alice.redeem(&code).await.status, 200);
        after.push(world.resident_kib().saturating_sub(before));
        drop(held);
        until_taken_below(&world, 20.0).await;
    }
    world.records().await;
    eprintln!("{CLIENTS} clients with all that they may send: memory grew by {after:?} KiB");
    let most = after.iter().max().copied().unwrap_or_default();
    assert!(most < CLIENTS * EACH_KIB, "{after:?}");
    assert!(after[WAVES - 1] <= after[0] + MORE_KIB, "{after:?}");
}
