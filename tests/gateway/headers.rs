//! What a client writes about itself never reaches the identity server as if the gateway had said it.

use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::Mark;
use crate::gateway::Options;
use crate::gateway::World;
use riskgate::domain::audit::AuditEvent;
use wso2_sim::RecordedRequest;

/// The headers in which WSO2 looks for the client's address.
const ADDRESS_HEADERS: [&str; 11] = [
    "X-Forwarded-For",
    "Proxy-Client-IP",
    "WL-Proxy-Client-IP",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED",
    "HTTP_X_CLUSTER_CLIENT_IP",
    "HTTP_CLIENT_IP",
    "HTTP_FORWARDED_FOR",
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "REMOTE_ADDR",
];
/// Further headers that only the gateway may set, or nobody.
const FORGED: [(&str, &str); 16] = [
    ("X-Risk-Score", "0"),
    ("X_Risk_Score", "0"),
    ("x-risk-verdict", "allow"),
    ("X-Risk_Verdict", "allow"),
    ("X-Risk-Status", "scored"),
    ("X-RISK-LEVEL", "low"),
    ("X-Risk-Reasons", "none"),
    ("X-Risk-Decision-Id", "00000000-0000-0000-0000-000000000000"),
    ("X-Risk-Signature", "forged"),
    ("X-Risk-Assertion", "forged"),
    ("X-Risk-Anything", "forged"),
    ("UserName", "admin"),
    ("activityid", "forged"),
    ("X-Real-IP", "198.51.100.1"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
];
/// What the gateway sets where the mode lets WSO2 see the risk.
const OURS: [&str; 8] = [
    "activityid",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-risk-decision-id",
    "x-risk-level",
    "x-risk-score",
    "x-risk-status",
];

/// A request with every forged header, some twice.
fn forged(request_line: &str, body: &str) -> Vec<u8> {
    let mut text =
        format!("{request_line} HTTP/1.1\r\nHost: login.example.com\r\nConnection: close\r\n");
    for name in ADDRESS_HEADERS {
        text += &format!(
            "{name}: {FAR}, 198.51.100.9\r\n{}: {FAR}\r\n",
            name.replace('_', "-")
        );
    }
    for (name, value) in FORGED {
        text += &format!("{name}: {value}\r\n{}: {value}\r\n", name.to_uppercase());
    }
    if !body.is_empty() {
        text += &format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            body.len()
        );
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// The reserved headers of a request, spelled as CGI-minded servers would read them.
fn reserved(request: &RecordedRequest) -> Vec<(String, String)> {
    let starts = [
        "x-risk",
        "x-forwarded",
        "http-",
        "activityid",
        "username",
        "proxy-client",
        "wl-proxy",
        "remote-",
        "x-real",
        "forwarded",
    ];
    let mut found: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase().replace('_', "-"), value.clone()))
        .filter(|(name, _)| starts.iter().any(|start| name.starts_with(start)))
        .collect();
    found.sort();
    found
}

async fn only_ours(world: &World, mark: Mark, address: &str, names: &[&str]) -> AuditEvent {
    let record = world.record_since(mark).await;
    let received = world.received_one_since(mark);
    let found = reserved(&received);
    assert_eq!(
        found
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        names,
        "{found:#?}"
    );
    let of = |wanted: &str| {
        found
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(
        (
            of("activityid"),
            of("x-forwarded-for"),
            of("x-forwarded-host")
        ),
        (
            Some(record.id.as_str()),
            Some(address),
            Some("login.example.com")
        )
    );
    assert_eq!(received.header_values("host"), ["login.example.com"]);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_untrusted_peer_nothing_is_believed() {
    let world = World::start(Options {
        mode: "enforce",
        is_peer_trusted: false,
        ..Options::default()
    })
    .await;
    let mut ours = OURS.to_vec();
    ours.extend(["x-risk-verdict"]);
    let body =
        "grant_type=client_credentials&client_id=demo-service&client_secret=demo-service-secret";
    let mark = world.mark().await;
    let answer = world.raw(&forged("POST /oauth2/token", body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut with_reasons = ours.clone();
    let record = world.last_record().await;
    if !record.reasons.is_empty() {
        with_reasons.push("x-risk-reasons");
    }
    with_reasons.sort_unstable();
    let record = only_ours(&world, mark, "127.0.0.1", &with_reasons).await;
    assert_eq!(record.prefix.as_deref(), Some("127.0.0.0/24"));
    let received = world.received_one_since(mark);
    assert_eq!(
        received.header_values("x-risk-score"),
        [record.score.expect("a score").to_string()]
    );
    assert_eq!(
        received.header_values("x-forwarded-proto"),
        ["http"],
        "the connection is not TLS, whatever the client says"
    );

    let mark = world.mark().await;
    world.raw(&forged("GET /oauth2/jwks", "")).await;
    only_ours(
        &world,
        mark,
        "127.0.0.1",
        &[
            "activityid",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-risk-status",
        ],
    )
    .await;
    assert_eq!(
        world
            .received_one_since(mark)
            .header_values("x-risk-status"),
        ["off"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_trusted_peer_the_address_that_it_appended_is_believed() {
    let world = World::start(Options::default()).await;
    let names = [
        "activityid",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-risk-status",
    ];
    let mark = world.mark().await;
    world
        .raw(&forged(
            "GET /oauth2/authorize?client_id=demo-web&response_type=code",
            "",
        ))
        .await;
    // The proxy appends on the right: what is further left came from the client.
    let record = only_ours(&world, mark, FAR, &names).await;
    assert_eq!(
        (record.prefix.as_deref(), record.country.as_deref()),
        (Some("198.51.100.0/24"), Some("LK"))
    );
    assert_eq!(
        world
            .received_one_since(mark)
            .header_values("x-forwarded-proto"),
        ["https"]
    );

    for (list, believed) in [
        (format!("10.0.0.1, {FAR}, {HOME}"), HOME),
        (format!("{HOME}, 127.0.0.1"), HOME),
        (format!("[2001:db8:1::1], {HOME}, nonsense"), "127.0.0.1"),
        ("2001:db8:1::1".to_owned(), "2001:db8:1::1"),
        (String::new(), "127.0.0.1"),
    ] {
        let mark = world.mark().await;
        let request = format!(
            "GET /oauth2/jwks HTTP/1.1\r\nHost: login.example.com\r\nX-Forwarded-For: {list}\r\nConnection: close\r\n\r\n"
        );
        world.raw(request.as_bytes()).await;
        let received = world.received_one_since(mark);
        assert_eq!(
            received.header_values("x-forwarded-for"),
            [believed],
            "{list}"
        );
        drop(world.record_since(mark).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_make_no_difference_to_the_score() {
    let world = World::start(Options {
        mode: "enforce",
        is_peer_trusted: false,
        ..Options::default()
    })
    .await;
    // A grant that this identity server has not: it neither fails nor succeeds, so that nothing is counted or learnt.
    let body = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&client_id=demo-service&client_secret=demo-service-secret";
    let plain = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: login.example.com\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    world.raw(plain.as_bytes()).await;
    let without = world.last_record().await;
    world.raw(&forged("POST /oauth2/token", body)).await;
    let with = world.last_record().await;
    assert_eq!(
        (without.address, without.http_fingerprint),
        (with.address, with.http_fingerprint)
    );
    assert_eq!(
        (without.score, without.features.len()),
        (with.score, with.features.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_may_say_arrives_as_it_was() {
    let world = World::start(Options {
        mode: "enforce",
        config: "[headers]\nreserved = [\"x-own-secret*\"]",
        ..Options::default()
    })
    .await;
    let mark = world.mark().await;
    let request = "GET /scim2/Me?x=%2b HTTP/1.1\r\nHost: login.example.com:8443\r\nX-Own: 1\r\nX-Own: 2\r\nX-Own-Secret-A: s\r\nX_Own_Secret: s\r\nCookie: a=1\r\nCookie: b=2\r\nAuthorization: Bearer t\r\nAccept-Encoding: gzip\r\nX-Riskier: 1\r\nTE: trailers\r\nConnection: close\r\n\r\n";
    world.raw(request.as_bytes()).await;
    let received = world.received_one_since(mark);
    assert_eq!(received.target, "/scim2/Me?x=%2b");
    assert_eq!(
        (
            received.header_values("x-own"),
            received.header_values("x-riskier")
        ),
        (vec!["1", "2"], vec!["1"])
    );
    assert_eq!(received.header_values("cookie"), ["a=1; b=2"]);
    assert_eq!(
        (
            received.header_values("authorization"),
            received.header_values("accept-encoding")
        ),
        (vec!["Bearer t"], vec!["gzip"])
    );
    assert_eq!(received.header_values("host"), ["login.example.com:8443"]);
    for name in ["x-own-secret-a", "x_own_secret", "te"] {
        assert!(received.header_values(name).is_empty(), "{name}");
    }
}
