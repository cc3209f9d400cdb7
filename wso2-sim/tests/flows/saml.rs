//! SAML single sign-on: both bindings, what a request asks for, and what the response says.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use wso2_sim::Sim;
use wso2_sim::browser::Browser;
use wso2_sim::browser::Page;
use wso2_sim::seed;

use crate::harness::MFA;
use crate::harness::PASSWORD;
use crate::harness::browser;
use crate::harness::start;
use crate::harness::start_with;

fn request(more: &str, context: Option<&str>) -> String {
    let context = context.map_or_else(String::new, |context| {
        format!(
            "<samlp:RequestedAuthnContext><saml:AuthnContextClassRef>{context}</saml:AuthnContextClassRef>\
             </samlp:RequestedAuthnContext>"
        )
    });
    format!(
        "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_r1\" Version=\"2.0\"{more}>\
         <saml:Issuer>demo-saml</saml:Issuer>{context}</samlp:AuthnRequest>"
    )
}

fn in_query(sim: &Sim, xml: &str) -> String {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(xml.as_bytes()).unwrap();
    let value = STANDARD.encode(encoder.finish().unwrap());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("SAMLRequest", &value)
        .append_pair("RelayState", "r-1")
        .finish();
    format!("{}/samlsso?{query}", sim.url)
}

/// The XML of the response in a page.
fn answered(page: &Page) -> String {
    let (_, rest) = page
        .body
        .split_once("name=\"SAMLResponse\" value=\"")
        .unwrap_or_else(|| panic!("no response: {} {}", page.url, page.body));
    let (value, _) = rest.split_once('"').unwrap();
    String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()
}

async fn log_in(browser: &mut Browser, sim: &Sim, page: Page) -> Page {
    let key = page.location_param("sessionDataKey").unwrap();
    let fields = [
        ("sessionDataKey", key.as_str()),
        ("username", "alice"),
        ("password", "wonderland"),
    ];
    let answer = browser
        .post_form(&format!("{}/commonauth", sim.url), &fields)
        .await
        .unwrap();
    let mut answer = browser
        .follow(answer, "https://app.example.com")
        .await
        .unwrap();
    if answer.url.path().ends_with("totp.do") {
        let code = wso2_sim::totp_at(seed::ALICE_TOTP_SECRET, sim.now_s());
        let fields = [("sessionDataKey", key.as_str()), ("token", code.as_str())];
        let next = browser
            .post_form(&format!("{}/commonauth", sim.url), &fields)
            .await
            .unwrap();
        answer = browser
            .follow(next, "https://app.example.com")
            .await
            .unwrap();
    }
    answer
}

#[tokio::test]
async fn either_binding_is_read_and_the_context_is_followed() {
    let sim = start().await;
    for (context, reached) in [(None, PASSWORD), (Some(MFA), MFA)] {
        let xml = request("", context);
        let mut browser = browser(&sim);
        let first = browser.get(&in_query(&sim, &xml)).await.unwrap();
        assert_eq!(first.location_param("type").as_deref(), Some("samlsso"));
        assert_eq!(first.location_param("SAMLRequest"), None);
        let page = log_in(&mut browser, &sim, first).await;
        let response = answered(&page);
        let class = format!("<saml:AuthnContextClassRef>{reached}</saml:AuthnContextClassRef>");
        assert!(response.contains(&class), "{response}");
        assert!(response.contains("InResponseTo=\"_r1\"") && response.contains(">alice<"));
        assert!(page.body.contains("name=\"RelayState\" value=\"r-1\""));

        // The session answers the next request at once, here by POST.
        let url = format!("{}/samlsso", sim.url);
        let value = STANDARD.encode(&xml);
        let again = browser
            .post_form(&url, &[("SAMLRequest", value.as_str())])
            .await
            .unwrap();
        assert!(answered(&again).contains(&class));
    }
}

#[tokio::test]
async fn force_and_passive_are_followed() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let passive = in_query(&sim, &request(" IsPassive=\"true\"", None));
    let page = browser.get(&passive).await.unwrap();
    let response = answered(&page);
    assert!(response.contains("status:NoPassive") && !response.contains("<saml:Assertion"));
    let plain = in_query(&sim, &request("", None));
    let first = browser.get(&plain).await.unwrap();
    log_in(&mut browser, &sim, first).await;
    assert!(answered(&browser.get(&passive).await.unwrap()).contains("<saml:Assertion"));
    let forced = in_query(&sim, &request(" ForceAuthn=\"true\"", None));
    let page = browser.get(&forced).await.unwrap();
    assert_eq!(page.location_param("forceAuth").as_deref(), Some("true"));
    for unknown in ["x", ""] {
        let url = format!("{}/samlsso?SAMLRequest={unknown}", sim.url);
        let page = browser.get(&url).await.unwrap();
        assert!(page.location().unwrap().path().ends_with("/retry.do"));
    }
}

#[tokio::test]
async fn a_login_in_place_is_answered_at_once() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&in_query(&sim, &request("", None)))
        .await
        .unwrap();
    let form = browser
        .get(first.location().unwrap().as_str())
        .await
        .unwrap();
    assert!(form.body.contains("action=\"../samlsso\""), "{}", form.body);
    let key = first.location_param("sessionDataKey").unwrap();
    let fields = [
        ("sessionDataKey", key.as_str()),
        ("username", "alice"),
        ("password", "wonderland"),
        ("tocommonauth", "true"),
    ];
    let page = browser
        .post_form(&format!("{}/samlsso", sim.url), &fields)
        .await
        .unwrap();
    assert!(answered(&page).contains(PASSWORD));
    assert!(browser.cookie("commonAuthId").is_some());
}

#[tokio::test]
async fn a_service_provider_may_want_an_artifact_or_encryption() {
    let sim = start_with(|config| {
        for client in &mut config.clients {
            client.saml.answers_by_artifact = client.realm == seed::SUPER_TENANT;
            client.saml.encrypts = true;
        }
    })
    .await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&in_query(&sim, &request("", None)))
        .await
        .unwrap();
    let answer = log_in(&mut browser, &sim, first).await;
    assert!(answer.location_param("SAMLart").is_some(), "{answer:?}");
}
