//! The redirect that adds the demand for a stronger factor to an authorize request, and the requests that get none.

use crate::gateway::CALLBACK;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::enforcing;
use crate::gateway::form;
use crate::gateway::stepped_up;
use wso2_sim::SimConfig;

/// Sends the target as it is; the Location of the answer.
async fn redirected(world: &World, target: &str) -> Option<String> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = world.raw(request.as_bytes()).await;
    assert_eq!(answer.status, 302, "{answer:?}");
    answer.header("location").map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redirect_adds_the_demand_and_keeps_every_other_byte() {
    let world = enforcing(always("step_up")).await;
    const OURS: &str = "acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=300";
    let odd = "/oauth2/authorize?client_id=demo-web&x-odd=%7Ba%2bB%7d+~&redirect_uri=https%3A%2F%2Fapp.example.com%2fcb&empty=&scope=openid+profile%20email&state=a%2525b&response_type=code&flag";
    let mark = world.mark().await;
    assert_eq!(redirected(&world, odd).await, Some(format!("{odd}&{OURS}")));
    // The tenant's path stays, too.
    let tenanted = odd.replacen("/oauth2", "/t/example.com/oauth2", 1);
    assert_eq!(
        redirected(&world, &tenanted).await,
        Some(format!("{tenanted}&{OURS}"))
    );
    let base = "/oauth2/authorize?client_id=demo-web&response_type=code&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb";
    for (asked, added) in [
        (
            "acr_values=urn%3Aown&max_age=60",
            "acr_values=urn%3Ariskgate%3Aacr%3Amfa+urn%3Aown&max_age=60",
        ),
        ("max_age=900", OURS),
        (
            "acr_values=urn%3Ariskgate%3Aacr%3Amfa+x",
            "acr_values=urn%3Ariskgate%3Aacr%3Amfa+x&max_age=300",
        ),
        ("acr_values=", OURS),
        ("max_age=many", OURS),
    ] {
        // Wherever the client had its own, the demand comes last.
        for target in [
            format!("{base}&{asked}"),
            format!(
                "/oauth2/authorize?{asked}&{}",
                base.split_once('?').unwrap().1
            ),
        ] {
            assert_eq!(
                redirected(&world, &target).await,
                Some(format!("{base}&{added}")),
                "{asked}"
            );
        }
    }
    assert!(world.received_since(mark).is_empty());
    assert!(
        world
            .records_since(mark)
            .await
            .iter()
            .all(|record| record.action == "redirected" && record.response_status == 302)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_asks_for_enough_or_cannot_be_changed_is_not_redirected() {
    let world = stepped_up("request.door != \"par\"", SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let pushed = world
        .post(
            "/oauth2/par",
            Some("demo-web"),
            &[
                ("response_type", "code"),
                ("redirect_uri", CALLBACK),
                ("scope", "openid"),
            ],
        )
        .await;
    let request_uri = pushed.member("request_uri");

    // Following the redirect comes to the identity server with the demand: no loop.
    let path = alice.authorize_path(&[]);
    let first = alice.get(&path).await;
    let mark = world.mark().await;
    let second = alice
        .get(first.header("location").expect("a redirect"))
        .await;
    assert_eq!(
        second.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );
    let received = world.received_one_since(mark);
    assert!(
        received
            .target
            .ends_with("&acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=300"),
        "{}",
        received.target
    );
    assert_eq!(received.header_values("x-risk-verdict"), ["step_up"]);

    let pushed = format!(
        "/oauth2/authorize?{}",
        form(&[("client_id", "demo-web"), ("request_uri", &request_uri)])
    );
    let silent = alice.authorize_path(&[("prompt", "none")]);
    let native = alice.authorize_path(&[("response_mode", "direct")]);
    // What is pushed cannot be changed. A silent request must not be answered by an old session, and a client that wants
    // JSON cannot be sent anywhere: there the demand is added on the way.
    let added = "&acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=";
    for (path, action, added) in [
        (pushed, "forwarded", String::new()),
        (silent, "rewritten", format!("{added}0")),
        (native, "rewritten", format!("{added}300")),
    ] {
        let mark = world.mark().await;
        alice.get(&path).await;
        let record = world.record_since(mark).await;
        assert_eq!(
            (record.verdict.as_deref(), &*record.action),
            (Some("step_up"), action),
            "{path}"
        );
        let received = world.received_one_since(mark);
        assert_eq!(
            (
                received.target.as_str(),
                received.header_values("x-risk-verdict")
            ),
            (format!("{path}{added}").as_str(), vec!["step_up"])
        );
    }
    let mark = world.mark().await;
    let body = path.split_once('?').unwrap().1.to_owned();
    let request = alice
        .request(reqwest::Method::POST, "/oauth2/authorize")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.clone());
    alice.send(request).await;
    let received = world.received_one_since(mark);
    assert_eq!(
        (
            received.body_text(),
            received.header_values("x-risk-verdict")
        ),
        (
            format!("{body}&acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=300"),
            vec!["step_up"]
        )
    );
}
