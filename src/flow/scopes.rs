//! Which scopes tokens are granted, and which are used: gathered on the node, summed up per client, and written now and
//! then. A request costs a look into a map; what was gathered since the last writing is lost with the process.

use crate::domain::access_token::Grant;
use crate::domain::history::Observation;
use crate::domain::history::ScopeUse;
use crate::domain::history::scopes::Bearers;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::Conclusion;
use crate::domain::route::Door;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::scope_use;
use crate::domain::scope_use::AskedAbout;
use crate::domain::scope_use::Presented;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::identify;
use crate::flow::token_action;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Clients of which something waits to be written; of further ones nothing is gathered until then.
const CLIENTS_MAX: usize = 4_096;

/// What was gathered and not written yet.
#[derive(Debug, Default)]
pub struct ScopeWatch(Mutex<HashMap<(SubjectKey, Bearers), ScopeUse>>);

/// Whose scopes: the client, by key and name, in its tenant.
#[derive(Clone, Copy, Debug)]
struct Whose<'a> {
    client: SubjectKey,
    client_id: &'a str,
    tenant: &'a str,
    bearers: Bearers,
}

impl<'a> Whose<'a> {
    fn of(people: &Pseudonymizer, tenant: &'a str, client_id: &'a str, bearers: Bearers) -> Self {
        Self {
            client: people.client(tenant, client_id),
            client_id,
            tenant,
            bearers,
        }
    }
}

impl ScopeWatch {
    /// What waits to be written of a client.
    pub fn waiting(&self, client: SubjectKey, bearers: Bearers) -> Option<ScopeUse> {
        let waiting = self.0.lock();
        waiting.get(&(client, bearers)).cloned()
    }

    fn note(&self, whose: Whose<'_>, at: Timestamp, add: impl FnOnce(&mut ScopeUse)) {
        let mut waiting = self.0.lock();
        let key = (whose.client, whose.bearers);
        if let Some(used) = waiting.get_mut(&key) {
            add(used);
            return;
        }
        let new = ScopeUse::new(
            whose.client,
            whose.client_id,
            whose.tenant,
            whose.bearers,
            at,
        );
        if let Some(mut used) = new.filter(|_| waiting.len() < CLIENTS_MAX) {
            add(&mut used);
            waiting.insert(key, used);
        }
    }

    fn take(&self) -> Vec<ScopeUse> {
        let mut waiting = self.0.lock();
        std::mem::take(&mut *waiting).into_values().collect()
    }
}

/// A token answer has named the scopes that it grants.
pub(in crate::flow) fn granted(
    dependencies: &Dependencies,
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
    conclusion: &Conclusion,
) {
    if door != Door::Token || conclusion.outcome != AuthOutcome::TokensIssued {
        return;
    }
    let link = assessed.provenance.as_deref();
    let known = assessed.signals.client_id.as_deref();
    let client_id = known.or_else(|| link.and_then(|link| link.application.as_deref()));
    let (Some(scope), Some(client_id)) = (&conclusion.scope, client_id) else {
        return;
    };
    let tenant = exchange.tenant();
    let bearers = Bearers::of_grant(assessed.facts.grant_type.as_deref().unwrap_or(""));
    let whose = Whose::of(&exchange.snapshot.people, tenant, client_id, bearers);
    let groups = token_action::groups(dependencies, exchange).and(conclusion.groups.clone());
    dependencies.scopes.note(whose, exchange.at, |used| {
        used.grant(scope.split_ascii_whitespace(), &groups, exchange.at);
    });
}

impl AuthFlow {
    /// WSO2 has answered a request on a route that is not scored; `headers` are those of the request. Whether the body must be
    /// shown to [`AuthFlow::answered_with`].
    pub fn passed(&self, exchange: &mut Exchange, status: u16, headers: &http::HeaderMap) -> bool {
        exchange.response_status = status;
        used(self.dependencies(), exchange, status, headers);
        let class = exchange.route.as_ref().map(|route| route.class);
        let is_asked = status == 200 && class == Some(RouteClass::Passed(PassedKind::Introspect));
        if is_asked {
            exchange.asker = identify::basic_client(headers);
        }
        is_asked
    }

    /// Sends what was gathered to the store. Called every few seconds, and at the end.
    pub fn write_scopes(&self) {
        let dependencies = self.dependencies();
        let scopes = dependencies.scopes.take();
        if scopes.is_empty() {
            return;
        }
        let observation = Observation {
            at: dependencies.clock.now(),
            scopes,
            ..Observation::default()
        };
        dependencies.observations.send(observation);
    }
}

/// An access token that was checked here has been let through to a service that asks for these scopes.
pub fn spent<'s>(
    dependencies: &Dependencies,
    people: &Pseudonymizer,
    tenant: &str,
    grant: &Grant,
    scopes: impl Iterator<Item = &'s str> + Clone,
) {
    let now = dependencies.clock.now();
    let bearers = if grant.subject == grant.client_id {
        Bearers::Itself
    } else {
        Bearers::Users
    };
    let whose = Whose::of(people, tenant, &grant.client_id, bearers);
    dependencies
        .scopes
        .note(whose, now, |used| used.take(scopes, &grant.groups, now));
}

/// WSO2 has told somebody of a token. Which of its scopes it is asked about for is known of APIs that policy names; any
/// other may have let it use each.
pub(in crate::flow) fn asked(dependencies: &Dependencies, exchange: &Exchange, body: &[u8]) {
    let Some(token) = AskedAbout::read(body) else {
        return;
    };
    let people = &exchange.snapshot.people;
    let whose = Whose::of(people, exchange.tenant(), &token.client_id, token.bearers);
    let policy = exchange.snapshot.policy.tokens();
    let needed = exchange
        .asker
        .as_deref()
        .and_then(|asker| policy.introspector(asker));
    let groups = exchange.asked.as_ref().map(|asked| asked.groups.clone());
    let groups = groups.unwrap_or_default();
    let scopes = token.scope.split_ascii_whitespace();
    dependencies
        .scopes
        .note(whose, exchange.at, |used| match needed {
            Some(needed) => {
                let scopes = scopes.filter(|scope| needed.needs(scope));
                used.take(scopes, &groups, exchange.at);
            }
            None => used.ask(scopes, exchange.at),
        });
}

/// Counts what a request has used whose access token WSO2 has accepted.
fn used(dependencies: &Dependencies, exchange: &Exchange, status: u16, headers: &http::HeaderMap) {
    let Some(RouteClass::Passed(kind)) = exchange.route.as_ref().map(|route| route.class) else {
        return;
    };
    if !(200..300).contains(&status) {
        return;
    }
    let path = exchange.target.as_ref().map_or("", CanonicalTarget::path);
    let api = scope_use::of_api(exchange.method, path);
    let needed = match (kind, &api) {
        (PassedKind::UserInfo, _) => scope_use::of_userinfo(),
        (_, Some(scope)) => std::slice::from_ref(scope),
        _ => return,
    };
    let Some(token) = identify::bearer_token(headers).and_then(Presented::read) else {
        return;
    };
    let people = &exchange.snapshot.people;
    let whose = Whose::of(people, exchange.tenant(), &token.client_id, token.bearers);
    let scopes = token.scope.split_ascii_whitespace();
    let scopes = scopes.filter(|scope| needed.contains(scope));
    dependencies.scopes.note(whose, exchange.at, |used| {
        used.take(scopes, &token.groups, exchange.at);
    });
}
