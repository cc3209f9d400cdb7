//! What policy says of one request, and how far the gateway goes with it. Values only; nothing here decides.

use crate::domain::policy::reason::Reason;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskLevel;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What to do about a request, in ascending order of severity.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It goes on with a stronger factor.
    StepUp,
    /// It is held until an analyst releases it.
    Review,
    /// It is refused.
    Block,
}

/// How far the gateway goes with a verdict, from the weakest to the strongest.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is scored.
    Off,
    /// The verdict is logged and counted; nobody sees it. The shipped default.
    #[default]
    Monitor,
    /// The verdict travels in headers and claims, for others to act on.
    Advise,
    /// The verdict is acted on.
    Enforce,
}

/// Which part of the policy gave the verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Matched {
    /// The first rule whose condition held.
    Rule {
        /// Its name.
        name: Arc<str>,
    },
    /// No rule: what `[defaults]` says of the level.
    Default(RiskLevel),
    /// No rule and no score: what `on_unscored` says.
    OnUnscored {
        /// Why there was no score.
        cause: FallbackCause,
    },
}

/// Why the verdict is another than the one that the matched part named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Adjustment {
    /// Lowered to step-up: a break-glass account is never blocked or held.
    BreakGlass {
        /// What the policy said.
        from: Verdict,
    },
    /// Raised to step-up: a demand is known, and without a score it cannot be said to be met.
    Demanded {
        /// What the policy said.
        from: Verdict,
    },
}

/// The answer of the policy. It always exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Why: the policy's own reasons first, then those of the score in their order; each once.
    pub reasons: Vec<Reason>,
    /// The level under the thresholds that hold for the tenant and application; none when unscored.
    pub level: Option<RiskLevel>,
    /// Which part of the policy spoke.
    pub matched: Matched,
    /// Which policy this was: the first 16 hexadecimal digits of the SHA-256 of its file.
    pub policy_version: Arc<str>,
    /// Whether and why the verdict was changed afterwards.
    pub adjusted: Option<Adjustment>,
    /// The rules that could not be evaluated and were passed over, because they read `risk.score` or `risk.level` of an
    /// unscored request.
    pub skipped: Vec<Arc<str>>,
}

impl Verdict {
    /// All verdicts, in ascending order of severity.
    pub const ALL: [Self; 4] = [Self::Allow, Self::StepUp, Self::Review, Self::Block];

    /// The verdict as it is written in headers, policies, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::StepUp => "step_up",
            Self::Review => "review",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Mode {
    /// All modes, from the weakest.
    pub const ALL: [Self; 4] = [Self::Off, Self::Monitor, Self::Advise, Self::Enforce];

    /// The mode as it is written in configuration, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Monitor => "monitor",
            Self::Advise => "advise",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Matched {
    /// The rule's name, `default_<level>` or `on_unscored`.
    pub fn label(&self) -> &str {
        match self {
            Self::Rule { name } => name,
            Self::Default(RiskLevel::Low) => "default_low",
            Self::Default(RiskLevel::Medium) => "default_medium",
            Self::Default(RiskLevel::High) => "default_high",
            Self::OnUnscored { .. } => "on_unscored",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_modes_are_ordered_as_listed() {
        assert!(Verdict::ALL.is_sorted());
        assert!(Mode::ALL.is_sorted());
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
        }
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }

    #[test]
    fn the_mode_that_ships_changes_nothing() {
        assert_eq!(Mode::default(), Mode::Monitor);
    }
}
