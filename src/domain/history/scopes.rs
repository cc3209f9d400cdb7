//! Which scopes an application is granted, and which of them are used: what a least-privilege suggestion is made from, and
//! what may be taken from a token at elevated risk. Kept per client and by whether a user stands behind the token, and of
//! users also by the groups and roles that their tokens name.
//!
//! Names of scopes and groups are kept as they are, so that an operator can read them; who is in a group is not kept.
//! Grants are believed on WSO2's answer alone, uses on an answer that accepted the token: nobody writes here by asking.
//! Whatever cannot be told for sure makes a scope count as one that may be used.

/// What is made of the counts of a scope.
pub mod finding;

/// The groups that a token names.
pub mod groups;

use crate::domain::ids::SubjectKey;
use crate::domain::time::Timestamp;
pub use finding::Finding;
pub use finding::Line;
pub use finding::Patience;
pub use groups::Groups;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// Scopes that are kept of one client, for tokens of either kind; further ones are counted together and never judged.
pub const CLIENT_SCOPES_MAX: usize = 48;
/// The longest scope that is kept, in bytes.
pub const SCOPE_BYTES_MAX: usize = 96;
/// The longest client id and tenant domain that are kept, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Groups that are kept of one client; the tokens of further ones are counted together and never judged.
pub const GROUPS_MAX: usize = 24;
/// Scopes that are kept of one group.
pub const GROUP_SCOPES_MAX: usize = 24;

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
    /// Of all these tokens.
    pub all: Gathered,
    /// Of those whose users are in a group, at most [`GROUPS_MAX`] groups.
    pub groups: BTreeMap<String, Gathered>,
    /// Token answers of groups that there was no room for.
    pub groups_left_out: u32,
    /// Whether there was no room for a use.
    pub is_crowded: bool,
}

/// What happened to the scopes of some tokens.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Gathered {
    /// Token answers.
    pub tokens: u32,
    /// How often each scope was granted and used, a bounded number of them.
    pub scopes: BTreeMap<String, ScopeCounts>,
}

/// How often a scope was granted and used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScopeCounts {
    /// Token answers that named it.
    pub granted: u32,
    /// Requests that used it.
    pub used: u32,
    /// Introspections of tokens that have it, by APIs of which it is not known what they ask scopes for.
    pub asked: u32,
    /// Of the uses, those by tokens that do not name all groups of their users.
    pub ungrouped: u32,
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
    /// The rest. Written behind it, as what was written before groups were looked at ends here.
    #[serde(skip)]
    pub further: Further,
}

/// What is known of the scopes of one client beyond the counts of all its tokens.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Further {
    /// Of tokens of users, by group: at most [`GROUPS_MAX`].
    pub groups: BTreeMap<String, WatchedScopes>,
    /// Token answers of groups that there was no room for.
    pub groups_left_out: u64,
    /// What may be uses of tokens that speak for users, by scope.
    pub users: BTreeMap<String, Doubt>,
    /// The same of those that speak for the application itself.
    pub itself: BTreeMap<String, Doubt>,
    /// The latest use that there was no room for; the epoch when there was none.
    pub crowded: Timestamp,
}

/// What may have been uses of a scope.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// Introspections of tokens that have it, by APIs of which it is not known what they ask scopes for.
    pub asked: u64,
    /// The latest of them; the epoch when there was none.
    pub last_asked: Timestamp,
    /// The latest use by a token that does not name all groups of its user; the epoch when there was none.
    pub last_ungrouped: Timestamp,
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
            all: Gathered::default(),
            groups: BTreeMap::new(),
            groups_left_out: 0,
            is_crowded: false,
        })
    }

    /// A token answer that named `scopes`, for a user in `groups`.
    pub fn grant<'s>(
        &mut self,
        scopes: impl Iterator<Item = &'s str> + Clone,
        groups: &Groups,
        at: Timestamp,
    ) {
        let add = |counts: &mut ScopeCounts| counts.granted = counts.granted.saturating_add(1);
        self.at = self.at.max(at);
        self.all.tokens = self.all.tokens.saturating_add(1);
        self.all.count(scopes.clone(), CLIENT_SCOPES_MAX, add);
        for group in self.groups_of(groups) {
            match self.group(group) {
                Some(gathered) => {
                    gathered.tokens = gathered.tokens.saturating_add(1);
                    gathered.count(scopes.clone(), GROUP_SCOPES_MAX, add);
                }
                None => self.groups_left_out = self.groups_left_out.saturating_add(1),
            }
        }
    }

    /// A request that used `scopes`, by a token of a user in `groups`.
    pub fn take<'s>(
        &mut self,
        scopes: impl Iterator<Item = &'s str> + Clone,
        groups: &Groups,
        at: Timestamp,
    ) {
        let is_ungrouped = self.bearers == Bearers::Users && !groups.is_whole();
        self.at = self.at.max(at);
        let mut has_room = self.all.count(scopes.clone(), CLIENT_SCOPES_MAX, |counts| {
            counts.used = counts.used.saturating_add(1);
            counts.ungrouped = counts.ungrouped.saturating_add(u32::from(is_ungrouped));
        });
        for group in self.groups_of(groups) {
            has_room &= self.group(group).is_some_and(|gathered| {
                gathered.count(scopes.clone(), GROUP_SCOPES_MAX, |counts| {
                    counts.used = counts.used.saturating_add(1);
                })
            });
        }
        self.is_crowded |= !has_room;
    }

    /// An API has asked about a token that has `scopes`, and may have let it use any of them.
    pub fn ask<'s>(&mut self, scopes: impl Iterator<Item = &'s str>, at: Timestamp) {
        self.at = self.at.max(at);
        let has_room = self.all.count(scopes, CLIENT_SCOPES_MAX, |counts| {
            counts.asked = counts.asked.saturating_add(1);
        });
        self.is_crowded |= !has_room;
    }

    /// The groups that matter: an application itself is in none.
    fn groups_of<'g>(&self, groups: &'g Groups) -> impl Iterator<Item = &'g str> + use<'g> {
        let has_users = self.bearers == Bearers::Users;
        groups.names().filter(move |_| has_users)
    }

    fn group(&mut self, name: &str) -> Option<&mut Gathered> {
        if !self.groups.contains_key(name) && self.groups.len() >= GROUPS_MAX {
            return None;
        }
        Some(self.groups.entry(name.to_owned()).or_default())
    }
}

impl Gathered {
    /// Counts `scopes`; whether there was room for all of them. What is no scope is passed over.
    fn count<'s>(
        &mut self,
        scopes: impl Iterator<Item = &'s str>,
        most: usize,
        add: impl Fn(&mut ScopeCounts),
    ) -> bool {
        let mut has_room = true;
        for scope in scopes {
            if let Some(counts) = self.scopes.get_mut(scope) {
                add(counts);
            } else if self.scopes.len() >= most {
                has_room = false;
            } else if is_scope(scope) {
                add(self.scopes.entry(scope.to_owned()).or_default());
            }
        }
        has_room
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
        let further = &mut self.further;
        let (watched, doubts) = match used.bearers {
            Bearers::Users => (&mut self.users, &mut further.users),
            Bearers::Itself => (&mut self.itself, &mut further.itself),
        };
        watched.learn(&used.all, CLIENT_SCOPES_MAX, used.at);
        let mut is_crowded = used.is_crowded;
        let doubtful = used.all.scopes.iter();
        for (name, counts) in doubtful.filter(|(_, it)| it.asked > 0 || it.ungrouped > 0) {
            let has_room = doubts.len() < CLIENT_SCOPES_MAX;
            if !has_room && !doubts.contains_key(name) {
                is_crowded = true;
                continue;
            }
            let doubt = doubts.entry(name.clone()).or_default();
            doubt.asked = doubt.asked.saturating_add(u64::from(counts.asked));
            if counts.asked > 0 {
                doubt.last_asked = doubt.last_asked.max(used.at);
            }
            if counts.ungrouped > 0 {
                doubt.last_ungrouped = doubt.last_ungrouped.max(used.at);
            }
        }
        if is_crowded {
            further.crowded = further.crowded.max(used.at);
        }
        let mut left_out = u64::from(used.groups_left_out);
        for (name, gathered) in &used.groups {
            let has_room = further.groups.len() < GROUPS_MAX;
            if !has_room && !further.groups.contains_key(name) {
                left_out = left_out.saturating_add(u64::from(gathered.tokens));
                continue;
            }
            let watched = further.groups.entry(name.clone()).or_default();
            watched.learn(gathered, GROUP_SCOPES_MAX, used.at);
        }
        further.groups_left_out = further.groups_left_out.saturating_add(left_out);
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
        let further = &self.further;
        self.client_id.len() <= NAME_BYTES_MAX
            && self.tenant.len() <= NAME_BYTES_MAX
            && [&self.users, &self.itself]
                .iter()
                .all(|watched| watched.is_sound(CLIENT_SCOPES_MAX))
            && [&further.users, &further.itself].iter().all(|doubts| {
                doubts.len() <= CLIENT_SCOPES_MAX && doubts.keys().all(|scope| is_scope(scope))
            })
            && further.groups.len() <= GROUPS_MAX
            && further
                .groups
                .iter()
                .all(|(name, watched)| groups::is_group(name) && watched.is_sound(GROUP_SCOPES_MAX))
    }
}

impl WatchedScopes {
    fn learn(&mut self, gathered: &Gathered, most: usize, at: Timestamp) {
        if self.since == Timestamp::default() {
            self.since = at;
        }
        self.tokens = self.tokens.saturating_add(u64::from(gathered.tokens));
        for (name, counts) in &gathered.scopes {
            let has_room = self.scopes.len() < most;
            if !has_room && !self.scopes.contains_key(name) {
                self.left_out = self.left_out.saturating_add(u64::from(counts.granted));
                continue;
            }
            let known = self.scopes.entry(name.clone()).or_insert(WatchedScope {
                first: at,
                ..WatchedScope::default()
            });
            known.granted = known.granted.saturating_add(u64::from(counts.granted));
            known.used = known.used.saturating_add(u64::from(counts.used));
            if counts.used > 0 {
                known.last_used = known.last_used.max(at);
            }
        }
    }

    fn is_sound(&self, most: usize) -> bool {
        self.scopes.len() <= most && self.scopes.keys().all(|scope| is_scope(scope))
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
    use serde_json::json;

    /// A day, counted from one in 2024.
    fn at(day: i64) -> Timestamp {
        Timestamp((20_000 + day) * 24 * 3600 * 1000)
    }

    fn used(day: i64) -> ScopeUse {
        let client = SubjectKey(Pseudonym::from_bytes([1; 16]));
        ScopeUse::new(client, "app", "carbon.super", Bearers::Users, at(day)).unwrap()
    }

    fn in_groups(names: &[&str]) -> Groups {
        Groups::of(std::iter::once(&json!(names)))
    }

    /// What is found of a scope of all users' tokens, and of a group's.
    fn found(usage: &ScopeUsage, line: Line<'_>, scope: &str, day: i64) -> Finding {
        usage.finding(line, scope, Patience::default(), at(day))
    }

    const USERS: Line<'_> = Line::All(Bearers::Users);

    #[test]
    fn a_scope_is_never_used_only_after_long_and_often() {
        let mut usage = ScopeUsage::default();
        for day in 0..40 {
            let mut use_ = used(day);
            for _ in 0..5 {
                use_.grant(
                    ["read", "write", "admin"].into_iter(),
                    &Groups::default(),
                    at(day),
                );
            }
            if day % 7 == 0 {
                use_.take(["read"].into_iter(), &Groups::default(), at(day));
            }
            usage.learn(&use_);
            let expected = match day >= 30 {
                true => Finding::NeverUsed,
                false => Finding::Early,
            };
            assert_eq!(found(&usage, USERS, "admin", day), expected, "day {day}");
            assert_eq!(found(&usage, USERS, "read", day), Finding::Used);
            // What is not known, or of another kind of token, was not watched.
            assert_eq!(found(&usage, USERS, "other", day), Finding::Early);
            let itself = Line::All(Bearers::Itself);
            assert_eq!(found(&usage, itself, "admin", day), Finding::Early);
        }
        let mut late = used(40);
        late.take(["admin"].into_iter(), &Groups::default(), at(40));
        usage.learn(&late);
        assert_eq!(found(&usage, USERS, "admin", 40), Finding::Used);
        assert_eq!(found(&usage, USERS, "write", 40), Finding::NeverUsed);
        assert_eq!(usage.users.scopes["read"].used, 6);
        assert_eq!((usage.users.tokens, usage.users.since), (200, at(0)));
        assert!(usage.is_sound());
    }

    #[test]
    fn rarely_granted_is_not_never_used() {
        let mut usage = ScopeUsage::default();
        for day in [0, 400] {
            let mut use_ = used(day);
            use_.grant(["rare"].into_iter(), &Groups::default(), at(day));
            usage.learn(&use_);
        }
        assert_eq!(found(&usage, USERS, "rare", 400), Finding::Early);
    }

    /// Two groups are granted the same for 40 days, five times a day, and one of them uses it.
    fn two_groups() -> ScopeUsage {
        let mut usage = ScopeUsage::default();
        for day in 0..40 {
            let mut use_ = used(day);
            for group in ["tellers", "managers"] {
                for _ in 0..5 {
                    use_.grant(["pay"].into_iter(), &in_groups(&[group]), at(day));
                }
            }
            use_.take(["pay"].into_iter(), &in_groups(&["managers"]), at(day));
            usage.learn(&use_);
        }
        usage
    }

    #[test]
    fn groups_are_told_apart() {
        let usage = two_groups();
        let line = |name| found(&usage, Line::Group(name), "pay", 40);
        assert_eq!(line("tellers"), Finding::NeverUsed);
        assert_eq!(line("managers"), Finding::Used);
        assert_eq!(line("others"), Finding::Early);
        assert_eq!(found(&usage, USERS, "pay", 40), Finding::Used);
        let tellers = &usage.further.groups["tellers"];
        assert_eq!((tellers.tokens, tellers.scopes["pay"].granted), (200, 200));
        assert!(usage.is_sound());
    }

    #[test]
    fn a_use_that_no_group_can_be_given_may_be_one_of_each() {
        let mut usage = two_groups();
        let mut late = used(50);
        late.take(["pay"].into_iter(), &Groups::default(), at(50));
        usage.learn(&late);
        let line = |day| found(&usage, Line::Group("tellers"), "pay", day);
        assert_eq!(line(50), Finding::Unclear);
        assert_eq!(line(79), Finding::Unclear);
        assert_eq!(line(80), Finding::NeverUsed);
        // One of whose groups some are left out is no better.
        let mut late = used(90);
        let many: Vec<String> = (0..100).map(|n| format!("g{n}")).collect();
        late.take(
            ["pay"].into_iter(),
            &Groups::of(std::iter::once(&json!(many))),
            at(90),
        );
        usage.learn(&late);
        assert_eq!(
            found(&usage, Line::Group("tellers"), "pay", 90),
            Finding::Unclear
        );
    }

    #[test]
    fn a_question_about_a_token_may_be_a_use_of_each_of_its_scopes() {
        let mut usage = ScopeUsage::default();
        for day in 0..40 {
            let mut use_ = used(day);
            for _ in 0..5 {
                use_.grant(["pay", "see"].into_iter(), &in_groups(&["a"]), at(day));
            }
            usage.learn(&use_);
        }
        let mut asked = used(40);
        asked.ask(["pay"].into_iter(), at(40));
        usage.learn(&asked);
        for line in [USERS, Line::Group("a")] {
            assert_eq!(found(&usage, line, "pay", 40), Finding::Unclear);
            assert_eq!(found(&usage, line, "see", 40), Finding::NeverUsed);
            assert_eq!(found(&usage, line, "pay", 70), Finding::NeverUsed);
        }
        let doubt = usage.doubt(USERS, "pay");
        assert_eq!((doubt.asked, doubt.last_asked), (1, at(40)));
        assert_eq!(usage.users.scopes["pay"].used, 0);
    }

    #[test]
    fn an_application_itself_is_in_no_group() {
        let client = SubjectKey(Pseudonym::from_bytes([1; 16]));
        let mut use_ = ScopeUse::new(client, "app", "t", Bearers::Itself, at(0)).unwrap();
        use_.grant(["a"].into_iter(), &in_groups(&["staff"]), at(0));
        use_.take(["a"].into_iter(), &Groups::default(), at(0));
        assert!(use_.groups.is_empty());
        assert_eq!(use_.all.scopes["a"].ungrouped, 0);
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
        let none = Groups::default();
        use_.grant(["a b", "\"", "\\", "é", ""].into_iter(), &none, at(0));
        assert!(use_.all.scopes.is_empty());
        let names: Vec<String> = (0..200).map(|n| format!("scope-{n:03}")).collect();
        for name in &names {
            use_.grant([name.as_str()].into_iter(), &none, at(0));
        }
        assert_eq!(use_.all.scopes.len(), CLIENT_SCOPES_MAX);
        let mut usage = ScopeUsage::default();
        usage.learn(&use_);
        let mut other = used(1);
        other.grant(["another"].into_iter(), &none, at(1));
        usage.learn(&other);
        assert_eq!(usage.users.scopes.len(), CLIENT_SCOPES_MAX);
        assert_eq!(usage.users.left_out, 1);
        assert!(usage.is_sound());
    }

    #[test]
    fn groups_without_room_are_counted_together() {
        let mut usage = ScopeUsage::default();
        for group in 0..3 * GROUPS_MAX {
            let mut use_ = used(0);
            let name = format!("group-{group:03}");
            use_.grant(["a"].into_iter(), &in_groups(&[&name]), at(0));
            usage.learn(&use_);
        }
        assert_eq!(usage.further.groups.len(), GROUPS_MAX);
        assert_eq!(usage.further.groups_left_out, 2 * GROUPS_MAX as u64);
        assert!(usage.is_sound());
        // The same where a node gathers them before it writes.
        let mut use_ = used(0);
        for group in 0..3 * GROUPS_MAX {
            let name = format!("group-{group:03}");
            use_.grant(["a"].into_iter(), &in_groups(&[&name]), at(0));
        }
        let mut other = ScopeUsage::default();
        other.learn(&use_);
        assert_eq!(usage.further, other.further);
    }

    #[test]
    fn a_use_without_room_begins_the_watch_anew() {
        let mut usage = two_groups();
        let mut use_ = used(60);
        for group in 0..GROUPS_MAX {
            let name = format!("group-{group:03}");
            use_.take(["a"].into_iter(), &in_groups(&[&name]), at(60));
        }
        // Nobody can say that it was the tellers who did not.
        use_.take(["pay"].into_iter(), &in_groups(&["tellers"]), at(60));
        usage.learn(&use_);
        assert_eq!(
            found(&usage, Line::Group("tellers"), "pay", 60),
            Finding::Early
        );
        assert_eq!(
            found(&usage, Line::Group("tellers"), "pay", 90),
            Finding::NeverUsed
        );
    }
}
