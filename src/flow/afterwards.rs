//! What WSO2 tells of users after the fact becomes a record of theirs, from which `riskgate label` learns whose their earlier
//! logins were. Nothing of it changes a decision.

use crate::domain::audit::AUDIT_SCHEMA;
use crate::domain::audit::AuditEvent;
use crate::domain::history::HistoryQuery;
use crate::domain::identity_event::IdentityEvent;
use crate::domain::identity_event::Message;
use crate::domain::ids::SubjectKey;
use crate::domain::review;
use crate::domain::target::user_domain;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use std::time::Duration;

/// How old a message may be: WSO2 gives up a delivery after two more tries of five seconds each.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// How far the clock of WSO2's host may be ahead.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// The longest that the store is asked who a user is.
const WAIT: Duration = Duration::from_millis(500);

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// Its events were recorded.
    Recorded,
    /// It says nothing here.
    Other,
    /// It is too old, or from the future.
    Stale,
}

impl AuthFlow {
    /// Records what a message tells.
    pub async fn take(&self, message: &Message) -> Taken {
        let now = self.dependencies().clock.now();
        let (age, ahead) = (now.since(message.at), message.at.since(now));
        if age > AGE_MAX || ahead > AHEAD_MAX {
            return Taken::Stale;
        }
        if message.events.is_empty() {
            return Taken::Other;
        }
        for event in &message.events {
            self.record_event(event, now).await;
        }
        Taken::Recorded
    }

    async fn record_event(&self, event: &IdentityEvent, now: Timestamp) {
        let subject = self.known_as(event, now).await;
        let by = event.initiator.as_str();
        let note = match &event.id {
            Some(id) => format!("by {by}, event {id}"),
            None => format!("by {by}"),
        };
        self.dependencies().audit.write(AuditEvent {
            schema: AUDIT_SCHEMA,
            time: now.to_rfc3339(),
            id: self.request_id().to_string(),
            class: "event".into(),
            route: "webhook".to_owned(),
            method: "POST".into(),
            tenant: Some(event.tenant.clone()),
            organization: event.organization.clone(),
            subject: subject.map(|subject| subject.to_string()),
            action: event.what.as_str().into(),
            outcome: "none".into(),
            note: Some(review::printable(&note)),
            config: self.snapshot().version,
            ..AuditEvent::default()
        });
    }

    /// Which of the user's names has a history here; the likeliest where none has, or the store is away.
    async fn known_as(&self, event: &IdentityEvent, now: Timestamp) -> Option<SubjectKey> {
        let snapshot = self.snapshot();
        let domain = user_domain(&event.tenant, event.organization.as_deref());
        let keys = event
            .names
            .iter()
            .map(|name| snapshot.people.user(domain, name));
        let keys: Vec<SubjectKey> = keys.collect();
        let look = async {
            for key in &keys {
                let query = HistoryQuery {
                    subject: Some(*key),
                    ..HistoryQuery::of_links(Vec::new(), Vec::new(), now)
                };
                let history = self.dependencies().state.load(&query).await.ok()?;
                if history.profile.is_some() {
                    return Some(*key);
                }
            }
            None
        };
        let known = tokio::time::timeout(WAIT, look).await.ok().flatten();
        known.or_else(|| keys.first().copied())
    }
}
