//! What is learnt and what is not, over weeks: people and an attacker sign in through the real path (no sockets), with
//! the shipped policy, the shipped model in its native evaluator, a store in memory and a clock that is moved by hand.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::adapters::memory::MemoryStore;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::features::Feature;
use riskgate::domain::history::Observation;
use riskgate::domain::history::Population;
use riskgate::domain::history::Profile;
use riskgate::domain::ids::NameSpace;
use riskgate::domain::ids::Pseudonymizer;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::outcome::ResponseHead;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::policy::decision::Verdict;
use riskgate::domain::secret::Secret;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::target::CanonicalTarget;
use riskgate::domain::time::Timestamp;
use riskgate::flow::AuthFlow;
use riskgate::flow::Dependencies;
use riskgate::flow::admit::Knock;
use riskgate::flow::agents::KnownAgents;
use riskgate::flow::assess::Request;
use riskgate::flow::limits::InFlight;
use riskgate::flow::limits::Limits;
use riskgate::flow::links::RecentLinks;
use riskgate::flow::ports::AuditSink;
use riskgate::flow::ports::Clock;
use riskgate::flow::ports::GeoLookup;
use riskgate::flow::ports::StateStore;
use riskgate::flow::score::Scorer;
use riskgate::flow::score::breaker::Breaker;
use riskgate::telemetry::metrics::Metrics;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;

/// Enforced, without limits and cache, with all the time in the world: what is measured is not speed.
const CONFIG: &str = r#"
[mode]
default = "enforce"
[score]
cache_entries = 0
budget_ms = 10000
[limits]
address_per_minute = 0
user_per_minute = 0
client_per_minute = 0
[server]
trusted_proxies = ["10.0.0.0/8"]
"#;

const TENANT: &str = "carbon.super";
const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
/// The score from which a stronger factor is asked for.
const MEDIUM: u8 = 30;
const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";

struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "deadlines run on the real clock; only the calendar is moved by hand"
    )]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The second number of an address is its network and country.
struct Atlas;

impl GeoLookup for Atlas {
    fn lookup(&self, address: IpAddr) -> NetworkFacts {
        let IpAddr::V4(address) = address else {
            return NetworkFacts::default();
        };
        let (country, latitude, longitude) = match address.octets()[1] {
            0..=9 => ("NO", 59.9, 10.7),
            10..=19 => ("BR", -23.5, -46.6),
            _ => ("LK", 6.9, 79.9),
        };
        NetworkFacts {
            asn: Some(65_000 + u32::from(address.octets()[1])),
            country: CountryCode::parse(country),
            coordinates: Coordinates::new(latitude, longitude),
            kind: Some(NetworkKind::Residential),
            ..NetworkFacts::default()
        }
    }
}

#[derive(Default)]
struct Records(Mutex<Vec<AuditEvent>>);

impl AuditSink for Records {
    fn write(&self, event: AuditEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// What WSO2 answers to a password or a second factor.
#[derive(Clone, Copy)]
enum Answer {
    Accepted,
    Refused,
    SecondFactor,
}

/// Where somebody sits and with what.
#[derive(Clone)]
struct Seat {
    address: [u8; 4],
    agent: &'static str,
    /// The device cookie of the browser.
    cookie: Option<String>,
}

impl Seat {
    fn at(address: [u8; 4]) -> Self {
        Self {
            address,
            agent: CHROME,
            cookie: None,
        }
    }
}

/// What became of one request.
struct Seen {
    score: u8,
    verdict: Verdict,
    device_cookie: f32,
    learnt: bool,
}

struct Town {
    flow: AuthFlow,
    store: Arc<MemoryStore>,
    clock: Arc<HandClock>,
    records: Arc<Records>,
    queue: mpsc::Receiver<Observation>,
    people: Pseudonymizer,
    transactions: u32,
}

fn keys(secret: u8, previous: Option<u8>) -> Keys {
    let key = || Secret::new(vec![secret; 32]);
    Keys {
        pseudonyms: key(),
        devices: key(),
        seals: key(),
        previous: previous.map(|secret| Box::new(keys(secret, None))),
    }
}

impl Town {
    fn new() -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(1_760_000_000_000)));
        Self::on(Arc::new(MemoryStore::new()), clock, &keys(7, None))
    }

    fn on(store: Arc<MemoryStore>, clock: Arc<HandClock>, keys: &Keys) -> Self {
        let config = Config::parse(CONFIG).unwrap();
        let mut snapshot = assemble::snapshot(&config, "test", keys, 1)
            .unwrap()
            .snapshot;
        snapshot.models.primary = None;
        assert!(snapshot.models.native.is_some());
        let people = snapshot.people.clone();
        let records = Arc::new(Records::default());
        let (observations, queue) = mpsc::channel(1_024);
        let dependencies = Dependencies {
            state: Arc::clone(&store) as Arc<dyn StateStore>,
            state_breaker: Breaker::new(config.state.breaker.clone()),
            geo: Arc::new(Atlas),
            audit: Arc::clone(&records) as Arc<dyn AuditSink>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(OsEntropy),
            scorer: Scorer::new(&config.score, Arc::clone(&clock) as Arc<dyn Clock>).unwrap(),
            limits: Limits::new(&config.limits),
            in_flight: InFlight::new(config.score.concurrency_max),
            recent: RecentLinks::default(),
            agents: KnownAgents::default(),
            population: ArcSwap::from_pointee(Population::default()),
            observations,
            metrics: Arc::new(Metrics::new().unwrap()),
        };
        Self {
            flow: AuthFlow::new(dependencies, snapshot),
            store,
            clock,
            records,
            queue,
            people,
            transactions: 0,
        }
    }

    fn wait(&self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap();
        self.clock.0.fetch_add(millis, Ordering::SeqCst);
    }

    fn user(&self, name: &str) -> SubjectKey {
        self.people.user(TENANT, name)
    }

    fn profile_bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.store.profile_bytes(self.user(name))
    }

    async fn profile(&self, name: &str) -> Profile {
        let query = riskgate::domain::history::HistoryQuery {
            now: self.clock.now(),
            subject: Some(self.user(name)),
            address: 0,
            prefix: 0,
            asn: None,
            agent: 0,
            tenant: 0,
            client: None,
            links: Vec::new(),
            previous: None,
        };
        self.store.load(&query).await.unwrap().profile.unwrap()
    }

    /// A password for `name`, with an answer of WSO2. Returns the key of the login in progress as well.
    async fn password(&mut self, seat: &mut Seat, name: &str, answer: Answer) -> (Seen, String) {
        self.transactions += 1;
        let key = format!("3bd1f207-e5b5-4b45-8a91-{:012}", self.transactions);
        let form = format!("username={name}&password=x&sessionDataKey={key}");
        (self.post(seat, &form, &key, answer).await, key)
    }

    /// A second factor in the login `key`.
    async fn second_factor(&mut self, seat: &mut Seat, key: &str, answer: Answer) -> Seen {
        let form = format!("OTPCode=123456&sessionDataKey={key}");
        self.post(seat, &form, key, answer).await
    }

    async fn post(&mut self, seat: &mut Seat, form: &str, key: &str, answer: Answer) -> Seen {
        let mut headers = HeaderMap::new();
        let [a, b, c, d] = seat.address;
        for (name, value) in [
            ("host", "login.example.com".to_owned()),
            ("user-agent", seat.agent.to_owned()),
            ("accept-language", "nb-NO,nb;q=0.9".to_owned()),
            (
                "content-type",
                "application/x-www-form-urlencoded".to_owned(),
            ),
            ("x-forwarded-for", format!("{a}.{b}.{c}.{d}")),
            ("x-forwarded-proto", "https".to_owned()),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        if let Some(cookie) = &seat.cookie {
            headers.insert("cookie", HeaderValue::from_str(cookie).unwrap());
        }
        let knock = Knock {
            method: &Method::POST,
            raw_target: b"/commonauth",
            version: http::Version::HTTP_11,
            headers: &headers,
            authority: None,
            peer: IpAddr::from([10, 0, 0, 5]),
            tls: false,
            has_length: false,
        };
        let (mut exchange, admitted) = self.flow.admit(&knock);
        admitted.unwrap();
        let door = exchange.door.unwrap();
        let kind = BodyHeaders::of(&headers).unwrap();
        let query = exchange.target.as_ref().and_then(CanonicalTarget::query);
        let parameters =
            Parameters::parse(door, &Method::POST, query, kind, form.as_bytes()).unwrap();
        let request = Request {
            version: http::Version::HTTP_11,
            headers: &headers,
            parameters: Some(&parameters),
            tls: None,
        };
        self.flow.judge(&mut exchange, request).await.unwrap();
        let assessed = exchange.assessed.as_ref().unwrap();
        assert!(assessed.state_answered);
        let score = assessed.assessment.score().unwrap().points();
        let device_cookie = assessed.features.as_ref().map_or(f32::NAN, |row| {
            row.as_slice()[Feature::DeviceCookie as usize]
        });
        let verdict = exchange.decided.as_ref().unwrap().decision.verdict;
        let page = |name: &str, failed: &str| {
            format!(
                "https://login.example.com/authenticationendpoint/{name}?sessionDataKey={key}{failed}"
            )
        };
        let head = if verdict == Verdict::Block {
            None
        } else {
            Some(match answer {
                Answer::Accepted => ResponseHead {
                    status: 302,
                    location: Some(format!(
                        "https://login.example.com/oauth2/authorize?sessionDataKey={key}"
                    )),
                    session: Some(format!("session-{key}")),
                },
                Answer::Refused => ResponseHead {
                    status: 302,
                    location: Some(page("login.do", "&authFailure=true")),
                    session: None,
                },
                Answer::SecondFactor => ResponseHead {
                    status: 302,
                    location: Some(page("email_otp.do", "")),
                    session: None,
                },
            })
        };
        if let Some(head) = head
            && let Some(cookie) = self.flow.answered(&mut exchange, &head)
        {
            seat.cookie = cookie.split(';').next().map(str::to_owned);
        }
        self.flow.close(exchange, false);
        while let Ok(observation) = self.queue.try_recv() {
            self.store.record(&[observation]).await.unwrap();
        }
        Seen {
            score,
            verdict,
            device_cookie,
            learnt: self.records.0.lock().unwrap().pop().unwrap().learnt,
        }
    }

    /// A service account asks for a token for itself.
    async fn client_token(&mut self, scope: &str, is_granted: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "login.example.com"),
            ("user-agent", "Java/21"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-forwarded-for", "84.3.0.5"),
            ("x-forwarded-proto", "https"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let knock = Knock {
            method: &Method::POST,
            raw_target: b"/oauth2/token",
            version: http::Version::HTTP_11,
            headers: &headers,
            authority: None,
            peer: IpAddr::from([10, 0, 0, 5]),
            tls: false,
            has_length: false,
        };
        let (mut exchange, admitted) = self.flow.admit(&knock);
        admitted.unwrap();
        let door = exchange.door.unwrap();
        let kind = BodyHeaders::of(&headers).unwrap();
        let form =
            format!("grant_type=client_credentials&client_id=robot&client_secret=x&scope={scope}");
        let parameters =
            Parameters::parse(door, &Method::POST, None, kind, form.as_bytes()).unwrap();
        let request = Request {
            version: http::Version::HTTP_11,
            headers: &headers,
            parameters: Some(&parameters),
            tls: None,
        };
        self.flow.judge(&mut exchange, request).await.unwrap();
        let (status, body): (u16, &[u8]) = if is_granted {
            let body = br#"{"access_token":"a","token_type":"Bearer","expires_in":3600}"#;
            (200, body)
        } else {
            (401, br#"{"error":"invalid_client"}"#)
        };
        let head = ResponseHead {
            status,
            location: None,
            session: None,
        };
        self.flow.answered(&mut exchange, &head);
        self.flow.answered_with(&mut exchange, body);
        self.flow.close(exchange, false);
        while let Ok(observation) = self.queue.try_recv() {
            self.store.record(&[observation]).await.unwrap();
        }
    }

    /// Alice signs in from home every day, as she should.
    async fn alice_for(&mut self, days: u32, seat: &mut Seat) {
        for _ in 0..days {
            let (seen, key) = self.password(seat, "alice", Answer::Accepted).await;
            if seen.verdict == Verdict::StepUp {
                self.second_factor(seat, &key, Answer::Accepted).await;
            }
            self.wait(DAY);
        }
    }
}

const HOME: [u8; 4] = [84, 1, 13, 77];

#[tokio::test]
async fn two_hundred_failed_logins_leave_the_bytes_of_the_profile_as_they_are() {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(20, &mut home).await;
    let before = town.profile_bytes("alice").unwrap();
    // From her own address and browser, from the same network, from abroad.
    for n in 0..200_u8 {
        let mut seat = match n % 3 {
            0 => home.clone(),
            1 => Seat::at([84, 1, 13, n]),
            _ => Seat::at([84, 12, n, 9]),
        };
        let (seen, _) = town.password(&mut seat, "alice", Answer::Refused).await;
        assert!(!seen.learnt);
        town.wait(MINUTE);
    }
    assert_eq!(town.profile_bytes("alice").unwrap(), before);
}

#[tokio::test]
async fn names_that_never_logged_in_make_no_entries() {
    let mut town = Town::new();
    town.alice_for(3, &mut Seat::at(HOME)).await;
    let mut seat = Seat::at([84, 12, 0, 9]);
    town.password(&mut seat, "nobody-0", Answer::Refused).await;
    let before = town.store.entries();
    let mut forwarded = 0;
    for n in 1..500 {
        let name = format!("nobody-{n}");
        let (seen, _) = town.password(&mut seat, &name, Answer::Refused).await;
        forwarded += usize::from(seen.verdict != Verdict::Block);
        assert_eq!(town.profile_bytes(&name), None);
    }
    // Each login in progress is known by its key for a while; apart from that nothing has come.
    assert_eq!(town.store.entries() - before, forwarded);
    assert!(
        (1..499).contains(&forwarded),
        "it is noticed soon: {forwarded}"
    );
}

/// Whoever has the password but not the second factor comes back every day for a month, in one of several ways. The
/// owner goes on as ever. None of it becomes familiar.
async fn drift(seat: impl Fn(u8, &Seat) -> Seat, times_a_day: u32) -> (u8, u8) {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(40, &mut home).await;
    let mut lowest = u8::MAX;
    let mut highest_of_alice = 0;
    for day in 0..30 {
        let mut attacker = seat(day, &home);
        for _ in 0..times_a_day {
            let (seen, key) = town
                .password(&mut attacker, "alice", Answer::SecondFactor)
                .await;
            assert_ne!(seen.verdict, Verdict::Allow, "day {day}: {}", seen.score);
            assert!(!seen.learnt, "day {day}");
            lowest = lowest.min(seen.score);
            if seen.verdict == Verdict::StepUp {
                let second = town
                    .second_factor(&mut attacker, &key, Answer::Refused)
                    .await;
                assert!(!second.learnt, "day {day}");
            }
            town.wait(MINUTE);
        }
        town.wait(DAY / 2);
        let (seen, _) = town.password(&mut home, "alice", Answer::Accepted).await;
        highest_of_alice = highest_of_alice.max(seen.score);
        town.wait(DAY / 2);
    }
    let profile = town.profile("alice").await;
    for network in [5_u32, 6, 12] {
        let asn = (65_000 + network).to_string();
        let value = town
            .people
            .value(NameSpace::AutonomousSystem, asn.as_bytes());
        assert_eq!(profile.asns.count(value), 0);
    }
    let abroad = town.people.value(NameSpace::Country, b"BR");
    assert_eq!(profile.countries.count(abroad), 0);
    assert_eq!(profile.devices.iter().count(), 1);
    (lowest, highest_of_alice)
}

#[tokio::test]
async fn a_stolen_password_used_slowly_does_not_become_familiar() {
    let linux = |address| Seat {
        agent: FIREFOX,
        ..Seat::at(address)
    };
    let ways: [(&str, (u8, u8)); 6] = [
        // In her own country, with a browser that is not hers: the second factor is asked for.
        ("nearby", drift(|_, _| linux([84, 5, 0, 9]), 1).await),
        (
            "nearby, a new address each day",
            drift(|day, _| linux([84, 5, day, 9]), 1).await,
        ),
        (
            "nearby, three times a day",
            drift(|_, _| linux([84, 5, 0, 9]), 3).await,
        ),
        // Each ten days one step on: another network, then the phone of a kind that she has not got.
        (
            "nearby, step by step",
            drift(
                |day, _| match day / 10 {
                    0 => linux([84, 5, 0, 9]),
                    1 => linux([84, 6, 0, 9]),
                    _ => Seat {
                        agent: PHONE,
                        ..Seat::at([84, 6, 0, 9])
                    },
                },
                1,
            )
            .await,
        ),
        // From abroad, with her kind of browser: refused.
        ("abroad", drift(|_, _| Seat::at([84, 12, 0, 9]), 1).await),
        (
            "abroad, a new address each day",
            drift(|day, _| Seat::at([84, 12, day, 9]), 1).await,
        ),
    ];
    for (way, (attacker, alice)) in ways {
        println!("{way}: the attacker never below {attacker}, Alice never above {alice}");
        assert!(attacker >= MEDIUM, "{way}: {attacker}");
        assert!(alice < MEDIUM, "{way}: {alice}");
    }
}

#[tokio::test]
async fn a_new_device_is_on_probation_for_thirty_days() {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(40, &mut home).await;
    let (seen, _) = town.password(&mut home, "alice", Answer::Accepted).await;
    // What the account began with is an old friend.
    assert_eq!(seen.device_cookie, 0.0);
    let mut phone = Seat {
        agent: PHONE,
        ..Seat::at([84, 2, 0, 9])
    };
    let (seen, key) = town
        .password(&mut phone, "alice", Answer::SecondFactor)
        .await;
    assert_eq!((seen.verdict, seen.device_cookie), (Verdict::StepUp, 0.5));
    let second = town.second_factor(&mut phone, &key, Answer::Accepted).await;
    assert!(second.learnt && phone.cookie.is_some());
    let mut weights = Vec::new();
    for _ in 0..4 {
        let (seen, _) = town.password(&mut phone, "alice", Answer::Accepted).await;
        weights.push(seen.device_cookie);
        town.wait(DAY * 10);
    }
    assert!((weights[0] - 0.25).abs() < 0.01, "{weights:?}");
    assert!(
        weights.windows(2).all(|pair| pair[1] < pair[0]),
        "{weights:?}"
    );
    assert_eq!(weights[3], 0.0);
}

#[tokio::test]
async fn a_service_account_has_a_baseline_of_what_it_was_granted() {
    let mut town = Town::new();
    for _ in 0..10 {
        town.client_token("read+write", true).await;
        town.wait(MINUTE * 10);
    }
    town.client_token("admin", false).await;
    let robot = town.people.client(TENANT, "robot");
    let query = riskgate::domain::history::HistoryQuery {
        now: town.clock.now(),
        subject: Some(robot),
        address: 0,
        prefix: 0,
        asn: None,
        agent: 0,
        tenant: 0,
        client: Some(robot),
        links: Vec::new(),
        previous: None,
    };
    let baseline = town.store.load(&query).await.unwrap().client.unwrap();
    assert_eq!(baseline.requests, 10);
    let scope = |name: &str| {
        let value = town.people.value(NameSpace::Scope, name.as_bytes());
        baseline.scopes.count(value)
    };
    assert_eq!((scope("read"), scope("write"), scope("admin")), (10, 10, 0));
    assert!(baseline.rate > 1.0 && baseline.peak >= baseline.rate);
}

#[tokio::test]
async fn a_forgotten_device_is_unknown_until_it_is_learnt_again() {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(20, &mut home).await;
    town.store
        .forget_devices(town.user("alice"), town.clock.now());
    let (seen, key) = town
        .password(&mut home, "alice", Answer::SecondFactor)
        .await;
    assert_eq!(seen.device_cookie, 0.5);
    let second = town.second_factor(&mut home, &key, Answer::Accepted).await;
    assert!(second.learnt);
    let (seen, _) = town.password(&mut home, "alice", Answer::Accepted).await;
    assert!((seen.device_cookie - 0.25).abs() < 0.01);
}

#[tokio::test]
async fn an_exchanged_secret_costs_nobody_their_history() {
    let mut before = Town::new();
    let mut home = Seat::at(HOME);
    before.alice_for(20, &mut home).await;
    let (usual, _) = before.password(&mut home, "alice", Answer::Accepted).await;
    let old_name = before.user("alice");
    let old_bytes = before.store.profile_bytes(old_name);
    assert!(old_bytes.is_some());

    // The same store, the secret exchanged, the one before it still known.
    let mut after = Town::on(
        Arc::clone(&before.store),
        Arc::clone(&before.clock),
        &keys(8, Some(7)),
    );
    assert_ne!(after.user("alice"), old_name);
    after.wait(DAY);
    let (seen, _) = after.password(&mut home, "alice", Answer::Accepted).await;
    assert!(seen.learnt);
    assert!(
        seen.score <= usual.score.max(5),
        "{} after {}",
        seen.score,
        usual.score
    );
    assert_eq!(seen.device_cookie, 0.0);
    assert_eq!(after.store.profile_bytes(old_name), None, "it has moved");
    let profile = after.profile("alice").await;
    assert_eq!(profile.successes, 22);
    let address = after.people.value(NameSpace::Address, b"84.1.13.77");
    assert_eq!(profile.addresses.count(address), 22);
    // The second login finds it under the present name, and the cookie is of the present secret.
    after.wait(DAY);
    let mut alone = Town::on(
        Arc::clone(&before.store),
        Arc::clone(&before.clock),
        &keys(8, None),
    );
    let (seen, _) = alone.password(&mut home, "alice", Answer::Accepted).await;
    assert!(seen.score <= usual.score.max(5), "{}", seen.score);
    assert_eq!(seen.device_cookie, 0.0);
    // Without the previous secret it would have been a stranger.
    let store = Arc::new(MemoryStore::new());
    let mut old = Town::on(
        Arc::clone(&store),
        Arc::clone(&before.clock),
        &keys(7, None),
    );
    let mut seat = Seat::at(HOME);
    old.alice_for(20, &mut seat).await;
    let mut stranger = Town::on(store, Arc::clone(&before.clock), &keys(8, None));
    let (seen, _) = stranger
        .password(&mut seat, "alice", Answer::Accepted)
        .await;
    assert!(seen.score > usual.score && seen.device_cookie == 1.0);
}
