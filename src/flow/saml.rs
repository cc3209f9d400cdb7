//! What a request at the door of SAML brings along, read before anything is decided.

use crate::domain::parameters::Parameters;
use crate::domain::route::Door;
use crate::domain::saml::AuthnRequest;
use crate::domain::saml::Binding;
use crate::flow::error::Refusal;
use crate::flow::exchange::Exchange;

/// What a request brings.
#[derive(Debug, Default)]
pub struct Message {
    /// The message, where it asks for a sign-in.
    pub request: Option<AuthnRequest>,
    /// The service provider: of the message, or named by who begins at the identity server.
    pub application: Option<String>,
}

/// Reads it. At other doors there is none.
///
/// # Errors
/// The message cannot be read in exactly one way, or the service provider is named twice.
pub fn message(
    exchange: &Exchange,
    door: Door,
    parameters: Option<&Parameters>,
) -> Result<Message, Refusal> {
    let get = |name: &str| {
        parameters
            .filter(|_| door == Door::Saml)
            .and_then(|parameters| parameters.get(name))
            .filter(|value| !value.is_empty())
    };
    let refused = |message: String| Refusal::new(400, "saml_message", message);
    let entity = get("spEntityID");
    let Some(value) = get("SAMLRequest") else {
        let application =
            entity.map(|entity| entity.rsplit_once('@').map_or(entity, |(name, _)| name));
        return Ok(Message {
            request: None,
            application: application.map(str::to_owned),
        });
    };
    if entity.is_some() {
        return Err(refused(
            "a request names its service provider once".to_owned(),
        ));
    }
    let binding = if exchange.method == "POST" {
        Binding::Post
    } else {
        Binding::Redirect
    };
    let mut request =
        AuthnRequest::read(value, binding).map_err(|error| refused(error.to_string()))?;
    if let Some(request) = &mut request {
        // In a query the signature is beside the message (SAML Bindings section 3.4.4.1).
        request.is_signed |= get("Signature").is_some() || get("SigAlg").is_some();
    }
    Ok(Message {
        application: request
            .as_ref()
            .and_then(AuthnRequest::application)
            .map(str::to_owned),
        request,
    })
}
