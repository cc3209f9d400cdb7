//! How an exchange ended: read from the answer, bound to what was issued, learnt, recorded. Nothing here waits.

use crate::domain::audit::AUDIT_SCHEMA;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::AuditTiming;
use crate::domain::audit::Word;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::Attempt;
use crate::domain::history::ClientUse;
use crate::domain::history::Familiarity;
use crate::domain::history::Lesson;
use crate::domain::history::LinkKind;
use crate::domain::history::Observation;
use crate::domain::ids::NameSpace;
use crate::domain::ids::SubjectKey;
use crate::domain::outcome;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::Conclusion;
use crate::domain::outcome::ResponseHead;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::resource::Denial;
use crate::domain::risk::Assessment;
use crate::domain::risk::RiskLevel;
use crate::domain::route;
use crate::domain::route::Door;
use crate::domain::signals::Subject;
use crate::domain::signals::network::address_text;
use crate::domain::signals::session::DeviceCookie;
use crate::domain::signals::session::DeviceToken;
use crate::domain::target::CanonicalTarget;
use crate::flow::Dependencies;
use crate::flow::actions;
use crate::flow::back_channel;
use crate::flow::demands;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::hindsight;
use crate::flow::identify::link_key;
use crate::flow::observe::links::provenance;
use crate::flow::record::action;
use crate::flow::record::class;
use crate::flow::record::describe_assessment;
use crate::flow::record::describe_demand;
use crate::flow::record::describe_shown;
use crate::flow::record::describe_signals;
use crate::flow::record::describe_standing;
use crate::flow::record::describe_visit;
use crate::flow::record::prefix_text;
use crate::flow::review;
use crate::flow::rollout;
use crate::flow::scopes;
use crate::flow::token_action;
use crate::flow::turned_in;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::RequestLabels;
use std::sync::Arc;
use std::time::Duration;

/// What is kept with what was issued.
pub(in crate::flow) mod links;
/// What the addresses of login pages say.
pub(in crate::flow) mod pages;

/// The head of the answer has come: what it says, and how the exchange ended as far as that tells.
pub fn head(exchange: &mut Exchange, door: Door, head: &ResponseHead) -> Conclusion {
    let hands_over = exchange
        .assessed
        .as_ref()
        .map(|assessed| assessed.facts.hands_over)
        .unwrap_or_default();
    let mut conclusion = outcome::conclude_head(door, hands_over, head);
    let target = exchange.target.as_ref();
    let proves = |target| route::authenticates(exchange.method, target);
    if door == Door::Basic
        && conclusion.outcome == AuthOutcome::Succeeded
        && !target.is_some_and(proves)
    {
        conclusion.outcome = AuthOutcome::None;
    }
    // The session is the first step of a login whose next one leaves a choice.
    if is_beside_session(exchange)
        && conclusion.outcome == AuthOutcome::LoginPage
        && head.offers_factors()
    {
        conclusion.outcome = AuthOutcome::NextFactor;
    }
    // That another identity provider proved nobody says nothing about anybody's password here.
    let assessed = exchange.assessed.as_ref();
    if assessed.is_some_and(|assessed| assessed.facts.from_provider)
        && conclusion.outcome == AuthOutcome::Failed
    {
        conclusion.outcome = AuthOutcome::Returned;
    }
    exchange.outcome = conclusion.outcome;
    conclusion
}

/// Whether the browser has brought a session of the identity server along.
fn is_beside_session(exchange: &Exchange) -> bool {
    let assessed = exchange.assessed.as_ref();
    assessed.is_some_and(|assessed| assessed.session.is_some())
}

/// The device token to set with the answer to a login, if any.
pub fn device(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
) -> Option<DeviceToken> {
    if door == Door::Login && exchange.outcome == AuthOutcome::Succeeded {
        exchange.device_issued = device_token(dependencies, exchange);
    }
    exchange.device_issued.clone()
}

/// Whether the body of the answer must be looked at as well.
pub fn wants_body(exchange: &Exchange, status: u16) -> bool {
    exchange
        .door
        .is_some_and(|door| outcome::needs_body(door, status))
        && exchange.assessed.is_some()
}

/// The body of the answer has come: what it says, and how the exchange ended.
pub fn body(exchange: &mut Exchange, door: Door, body: &[u8]) -> Option<Conclusion> {
    let starts_flow = exchange.assessed.as_ref()?.facts.starts_flow;
    let status = exchange.response_status;
    let mut conclusion = outcome::conclude_body(door, status, starts_flow, body);
    for issued in &mut conclusion.issued {
        if issued.kind == LinkKind::RefreshToken {
            issued.lifetime = exchange.snapshot.refresh_token_lifetime;
        }
    }
    // As at a page.
    if starts_flow
        && is_beside_session(exchange)
        && conclusion.outcome == AuthOutcome::LoginPage
        && outcome::offers_factors(body)
    {
        conclusion.outcome = AuthOutcome::NextFactor;
    }
    exchange.outcome = conclusion.outcome;
    Some(conclusion)
}

/// Binds what was issued to the decision behind it.
pub fn bind(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    conclusion: Conclusion,
) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    scopes::granted(dependencies, exchange, assessed, door, &conclusion);
    let confirmed = actions::confirmed_factors(dependencies, assessed);
    // The browser does not get the session of a login that is withheld; one that it has had before is as good as it was.
    let is_withheld = is_withheld(exchange);
    let mut links: Vec<_> = conclusion
        .issued
        .iter()
        .filter(|issued| !is_withheld || issued.kind != LinkKind::Session)
        .map(|issued| {
            let key = link_key(&exchange.snapshot.people, issued.kind, &issued.value);
            let mut link = provenance(exchange, assessed, door, issued.kind);
            link.factors |= confirmed;
            if issued.kind == LinkKind::Transaction {
                link.is_at(conclusion.unread);
            }
            (key, link, issued.lifetime)
        })
        .collect();
    links.extend(actions::goes_on(exchange, assessed, door, &conclusion));
    back_channel::join(exchange, &conclusion, &mut links);
    links.extend(turned_in::used_up(exchange, assessed, door, &links));
    links.extend(back_channel::approved(
        dependencies,
        exchange,
        assessed,
        door,
    ));
    for (key, link, lifetime) in links {
        let link = Arc::new(link);
        dependencies
            .recent
            .insert(key, Arc::clone(&link), dependencies.clock.instant());
        exchange.issued.push((key, link, lifetime));
    }
    demands::challenged(dependencies, exchange);
    actions::meet(dependencies, exchange, door);
    exchange.under_way = None;
}

/// Whether the answer that carries a success does not go out.
fn is_withheld(exchange: &Exchange) -> bool {
    exchange.accepted && exchange.withheld.is_some()
}

/// The token for this browser, when the login teaches something and the mode lets the client see anything of us.
fn device_token(dependencies: &Dependencies, exchange: &Exchange) -> Option<DeviceToken> {
    let assessed = exchange.assessed.as_ref()?;
    let visible = matches!(exchange.mode()?, Mode::Advise | Mode::Enforce);
    let subject = lesson_subject(exchange, assessed)?;
    if !visible || !exchange.client.secure {
        return None;
    }
    let token = match &assessed.signals.device {
        DeviceCookie::Valid(token)
            if token.issued >= assessed.forgotten() || assessed.device == DeviceStanding::Known =>
        {
            token.clone()
        }
        // One from before its user asked to forget devices, this one among them, is as good as none.
        DeviceCookie::Valid(_)
        | DeviceCookie::Absent
        | DeviceCookie::Forged
        | DeviceCookie::Unsendable => {
            let mut device = [0; 16];
            dependencies.entropy.fill(&mut device);
            DeviceToken {
                device,
                issued: exchange.at,
                subjects: Vec::new(),
            }
        }
    };
    Some(token.with_subject(subject, exchange.at))
}

/// Whose profile may learn from this exchange: only from a login that the identity server confirmed and that was
/// low-risk or passed a stronger factor.
fn lesson_subject(exchange: &Exchange, assessed: &Assessed) -> Option<SubjectKey> {
    let door = exchange.door?;
    let confirmed = match door {
        Door::Login | Door::Authn | Door::Flow | Door::Basic => {
            exchange.outcome == AuthOutcome::Succeeded
        }
        Door::Token => exchange.outcome == AuthOutcome::TokensIssued,
        Door::Authorize
        | Door::Par
        | Door::DeviceAuthorize
        | Door::Device
        | Door::Ciba
        | Door::CibaAuthorize
        | Door::Saml
        | Door::WsFed
        | Door::Pdp => false,
    };
    let low = exchange.decided.as_ref()?.decision.level == Some(RiskLevel::Low);
    let stepped_up = assessed.facts.second_factor;
    let learns = confirmed
        && assessed.facts.credentials
        && (low || stepped_up)
        && assessed.state_answered
        && !assessed.is_misnamed(door);
    assessed.subject().filter(|_| learns)
}

fn lesson(exchange: &Exchange, assessed: &Assessed) -> Option<Lesson> {
    let subject = lesson_subject(exchange, assessed)?;
    let seen = assessed.signals.hashes.familiarity;
    let issued = exchange.device_issued.as_ref();
    let device = issued
        .map(|token| {
            exchange
                .snapshot
                .people
                .value(NameSpace::Device, &token.device)
        })
        .or(seen.device);
    let cookie_known = match assessed.signals.device {
        DeviceCookie::Unsendable => true,
        DeviceCookie::Valid(ref token) => token.names(subject),
        // Programs keep no cookie: its absence is no habit of theirs.
        DeviceCookie::Absent | DeviceCookie::Forged => !assessed.signals.browser_door,
    };
    Some(Lesson {
        subject,
        at: exchange.at,
        familiarity: Familiarity { device, ..seen },
        coordinates: assessed.signals.network.coordinates,
        cookie_known,
    })
}

/// What the baseline of a service account learns: that it asked for itself and was given tokens.
fn client_use(exchange: &Exchange, assessed: &Assessed) -> Option<ClientUse> {
    let Subject::Client { key } = assessed.signals.subject else {
        return None;
    };
    let asks_for_itself = assessed.facts.grant_type.as_deref() == Some("client_credentials");
    let confirmed = exchange.outcome == AuthOutcome::TokensIssued && assessed.state_answered;
    (asks_for_itself && confirmed).then(|| ClientUse {
        client: key,
        at: exchange.at,
        scopes: assessed.facts.scopes.clone(),
        prefix: Some(assessed.signals.hashes.prefix),
        tls: assessed.signals.hashes.familiarity.tls,
        network: assessed.signals.network.kind,
        learns: lesson_subject(exchange, assessed) == Some(key),
    })
}

fn attempt(exchange: &Exchange, assessed: &Assessed) -> Option<Attempt> {
    let blocked = exchange.outcome == AuthOutcome::RefusedHere
        && exchange
            .carried_out()
            .is_some_and(|decision| decision.verdict == Verdict::Block)
        && assessed.facts.credentials;
    let failed = match exchange.outcome {
        AuthOutcome::Failed | AuthOutcome::Locked => true,
        AuthOutcome::Succeeded | AuthOutcome::NextFactor | AuthOutcome::TokensIssued
            if assessed.facts.credentials =>
        {
            false
        }
        // A blocked attempt goes on counting against its source; what the password was is not known.
        _ if blocked => true,
        _ => return None,
    };
    let hashes = assessed.signals.hashes;
    Some(Attempt {
        failed,
        address: hashes.address,
        prefix: hashes.prefix,
        asn: hashes.familiarity.asn,
        agent: hashes.agent_tls,
        tenant: hashes.tenant,
        subject: assessed.signals.subject.key(),
        subject_known: assessed.profile.is_some() && !blocked,
        address_known: assessed.knows_address(),
    })
}

/// Closes an exchange: metrics, what is learnt, the record. Says whether something is learnt of it and whether it is on
/// record.
pub fn close(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    abandoned: bool,
) -> (bool, bool) {
    if abandoned && matches!(exchange.outcome, AuthOutcome::None) {
        exchange.outcome = AuthOutcome::Abandoned;
    }
    measure(&dependencies.metrics, exchange);
    dependencies.sessions.note(exchange);
    rollout::note(dependencies, exchange);
    let learnt = learn(dependencies, exchange);
    let hindsight = hindsight::look_back(dependencies, exchange);
    let scored = exchange.door.is_some() || exchange.error.is_some();
    let recorded = (scored || exchange.snapshot.audit_passed) && dependencies.audit.keeps();
    if recorded {
        let total = dependencies
            .clock
            .instant()
            .saturating_duration_since(exchange.started);
        let mut event = event(exchange, learnt, total);
        hindsight.describe(&mut event);
        let told = token_action::told(dependencies, exchange).into_iter();
        event.token_actions = told.map(|told| Word::Borrowed(told.as_str())).collect();
        dependencies.audit.write(event);
    }
    (learnt, recorded)
}

fn learn(dependencies: &Dependencies, exchange: &mut Exchange) -> bool {
    let links = std::mem::take(&mut exchange.issued);
    let Some(assessed) = &exchange.assessed else {
        return false;
    };
    let observation = Observation {
        at: exchange.at,
        attempt: attempt(exchange, assessed),
        lesson: lesson(exchange, assessed),
        client: client_use(exchange, assessed),
        joined: std::mem::take(&mut exchange.joined),
        renamed: assessed.renamed.clone(),
        links,
        ..Observation::default()
    };
    let learnt = observation.lesson.is_some();
    let empty = observation.attempt.is_none()
        && !learnt
        && observation.client.is_none()
        && observation.joined.is_empty()
        && observation.links.is_empty();
    if !empty {
        dependencies.observations.send(observation);
    }
    learnt
}

fn measure(metrics: &Metrics, exchange: &Exchange) {
    let door = exchange.door.map_or("none", Door::as_str);
    let decided = exchange.decided.as_ref();
    let visit = exchange.visit.as_ref();
    metrics.request(RequestLabels {
        class: class(exchange),
        door,
        verdict: decided
            .map(|decided| decided.decision.verdict)
            .or(visit.and_then(|visit| visit.verdict).map(Verdict::from)),
        mode: decided
            .map(|decided| decided.mode)
            .or(visit.and_then(|visit| visit.mode)),
        grounds: exchange.permit.as_ref().map(|permit| permit.grounds()),
    });
    if let Some(error) = exchange.error {
        metrics.refused(error);
    }
    if let Some(visit) = &exchange.visit {
        metrics.resource(visit.denial.map_or("let_through", Denial::as_str));
    }
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    metrics.outcome(door, exchange.outcome);
    metrics.decision_time(door, exchange.timing.decision);
    match &assessed.assessment {
        Assessment::Scored {
            source, fallback, ..
        } => {
            metrics.score_time(Some(*source), exchange.timing.score);
            if let Some(cause) = fallback {
                metrics.fallback(*cause);
            }
        }
        Assessment::Unscored(cause) => {
            metrics.score_time(None, exchange.timing.score);
            metrics.unscored(*cause);
        }
    }
    if let Some(decided) = decided.filter(|decided| {
        decided.mode != Mode::Enforce && decided.decision.verdict != Verdict::Allow
    }) {
        metrics.would_have(door, decided.decision.verdict);
    }
}

fn event(exchange: &Exchange, learnt: bool, total: Duration) -> AuditEvent {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let mut event = AuditEvent {
        schema: AUDIT_SCHEMA,
        time: exchange.at.to_rfc3339(),
        id: exchange.id.to_string(),
        class: class(exchange).into(),
        door: exchange.door.map(|door| door.as_str().into()),
        route: exchange.route.as_ref().map_or_else(
            || "unreadable".to_owned(),
            |route| route.pattern.to_string(),
        ),
        method: exchange.method.into(),
        tenant: exchange
            .target
            .as_ref()
            .map(|target| target.tenant_domain().to_owned()),
        organization: exchange
            .target
            .as_ref()
            .and_then(CanonicalTarget::organization)
            .map(str::to_owned),
        address: Some(
            exchange
                .snapshot
                .people
                .pseudonym(
                    NameSpace::Address,
                    &[address_text(exchange.client.address).as_bytes()],
                )
                .to_string(),
        ),
        prefix: Some(prefix_text(exchange.client.address)),
        action: action(exchange).into(),
        grounds: exchange
            .permit
            .as_ref()
            .map(|permit| permit.grounds().as_str().into()),
        response_status: exchange.response_status,
        outcome: exchange.outcome.as_str().into(),
        proof: exchange.proof.map(Word::Borrowed),
        revocation: exchange.revocation.map(Word::Borrowed),
        learnt,
        error: exchange.error.or(exchange.failure).map(Word::Borrowed),
        config: exchange.snapshot.version,
        timing: AuditTiming {
            state: micros(exchange.timing.state),
            score: micros(exchange.timing.score),
            decision: micros(exchange.timing.decision),
            total: micros(total),
        },
        ..AuditEvent::default()
    };
    if exchange.off {
        event.status = Some("off".into());
        event.mode = Some(Mode::Off.as_str().into());
    }
    if let Some(assessed) = &exchange.assessed {
        describe_signals(&mut event, assessed);
        describe_assessment(&mut event, exchange, assessed);
    }
    if let Some(visit) = &exchange.visit {
        describe_visit(&mut event, visit);
    }
    review::describe(&mut event, exchange);
    if let Some(decided) = &exchange.decided {
        let decision = &decided.decision;
        event.verdict = Some(decision.verdict.as_str().into());
        event.level = decision.level.map(|level| level.as_str().into());
        event.matched = Some(decision.matched.label().to_owned());
        event.skipped_rules = decision.skipped.iter().map(ToString::to_string).collect();
        event.reasons = decision
            .reasons
            .iter()
            .map(|reason| Word::Borrowed(reason.code()))
            .collect();
        event.policy = Some(decision.policy_version.to_string());
        describe_standing(&mut event, exchange, decided);
        event.mode = Some(decided.mode.as_str().into());
        if decided.mode == Mode::Enforce {
            describe_demand(&mut event, exchange, decided);
        }
        describe_shown(&mut event, exchange, decided);
        if decided.mode == Mode::Off {
            event.status = Some("off".into());
        }
    }
    event
}
