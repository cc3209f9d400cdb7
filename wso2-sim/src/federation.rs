//! SAML and WS-Federation: `/samlsso` and `/passivests` lead through the same login as OAuth, and end with a page that posts a
//! response to the service provider, or with a redirect that carries an artifact. It must not read or write messages.

use crate::app::Ctx;
use crate::authorize;
use crate::authorize::AuthorizeRequest;
use crate::authorize::Purpose;
use crate::authorize::Refusal;
use crate::authorize::ResponseMode;
use crate::grant_response;
use crate::login;
use crate::request::Params;
use crate::response::Response;
use crate::response::append_params;
use crate::saml;
use crate::saml::AuthnRequest;
use crate::saml::Status;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::Outcome;

/// The service provider of WS-Federation requests, which are not read.
const PROVIDER: &str = "demo-saml";

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
            Some(outcome) => deliver(ctx, &outcome),
            None => ctx.retry("authentication.context.null"),
        };
    }
    let message = match path {
        "/samlsso" => message(ctx, &params),
        _ => params.get("wtrealm").map(|_| AuthnRequest {
            issuer: PROVIDER.to_owned(),
            ..AuthnRequest::default()
        }),
    };
    let found = message.and_then(|message| {
        let client = ctx.client(&message.issuer)?;
        let acs = client.redirect_uris.first()?;
        // Only service providers are registered without a grant.
        client.grants.is_empty().then_some((client, acs, message))
    });
    let Some((client, acs, message)) = found else {
        return ctx.retry("authentication.error");
    };
    let request = request(&params, client, acs, message);
    let id = request.nonce.clone();
    authorize::start(ctx, client, request).unwrap_or_else(|refusal| {
        let status = match refusal {
            Refusal::Client {
                code: "login_required",
                ..
            } => Status::NoPassive,
            Refusal::Client { .. } | Refusal::Page { .. } => Status::AuthnFailed,
        };
        let relay = params.get_owned("RelayState");
        refuse(ctx, acs, id.as_deref(), relay, status)
    })
}

/// What asks for the login: a message, or the name of the service provider alone where the login begins here.
fn message(ctx: &Ctx<'_>, params: &Params) -> Option<AuthnRequest> {
    if let Some(entity) = params.get("spEntityID") {
        return Some(AuthnRequest {
            issuer: entity.to_owned(),
            ..AuthnRequest::default()
        });
    }
    AuthnRequest::read(params.get("SAMLRequest")?, ctx.request.method == "GET")
}

fn request(params: &Params, client: &Client, acs: &str, message: AuthnRequest) -> AuthorizeRequest {
    let mut prompts = Vec::new();
    prompts.extend(message.forces.then(|| "login".to_owned()));
    prompts.extend(message.is_passive.then(|| "none".to_owned()));
    AuthorizeRequest {
        purpose: Purpose::Saml,
        client_id: client.client_id.clone(),
        redirect_uri: acs.to_owned(),
        is_redirect_named: false,
        response_types: Vec::new(),
        mode: ResponseMode::FormPost,
        scopes: Vec::new(),
        state: params.get_owned("RelayState"),
        // The id of the request, which the response repeats.
        nonce: message.id,
        challenge: None,
        acr_values: (!message.contexts.is_empty()).then(|| message.contexts.join(" ")),
        max_age_s: None,
        prompts,
        wants_auth_time: false,
        params: login::page_params(params),
    }
}

/// The response for the service provider.
pub(crate) fn deliver(ctx: &Ctx<'_>, outcome: &Outcome) -> Response {
    let acs = &outcome.request.redirect_uri;
    let relay = outcome.request.state.clone();
    let client = ctx.client(&outcome.request.client_id);
    if client.is_some_and(|client| client.saml.answers_by_artifact) {
        let mut params = vec![("SAMLart".to_owned(), random_uuid())];
        params.extend(relay.map(|relay| ("RelayState".to_owned(), relay)));
        return Response::redirect(append_params(acs, &params, false));
    }
    page(acs, saml::response(ctx, outcome), relay)
}

/// A response that says no.
pub(crate) fn refuse(
    ctx: &Ctx<'_>,
    acs: &str,
    request_id: Option<&str>,
    relay: Option<String>,
    status: Status,
) -> Response {
    page(acs, saml::error(ctx, acs, request_id, status), relay)
}

fn page(acs: &str, message: String, relay: Option<String>) -> Response {
    let mut fields = vec![("SAMLResponse".to_owned(), message)];
    fields.extend(relay.map(|relay| ("RelayState".to_owned(), relay)));
    Response::html(200, grant_response::self_posting_form(acs, &fields))
}
