//! A town without sockets: people, an attacker and a service account sign in through the real path, with the shipped
//! policy, the starter model in its native evaluator, a store in memory and a clock that is moved by hand.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic is how a test reports a failure"
)]

#[path = "starter.rs"]
mod starter;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::adapters::identity_server::NoIdentityServer;
use riskgate::adapters::memory::MemoryStore;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::features::Feature;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Profile;
use riskgate::domain::ids::Pseudonymizer;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::outcome::ResponseHead;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::policy::PolicySet;
use riskgate::domain::policy::decision::Verdict;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::target::CanonicalTarget;
use riskgate::domain::time::Timestamp;
use riskgate::domain::trace::FinishedTrace;
use riskgate::flow::AuthFlow;
use riskgate::flow::Dependencies;
use riskgate::flow::admit::Knock;
use riskgate::flow::assess::Request;
use riskgate::flow::dependencies::Outside;
use riskgate::flow::lessons;
use riskgate::flow::lessons::LessonQueue;
use riskgate::flow::ports::AuditSink;
use riskgate::flow::ports::Clock;
use riskgate::flow::ports::GeoLookup;
use riskgate::flow::ports::StateStore;
use riskgate::flow::ports::TraceSink;
use riskgate::flow::score::breaker::Breaker;
use riskgate::flow::tracing::Traces;
use riskgate::telemetry::metrics::Metrics;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Enforced, without limits and cache, with all the time in the world: what is measured is not speed.
const CONFIG: &str = r#"
[mode]
default = "enforce"
[model]
dir = "tests/data/models/starter"
[score]
cache_entries = 0
budget_ms = 10000
[limits]
address_per_minute = 0
user_per_minute = 0
network_per_minute = 0
client_per_minute = 0
[server]
trusted_proxies = ["10.0.0.0/8"]
"#;

pub const TENANT: &str = "carbon.super";
pub const DAY: Duration = Duration::from_secs(24 * 3600);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

pub const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
pub const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";

pub struct HandClock {
    millis: AtomicI64,
    /// How often somebody asked for the moment.
    pub looks: AtomicUsize,
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.millis.load(Ordering::SeqCst))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "deadlines run on the clock of the runtime, as its timers do; only the calendar is moved by hand"
    )]
    fn instant(&self) -> Instant {
        self.looks.fetch_add(1, Ordering::SeqCst);
        tokio::time::Instant::now().into_std()
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
pub enum Answer {
    Accepted,
    Refused,
    SecondFactor,
}

/// Where somebody sits and with what.
#[derive(Clone)]
pub struct Seat {
    pub address: [u8; 4],
    pub agent: &'static str,
    /// The device cookie of the browser.
    pub cookie: Option<String>,
}

impl Seat {
    pub fn at(address: [u8; 4]) -> Self {
        Self {
            address,
            agent: CHROME,
            cookie: None,
        }
    }
}

/// What became of one request.
pub struct Seen {
    pub score: u8,
    pub verdict: Verdict,
    pub device_cookie: f32,
    pub learnt: bool,
}

pub struct Town {
    pub flow: AuthFlow,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<HandClock>,
    records: Arc<Records>,
    queue: LessonQueue,
    pub people: Pseudonymizer,
    transactions: u32,
}

pub fn keys(secret: u8, previous: Option<u8>) -> Keys {
    Keys {
        previous: previous.map(|secret| Box::new(Keys::throwaway(secret))),
        ..Keys::throwaway(secret)
    }
}

impl Town {
    pub fn new() -> Self {
        let clock = Arc::new(HandClock {
            millis: AtomicI64::new(1_760_000_000_000),
            looks: AtomicUsize::new(0),
        });
        Self::on(Arc::new(MemoryStore::new()), clock, &keys(7, None))
    }

    pub fn on(store: Arc<MemoryStore>, clock: Arc<HandClock>, keys: &Keys) -> Self {
        let state = Arc::clone(&store) as Arc<dyn StateStore>;
        Self::over(state, store, clock, keys)
    }

    /// Another node, which reads the same store by way of `state`.
    pub fn beside(&self, state: Arc<dyn StateStore>, keys: &Keys) -> Self {
        Self::over(
            state,
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            keys,
        )
    }

    fn over(
        state: Arc<dyn StateStore>,
        store: Arc<MemoryStore>,
        clock: Arc<HandClock>,
        keys: &Keys,
    ) -> Self {
        let config = Config::parse(CONFIG).unwrap();
        let mut snapshot = assemble::snapshot(&config, "test", keys, 1)
            .unwrap()
            .snapshot;
        snapshot.policy = PolicySet::parse(&starter::shipped()).unwrap();
        snapshot.models.only_native();
        assert!(snapshot.models.login.native.is_some());
        let people = snapshot.people.clone();
        let records = Arc::new(Records::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let (observations, queue) = lessons::queue(1_024, Arc::clone(&metrics));
        let outside = Outside {
            state,
            geo: Arc::new(Atlas),
            audit: Arc::clone(&records) as Arc<dyn AuditSink>,
            keys: Arc::new(NoIdentityServer),
            introspector: Arc::new(NoIdentityServer),
            revoker: Arc::new(NoIdentityServer),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(OsEntropy),
        };
        let breaker = Breaker::new(config.state.breaker.clone());
        let dependencies = Dependencies::new(
            outside,
            &config.score,
            &config.limits,
            breaker,
            observations,
            metrics,
        );
        Self {
            flow: AuthFlow::new(dependencies.unwrap(), snapshot),
            store,
            clock,
            records,
            queue,
            people,
            transactions: 0,
        }
    }

    /// The same, with this share of its requests traced. They go nowhere.
    pub fn traced(self, share: f64) -> Self {
        struct Nowhere;
        impl TraceSink for Nowhere {
            fn write(&self, trace: FinishedTrace) {
                assert!(trace.spans.len() > 7, "{trace:?}");
            }
        }
        let sink = Arc::new(Nowhere);
        let traces = Traces { sink, share };
        Self {
            flow: self.flow.traced(Some(traces)),
            ..self
        }
    }

    /// What was recorded since it was last asked.
    pub fn recorded(&self) -> Vec<AuditEvent> {
        std::mem::take(&mut *self.records.0.lock().unwrap())
    }

    pub fn wait(&self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap();
        self.clock.millis.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn user(&self, name: &str) -> SubjectKey {
        self.people.user(TENANT, name)
    }

    pub fn profile_bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.store.profile_bytes(self.user(name))
    }

    pub async fn profile(&self, name: &str) -> Profile {
        let query = HistoryQuery {
            subject: Some(self.user(name)),
            ..HistoryQuery::of_links(Vec::new(), Vec::new(), self.clock.now())
        };
        self.store.load(&query).await.unwrap().profile.unwrap()
    }

    /// A password for `name`, with an answer of WSO2. Returns the key of the login in progress as well.
    pub async fn password(
        &mut self,
        seat: &mut Seat,
        name: &str,
        answer: Answer,
    ) -> (Seen, String) {
        self.transactions += 1;
        let key = format!("3bd1f207-e5b5-4b45-8a91-{:012}", self.transactions);
        let form = format!("username={name}&password=x&sessionDataKey={key}");
        (self.post(seat, &form, &key, answer).await, key)
    }

    /// A second factor in the login `key`.
    pub async fn second_factor(&mut self, seat: &mut Seat, key: &str, answer: Answer) -> Seen {
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
            has_body: false,
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
        let head = if exchange.permit.is_none() {
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
            && let Some(cookie) = self
                .flow
                .answered(&mut exchange, &head, &headers)
                .await
                .cookies
                .pop()
        {
            seat.cookie = cookie.split(';').next().map(str::to_owned);
        }
        self.flow.close(exchange, false);
        while let Some(observation) = self.queue.try_recv() {
            self.store.record(&[observation]).await.unwrap();
        }
        Seen {
            score,
            verdict,
            device_cookie,
            learnt: self.records.0.lock().unwrap().pop().unwrap().learnt,
        }
    }

    /// Judges by another policy from now on, and keeps decisions for WSO2 to ask for.
    pub fn obey(&self, policy: &str) {
        let config = Config::parse(CONFIG).unwrap();
        let mut snapshot = assemble::snapshot(&config, "test", &keys(7, None), 2)
            .unwrap()
            .snapshot;
        snapshot.models.only_native();
        snapshot.policy = PolicySet::parse(&starter::policy(policy)).unwrap();
        snapshot.answers_wso2 = true;
        self.flow.swap(snapshot);
    }

    /// Takes what was observed to the store.
    pub async fn learn(&mut self) {
        while let Some(observation) = self.queue.try_recv() {
            self.store.record(&[observation]).await.unwrap();
        }
    }

    /// A service account asks for a token for itself: the id of the decision.
    pub async fn client_token(&mut self, scope: &str, is_granted: bool) -> String {
        let form =
            format!("grant_type=client_credentials&client_id=robot&client_secret=x&scope={scope}");
        let granted = scope.replace('+', " ");
        let answer = format!(
            r#"{{"access_token":"a","token_type":"Bearer","expires_in":3600,"scope":"{granted}"}}"#
        );
        self.token(&form, is_granted.then_some(&answer)).await
    }

    /// An application redeems a code at the token endpoint and gets this access token; the id of the decision.
    pub async fn user_token(&mut self, client: &str, token: &str, granted: &str) -> String {
        let form = format!(
            "grant_type=authorization_code&client_id={client}&client_secret=x&code=c-{}",
            self.clock.now().millis()
        );
        let answer = format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600,"scope":"{granted}"}}"#
        );
        self.token(&form, Some(&answer)).await
    }

    /// From now on refresh tokens are known for so many hours after their latest use.
    pub fn lets_rest(&self, hours: u64) {
        let config = format!("{CONFIG}\n[upstream]\nrefresh_token_hours = {hours}\n");
        let config = Config::parse(&config).unwrap();
        let mut snapshot = assemble::snapshot(&config, "test", &keys(7, None), 2)
            .unwrap()
            .snapshot;
        snapshot.models.only_native();
        self.flow.swap(snapshot);
    }

    /// An application turns in a refresh token and gets another one; the record of it.
    pub async fn refresh(&mut self, token: &str, next: &str) -> AuditEvent {
        let form =
            format!("grant_type=refresh_token&client_id=web&client_secret=x&refresh_token={token}");
        let answer = format!(
            r#"{{"access_token":"of-{next}","refresh_token":"{next}","token_type":"Bearer","expires_in":3600}}"#
        );
        self.token(&form, Some(&answer)).await;
        self.recorded().pop().unwrap()
    }

    /// A request at the token endpoint, and WSO2's answer to it; without one the client is not known.
    async fn token(&mut self, form: &str, answer: Option<&String>) -> String {
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
            has_body: false,
        };
        let (mut exchange, admitted) = self.flow.admit(&knock);
        admitted.unwrap();
        let door = exchange.door.unwrap();
        let kind = BodyHeaders::of(&headers).unwrap();
        let parameters =
            Parameters::parse(door, &Method::POST, None, kind, form.as_bytes()).unwrap();
        let request = Request {
            version: http::Version::HTTP_11,
            headers: &headers,
            parameters: Some(&parameters),
            tls: None,
        };
        self.flow.judge(&mut exchange, request).await.unwrap();
        let (status, body) = match answer {
            Some(answer) => (200, answer.clone()),
            None => (401, r#"{"error":"invalid_client"}"#.to_owned()),
        };
        let head = ResponseHead {
            status,
            location: None,
            session: None,
        };
        self.flow.answered(&mut exchange, &head, &headers).await;
        self.flow.answered_with(&mut exchange, body.as_bytes());
        let id = exchange.id.to_string();
        self.flow.close(exchange, false);
        self.learn().await;
        id
    }

    /// Alice signs in from home every day, as she should.
    pub async fn alice_for(&mut self, days: u32, seat: &mut Seat) {
        for _ in 0..days {
            let (seen, key) = self.password(seat, "alice", Answer::Accepted).await;
            if seen.verdict == Verdict::StepUp {
                self.second_factor(seat, &key, Answer::Accepted).await;
            }
            self.wait(DAY);
        }
    }
}
