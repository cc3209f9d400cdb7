//! The whole decision without sockets and files: a login is admitted, its form read, assessed against a history in
//! memory, scored by the shipped model and decided by the shipped policy. The score cache is off, so that the model runs
//! each time.
//!
//! Budgets, on one core, are beside each; the end of a login is outcome, links, lesson and record.
//!
//! `cargo bench --bench request`. Needs the library of ONNX Runtime (`make vendor`).

#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

mod budget;

use budget::step;
use criterion::Criterion;
use criterion::criterion_group;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::adapters::clock::SystemClock;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::adapters::identity_server::NoIdentityServer;
use riskgate::adapters::memory::MemoryStore;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::outcome::AuthOutcome;
use riskgate::domain::outcome::ResponseHead;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::risk::Assessment;
use riskgate::domain::risk::ScoreSource;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::target::CanonicalTarget;
use riskgate::flow::AuthFlow;
use riskgate::flow::Dependencies;
use riskgate::flow::admit::Knock;
use riskgate::flow::assess::Request;
use riskgate::flow::dependencies::Outside;
use riskgate::flow::exchange::Exchange;
use riskgate::flow::lessons;
use riskgate::flow::lessons::LessonQueue;
use riskgate::flow::limits::LimitSettings;
use riskgate::flow::ports::AuditSink;
use riskgate::flow::ports::GeoLookup;
use riskgate::flow::ports::StateStore;
use riskgate::flow::score::breaker::Breaker;
use riskgate::telemetry::metrics::Metrics;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Enforced, without limits and cache; the rest as shipped.
const CONFIG: &str = r#"
[mode]
default = "enforce"
[score]
cache_entries = 0
[limits]
address_per_minute = 0
user_per_minute = 0
network_per_minute = 0
client_per_minute = 0
[server]
trusted_proxies = ["10.0.0.0/8"]
"#;

const FORM: &[u8] = b"usernameUserInput=alice&username=alice&password=w0nder%26land&sessionDataKey=3bd1f207-e5b5-4b45-8a91-13b0acfb2151&chkRemember=on";

/// What a browser behind a load balancer sends.
const HEADERS: [(&str, &str); 11] = [
    ("host", "login.example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-language", "nb-NO,nb;q=0.9,en;q=0.8"),
    ("accept-encoding", "gzip, deflate, br"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("origin", "https://login.example.com"),
    (
        "referer",
        "https://login.example.com/authenticationendpoint/login.do?client_id=a",
    ),
    (
        "cookie",
        "JSESSIONID=8D2F77A8E1; atbv=12; opbs=1f2c7d60-5a1b",
    ),
    ("x-forwarded-for", "84.208.13.77"),
    ("x-forwarded-proto", "https"),
];

/// One residential network for everybody.
struct OneNetwork;

impl GeoLookup for OneNetwork {
    fn lookup(&self, _: IpAddr) -> NetworkFacts {
        NetworkFacts {
            asn: Some(41_164),
            country: CountryCode::parse("NO"),
            coordinates: Coordinates::new(59.91, 10.75),
            kind: Some(NetworkKind::Residential),
            ..NetworkFacts::default()
        }
    }
}

/// Takes records and forgets them.
struct NoRecords;

impl AuditSink for NoRecords {
    fn write(&self, event: AuditEvent) {
        black_box(event);
    }
}

/// A path, its store and what waits for that.
struct Bench {
    flow: AuthFlow,
    store: Arc<MemoryStore>,
    queue: LessonQueue,
    runtime: Runtime,
    headers: HeaderMap,
}

impl Bench {
    /// A path on which Alice has signed in thirty times. `native` leaves ONNX Runtime out.
    fn new(native: bool) -> Self {
        let evaluator = if native { "auto" } else { "onnx-runtime" };
        let text = format!("{CONFIG}\n[model]\nevaluator = \"{evaluator}\"\n");
        let config = Config::parse(&text).expect("a valid configuration");
        let keys = Keys::throwaway(7);
        let mut snapshot = assemble::snapshot(&config, "bench", &keys, 1)
            .expect("the shipped policy and model")
            .snapshot;
        if native {
            snapshot.models.only_native();
        } else {
            assert!(
                snapshot.models.login.primary.is_some(),
                "no ONNX Runtime; run `make vendor` first"
            );
        }
        let store = Arc::new(MemoryStore::new());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (observations, queue) = lessons::queue(1_024, Arc::clone(&metrics));
        let outside = Outside {
            state: Arc::clone(&store) as Arc<dyn StateStore>,
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
        assert_eq!(
            config.limits,
            LimitSettings {
                address_per_minute: 0,
                network_per_minute: 0,
                user_per_minute: 0,
                client_per_minute: 0
            }
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let headers = HEADERS.into_iter().map(|(name, value)| {
            (
                name.parse().expect("a name"),
                HeaderValue::from_static(value),
            )
        });
        let mut bench = Self {
            flow: AuthFlow::new(dependencies.expect("threads"), snapshot),
            store,
            queue,
            runtime,
            headers: headers.collect(),
        };
        for _ in 0..30 {
            let exchange = bench.login();
            bench.end(exchange);
            bench.learn();
        }
        let exchange = bench.login();
        let source = if native {
            ScoreSource::Native
        } else {
            ScoreSource::Model
        };
        let assessed = exchange.assessed.as_ref().expect("an assessment");
        assert!(
            matches!(&assessed.assessment, Assessment::Scored { source: found, .. } if *found == source),
            "{assessed:?}"
        );
        assert!(
            assessed
                .profile
                .as_ref()
                .is_some_and(|profile| profile.successes == 30),
            "nothing was learnt"
        );
        assert!(
            exchange.permit.is_some(),
            "Alice is known and is let through"
        );
        bench.end(exchange);
        bench.learn();
        bench
    }

    fn knock<'a>(&'a self, method: &'a Method, target: &'a [u8]) -> Knock<'a> {
        Knock {
            method,
            raw_target: target,
            version: http::Version::HTTP_11,
            headers: &self.headers,
            authority: None,
            peer: IpAddr::from([10, 0, 0, 5]),
            tls: false,
            has_length: false,
            has_body: false,
        }
    }

    /// A login up to its decision.
    fn login(&self) -> Exchange {
        let (mut exchange, admitted) = self.flow.admit(&self.knock(&Method::POST, b"/commonauth"));
        admitted.expect("a good request");
        let door = exchange.door.expect("a scored door");
        let kind = BodyHeaders::of(&self.headers).expect("a form");
        let query = exchange.target.as_ref().and_then(CanonicalTarget::query);
        let parameters = Parameters::parse(door, &Method::POST, query, kind, FORM).expect("a form");
        let request = Request {
            version: http::Version::HTTP_11,
            headers: &self.headers,
            parameters: Some(&parameters),
            tls: None,
        };
        self.runtime
            .block_on(self.flow.judge(&mut exchange, request))
            .expect("a decision");
        exchange
    }

    /// The identity server accepts the login; the exchange is closed.
    fn end(&self, mut exchange: Exchange) {
        let head = ResponseHead {
            status: 302,
            location: Some("https://login.example.com/oauth2/authorize?sessionDataKey=3bd1f207-e5b5-4b45-8a91-13b0acfb2151".to_owned()),
            session: Some("9c41d7aa-0f3e-4a53-b6c2-6f1e1d9f7d55".to_owned()),
        };
        let answered = self.flow.answered(&mut exchange, &head, &self.headers);
        black_box(self.runtime.block_on(answered));
        assert_eq!(exchange.outcome, AuthOutcome::Succeeded);
        self.flow.close(exchange, false);
    }

    fn learn(&mut self) {
        while let Some(observation) = self.queue.try_recv() {
            self.runtime
                .block_on(self.store.record(&[observation]))
                .expect("a store in memory");
        }
    }

    fn forget(&mut self) {
        while self.queue.try_recv().is_some() {}
    }
}

fn request(c: &mut Criterion) {
    let mut native = Bench::new(true);
    step(c, "request/passed", Duration::from_micros(5), |b| {
        b.iter(|| {
            let (exchange, admitted) = native
                .flow
                .admit(&native.knock(&Method::GET, black_box(b"/oauth2/jwks")));
            assert!(admitted.is_ok());
            exchange
        });
    });
    step(
        c,
        "request/decision_native",
        Duration::from_micros(40),
        |b| b.iter(|| native.login()),
    );
    step(
        c,
        "request/decision_native_and_end",
        Duration::from_micros(80),
        |b| {
            b.iter(|| {
                native.end(native.login());
                native.forget();
            });
        },
    );
    let onnx = Bench::new(false);
    step(
        c,
        "request/decision_onnx_runtime",
        Duration::from_micros(50),
        |b| b.iter(|| onnx.login()),
    );
}

criterion_group!(benches, request);

fn main() -> ExitCode {
    benches();
    budget::hold()
}
