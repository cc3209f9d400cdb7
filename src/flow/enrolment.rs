//! Whether a user who has no second factor may enrol one in the middle of a login. Under a demand whoever has the password
//! alone must not choose the factor: WSO2's page for it is not shown, and what that page would send is not passed on.

use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::step_up::WithoutFactor;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::FACTOR_RELEASED;
use crate::domain::outcome::ResponseHead;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::route::Door;
use crate::domain::signals::session::DeviceCookie;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;

/// What a request becomes that sends what WSO2's page for enrolling sends, if a stronger factor is asked for or owed;
/// `None` where there is nothing against it. WSO2 may take the answer "no" to that page as the end of the step, so that it
/// is no better than a "yes" from somebody who must not enrol.
pub fn of_request(exchange: &Exchange, assessed: &Assessed, door: Door) -> Option<Verdict> {
    let agrees = assessed.facts.enrols?;
    if door != Door::Login || (agrees && may_enrol(exchange, assessed)) {
        return None;
    }
    Some(match settings(exchange, assessed) {
        WithoutFactor::EnrolFromKnownDevice | WithoutFactor::Review => Verdict::Review,
        WithoutFactor::Block => Verdict::Block,
    })
}

/// The refusal in place of the page on which a factor is enrolled; `None` for every other answer, and where the page may
/// be shown.
pub fn of_answer(exchange: &Exchange, head: &ResponseHead) -> Option<RejectionKind> {
    let (assessed, decided) = (exchange.assessed.as_ref()?, exchange.decided.as_ref()?);
    let demanded = decided.decision.verdict == Verdict::StepUp || owes(assessed);
    let applies = decided.mode == Mode::Enforce && demanded && head.leads_to_enrolment();
    if !applies || may_enrol(exchange, assessed) {
        return None;
    }
    Some(match settings(exchange, assessed) {
        WithoutFactor::EnrolFromKnownDevice | WithoutFactor::Review => RejectionKind::Held,
        WithoutFactor::Block => RejectionKind::Blocked,
    })
}

/// Whether the login in progress owes a factor that was not given.
fn owes(assessed: &Assessed) -> bool {
    assessed
        .provenance
        .as_deref()
        .is_some_and(|link| link.demanded && !link.has_strong_factor())
}

/// Whether an analyst has released this login, or the rule lets the user's own device enrol.
fn may_enrol(exchange: &Exchange, assessed: &Assessed) -> bool {
    let link = assessed.provenance.as_deref();
    let released = link.is_some_and(|link| link.factors & FACTOR_RELEASED != 0);
    let rule = settings(exchange, assessed);
    released || (rule == WithoutFactor::EnrolFromKnownDevice && is_own_device(assessed))
}

fn settings(exchange: &Exchange, assessed: &Assessed) -> WithoutFactor {
    let application = assessed.signals.client_id.as_deref().unwrap_or("");
    let step_up = &exchange.snapshot.step_up;
    step_up.without_factor(exchange.tenant(), application)
}

/// Whether the device cookie speaks for the user. The steps of a login after its first do not name the user again: there
/// it has to name whom the login is about.
fn is_own_device(assessed: &Assessed) -> bool {
    let names_user = || match (&assessed.signals.device, assessed.subject()) {
        (DeviceCookie::Valid(token), Some(subject)) => token.names(subject),
        _ => false,
    };
    assessed.device == DeviceStanding::Known
        || (assessed.signals.subject.key().is_none() && assessed.continues && names_user())
}
