//! TLS on both sides of the gateway.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::claims;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_over_tls_on_both_sides() {
    let world = World::start(Options {
        mode: "enforce",
        tls: true,
        is_peer_trusted: false,
        ..Options::default()
    })
    .await;
    assert!(world.url.starts_with("https://") && world.sim.url.starts_with("https://"));
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert_eq!(claims(&tokens.member("id_token"))["aud"], "demo-web");
    // The connection itself is secure: no proxy has to say so.
    assert!(alice.cookie("__Host-rg_device").is_some());
    let record = world.last_record_of("login").await;
    let ja4 = record.ja4.expect("the handshake was seen");
    assert!(ja4.starts_with('t') && ja4.len() == 36, "{ja4}");
    let received = world.received();
    assert!(
        received
            .iter()
            .all(|request| request.header_values("x-forwarded-proto") == ["https"])
    );
    assert!(
        received
            .iter()
            .all(|request| request.header_values("host") == [format!("localhost:{}", world.port)])
    );
}
