//! What is made of the counts of one scope: whether it is used, never used, or whether that cannot be said. A scope is
//! called never used only where every sign of the contrary has been absent for long and over many grants.

use crate::domain::history::scopes::Bearers;
use crate::domain::history::scopes::Doubt;
use crate::domain::history::scopes::ScopeUsage;
use crate::domain::history::scopes::WatchedScopes;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// When a scope that was not used counts as one that never is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// For how long it must have been watched.
    pub time: Duration,
    /// How often it must have been granted.
    pub grants: u64,
}

/// Of whose tokens something is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line<'a> {
    /// Of all of a kind.
    All(Bearers),
    /// Of those of users in a group.
    Group(&'a str),
}

/// What is known of a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// It was not watched for long or often enough.
    Early,
    /// It was granted for long and often enough, and nothing used it.
    NeverUsed,
    /// Lately something happened that may have been a use.
    Unclear,
    /// It is used.
    Used,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30 * 24 * 3600),
            grants: 100,
        }
    }
}

impl ScopeUsage {
    /// The counts of a line; `None` for a group that is not known.
    pub fn line(&self, line: Line<'_>) -> Option<&WatchedScopes> {
        match line {
            Line::All(bearers) => Some(self.of(bearers)),
            Line::Group(name) => self.further.groups.get(name),
        }
    }

    /// What may have been uses of a scope of a line.
    pub fn doubt(&self, line: Line<'_>, scope: &str) -> Doubt {
        let doubts = match line {
            Line::All(Bearers::Users) | Line::Group(_) => &self.further.users,
            Line::All(Bearers::Itself) => &self.further.itself,
        };
        doubts.get(scope).copied().unwrap_or_default()
    }

    /// What is known of a scope of a line. Of one that was never seen nothing is.
    pub fn finding(
        &self,
        line: Line<'_>,
        scope: &str,
        patience: Patience,
        now: Timestamp,
    ) -> Finding {
        let watched = self.line(line).and_then(|line| line.scopes.get(scope));
        let Some(known) = watched else {
            return Finding::Early;
        };
        if known.used > 0 {
            return Finding::Used;
        }
        let doubt = self.doubt(line, scope);
        let ungrouped = match line {
            Line::All(_) => Timestamp::default(),
            Line::Group(_) => doubt.last_ungrouped,
        };
        let doubted = doubt.last_asked.max(ungrouped);
        let is_long = |since: Timestamp| now.since(since) >= patience.time;
        if doubted > Timestamp::default() && !is_long(doubted) {
            Finding::Unclear
        } else if known.granted >= patience.grants && is_long(known.first.max(self.further.crowded))
        {
            Finding::NeverUsed
        } else {
            Finding::Early
        }
    }
}
