//! Answers that wait for their proof, with HTTP/2 in front of the gateway and TLS behind it: whole, once, and on a
//! connection that goes on.

use crate::gateway::CALLBACK;
use crate::gateway::HOME;
use crate::gateway::Http2;
use crate::gateway::Http2Answer;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::deaf;
use crate::gateway::form;
use crate::gateway::rules;
use tokio::task::JoinSet;
use wso2_sim::SimConfig;

const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";

async fn world(sim: SimConfig) -> World {
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[(AT_LOGIN, "step_up"), ("true", "allow")])),
        tls: true,
        sim,
        ..Options::default()
    })
    .await;
    assert!(world.sim.url.starts_with("https://"));
    world
}

/// Redeems a code on a connection of HTTP/2, the form in pieces of so many bytes.
async fn redeem(world: &World, http2: &Http2, code: &str, piece: usize) -> Http2Answer {
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
    ]);
    let authorization = basic("demo-web", "demo-web-secret");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-forwarded-for", HOME),
        ("user-agent", "an application"),
    ];
    http2
        .send(world, "POST", "/oauth2/token", &headers, &body, piece)
        .await
}

/// What HTTP/2 forbids (RFC 9113 section 8.2.2), and a length that is the body's.
fn is_well_formed(answer: &Http2Answer) {
    for name in [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
    ] {
        assert!(answer.header(name).is_none(), "{name}: {answer:?}");
    }
    let length: usize = answer
        .header("content-length")
        .expect("a length")
        .parse()
        .expect("a number");
    assert_eq!(length, answer.body.len(), "{answer:?}");
}

fn withheld(answer: &Http2Answer) {
    assert_eq!(
        (answer.status, answer.member("error").as_str()),
        (400, "invalid_grant"),
        "{answer:?}"
    );
    assert_eq!(answer.member("acr_values"), MFA);
    assert_eq!(answer.json()["max_age"], 300);
    for secret in ["access_token", "refresh_token", "id_token"] {
        assert!(!answer.body.contains(secret), "{answer:?}");
    }
    is_well_formed(answer);
}

async fn goes_on(world: &World, http2: &Http2) {
    let answer = http2.send(world, "GET", "/oauth2/jwks", &[], "", 1).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["keys"].is_array(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proven_tokens_pass_whole_and_the_connection_goes_on() {
    let world = world(SimConfig::default()).await;
    let http2 = Http2::connect(&world).await;
    // The form in one frame, in many, and a byte at a time.
    for piece in [4096, 16, 1] {
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        let mark = world.mark().await;
        let tokens = redeem(&world, &http2, &code, piece).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        assert_eq!(claims(&tokens.member("id_token"))["acr"], MFA);
        assert!(!tokens.member("refresh_token").is_empty());
        assert_eq!(tokens.header("content-type"), Some("application/json"));
        is_well_formed(&tokens);
        let record = world.record_since(mark).await;
        assert_eq!(
            (record.proof.as_deref(), &*record.action),
            (Some("proven"), "forwarded"),
            "{record:#?}"
        );
        // The request that the identity server got is one of HTTP/1.1, over TLS, with the gateway's own word.
        let received = world.received_one_since(mark);
        assert_eq!(received.header_values("x-forwarded-proto"), ["https"]);
        assert_eq!(received.header_values("x-risk-verdict").len(), 1);
        assert_eq!(
            received.header_values("host"),
            [format!("localhost:{}", world.port)]
        );
        goes_on(&world, &http2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn withheld_tokens_leave_no_trace_and_the_connection_goes_on() {
    let world = world(deaf()).await;
    let http2 = Http2::connect(&world).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let mark = world.mark().await;
    withheld(&redeem(&world, &http2, &code, 4096).await);
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.proof.as_deref(), record.revocation.as_deref()),
        (Some("acr"), Some("revoked")),
        "{record:#?}"
    );
    goes_on(&world, &http2).await;
    // Whoever owes nothing is served on the same connection as ever.
    let mut bob = world.person("bob");
    let code = bob.sign_in().await;
    let tokens = redeem(&world, &http2, &code, 4096).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_streams_that_redeem_one_code_one_is_served() {
    for (sim, expected) in [(SimConfig::default(), 1), (deaf(), 0)] {
        let world = std::sync::Arc::new(world(sim).await);
        let http2 = Http2::connect(&world).await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        drop(alice);
        let mut tries = JoinSet::new();
        for _ in 0..50 {
            let (world, http2, code) = (std::sync::Arc::clone(&world), http2.clone(), code.clone());
            tries.spawn(async move { redeem(&world, &http2, &code, 64).await });
        }
        let mut served = 0;
        while let Some(answer) = tries.join_next().await {
            let answer = answer.unwrap();
            is_well_formed(&answer);
            match answer.status {
                200 => served += 1,
                _ => assert_eq!(
                    (answer.status, answer.member("error").as_str()),
                    (400, "invalid_grant"),
                    "{answer:?}"
                ),
            }
        }
        assert_eq!(served, expected);
        goes_on(&world, &http2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_channel_answer_is_replaced_on_its_stream_alone() {
    // The session was made without a factor; one is demanded by header, and the identity server does not care.
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            (
                "request.door == \"authorize\" && request.response_type == \"id_token\"",
                "step_up",
            ),
            ("true", "allow"),
        ])),
        tls: true,
        config: "[step_up]\nstyle = \"header\"",
        sim: deaf(),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let answer = alice.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
    let http2 = Http2::connect(&world).await;
    let path = alice.authorize_path(&[("response_type", "id_token")]);
    let cookies = alice.cookies();
    let headers = [
        ("cookie", cookies.as_str()),
        ("x-forwarded-for", HOME),
        ("user-agent", crate::gateway::CHROME_ON_WINDOWS),
    ];
    let answer = http2.send(&world, "GET", &path, &headers, "", 1).await;
    let location = answer.header("location").expect("a redirect").to_owned();
    assert!(
        location.starts_with(CALLBACK)
            && location.contains("error=unmet_authentication_requirements"),
        "{location}"
    );
    assert!(!location.contains("id_token="), "{location}");
    let record = world.last_record_of("authorize").await;
    assert_eq!(
        (&*record.action, record.proof.as_deref()),
        ("withheld", Some("acr")),
        "{record:#?}"
    );
    goes_on(&world, &http2).await;
}
