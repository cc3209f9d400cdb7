//! Which parameters matter, and where they may come from.

use crate::domain::route::Door;

/// Parameters that say who asks for what, in alphabetical order: one that comes twice, or in the query and in the
/// body, has no one meaning. `audience` and `resource` are not among them: they may repeat (RFC 8693, RFC 8707).
pub const SECURITY_PARAMETERS: &[&str] = &[
    "OTPCode",
    "RelayState",
    "SAMLRequest",
    "SAMLResponse",
    "SAMLart",
    "SigAlg",
    "Signature",
    "acr_values",
    "actor_token",
    "actor_token_type",
    "assertion",
    "authCodeKey",
    "auth_req_id",
    "authenticator",
    "authorization_details",
    "binding_message",
    "chkRemember",
    "claims",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_notification_token",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "commonAuthLogout",
    "consent",
    "device_code",
    "display",
    "domain",
    "dpop_jkt",
    "fidp",
    "flowId",
    "forceAuth",
    "grant_type",
    "id_token_hint",
    "idp",
    "login_hint",
    "login_hint_token",
    "max_age",
    "mlt",
    "nonce",
    "org",
    "orgId",
    "passiveAuth",
    "password",
    "prompt",
    "redirect_uri",
    "refresh_token",
    "registration",
    "relyingParty",
    "request",
    "request_uri",
    "requested_expiry",
    "requested_token_type",
    "response_mode",
    "response_type",
    "restart_flow",
    "scope",
    "sectoken",
    "sessionDataKey",
    "sessionDataKeyConsent",
    "slo",
    "spEntityID",
    "state",
    "subject_token",
    "subject_token_type",
    "switching_organization",
    "tenantDomain",
    "tocommonauth",
    "token",
    "tokenResponse",
    "token_type_hint",
    "type",
    "ui_locales",
    "user_code",
    "username",
    "usernameUserInput",
    "wa",
    "wctx",
    "wfresh",
    "wreply",
    "wresult",
    "wtrealm",
];

/// Secrets that no query may carry: queries end up in logs and histories.
pub(super) const SECRETS: [&str; 2] = ["client_secret", "password"];

/// What the token endpoint and the login form, in addition, take from bodies only.
pub(super) const CREDENTIALS: [&str; 4] =
    ["OTPCode", "tokenResponse", "username", "usernameUserInput"];

/// Values in which encoders break lines (RFC 2045, section 6.8) or that are XML.
pub(super) const MULTILINE: [&str; 3] = ["SAMLRequest", "SAMLResponse", "wresult"];

pub(super) fn is_security_parameter(name: &str) -> bool {
    SECURITY_PARAMETERS.binary_search(&name).is_ok()
}

pub(super) fn is_barred_from_query(door: Door, name: &str) -> bool {
    SECRETS.contains(&name)
        || (matches!(door, Door::Login | Door::Token) && CREDENTIALS.contains(&name))
}
