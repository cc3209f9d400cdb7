//! What kind of request is scored: each kind has features of its own, and may have a model of its own.

use crate::domain::route::Door;
use serde::Deserialize;
use serde::Serialize;

/// The kinds of scored requests.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// A person logs in, or is about to: every door but the token endpoint, and the password grant there.
    Login,
    /// An application turns in what a login gave it: a code, a refresh token, a device code, a token to be exchanged.
    Token,
    /// A service account asks for itself (RFC 6749 section 4.4).
    M2m,
}

impl RequestKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Login, Self::Token, Self::M2m];

    /// The kind of a request at `door`; the grant type counts at the token endpoint only. A grant that is not known is
    /// one of the many by which something issued before is turned in.
    pub fn of(door: Door, grant_type: Option<&str>) -> Self {
        match (door, grant_type) {
            (Door::Token, Some("password")) => Self::Login,
            (Door::Token, Some("client_credentials")) => Self::M2m,
            (Door::Token, _) => Self::Token,
            _ => Self::Login,
        }
    }

    /// The kind as it is written in manifests, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Token => "token",
            Self::M2m => "m2m",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The place in lists with one entry per kind, in the order of [`RequestKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_decides_at_the_token_endpoint() {
        let at_token = |grant| RequestKind::of(Door::Token, grant);
        assert_eq!(at_token(Some("password")), RequestKind::Login);
        assert_eq!(at_token(Some("client_credentials")), RequestKind::M2m);
        for grant in [
            None,
            Some("authorization_code"),
            Some("refresh_token"),
            Some("urn:ietf:params:oauth:grant-type:device_code"),
            Some("urn:ietf:params:oauth:grant-type:token-exchange"),
        ] {
            assert_eq!(at_token(grant), RequestKind::Token);
        }
        assert_eq!(
            RequestKind::of(Door::Login, Some("client_credentials")),
            RequestKind::Login
        );
        for kind in RequestKind::ALL {
            assert_eq!(RequestKind::from_name(kind.as_str()), Some(kind));
            assert_eq!(RequestKind::ALL[kind.index()], kind);
        }
    }
}
