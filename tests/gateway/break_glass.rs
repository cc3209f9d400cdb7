//! Break-glass accounts are never blocked or held, through every request of a login: also by those that do not name them. A
//! name in a link, or beside the factor of somebody else, makes nobody one.

use crate::gateway::NEW_YORK;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::enforcing_before;
use crate::gateway::param;
use crate::gateway::rules;
use wso2_sim::AfterIdentifier;
use wso2_sim::SimConfig;

/// What is `when` is `verdict`, and alice is the break-glass account.
async fn world_of(when: &str, verdict: &str, sim: SimConfig) -> World {
    let rules = rules(&[(when, verdict), ("true", "allow")]);
    let policy = rules.replacen(
        "version = 1\n",
        "version = 1\nbreak_glass = [\"alice\"]\n",
        1,
    );
    enforcing_before(sim, policy).await
}

/// Everything that anybody does who has said who it is.
const AFTERWARDS: &str =
    "(request.door in [\"login\", \"token\"] || session.present) && !user.break_glass";

async fn gets_everywhere(alice: &mut Person<'_>) {
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let token = tokens.member("refresh_token");
    let fields = [("grant_type", "refresh_token"), ("refresh_token", &token)];
    let refreshed = alice.token(&fields).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    // With the session that the browser has now.
    let answer = alice.open().await;
    assert!(answer.code().is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_in_by_requests_that_do_not_name_it() {
    for verdict in ["block", "review"] {
        let world = world_of(AFTERWARDS, verdict, SimConfig::default()).await;
        gets_everywhere(&mut world.person("alice")).await;
        for record in world.records().await {
            let is_known = record.subject.is_some();
            assert_eq!(record.break_glass, is_known, "{record:#?}");
        }
        let mut bob = world.person("bob");
        let answer = bob.log_in().await;
        assert!(answer.code().is_none(), "{verdict}: {answer:?}");
        assert!(!world.last_record().await.break_glass);
    }
}

/// It is sent for a factor, and gives it.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_blocked_is_asked_for_a_factor() {
    let when = "request.door in [\"login\", \"token\"] && !user.break_glass";
    let world = world_of(when, "block", SimConfig::default()).await;
    let mut alice = world.person("alice").in_app("demo-mfa");
    gets_everywhere(&mut alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_in_by_a_login_that_begins_with_the_name() {
    let sim = SimConfig {
        identifier_first: Some(AfterIdentifier::Code),
        ..SimConfig::default()
    };
    let world = world_of(AFTERWARDS, "block", sim).await;
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let fields = [("username", "alice"), ("sessionDataKey", key.as_str())];
    let answer = alice.post("/commonauth", &fields).await;
    let page = alice.follow(answer).await;
    let answer = alice.submit_code(&page).await;
    let code = alice.follow(answer).await.code().expect("a code");
    assert_eq!(alice.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_link_makes_nobody_one() {
    let when = "session.present && !user.break_glass";
    let world = world_of(when, "block", SimConfig::default()).await;
    let mut bob = world.person("bob");
    assert!(bob.log_in().await.code().is_some());
    let mut thief = bob.clone().from(NEW_YORK);
    for hint in ["alice", "alice@carbon.super", "bob", ""] {
        let path = thief.authorize_path(&[("login_hint", hint)]);
        let answer = thief.get(&path).await;
        assert_eq!(answer.status, 403, "{hint}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_a_name_beside_the_factor_of_somebody_else() {
    let when = "request.door == \"login\" && user.name != \"erin\" && !user.break_glass";
    let world = world_of(when, "block", SimConfig::default()).await;
    for name in ["alice", "carol"] {
        let mut erin = world.person("erin").in_app("demo-mfa");
        let page = erin.open().await;
        let answer = erin.submit_password(&page).await;
        let page = erin.follow(answer).await;
        assert!(page.is_page("totp.do"), "{page:?}");
        let answer = erin.submit_code_with(&page, &[("username", name)]).await;
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
    }
}
