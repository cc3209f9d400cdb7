//! What those who send the events hold: cookie jars, sessions, codes and refresh tokens. Only what the replayed gateway
//! and its identity server gave out travels; nothing here looks at a label.

use crate::domain::time::Timestamp;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::time::Duration;

/// Families that were quiet for this long are forgotten: their session is over and their last token has ended.
const FAMILY_KEPT: Duration = Duration::from_secs(15 * 24 * 3600);
/// Tokens of one family that are out and not used yet; older ones are lost.
const OUT_MAX: usize = 4;
/// Tokens of one family that were used and may be presented again.
const USED_MAX: usize = 32;

/// Something that was issued, by number.
pub(super) type Number = u64;

/// Everybody's jars and families.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    jars: HashMap<Box<str>, Box<str>>,
    families: HashMap<Box<str>, Family>,
    hasher: RandomState,
    issued: Number,
}

/// A login and what came of it.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// The latest event.
    latest: Timestamp,
    session: Option<Number>,
    code: Option<Number>,
    redeemed: Option<Number>,
    out: Vec<(Number, IpAddr)>,
    /// The hash of a Token ID of the file, and the token that it stands for.
    used: Vec<(u64, Number)>,
}

/// What is presented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Presented {
    /// Something that was issued here.
    Issued(Number),
    /// It comes from before the file begins.
    Foreign,
    /// In this replay it was never issued, since an earlier step was refused or not completed.
    Unreached,
}

impl Visitors {
    /// A new number for something that is issued.
    pub(super) fn number(&mut self) -> Number {
        self.issued += 1;
        self.issued
    }

    /// The cookie of a device, `name=value`.
    pub(super) fn cookie(&self, device: &str) -> Option<&str> {
        self.jars.get(device).map(|cookie| &**cookie)
    }

    /// A browser was given a cookie. One that keeps none forgets it.
    pub(super) fn set_cookie(&mut self, device: &str, cookie: &str) {
        if !device.is_empty() {
            self.jars.insert(device.into(), cookie.into());
        }
    }

    /// A login of this family begins. What it had before stays.
    pub(super) fn begin(&mut self, family: &str, now: Timestamp) {
        self.family(family, now);
    }

    /// A session was given.
    pub(super) fn give_session(&mut self, family: &str, session: Number, now: Timestamp) {
        if let Some(family) = self.family(family, now) {
            family.session = Some(session);
        }
    }

    /// A code was given.
    pub(super) fn give_code(&mut self, family: &str, code: Number, now: Timestamp) {
        if let Some(family) = self.family(family, now) {
            family.code = Some(code);
        }
    }

    /// A refresh token was given to whoever is at `address`.
    pub(super) fn give_token(
        &mut self,
        family: &str,
        token: Number,
        address: IpAddr,
        now: Timestamp,
    ) {
        if let Some(family) = self.family(family, now) {
            if family.out.len() >= OUT_MAX {
                family.out.remove(0);
            }
            family.out.push((token, address));
        }
    }

    /// The session of a family.
    pub(super) fn session(&mut self, family: &str, now: Timestamp) -> Presented {
        match self.known(family, now) {
            None => Presented::Foreign,
            Some(family) => family
                .session
                .map_or(Presented::Unreached, Presented::Issued),
        }
    }

    /// The code of a family: the one that waits to be redeemed, else the one that was redeemed last, once more.
    pub(super) fn code(&mut self, family: &str, now: Timestamp) -> Presented {
        let Some(family) = self.known(family, now) else {
            return Presented::Foreign;
        };
        if let Some(code) = family.code.take() {
            family.redeemed = Some(code);
        }
        family
            .redeemed
            .map_or(Presented::Unreached, Presented::Issued)
    }

    /// The refresh token that the file calls `name`: what was presented by this name before, else the one that was
    /// given to `address`, else the latest that is out.
    pub(super) fn token(
        &mut self,
        family: &str,
        name: &str,
        address: IpAddr,
        now: Timestamp,
    ) -> Presented {
        let hash = self.hasher.hash_one(name);
        let Some(family) = self.known(family, now) else {
            return Presented::Foreign;
        };
        let again = family.used.iter().find(|(known, _)| *known == hash);
        if let Some((_, token)) = again.filter(|_| !name.is_empty()) {
            return Presented::Issued(*token);
        }
        let given_here = family.out.iter().rposition(|(_, to)| *to == address);
        let place = given_here.or(family.out.len().checked_sub(1));
        let Some(place) = place else {
            return Presented::Unreached;
        };
        let (token, _) = family.out.remove(place);
        if family.used.len() >= USED_MAX {
            family.used.remove(0);
        }
        family.used.push((hash, token));
        Presented::Issued(token)
    }

    /// Forgets families that have gone quiet.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.families
            .retain(|_, family| now.since(family.latest) < FAMILY_KEPT);
    }

    fn known(&mut self, family: &str, now: Timestamp) -> Option<&mut Family> {
        let family = self.families.get_mut(family)?;
        family.latest = now;
        Some(family)
    }

    fn family(&mut self, family: &str, now: Timestamp) -> Option<&mut Family> {
        if family.is_empty() {
            return None;
        }
        let family = self.families.entry(family.into()).or_default();
        family.latest = now;
        Some(family)
    }
}
