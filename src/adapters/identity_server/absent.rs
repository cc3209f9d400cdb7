//! Where no identity server is: replay, simulations, benches. Nothing is proved there and nothing taken back.

use crate::domain::introspection::Introspected;
use crate::domain::jwt::RealmKeys;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::resource::IntrospectionClient;
use crate::domain::secret::Secret;
use crate::flow::ports::ClientAuth;
use crate::flow::ports::IntrospectionAway;
use crate::flow::ports::Introspector;
use crate::flow::ports::IssuedToken;
use crate::flow::ports::KeySource;
use crate::flow::ports::KeysAway;
use crate::flow::ports::RevokeError;
use crate::flow::ports::Revoker;
use crate::flow::ports::SessionsOf;
use async_trait::async_trait;
use std::sync::Arc;

/// No identity server.
#[derive(Clone, Copy, Debug)]
pub struct NoIdentityServer;

#[async_trait]
impl KeySource for NoIdentityServer {
    async fn keys(
        &self,
        _: &str,
        _: Option<&UnverifiedHeader>,
    ) -> Result<Arc<RealmKeys>, KeysAway> {
        Err(KeysAway)
    }
}

#[async_trait]
impl Introspector for NoIdentityServer {
    async fn introspect(
        &self,
        _: &str,
        _: &IntrospectionClient,
        _: &str,
    ) -> Result<Option<Arc<Introspected>>, IntrospectionAway> {
        Err(IntrospectionAway)
    }
}

#[async_trait]
impl Revoker for NoIdentityServer {
    async fn revoke(&self, _: &str, _: &IssuedToken, _: &ClientAuth) -> Result<(), RevokeError> {
        Err(RevokeError::Away)
    }

    async fn end_sessions(&self, _: &str, _: &str) -> Result<(), RevokeError> {
        Err(RevokeError::NoCredential)
    }

    async fn end_sessions_of(
        &self,
        _: &str,
        _: &str,
        _: &Secret<String>,
    ) -> Result<SessionsOf, RevokeError> {
        Err(RevokeError::NoCredential)
    }
}
