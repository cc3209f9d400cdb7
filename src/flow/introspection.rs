//! Introspection answers with the risk in them (RFC 7662 section 2.2 lets an answer have further members): about which token
//! is asked is read from the request, what is known of it looked up, and added to an answer that says that it is active.
//! Only `advise` and `enforce` tell anybody of the risk. An answer is never held back for it.

use crate::domain::history::HistoryQuery;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::history::scopes::Groups;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::introspection;
use crate::domain::outcome::access_token_key;
use crate::domain::policy::decision::Mode;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::scope_use;
use crate::domain::signals::network::host_hash;
use crate::domain::time::Deadline;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::assess;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use std::sync::Arc;

/// What is known of the token about which a request asks.
#[derive(Clone, Debug, Default)]
pub struct AskedAbout {
    /// The decision under which it was issued, if it was issued through the gateway.
    pub link: Option<Arc<Provenance>>,
    /// The groups of its user that it names itself, to be believed once WSO2 says that it is active.
    pub groups: Groups,
}

/// Whether the answer to a request may tell of the risk: the request is read for it.
pub fn is_possible(exchange: &Exchange) -> bool {
    let class = exchange.route.as_ref().map(|route| route.class);
    class == Some(RouteClass::Passed(PassedKind::Introspect))
        && exchange.method == "POST"
        && matches!(
            exchange.snapshot.rollout.strongest(),
            Mode::Advise | Mode::Enforce
        )
}

impl AuthFlow {
    /// Looks up what is known of the token in the form of an introspection request.
    pub async fn asked(&self, exchange: &mut Exchange, form: &[u8]) {
        if !is_possible(exchange) {
            return;
        }
        let dependencies = self.dependencies();
        let Some(token) = introspection::asked(form) else {
            return;
        };
        let people = &exchange.snapshot.people;
        let names = |people: &Pseudonymizer| {
            [
                link_key(people, LinkKind::AccessToken, &access_token_key(&token)),
                link_key(people, LinkKind::RefreshToken, &token),
            ]
        };
        let both = [Some(people), people.previous()];
        let links: Vec<_> = both.into_iter().flatten().flat_map(names).collect();
        let recent = links
            .iter()
            .find_map(|link| dependencies.recent.find(link, dependencies.clock.instant()));
        let link = match recent {
            Some(link) => Some(link),
            None => {
                let deadline =
                    Deadline::after(dependencies.clock.instant(), exchange.snapshot.budget);
                let query = HistoryQuery::of_links(links.clone(), Vec::new(), exchange.at);
                let (history, _) = assess::load(dependencies, exchange, &query, deadline).await;
                history.and_then(|mut history| {
                    let mut found = links.iter().filter_map(|link| history.links.remove(link));
                    found.next().map(Arc::new)
                })
            }
        };
        exchange.asked = Some(AskedAbout {
            link,
            groups: scope_use::groups_of(&token),
        });
    }
}

/// The answer with the risk in it; `None` where it stays as it is.
pub(in crate::flow) fn answered(
    dependencies: &Dependencies,
    exchange: &Exchange,
    body: &[u8],
) -> Option<String> {
    let asked = exchange.asked.as_ref()?;
    let client_id = introspection::active_client(body)?;
    let snapshot = &exchange.snapshot;
    let tenant = exchange.tenant();
    let tenant_hash = snapshot.people.value(NameSpace::Tenant, tenant.as_bytes());
    let client = snapshot.people.client(tenant, &client_id);
    // What is kept under the name of another client's token says nothing about this one.
    let link = asked.link.as_deref().filter(|link| {
        link.tenant == tenant_hash && link.client.is_none_or(|known| known == client)
    });
    let stable = link.and_then(|link| link.subject).map_or_else(
        || host_hash(&snapshot.people, exchange.client.address),
        |subject| subject.0.value_hash(),
    );
    let share = snapshot.rollout.share(tenant, &client_id);
    let mode = dependencies.rollout.mode_of(share, stable);
    if !RiskClaims::are_told(mode) {
        return None;
    }
    let thresholds = snapshot.policy.thresholds(tenant, &client_id);
    let risk = link.map_or(RiskClaims::Unscored, |link| {
        RiskClaims::of_link(link, thresholds)
    });
    introspection::with_risk(body, &risk)
}
