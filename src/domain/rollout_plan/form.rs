//! The rollout file as text: what is read is checked, and each mistake is named with its key and place.

use crate::domain::friction::Budget;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::scope::Scope;
use crate::domain::rollout_plan::Approval;
use crate::domain::rollout_plan::Level;
use crate::domain::rollout_plan::Plan;
use crate::domain::rollout_plan::PlanError;
use crate::domain::rollout_plan::Proposal;
use crate::domain::rollout_plan::STAGES_MAX;
use crate::domain::rollout_plan::Stage;
use crate::domain::rollout_plan::TEXT_MAX;
use crate::domain::rollout_plan::is_name;
use crate::domain::rollout_plan::is_same;
use crate::domain::rollout_plan::is_text;
use crate::domain::rollout_plan::named;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeSet;

/// Operators who may be asked for.
const APPROVALS_MAX: i64 = 2;

/// The head of each file that is written.
const HEAD: &str = "\
# Which mode holds for which application, for how many of its users, and who approved it.
# `riskgate rollout` and the console write this file as a whole: comments do not stay.

";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "one")]
    approvals: i64,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    default: RawStage,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stage: Vec<RawStage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    proposal: Vec<RawStage>,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct RawStage {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    mode: Mode,
    percentage: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    approved_by: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    approved_at: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Default for RawStage {
    fn default() -> Self {
        Self {
            tenant: None,
            application: None,
            mode: Mode::default(),
            percentage: 100,
            approved_by: Vec::new(),
            approved_at: String::new(),
            reason: String::new(),
        }
    }
}

fn one() -> i64 {
    1
}

impl Plan {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let raw: Raw = toml::from_str(text)
            .map_err(|error| PlanError::Form(error.to_string().trim_end().to_owned()))?;
        let wrong = |key: String, problem: String| Err(PlanError::Value { key, problem });
        let approvals = match raw.approvals {
            approvals @ 1..=APPROVALS_MAX => usize::try_from(approvals).unwrap_or(1),
            approvals => {
                return wrong(
                    "approvals".to_owned(),
                    format!("{approvals}, expected 1 to {APPROVALS_MAX}"),
                );
            }
        };
        if let Some(problem) = raw.budget.problem() {
            return wrong("budget".to_owned(), problem);
        }
        if raw.stage.len() > STAGES_MAX || raw.proposal.len() > STAGES_MAX {
            return wrong(
                "stage".to_owned(),
                format!("more than {STAGES_MAX}, expected fewer"),
            );
        }
        if raw.default.tenant.is_some() || raw.default.application.is_some() {
            return wrong(
                "default".to_owned(),
                "names a tenant or an application; write it as a [[stage]]".to_owned(),
            );
        }
        let general = raw.default.stage("default", approvals)?;
        let stages = scoped(raw.stage, "stage", approvals)?;
        // Who asked is named; who has to approve is not yet.
        let proposals = scoped(raw.proposal, "proposal", 1)?;
        Ok(Self {
            approvals,
            budget: raw.budget,
            general,
            stages,
            proposals: proposals
                .into_iter()
                .map(|stage| Proposal { stage })
                .collect(),
        })
    }

    /// The text of a file.
    ///
    /// # Errors
    /// A value that has no form in TOML; there is none.
    pub fn to_text(&self) -> Result<String, PlanError> {
        let proposals = self.proposals.iter().map(|proposal| &proposal.stage);
        let raw = Raw {
            approvals: i64::try_from(self.approvals).unwrap_or(APPROVALS_MAX),
            budget: self.budget.clone(),
            default: RawStage::of(&self.general),
            stage: self.stages.iter().map(RawStage::of).collect(),
            proposal: proposals.map(RawStage::of).collect(),
        };
        let text = toml::to_string(&raw).map_err(|error| PlanError::Form(error.to_string()))?;
        Ok(format!("{HEAD}{text}"))
    }
}

impl RawStage {
    fn of(stage: &Stage) -> Self {
        let scope = stage.scope.as_ref();
        Self {
            tenant: scope.and_then(Scope::tenant).map(str::to_owned),
            application: scope.and_then(Scope::application).map(str::to_owned),
            mode: stage.mode,
            percentage: i64::from(stage.percentage),
            approved_by: stage.approval.by.clone(),
            approved_at: stage.approval.at.clone(),
            reason: stage.approval.reason.clone(),
        }
    }

    fn stage(self, at: &str, approvals: usize) -> Result<Stage, PlanError> {
        let wrong = |key: &str, problem: String| PlanError::Value {
            key: format!("{at}.{key}"),
            problem,
        };
        let percentage = u8::try_from(self.percentage)
            .ok()
            .filter(|percentage| *percentage <= 100);
        let Some(percentage) = percentage else {
            let found = self.percentage;
            return Err(wrong("percentage", format!("{found}, expected 0 to 100")));
        };
        for (key, text) in [
            ("tenant", self.tenant.as_deref()),
            ("application", self.application.as_deref()),
        ] {
            if !text.is_none_or(is_name) {
                let problem = format!(
                    "expected 1 to {TEXT_MAX} characters without controls and invisible ones"
                );
                return Err(wrong(key, problem));
            }
        }
        if !is_text(&self.reason) {
            let problem =
                format!("expected at most {TEXT_MAX} characters without control characters");
            return Err(wrong("reason", problem));
        }
        let names: BTreeSet<&String> = self.approved_by.iter().collect();
        if names.len() != self.approved_by.len()
            || !self.approved_by.iter().all(|name| is_name(name))
        {
            let problem = "expected names of operators, each once".to_owned();
            return Err(wrong("approved_by", problem));
        }
        let stage = Stage {
            scope: Scope::new(self.tenant, self.application),
            mode: self.mode,
            percentage,
            approval: Approval {
                by: self.approved_by,
                at: self.approved_at,
                reason: self.reason,
            },
        };
        let shows = stage.share().strongest() > Mode::Monitor;
        if shows && stage.approval.by.len() < approvals {
            let problem = format!(
                "names {} operators, expected {approvals}: {} changes what users or WSO2 see; promote it with `riskgate rollout`, \
                 or name who approved it",
                stage.approval.by.len(),
                Level(stage.mode, stage.percentage),
            );
            return Err(wrong("approved_by", problem));
        }
        Ok(stage)
    }
}

/// Reads stages that name whom they are for, each once.
fn scoped(raw: Vec<RawStage>, list: &str, approvals: usize) -> Result<Vec<Stage>, PlanError> {
    let mut stages: Vec<Stage> = Vec::with_capacity(raw.len());
    for (place, one) in raw.into_iter().enumerate() {
        let at = format!("{list}[{place}]");
        let stage = one.stage(&at, approvals)?;
        // What everybody else gets can be asked for as well.
        if stage.scope.is_none() && list == "stage" {
            return Err(PlanError::Value {
                key: at,
                problem: "names neither tenant nor application; set one, or change [default]"
                    .to_owned(),
            });
        }
        let other = stages
            .iter()
            .position(|other| is_same(other.scope.as_ref(), stage.scope.as_ref()));
        if let Some(other) = other {
            return Err(PlanError::Value {
                key: at,
                problem: format!(
                    "{} is in {list}[{other}] already; keep one of the two",
                    named(stage.scope.as_ref())
                ),
            });
        }
        stages.push(stage);
    }
    Ok(stages)
}
