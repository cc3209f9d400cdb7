//! Tokens that were verified lately. Whether a signature is good is the same at all times for the same token and keys, so
//! that it is not worked out again with each request; issuer, time, audience and binding are checked with each.

use crate::domain::access_token::AccessToken;
use crate::domain::access_token::TokenDigest;
use crate::domain::history::LinkKey;
use crate::domain::ids::SubjectKey;
use crate::domain::jwt::RealmKeys;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// Tokens kept: some 20 MB at most.
const TOKENS_MAX: u64 = 20_000;
/// Subjects kept.
const SUBJECTS_MAX: u64 = 50_000;
/// What is not used for this time is forgotten.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// A token whose signature is good by these keys.
#[derive(Debug)]
pub struct Verified {
    /// What it says.
    pub token: AccessToken,
    /// The keys. With others the token is verified anew.
    pub keys: Arc<RealmKeys>,
    /// Under what the decision behind it is kept: its own name, and that under the previous secret.
    pub links: Vec<LinkKey>,
    /// The client that holds it.
    pub client: SubjectKey,
}

impl Verified {
    /// Whether it was verified by these very keys.
    pub fn is_by(&self, keys: &Arc<RealmKeys>) -> bool {
        Arc::ptr_eq(&self.keys, keys)
    }
}

/// What this node remembers of tokens that were presented to services.
#[derive(Clone, Debug)]
pub struct VerifiedTokens {
    tokens: Cache<TokenDigest, Arc<Verified>>,
    /// Whose token it is: that never changes, and tells whose demands to ask for together with its link.
    subjects: Cache<LinkKey, SubjectKey>,
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self {
            tokens: Cache::builder()
                .max_capacity(TOKENS_MAX)
                .time_to_idle(IDLE)
                .build(),
            subjects: Cache::builder()
                .max_capacity(SUBJECTS_MAX)
                .time_to_idle(IDLE)
                .build(),
        }
    }
}

impl VerifiedTokens {
    /// A token that was verified, by whatever keys.
    pub fn find(&self, digest: &TokenDigest) -> Option<Arc<Verified>> {
        self.tokens.get(digest)
    }

    /// Remembers a token.
    pub fn insert(&self, digest: TokenDigest, verified: Arc<Verified>) {
        self.tokens.insert(digest, verified);
    }

    /// Whose token it is, if that is known here.
    pub fn subject(&self, link: &LinkKey) -> Option<SubjectKey> {
        self.subjects.get(link)
    }

    /// Remembers whose token it is.
    pub fn is_of(&self, link: LinkKey, subject: SubjectKey) {
        self.subjects.insert(link, subject);
    }
}
