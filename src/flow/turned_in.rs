//! What becomes of a code or refresh token that was turned in, and of the family of tokens that it belongs to.

use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::history::Redeemed;
use crate::domain::history::TokenFamily;
use crate::domain::history::TokenUse;
use crate::domain::history::family::short;
use crate::domain::outcome;
use crate::domain::outcome::AuthOutcome;
use crate::domain::route::Door;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::observe::links::provenance;
use std::time::Duration;

/// A link with what it leads to and how long it is kept, before it is shared.
type NewLink = (LinkKey, Provenance, Duration);

/// What becomes of the code or refresh token that was turned in, unless the answer gave the same one again.
pub(in crate::flow) fn used_up(
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
    issued: &[NewLink],
) -> Option<NewLink> {
    let accepted = door == Door::Token && exchange.outcome == AuthOutcome::TokensIssued;
    let key = assessed.presented.filter(|_| accepted)?;
    let before = assessed.provenance.as_deref()?;
    let redeemed = || Provenance {
        redeemed: before.redeemed.or(Some(Redeemed {
            at: exchange.at,
            address: assessed.signals.hashes.familiarity.address.map(short),
        })),
        ..before.clone()
    };
    match key.kind {
        LinkKind::Code => Some((key, redeemed(), outcome::CODE_LIFETIME)),
        LinkKind::RefreshToken if issued.iter().any(|(other, ..)| *other == key) => None,
        LinkKind::RefreshToken => {
            let successor = issued
                .iter()
                .find(|(other, ..)| other.kind == LinkKind::RefreshToken);
            Some(match successor {
                // As long as the family lives, somebody may come back with what it has left behind.
                Some((_, _, lifetime)) => (key, redeemed(), *lifetime),
                // The same token goes on being used.
                None => (
                    key,
                    provenance(exchange, assessed, door, key.kind),
                    exchange.snapshot.refresh_token_lifetime,
                ),
            })
        }
        LinkKind::BackChannel => Some((key, redeemed(), outcome::CODE_LIFETIME)),
        LinkKind::AccessToken
        | LinkKind::Decision
        | LinkKind::PushedRequest
        | LinkKind::Session
        | LinkKind::Transaction
        | LinkKind::UserCode => None,
    }
}

/// The family of a refresh token after this use.
pub(in crate::flow) fn family(
    exchange: &Exchange,
    assessed: &Assessed,
    before: Option<&Provenance>,
    low: bool,
) -> TokenFamily {
    let seen = assessed.signals.hashes.familiarity;
    let used = TokenUse {
        at: exchange.at,
        address: seen.address,
        asn: seen.asn,
        country: seen.country,
        agent: seen.agent,
        browser: Some(assessed.signals.hashes.browser),
        tls: seen.tls,
        proof_key: assessed.signals.grant.proof_key,
        coordinates: assessed.signals.network.coordinates,
    };
    match before.and_then(|link| link.family.as_deref().cloned()) {
        Some(mut family) => {
            family.record(&used, low);
            family
        }
        None => TokenFamily::begin(&used),
    }
}
