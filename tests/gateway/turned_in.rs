//! Tokens that are turned in for others: token exchange (RFC 8693), assertions (RFC 7523), WSO2's subject tokens. What is
//! known of a login goes along with its tokens, and what is owed is not shaken off by turning one in.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::deaf;
use crate::gateway::param;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use reqwest::Url;
use wso2_sim::SimConfig;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const OF_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const OF_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const OF_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";
/// Who acts as another user, in one response type or both of WSO2's.
const ACTING: [&str; 2] = ["subject_token", "id_token subject_token"];

/// The grants by which an access token is turned in, and the parameters that carry it.
fn ways(token: &str) -> [(&'static str, Vec<(&'static str, String)>); 4] {
    let with = |grant: &str, more: &[(&'static str, &str)]| {
        let grant = [("grant_type", grant)];
        let pairs = grant.iter().chain(more);
        pairs
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect()
    };
    [
        (
            "exchange",
            with(
                EXCHANGE,
                &[
                    ("subject_token", token),
                    ("subject_token_type", OF_ACCESS_TOKEN),
                ],
            ),
        ),
        ("assertion", with(JWT_BEARER, &[("assertion", token)])),
        (
            "organization",
            with(
                "organization_switch",
                &[("token", token), ("switching_organization", "acme")],
            ),
        ),
        ("account", with("account_switch", &[("token", token)])),
    ]
}

/// Turns a token in as the person's application, from where the person is.
async fn turn_in(person: &mut Person<'_>, fields: &[(&str, String)]) -> Answer {
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    person.token(&fields).await
}

async fn tokens_of(person: &mut Person<'_>) -> Answer {
    let code = person.sign_in().await;
    let tokens = person.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    tokens
}

/// The member of the response in a redirect to the application.
fn handed(answer: &Answer, name: &str) -> Option<String> {
    let location = answer.location()?;
    assert!(location.as_str().starts_with(CALLBACK), "{location}");
    let fragment = location.fragment()?;
    let as_query = Url::parse(&format!("https://x/?{fragment}")).expect("a fragment");
    param(&as_query, name)
}

/// Asks to act as bob, whose id is in a token of his.
async fn act_as_bob(world: &World, person: &mut Person<'_>, response_type: &str) -> Answer {
    let mut bob = world.person("bob");
    let tokens = tokens_of(&mut bob).await;
    let id = claims(&tokens.member("access_token"))["sub"]
        .as_str()
        .expect("a subject")
        .to_owned();
    let asked = [
        ("response_type", response_type),
        ("scope", "openid internal_user_impersonate"),
        ("requested_subject", id.as_str()),
    ];
    let mut answer = person.open_with(&asked).await;
    if answer.is_page("login.do") {
        answer = person.submit_password(&answer).await;
        answer = person.follow(answer).await;
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_login_goes_along() {
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[("true", "allow")])),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let tokens = tokens_of(&mut alice).await;
    let login = world.last_record_of("login").await;
    let access = tokens.member("access_token");
    let of_user = world.last_record().await.subject;
    assert!(of_user.is_some());
    let mut turned = access.clone();
    // One after the other, each with what the one before gave: the last is as much of the login as the first.
    for (what, _) in ways("").into_iter().take(2) {
        let fields = ways(&turned)
            .into_iter()
            .find(|(name, _)| *name == what)
            .expect("a way")
            .1;
        let mark = world.mark().await;
        let answer = turn_in(&mut alice, &fields).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        assert_eq!(
            claims(&answer.member("access_token"))["sub"],
            claims(&access)["sub"]
        );
        let record = world.record_since(mark).await;
        assert_eq!(record.class, "scored", "{what}");
        assert_eq!(record.kind.as_deref(), Some("token"), "{what}");
        assert_eq!(record.status.as_deref(), Some("scored"), "{what}");
        // It is about the user, not about the application.
        assert_eq!(record.subject, of_user, "{what}: {record:#?}");
        assert!(
            !record.learnt,
            "{what}: a token in another's hand teaches nothing"
        );
        turned = answer.member("access_token");
    }
    assert_eq!(login.outcome, "succeeded");
    // An assertion of another issuer is about nobody that is known here.
    let mark = world.mark().await;
    let fields = [
        ("grant_type", JWT_BEARER.to_owned()),
        (
            "assertion",
            "e30.eyJqdGkiOiJ4Iiwic3ViIjoieSJ9.e30".to_owned(),
        ),
    ];
    let answer = turn_in(&mut alice, &fields).await;
    assert_eq!(answer.member("error"), "invalid_grant");
    assert_ne!(world.record_since(mark).await.subject, of_user);
}

/// A token that was withheld, and is still good at the identity server, is turned in for nothing, whoever tries.
#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_token_is_turned_in_for_nothing() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    let mut alice = world.person("alice");
    let page = alice
        .open_with(&[("response_type", "id_token token")])
        .await;
    let answer = alice.submit_password(&page).await;
    let answer = alice.follow(answer).await;
    assert_eq!(handed(&answer, "access_token"), None);
    assert_eq!(
        handed(&answer, "error").as_deref(),
        Some("unmet_authentication_requirements")
    );
    let attempt = world
        .received()
        .into_iter()
        .find(|request| request.path() == "/oauth2/revoke")
        .expect("it was to be revoked");
    let token = form_urlencoded::parse(attempt.body_text().as_bytes())
        .find(|(name, _)| name == "token")
        .expect("a token")
        .1
        .into_owned();
    for address in [HOME, FAR] {
        for (what, fields) in ways(&token) {
            let mut thief = world.person("bob").from(address);
            let mark = world.mark().await;
            let answer = turn_in(&mut thief, &fields).await;
            assert_eq!(
                (answer.status, answer.member("error").as_str()),
                (400, "interaction_required"),
                "{what}: {answer:?}"
            );
            assert!(world.received_since(mark).is_empty(), "{what}");
        }
    }
    // The identity server would have taken it.
    let fields = ways(&token)[0].1.clone();
    let direct = world
        .http()
        .post(format!("{}/oauth2/token", world.sim.url))
        .basic_auth("demo-web", Some("demo-web-secret"))
        .form(&fields)
        .send()
        .await
        .expect("an answer");
    assert_eq!(direct.status(), 200);
}

/// Who was refused with a token is refused with it for a while, however harmless the next try looks; its owner is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_shaken_off_by_trying_again() {
    for (what, _) in ways("").into_iter().take(2) {
        let world = World::start(Options {
            mode: "enforce",
            policy: Some(rules(&[
                (
                    "request.door == \"token\" && agent.os != \"Linux\"",
                    "step_up",
                ),
                ("true", "allow"),
            ])),
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice");
        let access = tokens_of(&mut alice).await.member("access_token");
        let fields = ways(&access)
            .into_iter()
            .find(|(name, _)| *name == what)
            .expect("a way")
            .1;
        let mut thief = world
            .person("bob")
            .from(FAR)
            .with(crate::gateway::CHROME_ON_WINDOWS);
        let mark = world.mark().await;
        let refused = turn_in(&mut thief, &fields).await;
        assert_eq!(
            refused.member("error"),
            "interaction_required",
            "{what}: {refused:?}"
        );
        // Another browser at the same place.
        let mut again = world.person("bob").from(FAR);
        let refused = turn_in(&mut again, &fields).await;
        assert_eq!(
            refused.member("error"),
            "interaction_required",
            "{what}: {refused:?}"
        );
        let record = world.last_record().await;
        assert_eq!(record.demand.as_deref(), Some("outstanding"), "{record:#?}");
        assert!(world.received_since(mark).is_empty());
        let answer = turn_in(&mut alice, &fields).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
    }
}

/// A login that owes a factor hands out no subject token without it, nor is one got for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_token_is_held_like_an_access_token() {
    for response_type in ACTING {
        let world = stepped_up(AT_LOGIN, deaf(), "").await;
        let mut alice = world.person("alice");
        let answer = act_as_bob(&world, &mut alice, response_type).await;
        assert_eq!(handed(&answer, "subject_token"), None, "{answer:?}");
        assert_eq!(
            handed(&answer, "error").as_deref(),
            Some("unmet_authentication_requirements"),
            "{answer:?}"
        );
        let record = world.last_record_of("authorize").await;
        assert_eq!(&*record.action, "withheld", "{record:#?}");
    }
}

/// With the factor given it goes out, and what comes of it is of the login of whoever acts.
#[tokio::test(flavor = "multi_thread")]
async fn who_acts_as_another_user_is_known_by_their_own_login() {
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[("true", "allow")])),
        sim: SimConfig::default(),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let mine = tokens_of(&mut alice).await;
    let of_alice = world.last_record().await.subject;
    alice.forget_session();
    let answer = act_as_bob(&world, &mut alice, ACTING[1]).await;
    let subject = handed(&answer, "subject_token").expect("a subject token");
    let actor = handed(&answer, "id_token").expect("an ID token");
    assert_eq!(
        claims(&subject)["may_act"]["sub"],
        claims(&mine.member("access_token"))["sub"]
    );
    let fields = [
        ("grant_type", EXCHANGE.to_owned()),
        ("subject_token", subject.clone()),
        ("subject_token_type", OF_JWT.to_owned()),
        ("actor_token", actor),
        ("actor_token_type", OF_ID_TOKEN.to_owned()),
    ];
    let mark = world.mark().await;
    let exchanged = turn_in(&mut alice, &fields).await;
    assert_eq!(exchanged.status, 200, "{exchanged:?}");
    let told = claims(&exchanged.member("access_token"));
    assert_eq!(told["sub"], claims(&subject)["sub"]);
    assert_eq!(told["act"]["sub"], claims(&subject)["may_act"]["sub"]);
    let record = world.record_since(mark).await;
    assert_eq!(record.subject, of_alice, "{record:#?}");
    // Without the actor's own token it is worth nothing.
    let answer = turn_in(&mut alice, &fields[..3]).await;
    assert_eq!(answer.member("error"), "invalid_grant");
}
