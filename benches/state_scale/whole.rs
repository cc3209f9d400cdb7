//! A whole scored request with its state in Redis: a login is admitted, its form read, its history loaded, scored by the
//! shipped model, decided, answered and closed. Only sockets are missing, and what was learnt is not written.

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::adapters::clock::SystemClock;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::adapters::identity_server::NoIdentityServer;
use riskgate::adapters::redis::RedisStore;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::ids::Pseudonymizer;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::outcome::ResponseHead;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::secret::Secret;
use riskgate::domain::signals::SignalHashes;
use riskgate::domain::signals::agent::AgentFacts;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::signals::session::DeviceCookie;
use riskgate::flow::AuthFlow;
use riskgate::flow::Dependencies;
use riskgate::flow::admit::Knock;
use riskgate::flow::assess::Request;
use riskgate::flow::dependencies::Outside;
use riskgate::flow::lessons;
use riskgate::flow::lessons::LessonQueue;
use riskgate::flow::ports::AuditSink;
use riskgate::flow::ports::GeoLookup;
use riskgate::flow::ports::StateStore;
use riskgate::flow::score::breaker::Breaker;
use riskgate::telemetry::metrics::Metrics;
use std::hint::black_box;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// The tenant of everybody.
pub const TENANT: &str = "carbon.super";
const SECRET: [u8; 32] = [7; 32];
const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
const LANGUAGE: &str = "nb-NO,nb;q=0.9,en;q=0.8";
/// Enforced, without limits and cache, with time enough for a busy machine; the rest as shipped.
const CONFIG: &str = r#"
[mode]
default = "enforce"
[score]
cache_entries = 0
budget_ms = 5000
[limits]
address_per_minute = 0
user_per_minute = 0
network_per_minute = 0
client_per_minute = 0
[server]
trusted_proxies = ["10.0.0.0/8"]
"#;

/// One residential network for everybody.
struct OneNetwork;

impl GeoLookup for OneNetwork {
    fn lookup(&self, _: IpAddr) -> NetworkFacts {
        network()
    }
}

fn network() -> NetworkFacts {
    NetworkFacts {
        asn: Some(41_164),
        country: CountryCode::parse("NO"),
        coordinates: Coordinates::new(59.91, 10.75),
        kind: Some(NetworkKind::Residential),
        ..NetworkFacts::default()
    }
}

/// Takes records and forgets them.
struct NoRecords;

impl AuditSink for NoRecords {
    fn write(&self, event: AuditEvent) {
        black_box(event);
    }
}

/// The names that the flow gives to people and their homes.
pub struct Names {
    people: Pseudonymizer,
    agent: AgentFacts,
}

impl Names {
    pub fn new() -> Self {
        Self {
            people: Pseudonymizer::new(&SECRET),
            agent: AgentFacts::parse(Some(AGENT), Some(LANGUAGE)),
        }
    }

    /// The key of a user.
    pub fn subject(&self, n: u64) -> SubjectKey {
        self.people.user(TENANT, &username(n))
    }

    /// What a login from this home shows.
    pub fn seen_at(&self, home: u64) -> SignalHashes {
        let address = IpAddr::V4(address(home));
        let (network, cookie) = (network(), DeviceCookie::Absent);
        SignalHashes::of(
            &self.people,
            TENANT,
            address,
            &network,
            &self.agent,
            None,
            &cookie,
        )
    }
}

fn username(n: u64) -> String {
    format!("user-{n}")
}

/// The address of a home.
fn address(home: u64) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(84, 0, 0, 0)) + u32::try_from(home).expect("a number"))
}

/// The path of a gateway on one store.
pub struct Gateway {
    flow: AuthFlow,
    queue: LessonQueue,
}

impl Gateway {
    pub fn on(store: Arc<RedisStore>) -> Self {
        let config = Config::parse(CONFIG).expect("a valid configuration");
        let key = || Secret::new(SECRET.to_vec());
        let keys = Keys {
            pseudonyms: key(),
            devices: key(),
            seals: key(),
            demands: key(),
            pages: key(),
            origins: key(),
            previous: None,
        };
        let snapshot = assemble::snapshot(&config, "bench", &keys, 1)
            .expect("the shipped policy and model")
            .snapshot;
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (observations, queue) = lessons::queue(1_024, Arc::clone(&metrics));
        let outside = Outside {
            state: store as Arc<dyn StateStore>,
            geo: Arc::new(OneNetwork),
            audit: Arc::new(NoRecords),
            keys: Arc::new(NoIdentityServer),
            introspector: Arc::new(NoIdentityServer),
            revoker: Arc::new(NoIdentityServer),
            clock: Arc::new(SystemClock),
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
            flow: AuthFlow::new(dependencies.expect("threads"), snapshot),
            queue,
        }
    }

    /// The login of user `n` at home, and how long it took from the head of the request to the end of the exchange.
    pub async fn login(&mut self, n: u64, home: u64) -> Duration {
        let form = format!(
            "usernameUserInput=u&username={}&password=w0nder%26land&sessionDataKey=3bd1f207-e5b5-4b45-{n:012}",
            username(n)
        );
        let headers = headers(address(home));
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
        let started = Instant::now();
        let (mut exchange, admitted) = self.flow.admit(&knock);
        admitted.expect("a good request");
        let door = exchange.door.expect("a scored door");
        let kind = BodyHeaders::of(&headers).expect("a form");
        let parameters = Parameters::parse(door, &Method::POST, None, kind, form.as_bytes());
        let parameters = parameters.expect("a form");
        let request = Request {
            version: http::Version::HTTP_11,
            headers: &headers,
            parameters: Some(&parameters),
            tls: None,
        };
        self.flow
            .judge(&mut exchange, request)
            .await
            .expect("a decision");
        let known = exchange.assessed.as_ref();
        let known = known.and_then(|assessed| assessed.profile.as_ref());
        assert!(known.is_some(), "user {n} is known");
        let head = ResponseHead {
            status: 302,
            location: Some(
                "https://login.example.com/oauth2/authorize?sessionDataKey=3bd1f207".to_owned(),
            ),
            session: Some("9c41d7aa-0f3e-4a53-b6c2-6f1e1d9f7d55".to_owned()),
        };
        black_box(self.flow.answered(&mut exchange, &head, &headers).await);
        self.flow.close(exchange, false);
        let took = started.elapsed();
        while self.queue.try_recv().is_some() {}
        took
    }
}

/// What a browser behind a load balancer sends.
fn headers(address: Ipv4Addr) -> HeaderMap {
    let fields = [
        ("host", "login.example.com"),
        ("user-agent", AGENT),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("accept-language", LANGUAGE),
        ("accept-encoding", "gzip, deflate, br"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", "https://login.example.com"),
        ("cookie", "JSESSIONID=8D2F77A8E1; atbv=12; opbs=1f2c7d60"),
        ("x-forwarded-proto", "https"),
    ];
    let mut headers: HeaderMap = fields
        .into_iter()
        .map(|(name, value)| {
            (
                name.parse().expect("a name"),
                HeaderValue::from_static(value),
            )
        })
        .collect();
    let value = address.to_string().parse().expect("a value");
    headers.insert("x-forwarded-for", value);
    headers
}
