//! riskgate as a step of the login: its page waits until the sign-in is approved on a known device, and the identity server's
//! authenticated call is the proof.

use crate::gateway::Answer;
use crate::gateway::FAR;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::listening_port;
use crate::gateway::stepped_up;
use tempfile::TempDir;
use wso2_sim::ActionAuth;
use wso2_sim::ActionSettings;
use wso2_sim::SimConfig;

const SECRET: &str = "a-secret-of-wso2-and-the-gateway-alone";
/// Whoever signs in as alice from far away owes a factor.
const FROM_FAR: &str =
    "request.door == \"login\" && user.name == \"alice\" && network.country == \"LK\"";

async fn world(proof: &str) -> (World, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let port = listening_port();
    let config = format!(
        "[actions]\nlisten = \"127.0.0.1:{port}\"\nsecret_file = '{}'\n\
         [[step_up.applications]]\nclient_id = \"demo-web\"\nstyle = \"action\"\nproof = \"{proof}\"\n",
        secret.display()
    );
    let mut sim = SimConfig::default();
    let mut settings = ActionSettings::new(format!("http://127.0.0.1:{port}/actions/authenticate"));
    settings.auth = ActionAuth::Bearer(SECRET.to_owned());
    sim.authenticator = Some(settings);
    for client in &mut sim.clients {
        client.has_script = false;
        client.has_authenticator = client.client_id == "demo-web";
    }
    let world = stepped_up(FROM_FAR, sim, Box::leak(config.into_boxed_str())).await;
    (world, folder)
}

/// The number on a page.
fn number(page: &Answer) -> String {
    let (_, rest) = page
        .body
        .split_once("<strong>")
        .unwrap_or_else(|| panic!("no number: {page:?}"));
    rest.split_once("</strong>").unwrap().0.to_owned()
}

async fn approve(person: &mut Person<'_>, number: &str) -> Answer {
    let page = person.get("/riskgate/approve").await;
    assert_eq!(page.status, 200, "{page:?}");
    let Some((_, rest)) = page.body.split_once("name=\"form\" value=\"") else {
        return page;
    };
    let form = rest.split_once('"').unwrap().0.to_owned();
    person
        .post("/riskgate/approve", &[("form", &form), ("number", number)])
        .await
}

/// Signs in from far away as far as the page of the gateway: the page.
async fn to_step(person: &mut Person<'_>) -> Answer {
    let answer = person.log_in().await;
    assert!(
        answer.url.path().starts_with("/riskgate/step/"),
        "{answer:?}"
    );
    assert_eq!(answer.status, 200);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_approved_on_a_known_device() {
    let (world, _folder) = world("action").await;
    // At home nothing is owed, and the step is passed unseen.
    let mut home = world.person("alice");
    let code = home.sign_in().await;
    assert_eq!(home.redeem(&code).await.status, 200);
    world.settle().await;

    let mut away = world.person("alice").from(FAR);
    let page = to_step(&mut away).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && !page.body.contains("<script"),
        "{page:?}"
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let refresh = page.header("refresh").unwrap().to_owned();
    let (_, next) = refresh.split_once("url=").unwrap();
    let waiting = away.get(next).await;
    assert_eq!(number(&waiting), number(&page));

    // A number of nobody, and the same browser, approve nothing.
    assert_eq!(approve(&mut home, "000000").await.status, 303);
    approve(&mut away, &number(&page)).await;
    assert_eq!(away.get(next).await.status, 200);

    assert_eq!(approve(&mut home, &number(&page)).await.status, 303);
    let back = away.get(next).await;
    assert_eq!(back.status, 303, "{back:?}");
    assert!(
        back.header("location")
            .unwrap()
            .starts_with("/commonauth?flowId=")
    );
    let answer = away.follow(back).await;
    let code = answer
        .code()
        .unwrap_or_else(|| panic!("no code: {answer:?}"));
    let mark = world.mark().await;
    assert_eq!(away.redeem(&code).await.status, 200);
    let record = world.record_since(mark).await;
    assert_eq!(record.outcome, "tokens_issued", "{record:#?}");
    let actions: Vec<_> = world
        .records()
        .await
        .into_iter()
        .map(|record| record.action)
        .collect();
    for action in ["approved_elsewhere", "approved"] {
        assert!(actions.iter().any(|done| done == action), "{actions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_in_an_organization_approves_alone() {
    let (world, _folder) = world("action").await;
    let mut owner = world.person("alice");
    let mut home = world.person("alice").of_organization();
    for person in [&mut owner, &mut home] {
        let code = person.sign_in().await;
        assert_eq!(person.redeem(&code).await.status, 200);
    }
    world.settle().await;

    let mut away = world.person("alice").of_organization().from(FAR);
    let page = to_step(&mut away).await;
    let refresh = page.header("refresh").unwrap().to_owned();
    let (_, next) = refresh.split_once("url=").unwrap();
    approve(&mut owner, &number(&page)).await;
    assert_eq!(away.get(next).await.status, 200, "approved by the tenant's");
    approve(&mut home, &number(&page)).await;
    let back = away.get(next).await;
    assert_eq!(back.status, 303, "{back:?}");
    // It leads back to where the login is.
    let begins = format!("/o/{}/commonauth?flowId=", wso2_sim::seed::ACME_ORG_ID);
    let location = back.header("location").unwrap();
    assert!(location.starts_with(&begins), "{location}");
    let code = away.follow(back).await.code().expect("a code");
    assert_eq!(away.redeem(&code).await.status, 200);
    let record = world.last_record_of("token").await;
    assert_eq!(record.outcome, "tokens_issued", "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_approval_nobody_gets_on() {
    let (world, _folder) = world("action").await;
    let mut home = world.person("alice");
    home.sign_in().await;
    world.settle().await;
    let mut away = world.person("alice").from(FAR);
    let page = to_step(&mut away).await;
    let address = page.url.as_str().to_owned();
    // Back without an approval: asked again, and sent to the page again.
    let login = world
        .received()
        .into_iter()
        .rev()
        .find(|seen| seen.path() == "/commonauth");
    let body = login.expect("a login").body_text();
    let key = form_urlencoded::parse(body.as_bytes())
        .find(|(name, _)| name == "sessionDataKey")
        .expect("a key")
        .1
        .into_owned();
    let back = away.get(&format!("/commonauth?flowId={key}")).await;
    let again = back.location().expect("a redirect");
    assert!(again.path().starts_with("/riskgate/step/"), "{back:?}");
    // Somebody else's known device cannot approve it, nor one without a session.
    let mut bob = world.person("bob");
    bob.sign_in().await;
    world.settle().await;
    approve(&mut bob, &number(&page)).await;
    let mut stranger = world.person("alice");
    let shown = approve(&mut stranger, &number(&page)).await;
    assert!(shown.body.contains("Sign in first"), "{shown:?}");
    assert_eq!(away.get(&address).await.status, 200);
    // A form of another page, or of none.
    let answer = home
        .post(
            "/riskgate/approve",
            &[("form", "AAAA"), ("number", &number(&page))],
        )
        .await;
    assert_eq!(answer.status, 403);
    assert_eq!(away.get(&address).await.status, 200);
    // An address that the gateway has not made.
    for address in [
        "/riskgate/step/AAAA?tenant=carbon.super".to_owned(),
        address.replace("carbon.super", "example.com"),
        address.replace("tenant=", "t="),
    ] {
        let answer = away.get(&address).await;
        assert!(matches!(answer.status, 404 | 410), "{answer:?}");
    }
    // Given up: the login fails, also with an approval that comes too late.
    let back = away.get(&format!("{address}&give_up=1")).await;
    assert_eq!(back.status, 303, "{back:?}");
    let answer = away.follow(back).await;
    assert!(answer.code().is_none(), "{answer:?}");
    let error = answer
        .location()
        .and_then(|to| crate::gateway::param(&to, "error"));
    assert_eq!(error.as_deref(), Some("access_denied"));
    approve(&mut home, &number(&page)).await;
    assert_eq!(away.get(&address).await.status, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_proves_otherwise_is_not_sent_to_the_page() {
    let (world, _folder) = world("id_token").await;
    world.person("alice").sign_in().await;
    let mut away = world.person("alice").from(FAR);
    let answer = away.log_in().await;
    let error = answer
        .location()
        .and_then(|to| crate::gateway::param(&to, "error"));
    assert_eq!(error.as_deref(), Some("access_denied"), "{answer:?}");
}
