//! OAuth error answers (RFC 6749 section 5.2) with WSO2's choice of statuses: 401 for `invalid_client`, 500 for its own
//! failures, 400 for everything else.

use serde_json::json;

use crate::app::Ctx;
use crate::response::Response;

/// An error of the token endpoint and its neighbours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OAuthError {
    pub(crate) code: String,
    pub(crate) description: String,
}

impl OAuthError {
    pub(crate) fn new(code: &str, description: &str) -> Self {
        Self {
            code: code.to_owned(),
            description: description.to_owned(),
        }
    }

    pub(crate) fn invalid_client(description: &str) -> Self {
        Self::new("invalid_client", description)
    }

    pub(crate) fn invalid_grant(description: &str) -> Self {
        Self::new("invalid_grant", description)
    }

    pub(crate) fn invalid_request(description: &str) -> Self {
        Self::new("invalid_request", description)
    }

    pub(crate) fn server_error() -> Self {
        Self::new("server_error", "Internal Server Error.")
    }

    pub(crate) fn response(&self, ctx: &Ctx<'_>) -> Response {
        let status = match self.code.as_str() {
            "invalid_client" => 401,
            "server_error" => 500,
            _ => 400,
        };
        let body = json!({"error": self.code, "error_description": self.description});
        let response = Response::token_json(status, &body);
        if status == 401 {
            return response.with_header("WWW-Authenticate", format!("Basic realm={}", host(ctx)));
        }
        response
    }
}

/// The host of the public URL, which WSO2 names as the realm.
fn host(ctx: &Ctx<'_>) -> String {
    let url = ctx.app.public_url();
    let authority = url.split("//").nth(1).unwrap_or_default();
    authority
        .split([':', '/'])
        .next()
        .unwrap_or_default()
        .to_owned()
}
