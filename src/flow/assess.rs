//! Signals, history, features, score: from one request to one [`Assessed`], within the budget and without fail.

use crate::domain::demand::DemandKey;
use crate::domain::demand::DemandScope;
use crate::domain::demand::SKEW;
use crate::domain::demand::sealed::browser_demands;
use crate::domain::enforcement::StepUpSettings;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::ValueHash;
use crate::domain::outcome::HandsOver;
use crate::domain::parameters::Parameters;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::FallbackCause;
use crate::domain::route::Door;
use crate::domain::signals::SignalHashes;
use crate::domain::signals::Signals;
use crate::domain::signals::Subject;
use crate::domain::signals::agent::TlsFingerprint;
use crate::domain::signals::http_fingerprint;
use crate::domain::signals::session::device_cookie;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Deadline;
use crate::domain::time::Timestamp;
use crate::domain::trace::Stage;
use crate::flow::Dependencies;
use crate::flow::actions;
use crate::flow::demands;
use crate::flow::demands::Owed;
use crate::flow::demands::Places;
use crate::flow::error::Refusal;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::identify::Identity;
use crate::flow::identify::identify;
use crate::flow::limits::Limited;
use crate::flow::ports::StateError;
use crate::flow::rollout::mode_of;
use crate::flow::rollout::splits;
use crate::flow::rotation::Before;
use crate::flow::saml;
use crate::flow::score::rating::Rating;
use crate::flow::tracing::of_signals;
use crate::flow::tracing::of_state;
use crate::flow::unproven;
use crate::flow::unproven::Naming;
use std::sync::Arc;
use std::time::Duration;

/// An address at which this many users are at home may be an app server.
const SHARED_SUBJECTS: f32 = 5.0;

/// What the edge hands over of a request on a scored door.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The HTTP version.
    pub version: http::Version,
    /// The header fields as they came.
    pub headers: &'a http::HeaderMap,
    /// The parameters, read once; `None` at the Basic door, whose body is not read.
    pub parameters: Option<&'a Parameters>,
    /// The handshake, where TLS ends here.
    pub tls: Option<&'a TlsFingerprint>,
}

/// What stands behind what a request presents.
struct Behind {
    /// The decision behind the code, token or login in progress; none where it says nothing about who is in front of this
    /// browser.
    provenance: Option<Arc<Provenance>>,
    /// The session.
    session: Option<Arc<Provenance>>,
    /// The latest decision within the login in progress, as our own step has left it.
    own_step: Option<Arc<Provenance>>,
    /// What a client polls with that this login approves.
    approves: Option<Pseudonym>,
    /// Whether a stronger factor was demanded of who began what is approved.
    approval_demanded: bool,
    /// Reasons that come from this.
    notes: Vec<Reason>,
}

/// Assesses the request of `exchange` at `door`: what it shows, what was known before, and the score. Where the mode turns out
/// to be off, only this is noted.
///
/// # Errors
/// A SAML message that cannot be read; something presented that belongs to somebody else.
pub async fn assess(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    request: Request<'_>,
) -> Result<(), Refusal> {
    let snapshot = Arc::clone(&exchange.snapshot);
    let begin = exchange.begins(dependencies.clock.as_ref());
    let domains = exchange.domains();
    let tenant = domains.tenant;
    let message = saml::message(exchange, door, request.parameters)?;
    let mut identity = identify(
        door,
        domains,
        request.parameters,
        request.headers,
        message.application.as_deref(),
        &snapshot.people,
    );
    identity.facts.saml = message.request;
    identity.facts.hands_over = hands_over(exchange, door);
    let mut signals = signals(dependencies, exchange, door, tenant, &mut identity, request);
    // At the token door a cookie says nothing about what is presented.
    let sealed = browser_demands(request.headers, &snapshot.demand_key, exchange.at)
        .filter(|_| door != Door::Token);
    let places = Places::of(sealed, &signals);
    let address = signals.hashes.address;
    let mut demand_keys = places.asked(&snapshot.people, door, tenant, &identity, address);
    let before = snapshot
        .people
        .previous()
        .map(|people| Before::of(people, door, domains, request, &identity, &signals, &places));
    if let Some(before) = &before {
        before.rename_device(&mut signals);
    }

    let unsettled = is_unsettled(exchange, &identity, &signals);
    if !unsettled && mode_of(exchange, &signals, None) == Mode::Off {
        exchange.off = true;
        return Ok(());
    }
    let deadline = Deadline::after(dependencies.clock.instant(), snapshot.budget);
    let limited = limited(dependencies, &signals);
    exchange.ends(Stage::Signals, begin, dependencies.clock.as_ref(), |_| {
        of_signals(&signals, limited)
    });
    let own_step_key = identity
        .presented
        .and_then(actions::of_flow)
        .filter(|_| door == Door::Login && snapshot.answers_wso2);
    let (mut history, mut degraded) = if limited.is_some() {
        // A source over its limit is not worth a look into the history: whoever floods gets the cheap answer.
        (None, Some(FallbackCause::Overload))
    } else {
        let mut query = query(exchange, &signals, &identity, &demand_keys, before.as_ref());
        query.links.extend(own_step_key);
        load(dependencies, exchange, &query, deadline).await
    };

    let read = (history.as_mut(), degraded);
    let behind = behind(
        dependencies,
        read,
        own_step_key,
        &mut identity,
        &mut signals,
    )?;
    let provenance = behind.provenance.as_deref();
    let session = behind.session.as_deref();
    if unsettled && mode_of(exchange, &signals, provenance.or(session)) == Mode::Off {
        exchange.off = true;
        return Ok(());
    }
    let continues = provenance.is_some_and(|link| continues(door, &identity, link, &signals));
    let mut is_mere_name = unproven::is_of_link(door, &signals, session);
    if !(continues || identity.facts.from_provider)
        && limited.is_none()
        && let Some(key) = unproven::begun_for(door, &signals, provenance)
    {
        // Whose history it is shows only now.
        let name = String::new();
        signals.subject = Subject::Named { key, name };
        is_mere_name = provenance.is_some_and(Provenance::is_hinted);
        demand_keys.push(DemandKey::user(key));
        let mut query = query(exchange, &signals, &identity, &demand_keys, before.as_ref());
        query.links.extend(own_step_key);
        (history, degraded) = load(dependencies, exchange, &query, deadline).await;
    }
    let mut owed = demands::owed(
        dependencies,
        places,
        &demand_keys,
        history.as_ref(),
        &signals,
        session,
        exchange.at,
    );
    let demanded_since = session
        .filter(|link| is_proved(link, &snapshot.step_up, &owed, &signals, exchange.at))
        .map(|link| link.at);
    // The rest of the history is about its counters alone.
    let profile = history.as_mut().and_then(|history| history.profile.take());
    // That of the client says nothing of a token that came through here: whose it is, its link says.
    let is_known_token = identity.presents(LinkKind::AccessToken) && provenance.is_some();
    let mut profile = profile.filter(|_| !is_known_token);
    let device = DeviceStanding::of(&signals, profile.as_ref());
    let naming = unproven::naming(door, &identity.facts, &signals, device, session);
    if naming == Naming::Hint {
        // What is known of a name is no business of whoever writes it into a link.
        profile = None;
        owed.outstanding
            .retain(|(scope, _)| *scope != DemandScope::User);
        owed.user = None;
    }
    let stand_in = profile
        .is_none()
        .then(|| stand_in(door, naming, &signals, &behind))
        .flatten();
    let compared = profile.as_ref().or(stand_in.as_ref());

    let inherited = provenance.filter(|link| {
        let is_approved = identity.presents(LinkKind::BackChannel) && link.confirmed;
        continues || is_approved || identity.presents(LinkKind::Code)
    });
    let rated = Rating {
        models: &snapshot.models,
        door,
        grant: identity.facts.grant_type.as_deref(),
        signals: &signals,
        history: history.as_ref(),
        profile: compared,
        link: provenance,
        inherited,
        naming,
        degraded,
        deadline,
    };
    let rated = rated.rate(dependencies, exchange).await;

    let is_family =
        door == Door::Token && (identity.presents(LinkKind::RefreshToken) || is_known_token);
    let family = demand_keys.first().copied().filter(|_| is_family);
    exchange.assessed = Some(Assessed {
        signals,
        presented: identity.presented,
        facts: identity.facts,
        kind: rated.kind,
        features: rated.features,
        assessment: rated.assessment,
        shown: rated.shown,
        is_hint: naming == Naming::Hint,
        is_mere_name,
        // Where a session that is already there answers, it is what a code or an assertion is issued under.
        provenance: behind.provenance.or(behind
            .session
            .clone()
            .filter(|_| matches!(door, Door::Authorize | Door::Saml))),
        continues,
        approves: behind.approves,
        approval_demanded: behind.approval_demanded,
        own_step: behind.own_step,
        profile,
        device,
        state_answered: degraded.is_none(),
        notes: behind.notes,
        limited,
        renamed: before.and_then(Before::renamed),
        presents_session: identity.session.is_some(),
        session: behind.session,
        demanded_since,
        owed,
        family,
        address_is_shared: history
            .as_ref()
            .is_some_and(|history| history.address.trusted_subjects >= SHARED_SUBJECTS),
    });
    Ok(())
}

/// Whether the mode is not known before the history is read: which application a login in progress is for is only known
/// once its link is found; whose side of a percentage a session, a code or a token is on, as well.
fn is_unsettled(exchange: &Exchange, identity: &Identity, signals: &Signals) -> bool {
    let stands_for = identity.presented.is_some() || identity.session.is_some();
    let unnamed = signals.client_id.is_none()
        && (identity.presents(LinkKind::Transaction) || identity.presents(LinkKind::UserCode));
    (unnamed || (stands_for && splits(exchange, signals)))
        && exchange.snapshot.rollout.strongest() != Mode::Off
}

/// What the identity server may hand over in answer. A login at a protocol endpoint is answered in that protocol.
fn hands_over(exchange: &Exchange, door: Door) -> HandsOver {
    let path = exchange.target.as_ref().map_or("", CanonicalTarget::path);
    match (door, path.strip_suffix('/').unwrap_or(path)) {
        (Door::Authn | Door::Authorize, _) => HandsOver::OAuth,
        (Door::Saml | Door::Login, "/samlsso") => HandsOver::Saml,
        (Door::Login, "/oauth2/authorize" | "/oauth2/device" | "/oauth2/ciba_authorize") => {
            HandsOver::OAuth
        }
        _ => HandsOver::Nothing,
    }
}

fn signals(
    dependencies: &Dependencies,
    exchange: &Exchange,
    door: Door,
    tenant: &str,
    identity: &mut Identity,
    request: Request<'_>,
) -> Signals {
    let snapshot = &exchange.snapshot;
    let text = |name: http::HeaderName| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let agent = dependencies.agents.parse(
        text(http::header::USER_AGENT),
        text(http::header::ACCEPT_LANGUAGE),
    );
    let network = dependencies.geo.lookup(exchange.client.address);
    // Behind a proxy the handshake is the proxy's own.
    let tls = request.tls.filter(|_| exchange.client.direct);
    let device = device_cookie(
        request.headers,
        &snapshot.device_key,
        exchange.client.secure,
    );
    let hashes = SignalHashes::of(
        &snapshot.people,
        tenant,
        exchange.client.address,
        &network,
        &agent,
        tls,
        &device,
    );
    let names = request.headers.keys().map(http::HeaderName::as_str);
    let own_order = names.filter(|name| {
        !matches!(*name, "cookie" | "content-length") && !snapshot.reserved_headers.contains(name)
    });
    Signals {
        subject: identity.subject.clone(),
        client_id: identity.client_id.clone(),
        client: identity.client,
        address: exchange.client.address,
        network,
        agent,
        tls: tls.cloned(),
        http_fingerprint: http_fingerprint(exchange.method, request.version, own_order),
        device,
        browser_door: door.is_browser(),
        parameters_hidden: identity.parameters_hidden,
        grant: std::mem::take(&mut identity.grant),
        hashes,
    }
}

fn query(
    exchange: &Exchange,
    signals: &Signals,
    identity: &Identity,
    demands: &[DemandKey],
    before: Option<&Before>,
) -> HistoryQuery {
    let query = HistoryQuery {
        now: exchange.at,
        subject: signals.subject.key(),
        address: signals.hashes.address,
        prefix: signals.hashes.prefix,
        asn: signals.hashes.familiarity.asn,
        agent: signals.hashes.agent_tls,
        tenant: signals.hashes.tenant,
        client: match signals.subject {
            Subject::Client { key } => Some(key),
            Subject::Anonymous | Subject::Named { .. } => None,
        },
        scopes: None,
        previous: None,
        links: identity
            .presented
            .into_iter()
            .chain(identity.session)
            .collect(),
        demands: demands.to_vec(),
    };
    HistoryQuery {
        previous: before.map(|before| before.previous(&query)),
        ..query
    }
}

fn limited(dependencies: &Dependencies, signals: &Signals) -> Option<Limited> {
    let user = match &signals.subject {
        Subject::Named { key, .. } => Some(key.0.value_hash()),
        Subject::Anonymous | Subject::Client { .. } => None,
    };
    let client = signals.client.map(|client| client.0.value_hash());
    dependencies
        .limits
        .check(
            signals.hashes.address,
            Some(signals.hashes.prefix),
            user,
            client,
        )
        .err()
}

/// Reads the history, or says why it cannot be read.
pub(in crate::flow) async fn load(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    query: &HistoryQuery,
    deadline: Deadline,
) -> (Option<History>, Option<FallbackCause>) {
    match try_load(dependencies, exchange, query, deadline).await {
        Ok(history) => (Some(history), None),
        Err(cause) => (None, Some(cause)),
    }
}

/// Fails when too much is in flight, the store's breaker is open or the budget runs out.
async fn try_load(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    query: &HistoryQuery,
    deadline: Deadline,
) -> Result<History, FallbackCause> {
    let Some(_place) = dependencies.in_flight.enter() else {
        return Err(FallbackCause::Overload);
    };
    let start = dependencies.clock.instant();
    if !dependencies.state_breaker.admit(start) {
        return Err(FallbackCause::StateUnavailable);
    }
    let answer =
        tokio::time::timeout_at(deadline.instant().into(), dependencies.state.load(query)).await;
    let end = dependencies.clock.instant();
    exchange.timing.state = end.saturating_duration_since(start);
    let result = match answer {
        Ok(Ok(history)) => Ok(history),
        Ok(Err(StateError::Timeout)) | Err(_) => Err((FallbackCause::StateTimeout, "timeout")),
        Ok(Err(StateError::Unavailable(_))) => {
            Err((FallbackCause::StateUnavailable, "unavailable"))
        }
        Ok(Err(StateError::Refused(_))) => Err((FallbackCause::StateUnavailable, "refused")),
    };
    dependencies
        .metrics
        .state_time(result.is_ok(), exchange.timing.state);
    let failure = result.as_ref().err().map(|(cause, _)| *cause);
    let kind = dependencies.state.kind();
    exchange.spent(Stage::State, (start, end), |_| of_state(kind, failure));
    match &result {
        Ok(_) => dependencies.state_breaker.succeeded(),
        Err((_, kind)) => {
            dependencies.state_breaker.failed(end);
            dependencies.metrics.state_error("load", kind);
        }
    }
    result.map_err(|(cause, _)| cause)
}

/// A link, from this node's own recent ones or out of the history, which has no more use for it.
fn found(
    dependencies: &Dependencies,
    history: Option<&mut History>,
    key: &LinkKey,
) -> Option<Arc<Provenance>> {
    dependencies
        .recent
        .find(key, dependencies.clock.instant())
        .or_else(|| history?.links.remove(key).map(Arc::new))
}

/// Finds what stands behind what is presented. A login in progress and an approval do not say again for which client they
/// are, nor a pushed request what it asks for: `signals` and `identity` get it from there. `read` is the history, or why
/// there is none.
///
/// # Errors
/// What is to be approved, or was pushed, belongs to somebody else.
fn behind(
    dependencies: &Dependencies,
    read: (Option<&mut History>, Option<FallbackCause>),
    own_step: Option<LinkKey>,
    identity: &mut Identity,
    signals: &mut Signals,
) -> Result<Behind, Refusal> {
    let (mut history, degraded) = read;
    let mut find = |key: LinkKey| found(dependencies, history.as_deref_mut(), &key);
    let mut notes = Vec::new();
    let presented = identity.presented.and_then(&mut find);
    let provenance = accepted(presented, identity, signals, degraded, &mut notes)?;
    if let Some(link) = provenance.as_deref() {
        identity.facts.leave(link.unread());
    }
    if identity.presents(LinkKind::AccessToken) && provenance.is_some() {
        // What is turned in says whom it is about, and no longer the client.
        signals.subject = Subject::Anonymous;
    }
    let pushed = identity.presents(LinkKind::PushedRequest);
    if pushed && provenance.is_some() {
        // What was pushed through this gateway has been seen.
        signals.parameters_hidden = false;
        let scopes = provenance.iter().flat_map(|link| &link.scopes);
        identity.facts.scopes = scopes.map(|scope| ValueHash::from(*scope) << 32).collect();
    }
    let approves = provenance.as_deref().and_then(|link| link.approves);
    let is_user_code = identity.presents(LinkKind::UserCode);
    let approval_demanded = is_user_code && provenance.as_deref().is_some_and(|link| link.demanded);
    if let Some(link) = provenance.as_deref().filter(|_| is_user_code) {
        // What is approved here is of this client.
        signals.client_id.clone_from(&link.application);
        signals.client = link.client;
    }
    // What was asked for in the background says what it is, not who is in front of this browser.
    let provenance = provenance.filter(|_| !pushed && !is_user_code);
    let session = identity.session.and_then(&mut find);
    if let Some(link) = provenance.as_deref() {
        // The login door does not say again for which client it is.
        if signals.client_id.is_none() {
            signals.client_id.clone_from(&link.application);
        }
        signals.client = signals.client.or(link.client);
    }
    Ok(Behind {
        provenance,
        session,
        own_step: own_step.and_then(find),
        approves,
        approval_demanded,
        notes,
    })
}

/// The provenance of what is presented, if it was given to this client and tenant.
fn accepted(
    presented: Option<Arc<Provenance>>,
    identity: &Identity,
    signals: &Signals,
    degraded: Option<FallbackCause>,
    notes: &mut Vec<Reason>,
) -> Result<Option<Arc<Provenance>>, Refusal> {
    let Some(link) = presented else {
        // Without state nothing can be said about what was issued.
        let asked = [
            LinkKind::BackChannel,
            LinkKind::Code,
            LinkKind::RefreshToken,
            LinkKind::UserCode,
        ]
        .into_iter()
        .any(|kind| identity.presents(kind));
        if asked && degraded.is_none() {
            notes.push(Reason::CodeUnknown);
        }
        return Ok(None);
    };
    let same_client = match (link.client, identity.client) {
        (Some(given), Some(asking)) => given == asking,
        // A login in progress does not name its client again.
        _ => true,
    };
    // A token may be exchanged by another client than the one that it was given to (RFC 8693).
    let same_client = same_client || identity.presents(LinkKind::AccessToken);
    if link.tenant == signals.hashes.tenant && same_client {
        return Ok(Some(link));
    }
    if identity.presents(LinkKind::UserCode) {
        return Err(Refusal::new(
            400,
            "user_code",
            "what is to be approved belongs to another tenant",
        ));
    }
    if identity.presents(LinkKind::PushedRequest) {
        return Err(Refusal::new(
            400,
            "request_uri",
            "the pushed request belongs to another client",
        ));
    }
    notes.push(Reason::CodeMismatch);
    Ok(None)
}

/// Whether the session was proved by a stronger factor in this browser so lately that it need not be proved again, and
/// nothing has been demanded since.
fn is_proved(
    session: &Provenance,
    settings: &StepUpSettings,
    owed: &Owed,
    signals: &Signals,
    now: Timestamp,
) -> bool {
    let fresh = session.is_within(Duration::from_secs(settings.max_age_seconds), now);
    let met = owed
        .outstanding
        .iter()
        .all(|(_, demand)| session.at.plus(SKEW) >= demand.at);
    session.has_strong_factor() && fresh && met && is_same_browser(session, signals)
}

/// Whether what was issued was last used by a browser that looks like this one, from the same address or network.
fn is_same_browser(link: &Provenance, signals: &Signals) -> bool {
    let seen = signals.hashes.familiarity;
    link.used_by.agent == seen.agent
        && link.used_by.platform == seen.platform
        && (link.used_by.address == seen.address
            || (seen.asn.is_some() && link.used_by.asn == seen.asn))
}

/// Whether a request goes on with a login that was decided before: the return to the authorize endpoint, the consent,
/// the next factor. Another browser that presents the same key begins anew, and so does a login in which no password was
/// accepted yet.
fn continues(door: Door, identity: &Identity, link: &Provenance, signals: &Signals) -> bool {
    let same_browser = is_same_browser(link, signals);
    let unnamed = signals.subject.key().is_none();
    identity.presents(LinkKind::Transaction)
        && same_browser
        && match door {
            Door::Authorize | Door::Saml | Door::WsFed | Door::Device | Door::CibaAuthorize => true,
            Door::Login | Door::Authn | Door::Flow => {
                unnamed && link.subject.is_some() && link.has_password()
            }
            Door::Token
            | Door::Par
            | Door::DeviceAuthorize
            | Door::Ciba
            | Door::Pdp
            | Door::Basic => false,
        }
}

/// What a request is compared with when its subject has no profile at hand: a token, a session or a login in progress
/// stands in for a subject that the request does not name.
fn stand_in(door: Door, naming: Naming, signals: &Signals, behind: &Behind) -> Option<Profile> {
    let of_token = behind.provenance.as_deref();
    let of_token = of_token.filter(|link| link.subject.is_some());
    let link = match door {
        Door::Authorize | Door::Saml | Door::WsFed => behind.session.as_deref().or(of_token),
        _ => of_token,
    }?;
    let stands = match naming {
        Naming::Claim => false,
        Naming::Hint => true,
        Naming::Settled => signals
            .subject
            .key()
            .is_none_or(|key| link.subject == Some(key)),
    };
    stands.then(|| link.as_profile())
}
