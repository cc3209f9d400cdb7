//! The names that a request would have had under the previous secret, while the secret is being exchanged: so that its
//! history is found in the same round trip and goes on under the present names.

use crate::domain::demand::DemandKey;
use crate::domain::history::HistoryQuery;
use crate::domain::history::Previous;
use crate::domain::history::Renamed;
use crate::domain::history::Renaming;
use crate::domain::ids::Pseudonymizer;
use crate::domain::route::Door;
use crate::domain::signals::SignalHashes;
use crate::domain::signals::Signals;
use crate::domain::signals::session::DeviceCookie;
use crate::flow::assess::Request;
use crate::flow::demands::Places;
use crate::flow::identify::Domains;
use crate::flow::identify::Identity;
use crate::flow::identify::identify;

/// A request under its previous names.
#[derive(Debug)]
pub struct Before {
    identity: Identity,
    hashes: SignalHashes,
    demands: Vec<DemandKey>,
    renaming: Renaming,
}

impl Before {
    /// The same request under the names that `people` makes.
    pub fn of(
        people: &Pseudonymizer,
        door: Door,
        domains: Domains<'_>,
        request: Request<'_>,
        identity: &Identity,
        signals: &Signals,
        places: &Places,
    ) -> Self {
        let before = identify(
            door,
            domains,
            request.parameters,
            request.headers,
            identity.client_id.as_deref(),
            people,
        );
        let hashes = SignalHashes::of(
            people,
            domains.tenant,
            signals.address,
            &signals.network,
            &signals.agent,
            signals.tls.as_ref(),
            &signals.device,
        );
        let mut renaming = Renaming::between(&hashes.familiarity, &signals.hashes.familiarity)
            .with_value(hashes.tenant, signals.hashes.tenant);
        for (from, to) in before.facts.scopes.iter().zip(&identity.facts.scopes) {
            renaming = renaming.with_value(*from, *to);
        }
        for (from, to) in [
            (before.client, identity.client),
            (before.subject.key(), identity.subject.key()),
        ] {
            if let (Some(from), Some(to)) = (from, to) {
                renaming = renaming.with_subject(from, to);
            }
        }
        let demands = places.asked(people, door, domains.tenant, &before, hashes.address);
        Self {
            identity: before,
            hashes,
            demands,
            renaming,
        }
    }

    /// Lets a device cookie of before speak for the subject of now.
    pub fn rename_device(&self, signals: &mut Signals) {
        let (Some(from), Some(to)) = (self.identity.subject.key(), signals.subject.key()) else {
            return;
        };
        if let DeviceCookie::Valid(token) = &mut signals.device {
            for subject in &mut token.subjects {
                if subject.0.value_hash() == from.0.value_hash() {
                    *subject = to;
                }
            }
        }
    }

    /// What to ask as well.
    pub fn previous(&self, query: &HistoryQuery) -> Previous {
        Previous {
            query: Box::new(HistoryQuery {
                now: query.now,
                subject: self.identity.subject.key(),
                address: self.hashes.address,
                prefix: self.hashes.prefix,
                asn: self.hashes.familiarity.asn,
                agent: self.hashes.agent_tls,
                tenant: self.hashes.tenant,
                client: query.client.and(self.identity.client),
                scopes: None,
                links: self
                    .identity
                    .presented
                    .into_iter()
                    .chain(self.identity.session)
                    .collect(),
                demands: self.demands.clone(),
                previous: None,
            }),
            renaming: self.renaming.clone(),
        }
    }

    /// Where what is learnt about the subject was kept.
    pub fn renamed(self) -> Option<Renamed> {
        Some(Renamed {
            subject: self.identity.subject.key()?,
            renaming: self.renaming,
        })
    }
}
