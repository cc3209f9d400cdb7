//! What a million users cost: bytes of Redis for each, with its parts; the read of a scored request beside a bare `GET` in
//! the same run, and a whole scored request, at a thousand, a hundred thousand and a million users; what a million made-up
//! names leave behind; the size of the embedded file.
//!
//! `cargo bench --bench state_scale` takes some minutes and 2 GiB; `-- 100000` for fewer users. It prints the figures of
//! `docs/STATE.md` and fails when a bar is missed: 700 bytes per user, twice a bare `GET` at the median, 1.3 times the
//! read and the whole request at a thousand users, 32 MiB of Redis and 50 MiB of this process for the made-up names.
//!
//! The town: three people in four live with somebody, so that a million of them have 550,000 addresses at home; mobile
//! operators share 20,000 addresses, offices 5,000. Somebody has signed in forty times over half a year, the last time within
//! five days, in ten hours of the day, at home, at the office or on the way, with two devices whose browsers update
//! themselves; one login in twenty is mistyped first. Half a year is written in minutes: what would have ended by now is
//! not written, or taken away again.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench that cannot be set up has nothing to say"
)]

#[path = "../tests/stores/facts.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod facts;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod redis_server;
#[path = "state_scale/whole.rs"]
mod whole;

use crate::facts::*;
use crate::redis_server::RedisServer;
use crate::whole::Gateway;
use crate::whole::Names;
use ::redis as redis_client;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::adapters::redis::RedisStore;
use riskgate::domain::demand::DemandScope;
use riskgate::domain::history::Attempt;
use riskgate::domain::history::Familiarity;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Lesson;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::domain::history::Provenance;
use riskgate::domain::ids::RequestId;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use tokio::runtime::Runtime;

/// Logins that a profile has seen.
const LOGINS: u64 = 40;
/// Users whose observations go into one batch.
const BATCH: u64 = 100;
/// Reads that are timed at each size.
const READS: u64 = 20_000;
/// Rounds in which whole requests are timed at each size, and requests of a round on each server.
const ROUNDS: u64 = 41;
const REQUESTS: u64 = 250;
/// Made-up names, and the addresses from which they come.
const NAMES: u64 = 1_000_000;
const BOTS: u64 = 1_000;

fn main() {
    let users: u64 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let runtime = Runtime::new().expect("a runtime");
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), patient()).expect("the URL is right");
    let store = Arc::new(store);
    let names = Names::new();
    runtime.block_on(store.ping()).expect("the server answers");
    let empty = memory(&server);
    let now = now();
    let mut missed = Vec::new();

    println!("# {users} users, {LOGINS} logins each");
    // A thousand users on a server of their own: read in turn with the large one, so that a busy moment of the machine
    // is in both.
    let few = users / 1_000;
    let small_server = RedisServer::start();
    let small = RedisStore::connect(&small_server.url(), patient()).expect("the URL is right");
    let small = Arc::new(small);
    fill(&runtime, &small, &names, 0..few, users, now);
    let (mut at_large, mut at_small) = (Gateway::on(store.clone()), Gateway::on(small.clone()));
    let mut filled = 0;
    for size in [users / 1_000, users / 10, users] {
        let started = Instant::now();
        fill(&runtime, &store, &names, filled..size, users, now);
        filled = size;
        let filling = started.elapsed();
        let stores = [&*store, &*small];
        let read = reads(&runtime, &server, stores, &names, [size, few], users, now);
        let ratio = read.load[0].as_secs_f64() / read.get[0].as_secs_f64();
        println!(
            "{size:>9} users (filled in {filling:.0?}): read p50 {:.1?} p99 {:.1?}, bare GET p50 {:.1?} p99 {:.1?}: {ratio:.2} times at the median",
            read.load[0], read.load[1], read.get[0], read.get[1]
        );
        let growth = read.load[0].as_secs_f64() / read.small[0].as_secs_f64();
        println!(
            "          {growth:.2} times the read among {few} users (p50 {:.1?} p99 {:.1?})",
            read.small[0], read.small[1]
        );
        if ratio > 2.0 {
            missed.push(format!("{size} users: {ratio:.2} times a bare GET"));
        }
        if growth > 1.3 {
            missed.push(format!(
                "{size} users: the read takes {growth:.2} times as long"
            ));
        }
        let requests = requests(&runtime, [&mut at_large, &mut at_small], [size, few], users);
        let [low, ratio, high] = requests.ratios;
        println!(
            "          a whole scored request p50 {:.1?} p99 {:.1?}, among {few} users p50 {:.1?} p99 {:.1?}: {ratio:.2} times (middle of {ROUNDS} rounds; {low:.2} to {high:.2} in the middle half)",
            requests.large[0], requests.large[1], requests.small[0], requests.small[1]
        );
        if ratio > 1.3 {
            missed.push(format!(
                "{size} users: a whole request takes {ratio:.2} times as long"
            ));
        }
    }

    ended(&runtime, &server, &store, &names, users, now);
    let used = memory(&server) - empty;
    let each = used as f64 / users as f64;
    println!("\n# redis: {used} bytes, {each:.0} for each user, all included");
    parts(&server, users);
    if each > 700.0 {
        missed.push(format!("{each:.0} bytes per user"));
    }
    tokens(&runtime, &server, &store, users, now);
    made_up(&runtime, &server, &store, &names, users, now, &mut missed);
    embedded(&runtime, &names, users.min(100_000), now);
    assert!(missed.is_empty(), "bars missed: {missed:#?}");
}

fn fill(
    runtime: &Runtime,
    store: &RedisStore,
    names: &Names,
    people: std::ops::Range<u64>,
    users: u64,
    now: Timestamp,
) {
    let end = people.end;
    for from in people.step_by(usize::try_from(BATCH).unwrap()) {
        let batch: Vec<_> = (from..(from + BATCH).min(end))
            .flat_map(|n| person(n, names, users, now))
            .collect();
        runtime.block_on(store.record(&batch)).expect("it is kept");
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(i64::try_from(since.unwrap().as_millis()).unwrap())
}

/// What the gateway reports of somebody over half a year, as far as it is still there at `now`.
fn person(n: u64, names: &Names, users: u64, now: Timestamp) -> Vec<Observation> {
    let (subject, seen) = (names.subject(n), names.seen_at(home(n, users)));
    let hour = 3_600_000;
    let half_year = 182 * 24 * hour;
    let chance = |salt: u64| (hash(n * 1_000_003 + salt) >> 11) as f64 / (1_u64 << 53) as f64;
    // Where the latest of the logins lies: two in five signed in within the last two days.
    let since_last = (chance(1) * 5.0 * 24.0 * 3_600_000.0) as i64;
    let mut observations = Vec::new();
    for login in 0..LOGINS {
        let back =
            half_year * i64::try_from(LOGINS - 1 - login).unwrap() / i64::try_from(LOGINS).unwrap();
        let at = now.0 - since_last - back;
        // Within ten hours of the day, but for the latest, whose age counts.
        let of_day = at.div_euclid(hour).rem_euclid(24);
        let late = if login + 1 < LOGINS {
            (of_day - 8 - of_day % 10) * hour
        } else {
            0
        };
        let at = Timestamp(at - late);
        let place = chance(100 + login);
        let (address, asn, coordinates) = if place < 0.6 {
            (seen.address, 1 + n % 40, Coordinates::new(59.91, 10.75))
        } else if place < 0.8 {
            let office = n % 5_000;
            (
                hash(2_000_000_000 + office),
                100 + office,
                Coordinates::new(59.95, 10.78),
            )
        } else {
            let mobile = hash(n * 7 + login) % 20_000;
            (
                hash(3_000_000_000 + mobile),
                200 + n % 4,
                Coordinates::new(60.4, 5.3),
            )
        };
        let device = u64::from(chance(200 + login) < 0.35);
        // Browsers update themselves every month or so.
        let version = login / 7;
        let familiarity = Familiarity {
            address: Some(address),
            asn: Some(hash(4_000_000_000 + asn)),
            country: Some(hash(5_000_000_000)),
            agent: Some(hash(6_000_000_000 + device * 100 + version)),
            platform: Some(hash(7_000_000_000 + device)),
            language: Some(hash(8_000_000_000)),
            device: Some(hash(n * 2 + device + 9_000_000_000)),
            // What the browser says in its handshake changes with one version in four.
            tls: Some(hash(9_500_000_000 + device * 100 + version / 4)),
        };
        let age = now.since(at).as_secs() / 3_600;
        let attempt = |failed| Attempt {
            failed,
            address,
            prefix: if address == seen.address {
                seen.prefix
            } else {
                hash(address >> 24)
            },
            asn: familiarity.asn,
            agent: hash(6_500_000_000 + device * 100 + version),
            tenant: seen.tenant,
            subject: Some(subject),
            subject_known: true,
            address_known: failed || age >= 48 || place < 0.8,
        };
        // Counters of addresses without failures live for a day, failures for ten, new addresses for two.
        let mistyped = chance(300 + login) < 0.05 && age < 240;
        if mistyped {
            observations.push(tried(attempt(true), at));
        }
        observations.push(Observation {
            at,
            attempt: (age < 24 || (age < 48 && place >= 0.8)).then(|| attempt(false)),
            lesson: Some(Lesson {
                subject,
                at,
                familiarity,
                coordinates,
                cookie_known: login > 1,
            }),
            ..Observation::default()
        });
    }
    observations
}

/// Takes away what would have ended: names per address live for two hours, prefixes for ten. Those of the last two hours
/// are written once more.
fn ended(
    runtime: &Runtime,
    server: &RedisServer,
    store: &RedisStore,
    names: &Names,
    users: u64,
    now: Timestamp,
) {
    const SCRIPT: &[u8] = b"local cursor = '0' repeat local page = redis.call('SCAN', cursor, 'COUNT', 10000) cursor = page[1] \
        for _, key in ipairs(page[2]) do \
        if string.find(key, '^rg:1:users:') or string.find(key, '^rg:1:prefix:') then redis.call('DEL', key) end end \
        until cursor == '0' return 1";
    let client = redis_client::Client::open(server.url()).expect("the URL is right");
    let mut connection = client.get_connection().expect("the server is there");
    let _: i64 = redis_client::cmd("EVAL")
        .arg(SCRIPT)
        .arg(0)
        .query(&mut connection)
        .expect("the script runs");
    for from in (0..users).step_by(10_000) {
        let batch: Vec<_> = (from..(from + 10_000).min(users))
            .filter_map(|n| person(n, names, users, now).pop())
            .filter(|last| now.since(last.at) < Duration::from_secs(7_200))
            .map(|last| Observation {
                lesson: None,
                ..last
            })
            .collect();
        runtime.block_on(store.record(&batch)).expect("it is kept");
    }
}

/// The number of the home of a user. Three in four live with somebody.
fn home(n: u64, users: u64) -> u64 {
    hash(n) % (users * 55 / 100).max(1)
}

fn asked(n: u64, names: &Names, users: u64, now: Timestamp) -> HistoryQuery {
    let seen = names.seen_at(home(n, users));
    HistoryQuery {
        now,
        subject: Some(names.subject(n)),
        address: seen.address,
        prefix: seen.prefix,
        asn: Some(hash(4_000_000_000 + 1 + n % 40)),
        agent: hash(6_500_000_000),
        tenant: seen.tenant,
        client: None,
        scopes: None,
        links: vec![link(LinkKind::Transaction, n), link(LinkKind::Session, n)],
        demands: [DemandScope::Browser, DemandScope::Source, DemandScope::User]
            .map(|scope| demand_key(scope, n))
            .to_vec(),
        previous: None,
    }
}

/// Median and 99th percentile of each.
struct Read {
    load: [Duration; 2],
    small: [Duration; 2],
    get: [Duration; 2],
}

/// Reads of users by chance from the large store and the small one, each beside a bare `GET` of 300 bytes.
fn reads(
    runtime: &Runtime,
    server: &RedisServer,
    [store, few]: [&RedisStore; 2],
    names: &Names,
    [size, few_size]: [u64; 2],
    users: u64,
    now: Timestamp,
) -> Read {
    server.command(&[b"SET", b"bare", &[b'x'; 300]]);
    let client = redis_client::Client::open(server.url()).expect("the URL is right");
    let mut connection = runtime
        .block_on(client.get_multiplexed_async_connection())
        .expect("the server is there");
    let (mut load, mut small, mut get) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        for n in 0..READS + 2_000 {
            let query = asked(hash(n) % size.max(1), names, users, now);
            let started = Instant::now();
            let history = store.load(&query).await.expect("the server answers");
            let took = started.elapsed();
            assert!(history.profile.is_some());
            let query = asked(hash(n) % few_size.max(1), names, users, now);
            let started = Instant::now();
            let history = few.load(&query).await.expect("the server answers");
            let among_few = started.elapsed();
            assert!(history.profile.is_some());
            let mut command = redis_client::cmd("GET");
            let started = Instant::now();
            let answer: Vec<u8> = command
                .arg("bare")
                .query_async(&mut connection)
                .await
                .expect("the server answers");
            let bare = started.elapsed();
            assert_eq!(answer.len(), 300);
            // The first ones warm up.
            if n >= 2_000 {
                load.push(took);
                small.push(among_few);
                get.push(bare);
            }
        }
    });
    let of = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        [times[times.len() / 2], times[times.len() * 99 / 100]]
    };
    Read {
        load: of(&mut load),
        small: of(&mut small),
        get: of(&mut get),
    }
}

/// Median and 99th percentile of each, and of the rounds' ratios the quarter, the middle and the three quarters.
struct Requests {
    large: [Duration; 2],
    small: [Duration; 2],
    ratios: [f64; 3],
}

/// Whole requests of users by chance on the large server and on the small one, in turn.
fn requests(
    runtime: &Runtime,
    [at_large, at_small]: [&mut Gateway; 2],
    [size, few]: [u64; 2],
    users: u64,
) -> Requests {
    let middle = |times: &mut [Duration]| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (mut large, mut small, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            for n in 0..REQUESTS {
                let chance = hash(round * REQUESTS + n);
                let (one, other) = (chance % size.max(1), chance % few.max(1));
                // Who comes first has the colder processor.
                if n % 2 == 0 {
                    here.push(at_large.login(one, home(one, users)).await);
                    there.push(at_small.login(other, home(other, users)).await);
                } else {
                    there.push(at_small.login(other, home(other, users)).await);
                    here.push(at_large.login(one, home(one, users)).await);
                }
            }
        });
        // The first round warms up.
        if round > 0 {
            ratios.push(middle(&mut here).as_secs_f64() / middle(&mut there).as_secs_f64());
            large.extend(here);
            small.extend(there);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let quarters = [1, 2, 3].map(|quarter| ratios[ratios.len() * quarter / 4]);
    let of = |mut times: Vec<Duration>| [middle(&mut times), times[times.len() * 99 / 100]];
    Requests {
        large: of(large),
        small: of(small),
        ratios: quarters,
    }
}

fn memory(server: &RedisServer) -> i64 {
    info(server, "used_memory")
}

fn info(server: &RedisServer, name: &str) -> i64 {
    let text = server.command(&[b"INFO", b"memory"]);
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("a figure").trim().parse().expect("a number")
}

/// Keys of each kind, and what they take by a sample (`MEMORY USAGE`, without the tables that hold them).
fn parts(server: &RedisServer, users: u64) {
    const SCRIPT: &[u8] = b"local cursor, counts, bytes, out = '0', {}, {}, {} \
        repeat local page = redis.call('SCAN', cursor, 'COUNT', 10000) cursor = page[1] \
        for _, key in ipairs(page[2]) do local kind = string.match(key, '^rg:1:([a-z_]+)') or key \
        if string.match(key, '}:') then kind = kind .. '(hll)' end \
        counts[kind] = (counts[kind] or 0) + 1 \
        if counts[kind] % 50 == 1 then bytes[kind] = (bytes[kind] or 0) + redis.call('MEMORY', 'USAGE', key) end end \
        until cursor == '0' \
        for kind, count in pairs(counts) do table.insert(out, kind .. ' ' .. count .. ' ' .. bytes[kind] / math.floor((count + 49) / 50)) end \
        return table.concat(out, '\\n')";
    server.command(&[b"CONFIG", b"SET", b"busy-reply-threshold", b"0"]);
    let client = redis_client::Client::open(server.url()).expect("the URL is right");
    let mut connection = client.get_connection().expect("the server is there");
    let text: String = redis_client::cmd("EVAL")
        .arg(SCRIPT)
        .arg(0)
        .query(&mut connection)
        .expect("the script runs");
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap().to_owned();
        let count: f64 = words.next().unwrap().parse().unwrap();
        let bytes: f64 = words.next().unwrap().parse().unwrap();
        kinds.insert(kind, (count, bytes));
    }
    println!(
        "{:<20} {:>9} {:>12} {:>14}",
        "kind", "keys", "bytes each", "bytes per user"
    );
    let mut sum = 0.0;
    for (kind, (count, bytes)) in kinds {
        let per_user = count * bytes / users as f64;
        sum += per_user;
        println!("{kind:<20} {count:>9.0} {bytes:>12.0} {per_user:>14.1}");
    }
    println!("{:<20} {:>9} {:>12} {sum:>14.1}", "by MEMORY USAGE", "", "");
}

/// What each token that is alive costs on top.
fn tokens(runtime: &Runtime, server: &RedisServer, store: &RedisStore, users: u64, now: Timestamp) {
    const TOKENS: u64 = 10_000;
    let before = memory(server);
    for from in (0..TOKENS).step_by(500) {
        let batch: Vec<_> = (from..from + 500)
            .map(|n| {
                let seen = Familiarity {
                    address: Some(hash(1_000_000_000 + home(n, users))),
                    asn: Some(hash(n % 40)),
                    country: Some(hash(1)),
                    agent: Some(hash(2)),
                    platform: Some(hash(3)),
                    language: Some(hash(4)),
                    device: Some(hash(n)),
                    tls: Some(hash(5)),
                };
                let provenance = Provenance {
                    decision_id: RequestId::new(format!("01890a5d-ac96-774b-bcce-{n:012x}")),
                    issued_to: seen,
                    used_by: seen,
                    reasons: vec!["unfamiliar_network".into()],
                    ..provenance(n, now)
                };
                linked(link(LinkKind::RefreshToken, n), provenance, now, DAY)
            })
            .collect();
        runtime.block_on(store.record(&batch)).expect("it is kept");
    }
    let each = (memory(server) - before) as f64 / TOKENS as f64;
    println!("\n# each code, token, session or login in progress while it lives: {each:.0} bytes");
}

/// A million names that nobody has, from a thousand addresses: asked about and reported as failures.
fn made_up(
    runtime: &Runtime,
    server: &RedisServer,
    store: &RedisStore,
    names: &Names,
    users: u64,
    now: Timestamp,
    missed: &mut Vec<String>,
) {
    let bot = |n: u64| hash(20_000_000_000 + n % BOTS);
    let nobody = |n: u64| subject(users + 10_000_000 + n);
    let (redis_before, own_before) = (memory(server), resident());
    let started = Instant::now();
    let mut halfway = own_before;
    for from in (0..NAMES).step_by(500) {
        let some = from..from + 500;
        let batch: Vec<_> = some
            .clone()
            .map(|n| {
                let attempt = Attempt {
                    failed: true,
                    address: bot(n),
                    prefix: hash(bot(n) >> 24),
                    asn: Some(hash(21_000_000_000 + n % 20)),
                    agent: hash(22_000_000_000 + n % 50),
                    tenant: hash(5),
                    subject: Some(nobody(n)),
                    subject_known: false,
                    address_known: false,
                };
                tried(attempt, now)
            })
            .collect();
        runtime.block_on(store.record(&batch)).expect("it is kept");
        runtime.block_on(async {
            for n in some.step_by(10) {
                let query = HistoryQuery {
                    subject: Some(nobody(n)),
                    address: bot(n),
                    ..asked(n, names, users, now)
                };
                let history = store.load(&query).await.expect("the server answers");
                assert!(history.profile.is_none());
            }
        });
        if from + 500 == NAMES / 2 {
            halfway = resident();
        }
    }
    let redis = (memory(server) - redis_before) as f64 / 1_048_576.0;
    let own = (resident() - own_before) as f64 / 1_048_576.0;
    let second = (resident() - halfway) as f64 / 1_048_576.0;
    println!(
        "\n# {NAMES} made-up names from {BOTS} addresses in {:.0?}: redis {redis:+.1} MiB, this process {own:+.1} MiB ({second:+.1} in the second half)",
        started.elapsed()
    );
    if redis > 32.0 {
        missed.push(format!("made-up names: redis grew by {redis:.1} MiB"));
    }
    if own > 50.0 {
        missed.push(format!("made-up names: the process grew by {own:.1} MiB"));
    }
    for n in 0..1_000 {
        let query = asked(hash(n) % users, names, users, now);
        let history = runtime.block_on(store.load(&query)).expect("an answer");
        assert!(history.profile.is_some(), "a known user is still known");
    }
}

/// The resident set of this process in bytes.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: i64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .expect("a number");
    kib * 1_024
}

/// The same people in the file of one node.
fn embedded(runtime: &Runtime, names: &Names, users: u64, now: Timestamp) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("state.redb");
    let store = EmbeddedStore::open(&path, EmbeddedSettings::default()).expect("a new file");
    let started = Instant::now();
    for from in (0..users).step_by(usize::try_from(BATCH).unwrap()) {
        let batch: Vec<_> = (from..(from + BATCH).min(users))
            .flat_map(|n| person(n, names, users, now))
            .collect();
        runtime.block_on(store.record(&batch)).expect("it is kept");
    }
    let filling = started.elapsed();
    let mut times: Vec<Duration> = (0..READS)
        .map(|n| {
            let query = asked(hash(n) % users, names, users, now);
            let started = Instant::now();
            let history = store.load_now(&query).expect("the file is read");
            assert!(history.profile.is_some());
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let size = || std::fs::metadata(&path).map_or(0, |file| file.len()) / users;
    let grown = size();
    drop(store);
    let closed = size();
    let store = EmbeddedStore::open(&path, EmbeddedSettings::default()).expect("the file");
    println!(
        "\n# embedded, {users} users (filled in {filling:.0?}): read p50 {:.1?} p99 {:.1?}; {grown} bytes of file per user while it is filled, {closed} when it is closed, {} when it is opened again",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        size()
    );
    drop(store);
}
