//! What it costs to decide what a request is: canonical form, class, parameters, header names, client address. Each has its
//! budget beside it.
//!
//! `cargo bench --bench admit`

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot be set up has nothing to measure"
)]

mod budget;

use budget::step;
use criterion::Criterion;
use criterion::criterion_group;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::domain::headers::ReservedHeaders;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::route::Door;
use riskgate::domain::route::RouteTable;
use riskgate::domain::signals::client_addr::TrustedProxies;
use riskgate::domain::signals::client_addr::client_address;
use riskgate::domain::target::CanonicalTarget;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

const AUTHORIZE: &[u8] = b"/t/example.com/oauth2/authorize?response_type=code&client_id=Xa7Qb2&scope=openid%20profile\
&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback&state=8f1c9b7e&nonce=52d1&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
&code_challenge_method=S256";

const LOGIN: &[u8] = b"usernameUserInput=alice&username=alice%40example.com&password=w0nder%26land&sessionDataKey=3bd1f207-e5b5-4b45-8a91-13b0acfb2151&chkRemember=on";

const AUTHN: &[u8] = b"{\"flowId\":\"3bd1f207-e5b5-4b45-8a91-13b0acfb2151\",\"selectedAuthenticator\":{\"authenticatorId\":\"QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM\",\"params\":{\"username\":\"alice\",\"password\":\"wonderland\"}}}";

/// What a browser sends, in its order.
const HEADER_NAMES: [&str; 14] = [
    "host",
    "connection",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "upgrade-insecure-requests",
    "user-agent",
    "accept",
    "sec-fetch-site",
    "sec-fetch-mode",
    "referer",
    "accept-encoding",
    "accept-language",
    "cookie",
];

fn admit(c: &mut Criterion) {
    step(c, "target/authorize", Duration::from_micros(1), |b| {
        b.iter(|| CanonicalTarget::parse(black_box(AUTHORIZE)))
    });
    step(c, "target/token", Duration::from_nanos(250), |b| {
        b.iter(|| CanonicalTarget::parse(black_box(b"/oauth2/token")))
    });

    let table = RouteTable::shipped();
    let door = CanonicalTarget::parse(AUTHORIZE).expect("a canonical target");
    let deep =
        CanonicalTarget::parse(b"/api/users/v1/7a1b/sessions/9c/x/y").expect("a canonical target");
    step(c, "classify/door", Duration::from_nanos(500), |b| {
        b.iter(|| table.classify(black_box(&Method::GET), black_box(&door)))
    });
    step(c, "classify/subtree", Duration::from_nanos(2_500), |b| {
        b.iter(|| table.classify(black_box(&Method::GET), black_box(&deep)))
    });

    let form = BodyHeaders {
        content_type: Some("application/x-www-form-urlencoded"),
        has_content_encoding: false,
    };
    let json = BodyHeaders {
        content_type: Some("application/json"),
        has_content_encoding: false,
    };
    step(c, "parameters/query", Duration::from_micros(4), |b| {
        b.iter(|| {
            Parameters::parse(
                Door::Authorize,
                &Method::GET,
                black_box(door.query()),
                BodyHeaders::default(),
                b"",
            )
        });
    });
    step(c, "parameters/form", Duration::from_micros(3), |b| {
        b.iter(|| Parameters::parse(Door::Login, &Method::POST, None, form, black_box(LOGIN)));
    });
    step(c, "parameters/json", Duration::from_micros(3), |b| {
        b.iter(|| Parameters::parse(Door::Authn, &Method::POST, None, json, black_box(AUTHN)));
    });

    let reserved = ReservedHeaders::default();
    step(c, "headers/14", Duration::from_nanos(500), |b| {
        b.iter(|| {
            HEADER_NAMES
                .iter()
                .filter(|name| reserved.contains(black_box(name)))
                .count()
        });
    });

    let trusted = TrustedProxies::parse(&["10.0.0.0/8".to_owned()]).expect("a network");
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-forwarded-for",
        HeaderValue::from_static("6.6.6.6, 203.0.113.9, 10.0.0.7"),
    );
    let peer = IpAddr::from([10, 0, 0, 1]);
    step(c, "client_address/3_hops", Duration::from_micros(1), |b| {
        b.iter(|| client_address(peer, black_box(&headers), &trusted))
    });
}

criterion_group!(benches, admit);

fn main() -> ExitCode {
    benches();
    budget::hold()
}
