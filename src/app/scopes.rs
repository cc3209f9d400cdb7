//! `riskgate scopes suggest`: which scopes of which application could go, from what the gateways have seen. It reads what is
//! remembered and changes nothing.

use crate::adapters::clock::SystemClock;
use crate::adapters::store::transfer::Body;
use crate::adapters::store::transfer::Cursor;
use crate::app::RunError;
use crate::app::assemble;
use crate::app::state;
use crate::config::Config;
use crate::domain::history::ScopeUsage;
use crate::domain::history::scopes::Bearers;
use crate::domain::history::scopes::Finding;
use crate::domain::history::scopes::Line;
use crate::domain::policy::token::TokenPolicy;
use crate::domain::printable;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use serde::Serialize;
use std::fmt::Write;

/// What is suggested of one application's tokens of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Suggestion {
    /// The client id.
    pub client_id: String,
    /// Its tenant domain.
    pub tenant: String,
    /// `users`, or `itself` for tokens that speak for the application.
    pub bearers: &'static str,
    /// The group or role, where this is about its users alone.
    pub group: Option<String>,
    /// Token answers.
    pub tokens: u64,
    /// Since when they are watched, RFC 3339.
    pub since: String,
    /// By scope.
    pub scopes: Vec<ScopeLine>,
    /// Grants of scopes that there was no room for.
    pub left_out: u64,
    /// Token answers of groups that there was no room for; of all users alone.
    pub groups_left_out: u64,
}

/// What is suggested of one scope.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeLine {
    /// The scope.
    pub scope: String,
    /// Token answers that named it.
    pub granted: u64,
    /// Requests that used it.
    pub used: u64,
    /// The latest use, RFC 3339.
    pub last_used: Option<String>,
    /// Introspections of tokens with it, of all users or of the application itself, that may have been uses.
    pub asked: u64,
    /// The latest of them, RFC 3339.
    pub last_asked: Option<String>,
    /// How many grants a suggestion must rest on (`token.unused_after_grants`).
    pub grants_needed: u64,
    /// Whether policy says that every use of it passes here (`token.watched_scopes`).
    pub watched: bool,
    /// What to do.
    pub suggestion: Advice,
}

/// What to do about a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// It is used.
    Keep,
    /// It was never used, and every use of it would have been seen.
    Remove,
    /// It was not seen to be used, but may be where the gateway does not see it, or by whom it cannot tell.
    Look,
    /// It is too early to say.
    Wait,
}

/// What is suggested, for one application or all. With the embedded store the gateway must not run meanwhile.
pub fn suggest(
    config: &Config,
    file: &str,
    client: Option<&str>,
    tenant: Option<&str>,
) -> Result<Vec<Suggestion>, RunError> {
    let keys = state::keys(config)?;
    let settings = state::settings(config, file, &keys)?;
    let (policy, _) = assemble::policy(config).map_err(RunError::Config)?;
    state::run(async {
        let store = state::open_own(config, file, &settings)?;
        let now = SystemClock.now();
        let mut suggestions = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let page = store.export(at, now).await.map_err(state::failed)?;
            for entry in page.entries {
                let Body::Scopes(usage) = entry.body else {
                    continue;
                };
                let fits = client.is_none_or(|client| usage.client_id == client)
                    && tenant.is_none_or(|tenant| usage.tenant.eq_ignore_ascii_case(tenant));
                if fits {
                    suggestions.extend(of(&usage, policy.tokens(), now));
                }
            }
            cursor = page.next;
        }
        suggestions.sort_by(|one, other| {
            let key = |of: &Suggestion| {
                let whose = (of.tenant.clone(), of.client_id.clone());
                (whose, of.bearers, of.group.clone())
            };
            key(one).cmp(&key(other))
        });
        Ok(suggestions)
    })
}

fn of(usage: &ScopeUsage, policy: &TokenPolicy, now: Timestamp) -> Vec<Suggestion> {
    let kinds = Bearers::ALL.into_iter().map(Line::All);
    let groups = usage.further.groups.keys();
    let lines = kinds.chain(groups.map(|name| Line::Group(name)));
    lines
        .filter_map(|line| Some((line, usage.line(line)?)))
        .filter(|(_, watched)| !watched.scopes.is_empty())
        .map(|(line, watched)| Suggestion {
            client_id: usage.client_id.clone(),
            tenant: usage.tenant.clone(),
            bearers: match line {
                Line::All(bearers) => bearers.as_str(),
                Line::Group(_) => Bearers::Users.as_str(),
            },
            group: match line {
                Line::All(_) => None,
                Line::Group(name) => Some(name.to_owned()),
            },
            tokens: watched.tokens,
            since: watched.since.to_rfc3339(),
            left_out: watched.left_out,
            groups_left_out: match line {
                Line::All(Bearers::Users) => usage.further.groups_left_out,
                Line::All(Bearers::Itself) | Line::Group(_) => 0,
            },
            scopes: watched
                .scopes
                .iter()
                .map(|(name, scope)| {
                    let is_watched = policy.watches(name);
                    let doubt = usage.doubt(line, name);
                    ScopeLine {
                        scope: name.clone(),
                        granted: scope.granted,
                        used: scope.used,
                        last_used: (scope.used > 0).then(|| scope.last_used.to_rfc3339()),
                        asked: doubt.asked,
                        last_asked: (doubt.asked > 0).then(|| doubt.last_asked.to_rfc3339()),
                        grants_needed: policy.patience().grants,
                        watched: is_watched,
                        suggestion: match usage.finding(line, name, policy.patience(), now) {
                            Finding::Used => Advice::Keep,
                            Finding::NeverUsed if is_watched => Advice::Remove,
                            Finding::NeverUsed | Finding::Unclear => Advice::Look,
                            Finding::Early => Advice::Wait,
                        },
                    }
                })
                .collect(),
        })
        .collect()
}

/// The suggestions as JSON.
pub fn json(suggestions: &[Suggestion]) -> Result<String, RunError> {
    printable::json_pretty(suggestions).map_err(|error| RunError::System(error.to_string()))
}

/// The suggestions as a table for each application.
pub fn table(suggestions: &[Suggestion]) -> String {
    let mut text = String::new();
    for one in suggestions {
        let speak = match (one.bearers, &one.group) {
            ("itself", _) => "for itself".to_owned(),
            (_, None) => "for users".to_owned(),
            (_, Some(group)) => format!("for users in `{}`", printable::plain(group)),
        };
        let _infallible = writeln!(
            text,
            "{} in {}, tokens {speak}: {} since {}",
            printable::plain(&one.client_id),
            printable::plain(&one.tenant),
            one.tokens,
            one.since
        );
        let _infallible = writeln!(
            text,
            "  {:<40} {:>9} {:>9} {:>9}  {:<24}  suggestion",
            "scope", "granted", "used", "asked", "last used"
        );
        for line in &one.scopes {
            let advice = match line.suggestion {
                Advice::Keep => "keep".to_owned(),
                Advice::Remove => format!("remove: never used in {} grants", line.granted),
                Advice::Look => "look: not seen to be used here".to_owned(),
                Advice::Wait if line.granted < line.grants_needed => {
                    format!("wait: {} of {} grants", line.granted, line.grants_needed)
                }
                Advice::Wait => "wait: not watched for long enough".to_owned(),
            };
            let _infallible = writeln!(
                text,
                "  {:<40} {:>9} {:>9} {:>9}  {:<24}  {advice}",
                printable::plain(&line.scope),
                line.granted,
                line.used,
                line.asked,
                line.last_used.as_deref().unwrap_or("never")
            );
        }
        if one.left_out > 0 {
            let _infallible = writeln!(
                text,
                "  {} grants of further scopes are not listed",
                one.left_out
            );
        }
        if one.groups_left_out > 0 {
            let _infallible = writeln!(
                text,
                "  {} grants of further groups are not listed",
                one.groups_left_out
            );
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::ScopeUse;
    use crate::domain::history::scopes::Groups;
    use crate::domain::ids::Pseudonym;
    use crate::domain::ids::SubjectKey;
    use crate::domain::policy::PolicySet;

    #[test]
    fn what_is_not_watched_is_never_to_be_removed() {
        let policy = PolicySet::parse(
            "version = 1\n[token]\nwatched_scopes = [\"payments:*\"]\nunused_after_days = 7\nunused_after_grants = 10\n",
        )
        .unwrap();
        let mut usage = ScopeUsage::default();
        let client = SubjectKey(Pseudonym::from_bytes([1; 16]));
        let day = |day: i64| Timestamp(1_700_000_000_000 + day * 24 * 3600 * 1000);
        for at in [day(0), day(9)] {
            let mut used =
                ScopeUse::new(client, "app", "carbon.super", Bearers::Users, at).unwrap();
            for _ in 0..6 {
                used.grant(
                    ["payments:read", "payments:write", "profile"].into_iter(),
                    &Groups::default(),
                    at,
                );
            }
            used.take(["payments:read"].into_iter(), &Groups::default(), at);
            usage.learn(&used);
        }
        let mut late =
            ScopeUse::new(client, "app", "carbon.super", Bearers::Users, day(9)).unwrap();
        late.grant(["payments:new"].into_iter(), &Groups::default(), day(9));
        usage.learn(&late);
        let found = of(&usage, policy.tokens(), day(10));
        assert_eq!(found.len(), 1);
        let advice: Vec<(&str, Advice)> = found[0]
            .scopes
            .iter()
            .map(|line| (line.scope.as_str(), line.suggestion))
            .collect();
        assert_eq!(
            advice,
            [
                ("payments:new", Advice::Wait),
                ("payments:read", Advice::Keep),
                ("payments:write", Advice::Remove),
                ("profile", Advice::Look),
            ]
        );
        let text = table(&found);
        assert!(
            text.contains("payments:write") && text.contains("remove: never used in 12 grants"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&found).unwrap()).unwrap();
        assert_eq!(json[0]["scopes"][2]["suggestion"], "remove");
        assert_eq!(json[0]["scopes"][3]["watched"], false);
    }

    #[test]
    fn each_group_has_its_own_lines_and_names_that_do_nothing_but_print() {
        let policy = PolicySet::parse(
            "version = 1\n[token]\nwatched_scopes = [\"pay\"]\nunused_after_days = 7\nunused_after_grants = 10\n",
        )
        .unwrap();
        let mut usage = ScopeUsage::default();
        let client = SubjectKey(Pseudonym::from_bytes([1; 16]));
        let day = |day: i64| Timestamp(1_700_000_000_000 + day * 24 * 3600 * 1000);
        let of = |name: &str| Groups::of(std::iter::once(&serde_json::json!(name)));
        for at in [day(0), day(9)] {
            let mut used = ScopeUse::new(client, "app", "t", Bearers::Users, at).unwrap();
            for _ in 0..6 {
                used.grant(["pay"].into_iter(), &of("tellers"), at);
                used.grant(["pay"].into_iter(), &of("managers\u{202e}"), at);
            }
            used.grant(["pay"].into_iter(), &of("guests"), at);
            used.take(["pay"].into_iter(), &of("managers\u{202e}"), at);
            usage.learn(&used);
        }
        let found = super::of(&usage, policy.tokens(), day(10));
        let lines: Vec<(Option<&str>, u64, u64, Advice)> = found
            .iter()
            .map(|one| {
                let line = &one.scopes[0];
                (
                    one.group.as_deref(),
                    line.granted,
                    line.used,
                    line.suggestion,
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                (None, 26, 2, Advice::Keep),
                (Some("guests"), 2, 0, Advice::Wait),
                (Some("managers\u{202e}"), 12, 2, Advice::Keep),
                (Some("tellers"), 12, 0, Advice::Remove),
            ]
        );
        let text = table(&found);
        assert!(
            text.contains("tokens for users in `tellers`: 12 since"),
            "{text}"
        );
        assert!(text.contains("wait: 2 of 10 grants"), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}
