//! What the identity server asks the gateway, and what it says of tokens.

use riskgate::domain::action::AuthenticationCall;
use riskgate::domain::action::Question;
use riskgate::domain::identity_event::Message;
use riskgate::domain::introspection;
use riskgate::domain::introspection::Introspected;
use riskgate::domain::risk_claims::RISK_CLAIMS;
use riskgate::domain::risk_claims::RiskClaims;
use riskgate::domain::token_action::ActionCall;
use serde_json::Value;

/// The longest text that a call may bring in; longer ones are refused or left out.
const TEXT_BYTES_MAX: usize = 1_024;

/// A body, read as each of the calls and as the answer of an introspection.
pub(super) fn actions(bytes: &[u8]) -> bool {
    let question = Question::parse(bytes);
    if let Ok(question) = &question {
        assert!(!question.decision_id.is_empty() && question.decision_id.len() <= TEXT_BYTES_MAX);
        assert!(question.tenant.len() <= TEXT_BYTES_MAX);
    }
    let step = AuthenticationCall::parse(bytes);
    if let Ok(step) = &step {
        assert!(!step.flow_id.is_empty() && step.flow_id.len() <= TEXT_BYTES_MAX);
        assert!(step.passed.iter().all(|name| name.len() <= TEXT_BYTES_MAX));
    }
    let call = ActionCall::parse(bytes);
    // A step of a login is never passed by the endpoint that knows nothing of logins.
    assert!(step.is_err() || call.is_err());
    if let Ok(ActionCall::Token(call)) = &call {
        for operation in call.telling(&RiskClaims::Unscored) {
            let written = serde_json::to_value(operation).expect("an operation is JSON");
            assert!(written.pointer("/path").is_some_and(Value::is_string));
        }
        drop((call.amr(), call.auth_time(), call.is_openid()));
    }
    if let Ok(message) = Message::parse(bytes) {
        assert!(message.at.millis() > 0);
        for event in message.events {
            assert!(!event.names.is_empty());
            assert!(
                event
                    .names
                    .iter()
                    .all(|name| !name.is_empty() && name.len() <= TEXT_BYTES_MAX * 2)
            );
        }
    }
    check_introspection(bytes);
    question.is_ok() || step.is_ok() || call.is_ok()
}

fn check_introspection(bytes: &[u8]) {
    if let Ok(Some(active)) = Introspected::read(bytes) {
        assert!(!active.grant.client_id.is_empty());
        assert!(!active.grant.subject.is_empty());
        assert_eq!(
            introspection::active_client(bytes).as_ref(),
            Some(&active.grant.client_id)
        );
    }
    if let Some(token) = introspection::asked(bytes) {
        assert!(!token.is_empty());
    }
    let Some(told) = introspection::with_risk(bytes, &RiskClaims::Unscored) else {
        return;
    };
    let members = |bytes: &[u8]| serde_json::from_slice::<serde_json::Map<String, Value>>(bytes);
    let Ok(mut before) = members(bytes) else {
        return;
    };
    if before.is_empty() {
        // No answer: it says at least whether the token is active.
        return;
    }
    let mut after = members(told.as_bytes()).expect("it stays an object");
    assert_eq!(
        after.get("risk_status").and_then(Value::as_str),
        Some("unscored")
    );
    for name in RISK_CLAIMS {
        if RiskClaims::Unscored.members().any(|(said, _)| said == name) {
            before.remove(name);
            after.remove(name);
        }
    }
    assert_eq!(before, after, "everything else stays");
}
