//! The queue of logins that are held until an analyst decides: what is kept of each, who may be asked about twice, and
//! what a release is good for. Pure: the stores keep the queue as one value, `flow` changes it.
//!
//! Nothing here is a secret of a user: no password, no name in clear, no address. What an analyst sees is a pseudonym, the
//! application, the score with its reasons, an age, and words for country and network.

use crate::domain::ids::Pseudonym;
use crate::domain::ids::RequestId;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::printable::acts;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// What operators are shown, and what they say.
mod listing;

pub use listing::Answer;
pub use listing::Entry;
pub use listing::Listing;

/// Logins of all states that the queue keeps. Decided ones make room first.
pub const ITEMS_MAX: usize = 600;
/// The most logins that may wait, whatever is configured: room for decided ones stays.
pub const WAITING_MAX: usize = 400;
/// Waiting logins of one user that come from devices which the user has not logged in with.
pub const WAITING_PER_SUBJECT_MAX: usize = 4;
/// Waiting logins from one address, whichever users they name.
pub const WAITING_PER_SOURCE_MAX: usize = 20;
/// For how long a release lets its user sign in, once.
pub const PASS_TTL: Duration = Duration::from_secs(15 * 60);
/// For how long a refusal answers those who ask again: after that they may wait once more.
pub const REFUSAL_TTL: Duration = Duration::from_secs(15 * 60);
/// The longest that the queue is kept after its last change.
pub const QUEUE_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Reasons kept with an entry.
pub const REASONS_MAX: usize = 8;
/// Characters kept of what a client or an operator has typed.
pub const TEXT_MAX: usize = 128;

/// `[review]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ReviewSettings {
    /// Hours for which a held login stays in the queue; 1 to 168.
    pub ttl_hours: u64,
    /// Logins that may wait at the same time; 1 to [`WAITING_MAX`]. Beyond that new ones are refused.
    pub waiting_max: usize,
}

/// What a held login is bound to: only from there a release lets its user sign in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Bound {
    /// The cookie that was set when it was held.
    Browser(ValueHash),
    /// The device cookie.
    Device(ValueHash),
    /// Address, browser and system together: where no cookie can be kept (programs, connections without TLS).
    Source(ValueHash),
}

/// What an analyst has decided.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ruling {
    /// Released, or refused.
    pub is_release: bool,
    /// When.
    pub at: Timestamp,
    /// The operator's name as given.
    pub operator: String,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Where a held login stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// An analyst refused it.
    Refused,
    /// Released: its user may sign in.
    Released,
    /// Released, and its user has signed in or the time for it is over.
    Spent,
    /// Nobody has decided yet.
    Waiting,
}

/// One login that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldLogin {
    /// Its id: random.
    pub id: Pseudonym,
    /// When it was held.
    pub at: Timestamp,
    /// When it leaves the queue.
    pub expires: Timestamp,
    /// The tenant domain.
    pub tenant: String,
    /// The application, if one is known.
    pub client: Option<SubjectKey>,
    /// Its client id, as far as it is known.
    pub application: String,
    /// The user, if the request named one.
    pub subject: Option<SubjectKey>,
    /// What it is bound to.
    pub bound: Bound,
    /// The address, as a keyed hash.
    pub source: ValueHash,
    /// Whether the user has logged in with this device before.
    pub known_device: bool,
    /// The door.
    pub door: String,
    /// The score, 0 to 100; `None` when a rule held it without one.
    pub score: Option<u8>,
    /// Codes of the reasons, at most [`REASONS_MAX`].
    pub reasons: Vec<String>,
    /// The decision that held it.
    pub decision_id: RequestId,
    /// ISO 3166 code.
    pub country: Option<String>,
    /// The kind of network.
    pub network: Option<String>,
    /// What was decided.
    pub ruling: Option<Ruling>,
    /// Whether the release has been used.
    pub used: bool,
}

/// Who asks to sign in: what a held login is looked up by.
#[derive(Clone, Debug, PartialEq)]
pub struct Asker {
    /// The tenant domain.
    pub tenant: String,
    /// The application, if one is known.
    pub client: Option<SubjectKey>,
    /// The user, if the request names one.
    pub subject: Option<SubjectKey>,
    /// Everything that the request can be recognized by.
    pub bounds: Vec<Bound>,
}

/// Why nobody can be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many logins wait for review")]
pub struct QueueFull;

/// Why nothing can be decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RulingError {
    /// Another analyst was quicker, with the other decision.
    #[error("it has been decided otherwise")]
    Decided,
    /// No login has that id, or more than one has an id that begins so.
    #[error("no held login has that id")]
    Unknown,
}

/// All logins that are held or were lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReviewQueue(Vec<HeldLogin>);

impl Default for ReviewSettings {
    fn default() -> Self {
        Self {
            ttl_hours: 24,
            waiting_max: 200,
        }
    }
}

impl ReviewSettings {
    /// How long a held login stays in the queue.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_hours.saturating_mul(3600)).min(QUEUE_TTL)
    }

    /// What is wrong with the values, if anything: the key and what was expected.
    pub fn problem(&self) -> Option<String> {
        if !(1..=168).contains(&self.ttl_hours) {
            return Some(format!(
                "ttl_hours: {}, expected 1 to 168 hours",
                self.ttl_hours
            ));
        }
        (!(1..=WAITING_MAX).contains(&self.waiting_max)).then(|| {
            format!(
                "waiting_max: {}, expected 1 to {WAITING_MAX}",
                self.waiting_max
            )
        })
    }
}

impl Bound {
    /// As bytes: for what is bound to the same.
    pub fn bytes(self) -> [u8; 9] {
        let (tag, hash) = match self {
            Self::Browser(hash) => (b'b', hash),
            Self::Device(hash) => (b'd', hash),
            Self::Source(hash) => (b's', hash),
        };
        let mut bytes = [tag; 9];
        for (to, from) in bytes.iter_mut().skip(1).zip(hash.to_be_bytes()) {
            *to = from;
        }
        bytes
    }
}

impl Standing {
    /// The standing as it is written in lists and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Released => "released",
            Self::Spent => "spent",
            Self::Waiting => "waiting",
        }
    }
}

impl Ruling {
    /// Whether it is no older than `span`. One of a clock that was ahead has ended: nobody shall be refused, or let in, until that
    /// clock is there again.
    fn holds_for(&self, span: Duration, now: Timestamp) -> bool {
        now.since(self.at) < span && !self.at.is_ahead_of(now)
    }
}

impl HeldLogin {
    /// Where it stands at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match &self.ruling {
            None => Standing::Waiting,
            Some(ruling) if !ruling.is_release => Standing::Refused,
            Some(ruling) if self.used || !ruling.holds_for(PASS_TTL, now) => Standing::Spent,
            Some(_) => Standing::Released,
        }
    }

    /// The front of its id, for people: what the page shows and `riskgate review` takes.
    pub fn reference(&self) -> String {
        reference(self.id)
    }

    fn is_of(&self, asker: &Asker) -> bool {
        self.tenant == asker.tenant
            && self.client == asker.client
            && asker.bounds.contains(&self.bound)
    }

    /// Whether it still stands in the way of `asker`, or refuses it.
    fn answers(&self, asker: &Asker, now: Timestamp) -> bool {
        let stands = match &self.ruling {
            None => true,
            Some(ruling) => !ruling.is_release && ruling.holds_for(REFUSAL_TTL, now),
        };
        stands && self.subject == asker.subject && self.is_of(asker)
    }
}

/// The front of an id, for people.
pub fn reference(id: Pseudonym) -> String {
    id.to_string().chars().take(8).collect()
}

impl ReviewQueue {
    /// Logins from a store; `None` for what no queue can hold.
    pub fn from_items(items: Vec<HeldLogin>) -> Option<Self> {
        let is_short = |text: &str| text.len() <= 4 * TEXT_MAX;
        let sound = items.len() <= ITEMS_MAX
            && items.iter().all(|item| {
                item.reasons.len() <= REASONS_MAX
                    && item.score.is_none_or(|score| score <= 100)
                    && is_short(&item.tenant)
                    && is_short(&item.application)
            });
        sound.then_some(Self(items))
    }

    /// The logins, oldest first.
    pub fn items(&self) -> &[HeldLogin] {
        &self.0
    }

    /// When the latest login was held or decided; the epoch for an empty queue.
    pub fn latest(&self) -> Timestamp {
        let moments = self
            .0
            .iter()
            .flat_map(|item| [Some(item.at), item.ruling.as_ref().map(|ruling| ruling.at)]);
        moments.flatten().max().unwrap_or_default()
    }

    /// How many wait at `now`.
    pub fn waiting(&self, now: Timestamp) -> usize {
        self.0
            .iter()
            .filter(|item| item.ruling.is_none() && now < item.expires)
            .count()
    }

    /// The login with this id.
    pub fn find(&self, id: Pseudonym, now: Timestamp) -> Option<&HeldLogin> {
        self.0
            .iter()
            .find(|item| item.id == id && now < item.expires)
    }

    /// The login that answers `asker` already: one that waits, or that was refused a short while ago.
    pub fn answering(&self, asker: &Asker, now: Timestamp) -> Option<&HeldLogin> {
        self.0
            .iter()
            .rev()
            .find(|item| now < item.expires && item.answers(asker, now))
    }

    /// Releases that `asker` may use now. Where the request names nobody, those of every user on this device and in this
    /// application: whom they are for shows when the name comes.
    pub fn releases<'q>(
        &'q self,
        asker: &'q Asker,
        now: Timestamp,
    ) -> impl Iterator<Item = &'q HeldLogin> {
        self.0.iter().filter(move |item| {
            item.standing(now) == Standing::Released
                && item.is_of(asker)
                && (item.subject == asker.subject || asker.subject.is_none())
        })
    }

    /// Adds a login, unless there is one already that answers the same `asker`: the id of whichever it is.
    pub fn hold(
        &mut self,
        login: HeldLogin,
        asker: &Asker,
        settings: &ReviewSettings,
    ) -> Result<Pseudonym, QueueFull> {
        let now = login.at;
        if let Some(known) = self.answering(asker, now) {
            return Ok(known.id);
        }
        self.0.retain(|item| now < item.expires);
        if self.is_full_for(&login, settings) {
            return Err(QueueFull);
        }
        if self.0.len() >= ITEMS_MAX {
            let decided = self.0.iter().position(|item| item.ruling.is_some());
            self.0.remove(decided.ok_or(QueueFull)?);
        }
        let id = login.id;
        self.0.push(login);
        Ok(id)
    }

    /// Whether there is no room for `login`, be it in the whole queue, for its user or for its address.
    pub fn is_full_for(&self, login: &HeldLogin, settings: &ReviewSettings) -> bool {
        let waiting = || {
            self.0
                .iter()
                .filter(|item| item.ruling.is_none() && login.at < item.expires)
        };
        let of_user = waiting().filter(|item| item.subject == login.subject && !item.known_device);
        let of_source = waiting().filter(|item| item.source == login.source);
        // Whoever knows a name can fill its places, but not those of the devices that its owner uses.
        let user_is_full = login.subject.is_some()
            && !login.known_device
            && of_user.count() >= WAITING_PER_SUBJECT_MAX;
        user_is_full
            || of_source.count() >= WAITING_PER_SOURCE_MAX
            || waiting().count() >= settings.waiting_max.min(WAITING_MAX)
    }

    /// Decides about the login whose id is, or begins with, `id`. Saying the same twice changes nothing.
    pub fn rule(&mut self, id: &str, ruling: Ruling) -> Result<&HeldLogin, RulingError> {
        /// Fewer digits than a page shows are a guess.
        const DIGITS_MIN: usize = 8;
        let id = id.to_ascii_lowercase();
        if id.len() < DIGITS_MIN {
            return Err(RulingError::Unknown);
        }
        let now = ruling.at;
        let mut found = self
            .0
            .iter_mut()
            .filter(|item| now < item.expires && item.id.to_string().starts_with(&id));
        let (Some(item), None) = (found.next(), found.next()) else {
            return Err(RulingError::Unknown);
        };
        match &item.ruling {
            None => item.ruling = Some(ruling),
            Some(known) if known.is_release == ruling.is_release => {}
            Some(_) => return Err(RulingError::Decided),
        }
        Ok(item)
    }

    /// The release of the login with this id has been used.
    pub fn spend(&mut self, id: Pseudonym) -> bool {
        let item = self.0.iter_mut().find(|item| item.id == id && !item.used);
        let found = item.is_some();
        if let Some(item) = item {
            item.used = true;
        }
        found
    }
}

/// How many characters `text` has, where these are more than [`printable`] keeps.
pub fn too_long(text: &str) -> Option<usize> {
    let length = text.chars().count();
    (length > TEXT_MAX).then_some(length)
}

/// What somebody has typed, cut and without anything that a terminal or a log reader could act on.
pub fn printable(text: &str) -> String {
    text.chars()
        .take(TEXT_MAX)
        .map(|c| if acts(c) { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
