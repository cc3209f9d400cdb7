//! The desk at which analysts decide about held logins, and the counter at which their users ask how they stand.

use crate::domain::audit::AUDIT_SCHEMA;
use crate::domain::audit::AuditEvent;
use crate::domain::features::FeatureVector;
use crate::domain::ids::Pseudonym;
use crate::domain::kind::RequestKind;
use crate::domain::label::Label;
use crate::domain::label::Truth;
use crate::domain::page_key::Purpose;
use crate::domain::policy::editing::How;
use crate::domain::policy::editing::short;
use crate::domain::review;
use crate::domain::review::HeldLogin;
use crate::domain::review::Listing;
use crate::domain::review::PASS_TTL;
use crate::domain::review::ReviewQueue;
use crate::domain::review::Ruling;
use crate::domain::review::RulingError;
use crate::domain::review::Standing;
use crate::domain::risk::ModelOutput;
use crate::domain::time::Deadline;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::flow::ports::Draft;
use crate::flow::ports::QueueChange;
use crate::flow::ports::StateError;
use crate::flow::review::in_time;
use crate::flow::review::pass;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// The sessions of users whose decision was confirmed as compromised.
pub mod sessions;

/// The longest that a ruling is followed until the store says whether it stands.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// Between two looks at whether it does.
const SETTLING_PAUSE: Duration = Duration::from_secs(1);
/// The longest that one row may take for an operator who asks.
const WHAT_IF_BUDGET: Duration = Duration::from_secs(1);

/// A held login as its own user sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WaitingPage {
    /// The id, of which the user sees the front.
    pub id: Pseudonym,
    /// How it stands; `None` when it has left the queue.
    pub standing: Option<Standing>,
}

/// Why an analyst's word had no effect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecideError {
    /// The reason is longer than what is kept of one: so many characters. A record with half of it would be no record of it.
    #[error("the reason has {0} characters, expected at most {max}", max = review::TEXT_MAX)]
    Reason(usize),
    /// It cannot be applied.
    #[error(transparent)]
    Ruling(#[from] RulingError),
    /// The store does not answer.
    #[error(transparent)]
    State(#[from] StateError),
}

impl AuthFlow {
    /// How a held login stands, for its own page; `None` for a text that the gateway has not made or that has ended.
    pub async fn waiting_page(
        &self,
        exchange: &Exchange,
        sealed: &str,
    ) -> Result<Option<WaitingPage>, StateError> {
        let opened = exchange
            .snapshot
            .pages
            .open(Purpose::Review, sealed, &[], exchange.at);
        let Some(id) = opened.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) else {
            return Ok(None);
        };
        let id = Pseudonym::from_bytes(id);
        let queue = self.recent_queue().await?;
        let standing = queue
            .find(id, exchange.at)
            .map(|login| login.standing(exchange.at));
        Ok(Some(WaitingPage { id, standing }))
    }

    /// How many logins wait, as far as this node knows from the last second.
    pub async fn waiting_logins(&self) -> Result<usize, StateError> {
        let now = self.dependencies.clock.now();
        Ok(self.recent_queue().await?.waiting(now))
    }

    /// The queue as operators see it: those that wait, or all.
    pub async fn review_listing(&self, all: bool) -> Result<Listing, StateError> {
        let queue = in_time(self.dependencies.state.review_queue()).await?;
        Ok(Listing::of(&queue, all, self.dependencies.clock.now()))
    }

    /// Does what an analyst has decided about the login whose id is, or begins with, `id`; the whole id. A release gives
    /// its user a ticket for one sign-in within [`PASS_TTL`]. Each decision leaves a record, also one whose answer the store
    /// loses: this may take a minute longer than anybody waits, and is not to be given up before.
    pub async fn decide_review(
        &self,
        id: &str,
        is_release: bool,
        operator: &str,
        reason: &str,
    ) -> Result<Pseudonym, DecideError> {
        if let Some(length) = review::too_long(reason) {
            return Err(DecideError::Reason(length));
        }
        let dependencies = &self.dependencies;
        let now = dependencies.clock.now();
        let ruling = Ruling {
            is_release,
            at: now,
            operator: review::printable(operator),
            reason: review::printable(reason),
        };
        let mut queue = in_time(dependencies.state.review_queue()).await?;
        let before = queue.clone();
        let login = queue.rule(id, ruling.clone())?.clone();
        let is_new = before
            .find(login.id, now)
            .is_some_and(|login| login.ruling.is_none());
        if is_new {
            if is_release {
                // Before anybody can read of the release: what it promises is there by then.
                let (ticket, binding) = pass(&self.snapshot().people, &login);
                in_time(
                    dependencies
                        .state
                        .issue_ticket(ticket, binding, now, PASS_TTL),
                )
                .await?;
            }
            // Of analysts who say the same at once one has decided.
            if !self.rule(&login, &ruling).await? {
                return Ok(login.id);
            }
            dependencies
                .metrics
                .review(if is_release { "released" } else { "refused" });
            self.record_ruling(&login, &ruling);
            if !is_release {
                let (decision, subject) = (login.decision_id.as_str(), login.subject);
                self.end_sessions(decision, subject, Some(operator), true);
            }
        }
        Ok(login.id)
    }

    /// Leaves a record of what an operator did in the console: `signed_in`, `sign_in_failed` and so on. `operator` is a name
    /// of the roster, never what somebody typed.
    pub fn record_operator(&self, operator: Option<&str>, action: &'static str, note: &str) {
        let event = self.operator_event(operator, action, note);
        self.dependencies.audit.write(event);
    }

    /// Leaves a record of a change of operators that came by their file: `operator_added`, `operator_changed` or
    /// `operator_removed`. `by` is who says to have made it.
    pub fn record_change(&self, by: Option<&str>, action: &'static str, note: &str) {
        self.dependencies.audit.write(AuditEvent {
            route: "file".to_owned(),
            method: "OTHER".into(),
            ..self.operator_event(by, action, note)
        });
    }

    /// Leaves a record of a change of whom verdicts are acted on for, that came by the configuration: `mode_changed`.
    pub fn record_mode(&self, by: Option<&str>, from: &str, to: &str) {
        self.dependencies.audit.write(AuditEvent {
            class: "rollout".into(),
            route: "file".to_owned(),
            method: "OTHER".into(),
            rollout_from: Some(from.to_owned()),
            rollout_to: Some(to.to_owned()),
            ..self.operator_event(by, "mode_changed", "")
        });
    }

    /// Leaves a record of a policy that an operator has written into its file: `policy_saved` or `policy_restored`, with the
    /// digests of what was there and of what is.
    pub fn record_policy(&self, draft: &Draft<'_>, from: &str, to: &str) {
        let action = match draft.how {
            How::Restored => "policy_restored",
            How::Saved | How::Found => "policy_saved",
        };
        tracing::info!(operator = %review::printable(draft.operator), from = short(from), to = short(to),
            "{action}: a reload takes it over");
        self.dependencies.audit.write(AuditEvent {
            policy_from: Some(from.to_owned()),
            policy_to: Some(to.to_owned()),
            ..self.operator_event(Some(draft.operator), action, draft.note)
        });
    }

    /// Leaves a record of what an analyst has said of a decision in the console: `labelled_safe` or `labelled_compromised`.
    pub fn record_label(&self, label: &Label) {
        let action = match label.label {
            Truth::Safe => "labelled_safe",
            Truth::Compromised => "labelled_compromised",
        };
        let note = label.note.as_deref().unwrap_or("");
        self.dependencies.audit.write(AuditEvent {
            labelled: Some(label.id.clone()),
            ..self.operator_event(label.operator.as_deref(), action, note)
        });
    }

    fn operator_event(
        &self,
        operator: Option<&str>,
        action: &'static str,
        note: &str,
    ) -> AuditEvent {
        AuditEvent {
            schema: AUDIT_SCHEMA,
            time: self.dependencies.clock.now().to_rfc3339(),
            id: self.request_id().to_string(),
            class: "operator".into(),
            route: "console".to_owned(),
            method: "POST".into(),
            action: action.into(),
            outcome: "none".into(),
            operator: operator.map(review::printable),
            note: Some(review::printable(note)).filter(|note| !note.is_empty()),
            config: self.snapshot().version,
            ..AuditEvent::default()
        }
    }

    /// What the model in force says to a row, worked out natively: its version and its answer. `None` when it has no
    /// native form.
    pub fn what_if(&self, kind: RequestKind, row: &FeatureVector) -> Option<(String, ModelOutput)> {
        let snapshot = self.snapshot();
        let (_, model) = snapshot.models.serving(kind);
        let native = model.native.as_ref()?;
        let deadline = Deadline::after(self.dependencies.clock.instant(), WHAT_IF_BUDGET);
        let output = native.run(row, deadline).ok()?;
        Some((model.identity.version.clone(), output))
    }

    /// Writes a ruling into the queue, unless another one of the same word is there: whether it is this one that stands.
    async fn rule(&self, login: &HeldLogin, ruling: &Ruling) -> Result<bool, DecideError> {
        let id = login.id;
        let outcome = Arc::new(Mutex::new(Ok(false)));
        let said = Arc::clone(&outcome);
        let own = ruling.clone();
        let change: QueueChange = Arc::new(move |queue| {
            let ruled = queue
                .rule(&id.to_string(), own.clone())
                .map(|login| login.ruling.as_ref() == Some(&own));
            *said.lock() = ruled;
            ruled == Ok(true)
        });
        let settled = async {
            match self.dependencies.state.change_review_queue(change).await {
                Ok(queue) => {
                    self.dependencies
                        .reviews
                        .keep(self.dependencies.clock.instant(), queue);
                    let ruled = *outcome.lock();
                    Ok(ruled?)
                }
                // Its answer may be all that was lost.
                Err(_) if self.stands(id, ruling).await => Ok(true),
                Err(error) => Err(error.into()),
            }
        };
        if let Ok(settled) = tokio::time::timeout(SETTLING_MAX, settled).await {
            return settled;
        }
        tracing::error!(review = %id, operator = %ruling.operator, "the store does not say whether a ruling stands");
        let action = if ruling.is_release {
            "release_unanswered"
        } else {
            "refusal_unanswered"
        };
        self.record_word(login, ruling, action);
        Err(StateError::Timeout.into())
    }

    /// Whether this very ruling stands in the queue, once the store says so: callers bound it.
    async fn stands(&self, id: Pseudonym, ruling: &Ruling) -> bool {
        loop {
            if let Ok(queue) = in_time(self.dependencies.state.review_queue()).await {
                let login = queue.items().iter().find(|login| login.id == id);
                return login.is_some_and(|login| login.ruling.as_ref() == Some(ruling));
            }
            tokio::time::sleep(SETTLING_PAUSE).await;
        }
    }

    fn record_ruling(&self, login: &HeldLogin, ruling: &Ruling) {
        let action = if ruling.is_release {
            "released"
        } else {
            "refused"
        };
        self.record_word(login, ruling, action);
    }

    fn record_word(&self, login: &HeldLogin, ruling: &Ruling, action: &'static str) {
        self.dependencies.audit.write(AuditEvent {
            schema: AUDIT_SCHEMA,
            time: ruling.at.to_rfc3339(),
            id: self.request_id().to_string(),
            class: "review".into(),
            route: "admin".to_owned(),
            method: "POST".into(),
            tenant: Some(login.tenant.clone()),
            client_id: Some(login.application.clone()).filter(|name| !name.is_empty()),
            subject: login.subject.map(|subject| subject.to_string()),
            score: login.score,
            action: action.into(),
            outcome: "none".into(),
            review: Some(login.id.to_string()),
            operator: Some(ruling.operator.clone()),
            note: Some(ruling.reason.clone()).filter(|reason| !reason.is_empty()),
            config: self.snapshot().version,
            ..AuditEvent::default()
        });
    }

    async fn recent_queue(&self) -> Result<Arc<ReviewQueue>, StateError> {
        let now = self.dependencies.clock.instant();
        if let Some(queue) = self.dependencies.reviews.fresh(now) {
            return Ok(queue);
        }
        let queue = in_time(self.dependencies.state.review_queue()).await?;
        Ok(self.dependencies.reviews.keep(now, queue))
    }
}
