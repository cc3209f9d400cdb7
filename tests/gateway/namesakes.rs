//! A user of an organization beside the tenant's user of the same name, in what WSO2 asks and tells. Contracts differ in what
//! they say of an organization: who is not told apart by them is taken for nobody.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::TOR;
use crate::gateway::World;
use crate::gateway::param;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use crate::issuing::ACCESS;
use crate::issuing::Issuing;
use crate::issuing::PASSWORD;
use crate::issuing::SECRET;
use crate::issuing::call;
use crate::issuing::risk;
use crate::review;
use crate::saml;
use crate::saml::in_query;
use crate::saml::reached;
use crate::saml::request;
use crate::saml::through_login;
use hmac::Hmac;
use hmac::Mac;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;
use wso2_sim::SimConfig;
use wso2_sim::seed::ACME_ORG_ID;

/// The super tenant as an organization.
const SUPER_ID: &str = "10084a8d-113f-4211-a0d5-efe36b082211";
const CHANGED: &str =
    "https://schemas.identity.wso2.org/events/credential/event-type/credentialUpdated";

/// What an event says of the organization, and whose user it speaks of.
fn told() -> Vec<(Value, Whose)> {
    vec![
        (
            json!({ "id": ACME_ORG_ID, "name": "Acme", "depth": 1 }),
            Whose::Organization,
        ),
        (
            json!({ "id": ACME_ORG_ID, "name": "Acme" }),
            Whose::Organization,
        ),
        (
            json!({ "id": ACME_ORG_ID, "name": "Acme", "depth": -1 }),
            Whose::Organization,
        ),
        (Value::Null, Whose::Tenant),
        (
            json!({ "id": SUPER_ID, "name": "Super", "depth": 0 }),
            Whose::Tenant,
        ),
        (json!({ "id": SUPER_ID, "name": "Super" }), Whose::Tenant),
        (
            json!({ "id": "ad", "name": "Super", "orgHandle": "carbon.super" }),
            Whose::Tenant,
        ),
        (json!({ "id": "ad", "name": "Super" }), Whose::Nobody),
        (json!({ "name": "Super", "depth": 1 }), Whose::Nobody),
    ]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose {
    Tenant,
    Organization,
    Nobody,
}

/// Alice of the tenant, or of the organization.
fn alice(world: &World, whose: Whose) -> Person<'_> {
    let alice = world.person("alice");
    match whose {
        Whose::Tenant => alice,
        Whose::Organization => alice.of_organization(),
        Whose::Nobody => panic!("nobody signs in"),
    }
}

/// The body of a call with this organization, of the event and of its user.
fn with(organization: &Value, mut call: Value) -> Value {
    call["event"]["organization"] = organization.clone();
    call["event"]["user"]["organization"] = organization.clone();
    call
}

/// Tells by a webhook that alice has changed her password: whose record that makes.
async fn changed(issuing: &Issuing, organization: &Value) -> Option<String> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let body = json!({
        "iss": "https://localhost:9443/t/carbon.super",
        "jti": "b7a1",
        "iat": u64::try_from(now.as_millis()).unwrap(),
        "events": { CHANGED: {
            "initiatorType": "USER",
            "user": {
                "claims": [{ "uri": "http://wso2.org/claims/username", "value": "alice" }],
                "organization": organization,
            },
            "tenant": { "id": "-1234", "name": "carbon.super" },
            "organization": organization,
        }},
    });
    let body = serde_json::to_vec(&body).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let tag = mac.chain_update(&body).finalize().into_bytes();
    let tag: Vec<String> = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = issuing
        .world
        .http()
        .post(format!("{}/actions/webhook", issuing.url));
    let request = request.header("x-hub-signature", format!("sha256={}", tag.concat()));
    issuing.world.expect_record();
    assert_eq!(request.body(body).send().await.unwrap().status(), 202);
    let record = issuing.world.last_record().await;
    assert_eq!(record.action, "credential_updated", "{record:#?}");
    record.subject
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_one_is_not_kept_of_the_other() {
    let issuing = Issuing::start("enforce", "").await;
    let mut subjects = Vec::new();
    for whose in [Whose::Tenant, Whose::Organization] {
        alice(&issuing.world, whose).sign_in().await;
        let record = issuing.world.last_record_of("login").await;
        subjects.push((whose, record.subject.unwrap()));
    }
    for (organization, whose) in told() {
        let subject = changed(&issuing, &organization).await;
        let found = subjects
            .iter()
            .find(|(_, known)| subject.as_ref() == Some(known))
            .map_or(Whose::Nobody, |(whose, _)| *whose);
        assert_eq!(found, whose, "{organization}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_owes_holds_no_password_of_the_other() {
    for debtor in [Whose::Tenant, Whose::Organization] {
        let issuing = Issuing::start_with(Options {
            mode: "enforce",
            policy: Some(rules(&[
                ("request.door == \"login\"", "step_up"),
                ("true", "allow"),
            ])),
            ..Options::default()
        })
        .await;
        let page = alice(&issuing.world, debtor).log_in().await;
        assert!(page.is_page("totp.do"), "{page:?}");
        issuing.world.settle().await;
        for (organization, whose) in told() {
            let call = json!({
                "actionType": "PRE_UPDATE_PASSWORD",
                "event": {
                    "tenant": { "name": "carbon.super" },
                    "user": { "claims": [{ "uri": "http://wso2.org/claims/username", "value": "alice" }] },
                    "initiatorType": "USER",
                    "action": "UPDATE",
                },
            });
            let (_, reply) = issuing.ask(PASSWORD, &with(&organization, call)).await;
            let expected = if whose == debtor { "FAILED" } else { "SUCCESS" };
            assert_eq!(
                reply["actionStatus"], expected,
                "{debtor:?}: {organization}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_of_one_passes_no_step_of_the_other() {
    let issuing = Issuing::start("enforce", "").await;
    for owner in [Whose::Tenant, Whose::Organization] {
        let flow = logged_in(&mut alice(&issuing.world, owner)).await;
        for (organization, whose) in told() {
            let call = step(&flow, "carbon.super", &organization);
            let (_, reply) = issuing.ask("/actions/authenticate", &call).await;
            let expected = if whose == owner { "SUCCESS" } else { "FAILED" };
            assert_eq!(
                reply["actionStatus"], expected,
                "{owner:?}: {organization}: {reply}"
            );
        }
    }
}

/// Gives the password: WSO2's key of the login.
async fn logged_in(person: &mut Person<'_>) -> String {
    let page = person.open().await;
    let flow = param(&page.url, "sessionDataKey").unwrap();
    drop(person.submit_password(&page).await);
    flow
}

/// The call of a custom authenticator in alice's login.
fn step(flow: &str, tenant: &str, organization: &Value) -> Value {
    json!({
        "actionType": "AUTHENTICATION",
        "flowId": flow,
        "event": {
            "tenant": { "name": tenant },
            "organization": organization,
            "user": { "id": "9f1ab106", "sub": "alice", "userIdentitySource": "LOCAL" },
            "currentStepIndex": 2,
            "authenticatedSteps": [{ "index": 1, "name": "BasicAuthenticator" }],
        },
        "allowedOperations": [{ "op": "redirect" }],
    })
}

/// `/o/{id}` leads to an organization whatever tenant it is below; the gateway is not told which. WSO2 is, and says it.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_below_another_tenant_finds_its_decisions_and_no_others() {
    let issuing = Issuing::start("enforce", "").await;
    let acme = json!({ "id": ACME_ORG_ID, "name": "Acme", "depth": 1 });
    let other = json!({ "id": "0a1b-2c", "name": "Acme", "depth": 1 });
    for owner in [Whose::Organization, Whose::Tenant] {
        let is_there = owner == Whose::Organization;
        let mut alice = alice(&issuing.world, owner);
        let flow = logged_in(&mut alice).await;
        for (tenant, organization, expected) in [
            ("example.com", &acme, is_there),
            ("example.com", &other, false),
            ("example.com", &Value::Null, false),
            ("carbon.super", &acme, is_there),
            ("carbon.super", &Value::Null, !is_there),
        ] {
            let call = step(&flow, tenant, organization);
            let (_, reply) = issuing.ask("/actions/authenticate", &call).await;
            let status = if expected { "SUCCESS" } else { "FAILED" };
            assert_eq!(
                reply["actionStatus"], status,
                "{owner:?} {tenant} {organization}: {reply}"
            );
        }

        alice.forget_everything();
        let code = alice.sign_in().await;
        let tokens = alice.redeem(&code).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        let received = issuing.world.sim.recorded();
        let is_token =
            |request: &&wso2_sim::RecordedRequest| request.path().ends_with("/oauth2/token");
        let request = received.iter().rev().find(is_token).unwrap();
        let decision = request.header_values("x-risk-decision-id")[0];
        for (tenant, organization, expected) in [
            ("example.com", &acme, is_there),
            ("example.com", &other, false),
            ("example.com", &Value::Null, false),
            ("carbon.super", &other, true),
            ("carbon.super", &Value::Null, true),
        ] {
            let mut call = call(decision, "demo-web", "authorization_code");
            call["event"]["tenant"] = json!({ "name": tenant });
            call["event"]["organization"] = organization.clone();
            let (_, reply) = issuing.ask(ACCESS, &call).await;
            let told = reply["operations"].is_array();
            assert_eq!(told, expected, "{owner:?} {tenant} {organization}: {reply}");
        }
    }
}

/// Everything else a token says is of its own request: the tenant's alice comes from where nobody is trusted.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_one_say_nothing_of_the_other() {
    let issuing = Issuing::start("enforce", "").await;
    let world = &issuing.world;
    let mut said = Vec::new();
    for (whose, address) in [
        (Whose::Organization, HOME),
        (Whose::Tenant, TOR),
        (Whose::Organization, HOME),
    ] {
        let mut alice = alice(world, whose).from(address);
        let code = alice.sign_in().await;
        let tokens = alice.redeem(&code).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        let record = world.last_record_of("token").await;
        assert_eq!(record.token_actions, ["claims"], "{whose:?}: {record:#?}");
        said.push((record.subject, risk(&tokens.member("access_token"))));
    }
    let [first, tenant, again] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(first.0, again.0);
    assert_ne!(first.0, tenant.0);
    let score = |(_, said): &(Option<String>, Value)| said["risk_score"].as_u64().unwrap();
    assert!(
        score(again) <= score(first) && score(first) < score(tenant),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_shows_and_forgets_one_of_them() {
    let mut world = World::start(Options::default()).await;
    for (whose, logins) in [(Whose::Tenant, 1), (Whose::Organization, 2)] {
        let mut alice = alice(&world, whose);
        for _ in 0..logins {
            alice.sign_in().await;
            alice.forget_session();
        }
    }
    world.settle().await;
    assert_eq!(world.stop().await, Some(0));
    let of = |words: &[&str], tenant: &str| {
        let whom = ["--user", "alice", "--tenant", tenant];
        world.command(&[words, &whom].concat())
    };
    let shows = |tenant: &str| of(&["state", "show"], tenant);
    let names = |tenant: &str| of(&["audit", "subject"], tenant).1;
    let (code, out, errors) = shows("carbon.super");
    assert!(
        code == Some(0) && out.contains("1 confirmed logins"),
        "{out}{errors}"
    );
    let loud = ACME_ORG_ID.to_uppercase();
    for tenant in [ACME_ORG_ID, &loud] {
        let (code, out, errors) = shows(tenant);
        assert!(
            code == Some(0) && out.contains("2 confirmed logins"),
            "{out}{errors}"
        );
        assert_eq!(names(tenant), names(ACME_ORG_ID));
    }
    assert_ne!(names("carbon.super"), names(ACME_ORG_ID));
    let (code, _, errors) = of(&["state", "forget", "--everything"], ACME_ORG_ID);
    assert_eq!(code, Some(0), "{errors}");
    let left = shows(ACME_ORG_ID).1;
    assert!(left.contains("0 confirmed logins"), "{left}");
    assert!(shows("carbon.super").1.contains("1 confirmed logins"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_at_the_desk_is_not_the_other() {
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[(
            "request.door == \"login\" && user.name == \"alice\"",
            "review",
        )])),
        ..Options::default()
    })
    .await;
    let is_held = |answer: &Answer| {
        let location = answer.location();
        location.is_some_and(|location| location.path().starts_with("/riskgate/review/"))
    };
    // Both in one browser, which is known to be neither's.
    let mut tenant = alice(&world, Whose::Tenant);
    let mut organization = alice(&world, Whose::Organization);
    let mut ids = Vec::new();
    for person in [&mut tenant, &mut organization] {
        let answer = person.try_password().await;
        assert!(is_held(&answer), "{answer:?}");
        ids.push(world.last_record_of("login").await.review.unwrap());
    }
    let listed = review::waiting(&world).await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_ne!(listed[0].subject, listed[1].subject);

    // The release lets in whom it was given for: not the namesake, not with the other's cookies either.
    review::decide(&world, "release", &ids[1]).await;
    let ticket = organization.cookie("__Host-rg_review").unwrap().to_owned();
    let answer = tenant.try_password().await;
    assert!(is_held(&answer), "{answer:?}");
    tenant.set_cookie("__Host-rg_review", &ticket);
    let answer = tenant.try_password().await;
    assert!(is_held(&answer), "{answer:?}");
    organization.sign_in().await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.review_state.as_deref(), Some("used"), "{record:#?}");
}

/// A second factor of one, in the assertion for one, proves nothing of the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_about_one_proves_nothing_of_the_other() {
    let world = stepped_up(
        "request.door == \"login\" && agent.browser == \"curl\"",
        SimConfig::default(),
        "",
    )
    .await;
    // Both owe a factor.
    for whose in [Whose::Tenant, Whose::Organization] {
        let page = alice(&world, whose)
            .with("curl/8.5.0")
            .from(FAR)
            .log_in()
            .await;
        assert!(page.is_page("totp.do"), "{whose:?}: {page:?}");
    }
    world.settle().await;
    // The organization's gives it, at a service provider of the organization's.
    let mut given = alice(&world, Whose::Organization);
    let path = format!("/o/{ACME_ORG_ID}{}", in_query(&request("", "")));
    let page = saml::open(&mut given, &path).await;
    let answer = through_login(&mut given, &page).await;
    reached(&answer, MFA);
    let record = world.last_record().await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    world.settle().await;
    for (whose, demand) in [
        (Whose::Tenant, Some("outstanding")),
        (Whose::Organization, None),
    ] {
        let mut elsewhere = alice(&world, whose).with(CHROME_ON_WINDOWS);
        let page = elsewhere.log_in().await;
        let record = world.last_record_of("login").await;
        assert_eq!(record.demand.as_deref(), demand, "{whose:?}: {record:#?}");
        assert_eq!(
            page.is_page("totp.do"),
            demand.is_some(),
            "{whose:?}: {page:?}"
        );
    }
}
