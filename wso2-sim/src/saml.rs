//! The messages of SAML single sign-on: requests are read, responses written. Nothing is signed and no signature is checked:
//! what stands in front of the server must leave a signed request alone whether it is good or not.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::DeflateDecoder;
use roxmltree::Document;
use roxmltree::Node;

use crate::app::Ctx;
use crate::response::escape_html;
use crate::seed::random_uuid;
use crate::store::Outcome;

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// The longest message, inflated.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024;
/// How long an assertion can be used.
const VALIDITY_MS: i64 = 5 * 60 * 1000;
/// AuthnContext of a login without a script's choice.
const PASSWORD_CONTEXT: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:Password";

/// What an `AuthnRequest` asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthnRequest {
    pub(crate) id: Option<String>,
    pub(crate) issuer: String,
    pub(crate) contexts: Vec<String>,
    pub(crate) forces: bool,
    pub(crate) is_passive: bool,
}

/// How a response ends without an assertion.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status {
    AuthnFailed,
    NoPassive,
}

impl AuthnRequest {
    /// A message from a query (deflated) or a form; `None` when it is none.
    pub(crate) fn read(value: &str, is_deflated: bool) -> Option<Self> {
        let bytes = STANDARD
            .decode(value.split_ascii_whitespace().collect::<String>())
            .ok()?;
        let mut xml = String::new();
        if is_deflated {
            DeflateDecoder::new(bytes.as_slice())
                .take(MESSAGE_BYTES_MAX)
                .read_to_string(&mut xml)
                .ok()?;
        } else {
            xml = String::from_utf8(bytes).ok()?;
        }
        let document = Document::parse(&xml).ok()?;
        let root = document.root_element();
        if !is(root, PROTOCOL, "AuthnRequest") {
            return None;
        }
        let text = |node: Node<'_, '_>| node.text().unwrap_or_default().trim().to_owned();
        let issuer = root
            .children()
            .find(|node| is(*node, ASSERTION, "Issuer"))?;
        let issuer = text(issuer);
        let flag = |name| matches!(root.attribute(name), Some("true" | "1"));
        Some(Self {
            id: root.attribute("ID").map(str::to_owned),
            // A tenant may be appended.
            issuer: issuer
                .rsplit_once('@')
                .map_or(issuer.clone(), |(name, _)| name.to_owned()),
            contexts: root
                .children()
                .filter(|node| is(*node, PROTOCOL, "RequestedAuthnContext"))
                .flat_map(|requested| requested.children())
                .filter(|node| is(*node, ASSERTION, "AuthnContextClassRef"))
                .map(text)
                .collect(),
            forces: flag("ForceAuthn"),
            is_passive: flag("IsPassive"),
        })
    }
}

fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element()
        && node.tag_name().namespace() == Some(namespace)
        && node.tag_name().name() == name
}

/// The response to a login, in Base64.
pub(crate) fn response(ctx: &Ctx<'_>, outcome: &Outcome) -> String {
    let profile = ctx
        .client(&outcome.request.client_id)
        .map(|client| client.saml)
        .unwrap_or_default();
    let request_id = outcome.request.nonce.as_deref();
    let content = if profile.encrypts {
        // The form of one; nobody has a key for it.
        format!(
            "<saml:EncryptedAssertion><xenc:EncryptedData xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\">\
             <xenc:CipherData><xenc:CipherValue>{}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>\
             </saml:EncryptedAssertion>",
            STANDARD.encode(random_uuid())
        )
    } else {
        assertion(ctx, outcome, request_id, profile.instant_is_of_the_answer)
    };
    let acs = &outcome.request.redirect_uri;
    envelope(ctx, acs, request_id, "Success", None, &content)
}

/// A response without an assertion, in Base64.
pub(crate) fn error(ctx: &Ctx<'_>, acs: &str, request_id: Option<&str>, status: Status) -> String {
    let inner = match status {
        Status::AuthnFailed => "AuthnFailed",
        Status::NoPassive => "NoPassive",
    };
    envelope(ctx, acs, request_id, "Responder", Some(inner), "")
}

fn envelope(
    ctx: &Ctx<'_>,
    acs: &str,
    request_id: Option<&str>,
    status: &str,
    inner: Option<&str>,
    content: &str,
) -> String {
    let code = |name: &str, within: &str| {
        format!(
            "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:{name}\">{within}</samlp:StatusCode>"
        )
    };
    let inner = inner.map_or_else(String::new, |inner| code(inner, ""));
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><samlp:Response xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" \
         Destination=\"{acs}\" ID=\"_{id}\"{in_response} IssueInstant=\"{now}\" Version=\"2.0\">\
         <saml:Issuer>{issuer}</saml:Issuer><samlp:Status>{status}</samlp:Status>{content}</samlp:Response>",
        id = random_uuid(),
        acs = escape_html(acs),
        in_response = in_response(request_id),
        now = date_time(ctx.now_ms),
        issuer = escape_html(&ctx.app.public_url()),
        status = code(status, &inner),
    );
    STANDARD.encode(xml)
}

fn assertion(
    ctx: &Ctx<'_>,
    outcome: &Outcome,
    request_id: Option<&str>,
    instant_is_of_the_answer: bool,
) -> String {
    let acs = &outcome.request.redirect_uri;
    let context = outcome.acr.as_deref().unwrap_or(PASSWORD_CONTEXT);
    // Present versions write when the session began, earlier ones when the assertion was made.
    let began_ms = ctx
        .app
        .store()
        .sessions
        .get(&outcome.session_key)
        .filter(|_| !instant_is_of_the_answer)
        .map_or(ctx.now_ms, |session| session.login_ms);
    let until = date_time(ctx.now_ms.saturating_add(VALIDITY_MS));
    let now = date_time(ctx.now_ms);
    format!(
        "<saml:Assertion ID=\"_{id}\" IssueInstant=\"{now}\" Version=\"2.0\"><saml:Issuer>{issuer}</saml:Issuer>\
         <saml:Subject><saml:NameID Format=\"urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress\">{name}</saml:NameID>\
         <saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData\
         {in_response} NotOnOrAfter=\"{until}\" Recipient=\"{acs}\"/></saml:SubjectConfirmation></saml:Subject>\
         <saml:Conditions NotBefore=\"{now}\" NotOnOrAfter=\"{until}\"><saml:AudienceRestriction><saml:Audience>{audience}\
         </saml:Audience></saml:AudienceRestriction></saml:Conditions>\
         <saml:AuthnStatement AuthnInstant=\"{at}\" SessionIndex=\"{session}\"><saml:AuthnContext>\
         <saml:AuthnContextClassRef>{context}</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>\
         </saml:Assertion>",
        id = random_uuid(),
        issuer = escape_html(&ctx.app.public_url()),
        name = escape_html(&outcome.user.username),
        in_response = in_response(request_id),
        acs = escape_html(acs),
        audience = escape_html(&outcome.request.client_id),
        at = date_time(began_ms),
        session = random_uuid(),
        context = escape_html(context),
    )
}

fn in_response(request_id: Option<&str>) -> String {
    request_id.map_or_else(String::new, |id| {
        format!(" InResponseTo=\"{}\"", escape_html(id))
    })
}

/// An `xs:dateTime` in UTC, to the millisecond.
fn date_time(millis: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    format!("{moment:.3}")
}
