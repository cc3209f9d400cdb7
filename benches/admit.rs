//! What it costs to decide what a request is: canonical form, class, parameters, header names, client address.
//!
//! `cargo bench --bench admit`

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
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
    c.bench_function("target/authorize", |b| {
        b.iter(|| CanonicalTarget::parse(black_box(AUTHORIZE)))
    });
    c.bench_function("target/token", |b| {
        b.iter(|| CanonicalTarget::parse(black_box(b"/oauth2/token")))
    });

    let table = RouteTable::shipped();
    let door = CanonicalTarget::parse(AUTHORIZE).expect("a canonical target");
    let deep =
        CanonicalTarget::parse(b"/api/users/v1/7a1b/sessions/9c/x/y").expect("a canonical target");
    c.bench_function("classify/door", |b| {
        b.iter(|| table.classify(black_box(&Method::GET), black_box(&door)))
    });
    c.bench_function("classify/subtree", |b| {
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
    c.bench_function("parameters/query", |b| {
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
    c.bench_function("parameters/form", |b| {
        b.iter(|| Parameters::parse(Door::Login, &Method::POST, None, form, black_box(LOGIN)));
    });
    c.bench_function("parameters/json", |b| {
        b.iter(|| Parameters::parse(Door::Authn, &Method::POST, None, json, black_box(AUTHN)));
    });

    let reserved = ReservedHeaders::default();
    c.bench_function("headers/14", |b| {
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
    c.bench_function("client_address/3_hops", |b| {
        b.iter(|| client_address(peer, black_box(&headers), &trusted))
    });
}

criterion_group!(benches, admit);
criterion_main!(benches);
