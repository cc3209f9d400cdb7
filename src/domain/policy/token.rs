//! What policy says of tokens that are about to be issued, and of passwords that are about to be changed: how long an
//! access token lives at which risk, which scopes it goes without, whether it is issued at all. Nothing here lengthens a
//! lifetime or gives a scope.

use crate::domain::history::scopes::Patience;
use crate::domain::policy::condition::Condition;
use crate::domain::policy::document::Mistakes;
use crate::domain::policy::document::Section;
use crate::domain::policy::rule;
use crate::domain::policy::vocabulary::Facts;
use crate::domain::risk::RiskLevel;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use toml::Value;

/// How many rules about tokens a policy may have.
pub const TOKEN_RULES_MAX: usize = 64;
/// How many APIs a policy may name that ask about tokens.
pub const INTROSPECTORS_MAX: usize = 64;
/// How many scopes one of them may name.
pub const SCOPES_MAX: usize = 64;
/// The longest scope that may be named, in bytes.
const SCOPE_BYTES_MAX: usize = 128;
/// The longest lifetime that may be set, in seconds: what is longer shortens nothing.
const LIFETIME_MAX: u32 = 365 * 24 * 3600;
/// One day.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a token is issued under.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// The longest lifetime of the access token, in seconds.
    pub expires_in: Option<u32>,
    /// The longest lifetime of the refresh token, in seconds.
    pub refresh_expires_in: Option<u32>,
    /// The scopes that it goes without: names, or the front of names with `*` at its end.
    pub remove_scopes: BTreeSet<String>,
    /// Whether it goes without scopes that are watched and never used.
    pub remove_unused_scopes: bool,
    /// Whether it is not issued at all.
    pub refuse: bool,
}

/// An API that asks the identity server about tokens, and what it asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Introspector {
    /// The client id, or the user name, with which it asks.
    client: String,
    scopes: BTreeSet<String>,
}

/// One rule about tokens.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// Its name, unique among these rules.
    pub name: Arc<str>,
    /// When it speaks, about the token request.
    pub when: Condition,
    /// What it says.
    pub terms: Terms,
    /// Whether it is looked at. One that is not is checked all the same.
    pub enabled: bool,
}

/// What `[token]` says.
#[derive(Clone, Debug, Default)]
pub struct TokenPolicy {
    low: Terms,
    medium: Terms,
    high: Terms,
    unscored: Terms,
    rules: Vec<TokenRule>,
    watched: BTreeSet<String>,
    introspectors: Vec<Introspector>,
    patience: Patience,
}

/// What WSO2 says that is being done with a password.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PasswordChange {
    /// Its user changes it, knowing the old one.
    Update,
    /// It was forgotten and is set anew.
    Reset,
    /// An invited user sets the first one.
    Invite,
    /// A user registers.
    Register,
}

/// What `[password_update]` says: which changes are refused while the user is risky.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordPolicy {
    /// Refused while the user owes a stronger factor.
    pub demanded: BTreeSet<PasswordChange>,
    /// Refused where the decision about the very request was of this level.
    pub high: BTreeSet<PasswordChange>,
}

impl Terms {
    /// Whether they change nothing.
    pub fn are_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a scope is one of those that are removed by name.
    pub fn removes(&self, scope: &str) -> bool {
        fits(&self.remove_scopes, scope)
    }

    /// Both: the shorter lifetimes, the scopes of each.
    fn and(&self, other: &Self) -> Self {
        let shorter = |one: Option<u32>, other: Option<u32>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            expires_in: shorter(self.expires_in, other.expires_in),
            refresh_expires_in: shorter(self.refresh_expires_in, other.refresh_expires_in),
            remove_scopes: self
                .remove_scopes
                .union(&other.remove_scopes)
                .cloned()
                .collect(),
            remove_unused_scopes: self.remove_unused_scopes || other.remove_unused_scopes,
            refuse: self.refuse || other.refuse,
        }
    }

    /// Reads the keys of `section`; the section is not ended.
    fn read(section: &mut Section, mistakes: &mut Mistakes) -> Self {
        let range = 1..=LIFETIME_MAX;
        Self {
            expires_in: section.seconds("expires_in", range.clone(), mistakes),
            refresh_expires_in: section.seconds("refresh_expires_in", range, mistakes),
            remove_scopes: read_scopes(section, "remove_scopes", mistakes),
            remove_unused_scopes: section
                .flag("remove_unused_scopes", mistakes)
                .unwrap_or_default(),
            refuse: section.flag("refuse", mistakes).unwrap_or_default(),
        }
    }
}

impl TokenPolicy {
    /// What holds at a level, or without a score (`None`), where no rule speaks. What a level says holds at those above
    /// it as well, and what `low` says without a score, so that neither more risk nor a missing score gets a milder token.
    pub fn terms(&self, level: Option<RiskLevel>) -> &Terms {
        match level {
            Some(RiskLevel::Low) => &self.low,
            Some(RiskLevel::Medium) => &self.medium,
            Some(RiskLevel::High) => &self.high,
            None => &self.unscored,
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        let levels = [&self.low, &self.medium, &self.high, &self.unscored];
        self.rules.is_empty() && levels.iter().all(|terms| terms.are_empty())
    }

    /// The rule with that name, if it is enabled.
    pub fn rule(&self, name: &str) -> Option<&TokenRule> {
        self.rules
            .iter()
            .find(|rule| rule.enabled && &*rule.name == name)
    }

    /// The rules in their order, with those that are not enabled.
    pub fn rules(&self) -> &[TokenRule] {
        &self.rules
    }

    /// Whether every use of a scope passes the gateway, as the operator says: what is not seen to be used then never is.
    pub fn watches(&self, scope: &str) -> bool {
        fits(&self.watched, scope)
    }

    /// The API that asks about tokens as `client`.
    pub fn introspector(&self, client: &str) -> Option<&Introspector> {
        self.introspectors.iter().find(|api| api.client == client)
    }

    /// When a scope that was not used counts as one that never is.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// The first enabled rule whose condition holds. One that asks for what this request does not have is passed over.
    pub(super) fn first_match(&self, facts: &Facts<'_>) -> Option<&TokenRule> {
        self.rules
            .iter()
            .filter(|rule| rule.enabled)
            .find(|rule| rule.when.holds(facts).unwrap_or(false))
    }

    /// Reads `[token]`.
    pub(super) fn read(mut section: Section, mistakes: &mut Mistakes) -> Self {
        let mut level = |key, mistakes: &mut Mistakes| {
            let mut below = section.section(key, mistakes);
            let terms = Terms::read(&mut below, mistakes);
            below.finish(mistakes);
            terms
        };
        let low = level("low", mistakes);
        let medium = low.and(&level("medium", mistakes));
        let high = medium.and(&level("high", mistakes));
        // Else whoever keeps a request from being scored would have a milder token than at the lowest risk.
        let unscored = low.and(&level("unscored", mistakes));
        let watched = read_scopes(&mut section, "watched_scopes", mistakes);
        let shipped = Patience::default();
        let days = section.number("unused_after_days", 1..=250, mistakes);
        let grants = section.number("unused_after_grants", 1..=250, mistakes);
        let patience = Patience {
            time: days.map_or(shipped.time, |days| DAY * u32::from(days)),
            grants: grants.map_or(shipped.grants, u64::from),
        };
        let introspectors = Introspector::read_all(&mut section, mistakes);
        let mut rules: Vec<TokenRule> = Vec::new();
        for section in section.sections("rule", TOKEN_RULES_MAX, mistakes) {
            let place = section.place().to_owned();
            let Some(rule) = TokenRule::read(section, mistakes) else {
                continue;
            };
            if rules.iter().any(|other| other.name == rule.name) {
                mistakes.add(
                    format!("token {place}"),
                    format!("the name `{}` is taken", rule.name),
                    "give each rule a name of its own",
                );
            } else {
                rules.push(rule);
            }
        }
        let removes = [&low, &medium, &high, &unscored]
            .into_iter()
            .chain(rules.iter().map(|rule| &rule.terms))
            .any(|terms| terms.remove_unused_scopes);
        if removes && watched.is_empty() {
            mistakes.add(
                section.at("watched_scopes"),
                "is empty, so that `remove_unused_scopes` removes nothing",
                "name the scopes whose every use passes riskgate",
            );
        }
        section.finish(mistakes);
        Self {
            watched,
            introspectors,
            patience,
            low,
            medium,
            high,
            unscored,
            rules,
        }
    }
}

impl Introspector {
    /// Whether it asks for this scope.
    pub fn needs(&self, scope: &str) -> bool {
        fits(&self.scopes, scope)
    }

    fn read_all(section: &mut Section, mistakes: &mut Mistakes) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for mut section in section.sections("introspector", INTROSPECTORS_MAX, mistakes) {
            section.rename(format!("token {}", section.place()));
            let client = section.text("client", "a client id", mistakes);
            let scopes = read_scopes(&mut section, "scopes", mistakes);
            match client {
                Some(client) if all.iter().any(|other| other.client == client) => mistakes.add(
                    section.at("client"),
                    format!("`{client}` is named already"),
                    "name all scopes that it asks for in one place",
                ),
                Some(client) if !client.is_empty() => all.push(Self { client, scopes }),
                _ => mistakes.add(
                    section.place().to_owned(),
                    "has no `client`",
                    "name the client id with which the API introspects tokens",
                ),
            }
            section.finish(mistakes);
        }
        all
    }
}

impl TokenRule {
    fn read(mut section: Section, mistakes: &mut Mistakes) -> Option<Self> {
        let before = mistakes.0.len();
        section.rename(format!("token {}", section.place()));
        let name = rule::read_name(&mut section, "token rule", mistakes);
        let when = rule::read_when(&mut section, mistakes);
        let terms = Terms::read(&mut section, mistakes);
        let enabled = section.flag("enabled", mistakes).unwrap_or(true);
        section.finish(mistakes);
        (mistakes.0.len() == before).then_some(())?;
        Some(Self {
            name: Arc::from(name?),
            when: when?,
            terms,
            enabled,
        })
    }
}

impl PasswordChange {
    /// All changes, with the words of WSO2's contract in lower case.
    pub const ALL: [(&'static str, Self); 4] = [
        ("update", Self::Update),
        ("reset", Self::Reset),
        ("invite", Self::Invite),
        ("register", Self::Register),
    ];

    /// The change that WSO2 names; case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, change)| change)
    }
}

impl PasswordPolicy {
    /// Reads `[password_update]`.
    pub(super) fn read(mut section: Section, mistakes: &mut Mistakes) -> Self {
        let shipped = Self::default();
        let demanded = read_changes(&mut section, "demanded", mistakes);
        let high = read_changes(&mut section, "high", mistakes);
        section.finish(mistakes);
        Self {
            demanded: demanded.unwrap_or(shipped.demanded),
            high: high.unwrap_or(shipped.high),
        }
    }
}

impl Default for PasswordPolicy {
    /// A user who owes a factor may still recover the account: that is how its owner gets rid of a thief.
    fn default() -> Self {
        Self {
            demanded: BTreeSet::from([PasswordChange::Update]),
            high: BTreeSet::from([PasswordChange::Update, PasswordChange::Reset]),
        }
    }
}

fn read_changes(
    section: &mut Section,
    key: &'static str,
    mistakes: &mut Mistakes,
) -> Option<BTreeSet<PasswordChange>> {
    const EXPECTED: &str = "an array of `update`, `reset`, `invite`, `register`";
    if !section.has(key) {
        return None;
    }
    let values = section.values(key, PasswordChange::ALL.len(), EXPECTED, mistakes);
    let mut changes = BTreeSet::new();
    for value in values {
        match value.as_str().and_then(PasswordChange::from_name) {
            Some(change) => drop(changes.insert(change)),
            None => mistakes.add(
                section.at(key),
                format!("has the entry `{value}`"),
                format!("expected {EXPECTED}"),
            ),
        }
    }
    Some(changes)
}

fn read_scopes(
    section: &mut Section,
    key: &'static str,
    mistakes: &mut Mistakes,
) -> BTreeSet<String> {
    const EXPECTED: &str = "an array of scopes such as `\"payments:write\"` or `\"payments:*\"`";
    let values = section.values(key, SCOPES_MAX, EXPECTED, mistakes);
    let mut scopes = BTreeSet::new();
    for value in values {
        match value {
            Value::String(scope) if is_pattern(&scope) => drop(scopes.insert(scope)),
            other => mistakes.add(
                section.at(key),
                format!("has the entry `{other}`"),
                format!("expected {EXPECTED}"),
            ),
        }
    }
    scopes
}

/// Whether one of `patterns` is the scope, or its front with `*` at the end.
fn fits(patterns: &BTreeSet<String>, scope: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(front) => scope.starts_with(front),
            None => pattern == scope,
        })
}

/// A scope token (RFC 6749 section 3.3), perhaps with `*` at its end and nowhere else.
fn is_pattern(text: &str) -> bool {
    let front = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty()
        && text.len() <= SCOPE_BYTES_MAX
        && front
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x29 | 0x2b..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::PolicySet;

    fn policy(text: &str) -> PolicySet {
        PolicySet::parse(&format!("version = 1\n{text}")).unwrap()
    }

    fn mistakes(text: &str) -> String {
        PolicySet::parse(&format!("version = 1\n{text}"))
            .unwrap_err()
            .to_string()
    }

    fn scopes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_holds_at_a_level_holds_above_it() {
        let policy = policy(
            "[token]\nmedium.expires_in = 300\nmedium.refresh_expires_in = 3600\n\
             high.remove_scopes = [\"payments:write\"]\nhigh.expires_in = 600\nunscored.expires_in = 900\n",
        );
        let tokens = policy.tokens();
        assert!(tokens.terms(Some(RiskLevel::Low)).are_empty());
        let medium = tokens.terms(Some(RiskLevel::Medium));
        assert_eq!(
            (medium.expires_in, medium.refresh_expires_in),
            (Some(300), Some(3600))
        );
        let high = tokens.terms(Some(RiskLevel::High));
        assert_eq!(
            (high.expires_in, high.refresh_expires_in),
            (Some(300), Some(3600))
        );
        assert_eq!(high.remove_scopes, scopes(&["payments:write"]));
        assert_eq!(tokens.terms(None).expires_in, Some(900));
    }

    /// Whoever keeps a request from being scored must not have a milder token than everybody else.
    #[test]
    fn what_holds_at_low_holds_without_a_score() {
        let terms = |text: &str| policy(text).tokens().terms(None).clone();
        let low = "[token]\nlow.expires_in = 900\nlow.remove_scopes = [\"admin\"]\nmedium.refuse = true\n";
        let plain = terms(low);
        assert_eq!(plain.expires_in, Some(900));
        assert_eq!(plain.remove_scopes, scopes(&["admin"]));
        assert!(!plain.refuse, "medium is not low");
        let longer = terms(&format!("{low}unscored.expires_in = 3_600\n"));
        assert_eq!(longer.expires_in, Some(900));
        let shorter = terms(&format!("{low}unscored.expires_in = 60\n"));
        assert_eq!(shorter.expires_in, Some(60));
        assert_eq!(shorter.remove_scopes, scopes(&["admin"]));
    }

    #[test]
    fn a_scope_is_named_whole_or_by_its_front() {
        let terms = Terms {
            remove_scopes: scopes(&["payments:write", "admin*"]),
            ..Terms::default()
        };
        for (scope, removed) in [
            ("payments:write", true),
            ("payments:writer", false),
            ("payments:read", false),
            ("admin", true),
            ("admin:keys", true),
            ("", false),
        ] {
            assert_eq!(terms.removes(scope), removed, "{scope}");
        }
    }

    #[test]
    fn rules_are_checked_like_all_others() {
        for (text, said) in [
            ("[token]\nmedum.expires_in = 300\n", "did you mean `medium`"),
            (
                "[token]\nmedium.expires_in = \"5m\"\n",
                "key `token.medium.expires_in`",
            ),
            ("[token]\nmedium.expires_in = 0\n", "from 1 to"),
            (
                "[token]\nhigh.remove_scopes = \"a\"\n",
                "key `token.high.remove_scopes`",
            ),
            ("[token]\nhigh.remove_scopes = [\"a b\"]\n", "has the entry"),
            ("[token]\nhigh.remove_scopes = [\"a*b\"]\n", "has the entry"),
            (
                "[token]\nhigh.remove_unused_scopes = true\n",
                "key `token.watched_scopes`",
            ),
            (
                "[token]\nunused_after_days = 0\n",
                "key `token.unused_after_days`",
            ),
            (
                "[[token.introspector]]\nscopes = [\"a\"]\n",
                "token introspector 1: has no `client`",
            ),
            (
                "[[token.introspector]]\nclient = \"a\"\nscope = [\"a\"]\n",
                "unknown key `scope`",
            ),
            (
                "[[token.introspector]]\nclient = \"a\"\nscopes = [\"a b\"]\n",
                "has the entry",
            ),
            (
                "[[token.introspector]]\nclient = \"a\"\n[[token.introspector]]\nclient = \"a\"\n",
                "is named already",
            ),
            ("[token]\nhigh.refuse = 1\n", "`true` or `false`"),
            (
                "[[token.rule]]\nname = \"x\"\n",
                "token rule `x`: has no `when`",
            ),
            (
                "[[token.rule]]\nname = \"x\"\nwhen = \"client.idd == 'a'\"\nexpires_in = 60\n",
                "token rule `x`, key `when`",
            ),
            (
                "[[token.rule]]\nwhen = \"true\"\n",
                "token rule 1: has no `name`",
            ),
            (
                "[[token.rule]]\nname = \"x\"\nwhen = \"true\"\n[[token.rule]]\nname = \"x\"\nwhen = \"true\"\n",
                "the name `x` is taken",
            ),
            (
                "[[token.rule]]\nname = \"x\"\nwhen = \"true\"\nverdict = \"block\"\n",
                "unknown key `verdict`",
            ),
            (
                "[password_update]\nhigh = [\"delete\"]\n",
                "key `password_update.high`",
            ),
        ] {
            let text = mistakes(text);
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn an_api_that_asks_about_tokens_says_what_for() {
        let policy = policy(
            "[[token.introspector]]\nclient = \"orders\"\nscopes = [\"orders:*\", \"openid\"]\n\
             [[token.introspector]]\nclient = \"anything\"\n",
        );
        let needs = |client, scope| {
            let api = policy.tokens().introspector(client);
            api.map(|api| api.needs(scope))
        };
        assert_eq!(needs("orders", "orders:read"), Some(true));
        assert_eq!(needs("orders", "payments:read"), Some(false));
        assert_eq!(needs("anything", "orders:read"), Some(false));
        assert_eq!(needs("other", "orders:read"), None);
    }

    #[test]
    fn changes_of_a_password_are_named_as_wso2_names_them() {
        let policy = policy("[password_update]\ndemanded = [\"update\", \"invite\"]\nhigh = []\n");
        let passwords = policy.passwords();
        assert!(passwords.demanded.contains(&PasswordChange::Invite));
        assert!(passwords.high.is_empty());
        assert_eq!(
            PasswordChange::from_name("RESET"),
            Some(PasswordChange::Reset)
        );
        assert_eq!(PasswordChange::from_name("DELETE"), None);
        let shipped = PasswordPolicy::default();
        assert!(!shipped.demanded.contains(&PasswordChange::Reset));
    }
}
