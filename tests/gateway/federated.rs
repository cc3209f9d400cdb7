//! Logins by way of another identity provider: what comes back from there is a step of the login that it names, proves
//! nobody's password, and is nobody's wrong password when it says no.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::HOME;
use crate::gateway::MFA;
use crate::gateway::NEW_YORK;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::enforcing_before;
use crate::gateway::feature;
use crate::gateway::param;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::features::Feature;
use wso2_sim::AfterIdentifier;
use wso2_sim::ProviderProtocol;
use wso2_sim::ProviderSettings;
use wso2_sim::SimConfig;

/// An application of which a factor is asked at the login page.
const OF_APP: &str = "request.door == \"login\" && client.id == \"demo-web\"";
/// The user of the provider who has alice's account here.
const LINKED: &str = "alice@partner.example.net";
/// Somebody whom only the provider knows.
const STRANGER: &str = "zoe@partner.example.net";

fn beside_password() -> SimConfig {
    sim(|_| {})
}

fn only_way() -> SimConfig {
    sim(|provider| provider.is_only = true)
}

fn sim(change: impl FnOnce(&mut ProviderSettings)) -> SimConfig {
    let mut provider = ProviderSettings::new(ProviderProtocol::Oidc);
    provider.linked = vec![(LINKED.to_owned(), "alice".to_owned())];
    change(&mut provider);
    SimConfig {
        provider: Some(provider),
        ..SimConfig::default()
    }
}

/// Opens the application and leaves for the provider; the `state` that goes along.
async fn leave(world: &World, person: &mut Person<'_>) -> String {
    let path = person.authorize_path(&[]);
    let mut answer = person.get(&path).await;
    // A demand comes back to the authorize endpoint once.
    while answer
        .location()
        .is_some_and(|to| to.as_str().starts_with(&world.url) && to.path().ends_with("/authorize"))
    {
        answer = person.get(answer.location().unwrap().as_str()).await;
    }
    if let Some(page) = answer
        .location()
        .filter(|to| to.path().ends_with("/login.do"))
    {
        let key = param(&page, "sessionDataKey").unwrap();
        answer = person.get(&link(&key)).await;
    }
    at_provider(&answer)
}

/// The link of the provider on the login page.
fn link(key: &str) -> String {
    format!("/commonauth?idp=Partner&authenticator=OpenIDConnectAuthenticator&sessionDataKey={key}")
}

fn at_provider(answer: &Answer) -> String {
    let location = answer.location().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(
        location.host_str(),
        Some("partner.example.net"),
        "{answer:?}"
    );
    param(&location, "state")
        .or_else(|| param(&location, "RelayState"))
        .unwrap()
}

/// The way back, for whoever has logged in there.
async fn back(world: &World, person: &mut Person<'_>, state: &str, subject: &str) -> Answer {
    let code = world.sim.logged_in_elsewhere(subject);
    let query = crate::gateway::form(&[("code", &code), ("state", state)]);
    person.get(&format!("/commonauth?{query}")).await
}

fn ended(record: &AuditEvent) -> (&str, &str, Option<&str>) {
    (&record.action, &record.outcome, record.client_id.as_deref())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_a_step_of_the_login_that_it_names() {
    for sim in [beside_password(), only_way()] {
        let world = enforcing_before(sim, rules(&[("true", "allow")])).await;
        let mut zoe = world.person(STRANGER);
        let state = leave(&world, &mut zoe).await;
        let mark = world.mark().await;
        let answer = back(&world, &mut zoe, &state, STRANGER).await;
        let record = world.record_since(mark).await;
        assert_eq!(record.door.as_deref(), Some("login"), "{record:#?}");
        assert_eq!(
            ended(&record),
            ("forwarded", "succeeded", Some("demo-web")),
            "{record:#?}"
        );
        // Nobody was named, and no password or factor of anybody here was given.
        assert_eq!(record.subject, None, "{record:#?}");
        assert!(!record.learnt && !record.known, "{record:#?}");
        let answer = zoe.follow(answer).await;
        let tokens = zoe.redeem(&answer.code().expect("a code")).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        let record = world.last_record().await;
        assert_eq!(record.subject, None, "{record:#?}");
        assert_eq!(record.client_id.as_deref(), Some("demo-web"));
        assert_eq!(record.error, None, "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_sends_is_in_no_record_and_no_log() {
    let world = enforcing_before(beside_password(), rules(&[("true", "allow")])).await;
    let mut zoe = world.person(STRANGER);
    let state = leave(&world, &mut zoe).await;
    let code = world.sim.logged_in_elsewhere(STRANGER);
    for fields in [
        vec![("code", code.as_str()), ("state", &state)],
        vec![
            ("error", "canary-e"),
            ("error_description", "canary-d"),
            ("state", &state),
        ],
        vec![("SAMLResponse", "Y2FuYXJ5"), ("RelayState", "canary-r")],
    ] {
        zoe.post("/commonauth", &fields).await;
        zoe.get(&format!("/commonauth?{}", crate::gateway::form(&fields)))
            .await;
    }
    world.settle().await;
    let records = std::fs::read_to_string(world.data_dir().join("audit.jsonl")).unwrap();
    let key = state.split(',').next().unwrap();
    for text in [records, world.log()] {
        for secret in [code.as_str(), key, "canary-", "Y2FuYXJ5", STRANGER] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_of_the_provider_is_nobodys_wrong_password() {
    let world = enforcing_before(beside_password(), rules(&[("true", "allow")])).await;
    let mut zoe = world.person(STRANGER).from(HOME);
    for _ in 0..12 {
        let state = leave(&world, &mut zoe).await;
        let mark = world.mark().await;
        let denied = crate::gateway::form(&[("error", "access_denied"), ("state", &state)]);
        let page = zoe.get(&format!("/commonauth?{denied}")).await;
        assert!(
            page.location().unwrap().path().ends_with("/login.do"),
            "{page:?}"
        );
        let record = world.record_since(mark).await;
        assert_eq!(
            ended(&record),
            ("forwarded", "returned", Some("demo-web")),
            "{record:#?}"
        );
    }
    let mut alice = world.person("alice").from(HOME);
    alice.try_password().await;
    let record = world.last_record_of("login").await;
    assert_eq!(
        feature(&record, Feature::AddressFailures10m),
        Some(0.0),
        "{record:#?}"
    );
    // What is typed at the page beside it counts as ever.
    let mut guess = world.person("alice").from(HOME).guessing("wrong");
    guess.try_password().await;
    alice.forget_everything();
    alice.try_password().await;
    let record = world.last_record_of("login").await;
    assert_ne!(
        feature(&record, Feature::AddressFailures10m),
        Some(0.0),
        "{record:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_goes_to_the_application_where_there_is_no_other_way() {
    let world = enforcing_before(only_way(), rules(&[("true", "allow")])).await;
    let mut zoe = world.person(STRANGER);
    let state = leave(&world, &mut zoe).await;
    let denied = crate::gateway::form(&[("error", "access_denied"), ("state", &state)]);
    let answer = zoe.get(&format!("/commonauth?{denied}")).await;
    let record = world.last_record().await;
    assert_eq!(
        ended(&record),
        ("forwarded", "returned", Some("demo-web")),
        "{record:#?}"
    );
    let answer = zoe.follow(answer).await;
    let location = answer.location().unwrap();
    assert_eq!(param(&location, "error").as_deref(), Some("access_denied"));
    let record = world.last_record().await;
    assert_eq!(record.outcome, "request_refused", "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_that_is_asked_for_on_the_way_back_is_proved_by_the_token() {
    for sim in [beside_password(), only_way()] {
        let world = stepped_up(OF_APP, sim, "").await;
        let mut alice = world.person("alice");
        let state = leave(&world, &mut alice).await;
        let answer = back(&world, &mut alice, &state, LINKED).await;
        let record = world.last_record().await;
        assert_eq!(record.verdict.as_deref(), Some("step_up"), "{record:#?}");
        assert_eq!(record.outcome, "next_factor", "{record:#?}");
        let page = alice.follow(answer).await;
        assert!(page.is_page("totp.do"), "{page:?}");
        let answer = alice.submit_code(&page).await;
        let answer = alice.follow(answer).await;
        let tokens = alice.redeem(&answer.code().expect("a code")).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        assert_eq!(claims(&tokens.member("id_token"))["acr"], MFA);
        let record = world.last_record().await;
        assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
        assert_eq!(record.subject, None, "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_that_is_asked_for_before_the_login_outlives_the_provider() {
    let policy = "request.door == \"authorize\"";
    for sim in [beside_password(), only_way()] {
        let world = stepped_up(policy, sim, "").await;
        let mut alice = world.person("alice");
        let state = leave(&world, &mut alice).await;
        let answer = back(&world, &mut alice, &state, LINKED).await;
        let page = alice.follow(answer).await;
        assert!(page.is_page("totp.do"), "{page:?}");
        let answer = alice.submit_code(&page).await;
        let answer = alice.follow(answer).await;
        let tokens = alice.redeem(&answer.code().expect("a code")).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        // Who has no factor here comes to the page that says so, and gets nothing.
        let mut zoe = world
            .person(STRANGER)
            .with(CHROME_ON_WINDOWS)
            .from(NEW_YORK);
        let state = leave(&world, &mut zoe).await;
        let answer = back(&world, &mut zoe, &state, STRANGER).await;
        let page = zoe.follow(answer).await;
        assert!(page.is_page("totp_error.do"), "{page:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_foreign_state_goes_on_with_nothing() {
    let world = enforcing_before(only_way(), rules(&[("true", "allow")])).await;
    let mut zoe = world.person(STRANGER);
    let state = leave(&world, &mut zoe).await;
    let mut victim = world.person("alice").from(NEW_YORK).with(CHROME_ON_WINDOWS);
    for state in [state.as_str(), "no-such-login,OIDC", "no-such-login", ","] {
        let mark = world.mark().await;
        let answer = back(&world, &mut victim, state, STRANGER).await;
        let to = answer.location();
        assert!(
            to.is_some_and(|to| to.path().ends_with("/retry.do")),
            "{answer:?}"
        );
        let record = world.record_since(mark).await;
        assert_eq!(record.outcome, "returned", "{record:#?}");
        assert_eq!(record.subject, None, "{record:#?}");
    }
    assert!(victim.cookie("commonAuthId").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_from_the_provider_is_as_good_as_a_redirect() {
    let oidc = only_way();
    let saml = sim(|provider| {
        provider.is_only = true;
        provider.protocol = ProviderProtocol::Saml;
    });
    for sim in [oidc, saml] {
        let is_saml = sim.provider.as_ref().unwrap().protocol == ProviderProtocol::Saml;
        let world = enforcing_before(sim, rules(&[("true", "allow")])).await;
        let mut zoe = world.person(STRANGER);
        let state = leave(&world, &mut zoe).await;
        let code = world.sim.logged_in_elsewhere(STRANGER);
        let message = STANDARD.encode(format!("<samlp:Response ID=\"{code}\"/>"));
        let large = "A".repeat(70_000);
        let twice: &[(&str, &str)] = match is_saml {
            true => &[("RelayState", &state), ("RelayState", &state)],
            false => &[("state", &state), ("state", &state)],
        };
        let answer = zoe.post("/commonauth", twice).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let answer = zoe
            .post(
                "/commonauth",
                &[("SAMLResponse", &large), ("RelayState", &state)],
            )
            .await;
        assert_eq!(answer.status, 413, "{answer:?}");
        let fields: &[(&str, &str)] = match is_saml {
            true => &[("SAMLResponse", &message), ("RelayState", &state)],
            false => &[("code", &code), ("state", &state), ("session_state", "s")],
        };
        let answer = zoe.post("/commonauth", fields).await;
        let record = world.last_record().await;
        assert_eq!(
            ended(&record),
            ("forwarded", "succeeded", Some("demo-web")),
            "{record:#?}"
        );
        assert!(zoe.follow(answer).await.code().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_by_whatever_names_its_login() {
    let world = stepped_up(OF_APP, beside_password(), "").await;
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let state = format!("{key},OIDC");
    // WSO2 takes the login of `state` and lets the option read it that can.
    let fields = [
        ("username", "alice"),
        ("password", "wonderland"),
        ("state", state.as_str()),
    ];
    let answer = alice.post("/commonauth", &fields).await;
    let record = world.last_record().await;
    assert_eq!(record.client_id.as_deref(), Some("demo-web"), "{record:#?}");
    assert_eq!(record.outcome, "next_factor", "{record:#?}");
    let page = alice.follow(answer).await;
    assert!(page.is_page("totp.do"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_names_two_logins_is_refused() {
    let world = enforcing_before(beside_password(), rules(&[("true", "allow")])).await;
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    for (other, value) in [
        ("state", "other,OIDC"),
        ("RelayState", "other"),
        ("promptId", "other"),
        ("flowId", "other"),
    ] {
        let mut fields = vec![
            ("username", "alice"),
            ("password", "wonderland"),
            ("sessionDataKey", key.as_str()),
            (other, value),
        ];
        match other {
            "RelayState" => fields.push(("SAMLResponse", "QQ==")),
            "promptId" => fields.push(("promptResp", "true")),
            _ => {}
        }
        let answer = alice.post("/commonauth", &fields).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let record = world.last_record().await;
        assert_eq!(
            record.error.as_deref(),
            Some("framework_parameter"),
            "{record:#?}"
        );
    }
    // Its own name twice is one name.
    let state = format!("{key},OIDC");
    let fields = [("sessionDataKey", key.as_str()), ("state", state.as_str())];
    let answer = alice.post("/commonauth", &fields).await;
    assert_eq!(answer.status, 302, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_link_names_is_not_who_comes_back() {
    let world = enforcing_before(only_way(), rules(&[("true", "allow")])).await;
    let mut zoe = world.person(STRANGER);
    let path = zoe.authorize_path(&[("login_hint", "alice")]);
    let answer = zoe.get(&path).await;
    let state = at_provider(&answer);
    let answer = back(&world, &mut zoe, &state, STRANGER).await;
    let record = world.last_record().await;
    assert_eq!(record.subject, None, "{record:#?}");
    assert!(!record.learnt, "{record:#?}");
    let answer = zoe.follow(answer).await;
    zoe.redeem(&answer.code().expect("a code")).await;
    let record = world.last_record().await;
    assert_eq!(record.subject, None, "{record:#?}");
    assert_eq!(world.history_of("alice").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_name_was_typed_before_is_not_who_comes_back() {
    let sim = SimConfig {
        identifier_first: Some(AfterIdentifier::Password),
        ..beside_password()
    };
    let world = enforcing_before(sim, rules(&[("true", "allow")])).await;
    let mut zoe = world.person(STRANGER);
    let page = zoe.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let fields = [("username", "alice"), ("sessionDataKey", key.as_str())];
    let answer = zoe.post("/commonauth", &fields).await;
    let page = answer.location().unwrap();
    let answer = zoe
        .get(&link(&param(&page, "sessionDataKey").unwrap()))
        .await;
    let state = at_provider(&answer);
    let answer = back(&world, &mut zoe, &state, STRANGER).await;
    let record = world.last_record().await;
    assert_eq!(ended(&record), ("forwarded", "succeeded", Some("demo-web")));
    assert_eq!(record.subject, None, "{record:#?}");
    let answer = zoe.follow(answer).await;
    zoe.redeem(&answer.code().expect("a code")).await;
    let record = world.last_record().await;
    assert_eq!(record.subject, None, "{record:#?}");
    assert_eq!(world.history_of("alice").await, 0);
}
