//! Demands on the path of a request: where they are kept, which of them bind it, what raises them and what meets them.
//! What this node has just written is known here before the store has it, and stands in while the store is away.

/// By what they are found.
mod places;

/// What this node has just written.
mod recent;

use crate::domain::demand::Bearer;
use crate::domain::demand::CHALLENGE_WINDOW;
use crate::domain::demand::Demand;
use crate::domain::demand::DemandChange;
use crate::domain::demand::DemandKey;
use crate::domain::demand::DemandScope;
use crate::domain::demand::KEYS_MAX;
use crate::domain::demand::Proved;
use crate::domain::demand::Raise;
use crate::domain::demand::sealed::BrowserDemands;
use crate::domain::demand::sealed::DEMAND_COOKIE;
use crate::domain::demand::sealed::DemandCopy;
use crate::domain::demand::sealed::NONCE_BYTES;
use crate::domain::enforcement::Enforcement;
use crate::domain::enforcement::RejectionKind;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::History;
use crate::domain::history::Observation;
use crate::domain::history::Provenance;
use crate::domain::ids::SubjectKey;
use crate::domain::outcome::AuthOutcome;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Matched;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::RiskLevel;
use crate::domain::route::Door;
use crate::domain::signals::Signals;
use crate::domain::signals::Subject;
use crate::domain::signals::session::DeviceCookie;
use crate::domain::time::Timestamp;
use crate::flow::Dependencies;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;

pub use places::Places;
pub use recent::RecentDemands;
pub use recent::UnderWay;

use places::Reach;
use places::both;
use places::reach;
use places::source_key;

/// What is owed by whoever makes a request.
#[derive(Clone, Debug, Default)]
pub struct Owed {
    /// By what it is found.
    pub places: Places,
    /// What is outstanding, and where it was found.
    pub outstanding: Vec<(DemandScope, Demand)>,
    /// What of it binds this request.
    pub binding: Vec<DemandScope>,
    /// The record of the user who is named, met or not.
    pub user: Option<Demand>,
    /// Whether the browser's own copy is met.
    pub copy_is_met: bool,
    /// How often this browser was sent round lately.
    pub sent: u8,
}

/// What is owed, from the store, this node and the browser's own copy: the strictest of them.
pub fn owed(
    dependencies: &Dependencies,
    places: Places,
    keys: &[DemandKey],
    history: Option<&History>,
    signals: &Signals,
    session: Option<&Provenance>,
    now: Timestamp,
) -> Owed {
    let mut owed = Owed::default();
    let copy = places
        .sealed
        .as_ref()
        .and_then(|state| state.find(signals.hashes.tenant, signals.client));
    let sent = copy.map_or(0, |copy| copy.sent_at(now));
    let mut copied = copy.map(|copy| copy.demand);
    for key in keys {
        let mut demand = known(dependencies, history, key, now);
        // The first key is that of the demand cookie, if there is one.
        if let Some(copy) = copied.take() {
            let merged = demand.map_or(copy, |demand| demand.merged(&copy));
            owed.copy_is_met = !merged.is_outstanding(now);
            demand = Some(merged);
        }
        let Some(demand) = demand else { continue };
        if key.scope == DemandScope::User {
            owed.user = Some(demand);
        }
        if demand.is_outstanding(now) {
            owed.outstanding.push((key.scope, demand));
        }
    }
    // Whose session it is was not known when the store was asked; this node may know.
    if let Some(subject) = session.and_then(|session| session.subject)
        && owed.user.is_none()
        && let Some(demand) = dependencies.demands.find(&DemandKey::user(subject), now)
        && demand.is_outstanding(now)
    {
        owed.outstanding.push((DemandScope::User, demand));
    }
    owed.places = places;
    owed.sent = sent;
    owed
}

/// What is known under `key`, by the store and by this node.
pub fn known(
    dependencies: &Dependencies,
    history: Option<&History>,
    key: &DemandKey,
    now: Timestamp,
) -> Option<Demand> {
    let stored = history
        .and_then(|history| history.demands.get(key))
        .copied();
    match (stored, dependencies.demands.find(key, now)) {
        (Some(stored), Some(recent)) => Some(stored.merged(&recent)),
        (stored, recent) => stored.or(recent),
    }
}

/// Which of what is outstanding binds this request, given its level.
pub fn binding(assessed: &Assessed, door: Door, level: Option<RiskLevel>) -> Vec<DemandScope> {
    if assessed.owed.outstanding.is_empty() || assessed.continues {
        return Vec::new();
    }
    let session = assessed.session.as_deref().and_then(|link| link.subject);
    let named = assessed.signals.subject.key();
    let bearer = Bearer {
        subject: named.filter(|_| !assessed.is_hint).or(session),
        at_home: level == Some(RiskLevel::Low) && is_at_home(assessed, door, session),
        shared: matches!(door, Door::Token | Door::Basic) && assessed.address_is_shared,
    };
    let outstanding = assessed.owed.outstanding.iter();
    outstanding
        .filter(|(scope, demand)| bearer.is_bound_by(*scope, demand))
        .map(|(scope, _)| *scope)
        .collect()
}

/// Whether the device cookie speaks for the user. Where nobody is named yet, the login door will ask again.
fn is_at_home(assessed: &Assessed, door: Door, session: Option<SubjectKey>) -> bool {
    let unnamed = || match (&assessed.signals.device, session) {
        (DeviceCookie::Valid(token), Some(subject)) => token.names(subject),
        (DeviceCookie::Valid(token), None) => !token.subjects.is_empty(),
        _ => false,
    };
    let names_nobody = assessed.is_hint || assessed.signals.subject.key().is_none();
    assessed.device == DeviceStanding::Known || (door != Door::Token && names_nobody && unnamed())
}

/// The keys that a proof of this login meets: of its browser and, if something was demanded, of its source.
pub fn keys_of_login(exchange: &Exchange, assessed: &Assessed, demanded: bool) -> Vec<DemandKey> {
    let people = &exchange.snapshot.people;
    let before = assessed.provenance.as_deref();
    let mut keys = before.map_or(Vec::new(), |link| link.demand_keys.clone());
    let is_front = exchange
        .door
        .is_some_and(|door| door != Door::Token && reach(door, None) == Reach::Person);
    if is_front {
        let client = assessed
            .signals
            .client
            .or_else(|| before.and_then(|link| link.client));
        let tenant = exchange.tenant();
        keys.extend(assessed.owed.places.of_browser(people, tenant, client));
        if demanded {
            keys.extend(
                both(client).map(|client| {
                    source_key(people, assessed.signals.hashes.address, tenant, client)
                }),
            );
        }
    }
    let mut seen = Vec::with_capacity(keys.len());
    for key in keys {
        if !seen.contains(&key) && seen.len() < KEYS_MAX {
            seen.push(key);
        }
    }
    seen
}

/// Remembers what a decision demands, and gives the browser its copy.
pub fn raise(dependencies: &Dependencies, exchange: &mut Exchange, door: Door) {
    let (Some(assessed), Some(decided)) = (&exchange.assessed, &exchange.decided) else {
        return;
    };
    if decided.mode != Mode::Enforce || assessed.limited.is_some() || assessed.continues {
        return;
    }
    let grant = assessed.facts.grant_type.as_deref();
    let unproven = decided.shown.as_ref().filter(|_| !exchange.accepted);
    let (demanded, bound) = match unproven {
        // As for a name that nobody has; the history's word is raised once the password was accepted.
        Some(shown) if shown.refused && shown.own_demand => (true, false),
        Some(_) => return,
        None => (decided.own_demand, !assessed.owed.binding.is_empty()),
    };
    if !demanded && !bound {
        forget_met_copy(dependencies, exchange);
        return;
    }
    let score = unproven.and(assessed.shown.as_ref());
    let score = score.unwrap_or(&assessed.assessment).score();
    let settings = &exchange.snapshot.step_up;
    let ends = |scope| exchange.at.plus(settings.window(scope));
    let raise_of = |scope| Raise {
        at: assessed.demanded_since.unwrap_or(exchange.at),
        until: ends(scope),
        points: score.map_or(0, |score| score.points()),
        about: assessed.subject(),
    };
    let provenance = assessed.provenance.as_deref();
    let mut changes: Vec<(DemandKey, DemandChange)> = Vec::new();
    let raised = |key: DemandKey| (key, DemandChange::Raised(raise_of(key.scope)));
    match reach(door, grant) {
        Reach::Person => {
            // What binds is not prolonged by binding.
            if demanded {
                let keys = keys_of_login(exchange, assessed, true);
                changes.extend(keys.into_iter().map(raised));
            }
            if let Subject::Named { key, .. } = &assessed.signals.subject
                && assessed.profile.is_some()
            {
                for name in names(assessed, *key) {
                    let raise = Raise {
                        about: Some(name),
                        ..raise_of(DemandScope::User)
                    };
                    let raised = (DemandKey::user(name), DemandChange::Raised(raise));
                    changes.extend(demanded.then_some(raised));
                    changes.extend(joined(assessed, name).filter(|_| !demanded));
                }
            }
        }
        Reach::Family | Reach::None if door == Door::Token && demanded => {
            let keys = provenance.map_or(&[][..], |link| &link.demand_keys);
            let failed = grant == Some("authorization_code");
            let changed = |key: DemandKey| match failed {
                true => (key, DemandChange::ProofFailed(raise_of(key.scope))),
                false => raised(key),
            };
            changes.extend(keys.iter().copied().map(changed));
            let user = provenance
                .and_then(|link| link.subject)
                .map(DemandKey::user);
            changes.extend(user.map(changed));
            changes.extend(assessed.family.map(raised));
        }
        Reach::Family | Reach::None => {}
    }
    let copied = raise_of(DemandScope::Browser);
    let keeps_cookies = door != Door::Token && door != Door::Basic && exchange.client.secure;
    for (key, change) in &changes {
        dependencies.demands.apply(*key, change, exchange.at);
    }
    if demanded {
        dependencies.metrics.demand("raised");
    }
    if bound {
        dependencies.metrics.demand("outstanding");
    }
    if let Enforcement::Reject(rejection) = &decided.enforcement
        && rejection.kind == RejectionKind::StepUpLooped
    {
        dependencies.metrics.demand("looped");
    }
    send(dependencies, exchange.at, changes);
    if !keeps_cookies {
        return;
    }
    if let Some(assessed) = &mut exchange.assessed
        && assessed.owed.places.browsers.is_empty()
    {
        // The store learns of a new browser once it comes back with its cookie, or proves the factor.
        let mut id = [0; 16];
        dependencies.entropy.fill(&mut id);
        assessed.owed.places.browsers.push(id);
    }
    if let Some(assessed) = &exchange.assessed
        && let Some(state) = copy(exchange, assessed, &copied, demanded)
    {
        exchange.demand_cookie = cookie(dependencies, exchange, &state);
    }
}

/// The name of a login, and the others of the same account: what is demanded under one of them is demanded under all.
fn names(assessed: &Assessed, name: SubjectKey) -> impl Iterator<Item = SubjectKey> + '_ {
    let profile = assessed.profile.iter();
    std::iter::once(name).chain(profile.flat_map(move |profile| profile.names.beside(name)))
}

/// A demand that was raised before anybody was named is joined to the user who is named now.
fn joined(assessed: &Assessed, subject: SubjectKey) -> Option<(DemandKey, DemandChange)> {
    let binding = &assessed.owed.binding;
    if binding.contains(&DemandScope::User) {
        return None;
    }
    let bound = assessed.owed.outstanding.iter();
    let demands = bound.filter(|(scope, _)| binding.contains(scope));
    let strictest = demands
        .map(|(_, demand)| demand)
        .max_by_key(|demand| demand.until)?;
    let raise = Raise {
        at: strictest.at,
        until: strictest.until,
        points: strictest.points,
        about: Some(subject),
    };
    Some((DemandKey::user(subject), DemandChange::Raised(raise)))
}

/// What the browser keeps from now on.
fn copy(
    exchange: &Exchange,
    assessed: &Assessed,
    raise: &Raise,
    demanded: bool,
) -> Option<BrowserDemands> {
    let places = &assessed.owed.places;
    let id = places.browsers.first().copied()?;
    let mut state = places
        .sealed
        .clone()
        .unwrap_or_else(|| BrowserDemands::new(id));
    let tenant = assessed.signals.hashes.tenant;
    let known = state.find(tenant, assessed.signals.client).cloned();
    let sends = matches!(
        exchange
            .decided
            .as_ref()
            .map(|decided| &decided.enforcement),
        Some(Enforcement::Redirect(_) | Enforcement::Rewrite(..))
    );
    if !demanded && !sends {
        return None;
    }
    let before = known.as_ref().map(|copy| copy.demand);
    let bound = || {
        let outstanding = assessed.owed.outstanding.iter();
        let longest = outstanding.max_by_key(|(_, demand)| demand.until);
        longest.map(|(_, demand)| *demand)
    };
    let demand = match demanded {
        true => DemandChange::Raised(*raise).apply(before),
        false => before.or_else(bound)?,
    };
    let sent = known.as_ref().map_or(0, |copy| copy.sent_at(exchange.at));
    let since = known.as_ref().map_or(exchange.at, |copy| copy.sent_since);
    state.put(DemandCopy {
        tenant,
        client: assessed
            .signals
            .client
            .or_else(|| known.as_ref().and_then(|copy| copy.client)),
        demand,
        sent: sent.saturating_add(u8::from(sends)),
        sent_since: if sent == 0 { exchange.at } else { since },
    });
    Some(state)
}

fn forget_met_copy(dependencies: &Dependencies, exchange: &mut Exchange) {
    let Some(assessed) = exchange.assessed.as_ref() else {
        return;
    };
    let signals = &assessed.signals;
    if let Some(mut state) = assessed.owed.places.sealed.clone()
        && assessed.owed.copy_is_met
        && let Some(copy) = state.find(signals.hashes.tenant, signals.client).cloned()
    {
        state.copies.retain(|known| *known != copy);
        exchange.demand_cookie = cookie(dependencies, exchange, &state);
    }
}

/// The Set-Cookie value for `state`; one without demands takes the cookie away.
fn cookie(
    dependencies: &Dependencies,
    exchange: &Exchange,
    state: &BrowserDemands,
) -> Option<String> {
    let seconds = state.until().since(exchange.at).as_secs();
    let value = if state.copies.is_empty() {
        String::new()
    } else {
        let mut nonce = [0; NONCE_BYTES];
        dependencies.entropy.fill(&mut nonce);
        exchange.snapshot.demand_key.seal(state, nonce)?
    };
    let age = if value.is_empty() { 0 } else { seconds };
    Some(format!(
        "{DEMAND_COOKIE}={value}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Lax"
    ))
}

/// Whether a decision is a demand of its own: what policy says of this request, not what an earlier one left behind.
pub fn is_own_demand(decision: &Decision) -> bool {
    match decision.verdict {
        Verdict::Allow => false,
        Verdict::StepUp => true,
        // Whoever was refused for the score alone owes a factor when the score is lower next time.
        Verdict::Review | Verdict::Block => matches!(decision.matched, Matched::Default(_)),
    }
}

/// A user was asked for a factor too often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exhausted {
    /// Seconds until they may be asked again.
    pub seconds: u64,
    /// Whether that many challenges were given already; else some of them are only under way.
    pub were_given: bool,
}

/// Whether a user may be asked for a factor once more; and the place that the challenge takes until it is known whether
/// it was given. A device that is known to be the user's is always asked.
pub fn challenge(
    dependencies: &Dependencies,
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
) -> (Option<Exhausted>, Option<UnderWay>) {
    let facts = &assessed.facts;
    let asks = matches!(door, Door::Login | Door::Authn | Door::Flow)
        && facts.credentials
        && !facts.second_factor
        && assessed.device != DeviceStanding::Known;
    let Subject::Named { key, .. } = &assessed.signals.subject else {
        return (None, None);
    };
    if !asks {
        return (None, None);
    }
    let (others, place) = dependencies.demands.begin(DemandKey::user(*key));
    let user = assessed.owed.user;
    let given = user.map_or(0, |demand| demand.challenges_at(exchange.at));
    let most = u32::from(exchange.snapshot.step_up.challenges_max);
    if u32::from(given).saturating_add(others) < most {
        return (None, Some(place));
    }
    let since = user.map_or(exchange.at, |demand| demand.counted_since);
    let passed = exchange.at.since(since);
    let exhausted = Exhausted {
        seconds: CHALLENGE_WINDOW.saturating_sub(passed).as_secs().max(1),
        were_given: u32::from(given) >= most,
    };
    dependencies.metrics.demand("exhausted");
    (Some(exhausted), None)
}

/// A person was asked for the factor: the password was right. Whoever was named is real then.
pub fn challenged(dependencies: &Dependencies, exchange: &Exchange) {
    let (Some(assessed), Some(decided)) = (&exchange.assessed, &exchange.decided) else {
        return;
    };
    let asks = decided.mode == Mode::Enforce
        && decided.decision.verdict >= Verdict::StepUp
        && exchange.outcome == AuthOutcome::NextFactor
        && assessed.facts.credentials
        && !assessed.facts.second_factor;
    let Subject::Named { key, .. } = &assessed.signals.subject else {
        return;
    };
    if !asks || assessed.device == DeviceStanding::Known {
        return;
    }
    let score = assessed.assessment.score();
    let points = score.map_or(0, |score| score.points());
    dependencies.metrics.demand("challenged");
    for name in names(assessed, *key) {
        let raise = raise_of_user(exchange, name, points);
        change(
            dependencies,
            exchange.at,
            &[DemandKey::user(name)],
            &DemandChange::Challenged(raise),
        );
    }
}

/// Each of these names owes a factor from now on.
pub fn raise_for(
    dependencies: &Dependencies,
    exchange: &Exchange,
    names: impl Iterator<Item = SubjectKey>,
) {
    for name in names {
        let raise = DemandChange::Raised(raise_of_user(exchange, name, 0));
        change(dependencies, exchange.at, &[DemandKey::user(name)], &raise);
    }
}

fn raise_of_user(exchange: &Exchange, name: SubjectKey, points: u8) -> Raise {
    let window = exchange.snapshot.step_up.window(DemandScope::User);
    Raise {
        at: exchange.at,
        until: exchange.at.plus(window),
        points,
        about: Some(name),
    }
}

/// A proof has come for a login whose demands are kept under `keys`: they and the user's own are met. Where nobody was named,
/// as in a login by way of another identity provider, no user's are: whom the proof calls so need not be who is called so here.
pub fn proved(
    dependencies: &Dependencies,
    exchange: &Exchange,
    keys: &[DemandKey],
    user: Option<SubjectKey>,
    proof: Proved,
) {
    dependencies.metrics.demand("proved");
    let settings = &exchange.snapshot.step_up;
    for key in keys.iter().copied().chain(user.map(DemandKey::user)) {
        let until = exchange.at.plus(settings.window(key.scope));
        let proof = DemandChange::Proved(proof, until);
        change(dependencies, exchange.at, &[key], &proof);
    }
}

/// A login whose demands are kept under `keys` went to its end without a proof.
pub fn proof_failed(
    dependencies: &Dependencies,
    exchange: &Exchange,
    keys: &[DemandKey],
    subject: Option<SubjectKey>,
) {
    dependencies.metrics.demand("proof_failed");
    let settings = &exchange.snapshot.step_up;
    for key in keys.iter().copied().chain(subject.map(DemandKey::user)) {
        let raise = Raise {
            at: exchange.at,
            until: exchange.at.plus(settings.window(key.scope)),
            points: 0,
            about: subject,
        };
        change(
            dependencies,
            exchange.at,
            &[key],
            &DemandChange::ProofFailed(raise),
        );
    }
}

fn change(dependencies: &Dependencies, at: Timestamp, keys: &[DemandKey], change: &DemandChange) {
    for key in keys {
        dependencies.demands.apply(*key, change, at);
    }
    send(
        dependencies,
        at,
        keys.iter().map(|key| (*key, *change)).collect(),
    );
}

/// To the store, at once: an exchange may take long to end.
fn send(dependencies: &Dependencies, at: Timestamp, demands: Vec<(DemandKey, DemandChange)>) {
    if demands.is_empty() {
        return;
    }
    let observation = Observation {
        at,
        demands,
        ..Observation::default()
    };
    dependencies.observations.send(observation);
}
