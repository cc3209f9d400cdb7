//! SAML single sign-on: a demand is written into the request, and the response reaches the service provider with a
//! sufficient context or not at all.

use crate::gateway::Answer;
use crate::gateway::FAR;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::deaf;
use crate::gateway::form;
use crate::gateway::param;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use reqwest::Method;
use riskgate::domain::audit::AuditEvent;
use std::io::Read as _;
use std::io::Write as _;
use wso2_sim::RecordedRequest;
use wso2_sim::SamlProfile;
use wso2_sim::SimConfig;

const AT_SAML: &str = "request.door == \"saml\" && client.id == \"demo-saml\"";
pub(crate) const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";
/// Nobody owes anything.
pub(crate) const NOBODY: &str = "user.name == \"nobody\"";
/// What a service provider gets back unchanged, whatever is in it.
const RELAY: &str = "r 1&%2f+<>\"'";

fn with_profile(mut sim: SimConfig, profile: SamlProfile) -> SimConfig {
    for client in &mut sim.clients {
        client.saml = profile;
    }
    sim
}

pub(crate) fn request(more: &str, children: &str) -> String {
    format!(
        "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_r1\" Version=\"2.0\"{more}>\
         <saml:Issuer>demo-saml</saml:Issuer>{children}</samlp:AuthnRequest>"
    )
}

pub(crate) fn deflated(xml: &str) -> String {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(xml.as_bytes()).unwrap();
    STANDARD.encode(encoder.finish().unwrap())
}

pub(crate) fn in_query(xml: &str) -> String {
    format!(
        "/samlsso?{}",
        form(&[("SAMLRequest", &deflated(xml)), ("RelayState", RELAY)])
    )
}

/// The fields of the request that the identity server received, and its message.
fn received(request: &RecordedRequest) -> (Vec<(String, String)>, String) {
    let text = match request.method.as_str() {
        "POST" => request.body_text(),
        _ => request.target.split_once('?').unwrap().1.to_owned(),
    };
    let fields: Vec<_> = form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect();
    let value = &fields
        .iter()
        .find(|(name, _)| name == "SAMLRequest")
        .unwrap()
        .1;
    let bytes = STANDARD.decode(value).unwrap();
    let mut xml = String::new();
    if request.method == "POST" {
        xml = String::from_utf8(bytes).unwrap();
    } else {
        DeflateDecoder::new(bytes.as_slice())
            .read_to_string(&mut xml)
            .unwrap();
    }
    (fields, xml)
}

/// The response that a page hands to the service provider.
fn response(answer: &Answer) -> Option<String> {
    let (_, rest) = answer.body.split_once("name=\"SAMLResponse\" value=\"")?;
    let (value, _) = rest.split_once('"')?;
    Some(String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
}

pub(crate) fn reached(answer: &Answer, context: &str) {
    let response = response(answer).unwrap_or_else(|| panic!("no response: {answer:?}"));
    assert!(
        response.contains(&format!(">{context}</saml:AuthnContextClassRef>")),
        "{response}"
    );
    assert!(
        answer
            .body
            .contains("name=\"RelayState\" value=\"r 1&amp;%2f+&lt;&gt;"),
        "{answer:?}"
    );
}

/// A page of our own that says what to do, and nothing of the identity server's answer.
pub(crate) fn withheld(answer: &Answer, record: &AuditEvent, proof: &str) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(
        answer.body.contains("second proof that it is you"),
        "{answer:?}"
    );
    for secret in ["SAMLResponse", "SAMLart", "Assertion"] {
        assert!(!answer.body.contains(secret), "{answer:?}");
    }
    assert!(answer.header("location").is_none());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(
        (
            record.proof.as_deref(),
            &*record.action,
            &*record.outcome,
            record.response_status
        ),
        (Some(proof), "step_up_by_authorization", "refused_here", 403),
        "{record:#?}"
    );
}

/// Goes on from a login page, with the second factor where it is asked for, to the last answer.
pub(crate) async fn through_login(person: &mut Person<'_>, page: &Answer) -> Answer {
    assert!(page.is_page("login.do"), "no login page: {page:?}");
    let answer = person.submit_password(page).await;
    let mut answer = to_page(person, answer).await;
    if answer.is_page("totp.do") {
        answer = person.submit_code(&answer).await;
        answer = to_page(person, answer).await;
    }
    answer
}

/// Follows redirects within the gateway.
async fn to_page(person: &mut Person<'_>, mut answer: Answer) -> Answer {
    while let Some(location) = answer
        .location()
        .filter(|location| location.host_str() == answer.url.host_str())
    {
        answer = person.get(location.as_str()).await;
    }
    answer
}

pub(crate) async fn open(person: &mut Person<'_>, path: &str) -> Answer {
    let answer = person.get(path).await;
    to_page(person, answer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_owed_nothing_is_changed() {
    let world = stepped_up(NOBODY, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let path = in_query(&request(" ForceAuthn = 'false'", "<!-- kept -->"));
    let mark = world.mark().await;
    let page = open(&mut alice, &path).await;
    assert_eq!(world.received_since(mark)[0].target, path);
    let record = &world.records_since(mark).await[0];
    assert_eq!(
        (
            record.door.as_deref(),
            record.client_id.as_deref(),
            &*record.action
        ),
        (Some("saml"), Some("demo-saml"), "forwarded")
    );
    let answer = through_login(&mut alice, &page).await;
    reached(&answer, "urn:riskgate:acr:pwd");
    assert_eq!(world.last_record().await.proof, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_is_sent_round_with_the_context_in_the_request() {
    let world = stepped_up(AT_SAML, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let mark = world.mark().await;
    let first = alice.get(&in_query(&request("", "<samlp:Scoping/>"))).await;
    let record = world.record_since(mark).await;
    assert_eq!(
        (first.status, &*record.action, record.demand.as_deref()),
        (302, "redirected", Some("raised"))
    );
    assert!(world.received_since(mark).is_empty());
    let location = first.location().unwrap();
    assert!(first.header("location").unwrap().starts_with("/samlsso?"));
    let mark = world.mark().await;
    let page = open(&mut alice, location.as_str()).await;
    let (fields, xml) = received(&world.received_since(mark)[0]);
    assert!(fields.contains(&("RelayState".to_owned(), RELAY.to_owned())));
    assert_eq!(fields.len(), 2);
    assert!(
        xml.contains(&format!(">{MFA}<")) && xml.contains("Comparison=\"exact\""),
        "{xml}"
    );
    assert!(!xml.contains("ForceAuthn"), "there is no session: {xml}");
    let answer = through_login(&mut alice, &page).await;
    reached(&answer, MFA);
    let record = world.last_record().await;
    assert_eq!(
        (
            record.door.as_deref(),
            record.proof.as_deref(),
            &*record.action
        ),
        (Some("saml"), Some("proven"), "forwarded"),
        "{record:#?}"
    );
    // Proved a moment ago in this browser: the next request is answered by the session, and still looked at.
    let answer = open(&mut alice, &in_query(&request("", ""))).await;
    reached(&answer, MFA);
    assert_eq!(world.last_record().await.proof.as_deref(), Some("proven"));
    assert!(
        world
            .metric(
                "riskgate_proofs_total",
                &[("door", "saml"), ("result", "proven")]
            )
            .await
            >= 2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_request_is_rewritten_on_its_way() {
    let world = stepped_up(AT_SAML, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let own = "<samlp:RequestedAuthnContext Comparison=\"minimum\"><saml:AuthnContextClassRef>weak\
               </saml:AuthnContextClassRef></samlp:RequestedAuthnContext>";
    let value = STANDARD.encode(request("", own));
    let mark = world.mark().await;
    let answer = alice
        .post(
            "/samlsso",
            &[("SAMLRequest", &value), ("RelayState", RELAY)],
        )
        .await;
    let (fields, xml) = received(&world.received_one_since(mark));
    assert_eq!(world.record_since(mark).await.action, "rewritten");
    assert!(fields.contains(&("RelayState".to_owned(), RELAY.to_owned())));
    let (ours, theirs) = (xml.find(MFA).unwrap(), xml.find(">weak<").unwrap());
    assert!(ours < theirs && !xml.contains("minimum"), "{xml}");
    let page = to_page(&mut alice, answer).await;
    reached(&through_login(&mut alice, &page).await, MFA);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_is_left_alone() {
    let signature = "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"/>";
    let signed = request("", signature);
    let world = stepped_up(AT_SAML, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    // Beside the message in a query; in it in a form.
    let beside = format!("{}&SigAlg=rsa&Signature=c2ln", in_query(&request("", "")));
    let mark = world.mark().await;
    let page = open(&mut alice, &beside).await;
    assert_eq!(world.received_since(mark)[0].target, beside);
    // The header tells the script.
    reached(&through_login(&mut alice, &page).await, MFA);
    let mark = world.mark().await;
    let value = STANDARD.encode(&signed);
    let answer = world
        .person("bob")
        .post(
            "/samlsso",
            &[("SAMLRequest", &value), ("RelayState", RELAY)],
        )
        .await;
    assert_eq!(answer.status, 302);
    assert_eq!(received(&world.received_one_since(mark)).1, signed);

    let world = stepped_up(
        AT_SAML,
        SimConfig::default(),
        "[step_up]\nfixed_requests = \"refuse\"",
    )
    .await;
    let mark = world.mark().await;
    let answer = world.person("alice").get(&beside).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("does not allow for it"), "{answer:?}");
    assert_eq!(world.record_since(mark).await.action, "step_up_hidden");
    assert!(world.received_since(mark).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_to_be_proved_anew() {
    let world = stepped_up(AT_SAML, SimConfig::default(), "").await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    alice.sign_in().await;
    let mark = world.mark().await;
    let page = open(&mut alice, &in_query(&request(" ForceAuthn=\"false\"", ""))).await;
    let requests = world.received_since(mark);
    let (_, xml) = received(
        requests
            .iter()
            .find(|seen| seen.path() == "/samlsso")
            .unwrap(),
    );
    assert!(xml.contains("ForceAuthn=\"true\""), "{xml}");
    reached(&through_login(&mut alice, &page).await, MFA);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_the_context_is_withheld() {
    for style in ["redirect", "rewrite", "header"] {
        let config = format!("[step_up]\nstyle = \"{style}\"");
        let world = stepped_up(AT_SAML, deaf(), Box::leak(config.into_boxed_str())).await;
        let mut alice = world.person("alice");
        for _ in 0..2 {
            let page = open(&mut alice, &in_query(&request("", ""))).await;
            let answer = if page.is_page("login.do") {
                through_login(&mut alice, &page).await
            } else {
                page
            };
            withheld(&answer, &world.last_record().await, "acr");
        }
        // Asking once more would go round in circles.
        let answer = open(&mut alice, &in_query(&request("", ""))).await;
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("wait five minutes"), "{answer:?}");
        assert_eq!(world.last_record().await.action, "step_up_looped");
        // Somebody else at another place is not concerned.
        let mut bob = world.person("bob").from(FAR).in_app("demo-opaque");
        bob.sign_in().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_application_does_not_slip_through() {
    let world = stepped_up(AT_SAML, deaf(), "[step_up]\nstyle = \"header\"").await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    alice.sign_in().await;
    for more in ["", " IsPassive=\"true\""] {
        let answer = open(&mut alice, &in_query(&request(more, ""))).await;
        withheld(&answer, &world.last_record().await, "acr");
    }
    // An error hands nothing over and passes.
    let mut bob = world.person("bob");
    let answer = open(&mut bob, &in_query(&request(" IsPassive=\"true\"", ""))).await;
    assert!(response(&answer).unwrap().contains("NoPassive"));
    assert_eq!(world.last_record().await.proof, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_here_passes_only_where_nothing_is_owed() {
    for (profile, proof) in [
        (
            SamlProfile {
                answers_by_artifact: true,
                ..SamlProfile::default()
            },
            "artifact",
        ),
        (
            SamlProfile {
                encrypts: true,
                ..SamlProfile::default()
            },
            "encrypted",
        ),
    ] {
        let sim = with_profile(SimConfig::default(), profile);
        let world = stepped_up(AT_SAML, sim.clone(), "").await;
        let mut alice = world.person("alice");
        let page = open(&mut alice, &in_query(&request("", ""))).await;
        let answer = through_login(&mut alice, &page).await;
        withheld(&answer, &world.last_record().await, proof);

        let world = stepped_up(NOBODY, sim, "").await;
        let mut alice = world.person("alice");
        let page = open(&mut alice, &in_query(&request("", ""))).await;
        let answer = through_login(&mut alice, &page).await;
        let handed = answer
            .location()
            .and_then(|location| param(&location, "SAMLart"));
        assert!(
            handed.is_some() || answer.body.contains("name=\"SAMLResponse\""),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_moment_of_the_answer_proves_no_moment_of_authentication() {
    for (instant_is_of_the_answer, proof) in [(true, "stale"), (false, "proven")] {
        let profile = SamlProfile {
            instant_is_of_the_answer,
            ..SamlProfile::default()
        };
        let sim = with_profile(SimConfig::default(), profile);
        let world = stepped_up(AT_SAML, sim, "[step_up]\nstyle = \"header\"").await;
        let mut alice = world.person("alice").in_app("demo-mfa");
        alice.sign_in().await;
        // The cookie of a session with both factors, in another hand: the context is good, and only the session's age
        // could say that it is fresh.
        let mut thief = alice.clone().from(FAR);
        let answer = open(&mut thief, &in_query(&request("", ""))).await;
        let record = world.last_record().await;
        if proof == "stale" {
            withheld(&answer, &record, proof);
        } else {
            assert_eq!(record.proof.as_deref(), Some(proof), "{record:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_prove_by_something_else_only() {
    let config = "[[step_up.applications]]\nclient_id = \"demo-saml\"\nproof = \"id_token\"\n\
                  [[step_up.applications]]\nclient_id = \"demo-web\"\nproof = \"saml\"";
    let rule =
        "client.id in [\"demo-saml\", \"demo-web\"] && request.door in [\"saml\", \"authorize\"]";
    let world = stepped_up(rule, SimConfig::default(), config).await;
    let mut alice = world.person("alice");
    let page = open(&mut alice, &in_query(&request("", ""))).await;
    let answer = through_login(&mut alice, &page).await;
    withheld(&answer, &world.last_record().await, "other_proof");
    let mut bob = world.person("bob");
    let code = bob.sign_in().await;
    assert_eq!(bob.redeem(&code).await.status, 400);
    let record = world.last_record().await;
    assert_eq!(record.proof.as_deref(), Some("other_proof"), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_gets_no_further() {
    let world = stepped_up(NOBODY, SimConfig::default(), "").await;
    let entity =
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>".to_owned() + &request("", "&x;");
    let lol: String = (1..9)
        .map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10)))
        .collect();
    let bomb = format!("<!DOCTYPE l [<!ENTITY l0 \"lol\">{lol}]><l>&l8;</l>");
    let mut spaces = DeflateEncoder::new(Vec::new(), Compression::best());
    // Two megabytes in two or three kilobytes.
    spaces.write_all(&vec![b' '; 2_000_000]).unwrap();
    let spaces = STANDARD.encode(spaces.finish().unwrap());
    assert!(spaces.len() < 4_096);
    let split = request("", "").replace("demo-saml", "demo-<!-- -->saml");
    let mark = world.mark().await;
    let mut sent = 0;
    for xml in [
        entity.as_str(),
        &bomb,
        &split,
        &request("", &"<a>".repeat(2_000)),
        &request("", "<saml:Issuer>b</saml:Issuer>"),
        "<AuthnRequest",
        "",
    ] {
        for (method, value) in [
            (Method::GET, deflated(xml)),
            (Method::POST, STANDARD.encode(xml)),
        ] {
            if value.is_empty() {
                continue;
            }
            let fields = form(&[("SAMLRequest", &value), ("RelayState", RELAY)]);
            let request = if method == Method::GET {
                world.request(method, &format!("/samlsso?{fields}"))
            } else {
                world
                    .request(method, "/samlsso")
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(fields)
            };
            let answer = world.send(request).await;
            assert_eq!(answer.status, 400, "{xml}: {answer:?}");
            assert!(
                answer.body.contains("The request could not be read"),
                "{answer:?}"
            );
            sent += 1;
        }
    }
    for value in ["%%%", "AAAA", &spaces, &STANDARD.encode(request("", ""))] {
        let fields = form(&[("SAMLRequest", value)]);
        let answer = world.get(&format!("/samlsso?{fields}")).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        sent += 1;
    }
    let both = format!("{}&spEntityID=other", in_query(&request("", "")));
    assert_eq!(world.get(&both).await.status, 400);
    let records = world.records_since(mark).await;
    assert_eq!(records.len(), sent + 1);
    for record in records {
        assert_eq!(record.error.as_deref(), Some("saml_message"), "{record:#?}");
    }
    assert!(world.received_since(mark).is_empty());
    // It lives on.
    let mut alice = world.person("alice");
    let page = open(&mut alice, &in_query(&request("", ""))).await;
    assert!(page.is_page("login.do"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_is_the_application_and_a_parameter_is_not() {
    let world = World::start(Options {
        mode: "monitor",
        policy: Some(rules(&[("true", "block")])),
        config: "[[mode.overrides]]\napplication = \"demo-saml\"\nmode = \"enforce\"",
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    for issuer in ["demo-saml", " demo-saml ", "demo-saml@carbon.super"] {
        let xml = request("", "").replace("demo-saml", issuer);
        let path = format!("{}&client_id=other", in_query(&xml));
        assert_eq!(alice.get(&path).await.status, 403, "{issuer}");
        let record = world.last_record().await;
        assert_eq!(
            (record.client_id.as_deref(), record.mode.as_deref()),
            (Some("demo-saml"), Some("enforce"))
        );
    }
    // Begun at the identity server.
    assert_eq!(alice.get("/samlsso?spEntityID=demo-saml").await.status, 403);
    // Another one is only watched, also where a login names the first.
    let xml = request("", "").replace("demo-saml", "other");
    assert_eq!(alice.get(&in_query(&xml)).await.status, 302);
}
