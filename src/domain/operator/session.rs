//! Who is signed in to the console, and how often somebody may try. Pure: ids and moments are arguments. Bounded.

use crate::domain::hex;
use crate::domain::operator::roster::Operator;
use crate::domain::operator::roster::Role;
use crate::domain::operator::roster::Roster;
use crate::domain::time::Timestamp;
use sha2::Digest;
use sha2::Sha256;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A session ends after this time, whatever happens in it.
pub const SESSION_MAX: Duration = Duration::from_secs(8 * 3_600);
/// A session ends when nothing was asked for this long.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Sessions in all; the one that was used least lately makes room.
pub const SESSIONS_MAX: usize = 256;
/// Sessions of one operator.
const SESSIONS_EACH_MAX: usize = 8;
/// Tries of one name within [`TRIES_WITHIN`].
pub const TRIES_OF_NAME_MAX: usize = 5;
/// Tries from one address.
pub const TRIES_OF_ADDRESS_MAX: usize = 20;
/// The time in which tries are counted.
pub const TRIES_WITHIN: Duration = Duration::from_secs(60);
/// Names and addresses whose tries are remembered.
const TRIERS_MAX: usize = 1_024;

/// The name of a session in the table: the browser's own value is not kept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionKey([u8; 32]);

/// Who is signed in.
#[derive(Clone, Debug)]
pub enum Who {
    /// An operator of the roster, as it was when the session was opened.
    Local(Operator),
    /// Somebody whom a provider vouches for.
    Provided {
        /// The name, with the mark that no operator of the roster has.
        name: Arc<str>,
        /// What they may do, for as long as the session lasts.
        role: Role,
        /// Where they sign out of the provider.
        sign_out: Option<String>,
    },
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who.
    pub operator: Who,
    /// What every form of the session carries.
    pub form_token: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it was used last.
    pub used: Timestamp,
    /// From where it was opened.
    pub address: String,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<SessionKey, Session>);

/// Tries to sign in.
#[derive(Debug, Default)]
pub struct Tries(HashMap<String, VecDeque<Timestamp>>);

impl SessionKey {
    /// The key of the value that a browser holds.
    pub fn of(value: &str) -> Self {
        Self(Sha256::digest(value).into())
    }

    /// The front of it, by which operators name a session. It opens nothing.
    pub fn front(&self) -> String {
        hex::encode(self.0.get(..6).unwrap_or_default())
    }
}

impl Who {
    /// The name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Local(operator) => operator.name(),
            Self::Provided { name, .. } => name,
        }
    }

    /// What they may do by now: what the roster says of its own. `None` where it says that they may not come in any more.
    pub fn role(&self, roster: &Roster) -> Option<Role> {
        match self {
            Self::Local(then) => {
                let now = roster.find(then.name())?;
                now.is_same(then).then(|| now.role())
            }
            Self::Provided { role, .. } => Some(*role),
        }
    }
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.opened) >= SESSION_MAX || now.since(self.used) >= SESSION_IDLE_MAX
    }
}

impl Sessions {
    /// Opens a session.
    pub fn open(&mut self, key: SessionKey, session: Session) {
        let now = session.opened;
        self.0.retain(|_, other| !other.is_over(now));
        let of_operator =
            |(_, other): &(&SessionKey, &Session)| other.operator.name() == session.operator.name();
        if self.0.iter().filter(of_operator).count() >= SESSIONS_EACH_MAX {
            let oldest = self.0.iter().filter(of_operator);
            let oldest = oldest
                .min_by_key(|(_, other)| other.used)
                .map(|(key, _)| *key);
            oldest.map(|key| self.0.remove(&key));
        }
        if self.0.len() >= SESSIONS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, other)| other.used);
            oldest.map(|(key, _)| *key).map(|key| self.0.remove(&key));
        }
        self.0.insert(key, session);
    }

    /// The session of `key`, used now; none when it has ended.
    pub fn find(&mut self, key: SessionKey, now: Timestamp) -> Option<Session> {
        if self.0.get(&key)?.is_over(now) {
            self.0.remove(&key);
            return None;
        }
        let session = self.0.get_mut(&key)?;
        session.used = session.used.max(now);
        Some(session.clone())
    }

    /// The session of `key` as it is: looking does not use it.
    pub fn look(&self, key: SessionKey, now: Timestamp) -> Option<Session> {
        self.0
            .get(&key)
            .filter(|session| !session.is_over(now))
            .cloned()
    }

    /// Ends a session; the one that ended.
    pub fn close(&mut self, key: SessionKey) -> Option<Session> {
        self.0.remove(&key)
    }

    /// Ends the sessions of all whom a provider vouched for; those that ended.
    pub fn close_provided(&mut self) -> Vec<Session> {
        let is_provided = |_: &SessionKey, session: &mut Session| {
            matches!(session.operator, Who::Provided { .. })
        };
        self.0
            .extract_if(is_provided)
            .map(|(_, session)| session)
            .collect()
    }

    /// The sessions that have not ended, the one used last first.
    pub fn listed(&self, now: Timestamp) -> Vec<(SessionKey, Session)> {
        let mut listed: Vec<_> = self
            .0
            .iter()
            .filter(|(_, session)| !session.is_over(now))
            .map(|(key, session)| (*key, session.clone()))
            .collect();
        listed.sort_by_key(|(_, session)| std::cmp::Reverse(session.used));
        listed
    }
}

impl Tries {
    /// Notes a try of `who`, of whom `most` are allowed within [`TRIES_WITHIN`].
    ///
    /// # Errors
    /// The time after which another one is allowed.
    pub fn note(&mut self, who: &str, most: usize, now: Timestamp) -> Result<(), Duration> {
        if !self.0.contains_key(who) && self.0.len() >= TRIERS_MAX {
            self.0
                .retain(|_, tries| tries.back().is_some_and(|last| !is_past(*last, now)));
            // More than can be remembered try at once: nobody new gets in until some of them have stopped.
            if self.0.len() >= TRIERS_MAX {
                return Err(TRIES_WITHIN);
            }
        }
        let tries = self.0.entry(who.to_owned()).or_default();
        while tries.front().is_some_and(|first| is_past(*first, now)) {
            tries.pop_front();
        }
        match tries.front() {
            Some(first) if tries.len() >= most => {
                Err(TRIES_WITHIN.saturating_sub(now.since(*first)))
            }
            _ => {
                tries.push_back(now);
                Ok(())
            }
        }
    }

    /// Forgets the tries of `who`, who has signed in.
    pub fn forget(&mut self, who: &str) {
        self.0.remove(who);
    }
}

/// Whether a try counts no more. One that lies as far ahead is from before the clock was set back: it would count until
/// that moment comes again.
fn is_past(tried: Timestamp, now: Timestamp) -> bool {
    now.since(tried).max(tried.since(now)) >= TRIES_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str, at: i64) -> Session {
        Session {
            operator: Who::Local(
                Operator::new(name, Role::Viewer, "a long enough password", &[1; 16]).unwrap(),
            ),
            form_token: "t".to_owned(),
            opened: Timestamp(at),
            used: Timestamp(at),
            address: "127.0.0.1".to_owned(),
        }
    }

    #[test]
    fn a_session_ends_by_age_by_rest_and_by_word() {
        let minutes = |n: i64| Timestamp(n * 60_000);
        let key = SessionKey::of("a");
        let mut sessions = Sessions::default();
        sessions.open(key, session("ann", 0));
        assert!(sessions.find(SessionKey::of("b"), minutes(0)).is_none());
        // Used every 29 minutes, it lasts for eight hours and no longer.
        for turn in 0..=16 {
            assert!(sessions.find(key, minutes(turn * 29)).is_some(), "{turn}");
        }
        assert!(sessions.find(key, minutes(480)).is_none());
        sessions.open(key, session("ann", 0));
        assert!(sessions.find(key, minutes(30)).is_none());
        sessions.open(key, session("ann", 0));
        assert!(sessions.close(key).is_some() && sessions.find(key, minutes(1)).is_none());
    }

    #[test]
    fn who_only_looks_does_not_use_a_session() {
        let minutes = |n: i64| Timestamp(n * 60_000);
        let key = SessionKey::of("a");
        let mut sessions = Sessions::default();
        sessions.open(key, session("ann", 0));
        // The script asks every few seconds; nobody does anything.
        for minute in 0..30 {
            assert!(sessions.look(key, minutes(minute)).is_some(), "{minute}");
        }
        assert!(sessions.look(key, minutes(30)).is_none());
        assert!(sessions.find(key, minutes(30)).is_none());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut sessions = Sessions::default();
        let one = session("ann", 0);
        for number in 0..20 {
            let at = Timestamp(number);
            let key = SessionKey::of(&format!("{number}"));
            sessions.open(
                key,
                Session {
                    opened: at,
                    used: at,
                    ..one.clone()
                },
            );
        }
        let listed = sessions.listed(Timestamp(20));
        assert_eq!(listed.len(), SESSIONS_EACH_MAX);
        assert_eq!(
            listed.first().map(|(_, session)| session.used),
            Some(Timestamp(19))
        );
    }

    #[test]
    fn tries_are_bounded_and_come_back() {
        let mut tries = Tries::default();
        for _ in 0..5 {
            assert_eq!(tries.note("ann", 5, Timestamp(1_000)), Ok(()));
        }
        assert_eq!(
            tries.note("ann", 5, Timestamp(11_000)),
            Err(Duration::from_secs(50))
        );
        assert_eq!(tries.note("bo", 5, Timestamp(11_000)), Ok(()));
        assert_eq!(tries.note("ann", 5, Timestamp(61_000)), Ok(()));
        for number in 0..5_000 {
            let tried = tries.note(&format!("n{number}"), 5, Timestamp(62_000));
            assert!(number > 0 || tried.is_ok());
        }
        assert!(tries.0.len() <= TRIERS_MAX);
        assert_eq!(tries.note("late", 5, Timestamp(200_000)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut tries = Tries::default();
        let ahead = Timestamp(3_600_000);
        for _ in 0..5 {
            assert_eq!(tries.note("ann", 5, ahead), Ok(()));
        }
        assert!(tries.note("ann", 5, Timestamp(3_599_000)).is_err());
        assert_eq!(tries.note("ann", 5, Timestamp(1_000)), Ok(()));
    }
}
