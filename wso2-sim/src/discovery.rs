//! Published documents: keys and provider configuration. Self URLs come from the public URL, never from the `Host` header.

use serde_json::json;

use crate::app::Ctx;
use crate::response::Response;

/// GET `/oauth2/jwks`.
pub(crate) fn jwks(ctx: &Ctx<'_>) -> Response {
    if ctx.app.flaws().hides_keys {
        return Response::empty(503);
    }
    Response::json(200, ctx.app.keys().jwks())
}

/// GET the provider configuration (OpenID Connect Discovery section 4, RFC 8414).
pub(crate) fn configuration(ctx: &Ctx<'_>) -> Response {
    let methods = json!([
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
        "tls_client_auth",
        "none"
    ]);
    Response::json(
        200,
        &json!({
            "issuer": ctx.issuer(),
            "authorization_endpoint": ctx.url("/oauth2/authorize"),
            "token_endpoint": ctx.url("/oauth2/token"),
            "userinfo_endpoint": ctx.url("/oauth2/userinfo"),
            "jwks_uri": ctx.url("/oauth2/jwks"),
            "introspection_endpoint": ctx.url("/oauth2/introspect"),
            "revocation_endpoint": ctx.url("/oauth2/revoke"),
            "pushed_authorization_request_endpoint": ctx.url("/oauth2/par"),
            "backchannel_authentication_endpoint": ctx.url("/oauth2/ciba"),
            "device_authorization_endpoint": ctx.url("/oauth2/device_authorize"),
            "end_session_endpoint": ctx.url("/oidc/logout"),
            "check_session_iframe": ctx.url("/oidc/checksession"),
            "registration_endpoint": ctx.url("/api/identity/oauth2/dcr/v1.1/register"),
            "response_types_supported": ["code", "id_token", "token", "code id_token", "code token",
                "id_token token", "code id_token token"],
            "response_modes_supported": ["query", "fragment", "form_post", "direct"],
            "grant_types_supported": ["authorization_code", "refresh_token", "password", "client_credentials",
                "urn:ietf:params:oauth:grant-type:device_code",
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "urn:ietf:params:oauth:grant-type:token-exchange"],
            "subject_types_supported": ["public", "pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "userinfo_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256", "plain"],
            "scopes_supported": ["openid", "profile", "email", "address", "phone", "offline_access"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash",
                "s_hash", "acr", "amr", "auth_time", "azp", "sid", "username", "email", "given_name"],
            "claims_parameter_supported": true,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": true,
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
            "require_pushed_authorization_requests": false,
            "tls_client_certificate_bound_access_tokens": true,
            "authorization_response_iss_parameter_supported": false,
        }),
    )
}
