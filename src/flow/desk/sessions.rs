//! Ends a user's sessions at the identity server once an analyst has said that a decision about that user was somebody
//! else's. Records name nobody, so that who was meant is remembered here: in memory alone, for a bounded time and number of
//! users, and only where this is switched on. Nothing here writes a name anywhere.

use crate::domain::audit::AuditEvent;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::canonical_username;
use crate::domain::outcome::AuthOutcome;
use crate::domain::secret::Secret;
use crate::domain::signals::Subject;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::RevokeError;
use crate::flow::ports::Revoker;
use crate::flow::ports::SessionsOf;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwapOption;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// Users whose name is remembered; those of whom nothing was heard for longest make room.
const USERS_MAX: u64 = 50_000;
/// How long a name is remembered after the latest request of its user.
const USER_IDLE: Duration = Duration::from_secs(24 * 3600);
/// How long at most after the login in which it was used.
const USER_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Decisions of which is remembered whom they were about.
const DECISIONS_MAX: u64 = 200_000;
/// For how long.
const DECISION_TTL: Duration = USER_IDLE;
/// Decisions of which is remembered what became of the sessions; records keep it for good.
const ENDINGS_MAX: u64 = 10_000;
/// Users whose sessions are being ended at the same time.
const AT_ONCE_MAX: usize = 32;
/// How long after the first try, and after the second, the identity server is asked again where it is away.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Whose sessions a decision was about, and what became of them; or nothing at all, where this is off.
#[derive(Clone, Default)]
pub struct Sessions(Arc<ArcSwapOption<Memory>>);

struct Memory {
    users: Cache<SubjectKey, Arc<User>>,
    decisions: Cache<Box<str>, SubjectKey>,
    endings: Cache<Box<str>, Ending>,
    /// Held while it is looked whether an ending has begun, and begun.
    begins: Mutex<()>,
    places: Arc<Semaphore>,
}

/// By what the identity server knows a user.
#[derive(Debug)]
struct User {
    realm: String,
    domain: String,
    name: Secret<String>,
}

/// What became of the sessions of the user whom a decision was about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ending {
    /// Since when.
    pub at: Timestamp,
    /// What; `None` while it is being done.
    pub result: Option<EndResult>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndResult {
    /// The identity server was away, each time it was asked.
    Away,
    /// Too many were to be ended at the same time.
    Busy,
    /// They are ended.
    Ended,
    /// The node does not know, or no longer, whom the decision was about.
    Forgotten,
    /// The user has none.
    None,
    /// The identity server does not let the gateway do it.
    Refused,
    /// The identity server knows nobody by this name.
    UnknownUser,
}

impl EndResult {
    /// As it is counted; in records behind `sessions_`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Ended => "ended",
            Self::Forgotten => "forgotten",
            Self::None => "none",
            Self::Refused => "refused",
            Self::UnknownUser => "unknown_user",
        }
    }

    /// Whether there is nothing left to do.
    fn is_done(self) -> bool {
        matches!(self, Self::Ended | Self::None)
    }
}

impl From<Result<SessionsOf, RevokeError>> for EndResult {
    fn from(answer: Result<SessionsOf, RevokeError>) -> Self {
        match answer {
            Ok(SessionsOf::Ended) => Self::Ended,
            Ok(SessionsOf::Nobody) => Self::None,
            Ok(SessionsOf::UnknownUser) => Self::UnknownUser,
            Err(RevokeError::Away) => Self::Away,
            Err(RevokeError::NoCredential | RevokeError::Refused) => Self::Refused,
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", if self.is_on() { "on" } else { "off" })
    }
}

impl Sessions {
    /// Begins to remember, or forgets whom it has remembered; what has begun goes on. Says whether something has changed.
    pub fn switch(&self, is_on: bool) -> bool {
        if is_on == self.is_on() {
            return false;
        }
        self.0.store(is_on.then(|| Arc::new(Memory::new())));
        true
    }

    /// Whether sessions are ended at all.
    pub fn is_on(&self) -> bool {
        self.0.load().is_some()
    }

    /// What became of the sessions of the user whom a decision was about.
    pub fn ending(&self, decision: &str) -> Option<Ending> {
        self.0.load().as_ref()?.endings.get(decision)
    }

    /// Remembers whom an exchange was about, as far as the identity server has accepted that name before.
    pub(in crate::flow) fn note(&self, exchange: &Exchange) {
        if let Some(memory) = self.0.load().as_ref() {
            memory.note(exchange);
        }
    }
}

impl User {
    fn of(target: &CanonicalTarget, name: &str) -> Self {
        let domain = target.user_domain();
        Self {
            realm: target.prefix().to_owned(),
            domain: domain.to_owned(),
            name: Secret::new(canonical_username(domain, name)),
        }
    }
}

impl Memory {
    fn new() -> Self {
        let users = Cache::builder()
            .max_capacity(USERS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(USER_IDLE)
            .time_to_live(USER_TTL)
            .build();
        let decisions = Cache::builder()
            .max_capacity(DECISIONS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(DECISION_TTL)
            .build();
        let endings = Cache::builder()
            .max_capacity(ENDINGS_MAX)
            .time_to_live(DECISION_TTL)
            .build();
        Self {
            users,
            decisions,
            endings,
            begins: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
        }
    }

    fn note(&self, exchange: &Exchange) {
        let (Some(assessed), Some(target)) = (&exchange.assessed, &exchange.target) else {
            return;
        };
        let has_accepted = matches!(
            exchange.outcome,
            AuthOutcome::Succeeded
                | AuthOutcome::NextFactor
                | AuthOutcome::CodeIssued
                | AuthOutcome::TokensIssued
        );
        if let Subject::Named { key, name } = &assessed.signals.subject
            && assessed.facts.credentials
            && has_accepted
        {
            self.users.insert(*key, Arc::new(User::of(target, name)));
        }
        if let Some(subject) = assessed.subject() {
            self.decided(exchange.id.as_str(), subject);
        }
    }

    /// A name that was never accepted takes no place: who tries names could push out the others.
    fn decided(&self, decision: &str, subject: SubjectKey) {
        if self.users.get(&subject).is_some() {
            self.decisions.insert(decision.into(), subject);
        }
    }

    fn user_of(&self, decision: &str, subject: Option<SubjectKey>) -> Option<Arc<User>> {
        let subject = subject.or_else(|| self.decisions.get(decision))?;
        self.users.get(&subject)
    }

    /// Whether it has to be done now; it has begun then. A word that is said twice ends them once.
    fn begins(&self, decision: &str, is_new_word: bool, at: Timestamp) -> bool {
        let _one_at_a_time = self.begins.lock();
        match self.endings.get(decision).map(|ending| ending.result) {
            Some(None) => return false,
            Some(Some(result)) if result.is_done() && !is_new_word => return false,
            Some(Some(_)) | None => {}
        }
        self.endings
            .insert(decision.into(), Ending { at, result: None });
        true
    }
}

/// The sessions of one user that are being ended.
struct Ends {
    memory: Arc<Memory>,
    revoker: Arc<dyn Revoker>,
    metrics: Arc<Metrics>,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    decision: Box<str>,
    record: AuditEvent,
}

impl AuthFlow {
    /// Ends the sessions of the user whom a decision was about, beside whoever asks. `subject` is who that was, where it is
    /// known better than from the decision. Leaves one record of what came of it. A word that was said before (`is_new_word`
    /// false) has an effect only as long as nothing came of it.
    pub fn end_sessions(
        &self,
        decision: &str,
        subject: Option<SubjectKey>,
        operator: Option<&str>,
        is_new_word: bool,
    ) {
        let dependencies = &self.dependencies;
        let Some(memory) = dependencies.sessions.0.load_full() else {
            return;
        };
        if !memory.begins(decision, is_new_word, dependencies.clock.now()) {
            return;
        }
        let ends = Ends {
            memory: Arc::clone(&memory),
            revoker: Arc::clone(&dependencies.revoker),
            metrics: Arc::clone(&dependencies.metrics),
            audit: Arc::clone(&dependencies.audit),
            clock: Arc::clone(&dependencies.clock),
            decision: decision.into(),
            record: AuditEvent {
                labelled: Some(decision.to_owned()),
                ..self.operator_event(operator, "", "")
            },
        };
        let place = Arc::clone(&memory.places).try_acquire_owned();
        match (memory.user_of(decision, subject), place) {
            (None, _) => ends.finish(EndResult::Forgotten),
            (Some(_), Err(_)) => ends.finish(EndResult::Busy),
            (Some(user), Ok(place)) => {
                tokio::spawn(ends.run(user, place));
            }
        }
    }
}

impl Ends {
    async fn run(self, user: Arc<User>, _place: OwnedSemaphorePermit) {
        let mut result = self.once(&user).await;
        for wait in RETRIES {
            if result != EndResult::Away {
                break;
            }
            tokio::time::sleep(wait).await;
            result = self.once(&user).await;
        }
        self.finish(result);
    }

    async fn once(&self, user: &User) -> EndResult {
        self.revoker
            .end_sessions_of(&user.realm, &user.domain, &user.name)
            .await
            .into()
    }

    fn finish(self, result: EndResult) {
        self.metrics.session_ending(result.as_str());
        let at = self.clock.now();
        if !result.is_done() {
            tracing::warn!(decision = %self.decision, result = result.as_str(),
                "the sessions of a user were not ended");
        }
        self.audit.write(AuditEvent {
            time: at.to_rfc3339(),
            action: format!("sessions_{}", result.as_str()).into(),
            ..self.record
        });
        let ending = Ending {
            at,
            result: Some(result),
        };
        self.memory.endings.insert(self.decision, ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    fn memory() -> Arc<Memory> {
        Arc::new(Memory::new())
    }

    fn user(number: u8) -> SubjectKey {
        SubjectKey(Pseudonym::from_bytes([number; 16]))
    }

    fn alice() -> Arc<User> {
        Arc::new(User {
            realm: String::new(),
            domain: "carbon.super".to_owned(),
            name: Secret::new("alice".to_owned()),
        })
    }

    #[test]
    fn only_names_that_were_accepted_are_remembered_and_none_is_printed() {
        let memory = memory();
        memory.decided("before", user(1));
        memory.users.insert(user(1), alice());
        memory.decided("since", user(1));
        memory.decided("other", user(2));
        let knows = |decision| memory.user_of(decision, None).is_some();
        assert!(knows("since") && !knows("before") && !knows("other"));
        assert!(memory.user_of("before", Some(user(1))).is_some());
        assert!(!format!("{:?}", memory.user_of("since", None)).contains("alice"));
        memory.decisions.run_pending_tasks();
        assert_eq!(memory.decisions.entry_count(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let memory = memory();
        for number in 0..USERS_MAX + 1_000 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            let key = SubjectKey(Pseudonym::from_bytes(bytes));
            memory.users.insert(key, alice());
        }
        memory.users.run_pending_tasks();
        assert!(memory.users.entry_count() <= USERS_MAX);
        assert!(!memory.users.contains_key(&user(0)));
    }

    #[test]
    fn a_word_that_is_said_twice_begins_once_and_again_where_nothing_came_of_it() {
        let memory = memory();
        let begins = |is_new| memory.begins("d", is_new, Timestamp(1));
        assert!(begins(true));
        assert!(!begins(true) && !begins(false), "it is being done");
        for (result, again) in [
            (EndResult::Away, true),
            (EndResult::Busy, true),
            (EndResult::Ended, false),
            (EndResult::Forgotten, true),
            (EndResult::None, false),
            (EndResult::Refused, true),
            (EndResult::UnknownUser, true),
        ] {
            for (is_new, expected) in [(false, again), (true, true)] {
                let ending = Ending {
                    at: Timestamp(1),
                    result: Some(result),
                };
                memory.endings.insert("d".into(), ending);
                assert_eq!(begins(is_new), expected, "{result:?} {is_new}");
            }
        }
    }

    #[test]
    fn where_it_is_off_nothing_is_known() {
        let off = Sessions::default();
        assert!(!off.is_on() && off.ending("d").is_none());
    }

    #[test]
    fn what_is_switched_off_is_forgotten_and_switched_on_everywhere() {
        let sessions = Sessions::default();
        let elsewhere = sessions.clone();
        assert!(sessions.switch(true) && !sessions.switch(true));
        assert!(elsewhere.is_on());
        let memory = elsewhere.0.load_full().unwrap();
        memory.begins("d", true, Timestamp(1));
        assert!(sessions.ending("d").is_some());
        assert!(sessions.switch(false) && !sessions.switch(false));
        assert!(!elsewhere.is_on());
        assert!(sessions.switch(true) && sessions.ending("d").is_none());
    }
}
