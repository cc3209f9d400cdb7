//! SAML messages. The input is the XML, which is wrapped here as a browser would, or a value as it comes.

use crate::input::Input;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use riskgate::domain::saml::AuthnRequest;
use riskgate::domain::saml::Binding;
use riskgate::domain::saml::Handed;

const DEMANDED: &str = "urn:riskgate:acr:<&\">";

/// A byte that says how it travels and whether it is wrapped, then the message.
pub(super) fn saml(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let ways = [
        (Binding::Post, true),
        (Binding::Post, false),
        (Binding::Redirect, false),
    ];
    let Some((binding, is_wrapped)) = input.choice(&ways) else {
        return false;
    };
    let wrapped = STANDARD.encode(input.rest());
    let value = if is_wrapped {
        wrapped.as_str()
    } else {
        let Some(text) = input.text() else {
            return false;
        };
        text
    };
    let handed = Handed::read(value, binding);
    if let Ok(Handed::Assertion(statement)) = &handed {
        assert!(statement.contexts.len() <= 64);
        assert!(
            statement
                .authenticated()
                .is_none_or(|at| Some(at) == statement.at)
        );
    }
    let Ok(Some(request)) = AuthnRequest::read(value, binding) else {
        return handed.is_ok();
    };
    assert!(request.contexts.len() <= 16);
    assert!(
        request
            .issuer
            .as_ref()
            .is_none_or(|name| !name.is_empty() && name.len() <= 1024)
    );
    for anew in [false, true] {
        let Some(demanding) = request.demanding(DEMANDED, anew) else {
            continue;
        };
        assert!(!request.is_signed, "what is signed cannot be changed");
        let again = AuthnRequest::read(&demanding, binding);
        let again = again.expect("it is read again").expect("it is a request");
        assert_eq!(again.contexts.first().map(String::as_str), Some(DEMANDED));
        assert_eq!(again.forces, request.forces || anew);
        assert_eq!(again.issuer, request.issuer);
        assert_eq!(again.application(), request.application());
        assert!(again.asks(DEMANDED));
    }
    true
}
