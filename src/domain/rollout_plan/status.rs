//! What operators see of a plan: each stage with its budget as it is now, what waits for approval, what has fallen back.
//! The form in which the admin listener and the command line speak of it.

use crate::domain::friction::Count;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::StageMark;
use crate::domain::policy::scope::Scope;
use crate::domain::rollout_plan::Level;
use crate::domain::rollout_plan::Plan;
use crate::domain::rollout_plan::Stage;
use crate::domain::rollout_plan::named;
use serde::Deserialize;
use serde::Serialize;
use std::fmt::Write;

/// Everything that operators see.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// How many operators a promotion needs.
    pub approvals: usize,
    /// How many of a hundred known-good users may be challenged.
    pub budget_percent: f64,
    /// Within how many minutes.
    pub window_minutes: u32,
    /// From how many users on there is a verdict.
    pub users_min: u32,
    /// Whether `[mode]` holds everybody off, whatever the plan says.
    pub is_off: bool,
    /// The stages, that of everybody else first.
    pub stages: Vec<StageStatus>,
    /// What waits for approval.
    pub proposals: Vec<ProposalStatus>,
}

/// One stage.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StageStatus {
    /// The tenant, where it is of one.
    pub tenant: Option<String>,
    /// The application, where it is of one.
    pub application: Option<String>,
    /// The mode.
    pub mode: Mode,
    /// For how many of a hundred users.
    pub percentage: u8,
    /// Who approved it.
    pub approved_by: Vec<String>,
    /// When.
    pub approved_at: String,
    /// Why.
    pub reason: String,
    /// Whether requests are judged by it already.
    pub in_force: bool,
    /// Known-good users of the window, and how many of them were challenged.
    pub count: Count,
    /// When and at what it has fallen back to monitor, where it has.
    pub fallen: Option<Fall>,
}

/// A promotion that waits.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ProposalStatus {
    /// The tenant, where it is of one.
    pub tenant: Option<String>,
    /// The application, where it is of one.
    pub application: Option<String>,
    /// What holds now.
    pub from: String,
    /// What is asked for.
    pub to: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// A stage has fallen back to monitor by itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fall {
    /// The stage, by its mark in hexadecimal: another stage of the same scope has not fallen.
    pub mark: String,
    /// Its scope in words.
    pub stage: String,
    /// When, RFC 3339.
    pub at: String,
    /// What was counted.
    pub count: Count,
}

/// What the gateway answers to an operator's word.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Said {
    /// `promoted`, `proposed`, `approved` or `demoted`; empty when it has no effect.
    pub action: String,
    /// What held before.
    pub from: String,
    /// What holds now, or would with the approval.
    pub to: String,
    /// Why it has no effect.
    pub error: String,
}

impl ProposalStatus {
    /// What is asked for, by whom and when.
    fn asked(&self) -> String {
        let Self {
            from, to, by, at, ..
        } = self;
        format!("{from} -> {to}, asked for by {by} at {at}")
    }

    /// In one line.
    pub fn line(&self) -> String {
        let name = scope_name(self.tenant.as_deref(), self.application.as_deref());
        let mut line = format!("{name}: {}", self.asked());
        if !self.reason.is_empty() {
            line.push_str(": ");
            line.push_str(&self.reason);
        }
        line
    }
}

impl Status {
    /// What waits for approval for whom.
    pub fn waiting(
        &self,
        tenant: Option<&str>,
        application: Option<&str>,
    ) -> Option<&ProposalStatus> {
        self.proposals.iter().find(|proposal| {
            proposal.tenant.as_deref() == tenant && proposal.application.as_deref() == application
        })
    }
}

impl Said {
    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads [`json`](Self::json).
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The stages that have fallen, as they are kept.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Falls {
    /// Each once.
    pub fall: Vec<Fall>,
}

impl Fall {
    /// The fall of a stage.
    pub fn new(stage: &Stage, at: String, count: Count) -> Self {
        Self {
            mark: hexadecimal(stage.mark()),
            stage: named(stage.scope.as_ref()),
            at,
            count,
        }
    }

    /// The mark of its stage.
    pub fn mark(&self) -> Option<StageMark> {
        u64::from_str_radix(&self.mark, 16).ok().map(StageMark)
    }
}

impl Falls {
    /// Reads what was kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    /// The text that is kept.
    pub fn to_text(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

fn hexadecimal(mark: StageMark) -> String {
    format!("{:016x}", mark.0)
}

impl Status {
    /// What `plan` says; `in_force` is the plan by which requests are judged, `count` the users of a stage's window.
    pub fn of(
        plan: &Plan,
        in_force: Option<&Plan>,
        falls: &[Fall],
        mut count: impl FnMut(StageMark) -> Count,
    ) -> Self {
        let stages = plan.all().map(|stage| {
            let mark = stage.mark();
            let own = hexadecimal(mark);
            StageStatus {
                tenant: tenant(stage.scope.as_ref()),
                application: application(stage.scope.as_ref()),
                mode: stage.mode,
                percentage: stage.percentage,
                approved_by: stage.approval.by.clone(),
                approved_at: stage.approval.at.clone(),
                reason: stage.approval.reason.clone(),
                in_force: in_force.is_some_and(|plan| plan.find(mark).is_some()),
                count: count(mark),
                fallen: falls.iter().find(|fall| fall.mark == own).cloned(),
            }
        });
        let proposals = plan.proposals.iter().map(|proposal| {
            let stage = &proposal.stage;
            ProposalStatus {
                tenant: tenant(stage.scope.as_ref()),
                application: application(stage.scope.as_ref()),
                from: plan.level(stage.scope.as_ref()),
                to: Level(stage.mode, stage.percentage).to_string(),
                by: stage.approval.by.join(", "),
                at: stage.approval.at.clone(),
                reason: stage.approval.reason.clone(),
            }
        });
        Self {
            approvals: plan.approvals,
            budget_percent: plan.budget.percent,
            window_minutes: plan.budget.window_minutes,
            users_min: plan.budget.users_min,
            is_off: false,
            stages: stages.collect(),
            proposals: proposals.collect(),
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads [`json`](Self::json).
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As lines for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |words: std::fmt::Arguments<'_>| {
            // A text takes all that is written to it.
            if text.write_fmt(words).is_ok() {
                text.push('\n');
            }
        };
        if self.is_off {
            line(format_args!(
                "[mode] says off: nothing is scored, whatever is planned\n"
            ));
        }
        let heads = ("STAGE", "MODE", "KNOWN-GOOD", "CHALLENGED", "APPROVED BY");
        line(format_args!(
            "{:<32} {:<14} {:>10} {:>11}  {}",
            heads.0, heads.1, heads.2, heads.3, heads.4
        ));
        for stage in &self.stages {
            let name = scope_name(stage.tenant.as_deref(), stage.application.as_deref());
            let level = Level(stage.mode, stage.percentage).to_string();
            let challenged = format!("{:.1} %", stage.count.share() * 100.0);
            let mut by = stage.approved_by.join(", ");
            if by.is_empty() {
                "-".clone_into(&mut by);
            }
            let state = match (&stage.fallen, stage.in_force) {
                (Some(fall), _) => format!("  FALLEN BACK to monitor at {}", fall.at),
                (None, false) => "  not in force yet".to_owned(),
                (None, true) => String::new(),
            };
            line(format_args!(
                "{name:<32} {level:<14} {:>10} {challenged:>11}  {by}{state}",
                stage.count.users
            ));
        }
        line(format_args!(
            "\nbudget: {} % of known-good users within {} minutes, from {} users on; a promotion needs {}",
            self.budget_percent,
            self.window_minutes,
            self.users_min,
            if self.approvals == 1 {
                "one operator"
            } else {
                "two operators"
            }
        ));
        for proposal in &self.proposals {
            let name = scope_name(proposal.tenant.as_deref(), proposal.application.as_deref());
            line(format_args!(
                "waits for approval: {name}, {}: {}",
                proposal.asked(),
                proposal.reason
            ));
        }
        text
    }
}

/// A scope as one word for lists and labels: `application`, `tenant/application`, `tenant/*`, `*`.
pub fn scope_name(tenant: Option<&str>, application: Option<&str>) -> String {
    match (tenant, application) {
        (Some(tenant), application) => format!("{tenant}/{}", application.unwrap_or("*")),
        (None, application) => application.unwrap_or("*").to_owned(),
    }
}

fn tenant(scope: Option<&Scope>) -> Option<String> {
    scope.and_then(Scope::tenant).map(str::to_owned)
}

fn application(scope: Option<&Scope>) -> Option<String> {
    scope.and_then(Scope::application).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "approvals = 2\n[[stage]]\napplication = 'expenses'\nmode = 'enforce'\npercentage = 10\n\
                        approved_by = ['ada', 'bo']\n[[proposal]]\napplication = 'payroll'\nmode = 'advise'\n\
                        approved_by = ['ada']\nreason = 'begin'";

    #[test]
    fn operators_see_stages_budget_falls_and_what_waits() {
        let plan = Plan::parse(FILE).unwrap();
        let count = Count {
            users: 200,
            challenged: 13,
        };
        let stage = plan.stages.first().unwrap();
        let fall = Fall::new(stage, "2026-11-26T18:00:00.000Z".to_owned(), count);
        let status = Status::of(&plan, Some(&plan), std::slice::from_ref(&fall), |mark| {
            if mark == stage.mark() {
                count
            } else {
                Count::default()
            }
        });
        assert_eq!(Status::parse(&status.json()).unwrap(), status);
        let [general, expenses] = status.stages.as_slice() else {
            panic!("{status:?}");
        };
        assert!(general.fallen.is_none() && general.in_force);
        assert_eq!(expenses.fallen.as_ref().unwrap(), &fall);
        let text = status.table();
        assert!(text.contains("expenses                         enforce 10 %          200       6.5 %  ada, bo  FALLEN BACK"));
        assert!(text.contains(
            "waits for approval: payroll, monitor 100 % -> advise 100 %, asked for by ada"
        ));
        assert!(text.contains("a promotion needs two operators"));
        let falls = Falls { fall: vec![fall] };
        assert_eq!(Falls::parse(&falls.to_text()).unwrap(), falls);
        assert_eq!(falls.fall[0].mark(), Some(stage.mark()));
        // What is written and not in force shows as that.
        let old = Status::of(&plan, None, &[], |_| Count::default());
        assert!(old.table().contains("not in force yet"));
        assert!(Falls::parse("[[fall]]\nmark = 1").is_err());
    }
}
