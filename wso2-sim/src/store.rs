//! What the server remembers between requests: logins under way, sessions, codes, tokens. Every map has a bound, and the
//! oldest entry leaves first. It must not know about HTTP.

use std::collections::HashMap;
use std::collections::VecDeque;

use serde_json::Map;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

use crate::authorize::AuthorizeRequest;

/// Most entries of each map.
const ENTRIES_MAX: usize = 50_000;

/// A map with a bound; the entry that was put in first leaves first.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    entries: HashMap<String, V>,
    order: VecDeque<String>,
    entries_max: usize,
}

impl<V> Bounded<V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            entries_max,
        }
    }

    pub(crate) fn insert(&mut self, key: String, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.entries.len() > self.entries_max {
            match self.order.pop_front() {
                Some(oldest) => self.entries.remove(&oldest),
                None => break,
            };
        }
        // Keys removed by name stay in the order until there are too many of them.
        if self.order.len() > self.entries_max.saturating_mul(2) {
            self.order.retain(|key| self.entries.contains_key(key));
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        self.entries.remove(key)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.entries.iter()
    }
}

/// A user as other records refer to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UserRef {
    pub(crate) id: String,
    pub(crate) username: String,
}

/// Which factor a login waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// The custom authenticator.
    Custom,
    /// The name.
    Identifier,
    /// The second one, which the user has yet to pick.
    Options,
    Password,
    Totp,
}

/// An authenticator app that is being enrolled in the middle of a login.
#[derive(Clone, Debug)]
pub(crate) struct Enrolment {
    /// Base32.
    pub(crate) secret: String,
    /// Whether the user has said on the page that the app holds the secret.
    pub(crate) is_agreed: bool,
}

/// A login under way; its key is the `sessionDataKey` of the login pages.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) key: String,
    /// Key that `/oauth2/authorize` is resumed with.
    pub(crate) caller_key: String,
    /// Value of the cookie that ties the login to the browser.
    pub(crate) nonce: String,
    pub(crate) realm: String,
    pub(crate) request: AuthorizeRequest,
    pub(crate) step: Step,
    pub(crate) user: Option<UserRef>,
    /// The name that the login began with, where that was all that it asked for.
    pub(crate) identifier: Option<String>,
    /// Names of the authenticators passed, in order.
    pub(crate) methods: Vec<String>,
    /// The script wants the second step whatever the later requests say.
    pub(crate) is_mfa_demanded: bool,
    /// Where the second factor of the user is being enrolled.
    pub(crate) enrolment: Option<Enrolment>,
    /// Session that the login goes on from.
    pub(crate) session_key: Option<String>,
    pub(crate) started_ms: i64,
}

/// A finished authentication.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) realm: String,
    pub(crate) request: AuthorizeRequest,
    pub(crate) user: UserRef,
    pub(crate) methods: Vec<String>,
    pub(crate) acr: Option<String>,
    /// When the user last proved who they are, in seconds.
    pub(crate) auth_time_s: i64,
    pub(crate) session_key: String,
    pub(crate) expires_ms: i64,
    /// Key of the consent page; also what the action sees as `sessionDataKeyConsent`.
    pub(crate) consent_key: String,
}

/// A single sign-on session; its key is the SHA-256 (hex) of the `commonAuthId` cookie.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) realm: String,
    pub(crate) user: UserRef,
    pub(crate) methods: Vec<String>,
    pub(crate) login_ms: i64,
    pub(crate) auth_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) user_agent: String,
    pub(crate) client_ip: String,
    /// Client ids that signed in with it.
    pub(crate) clients: Vec<String>,
    /// Client ids that the user consented to for good.
    pub(crate) consents: Vec<String>,
    pub(crate) opbs: String,
}

/// An authorization code.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) outcome: Outcome,
    pub(crate) expires_ms: i64,
    pub(crate) is_used: bool,
    /// Names the tokens that came from it.
    pub(crate) family: String,
}

/// What a grant is about, carried from the first issue through every refresh.
#[derive(Clone, Debug)]
pub(crate) struct GrantInfo {
    pub(crate) realm: String,
    pub(crate) client_id: String,
    /// Grant type of the first issue.
    pub(crate) grant_type: String,
    pub(crate) user: Option<UserRef>,
    pub(crate) scopes: Vec<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) acr: Option<String>,
    pub(crate) auth_time_s: Option<i64>,
    pub(crate) nonce: Option<String>,
    pub(crate) session_key: Option<String>,
    pub(crate) consent_key: Option<String>,
    pub(crate) family: String,
    /// Claims that an action added.
    pub(crate) claims: Map<String, Value>,
    /// Who acts for the subject (token exchange).
    pub(crate) actor: Option<String>,
}

/// An access token; its key is the SHA-256 (hex) of the token.
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    pub(crate) grant: GrantInfo,
    pub(crate) jti: String,
    pub(crate) is_jwt: bool,
    pub(crate) issued_s: i64,
    pub(crate) expires_s: i64,
    pub(crate) is_revoked: bool,
}

/// A refresh token; its key is the SHA-256 (hex) of the token.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    pub(crate) grant: GrantInfo,
    pub(crate) expires_s: i64,
    pub(crate) is_revoked: bool,
}

/// A pushed authorization request.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) realm: String,
    pub(crate) client_id: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) expires_ms: i64,
}

/// How far a device login has come.
#[derive(Clone, Debug)]
pub(crate) enum DeviceState {
    Approved(Box<Outcome>),
    /// A browser has brought the code; no other one can.
    Entered,
    Pending,
    Used,
}

/// A device login (RFC 8628) or one in the background (CIBA); its key is the device code or the `auth_req_id`.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) realm: String,
    pub(crate) client_id: String,
    /// What the browser brings: the user code, or the `authCodeKey`.
    pub(crate) user_code: String,
    pub(crate) scope: String,
    pub(crate) state: DeviceState,
    pub(crate) expires_ms: i64,
    pub(crate) polled_ms: i64,
}

/// The tokens that an opaque client got last, so that it gets them again.
#[derive(Clone, Debug)]
pub(crate) struct Reusable {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
}

/// All maps.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) flows: Bounded<Flow>,
    /// By the key that `/oauth2/authorize` is resumed with.
    pub(crate) outcomes: Bounded<Outcome>,
    /// By the key of the consent page.
    pub(crate) consents: Bounded<Outcome>,
    /// Requests whose logins failed, by the key that `/oauth2/authorize` is resumed with.
    pub(crate) failed: Bounded<AuthorizeRequest>,
    /// Who has logged in at another identity provider, by what it hands out for that.
    pub(crate) elsewhere: Bounded<String>,
    pub(crate) sessions: Bounded<Session>,
    /// Client assertions that were used.
    pub(crate) assertions: Bounded<()>,
    pub(crate) codes: Bounded<Code>,
    pub(crate) access_tokens: Bounded<AccessToken>,
    pub(crate) refresh_tokens: Bounded<RefreshToken>,
    pub(crate) pushed: Bounded<Pushed>,
    pub(crate) devices: Bounded<Device>,
    pub(crate) reusable: Bounded<Reusable>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            flows: Bounded::new(ENTRIES_MAX),
            outcomes: Bounded::new(ENTRIES_MAX),
            consents: Bounded::new(ENTRIES_MAX),
            failed: Bounded::new(ENTRIES_MAX),
            elsewhere: Bounded::new(ENTRIES_MAX),
            sessions: Bounded::new(ENTRIES_MAX),
            assertions: Bounded::new(ENTRIES_MAX),
            codes: Bounded::new(ENTRIES_MAX),
            access_tokens: Bounded::new(ENTRIES_MAX),
            refresh_tokens: Bounded::new(ENTRIES_MAX),
            pushed: Bounded::new(ENTRIES_MAX),
            devices: Bounded::new(ENTRIES_MAX),
            reusable: Bounded::new(ENTRIES_MAX),
        }
    }

    /// Revokes every token of a family.
    pub(crate) fn revoke_family(&mut self, family: &str) {
        self.revoke_where(|grant| grant.family == family);
    }

    /// Revokes every token whose grant the condition picks.
    pub(crate) fn revoke_where(&mut self, condition: impl Fn(&GrantInfo) -> bool) {
        for token in self.access_tokens.values_mut() {
            token.is_revoked |= condition(&token.grant);
        }
        for token in self.refresh_tokens.values_mut() {
            token.is_revoked |= condition(&token.grant);
        }
    }
}

/// The key under which a token or cookie is remembered: SHA-256 in hexadecimal.
pub(crate) fn fingerprint(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_loses_its_oldest_entry() {
        let mut map = Bounded::new(2);
        for key in ["a", "b", "a", "c"] {
            map.insert(key.to_owned(), key);
        }
        assert!(map.get("a").is_none());
        assert_eq!(map.get("c"), Some(&"c"));
        for number in 0..100 {
            map.insert(number.to_string(), "n");
            map.remove(&number.to_string());
        }
        assert!(map.order.len() <= 5);
    }
}
