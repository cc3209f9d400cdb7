//! What WSO2 waits for: the pre-issue access token action at 500 calls a second over 20 kept connections (the size of its
//! pool), beside an empty axum handler that is called in the same way in the same run. The calls are those of the contract;
//! each brings the decision id of a token request that was decided before, and each answer must carry the claims.
//!
//! An open loop: a call counts from the moment at which it was due, so that a slow answer shows in those behind it. The
//! bar is a p99 of 5 ms, in the median of the rounds; a miss or a wrong answer ends the bench with an error. Where the
//! empty handler misses it too, the machine is too busy to say anything, and the exit code is 2.
//!
//! `cargo bench --bench actions`, half a minute. Loopback only.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::actions::ActionsState;
use riskgate::actions::caller::Callers;
use riskgate::actions::listener;
use riskgate::adapters::clock::SystemClock;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::adapters::identity_server::NoIdentityServer;
use riskgate::adapters::memory::MemoryStore;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::policy::PolicySet;
use riskgate::domain::secret::Secret;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::flow::AuthFlow;
use riskgate::flow::Dependencies;
use riskgate::flow::admit::Knock;
use riskgate::flow::assess::Request;
use riskgate::flow::dependencies::Outside;
use riskgate::flow::lessons;
use riskgate::flow::ports::AuditSink;
use riskgate::flow::ports::GeoLookup;
use riskgate::flow::score::breaker::Breaker;
use riskgate::telemetry::metrics::Metrics;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Calls a second.
const RATE: u32 = 500;
/// Connections that are kept; WSO2's pool.
const CONNECTIONS: usize = 20;
/// One round of one variant.
const ROUND: Duration = Duration::from_secs(3);
/// Rounds of each variant, in turn.
const ROUNDS: usize = 5;
/// Decisions that are asked for.
const DECISIONS: usize = 200;
/// The greatest p99 that is good.
const BAR: Duration = Duration::from_millis(5);
const SECRET: &str = "a-secret-of-wso2-and-the-gateway-alone";

const CONFIG: &str = r#"
[mode]
default = "enforce"
[limits]
address_per_minute = 0
user_per_minute = 0
network_per_minute = 0
client_per_minute = 0
"#;

const POLICY: &str = r#"
version = 1
[[rule]]
name = "all"
when = "true"
verdict = "allow"
[token]
low.expires_in = 900
low.remove_scopes = ["payments:*"]
"#;

const FORM: &[u8] =
    b"grant_type=client_credentials&client_id=demo&client_secret=s&scope=read+payments%3Awrite";

struct Nowhere;

impl GeoLookup for Nowhere {
    fn lookup(&self, _: IpAddr) -> NetworkFacts {
        NetworkFacts::default()
    }
}

impl AuditSink for Nowhere {
    fn write(&self, _: AuditEvent) {}
}

fn flow() -> AuthFlow {
    let config = Config::parse(CONFIG).expect("a valid configuration");
    let keys = Keys::throwaway(7);
    let mut snapshot = assemble::snapshot(&config, "bench", &keys, 1)
        .expect("the shipped model")
        .snapshot;
    snapshot.policy = PolicySet::parse(POLICY).expect("a policy");
    snapshot.answers_wso2 = true;
    // What is learnt goes nowhere: the actions read what the node remembers.
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let (observations, _) = lessons::queue(1, Arc::clone(&metrics));
    let outside = Outside {
        state: Arc::new(MemoryStore::new()),
        geo: Arc::new(Nowhere),
        audit: Arc::new(Nowhere),
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
    AuthFlow::new(dependencies.expect("threads"), snapshot)
}

/// Decides about a token request: the id of the decision.
async fn decide(flow: &AuthFlow) -> String {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("login.example.com"));
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    let (mut exchange, admitted) = flow.admit(&Knock {
        method: &Method::POST,
        raw_target: b"/oauth2/token",
        version: http::Version::HTTP_11,
        headers: &headers,
        authority: None,
        peer: IpAddr::from([10, 0, 0, 5]),
        tls: false,
        has_length: false,
        has_body: false,
    });
    admitted.expect("a good request");
    let door = exchange.door.expect("a scored door");
    let kind = BodyHeaders::of(&headers).expect("a form");
    let parameters = Parameters::parse(door, &Method::POST, None, kind, FORM).expect("a form");
    let request = Request {
        version: http::Version::HTTP_11,
        headers: &headers,
        parameters: Some(&parameters),
        tls: None,
    };
    flow.judge(&mut exchange, request)
        .await
        .expect("a decision");
    assert!(exchange.permit.is_some(), "the request goes on");
    exchange.id.to_string()
}

/// The call as WSO2 makes it.
fn call(id: &str) -> String {
    json!({
        "actionType": "PRE_ISSUE_ACCESS_TOKEN",
        "requestId": "9c0c0a8e-2b1b-4a62-8a0e-3a9b5a1f0d11",
        "event": {
            "request": {
                "grantType": "client_credentials", "clientId": "demo", "scopes": ["read", "payments:write"],
                "additionalHeaders": [{ "name": "x-risk-decision-id", "value": [id] }],
                "additionalParams": [],
            },
            "tenant": { "id": "-1234", "name": "carbon.super" },
            "organization": { "id": "10084a8d", "name": "Super", "orgHandle": "carbon.super", "depth": 0 },
            "accessToken": {
                "tokenType": "JWT", "scopes": ["read", "payments:write"],
                "claims": [
                    { "name": "iss", "value": "https://localhost:9443/oauth2/token" },
                    { "name": "client_id", "value": "demo" }, { "name": "aut", "value": "APPLICATION" },
                    { "name": "expires_in", "value": 3600 }, { "name": "aud", "value": ["demo"] },
                    { "name": "subject_type", "value": "public" }, { "name": "sub", "value": "demo" },
                ],
            },
            "response": { "parameters": ["access_token", "token_type", "scope", "expires_in"] },
        },
        "allowedOperations": [
            { "op": "add", "paths": ["/accessToken/claims/", "/accessToken/scopes/", "/accessToken/claims/aud/", "/response/parameters/"] },
            { "op": "remove", "paths": ["/accessToken/scopes/", "/accessToken/claims/aud/"] },
            { "op": "replace", "paths": ["/accessToken/scopes/", "/accessToken/claims/aud/", "/accessToken/claims/expires_in"] },
        ],
    })
    .to_string()
}

/// Calls `url` at the rate for one round: how long each took from the moment at which it was due.
async fn round(
    client: &reqwest::Client,
    url: &str,
    bodies: &[String],
    expected: &str,
) -> Vec<Duration> {
    let begun = Instant::now();
    let pace = Duration::from_secs(1) / RATE;
    let calls = usize::try_from(ROUND.as_micros() / pace.as_micros()).expect("a small number");
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, url, next) = (client.clone(), url.to_owned(), Arc::clone(&next));
        let (bodies, expected) = (bodies.to_vec(), expected.to_owned());
        callers.push(tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= calls {
                    return took;
                }
                let due = begun + pace * u32::try_from(number).expect("a small number");
                tokio::time::sleep_until(due.into()).await;
                let request = client.post(&url).bearer_auth(SECRET);
                let request = request.header("content-type", "application/json");
                let answer = request.body(bodies[number % bodies.len()].clone());
                let answer = answer.send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                let body = answer.text().await.expect("a body");
                took.push(due.elapsed());
                assert!(body.contains(&expected), "{body}");
            }
        }));
    }
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.expect("a caller"));
    }
    all.sort_unstable();
    all
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let flow = Arc::new(flow());
    let (stop, stopped) = watch::channel(false);
    let (urls, bodies) = server.block_on(async {
        let mut bodies = Vec::new();
        for _ in 0..DECISIONS {
            bodies.push(call(&decide(&flow).await));
        }
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (empty, actions) = (bind().await.expect("a port"), bind().await.expect("a port"));
        let url = |listener: &TcpListener, path: &str| {
            format!(
                "http://{}{path}",
                listener.local_addr().expect("an address")
            )
        };
        let urls = [
            url(&empty, "/"),
            url(&actions, "/actions/pre-issue-access-token"),
        ];
        let router = Router::new().route(
            "/",
            post(|body: Bytes| async move {
                drop(body);
                "{}"
            }),
        );
        tokio::spawn(async move { axum::serve(empty, router).await });
        let state = ActionsState {
            metrics: Arc::clone(&flow.dependencies().metrics),
            flow: Arc::clone(&flow),
            callers: Arc::new(ArcSwap::from_pointee(Callers::new(&[Secret::new(
                SECRET.to_owned(),
            )]))),
        };
        tokio::spawn(listener::serve(actions, None, state, stopped));
        (urls, bodies)
    });
    let load = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(CONNECTIONS)
        .build()
        .expect("a client");
    let names = ["empty handler", "token action"];
    let expected = ["{}", "risk_status"];
    let mut found: [Vec<(Duration, Duration, Duration)>; 2] = Default::default();
    for number in 0..=ROUNDS {
        for (place, url) in urls.iter().enumerate() {
            let took = load.block_on(round(&client, url, &bodies, expected[place]));
            // The first round opens connections and fills caches.
            if number > 0 {
                let at = |share: usize| took[(took.len() - 1) * share / 1000];
                found[place].push((at(500), at(990), at(1000)));
            }
        }
    }
    stop.send_replace(true);
    println!(
        "{RATE} calls a second over {CONNECTIONS} connections, {ROUNDS} rounds of {} s; medians of the rounds",
        ROUND.as_secs()
    );
    println!("| | p50 ms | p99 ms | greatest ms |");
    println!("|---|---|---|---|");
    let millis = |value: Duration| value.as_secs_f64() * 1000.0;
    let mut p99 = [Duration::MAX; 2];
    for (place, rounds) in found.iter().enumerate() {
        let of = |pick: fn(&(Duration, Duration, Duration)) -> Duration| {
            median(rounds.iter().map(pick).collect())
        };
        p99[place] = of(|round| round.1);
        println!(
            "| {} | {:.2} | {:.2} | {:.2} |",
            names[place],
            millis(of(|round| round.0)),
            millis(p99[place]),
            millis(of(|round| round.2))
        );
    }
    let [empty, action] = p99;
    if empty > BAR {
        println!("the empty handler took longer than the bar: this machine is too busy to say");
        std::process::exit(2);
    }
    assert!(
        action <= BAR,
        "the p99 of the token action is {:.2} ms",
        millis(action)
    );
}
