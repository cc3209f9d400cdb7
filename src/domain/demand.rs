//! The memory of a demand: a stronger factor that is owed by a browser, a source or a user until a proof of it comes or
//! its window ends. Going back, another tab, dropped cookies or another grant type do not shake it off.
//!
//! Pure values and rules: the stores keep them, `flow` raises and reads them. Several records of one demand (of the
//! store, of this node, of the browser's sealed copy) are merged to the strictest of them.

/// The copy that a browser keeps.
pub mod sealed;

use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// How far the identity server's clock may be behind the gateway's: a proof this much older than the demand still
/// counts (`auth_time` is in whole seconds besides).
pub const SKEW: Duration = Duration::from_secs(60);
/// Within this time challenges are counted.
pub const CHALLENGE_WINDOW: Duration = Duration::from_secs(600);
/// The longest window that may be configured; no demand lives longer.
pub const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);
/// The demands that one query may ask for: of a browser by either cookie, of a source, of a user.
pub const DEMANDS_MAX: usize = 4;

/// The keys under which one login's demands are kept, at most: two browser ids and a source, each with and without the
/// client.
pub const KEYS_MAX: usize = 8;

/// Under what a demand is remembered.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DemandScope {
    /// A browser (by a random id in a sealed cookie of ours), a client and a tenant.
    Browser,
    /// An address (IPv6: its /64), a client and a tenant.
    Source,
    /// A user who has logged in before.
    User,
}

/// The key of a demand. What it is made of is a keyed pseudonym.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct DemandKey {
    /// Under what.
    pub scope: DemandScope,
    /// The pseudonym of browser or source with client and tenant; the user's own.
    pub digest: Pseudonym,
}

/// Whose sign-in a demand is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum About {
    /// Nobody was named: anybody's proof meets it.
    #[default]
    Nobody,
    /// This user; only a proof of the same one meets it.
    One(SubjectKey),
    /// Several users. No single proof meets it; it ends with its window.
    Several,
}

/// A demand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// When it was raised last.
    pub at: Timestamp,
    /// When it ends if nothing meets it.
    pub until: Timestamp,
    /// The highest score behind it, 0 to 100; 0 where there was none.
    pub points: u8,
    /// Whose sign-in it is about.
    pub about: About,
    /// The challenges that were given since `counted_since`, at most 255.
    pub challenges: u8,
    /// When the first of them was given.
    pub counted_since: Timestamp,
    /// Logins under it that went to their end without a proof: their identity server does not do as it is asked.
    pub failed: u8,
    /// The latest proof.
    pub proved: Option<Proved>,
}

/// That a user gave a stronger factor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Proved {
    /// Who.
    pub subject: SubjectKey,
    /// When (`auth_time`).
    pub at: Timestamp,
}

/// What the identity server has signed about a login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// Who logged in: the user as the login named them, else the account as the identity server calls it.
    pub subject: SubjectKey,
    /// When (`auth_time`).
    pub at: Timestamp,
    /// The `acr` that was reached (OpenID Connect Core section 2).
    pub acr: Option<String>,
    /// The methods that were used (`amr`, RFC 8176; WSO2 gives the names of its authenticators).
    pub amr: Vec<String>,
}

/// Who makes a request, as far as demands are concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bearer {
    /// The user who is named, or whose session is presented.
    pub subject: Option<SubjectKey>,
    /// Whether the device is known to speak for that user and the risk is low.
    pub at_home: bool,
    /// Whether the address speaks for many users who never come here themselves: an app server.
    pub shared: bool,
}

/// What raises a demand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Raise {
    /// When.
    pub at: Timestamp,
    /// For how long it holds.
    pub until: Timestamp,
    /// The score behind it, 0 to 100; 0 where there was none.
    pub points: u8,
    /// Whose sign-in it was, if somebody was named.
    pub about: Option<SubjectKey>,
}

/// What happens to a demand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum DemandChange {
    /// It is raised, and a person is asked for the factor.
    Challenged(Raise),
    /// It is raised again because a login went to its end without a proof.
    ProofFailed(Raise),
    /// A proof has come. It is remembered until `until`.
    Proved(Proved, Timestamp),
    /// It is raised without anybody being asked: the request was refused.
    Raised(Raise),
}

impl DemandScope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Browser, Self::Source, Self::User];

    /// The scope as it is written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Source => "source",
            Self::User => "user",
        }
    }
}

impl DemandKey {
    /// The key of a user.
    pub fn user(subject: SubjectKey) -> Self {
        Self {
            scope: DemandScope::User,
            digest: subject.0,
        }
    }
}

impl About {
    fn is_met_by(self, subject: SubjectKey) -> bool {
        match self {
            Self::Nobody => true,
            Self::One(one) => one == subject,
            Self::Several => false,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, about) | (about, Self::Nobody) => about,
            (Self::One(one), Self::One(another)) if one == another => self,
            _ => Self::Several,
        }
    }
}

impl Proof {
    /// What is remembered of it, once it is known to be sufficient.
    pub fn proved(&self) -> Proved {
        Proved {
            subject: self.subject,
            at: self.at,
        }
    }
}

impl Bearer {
    /// Whether a demand that is outstanding binds this request. A browser is bound by its own. What was raised elsewhere,
    /// at the same address or under the same name, does not bind a user at home: an attacker must not be able to keep
    /// users from the devices that they always use. And users at one address are not bound by what one of them owes.
    pub fn is_bound_by(&self, scope: DemandScope, demand: &Demand) -> bool {
        match (scope, demand.about) {
            (DemandScope::Browser, _) => true,
            (DemandScope::Source | DemandScope::User, _) if self.at_home => false,
            (DemandScope::User, _) => true,
            (DemandScope::Source, About::Nobody) => true,
            (DemandScope::Source, About::One(one)) => self.subject == Some(one),
            (DemandScope::Source, About::Several) => !self.shared,
        }
    }
}

impl Raise {
    fn demand(&self) -> Demand {
        Demand {
            at: self.at,
            until: self.until.min(self.at.plus(WINDOW_MAX)),
            points: self.points.min(100),
            about: self.about.map_or(About::Nobody, About::One),
            challenges: 0,
            counted_since: self.at,
            failed: 0,
            proved: None,
        }
    }
}

impl DemandChange {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Challenged(raise) | Self::ProofFailed(raise) | Self::Raised(raise) => raise.at,
            Self::Proved(proved, _) => proved.at,
        }
    }

    /// The demand after this change. `current` is what is known of it so far.
    pub fn apply(&self, current: Option<Demand>) -> Demand {
        let current = current.filter(|demand| self.at() < demand.until);
        match self {
            Self::Raised(raise) => raised(current, raise),
            Self::Challenged(raise) => {
                let mut demand = raised(current, raise);
                if raise.at.since(demand.counted_since) >= CHALLENGE_WINDOW {
                    demand.counted_since = raise.at;
                    demand.challenges = 0;
                }
                demand.challenges = demand.challenges.saturating_add(1);
                demand
            }
            Self::ProofFailed(raise) => {
                let mut demand = raised(current, raise);
                demand.failed = demand.failed.saturating_add(1);
                demand
            }
            Self::Proved(proved, until) => proven(current, *proved, *until),
        }
    }
}

fn raised(current: Option<Demand>, raise: &Raise) -> Demand {
    let new = raise.demand();
    match current {
        Some(current) => current.merged(&new),
        None => new,
    }
}

/// A proof that does not meet the demand leaves it as it is: of somebody else, or from before it.
fn proven(current: Option<Demand>, proved: Proved, until: Timestamp) -> Demand {
    let until = until.min(proved.at.plus(WINDOW_MAX));
    match current {
        Some(demand) if demand.is_met() || demand.is_met_by(&proved) => {
            let about = if demand.is_met_by(&proved) {
                demand.about
            } else {
                About::One(proved.subject)
            };
            let later = demand
                .proved
                .filter(|known| known.at > proved.at && known.subject == proved.subject);
            Demand {
                about,
                at: if about == demand.about {
                    demand.at
                } else {
                    proved.at
                },
                until: demand.until.max(until),
                failed: 0,
                proved: Some(later.unwrap_or(proved)),
                ..demand
            }
        }
        Some(demand) => demand,
        // Nothing is known here of what it is a proof for: a copy in the browser may know more.
        None => Demand {
            at: proved.at,
            until,
            points: 0,
            about: About::One(proved.subject),
            challenges: 0,
            counted_since: proved.at,
            failed: 0,
            proved: Some(proved),
        },
    }
}

impl Demand {
    /// Whether it is owed at `now`.
    pub fn is_outstanding(&self, now: Timestamp) -> bool {
        now < self.until && !self.is_met()
    }

    /// As it stands at `now`, where the clock may have been ahead when it was written and was set back since; `None` where
    /// nothing of it is left. What was owed is owed from now on: no proof could come from after that moment before the clock
    /// is there again. What was met, counted or proved then says nothing of now.
    pub fn brought_back(self, now: Timestamp) -> Option<Self> {
        let proof_is_ahead = self.proved.is_some_and(|proof| proof.at.is_ahead_of(now));
        if proof_is_ahead && self.is_met() {
            return None;
        }
        let mut demand = self;
        if proof_is_ahead {
            demand.proved = None;
        }
        if demand.counted_since.is_ahead_of(now) {
            (demand.counted_since, demand.challenges) = (now, 0);
        }
        if demand.at.is_ahead_of(now) {
            demand.until = now.plus(demand.until.since(demand.at).min(WINDOW_MAX));
            demand.at = now;
            demand.failed = 0;
        }
        Some(demand)
    }

    /// The challenges given within the [`CHALLENGE_WINDOW`] that `now` falls into.
    pub fn challenges_at(&self, now: Timestamp) -> u8 {
        if now.since(self.counted_since) < CHALLENGE_WINDOW {
            self.challenges
        } else {
            0
        }
    }

    /// Whether `proof` meets it: of the same user, and from after it was raised, but for [`SKEW`].
    pub fn is_met_by(&self, proof: &Proved) -> bool {
        self.about.is_met_by(proof.subject) && proof.at.plus(SKEW) >= self.at
    }

    /// Both records of the same demand as one: what either of them knows to be owed is owed, unless a proof that the
    /// other knows of meets it.
    pub fn merged(&self, other: &Self) -> Self {
        let met = |demand: &Self| {
            let by = |proof: Option<Proved>| proof.filter(|proof| demand.is_met_by(proof));
            by(demand.proved).or(by(other.proved)).or(by(self.proved))
        };
        let (mine, theirs) = (met(self), met(other));
        let later = if other.at > self.at { other } else { self };
        let (at, about, points, failed, proved) = match (mine, theirs) {
            (Some(_), Some(_)) => {
                let proof = if other.at > self.at { theirs } else { mine };
                (later.at, later.about, later.points, later.failed, proof)
            }
            (Some(met), None) => {
                let proof = other.proved.unwrap_or(met);
                (
                    other.at,
                    other.about,
                    other.points,
                    other.failed,
                    Some(proof),
                )
            }
            (None, Some(met)) => {
                let proof = self.proved.unwrap_or(met);
                (self.at, self.about, self.points, self.failed, Some(proof))
            }
            (None, None) => (
                later.at,
                self.about.and(other.about),
                self.points.max(other.points),
                self.failed.max(other.failed),
                later.proved,
            ),
        };
        let (counted_since, challenges) = counted(self, other);
        Self {
            at,
            until: self.until.max(other.until),
            points,
            about,
            challenges,
            counted_since,
            failed,
            proved,
        }
    }

    fn is_met(&self) -> bool {
        self.proved.is_some_and(|proof| self.is_met_by(&proof))
    }
}

/// The larger count of the later window.
fn counted(one: &Demand, other: &Demand) -> (Timestamp, u8) {
    let (early, late) = if one.counted_since <= other.counted_since {
        (one, other)
    } else {
        (other, one)
    };
    if early.challenges == 0 || late.counted_since.since(early.counted_since) >= CHALLENGE_WINDOW {
        (late.counted_since, late.challenges)
    } else {
        (early.counted_since, early.challenges.max(late.challenges))
    }
}

#[cfg(test)]
mod tests;
