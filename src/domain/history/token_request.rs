//! What is kept of a token request under its decision id, beside what every link knows: WSO2 asks for it a moment later,
//! while it issues the tokens (its token actions), and is answered for this very request alone.

use crate::domain::history::scopes::Groups;
use crate::domain::ids::ValueHash;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// How long a token request can be asked for: WSO2 calls while the request waits, and gives up after two tries of five
/// seconds.
pub const TOKEN_REQUEST_LIFETIME: Duration = Duration::from_secs(60);
/// The longest grant type that is kept, in bytes; no known one is longer.
pub const GRANT_BYTES_MAX: usize = 128;

/// A token request.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// The grant type, at most [`GRANT_BYTES_MAX`] long.
    pub grant: String,
    /// Whether what policy says of tokens is acted on, and not only the risk told.
    pub enforced: bool,
    /// The rule about tokens that spoke, by its name.
    pub rule: Option<String>,
    /// The stronger factor that the answer must prove.
    pub owes: Option<OwedProof>,
    /// The organization that the request named, as a keyed hash. The stores keep it behind everything else.
    #[serde(skip)]
    pub organization: Option<ValueHash>,
    /// What WSO2 was told of it, in the order of [`Told`]. Known on this node alone.
    #[serde(skip)]
    pub told: Vec<Told>,
    /// When the factor that is owed was given, as the claims of the ID token to come say. Known on this node alone.
    #[serde(skip)]
    pub proven: Option<Timestamp>,
    /// The groups of the user, as WSO2 names them in its call. Known on this node alone.
    #[serde(skip)]
    pub groups: Groups,
}

/// A stronger factor that the tokens must prove.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct OwedProof {
    /// When it was demanded.
    pub at: Timestamp,
    /// Whether one was seen to be accepted since.
    pub seen: bool,
}

/// What a token action was told to do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Told {
    /// Claims of the risk were added or replaced.
    Claims,
    /// The access token lives shorter.
    Lifetime,
    /// The refresh token lives shorter.
    RefreshLifetime,
    /// Scopes were taken away.
    Scopes,
    /// No token is issued, because policy says so.
    Refused,
    /// No token is issued, because it would not prove the factor that is owed.
    Unproven,
    /// The claims in the ID token prove the factor that is owed.
    Proven,
}

impl TokenRequest {
    /// Whether what is kept can be what a gateway has written.
    pub fn is_sound(&self) -> bool {
        self.grant.len() <= GRANT_BYTES_MAX
            && self
                .rule
                .as_ref()
                .is_none_or(|rule| rule.len() <= GRANT_BYTES_MAX)
    }

    /// The same, with more that was told.
    pub fn tell(&mut self, told: impl IntoIterator<Item = Told>) {
        self.told.extend(told);
        self.told.sort_unstable();
        self.told.dedup();
    }
}

impl Told {
    /// How it is written in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Lifetime => "lifetime",
            Self::RefreshLifetime => "refresh_lifetime",
            Self::Scopes => "scopes",
            Self::Refused => "refused",
            Self::Unproven => "unproven",
            Self::Proven => "proven",
        }
    }
}
