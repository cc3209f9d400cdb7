//! Takes back tokens and sessions. What is sent is what the client itself has sent, or a credential of the gateway's own;
//! neither is kept or logged.

use crate::adapters::identity_server::IdentityServer;
use crate::domain::ids::canonical_username;
use crate::domain::secret::Secret;
use crate::flow::ports::ClientAuth;
use crate::flow::ports::IssuedToken;
use crate::flow::ports::RevokeError;
use crate::flow::ports::Revoker;
use crate::flow::ports::SessionsOf;
use async_trait::async_trait;
use http::StatusCode;
use http::header;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The scope that ends sessions.
const SESSION_DELETE: &str = "internal_session_delete";
/// The scope that lists them.
const SESSION_VIEW: &str = "internal_session_view";
/// The scope that finds a user by name.
const USER_LIST: &str = "internal_user_mgt_list";
/// The longest answer of the token endpoint that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The longest list of users or sessions that is read.
const LIST_BYTES_MAX: usize = 256 * 1024;
/// Users of one name that are asked for: one in each user store.
const USERS_MAX: &str = "10";

/// The longest id of a user.
const ID_BYTES_MAX: usize = 64;
/// The longest name that is looked for.
const NAME_BYTES_MAX: usize = 255;

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

#[derive(Deserialize)]
struct UserList {
    /// Absent where there is none.
    #[serde(default, rename = "Resources")]
    resources: Vec<ListedUser>,
}

#[derive(Deserialize)]
struct ListedUser {
    id: String,
    #[serde(rename = "userName")]
    user_name: String,
}

#[derive(Deserialize)]
struct SessionList {
    #[serde(default)]
    sessions: Vec<IgnoredAny>,
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
        if !is_id(user) {
            return Err(RevokeError::Refused);
        }
        let token = self.management_token(realm, SESSION_DELETE).await?;
        self.delete_sessions(realm, user, &token).await
    }

    async fn end_sessions_of(
        &self,
        realm: &str,
        domain: &str,
        name: &Secret<String>,
    ) -> Result<SessionsOf, RevokeError> {
        // It stands between quotation marks of a filter.
        if !is_quotable(name.expose()) {
            return Ok(SessionsOf::UnknownUser);
        }
        let scopes = format!("{USER_LIST} {SESSION_VIEW} {SESSION_DELETE}");
        let token = self.management_token(realm, &scopes).await?;
        let Some(user) = self.user_id(realm, domain, name.expose(), &token).await? else {
            return Ok(SessionsOf::UnknownUser);
        };
        let listed = send(
            self.request(Method::GET, realm, &sessions_path(&user))
                .bearer_auth(&token),
        )
        .await?;
        if listed.status() == StatusCode::NOT_FOUND {
            return Ok(SessionsOf::Nobody);
        }
        confirmed(&listed, StatusCode::OK)?;
        // A list that is too long to be read has sessions in it.
        if let Some(body) = body(listed, LIST_BYTES_MAX).await? {
            let list: SessionList =
                serde_json::from_slice(&body).map_err(|_| RevokeError::Refused)?;
            if list.sessions.is_empty() {
                return Ok(SessionsOf::Nobody);
            }
        }
        self.delete_sessions(realm, &user, &token).await?;
        Ok(SessionsOf::Ended)
    }
}

impl IdentityServer {
    /// A token of the gateway's own.
    async fn management_token(&self, realm: &str, scopes: &str) -> Result<String, RevokeError> {
        let credential = self.management.load_full();
        let credential = credential.ok_or(RevokeError::NoCredential)?;
        let fields = [("grant_type", "client_credentials"), ("scope", scopes)];
        let request = self
            .request(Method::POST, realm, "/oauth2/token")
            .basic_auth(&credential.client_id, Some(credential.secret.expose()));
        let answer = send(posted(request, &fields)).await?;
        confirmed(&answer, StatusCode::OK)?;
        let body = body(answer, ANSWER_BYTES_MAX).await?;
        let token: TokenAnswer = serde_json::from_slice(&body.ok_or(RevokeError::Refused)?)
            .map_err(|_| RevokeError::Refused)?;
        Ok(token.access_token)
    }

    /// The id of the one user with this name (RFC 7644 section 3.4.2).
    async fn user_id(
        &self,
        realm: &str,
        domain: &str,
        name: &str,
        token: &str,
    ) -> Result<Option<String>, RevokeError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("filter", &format!("userName eq \"{name}\""))
            .append_pair("attributes", "id,userName")
            .append_pair("count", USERS_MAX)
            .finish();
        let request = self
            .request(Method::GET, realm, &format!("/scim2/Users?{query}"))
            .bearer_auth(token);
        let answer = send(request).await?;
        confirmed(&answer, StatusCode::OK)?;
        let body = body(answer, LIST_BYTES_MAX).await?;
        let list: UserList = serde_json::from_slice(&body.ok_or(RevokeError::Refused)?)
            .map_err(|_| RevokeError::Refused)?;
        // User stores beside the primary one may have the same name under theirs.
        let mut found = list
            .resources
            .into_iter()
            .filter(|user| canonical_username(domain, &user.user_name) == name);
        Ok(match (found.next(), found.next()) {
            (Some(user), None) if is_id(&user.id) => Some(user.id),
            _ => None,
        })
    }

    async fn delete_sessions(
        &self,
        realm: &str,
        user: &str,
        token: &str,
    ) -> Result<(), RevokeError> {
        let request = self
            .request(Method::DELETE, realm, &sessions_path(user))
            .bearer_auth(token);
        confirmed(&send(request).await?, StatusCode::NO_CONTENT)
    }
}

fn sessions_path(user: &str) -> String {
    format!("/api/users/v1/{user}/sessions")
}

/// WSO2's ids of users are UUIDs. Anything else would have to be quoted into the path.
fn is_id(user: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !user.is_empty() && user.len() <= ID_BYTES_MAX && user.bytes().all(plain)
}

/// Whether a name stands for itself between the quotation marks of a filter.
fn is_quotable(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain)
}

/// The body of an answer; `None` when it is longer than `most`.
async fn body(mut answer: Response, most: usize) -> Result<Option<Vec<u8>>, RevokeError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| RevokeError::Away)? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
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
    match answer.status() {
        status if status == expected => Ok(()),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(RevokeError::Away)
        }
        _ => Err(RevokeError::Refused),
    }
}
