//! Which scopes an application is granted, and which of them are used: what a least-privilege suggestion is made from, and
//! what may be taken from a token at elevated risk. Kept per client and by whether a user stands behind the token; the
//! identity server's roles and groups are not seen at the edge.
//!
//! Names of scopes are not about people and are kept as they are, so that an operator can read them. Grants are believed
//! on WSO2's answer alone, uses on an answer that accepted the token: nobody writes here by asking.

use crate::domain::ids::SubjectKey;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Scopes that are kept of one client, for tokens of either kind; further ones are counted together and never judged.
pub const CLIENT_SCOPES_MAX: usize = 48;
/// The longest scope that is kept, in bytes.
pub const SCOPE_BYTES_MAX: usize = 96;
/// The longest client id and tenant domain that are kept, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// For whom a token speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearers {
    /// For users of the application.
    Users,
    /// For the application itself (`client_credentials`).
    Itself,
}

/// What happened to the scopes of one client since it was last written.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScopeUse {
    /// The client.
    pub client: SubjectKey,
    /// Its id.
    pub client_id: String,
    /// Its tenant domain.
    pub tenant: String,
    /// For whom the tokens speak.
    pub bearers: Bearers,
    /// The latest of it.
    pub at: Timestamp,
    /// Token answers.
    pub tokens: u32,
    /// How often each scope was granted and used, at most [`CLIENT_SCOPES_MAX`] of them.
    pub scopes: BTreeMap<String, ScopeCounts>,
}

/// How often a scope was granted and used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScopeCounts {
    /// Token answers that named it.
    pub granted: u32,
    /// Requests that used it.
    pub used: u32,
}

/// What is known of the scopes of one client.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScopeUsage {
    /// Its id.
    pub client_id: String,
    /// Its tenant domain.
    pub tenant: String,
    /// The latest change.
    pub last: Timestamp,
    /// Of tokens that speak for users.
    pub users: WatchedScopes,
    /// Of tokens that speak for the application itself.
    pub itself: WatchedScopes,
}

/// Scopes of tokens of one kind.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct WatchedScopes {
    /// Since when they are watched; the epoch when no token was seen.
    pub since: Timestamp,
    /// Token answers.
    pub tokens: u64,
    /// By name.
    pub scopes: BTreeMap<String, WatchedScope>,
    /// Grants of scopes that there was no room for.
    pub left_out: u64,
}

/// One scope.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct WatchedScope {
    /// The first grant, or use, that was seen.
    pub first: Timestamp,
    /// Token answers that named it.
    pub granted: u64,
    /// Requests that used it.
    pub used: u64,
    /// The latest use; the epoch when there was none.
    pub last_used: Timestamp,
}

/// When a scope that was not used counts as one that never is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// For how long it must have been watched.
    pub time: Duration,
    /// How often it must have been granted meanwhile.
    pub grants: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30 * 24 * 3600),
            grants: 100,
        }
    }
}

impl ScopeUse {
    /// Nothing yet; `None` for names that are too long to be kept.
    pub fn new(
        client: SubjectKey,
        client_id: &str,
        tenant: &str,
        bearers: Bearers,
        at: Timestamp,
    ) -> Option<Self> {
        let fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        (fits(client_id) && fits(tenant)).then(|| Self {
            client,
            client_id: client_id.to_owned(),
            tenant: tenant.to_owned(),
            bearers,
            at,
            tokens: 0,
            scopes: BTreeMap::new(),
        })
    }

    /// A token answer that named `scopes`.
    pub fn grant<'s>(&mut self, scopes: impl Iterator<Item = &'s str>, at: Timestamp) {
        self.tokens = self.tokens.saturating_add(1);
        self.count(scopes, at, |counts| {
            counts.granted = counts.granted.saturating_add(1);
        });
    }

    /// A request that used `scopes`.
    pub fn take<'s>(&mut self, scopes: impl Iterator<Item = &'s str>, at: Timestamp) {
        self.count(scopes, at, |counts| {
            counts.used = counts.used.saturating_add(1);
        });
    }

    fn count<'s>(
        &mut self,
        scopes: impl Iterator<Item = &'s str>,
        at: Timestamp,
        add: impl Fn(&mut ScopeCounts),
    ) {
        self.at = self.at.max(at);
        for scope in scopes.take(CLIENT_SCOPES_MAX) {
            let has_room = self.scopes.len() < CLIENT_SCOPES_MAX;
            if let Some(counts) = self.scopes.get_mut(scope) {
                add(counts);
            } else if has_room && is_scope(scope) {
                add(self.scopes.entry(scope.to_owned()).or_default());
            }
        }
    }
}

impl ScopeUsage {
    /// What is known after more has happened.
    pub fn learn(&mut self, used: &ScopeUse) {
        if self.client_id.is_empty() {
            self.client_id.clone_from(&used.client_id);
            self.tenant.clone_from(&used.tenant);
        }
        self.last = self.last.max(used.at);
        let watched = match used.bearers {
            Bearers::Users => &mut self.users,
            Bearers::Itself => &mut self.itself,
        };
        if watched.since == Timestamp::default() {
            watched.since = used.at;
        }
        watched.tokens = watched.tokens.saturating_add(u64::from(used.tokens));
        for (name, counts) in &used.scopes {
            let has_room = watched.scopes.len() < CLIENT_SCOPES_MAX;
            if !has_room && !watched.scopes.contains_key(name) {
                watched.left_out = watched.left_out.saturating_add(u64::from(counts.granted));
                continue;
            }
            let known = watched.scopes.entry(name.clone()).or_insert(WatchedScope {
                first: used.at,
                ..WatchedScope::default()
            });
            known.granted = known.granted.saturating_add(u64::from(counts.granted));
            known.used = known.used.saturating_add(u64::from(counts.used));
            if counts.used > 0 {
                known.last_used = known.last_used.max(used.at);
            }
        }
    }

    /// The scopes of tokens that speak for `bearers`.
    pub fn of(&self, bearers: Bearers) -> &WatchedScopes {
        match bearers {
            Bearers::Users => &self.users,
            Bearers::Itself => &self.itself,
        }
    }

    /// Whether what is kept can be what a gateway has written.
    pub fn is_sound(&self) -> bool {
        self.client_id.len() <= NAME_BYTES_MAX
            && self.tenant.len() <= NAME_BYTES_MAX
            && [&self.users, &self.itself].iter().all(|watched| {
                watched.scopes.len() <= CLIENT_SCOPES_MAX
                    && watched.scopes.keys().all(|scope| is_scope(scope))
            })
    }
}

impl WatchedScopes {
    /// Whether a scope was granted for long and often enough without ever being used. One that is not known here was not.
    pub fn is_never_used(&self, scope: &str, patience: Patience, now: Timestamp) -> bool {
        self.scopes.get(scope).is_some_and(|known| {
            known.used == 0
                && known.granted >= patience.grants
                && now.since(known.first) >= patience.time
        })
    }
}

impl Bearers {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Users, Self::Itself];

    /// How it is written in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Itself => "itself",
        }
    }

    /// For whom the tokens of a grant type speak.
    pub fn of_grant(grant_type: &str) -> Self {
        if grant_type == "client_credentials" {
            Self::Itself
        } else {
            Self::Users
        }
    }
}

/// A scope token (RFC 6749 section 3.3) that is short enough.
fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= SCOPE_BYTES_MAX
        && text
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    /// A day, counted from one in 2024.
    fn at(day: i64) -> Timestamp {
        Timestamp((20_000 + day) * 24 * 3600 * 1000)
    }

    fn used(day: i64) -> ScopeUse {
        let client = SubjectKey(Pseudonym::from_bytes([1; 16]));
        ScopeUse::new(client, "app", "carbon.super", Bearers::Users, at(day)).unwrap()
    }

    #[test]
    fn a_scope_is_never_used_only_after_long_and_often() {
        let mut usage = ScopeUsage::default();
        let patience = Patience::default();
        for day in 0..40 {
            let mut use_ = used(day);
            for _ in 0..5 {
                use_.grant(["read", "write", "admin"].into_iter(), at(day));
            }
            if day % 7 == 0 {
                use_.take(["read"].into_iter(), at(day));
            }
            usage.learn(&use_);
            let now = at(day);
            let never = usage.users.is_never_used("admin", patience, now);
            assert_eq!(never, day >= 30, "day {day}");
            assert!(!usage.users.is_never_used("read", patience, now));
            // What is not known, or of another kind of token, was not watched.
            assert!(!usage.users.is_never_used("other", patience, now));
            assert!(!usage.itself.is_never_used("admin", patience, now));
        }
        let mut late = used(40);
        late.take(["admin"].into_iter(), at(40));
        usage.learn(&late);
        let now = at(40);
        assert!(!usage.users.is_never_used("admin", patience, now));
        assert!(usage.users.is_never_used("write", patience, now));
        assert_eq!(usage.users.scopes["read"].used, 6);
        assert_eq!((usage.users.tokens, usage.users.since), (200, at(0)));
        assert!(usage.is_sound());
    }

    #[test]
    fn rarely_granted_is_not_never_used() {
        let mut usage = ScopeUsage::default();
        for day in [0, 400] {
            let mut use_ = used(day);
            use_.grant(["rare"].into_iter(), at(day));
            usage.learn(&use_);
        }
        let now = at(400);
        assert!(!usage.users.is_never_used("rare", Patience::default(), now));
    }

    #[test]
    fn no_name_is_kept_that_is_none_and_room_is_bounded() {
        let client = SubjectKey(Pseudonym::from_bytes([1; 16]));
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (id, tenant) in [("", "t"), (long.as_str(), "t"), ("a", long.as_str())] {
            assert_eq!(
                ScopeUse::new(client, id, tenant, Bearers::Users, at(0)),
                None
            );
        }
        let mut use_ = used(0);
        use_.grant(["a b", "\"", "\\", "é", ""].into_iter(), at(0));
        assert!(use_.scopes.is_empty());
        let names: Vec<String> = (0..200).map(|n| format!("scope-{n:03}")).collect();
        for name in &names {
            use_.grant([name.as_str()].into_iter(), at(0));
        }
        assert_eq!(use_.scopes.len(), CLIENT_SCOPES_MAX);
        let mut usage = ScopeUsage::default();
        usage.learn(&use_);
        let mut other = used(1);
        other.grant(["another"].into_iter(), at(1));
        usage.learn(&other);
        assert_eq!(usage.users.scopes.len(), CLIENT_SCOPES_MAX);
        assert_eq!(usage.users.left_out, 1);
        assert!(usage.is_sound());
    }
}
