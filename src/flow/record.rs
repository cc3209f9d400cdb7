//! The words of a record: what was done, and what may be written of what a client sent.

use crate::domain::audit::AuditEvent;
use crate::domain::audit::Word;
use crate::domain::enforcement::Enforcement;
use crate::domain::features::FeatureSchema;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::standing::Standing;
use crate::domain::resource::Denial;
use crate::domain::risk::Assessment;
use crate::domain::risk::ScoreSource;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::route::Door;
use crate::domain::route::RouteClass;
use crate::domain::signals::Subject;
use crate::domain::signals::network::address_text;
use crate::domain::signals::network::velocity_prefix;
use crate::flow::decide::is_break_glass;
use crate::flow::decide::thresholds;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Decided;
use crate::flow::exchange::Exchange;
use crate::flow::resource::Visit;
use std::net::IpAddr;

/// The digits of a digest that a record holds.
const DIGEST_DIGITS: usize = 16;

/// What kind of request it was.
pub(in crate::flow) fn class(exchange: &Exchange) -> &'static str {
    let Some(route) = &exchange.route else {
        return "refused";
    };
    match route.class {
        RouteClass::Own => "own",
        RouteClass::Blocked => "blocked",
        RouteClass::Unknown => "unknown",
        RouteClass::Scored(_) | RouteClass::Passed(_) | RouteClass::Resource(_)
            if exchange.error.is_some() =>
        {
            "refused"
        }
        RouteClass::Resource(_) => "resource",
        RouteClass::Scored(_) => "scored",
        RouteClass::Passed(_) if exchange.door.is_some() => "scored",
        RouteClass::Passed(_) => "passed",
    }
}

/// What was done with a request.
pub(in crate::flow) fn action(exchange: &Exchange) -> &'static str {
    match exchange
        .decided
        .as_ref()
        .map(|decided| &decided.enforcement)
    {
        _ if exchange.error.is_some() => "refused",
        _ if exchange.failure.is_some() => "failed",
        _ if exchange.visit.is_some() => exchange
            .visit
            .as_ref()
            .and_then(|visit| visit.denial)
            .map_or("forwarded", Denial::as_str),
        _ if exchange.is_own() => exchange.served.map_or("served", |done| done.action),
        _ if exchange.replaced.is_some() => exchange.replaced.unwrap_or_default(),
        Some(Enforcement::Redirect(_)) => "redirected",
        Some(Enforcement::Reject(rejection)) => rejection.kind.as_str(),
        Some(Enforcement::Rewrite(..)) => "rewritten",
        Some(Enforcement::Forward(..)) | None => "forwarded",
    }
}

/// What the request shows.
pub(in crate::flow) fn describe_signals(event: &mut AuditEvent, assessed: &Assessed) {
    let signals = &assessed.signals;
    event.client_id = signals.client_id.as_deref().map(printable);
    event.grant_type = assessed.facts.grant_type.as_deref().map(printable);
    event.subject = assessed.about().map(|subject| subject.to_string());
    event.country = signals.network.country.map(|country| country.to_string());
    event.asn = signals.network.asn;
    event.as_org = signals.network.as_org.as_deref().map(str::to_owned);
    event.network = signals.network.kind.map(|kind| kind.as_str().into());
    event.browser = Some(signals.agent.release.clone());
    event.os = Some(signals.agent.os.clone());
    event.ja4 = signals.tls.as_ref().map(|tls| tls.ja4.clone());
    event.http_fingerprint = Some(format!("{:08x}", signals.http_fingerprint));
    event.agent_kind = Some(signals.agent.kind.as_str().into());
    event.device = Some(assessed.device.as_str().into());
    event.known = assessed.profile.is_some();
    event.logins = assessed.logins();
    let facts = &assessed.facts;
    event.response_type = facts.response_type.as_deref().map(printable);
    event.prompt = facts.prompt.as_deref().map(printable);
    event.acr_values = facts.acr_values.as_deref().map(printable);
}

/// What was made of it.
pub(in crate::flow) fn describe_assessment(
    event: &mut AuditEvent,
    exchange: &Exchange,
    assessed: &Assessed,
) {
    let (_, model) = exchange.snapshot.models.serving(assessed.kind);
    event.kind = Some(assessed.kind.as_str().into());
    let digest = &model.identity.digest;
    event.model = Some(model.identity.version.clone());
    event.model_digest = digest.get(..DIGEST_DIGITS).map(str::to_owned);
    event.feature_schema = Some(FeatureSchema::current().version);
    event.status = Some(assessed.assessment.status().into());
    event.fallback = assessed
        .assessment
        .fallback()
        .map(|cause| cause.as_str().into());
    if let Some(row) = &assessed.features {
        event.features = row
            .as_slice()
            .iter()
            .map(|value| value.is_finite().then_some(*value))
            .collect();
    }
    if let Assessment::Scored {
        score,
        contributions,
        source,
        ..
    } = &assessed.assessment
    {
        event.score = Some(score.points());
        event.probability = Some(score.probability());
        event.source = Some(source.as_str().into());
        event.contributions.clone_from(contributions);
    }
}

/// What showed in place of the verdict, where that was another.
pub(in crate::flow) fn describe_shown(
    event: &mut AuditEvent,
    exchange: &Exchange,
    decided: &Decided,
) {
    let assessed = exchange.assessed.as_ref();
    let Some(shown) = &decided.shown else {
        return;
    };
    if shown.decision.verdict == decided.decision.verdict {
        return;
    }
    event.shown = Some(shown.decision.verdict.as_str().into());
    event.shown_score = assessed
        .and_then(|assessed| assessed.shown.as_ref())
        .and_then(Assessment::score)
        .map(|score| score.points());
}

/// What the decision was made from beside the score, as far as the record does not say it elsewhere.
pub(in crate::flow) fn describe_standing(
    event: &mut AuditEvent,
    exchange: &Exchange,
    decided: &Decided,
) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let thresholds = thresholds(exchange, assessed);
    event.thresholds = Some([thresholds.medium, thresholds.high]);
    if let Subject::Named { name, .. } = &assessed.signals.subject {
        // Whom a login was begun for is known as a key alone where a later step does not say it again.
        event.named = !name.is_empty();
    }
    event.break_glass = exchange
        .door
        .is_some_and(|door| is_break_glass(exchange, assessed, door));
    event.session = assessed.provenance.is_some() && exchange.door == Some(Door::Authorize);
    event.unscored_percent = exchange.unscored_percent;
    if let Assessment::Scored {
        source: ScoreSource::Provenance,
        reasons,
        ..
    } = &assessed.assessment
    {
        let codes = reasons.iter().map(|reason| Word::Borrowed(reason.code()));
        event.inherited_reasons = codes.collect();
    }
    let released = decided.decision.reasons.contains(&Reason::ReviewReleased);
    let standing = Standing {
        released,
        ..decided.standing
    };
    event.standing = standing.codes().into_iter().map(Word::Borrowed).collect();
}

/// What became of a demand.
pub(in crate::flow) fn describe_demand(
    event: &mut AuditEvent,
    exchange: &Exchange,
    decided: &Decided,
) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let own = match &decided.shown {
        Some(shown) if !exchange.accepted => shown.refused && shown.own_demand,
        _ => decided.own_demand,
    };
    let binding = &assessed.owed.binding;
    let demand = match (own && !assessed.continues, binding.is_empty()) {
        (true, _) => Some("raised"),
        (false, false) => Some("outstanding"),
        (false, true) => None,
    };
    event.demand = demand.map(Into::into);
    event.demand_scopes = binding
        .iter()
        .map(|scope| Word::Borrowed(scope.as_str()))
        .collect();
}

/// What was found out about a request to a service.
pub(in crate::flow) fn describe_visit(event: &mut AuditEvent, visit: &Visit) {
    event.token = visit.token.map(Into::into);
    event.client_id = visit.client_id.as_deref().map(printable);
    event.subject = visit.subject.map(|subject| subject.to_string());
    event.token_decision = visit.decision.as_ref().map(ToString::to_string);
    event.mode = visit.mode.map(|mode| mode.as_str().into());
    event.verdict = visit.verdict.map(|verdict| verdict.as_str().into());
    event.fallback = visit.cause.map(|cause| cause.as_str().into());
    event.demand = visit.demanded.then(|| "outstanding".into());
    match &visit.risk {
        Some(risk) => {
            event.status = Some(risk.status().into());
            event.level = risk.level().map(|level| level.as_str().into());
            if let RiskClaims::Scored { score, reasons, .. } = risk {
                event.score = Some(*score);
                event.source = Some(ScoreSource::Provenance.as_str().into());
                event.reasons = reasons
                    .iter()
                    .map(|reason| Word::Borrowed(reason.code()))
                    .collect();
            }
        }
        None => event.status = visit.mode.map(|_| "off".into()),
    }
}

/// The /24 or /48 of an address.
pub(in crate::flow) fn prefix_text(address: IpAddr) -> String {
    let bits = if address.to_canonical().is_ipv4() {
        "/24"
    } else {
        "/48"
    };
    let mut text = address_text(velocity_prefix(address));
    text.push_str(bits);
    text
}

/// A client-sent id, cut and without anything that a terminal or a log reader could act on.
pub(in crate::flow) fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 128;
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect()
}
