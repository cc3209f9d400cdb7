//! The risk as members of a token, of an introspection answer or of an assertion: the one place where their names and
//! forms are. It says nothing about whom they may be told to; that is the mode's and the caller's word.

use crate::domain::history::Provenance;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::Assessment;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::risk::Thresholds;
use serde_json::Value;

/// The score: an integer, 0 to 100.
pub const RISK_SCORE: &str = "risk_score";

/// `low`, `medium` or `high`.
pub const RISK_LEVEL: &str = "risk_level";

/// Reason codes, strongest first.
pub const RISK_REASONS: &str = "risk_reasons";

/// `scored` or `unscored`.
pub const RISK_STATUS: &str = "risk_status";

/// All names, in the order in which they are written.
pub const RISK_CLAIMS: [&str; 4] = [RISK_SCORE, RISK_LEVEL, RISK_REASONS, RISK_STATUS];

/// The most reason codes that are told: those of the headers, so that a token stays small.
pub const REASONS_MAX: usize = 8;

/// What is told of the risk. Where there is no score nothing but that is told: `unscored` is never to be read as low.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RiskClaims {
    /// There is a score.
    Scored {
        /// The score, 0 to 100.
        score: u8,
        /// Its level under the thresholds of the tenant and application.
        level: RiskLevel,
        /// Why, strongest first; at most [`REASONS_MAX`].
        reasons: Vec<Reason>,
    },
    /// No score could be had.
    Unscored,
}

impl RiskClaims {
    /// Whether anything may be told in this mode: only `advise` and `enforce` change what others see.
    pub fn are_told(mode: Mode) -> bool {
        matches!(mode, Mode::Advise | Mode::Enforce)
    }

    /// What is told of a decision as it is taken.
    pub fn of_decision(assessment: &Assessment, decision: &Decision) -> Self {
        match (assessment.score(), decision.level) {
            (Some(score), Some(level)) => {
                Self::scored(score.points(), level, decision.reasons.iter().copied())
            }
            _ => Self::Unscored,
        }
    }

    /// What is told of the decision behind a code, token or session. `thresholds` are those that hold for its tenant and
    /// application now. A code that this version does not know is left out.
    pub fn of_link(link: &Provenance, thresholds: Thresholds) -> Self {
        match link.score {
            Some(score) => Self::scored(
                score,
                RiskScore::from_points(score).level(thresholds),
                link.reasons
                    .iter()
                    .filter_map(|code| Reason::from_code(code)),
            ),
            None => Self::Unscored,
        }
    }

    /// `scored` or `unscored`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Scored { .. } => "scored",
            Self::Unscored => "unscored",
        }
    }

    /// The level, where there is a score.
    pub fn level(&self) -> Option<RiskLevel> {
        match self {
            Self::Scored { level, .. } => Some(*level),
            Self::Unscored => None,
        }
    }

    /// The members, in the order of [`RISK_CLAIMS`]; the status alone where there is no score.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let scored = match self {
            Self::Scored {
                score,
                level,
                reasons,
            } => Some([
                (RISK_SCORE, Value::from(*score)),
                (RISK_LEVEL, Value::from(level.as_str())),
                (
                    RISK_REASONS,
                    reasons.iter().map(|reason| reason.code()).collect(),
                ),
            ]),
            Self::Unscored => None,
        };
        let status = (RISK_STATUS, Value::from(self.status()));
        scored.into_iter().flatten().chain([status])
    }

    fn scored(score: u8, level: RiskLevel, reasons: impl Iterator<Item = Reason>) -> Self {
        Self::Scored {
            score: score.min(100),
            level,
            reasons: reasons.take(REASONS_MAX).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::decision::Matched;
    use crate::domain::policy::decision::Verdict;
    use crate::domain::risk::FallbackCause;
    use crate::domain::risk::ScoreSource;
    use serde_json::json;

    fn decision(level: Option<RiskLevel>, reasons: Vec<Reason>) -> Decision {
        Decision {
            verdict: Verdict::Allow,
            reasons,
            level,
            matched: Matched::Default(RiskLevel::Medium),
            policy_version: "p".into(),
            adjusted: None,
            skipped: Vec::new(),
        }
    }

    fn assessed(points: u8) -> Assessment {
        Assessment::Scored {
            score: RiskScore::from_points(points),
            reasons: Vec::new(),
            contributions: Vec::new(),
            source: ScoreSource::Model,
            fallback: None,
        }
    }

    fn members(claims: &RiskClaims) -> Value {
        Value::Object(
            claims
                .members()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    #[test]
    fn a_score_is_told_with_its_level_and_reasons() {
        let reasons = vec![Reason::RiskMedium, Reason::UnfamiliarDevice];
        let claims =
            RiskClaims::of_decision(&assessed(47), &decision(Some(RiskLevel::Medium), reasons));
        assert_eq!(
            members(&claims),
            json!({
                "risk_score": 47,
                "risk_level": "medium",
                "risk_reasons": ["risk_medium", "unfamiliar_device"],
                "risk_status": "scored",
            })
        );
        assert!(members(&claims)["risk_score"].is_u64());
        let names: Vec<&str> = claims.members().map(|(name, _)| name).collect();
        assert_eq!(names, RISK_CLAIMS);
    }

    #[test]
    fn no_score_is_told_as_that_and_as_nothing_else() {
        let claims = RiskClaims::of_decision(
            &Assessment::Unscored(FallbackCause::Overload),
            &decision(None, vec![Reason::ScoreUnavailable]),
        );
        assert_eq!(members(&claims), json!({ "risk_status": "unscored" }));
        assert_eq!(claims.level(), None);
    }

    #[test]
    fn a_token_does_not_grow_with_the_reasons() {
        let all = Reason::ALL.to_vec();
        let claims = RiskClaims::of_decision(&assessed(90), &decision(Some(RiskLevel::High), all));
        assert_eq!(
            members(&claims)["risk_reasons"].as_array().unwrap().len(),
            REASONS_MAX
        );
    }

    #[test]
    fn weaker_modes_tell_nothing() {
        let told = Mode::ALL.map(RiskClaims::are_told);
        assert_eq!(told, [false, false, true, true]);
    }
}
