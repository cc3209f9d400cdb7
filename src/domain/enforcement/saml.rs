//! What becomes of a SAML request under a demand: the same as of an authorize request, written in the language of the
//! message. Pure; where the browser is sent is the same address again.

use crate::domain::enforcement::PlanInput;
use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::authorize;
use crate::domain::enforcement::authorize::FAILED_MAX;
use crate::domain::enforcement::authorize::Step;
use crate::domain::enforcement::step_up::FixedRequests;
use crate::domain::enforcement::step_up::Style;

/// The longest message that is put into a query, as it is encoded: a longer one would not fit the head that the identity
/// server reads.
const QUERY_VALUE_BYTES_MAX: usize = 5_120;

/// What becomes of the request of `input`, of which a stronger factor is demanded.
pub(super) fn step(input: &PlanInput<'_>) -> Step {
    // Who begins at the identity server, resolves an artifact or logs out brings nothing that could be changed.
    let Some(request) = input.saml.filter(|_| !input.continues) else {
        return Step::AsIs;
    };
    let settings = input.step_up;
    if request.is_signed {
        return match settings.fixed_requests {
            FixedRequests::Header => Step::AsIs,
            FixedRequests::Refuse => Step::Reject(RejectionKind::StepUpHidden),
        };
    }
    let silent = request.is_passive;
    if input.failed >= FAILED_MAX && !silent {
        return Step::Reject(RejectionKind::StepUpLooped);
    }
    if matches!(input.style, Style::Header | Style::Action) {
        return Step::AsIs;
    }
    let anew = input.authorize.reprove && !silent;
    if request.asks(&settings.acr) && (request.forces || !anew) {
        return Step::AsIs;
    }
    let fits =
        |value: &String| input.authorize.body.is_some() || value.len() <= QUERY_VALUE_BYTES_MAX;
    match request.demanding(&settings.acr, anew).filter(fits) {
        Some(value) => authorize::send(input, &[("SAMLRequest", value)], silent, true),
        None => Step::AsIs,
    }
}
