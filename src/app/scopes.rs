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
    /// Token answers.
    pub tokens: u64,
    /// Since when they are watched, RFC 3339.
    pub since: String,
    /// By scope.
    pub scopes: Vec<ScopeLine>,
    /// Grants of scopes that there was no room for.
    pub left_out: u64,
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
    /// It was not seen to be used, but may be where the gateway does not see it.
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
        let store = state::open(
            config,
            file,
            "state.url",
            &config.state.url,
            &settings,
            true,
        )?;
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
            let key = |of: &Suggestion| (of.tenant.clone(), of.client_id.clone(), of.bearers);
            key(one).cmp(&key(other))
        });
        Ok(suggestions)
    })
}

fn of(usage: &ScopeUsage, policy: &TokenPolicy, now: Timestamp) -> Vec<Suggestion> {
    let kinds = Bearers::ALL
        .into_iter()
        .map(|bearers| (bearers, usage.of(bearers)));
    kinds
        .filter(|(_, watched)| !watched.scopes.is_empty())
        .map(|(bearers, watched)| Suggestion {
            client_id: usage.client_id.clone(),
            tenant: usage.tenant.clone(),
            bearers: bearers.as_str(),
            tokens: watched.tokens,
            since: watched.since.to_rfc3339(),
            left_out: watched.left_out,
            scopes: watched
                .scopes
                .iter()
                .map(|(name, scope)| {
                    let is_watched = policy.watches(name);
                    let never = watched.is_never_used(name, policy.patience(), now);
                    ScopeLine {
                        scope: name.clone(),
                        granted: scope.granted,
                        used: scope.used,
                        last_used: (scope.used > 0).then(|| scope.last_used.to_rfc3339()),
                        watched: is_watched,
                        suggestion: match (scope.used > 0, never, is_watched) {
                            (true, ..) => Advice::Keep,
                            (false, true, true) => Advice::Remove,
                            (false, true, false) => Advice::Look,
                            (false, false, _) => Advice::Wait,
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
        let speak = match one.bearers {
            "itself" => "for itself",
            _ => "for users",
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
            "  {:<40} {:>9} {:>9}  {:<24}  suggestion",
            "scope", "granted", "used", "last used"
        );
        for line in &one.scopes {
            let advice = match line.suggestion {
                Advice::Keep => "keep",
                Advice::Remove => "remove: never used",
                Advice::Look => "look: not seen to be used here",
                Advice::Wait => "wait: not watched for long enough",
            };
            let _infallible = writeln!(
                text,
                "  {:<40} {:>9} {:>9}  {:<24}  {advice}",
                printable::plain(&line.scope),
                line.granted,
                line.used,
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
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::ScopeUse;
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
                    at,
                );
            }
            used.take(["payments:read"].into_iter(), at);
            usage.learn(&used);
        }
        let mut late =
            ScopeUse::new(client, "app", "carbon.super", Bearers::Users, day(9)).unwrap();
        late.grant(["payments:new"].into_iter(), day(9));
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
            text.contains("payments:write") && text.contains("remove: never used"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&found).unwrap()).unwrap();
        assert_eq!(json[0]["scopes"][2]["suggestion"], "remove");
        assert_eq!(json[0]["scopes"][3]["watched"], false);
    }
}
