//! Sessions of the console: each sign-in has a value of its own, and behind TLS a cookie that no other host can set.

use crate::gateway::Options;
use crate::operators::Browser;
use crate::operators::PASSWORD;
use crate::operators::with_operators;
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_value_of_its_own_and_behind_tls_a_cookie_of_this_host_alone() {
    const HOST: &str = "risk.example";
    const COOKIE: &str = "__Host-rg_console";
    let world = with_operators(Options {
        config: "[admin]\norigin = 'https://risk.example'",
        ..Options::default()
    })
    .await;
    let mut browser = Browser::new(&world);
    let planted = "f".repeat(64);
    browser.cookies = vec![(COOKIE.to_owned(), planted.clone())];
    let mut values = vec![planted];
    {
        let admitted = browser.sign_in("ann", PASSWORD).await;
        assert_eq!(admitted.status, 303, "{admitted:?}");
        let cookie = admitted
            .headers
            .iter()
            .find(|(_, value)| value.starts_with(COOKIE));
        let (_, cookie) = cookie.unwrap();
        assert!(
            cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"),
            "{cookie}"
        );
        let session = browser.cookies.iter().find(|(name, _)| name == COOKIE);
        values.push(session.unwrap().1.clone());
    }
    // Whoever has planted a value before holds nothing.
    let status = async |name: &str, value: &str, host: &str| {
        let mut other = Browser::new(&world);
        other.cookies = vec![(name.to_owned(), value.to_owned())];
        let request = other.request(Method::GET, "/console/policy");
        other.send(request.header("host", host)).await.status
    };
    let [planted, own] = values.as_slice() else {
        panic!("{values:?}");
    };
    assert_ne!(planted, own);
    assert_eq!(status(COOKIE, planted, HOST).await, 303);
    assert_eq!(status(COOKIE, own, HOST).await, 200);
    // The name that other hosts and plain HTTP can set is none here.
    assert_eq!(status("rg_console", own, HOST).await, 303);
    assert_eq!(status(COOKIE, own, "evil.example").await, 421);
    world.records().await;
}
