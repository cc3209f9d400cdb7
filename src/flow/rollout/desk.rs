//! The desk at which operators see how the rollout stands and say how it goes on. What they say is written into the file, from
//! which a reload takes it, and leaves a record.

use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::friction::Count;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::scope::Scope;
use crate::domain::review::printable;
use crate::domain::rollout_plan::Ask;
use crate::domain::rollout_plan::AskError;
use crate::domain::rollout_plan::Done;
use crate::domain::rollout_plan::Plan;
use crate::domain::rollout_plan::Word;
use crate::domain::rollout_plan::named;
use crate::domain::rollout_plan::status::Status;
use crate::domain::rollout_plan::status::scope_name;
use crate::flow::AuthFlow;
use crate::flow::rollout::Entry;
use crate::flow::rollout::record;
use std::path::Path;

/// Why an operator's word has no effect.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// There is no plan.
    #[error("no rollout file is configured: set `rollout.file`")]
    NoPlan,
    /// The file cannot be used.
    #[error("`{file}`: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An application that can prove nothing.
    #[error(
        "step_up.applications says `proof = \"none\"` of `{0}`: nothing would show that a factor was given; set a proof first"
    )]
    Unprovable(String),
    /// It cannot be done.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// An operator's name and reason.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// The name, of somebody who has shown to be that operator.
    pub operator: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl AuthFlow {
    /// The plan as it is on the disk, with what is counted and what has fallen.
    ///
    /// # Errors
    /// See [`RolloutError`].
    pub fn rollout_status(&self) -> Result<Status, RolloutError> {
        let snapshot = self.snapshot();
        let planned = snapshot.plan.as_ref().ok_or(RolloutError::NoPlan)?;
        let plan = self.plan_of(&planned.file)?;
        let minute = self.dependencies.clock.now().seconds().div_euclid(60);
        let mut inner = self.dependencies.rollout.inner.lock();
        let falls = inner.falls.fall.clone();
        let mut status = Status::of(&plan, Some(&planned.plan), &falls, |mark| {
            let window = inner.windows.get_mut(&mark);
            window.map_or(Count::default(), |window| {
                window.count(minute, &plan.budget)
            })
        });
        status.is_off = snapshot.rollout.strongest() == Mode::Off;
        Ok(status)
    }

    /// Does what an operator asks for, who may: writes it into the file, from which every node that reads it takes it. Leaves
    /// a record.
    ///
    /// # Errors
    /// See [`RolloutError`]; the file is as it was.
    pub fn ask_rollout(&self, ask: &Ask, voice: Voice<'_>) -> Result<Done, RolloutError> {
        self.change_plan(voice, |plan, word| {
            let stage = plan.stage(ask.scope.as_ref());
            let has_fallen =
                stage.is_some_and(|stage| self.dependencies.rollout.has_fallen(stage.share()));
            plan.ask(ask, word, has_fallen)
        })
    }

    /// The same for the approval of what another operator has asked for.
    ///
    /// # Errors
    /// See [`RolloutError`]; the file is as it was.
    pub fn approve_rollout(
        &self,
        scope: Option<&Scope>,
        seen: &str,
        voice: Voice<'_>,
    ) -> Result<Done, RolloutError> {
        self.change_plan(voice, |plan, word| plan.approve(scope, seen, word))
    }

    fn change_plan(
        &self,
        voice: Voice<'_>,
        change: impl FnOnce(&mut Plan, Word<'_>) -> Result<Done, AskError>,
    ) -> Result<Done, RolloutError> {
        let dependencies = &self.dependencies;
        let snapshot = self.snapshot();
        let planned = snapshot.plan.as_ref().ok_or(RolloutError::NoPlan)?;
        let watch = &dependencies.rollout;
        let _asking = watch.asking.lock();
        let mut plan = self.plan_of(&planned.file)?;
        let at = dependencies.clock.now().to_rfc3339();
        let done = change(
            &mut plan,
            Word {
                operator: voice.operator,
                at: &at,
                reason: voice.reason,
            },
        )?;
        let failed = |problem: String| RolloutError::File {
            file: planned.file.display().to_string(),
            problem,
        };
        let text = plan.to_text().map_err(|error| failed(error.to_string()))?;
        // What is written is what a reload will take.
        Plan::parse(&text).map_err(|error| failed(error.to_string()))?;
        let rollout = plan.rollout();
        let steps = snapshot.step_up.applications.iter();
        let mut unprovable = steps.filter(|entry| {
            entry.proof == Some(ProofKind::None)
                && rollout.enforces(entry.tenant.as_deref(), &entry.client_id)
        });
        if let Some(entry) = unprovable.next() {
            return Err(RolloutError::Unprovable(entry.client_id.clone()));
        }
        let files = watch.files.as_ref().ok_or(RolloutError::NoPlan)?;
        files
            .write(&planned.file, &text)
            .map_err(|error| failed(error.to_string()))?;
        dependencies.metrics.rollout(done.action);
        tracing::info!(stage = %named(done.scope.as_ref()), from = %done.from, to = %done.to,
            operator = %printable(voice.operator), "the rollout was {}", done.action);
        record(
            dependencies,
            snapshot.version,
            Entry {
                action: done.action,
                scope: done.scope.as_ref(),
                from: &done.from,
                to: &done.to,
                operator: Some(voice.operator),
                note: voice.reason,
            },
        );
        Ok(done)
    }

    fn plan_of(&self, file: &Path) -> Result<Plan, RolloutError> {
        let failed = |problem: String| RolloutError::File {
            file: file.display().to_string(),
            problem,
        };
        let files = self.dependencies.rollout.files.as_ref();
        let text = files
            .ok_or(RolloutError::NoPlan)?
            .read(file)
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
        Plan::parse(&text).map_err(|error| failed(error.to_string()))
    }

    /// Brings the gauges of the stages up to date.
    pub fn measure_rollout(&self) {
        let dependencies = &self.dependencies;
        let snapshot = self.snapshot();
        let mut rows = Vec::new();
        if let Some(planned) = &snapshot.plan {
            let minute = dependencies.clock.now().seconds().div_euclid(60);
            let mut inner = dependencies.rollout.inner.lock();
            for stage in planned.plan.all().filter(|stage| stage.enforces()) {
                let scope = stage.scope.as_ref();
                let name = scope_name(
                    scope.and_then(Scope::tenant),
                    scope.and_then(Scope::application),
                );
                let mark = stage.mark();
                let window = inner.windows.get_mut(&mark);
                let count = window.map_or(Count::default(), |window| {
                    window.count(minute, &planned.plan.budget)
                });
                let has_fallen = dependencies.rollout.has_fallen(stage.share());
                rows.push((name, count, has_fallen));
            }
        }
        dependencies.metrics.friction(&rows);
    }
}
