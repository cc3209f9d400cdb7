//! Each verdict in each mode: what the client sees, what the identity server receives, what the record says.

use crate::gateway::Answer;
use crate::gateway::MFA;
use crate::gateway::Mark;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::rules;
use riskgate::domain::audit::AuditEvent;
use wso2_sim::RecordedRequest;

/// The verdict that the policy of these tests gives to each user and, at the authorize door, to each client.
const VERDICTS: [(&str, &str, &str); 4] = [
    ("allow", "alice", "demo-web"),
    ("step_up", "bob", "demo-spa"),
    ("review", "carol", "demo-opaque"),
    ("block", "dave", "demo-mfa"),
];
const MODES: [&str; 4] = ["off", "monitor", "advise", "enforce"];

/// A rule for each verdict: by client at the authorize door, by user at the others.
fn at_door(door: &str) -> String {
    let conditions: Vec<String> = VERDICTS
        .iter()
        .map(|(_, user, client)| match door {
            "authorize" => format!("request.door == \"authorize\" && client.id == \"{client}\""),
            _ => format!("request.door == \"{door}\" && user.name == \"{user}\""),
        })
        .collect();
    rules(
        &VERDICTS
            .iter()
            .zip(&conditions)
            .map(|((verdict, ..), when)| (when.as_str(), *verdict))
            .collect::<Vec<_>>(),
    )
}

/// The headers named `x-risk-*` of a request, sorted.
fn risk_headers(request: &RecordedRequest) -> Vec<(String, String)> {
    let mut found: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .filter(|(name, _)| name.starts_with("x-risk"))
        .collect();
    found.sort();
    found
}

/// The record says what was decided, and the identity server was told what the mode lets it know.
async fn holds(world: &World, mark: Mark, mode: &str, verdict: &str, action: &str) -> AuditEvent {
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.mode.as_deref(), &*record.action),
        (Some(mode), action),
        "{record:#?}"
    );
    if mode == "off" {
        // Nothing is scored, so that nothing can be decided or learnt.
        assert_eq!(
            (
                record.status.as_deref(),
                record.score,
                &record.verdict,
                record.learnt
            ),
            (Some("off"), None, &None, false),
            "{record:#?}"
        );
    } else {
        let rule = VERDICTS
            .iter()
            .position(|(known, ..)| *known == verdict)
            .unwrap();
        assert_eq!(
            (record.verdict.as_deref(), record.matched),
            (Some(verdict), Some(format!("rule-{rule}")))
        );
        assert!(record.status.as_deref() == Some("scored") && record.score.is_some());
    }
    let record = world.record_since(mark).await;
    let received = world.received_since(mark);
    if action == "step_up_impossible" {
        // Said once the password was accepted, so that it tells nobody who exists; the tokens stay here.
        assert_eq!(received.len(), 1, "{received:#?}");
        assert_eq!(
            (&*record.outcome, record.grounds.as_deref()),
            ("refused_here", Some("decided"))
        );
        return record;
    }
    if action != "forwarded" {
        assert!(
            received.is_empty() && record.grounds.is_none(),
            "{received:#?}"
        );
        assert_eq!(record.outcome, "refused_here");
        return record;
    }
    assert_eq!(received.len(), 1, "{received:#?}");
    let headers = risk_headers(&received[0]);
    let of = |name: &str| {
        headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
    };
    match mode {
        "off" => assert_eq!(headers, [("x-risk-status".to_owned(), "off".to_owned())]),
        "monitor" => assert_eq!(headers, [("x-risk-status".to_owned(), "scored".to_owned())]),
        _ => {
            assert_eq!(of("x-risk-status"), ["scored"]);
            assert_eq!(of("x-risk-verdict"), [verdict]);
            assert_eq!(
                of("x-risk-score"),
                [record.score.expect("a score").to_string()]
            );
            assert_eq!(of("x-risk-level"), [record.level.clone().expect("a level")]);
            assert_eq!(of("x-risk-decision-id"), [record.id.as_str()]);
            assert_eq!(
                of("x-risk-reasons"),
                [record
                    .reasons
                    .iter()
                    .take(8)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(",")]
            );
        }
    }
    let grounds = match mode {
        "off" => "off",
        "monitor" => "monitored",
        "advise" => "advised",
        _ => "decided",
    };
    assert_eq!(record.grounds.as_deref(), Some(grounds));
    record
}

fn is_page(answer: &Answer, status: u16) -> bool {
    let of = |name| answer.header(name).unwrap_or_default().to_owned();
    answer.status == status
        && of("content-type") == "text/html; charset=utf-8"
        && of("cache-control") == "no-store"
        && of("x-content-type-options") == "nosniff"
        && of("content-security-policy").starts_with("default-src 'none'")
        && of("referrer-policy") == "no-referrer"
        && answer.body.contains("<html lang=\"en\">")
        && answer.body.matches("<h1>").count() == 1
        && !["score", "risk_", "unfamiliar"]
            .iter()
            .any(|word| answer.body.contains(word))
}

/// The browser is sent to where it waits for an analyst.
fn leads_to_review(answer: &Answer) -> bool {
    let location = answer.location();
    answer.status == 303
        && location.is_some_and(|location| location.path().starts_with("/riskgate/review/"))
}

fn has_cookie(answer: &Answer, name: &str) -> bool {
    let starts = format!("{name}=");
    answer
        .headers
        .iter()
        .any(|(name, value)| name == "set-cookie" && value.starts_with(&starts))
}

fn has_own_cookie(answer: &Answer) -> bool {
    has_cookie(answer, "__Host-rg_device")
}

/// The copy of its demand that a browser gets.
fn has_demand_cookie(answer: &Answer) -> bool {
    has_cookie(answer, "__Host-rg_demand")
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_authorize_door() {
    for mode in MODES {
        let world = World::start(Options {
            mode,
            policy: Some(at_door("authorize")),
            ..Options::default()
        })
        .await;
        for (verdict, _, client) in VERDICTS {
            let mut person = world.person("alice").in_app(client);
            // A public client needs PKCE (RFC 7636); the others take it.
            let path = person.authorize_path(&[
                (
                    "code_challenge",
                    "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
                ),
                ("code_challenge_method", "S256"),
            ]);
            let mark = world.mark().await;
            let answer = person.get(&path).await;
            let enforced = mode == "enforce";
            let action = match verdict {
                "step_up" if enforced => "redirected",
                "review" if enforced => "held",
                "block" if enforced => "blocked",
                _ => "forwarded",
            };
            let record = holds(&world, mark, mode, verdict, action).await;
            match action {
                "forwarded" => {
                    assert!(
                        answer
                            .location()
                            .is_some_and(|to| to.path() == "/authenticationendpoint/login.do"),
                        "{mode} {verdict}: {answer:?}"
                    );
                    assert_eq!(record.outcome, "login_page");
                }
                "redirected" => assert_eq!(
                    answer.header("location"),
                    Some(
                        format!("{path}&acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=300")
                            .as_str()
                    )
                ),
                "held" => assert!(leads_to_review(&answer), "{mode} {verdict}: {answer:?}"),
                _ => assert!(
                    is_page(&answer, 403) && answer.body.contains(&record.id),
                    "{mode} {verdict}: {answer:?}"
                ),
            }
            assert!(!has_own_cookie(&answer), "{mode} {verdict}");
            assert_eq!(has_demand_cookie(&answer), action == "redirected");
            assert_eq!(has_cookie(&answer, "__Host-rg_review"), action == "held");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_login_door() {
    for mode in MODES {
        let world = World::start(Options {
            mode,
            policy: Some(at_door("login")),
            ..Options::default()
        })
        .await;
        for (verdict, user, _) in VERDICTS {
            let mut person = world.person(user);
            let page = person.open().await;
            let mark = world.mark().await;
            let answer = person.submit_password(&page).await;
            let enforced = mode == "enforce";
            let action = match verdict {
                "review" if enforced => "held",
                "block" if enforced => "blocked",
                _ => "forwarded",
            };
            let record = holds(&world, mark, mode, verdict, action).await;
            let to = answer
                .location()
                .map(|to| to.path().to_owned())
                .unwrap_or_default();
            match (action, mode, verdict) {
                // The script follows the header wherever it is sent.
                ("forwarded", "advise" | "enforce", "step_up") => assert_eq!(
                    (to.as_str(), &*record.outcome),
                    ("/authenticationendpoint/totp.do", "next_factor")
                ),
                ("forwarded", ..) => assert_eq!(
                    (to.as_str(), &*record.outcome),
                    ("/oauth2/authorize", "succeeded"),
                    "{mode} {verdict}: {answer:?}"
                ),
                ("held", ..) => {
                    assert!(leads_to_review(&answer), "{mode} {verdict}: {answer:?}");
                    continue;
                }
                _ => assert!(is_page(&answer, 403), "{mode} {verdict}: {answer:?}"),
            }
            let visible = matches!(mode, "advise" | "enforce")
                && record.outcome == "succeeded"
                && record.learnt;
            assert_eq!(
                has_own_cookie(&answer),
                visible,
                "{mode} {verdict}: {answer:?}"
            );
            assert_eq!(
                has_demand_cookie(&answer),
                enforced && verdict == "step_up",
                "{mode} {verdict}: {answer:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_token_door() {
    for mode in MODES {
        let world = World::start(Options {
            mode,
            policy: Some(at_door("token")),
            ..Options::default()
        })
        .await;
        for (verdict, user, _) in VERDICTS {
            let person = world.person(user);
            let fields = [
                ("grant_type", "password"),
                ("username", user),
                ("password", person.password()),
            ];
            let mark = world.mark().await;
            let answer = world
                .post("/oauth2/token", Some("demo-legacy"), &fields)
                .await;
            let (action, error) = match (mode, verdict) {
                ("enforce", "step_up") => ("step_up_impossible", Some("interaction_required")),
                ("enforce", "review") => ("held", Some("invalid_grant")),
                ("enforce", "block") => ("blocked", Some("access_denied")),
                _ => ("forwarded", None),
            };
            let record = holds(&world, mark, mode, verdict, action).await;
            let Some(error) = error else {
                // Where nothing is scored, nobody reads the answer.
                let outcome = if mode == "off" {
                    "none"
                } else {
                    "tokens_issued"
                };
                assert_eq!(
                    (answer.status, &*record.outcome),
                    (200, outcome),
                    "{mode} {verdict}: {answer:?}"
                );
                continue;
            };
            assert_eq!(
                (answer.status, answer.member("error").as_str()),
                (400, error),
                "{mode} {verdict}: {answer:?}"
            );
            assert_eq!(
                (
                    answer.header("content-type"),
                    answer.header("cache-control"),
                    answer.header("pragma")
                ),
                (Some("application/json"), Some("no-store"), Some("no-cache"))
            );
            if verdict == "step_up" {
                assert_eq!(
                    (
                        answer.member("acr_values").as_str(),
                        answer.json()["max_age"].as_u64()
                    ),
                    (MFA, Some(300))
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn monitor_counts_what_enforce_would_have_done() {
    let world = World::start(Options {
        policy: Some(always("block")),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    world.settle().await;
    assert_eq!(
        world
            .metric(
                "riskgate_would_have_total",
                &[("door", "login"), ("verdict", "block")]
            )
            .await,
        1.0
    );
    // The return from the login goes on with what was decided when it began.
    assert_eq!(
        world
            .metric(
                "riskgate_would_have_total",
                &[("door", "authorize"), ("verdict", "block")]
            )
            .await,
        1.0
    );
}
