//! What a client polls with, and the browser that approves it (RFC 8628, OpenID CIBA): the poll is found under the decision
//! of the browser. The two halves meet in what the identity server has handed out through this gateway, never in what a
//! browser claims; a code that nobody was given joins nothing.

use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::BACK_CHANNEL_LIFETIME;
use crate::domain::outcome::Conclusion;
use crate::domain::route::Door;
use crate::flow::Dependencies;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use crate::flow::observe::links::provenance;
use std::time::Duration;

/// A link with what it leads to and how long it is kept, before it is shared.
type NewLink = (LinkKey, Provenance, Duration);

/// Lets what a browser will bring lead to what the client polls with: both are in one answer, or the answer to the
/// browser names the other.
pub(in crate::flow) fn join(exchange: &Exchange, conclusion: &Conclusion, links: &mut [NewLink]) {
    let people = &exchange.snapshot.people;
    let named = conclusion
        .approves
        .as_deref()
        .map(|id| link_key(people, LinkKind::BackChannel, id));
    let issued = links
        .iter()
        .map(|(key, ..)| *key)
        .find(|key| key.kind == LinkKind::BackChannel);
    for (key, link, _) in links {
        let polls = match key.kind {
            LinkKind::UserCode => issued,
            LinkKind::Transaction => named,
            _ => None,
        };
        if let Some(polls) = polls {
            link.approves.get_or_insert(polls.digest);
        }
    }
}

/// The browser has approved: from now on the poll is under the decision of this login. Of two approvals the stricter
/// counts, whichever came first.
pub(in crate::flow) fn approved(
    dependencies: &Dependencies,
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
) -> Option<NewLink> {
    let digest = assessed
        .approves
        .filter(|_| exchange.outcome == AuthOutcome::Approved)?;
    let key = LinkKey {
        kind: LinkKind::BackChannel,
        digest,
    };
    let mut link = provenance(exchange, assessed, door, key.kind);
    link.confirmed = true;
    if let Some(before) = dependencies.recent.find(&key, dependencies.clock.instant()) {
        link = link.stricter(&before);
    }
    Some((key, link, BACK_CHANNEL_LIFETIME))
}
