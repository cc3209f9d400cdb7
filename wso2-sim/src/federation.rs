//! A stand-in for SAML and WS-Federation: `/samlsso` and `/passivests` lead through the same login, and end with a page that posts
//! an unsigned response to the service provider. It shows a gateway the hops and the AuthnContext, nothing more.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::Ctx;
use crate::authorize;
use crate::authorize::AuthorizeRequest;
use crate::authorize::Purpose;
use crate::authorize::ResponseMode;
use crate::grant_response;
use crate::login;
use crate::request::Params;
use crate::response::Response;
use crate::response::escape_html;
use crate::seed::random_uuid;
use crate::store::Outcome;

/// The one service provider.
const PROVIDER: &str = "demo-saml";
/// AuthnContext of a login without a script's choice.
const PASSWORD_CONTEXT: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport";

/// GET and POST `/samlsso`, `/passivests`.
pub(crate) fn answer(ctx: &Ctx<'_>, path: &str) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    if let Some(key) = params.get("sessionDataKey") {
        let outcome = ctx.app.store().outcomes.remove(key);
        return match outcome.filter(|found| {
            found.request.purpose == Purpose::Saml
                && found.realm == ctx.realm.key
                && found.expires_ms > ctx.now_ms
        }) {
            Some(outcome) => assertion_page(ctx, &outcome),
            None => ctx.retry("authentication.context.null"),
        };
    }
    let has_request = match path {
        "/samlsso" => params.get("SAMLRequest").is_some(),
        _ => params.get("wtrealm").is_some(),
    };
    let client = ctx.client(PROVIDER).filter(|_| has_request);
    let Some((client, acs)) =
        client.and_then(|client| Some((client, client.redirect_uris.first()?)))
    else {
        return ctx.retry("authentication.error");
    };
    let request = AuthorizeRequest {
        purpose: Purpose::Saml,
        client_id: PROVIDER.to_owned(),
        redirect_uri: acs.clone(),
        is_redirect_named: false,
        response_types: Vec::new(),
        mode: ResponseMode::FormPost,
        scopes: Vec::new(),
        state: params.get_owned("RelayState"),
        nonce: None,
        challenge: None,
        acr_values: requested_context(ctx, &params),
        max_age_s: None,
        prompts: Vec::new(),
        wants_auth_time: false,
        params: login::page_params(&params),
    };
    authorize::start(ctx, client, request).unwrap_or_else(|refusal| authorize::refuse(ctx, refusal))
}

/// The strong AuthnContext, where a request in the POST binding (Base64, not deflated) names it.
fn requested_context(ctx: &Ctx<'_>, params: &Params) -> Option<String> {
    let strong = &ctx.app.config.script.acr_mfa;
    let xml = STANDARD.decode(params.get("SAMLRequest")?).ok()?;
    let xml = String::from_utf8(xml).ok()?;
    xml.contains(strong.as_str()).then(|| strong.clone())
}

/// The page that posts the response to the service provider.
pub(crate) fn assertion_page(ctx: &Ctx<'_>, outcome: &Outcome) -> Response {
    let context = outcome.acr.as_deref().unwrap_or(PASSWORD_CONTEXT);
    let xml = format!(
        "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_{id}\" Version=\"2.0\" Destination=\"{acs}\">\
         <saml:Issuer>{issuer}</saml:Issuer><saml:Assertion ID=\"_{assertion}\" Version=\"2.0\">\
         <saml:Subject><saml:NameID>{name}</saml:NameID></saml:Subject>\
         <saml:AuthnStatement AuthnInstant=\"{at}\"><saml:AuthnContext><saml:AuthnContextClassRef>{context}\
         </saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement></saml:Assertion></samlp:Response>",
        id = random_uuid(),
        assertion = random_uuid(),
        acs = escape_html(&outcome.request.redirect_uri),
        issuer = escape_html(&ctx.app.public_url()),
        name = escape_html(&outcome.user.username),
        at = outcome.auth_time_s,
        context = escape_html(context),
    );
    let mut fields = vec![("SAMLResponse".to_owned(), STANDARD.encode(xml))];
    let relay = outcome.request.state.clone();
    fields.extend(relay.map(|relay| ("RelayState".to_owned(), relay)));
    Response::html(
        200,
        grant_response::self_posting_form(&outcome.request.redirect_uri, &fields),
    )
}
