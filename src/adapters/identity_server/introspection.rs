//! Asks the identity server about tokens. Requests that come with the same token at the same time share one question;
//! no answer is kept beyond that: it would hold a token good that was taken back.

use crate::adapters::identity_server::IdentityServer;
use crate::adapters::outbound;
use crate::domain::access_token::TokenDigest;
use crate::domain::access_token::digest;
use crate::domain::introspection::ANSWER_BYTES_MAX;
use crate::domain::introspection::Introspected;
use crate::domain::resource::IntrospectionClient;
use crate::flow::ports::IntrospectionAway;
use crate::flow::ports::Introspector;
use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Method;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Questions that may be on their way at the same time. Beyond, a caller is told that the identity server is away.
const PENDING_MAX: usize = 256;

type Answer = Result<Option<Arc<Introspected>>, IntrospectionAway>;

/// The questions that are on their way.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<TokenDigest, Arc<OnceCell<Answer>>>>);

/// A place in a question. Whoever leaves first closes it to others: they ask anew.
struct Place<'a> {
    pending: &'a Pending,
    key: TokenDigest,
    cell: Arc<OnceCell<Answer>>,
}

impl Pending {
    /// A place in the question about `key`, unless too many are on their way.
    fn enter(&self, key: TokenDigest) -> Option<Place<'_>> {
        let mut questions = self.0.lock();
        if questions.len() >= PENDING_MAX && !questions.contains_key(&key) {
            return None;
        }
        let cell = Arc::clone(questions.entry(key).or_default());
        Some(Place {
            pending: self,
            key,
            cell,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut questions = self.pending.0.lock();
        if questions
            .get(&self.key)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell))
        {
            questions.remove(&self.key);
        }
    }
}

#[async_trait]
impl Introspector for IdentityServer {
    async fn introspect(&self, realm: &str, client: &IntrospectionClient, token: &str) -> Answer {
        let place = self
            .pending
            .enter(key(realm, client, token))
            .ok_or(IntrospectionAway)?;
        place
            .cell
            .get_or_init(|| self.ask(realm, client, token))
            .await
            .clone()
    }
}

impl IdentityServer {
    async fn ask(&self, realm: &str, client: &IntrospectionClient, token: &str) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let sent = self
            .request(Method::POST, realm, "/oauth2/introspect")
            .basic_auth(&client.client_id, Some(client.secret.expose()))
            .header(
                http::header::CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .body(form)
            .send()
            .await;
        let mut answer = sent.map_err(|error| away(&outbound::told(error)))?;
        if answer.status() != http::StatusCode::OK {
            return Err(away(&format_args!("status {}", answer.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| away(&outbound::told(error)))?
        {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(away(&"the answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Introspected::read(&body)
            .map(|found| found.map(Arc::new))
            .map_err(|error| away(&error))
    }
}

fn away(error: &dyn std::fmt::Display) -> IntrospectionAway {
    tracing::warn!(error = %error, "the identity server did not say whether a token is active");
    IntrospectionAway
}

/// One token as one client of one realm sees it. None of them has a line feed in it.
fn key(realm: &str, client: &IntrospectionClient, token: &str) -> TokenDigest {
    digest(&format!("{realm}\n{}\n{token}", client.client_id))
}
