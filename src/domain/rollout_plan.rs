//! The plan by which applications come from being watched to being enforced: the rollout file, who has approved what in it,
//! and how an operator's word changes it. The modes are those of the policy. Knows no path and no clock.

/// The text of the file.
mod form;

/// What operators see of a plan.
pub mod status;

use crate::domain::friction::Budget;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::Rollout;
use crate::domain::policy::rollout::Share;
use crate::domain::policy::rollout::StageMark;
use crate::domain::policy::scope::Scope;
use crate::domain::printable;
use sha2::Digest;
use sha2::Sha256;
use std::fmt;

/// Stages in one plan, the general one not counted.
pub const STAGES_MAX: usize = 256;
/// The longest reason and the longest name of tenant, application or operator, in characters.
pub const TEXT_MAX: usize = 500;
/// The longest file, in bytes: what the most stages need.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A rollout file.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How many operators a promotion needs.
    pub approvals: usize,
    /// How much friction known-good users may meet.
    pub budget: Budget,
    /// What holds for whom no stage is.
    pub general: Stage,
    /// Tenants and applications, each once.
    pub stages: Vec<Stage>,
    /// Promotions that wait for another operator, one for a scope at most.
    pub proposals: Vec<Proposal>,
}

/// What holds for one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// For whom; everybody else when `None`.
    pub scope: Option<Scope>,
    /// How far.
    pub mode: Mode,
    /// For how many of a hundred users.
    pub percentage: u8,
    /// Who approved it, when and why.
    pub approval: Approval,
}

/// An approval.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Approval {
    /// The operators, each once.
    pub by: Vec<String>,
    /// When the last of them did, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// A promotion that one operator has asked for and another has to approve.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What is to hold; `approval` names who asked for it.
    pub stage: Stage,
}

/// In which direction an operator wants to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// To a stronger mode, or to more users.
    Promote,
    /// Back.
    Demote,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// In which direction.
    pub direction: Direction,
    /// For whom; everybody else when `None`.
    pub scope: Option<Scope>,
    /// The mode that is to hold.
    pub mode: Mode,
    /// For how many of a hundred users.
    pub percentage: u8,
}

/// Who says something, when and why.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// The name of the operator, who has shown to be that.
    pub operator: &'a str,
    /// RFC 3339.
    pub at: &'a str,
    /// In the operator's words.
    pub reason: &'a str,
}

/// What became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Done {
    /// `promoted`, `proposed`, `approved` or `demoted`.
    pub action: &'static str,
    /// For whom.
    pub scope: Option<Scope>,
    /// What held before, as [`Level`] is written.
    pub from: String,
    /// What holds now, or would with the approval.
    pub to: String,
}

/// A mode and a percentage as they are written for people: `enforce 10 %`.
#[derive(Clone, Copy, Debug)]
pub struct Level(pub Mode, pub u8);

/// Why a text is no plan. Each names the key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Not of the form.
    #[error("{0}")]
    Form(String),
    /// A value that cannot be.
    #[error("{key}: {problem}")]
    Value {
        /// The key with its place.
        key: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

/// Why an operator's word has no effect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
    /// Promoted to what is weaker.
    #[error("{0} is weaker than what holds now ({1}); demote it")]
    Weaker(String, String),
    /// Demoted to what is stronger.
    #[error(
        "{0} is stronger for some users than what holds now ({1}); promote it, which needs an approval"
    )]
    Stronger(String, String),
    /// It is so already.
    #[error("{0} holds already")]
    Same(String),
    /// Nothing waits.
    #[error("nothing waits for approval there")]
    NothingWaits,
    /// Something else waits than what is approved.
    #[error("what waits is {0} by now; look at it before you approve it")]
    Replaced(String),
    /// Whoever asks cannot approve as well.
    #[error("`{0}` has asked for it: another operator has to approve")]
    OwnProposal(String),
    /// A percentage.
    #[error("percentage `{0}` is out of range, expected 0 to 100")]
    Percentage(u8),
    /// A name or reason.
    #[error("{0}: expected at most {TEXT_MAX} characters, and none that is a control or invisible")]
    Text(&'static str),
    /// No reason.
    #[error("a reason is missing: it is what the record will say")]
    NoReason,
    /// Too many.
    #[error("there are {STAGES_MAX} stages already")]
    TooMany,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            approvals: 1,
            budget: Budget::default(),
            general: Stage {
                scope: None,
                mode: Mode::default(),
                percentage: 100,
                approval: Approval::default(),
            },
            stages: Vec::new(),
            proposals: Vec::new(),
        }
    }
}

impl Plan {
    /// The modes that it puts in force.
    pub fn rollout(&self) -> Rollout {
        let stages = self
            .stages
            .iter()
            .filter_map(|stage| Some((stage.scope.clone()?, stage.share())));
        Rollout::new(self.general.share(), stages.collect())
    }

    /// Everything that holds, the general stage first.
    pub fn all(&self) -> impl Iterator<Item = &Stage> {
        std::iter::once(&self.general).chain(&self.stages)
    }

    /// The stage of a mark.
    pub fn find(&self, mark: StageMark) -> Option<&Stage> {
        self.all().find(|stage| stage.mark() == mark)
    }

    /// The stage of just this scope.
    pub fn stage(&self, scope: Option<&Scope>) -> Option<&Stage> {
        self.all()
            .find(|stage| is_same(stage.scope.as_ref(), scope))
    }

    /// What waits for approval at just this scope.
    pub fn proposal(&self, scope: Option<&Scope>) -> Option<&Proposal> {
        self.proposals
            .iter()
            .find(|proposal| is_same(proposal.stage.scope.as_ref(), scope))
    }

    /// Does what an operator asks for: a way back at once, a promotion when enough operators are for it. `has_fallen` says
    /// that the stage has fallen back to monitor by itself, so that what it was can be asked for again.
    ///
    /// # Errors
    /// See [`AskError`]; the plan is as it was.
    pub fn ask(&mut self, ask: &Ask, word: Word<'_>, has_fallen: bool) -> Result<Done, AskError> {
        word.check()?;
        let share = Share::new(ask.mode, ask.percentage)
            .map_err(|_| AskError::Percentage(ask.percentage))?;
        if let Some(scope) = &ask.scope {
            let names = [scope.tenant(), scope.application()];
            if !names.into_iter().flatten().all(is_name) {
                return Err(AskError::Text("tenant or application"));
            }
        }
        let to = Level(ask.mode, ask.percentage).to_string();
        let from = self.level(ask.scope.as_ref());
        let held = self.held(ask.scope.as_ref());
        let is_same = held.iter().all(|other| share.is_like(*other));
        let is_weaker = !is_same
            && held
                .iter()
                .all(|other| share.is_weaker_than(*other) || share.is_like(*other));
        if is_same && !has_fallen {
            return Err(AskError::Same(to));
        }
        match ask.direction {
            Direction::Promote if is_weaker => return Err(AskError::Weaker(to, from)),
            Direction::Demote if is_same => return Err(AskError::Same(to)),
            Direction::Demote if !is_weaker => return Err(AskError::Stronger(to, from)),
            Direction::Promote | Direction::Demote => {}
        }
        let mut by = vec![word.operator.to_owned()];
        if ask.direction == Direction::Demote {
            // Who was for more is for less: what is left needs no approval of its own.
            let before = &self.holding(ask.scope.as_ref()).approval.by;
            by.extend(before.iter().filter(|name| *name != word.operator).cloned());
        }
        let stage = Stage {
            scope: ask.scope.clone(),
            mode: ask.mode,
            percentage: ask.percentage,
            approval: Approval {
                by,
                at: word.at.to_owned(),
                reason: word.reason.to_owned(),
            },
        };
        let waits = ask.direction == Direction::Promote && self.approvals > 1;
        let is_new = self.stage(ask.scope.as_ref()).is_none();
        if is_new && self.stages.len() >= STAGES_MAX {
            return Err(AskError::TooMany);
        }
        self.withdraw(ask.scope.as_ref());
        let action = match ask.direction {
            Direction::Promote if waits => "proposed",
            Direction::Promote => "promoted",
            Direction::Demote => "demoted",
        };
        if waits {
            self.proposals.push(Proposal { stage });
        } else {
            self.put(stage);
        }
        Ok(Done {
            action,
            scope: ask.scope.clone(),
            from,
            to,
        })
    }

    /// Puts in force what another operator has asked for. `seen` is what the approver was shown, as [`Level`] is written:
    /// whoever asked may have put something else in its place meanwhile.
    ///
    /// # Errors
    /// See [`AskError`]; the plan is as it was.
    pub fn approve(
        &mut self,
        scope: Option<&Scope>,
        seen: &str,
        word: Word<'_>,
    ) -> Result<Done, AskError> {
        let waiting = self.proposal(scope).ok_or(AskError::NothingWaits)?;
        let asked = Level(waiting.stage.mode, waiting.stage.percentage).to_string();
        if seen != asked {
            return Err(AskError::Replaced(asked));
        }
        let mut stage = waiting.stage.clone();
        let word = Word {
            reason: if word.reason.is_empty() {
                &waiting.stage.approval.reason
            } else {
                word.reason
            },
            ..word
        };
        word.check()?;
        if stage.approval.by.iter().any(|name| name == word.operator) {
            return Err(AskError::OwnProposal(word.operator.to_owned()));
        }
        let from = self.level(scope);
        let done = Done {
            action: "approved",
            scope: stage.scope.clone(),
            from,
            to: asked,
        };
        stage.approval.by.push(word.operator.to_owned());
        word.at.clone_into(&mut stage.approval.at);
        word.reason.clone_into(&mut stage.approval.reason);
        self.withdraw(scope);
        self.put(stage);
        Ok(done)
    }

    fn withdraw(&mut self, scope: Option<&Scope>) {
        self.proposals
            .retain(|proposal| !is_same(proposal.stage.scope.as_ref(), scope));
    }

    fn put(&mut self, stage: Stage) {
        if stage.scope.is_none() {
            self.general = stage;
            return;
        }
        let place = self
            .stages
            .iter_mut()
            .find(|other| is_same(other.scope.as_ref(), stage.scope.as_ref()));
        match place {
            Some(place) => *place = stage,
            None => self.stages.push(stage),
        }
    }

    /// What holds for a scope now, in words.
    pub fn level(&self, scope: Option<&Scope>) -> String {
        let stage = self.holding(scope);
        Level(stage.mode, stage.percentage).to_string()
    }

    /// The stage that holds for a scope: its own, else a wider one.
    fn holding(&self, scope: Option<&Scope>) -> &Stage {
        let stage = self.stage(scope).or_else(|| {
            let scope = scope?;
            let wider = Scope::new(None, scope.application().map(str::to_owned));
            let tenant = Scope::new(scope.tenant().map(str::to_owned), None);
            [wider, tenant]
                .iter()
                .flatten()
                .find_map(|other| self.stage(Some(other)))
        });
        stage.unwrap_or(&self.general)
    }

    /// What holds now for everybody whom a stage of this scope would be for.
    fn held(&self, scope: Option<&Scope>) -> Vec<Share> {
        if let Some(stage) = self.stage(scope) {
            return vec![stage.share()];
        }
        let Some(scope) = scope else {
            return vec![self.general.share()];
        };
        let rollout = self.rollout();
        let application = scope.application().unwrap_or("");
        // Without a tenant: where no stage names one, and where one does, unless a more specific one goes on to hold.
        let unnamed = "\u{0}";
        let tenants: Vec<&str> = match scope.tenant() {
            Some(tenant) => vec![tenant],
            None => self
                .stages
                .iter()
                .filter_map(|stage| stage.scope.as_ref())
                .filter(|other| other.application().is_none())
                .filter_map(Scope::tenant)
                .chain([unnamed])
                .collect(),
        };
        tenants
            .into_iter()
            .map(|tenant| rollout.share(tenant, application))
            .collect()
    }
}

impl Stage {
    /// What holds, as the rollout takes it.
    pub fn share(&self) -> Share {
        // The percentage was looked at when the plan was read.
        let share = Share::new(self.mode, self.percentage);
        share
            .unwrap_or_else(|_| Rollout::default().share("", ""))
            .marked(self.mark())
    }

    /// Its mark: the first 64 bits of the SHA-256 of all that makes it this stage.
    pub fn mark(&self) -> StageMark {
        let mut hash = Sha256::new();
        let scope = self.scope.as_ref();
        let tenant = scope.and_then(Scope::tenant).map(str::to_ascii_lowercase);
        let percentage = self.percentage.to_string();
        let texts = [
            tenant.as_deref().unwrap_or("\u{0}"),
            scope.and_then(Scope::application).unwrap_or("\u{0}"),
            self.mode.as_str(),
            &percentage,
            &self.approval.at,
        ];
        let by = self.approval.by.iter().map(String::as_str);
        for text in texts.into_iter().chain(by) {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let digest = hash.finalize();
        let front = digest.first_chunk().copied().unwrap_or_default();
        StageMark(u64::from_be_bytes(front))
    }

    /// Whether anybody is challenged by it.
    pub fn enforces(&self) -> bool {
        self.share().strongest() == Mode::Enforce
    }
}

impl Word<'_> {
    fn check(&self) -> Result<(), AskError> {
        if self.reason.trim().is_empty() {
            return Err(AskError::NoReason);
        }
        if !is_text(self.reason) {
            return Err(AskError::Text("reason"));
        }
        if is_name(self.operator) {
            Ok(())
        } else {
            Err(AskError::Text("operator"))
        }
    }
}

/// A scope in words.
pub fn named(scope: Option<&Scope>) -> String {
    scope.map_or_else(|| "everybody else".to_owned(), ToString::to_string)
}

fn is_same(one: Option<&Scope>, other: Option<&Scope>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}

/// A name in which something is invisible cannot be told from another one, and is not the one that a page sends back.
fn is_name(text: &str) -> bool {
    !text.is_empty() && is_text(text) && !text.chars().any(printable::acts)
}

fn is_text(text: &str) -> bool {
    text.chars().count() <= TEXT_MAX && !text.chars().any(char::is_control)
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} %", self.0, self.1)
    }
}

#[cfg(test)]
mod tests;
