//! A gateway that enforces and has something to show: a login that was refused, held logins, a user whose risk has changed,
//! receivers of all that. Commands of the pages for analysts are run on it, and what it sends is compared with the pages.

use crate::Which;
use crate::block;
use crate::gateway::FAR;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::listening_port;
use crate::messages::differences;
use crate::messages::is_alike;
use crate::messages::is_shown;
use crate::place::Inline;
use crate::place::Place;
use crate::place::Step;
use crate::receiver::Message;
use crate::receiver::header;
use crate::receiver::receiver;
use regex::Regex;
use reqwest::Method;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::review::Listing;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::Instant;

/// What analysts do, in this order.
pub(crate) const ANALYST: &[Step] = &[
    (("docs/CONSOLE.md", "operator add"), "ann"),
    (
        ("docs/CONSOLE.md", "decisions?verdict=block"),
        r#""verdict":"block""#,
    ),
    (
        ("docs/CONSOLE.md", "truth=compromised"),
        r#""attacker_kind":"phishing""#,
    ),
    (("docs/ANALYST.md", "--kind phishing"), "decisions"),
    (
        ("docs/REVIEW.md", "review list"),
        "waiting(.|\\n)*released(.|\\n)*refused",
    ),
    (("docs/reference/events.md", "--labels known.csv"), "AUC"),
];

/// An incident: one user cannot get in.
const INCIDENT: &[Inline] = &[
    (
        "docs/guides/incident.md",
        "riskgate explain REFERENCE",
        "What was decided",
    ),
    ("docs/guides/incident.md", "riskgate review list", "waiting"),
    (
        "docs/guides/incident.md",
        r#"riskgate review release ID --as NAME --reason "called back""#,
        "released",
    ),
];
/// While the gateway is stopped.
const STOPPED: &[Inline] = &[
    (
        "docs/STATE.md",
        "riskgate state show --user NAME --tenant T",
        "devices",
    ),
    (
        "docs/guides/incident.md",
        "riskgate state forget --user NAME --tenant carbon.super --all-devices",
        "forgotten",
    ),
];

/// Compared with what the gateway sends.
pub(crate) const MESSAGES: &[Which] = &[
    ABOVE,
    ACCESS,
    ALERT,
    ASKED,
    ASSERTION,
    BASIC,
    CHAIN,
    HEADERS,
    INTROSPECTION,
    NAMED,
    POLL,
    REFRESH,
    REGISTRATION,
    SIGNALS,
    SIGNATURE,
    TOKEN,
];
const ABOVE: Which = (
    "docs/reference/errors.md",
    "insufficient_user_authentication",
);
const ACCESS: Which = ("docs/reference/claims.md", "risk_origin");
const ALERT: Which = ("docs/ALERTS.md", "risk.alerts");
const ASKED: Which = ("conf/wso2/README.md", "risk_verdict");
const ASSERTION: Which = ("docs/reference/claims.md", "\"ath\"");
const BASIC: Which = ("docs/reference/errors.md", "RG-403");
const CHAIN: Which = ("docs/AUDIT.md", "\"chain\":");
const HEADERS: Which = ("docs/reference/headers.md", "x-forwarded-for:");
const INTROSPECTION: Which = ("docs/reference/claims.md", "\"active\"");
const NAMED: Which = ("docs/SIGNALS.md", "\"iss_sub\", \"iss\"");
const POLL: Which = ("docs/SIGNALS.md", "riskgate/ssf/poll -H");
const REFRESH: Which = ("docs/reference/errors.md", "\"invalid_grant\"");
const REGISTRATION: Which = ("docs/TOKENS.md", "preIssueAccessToken");
const SIGNALS: Which = ("docs/SIGNALS.md", "risk.signals");
const SIGNATURE: Which = ("docs/reference/headers.md", "v1;t=");
const TOKEN: Which = ("docs/SIGNALS.md", "\"sub_id\": { \"format\": \"opaque\"");

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Two users are held, one is refused, refresh tokens need a stronger factor, all else is allowed; levels by these thresholds.
fn policy(medium: u8, high: u8) -> String {
    format!(
        r#"version = 1
[thresholds]
medium = {medium}
high = {high}
[[rule]]
name = "held"
when = 'request.door == "login" && user.name in ["bob", "carol", "erin"]'
verdict = "review"
[[rule]]
name = "refused"
when = 'request.door in ["login", "basic"] && user.name == "dave"'
verdict = "block"
[[rule]]
name = "refreshed"
when = 'request.grant_type == "refresh_token"'
verdict = "step_up"
[[rule]]
name = "all"
when = 'true'
verdict = "allow"
"#
    )
}

fn config(actions: u16, receivers: [&str; 5], secret: &str) -> String {
    let [alerts, push, named, webhook, service] = receivers;
    let route = |path: &str, level: &str| {
        format!(
            "[[resource]]\nprefix = '{path}'\nupstream = '{service}'\naudience = 'https://orders.example.com'\n\
             token_audiences = ['demo-web']\nmax_level = '{level}'\n"
        )
    };
    let routes = route("/orders", "high") + &route("/payments", "low");
    format!(
        "[actions]\nlisten = '127.0.0.1:{actions}'\nsecret_file = '{secret}'\n\
         [headers.signature]\nenabled = true\nkey_id = 'k1'\nkey_file = '{secret}'\n\
         [alerts]\nurl = '{alerts}'\nsecret_file = '{secret}'\n\
         [shared_signals]\nissuer = 'https://sso.example.com'\n\
         [[shared_signals.receivers]]\nname = 'push'\nurl = '{push}'\naudience = 'https://orders.example.com'\n\
         [[shared_signals.receivers]]\nname = 'named'\nurl = '{named}'\naudience = 'https://orders.example.com'\n\
         subject = 'iss_sub'\nclient_id = 'demo-web'\n\
         [[shared_signals.receivers]]\nname = 'siem'\ndelivery = 'webhook'\nurl = '{webhook}'\nsecret_file = '{secret}'\n\
         [[shared_signals.receivers]]\nname = 'orders'\ndelivery = 'poll'\ntoken_file = '{secret}'\n\
         audience = 'https://orders.example.com'\n{routes}[signing]\nresign_tokens = true\n"
    )
}

/// The latest login that was let through.
fn allowed(records: &[AuditEvent]) -> String {
    let is_login = |event: &&AuditEvent| {
        event.door.as_deref() == Some("login") && event.verdict.as_deref() == Some("allow")
    };
    records.iter().rfind(is_login).unwrap().id.clone()
}

/// Asks until it is so.
async fn eventually(mut ask: impl AsyncFnMut() -> Option<()>) {
    let end = Instant::now() + PATIENCE;
    while ask().await.is_none() {
        assert!(Instant::now() < end, "it did not come to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn json_of((_, body): &Message) -> Value {
    serde_json::from_str(body).expect("JSON")
}

fn next(messages: &Receiver<Message>) -> Message {
    messages.recv_timeout(PATIENCE).expect("a message")
}

#[tokio::test(flavor = "multi_thread")]
async fn analysts_and_receivers_get_what_the_pages_show() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    let (alerts, alerted) = receiver("/alerts", "204 No Content");
    let (push, pushed) = receiver("/push", "202 Accepted\r\ncontent-length: 0");
    let (named, told_by_name) = receiver("/named", "202 Accepted\r\ncontent-length: 0");
    let (webhook, told) = receiver("/webhook", "204 No Content");
    let (service, served) = receiver("", "204 No Content");
    let actions = listening_port();
    let receivers = [&*alerts, &*push, &*named, &*webhook, &*service];
    let mut world = World::start(Options {
        mode: "enforce",
        policy: Some(policy(99, 100)),
        // Lives as long as the test.
        config: config(actions, receivers, &secret.display().to_string()).leak(),
        ..Options::default()
    })
    .await;

    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    alice.redeem(&code).await;
    world.person("dave").log_in().await;
    for held in ["bob", "carol", "erin"] {
        world.person(held).log_in().await;
    }
    drop(world.records().await);
    world.set_policy(&policy(1, 2));
    eventually(async || {
        let reloads = world.metric("riskgate_reloads_total", &[("result", "ok")]);
        (reloads.await >= 1.0).then_some(())
    })
    .await;
    alice.forget_session();
    alice.move_to(FAR);
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    let records = world.records().await;
    let risky = allowed(&records);

    // What is sent without being asked for.
    is_shown(ALERT, &json_of(&next(&alerted)));
    is_shown(TOKEN, &claims(&next(&pushed).1));
    let by_name = claims(&next(&told_by_name).1);
    is_shown(NAMED, &json!({ "sub_id": by_name["sub_id"] }));

    // What APIs, and clients that are refused, get.
    let access = tokens.member("access_token");
    is_shown(ACCESS, &of_risk(claims(&access), &[]));
    let asked = [("token", &*access)];
    let answer = world
        .post("/oauth2/introspect", Some("demo-web"), &asked)
        .await;
    is_shown(INTROSPECTION, &of_risk(answer.json(), &["active"]));
    let call = |path: &str| {
        let call = world.request(Method::POST, path).bearer_auth(&access);
        world.send(call.body("{}"))
    };
    assert_eq!(call("/orders").await.status, 204);
    let (head, _) = next(&served);
    is_shown(ASSERTION, &claims(header(&head, "x-risk-assertion")));
    is_shown(ABOVE, &call("/payments").await.json());
    let dave = world.request(Method::GET, "/scim2/Me");
    let dave = dave.header("authorization", basic("dave", "dave-was-here"));
    is_shown(BASIC, &world.send(dave).await.json());
    let refresh = tokens.member("refresh_token");
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &*refresh),
    ];
    is_shown(REFRESH, &alice.token(&refresh).await.json());

    // What WSO2 gets, and may ask.
    let received = world.received();
    let of_path = |path: &str| {
        let mut found = received.iter().rev();
        found.find(|request| request.path() == path).unwrap()
    };
    headers_are_shown(&of_path("/oauth2/token").headers);
    let asked = world
        .http()
        .post(format!("http://127.0.0.1:{actions}/actions/risk"));
    let decision = of_path("/commonauth").header_values("x-risk-decision-id")[0];
    let question = json!({ "decision_id": decision, "username": "alice", "ip": FAR });
    let answer = asked
        .bearer_auth(SECRET)
        .json(&question)
        .send()
        .await
        .unwrap();
    is_shown(ASKED, &answer.json().await.unwrap());
    registration_is_shown();

    // What analysts do.
    let folder = world.config_file().parent().unwrap().to_owned();
    let mut place = Place::new(&folder, world.admin_port);
    symlink(world.config_file(), place.path("conf/riskgate.toml")).unwrap();
    let (_, listed, _) = world.command(&["review", "list", "--json"]);
    let held = Listing::parse(&listed).unwrap().logins;
    place.replace("9f0c31d2", &held[0].id[..8]);
    place.replace("71ab04e9", &held[1].id[..8]);
    place.replace("decisions/ID", &format!("decisions/{risky}"));
    place.replace("01890a5d-ac96-774b-bcce-b302099a8057", &risky);
    place.replace("https://sso.example.com", &world.url);
    fs::write(place.path("known.csv"), format!("id,label\n{risky},1\n")).unwrap();
    let token = fs::read_to_string(world.data_dir().join("admin.token")).unwrap();
    place.set("token", token.trim());
    place.set("TOKEN", SECRET);
    // The console reads behind.
    let decisions = format!(
        "http://127.0.0.1:{}/api/decisions?verdict=block",
        world.admin_port
    );
    eventually(async || {
        let request = world.http().get(&decisions);
        let shown = request.bearer_auth(token.trim()).send().await.unwrap();
        let shown = shown.text().await.unwrap();
        (shown.contains(r#""is_reading":false"#) && shown.contains("login")).then_some(())
    })
    .await;
    place.run(ANALYST);
    place.replace("REFERENCE", &risky);
    place.replace(
        "release ID --as NAME",
        &format!("release {} --as ann", &held[2].id[..8]),
    );
    place.run_inline(INCIDENT);

    // Her sessions end by it.
    let mut signals = json_of(&next(&told));
    while signals["signals"].as_array().unwrap().len() < 2 {
        let more = json_of(&next(&told))["signals"].as_array().unwrap().clone();
        signals["signals"].as_array_mut().unwrap().extend(more);
    }
    is_shown(SIGNALS, &signals);
    poll_is_shown(&place);
    chain_is_shown(&folder.join("data/audit.jsonl"));
    place.replace("--user NAME", "--user alice");
    place.replace("--tenant T", "--tenant carbon.super");
    drop(alice);
    assert_eq!(world.stop().await, Some(0));
    place.run_inline(STOPPED);
}

/// Of the members of an object, those about the risk and some others.
fn of_risk(mut all: Value, others: &[&str]) -> Value {
    let members = all.as_object_mut().unwrap();
    members.retain(|name, _| name.starts_with("risk_") || others.contains(&name.as_str()));
    all
}

/// The fields that the gateway adds.
fn headers_are_shown(sent: &[(String, String)]) {
    let ours = Regex::new("^(x-risk-|x-forwarded-|activityid$)").unwrap();
    let mut sent: Vec<(String, &str)> = sent
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.as_str()))
        .filter(|(name, _)| ours.is_match(name))
        .collect();
    sent.sort();
    let (signature, others): (Vec<_>, Vec<_>) = sent
        .into_iter()
        .partition(|(name, _)| name == "x-risk-signature");
    let mut shown: Vec<(&str, &str)> = block(HEADERS)
        .text
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .collect();
    shown.sort();
    let names = |fields: &[(&str, &str)]| -> Vec<String> {
        fields.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    let sent: Vec<(&str, &str)> = others
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(names(&shown), names(&sent));
    for ((name, shown), (_, sent)) in shown.iter().zip(&sent) {
        assert!(is_alike(shown, sent), "{name}: {sent}, not {shown}");
    }
    // Digits are any digits, what is described in brackets is the 43 letters of a MAC.
    let pattern = regex::escape(block(SIGNATURE).text.trim());
    let pattern = Regex::new("<.*>")
        .unwrap()
        .replace(&pattern, "[A-Za-z0-9_-]{43}");
    let pattern = Regex::new(r"t=\d+").unwrap().replace(&pattern, r"t=\d+");
    let pattern = Regex::new(&format!("^{pattern}$")).unwrap();
    assert!(pattern.is_match(signature[0].1), "{pattern}: {signature:?}");
}

/// The call is that of the script, which `tests/wso2_script.rs` runs.
fn registration_is_shown() {
    let script = crate::files::read("conf/wso2/register-actions.sh");
    let body = script
        .split("<<JSON\n")
        .nth(1)
        .unwrap()
        .split("JSON\n")
        .next()
        .unwrap();
    let body = body
        .replace("$headers", "\"allowedHeaders\": [\"x-risk-decision-id\"]")
        .replace("$RISKGATE", "https://riskgate.internal:9091")
        .replace("$(cat \"$SECRET_FILE\")", "the secret")
        .replace("$more", "");
    let sent: Value = serde_json::from_str(&body).unwrap();
    let (head, shown) = block(REGISTRATION).text.split_once("\n\n").unwrap();
    assert!(
        head.starts_with("POST /api/server/v1/actions/preIssueAccessToken\n"),
        "{head}"
    );
    let found = differences("", &serde_json::from_str(shown).unwrap(), &sent);
    assert!(found.is_empty(), "{found:#?}");
}

/// The answer stands in the last line of the example, as a comment.
fn poll_is_shown(place: &Place) {
    let text = &block(POLL).text;
    let shown = text.lines().last().unwrap().strip_prefix("# ").unwrap();
    let (is_well, said) = place.run_text(&text.replace("5b0e...", "another"));
    assert!(is_well, "{said}");
    let mut values = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    let sent = values.next().unwrap().unwrap();
    let found = differences("", &serde_json::from_str(shown).unwrap(), &sent);
    assert!(found.is_empty(), "{found:#?}\n{sent:#}");
}

/// The end of a line is that of the page, member by member.
fn chain_is_shown(audit: &std::path::Path) {
    let records = fs::read_to_string(audit).unwrap();
    let line = records
        .lines()
        .rfind(|line| line.contains("\"seq\"") && !line.contains("\"mark\""))
        .unwrap();
    let sent = &line[line.rfind("\"chain\":").unwrap()..];
    let shown = block(CHAIN).text.trim();
    let name = Regex::new(r#""(\w+)":"#).unwrap();
    let names = |text: &str| -> Vec<String> {
        name.captures_iter(text)
            .map(|found| found[1].to_owned())
            .collect()
    };
    assert_eq!(names(shown), names(sent));
    let json = |text: &str| -> Value { serde_json::from_str(&format!("{{{text}")).unwrap() };
    let found = differences("", &json(shown), &json(sent));
    assert!(found.is_empty(), "{found:#?}\n{sent}");
}
