//! Takes back tokens and sessions. What is sent is what the client itself has sent, or a credential of the gateway's own;
//! neither is kept or logged.

use crate::adapters::identity_server::IdentityServer;
use crate::flow::ports::ClientAuth;
use crate::flow::ports::IssuedToken;
use crate::flow::ports::RevokeError;
use crate::flow::ports::Revoker;
use async_trait::async_trait;
use http::StatusCode;
use http::header;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use serde::Deserialize;

/// The scope that ends sessions.
const SESSION_DELETE: &str = "internal_session_delete";
/// The longest answer of the token endpoint that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The longest id of a user.
const ID_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

#[async_trait]
impl Revoker for IdentityServer {
    async fn revoke(
        &self,
        realm: &str,
        token: &IssuedToken,
        client: &ClientAuth,
    ) -> Result<(), RevokeError> {
        let hint = if token.is_refresh {
            "refresh_token"
        } else {
            "access_token"
        };
        let mut fields = vec![
            ("token", token.value.expose().as_str()),
            ("token_type_hint", hint),
        ];
        let mut request = self.request(Method::POST, realm, "/oauth2/revoke");
        match client {
            ClientAuth::Basic(value) => {
                request = request.header(header::AUTHORIZATION, value.expose());
            }
            ClientAuth::Post(id, secret) => {
                fields.extend([
                    ("client_id", id.as_str()),
                    ("client_secret", secret.expose()),
                ]);
            }
            ClientAuth::Public(id) => fields.push(("client_id", id)),
        }
        let answer = send(posted(request, &fields)).await?;
        // RFC 7009 section 2.2: 200 also when the token was not valid any more, which is as good.
        confirmed(&answer, StatusCode::OK)
    }

    async fn end_sessions(&self, realm: &str, user: &str) -> Result<(), RevokeError> {
        // WSO2's ids of users are UUIDs. Anything else would have to be quoted into the path.
        let is_id = user
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_id || user.is_empty() || user.len() > ID_BYTES_MAX {
            return Err(RevokeError::Refused);
        }
        let credential = self
            .settings
            .management
            .as_ref()
            .ok_or(RevokeError::NoCredential)?;
        let fields = [
            ("grant_type", "client_credentials"),
            ("scope", SESSION_DELETE),
        ];
        let request = self
            .request(Method::POST, realm, "/oauth2/token")
            .basic_auth(&credential.client_id, Some(credential.secret.expose()));
        let mut answer = send(posted(request, &fields)).await?;
        confirmed(&answer, StatusCode::OK)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| RevokeError::Away)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(RevokeError::Refused);
            }
            body.extend_from_slice(&chunk);
        }
        let token: TokenAnswer = serde_json::from_slice(&body).map_err(|_| RevokeError::Refused)?;
        let request = self
            .request(
                Method::DELETE,
                realm,
                &format!("/api/users/v1/{user}/sessions"),
            )
            .bearer_auth(token.access_token);
        confirmed(&send(request).await?, StatusCode::NO_CONTENT)
    }
}

fn posted(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    request
        .header(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=UTF-8",
        )
        .body(form)
}

async fn send(request: RequestBuilder) -> Result<Response, RevokeError> {
    request.send().await.map_err(|_| RevokeError::Away)
}

fn confirmed(answer: &Response, expected: StatusCode) -> Result<(), RevokeError> {
    if answer.status() == expected {
        Ok(())
    } else {
        Err(RevokeError::Refused)
    }
}
