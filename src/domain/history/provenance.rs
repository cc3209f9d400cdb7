//! Links: from a code, token, session or login in progress to the decision under which it was given, and what that
//! decision knew.

use crate::domain::authenticator::Unread;
use crate::domain::demand::DemandKey;
use crate::domain::history::Familiarity;
use crate::domain::history::KnownValue;
use crate::domain::history::KnownValues;
use crate::domain::history::Place;
use crate::domain::history::Profile;
use crate::domain::history::Redeemed;
use crate::domain::history::ShortHash;
use crate::domain::history::TokenFamily;
use crate::domain::history::TokenRequest;
use crate::domain::history::kept;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::RequestId;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// What a link leads from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// An access token, by its `jti` or, when opaque, by its value.
    AccessToken,
    /// What a client polls the token endpoint with, while a browser approves it elsewhere (`device_code`, `auth_req_id`).
    BackChannel,
    /// An authorization code.
    Code,
    /// A decision, by its id, for as long as WSO2 may ask for it.
    Decision,
    /// A pushed authorization request (`request_uri`, RFC 9126).
    PushedRequest,
    /// A refresh token.
    RefreshToken,
    /// A WSO2 session (`commonAuthId`).
    Session,
    /// A login in progress (`sessionDataKey`, `sessionDataKeyConsent` or a `flowId`).
    Transaction,
    /// What a browser brings to approve such a poll (`user_code`, `authCodeKey`).
    UserCode,
}

/// The key of a link: its kind and the keyed pseudonym of the value. The value itself is never kept.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct LinkKey {
    /// What it leads from.
    pub kind: LinkKind,
    /// The pseudonym of the value.
    pub digest: Pseudonym,
}

/// Under which decision something was given: kept with a code, token, session or login in progress. It is an input to
/// a new decision, not an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The decision.
    pub decision_id: RequestId,
    /// When it was taken.
    pub at: Timestamp,
    /// The tenant, as a keyed hash.
    pub tenant: ValueHash,
    /// The client, as a key.
    pub client: Option<SubjectKey>,
    /// The user or service account, once known.
    pub subject: Option<SubjectKey>,
    /// The risk score 0 to 100; `None` when it was unscored.
    pub score: Option<u8>,
    /// The reasons of the score, by their codes.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether a stronger factor was demanded.
    pub demanded: bool,
    /// When it was; the epoch when it was not.
    pub demanded_at: Timestamp,
    /// Whether the identity server's tokens were withheld for want of a proof: what it stands for is refused.
    pub barred: bool,
    /// Factors of this login so far: a set of [`FACTOR_PASSWORD`], [`FACTOR_STRONG`], [`FACTOR_RELEASED`],
    /// [`FACTOR_SINCE`] and [`FACTOR_PROVEN`], with [`SUBJECT_HINTED`], [`PASSWORD_UNREAD`] and [`FACTOR_UNREAD`].
    pub factors: u8,
    /// Whether the login went to its end.
    pub confirmed: bool,
    /// What the issuing request showed. Never overwritten: a later use is compared with it.
    pub issued_to: Familiarity,
    /// Where the issuing request came from.
    pub coordinates: Option<Coordinates>,
    /// What the latest request that used it showed (an app server redeems the code for the browser).
    pub used_by: Familiarity,
    /// Where the latest request that used it came from.
    pub used_from: Option<Coordinates>,
    /// How many confirmed logins stood behind the subject at issue: the weight of the evidence.
    pub evidence: u32,
    /// Where demands of this login are kept: under its browser and, if a stronger factor was demanded, its source. At
    /// most [`KEYS_MAX`](crate::domain::demand::KEYS_MAX).
    pub demand_keys: Vec<DemandKey>,
    /// The highest score of the login itself; `None` when it was unscored. Unlike `score` it does not grow with the
    /// requests that use the token.
    pub login_score: Option<u8>,
    /// The scopes that the login asked for, at most [`SCOPES_MAX`](crate::domain::history::client::SCOPES_MAX); empty when it asked for none.
    pub scopes: Vec<ShortHash>,
    /// What is remembered of the tokens that go back to this login; `None` for a code or a login in progress.
    pub family: Option<Box<TokenFamily>>,
    /// That it was used up: a code that was redeemed, a refresh token that was replaced.
    pub redeemed: Option<Redeemed>,
    /// The client id, for the settings of the application: the login door does not name it again. At most
    /// [`APPLICATION_BYTES_MAX`] long.
    pub application: Option<String>,
    /// What a client polls with that this login, or the code that began it, approves.
    pub approves: Option<Pseudonym>,
    /// What the token actions need to know of a token request; with the link from its decision alone. The stores keep it
    /// behind everything else.
    #[serde(skip)]
    pub token_request: Option<Box<TokenRequest>>,
}

/// Longer client ids are not kept with a link.
pub const APPLICATION_BYTES_MAX: usize = 128;

/// The password, or whatever the first step of the application is.
pub const FACTOR_PASSWORD: u8 = 1;
/// A factor beyond the password, seen to be accepted.
pub const FACTOR_STRONG: u8 = 2;
/// No factor, but a word about this one login: an analyst has released it. Kept with the login and its code alone.
pub const FACTOR_RELEASED: u8 = 4;
/// It was seen after it had been demanded.
pub const FACTOR_SINCE: u8 = 8;
/// The identity server's signed word that it was given.
pub const FACTOR_PROVEN: u8 = 16;
/// No factor, but a word about the subject: the login was begun for it, by a `login_hint` or beside a session, and nobody has
/// said since that it is theirs. Kept with a login in progress and its decisions alone.
pub const SUBJECT_HINTED: u8 = 32;

/// No factor, but a word about the page that a login in progress is at: it reads no password.
pub const PASSWORD_UNREAD: u8 = 64;
/// The same: it reads no factor beyond the password.
pub const FACTOR_UNREAD: u8 = 128;
/// What is said of one moment of a login, and of no later one.
const OF_THE_MOMENT: u8 = SUBJECT_HINTED | PASSWORD_UNREAD | FACTOR_UNREAD;

/// The factors of a login after one more `step`. `is_old` says that a demand was raised after those `before`.
pub fn factors_after(before: u8, is_old: bool, step: u8) -> u8 {
    let kept = if is_old {
        before & !(FACTOR_SINCE | FACTOR_PROVEN | OF_THE_MOMENT)
    } else {
        before & !OF_THE_MOMENT
    };
    let since = if step == FACTOR_STRONG {
        FACTOR_SINCE
    } else {
        0
    };
    kept | step | since
}

impl Provenance {
    /// Whom it stands for; `None` too where it names only whom a login was begun for. What is done under that name is judged
    /// as its user's, and nothing is credited to it.
    pub fn user(&self) -> Option<SubjectKey> {
        self.subject.filter(|_| !self.is_hinted())
    }

    /// Whether the subject is only whom the login was begun for.
    pub fn is_hinted(&self) -> bool {
        self.factors & SUBJECT_HINTED != 0
    }

    /// What the page does not read that the login in progress is at.
    pub fn unread(&self) -> Unread {
        Unread {
            password: self.factors & PASSWORD_UNREAD != 0,
            factor: self.factors & FACTOR_UNREAD != 0,
        }
    }

    /// Keeps what that page does not read.
    pub fn is_at(&mut self, unread: Unread) {
        let password = if unread.password { PASSWORD_UNREAD } else { 0 };
        let factor = if unread.factor { FACTOR_UNREAD } else { 0 };
        self.factors = self.factors & !(PASSWORD_UNREAD | FACTOR_UNREAD) | password | factor;
    }

    /// Whether the password was accepted.
    pub fn has_password(&self) -> bool {
        self.factors & FACTOR_PASSWORD != 0
    }

    /// Whether a factor beyond the password was accepted.
    pub fn has_strong_factor(&self) -> bool {
        self.factors & FACTOR_STRONG != 0
    }

    /// Whether the decision is younger than `span`, and not of a clock that was ahead: how old it is then, nobody knows.
    pub fn is_within(&self, span: Duration, now: Timestamp) -> bool {
        now.since(self.at) < span && !self.at.is_ahead_of(now)
    }

    /// Whether a factor beyond the password was accepted after it had been demanded.
    pub fn has_factor_since(&self) -> bool {
        self.factors & FACTOR_SINCE != 0
    }

    /// Whether a stronger factor is owed that the identity server has not yet signed for.
    pub fn owes_proof(&self) -> bool {
        self.demanded && self.factors & FACTOR_PROVEN == 0
    }

    /// The stricter of two words about one poll: what was demanded stays demanded, and what was withheld stays withheld.
    pub fn stricter(mut self, other: &Self) -> Self {
        if other.owes_proof() {
            self.demanded = true;
            self.demanded_at = self.demanded_at.max(other.demanded_at);
            // Two logins: what one has shown says nothing of the other.
            if other.confirmed {
                self.factors &= !(FACTOR_PROVEN | FACTOR_SINCE);
            }
        }
        self.barred |= other.barred;
        self
    }

    /// The profile that a token or session stands for when the subject's own is not at hand: what it was issued to and
    /// what has used it since, with the evidence of the subject at issue.
    pub fn as_profile(&self) -> Profile {
        // A stranger's token is judged against at least one login, a regular's against a few: more would make one
        // change of network look like theft.
        let successes = self.evidence.clamp(1, 8);
        let values = |issued: Option<ValueHash>, used: Option<ValueHash>| {
            let mut known = KnownValues::default();
            for value in [issued, used].into_iter().flatten().map(kept) {
                if known.find(value).is_none() {
                    known.0.push(KnownValue {
                        value,
                        count: successes,
                        first: self.at,
                        last: self.at,
                    });
                }
            }
            known
        };
        Profile {
            successes,
            first: self.at,
            last: self.at,
            // An app server may stand far from its users: travel is counted from where the token was last used.
            last_coordinates: self.used_from.or(self.coordinates),
            addresses: values(self.issued_to.address, self.used_by.address),
            asns: values(self.issued_to.asn, self.used_by.asn),
            countries: values(self.issued_to.country, self.used_by.country),
            agents: values(self.issued_to.agent, self.used_by.agent),
            platforms: values(self.issued_to.platform, self.used_by.platform),
            languages: values(self.issued_to.language, self.used_by.language),
            devices: values(self.issued_to.device, self.used_by.device),
            tls: values(self.issued_to.tls, self.used_by.tls),
            places: [self.coordinates, self.used_from]
                .into_iter()
                .flatten()
                .map(|coordinates| Place {
                    coordinates,
                    count: successes,
                    last: self.at,
                })
                .collect(),
            ..Profile::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(demanded_at: i64, factors: u8, confirmed: bool) -> Provenance {
        Provenance {
            decision_id: RequestId::new("d".to_owned()),
            at: Timestamp(demanded_at),
            tenant: 1,
            client: None,
            subject: None,
            score: None,
            reasons: Vec::new(),
            demanded: demanded_at > 0,
            demanded_at: Timestamp(demanded_at),
            barred: false,
            factors,
            confirmed,
            issued_to: Familiarity::default(),
            coordinates: None,
            used_by: Familiarity::default(),
            used_from: None,
            evidence: 0,
            demand_keys: Vec::new(),
            login_score: None,
            scopes: Vec::new(),
            family: None,
            redeemed: None,
            application: None,
            approves: None,
            token_request: None,
        }
    }

    #[test]
    fn of_two_words_about_a_poll_the_stricter_counts() {
        let given = FACTOR_PASSWORD | FACTOR_STRONG | FACTOR_SINCE;
        // Who asked owed a factor; the browser that approves has given one since.
        let kept = approval(0, given, true).stricter(&approval(5, 0, false));
        assert!(kept.owes_proof() && kept.has_factor_since());
        assert_eq!(kept.demanded_at, Timestamp(5));
        // One browser owed it, and another one gave it: that is another login.
        let kept = approval(0, given | FACTOR_PROVEN, true).stricter(&approval(5, 0, true));
        assert!(kept.owes_proof() && !kept.has_factor_since());
        // Nothing was owed, or it was proved.
        for before in [approval(0, 0, true), approval(5, FACTOR_PROVEN, true)] {
            let kept = approval(0, FACTOR_PASSWORD, true).stricter(&before);
            assert!(!kept.owes_proof() && !kept.barred);
        }
        let mut barred = approval(0, 0, true);
        barred.barred = true;
        assert!(approval(0, 0, true).stricter(&barred).barred);
    }

    #[test]
    fn a_decision_of_a_clock_that_was_ahead_is_not_of_now() {
        let day = Duration::from_secs(24 * 3600);
        let decided = approval(1_000, 0, true);
        assert!(decided.is_within(day, Timestamp(1_001)));
        assert!(!decided.is_within(day, Timestamp(1_000).plus(day)));
        // Another node's clock is not quite the same.
        assert!(decided.is_within(day, Timestamp(1_000 - 300_000)));
        assert!(!decided.is_within(day, Timestamp(1_000 - 86_400_000)));
    }
}
