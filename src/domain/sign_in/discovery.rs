//! What a provider says of itself (OpenID Connect Discovery section 3, RFC 8414), as far as a sign-in needs it. Whether an
//! address may be used is for whoever uses it.

use serde::Deserialize;

/// Where the endpoints of a provider are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// Where people sign in.
    pub authorization: String,
    /// Where codes are redeemed.
    pub token: String,
    /// Where its keys are.
    pub keys: String,
    /// Where people sign out.
    pub end_session: Option<String>,
    /// Whether its answers name it (RFC 9207).
    pub names_itself: bool,
}

/// Why a provider cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DiscoveryError {
    /// Not the document, or one without what is needed.
    #[error(
        "the document is not of the form: expected JSON with `issuer`, `authorization_endpoint`, `token_endpoint` and \
         `jwks_uri`"
    )]
    Form,
    /// It speaks of another provider.
    #[error("the document names another issuer: expected exactly what `admin.oidc.issuer` says")]
    Issuer,
    /// It does not take what would be sent.
    #[error("the provider does not offer {0}")]
    Lacks(&'static str),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    response_types_supported: Option<Vec<String>>,
}

impl Endpoints {
    /// Reads the document of `issuer`. What it does not say, such as the methods of PKCE, is taken to be there.
    ///
    /// # Errors
    /// It is another's, or lacks what the flow needs. Nothing weaker is used instead.
    pub fn read(document: &[u8], issuer: &str, has_secret: bool) -> Result<Self, DiscoveryError> {
        let document: Document =
            serde_json::from_slice(document).map_err(|_| DiscoveryError::Form)?;
        if document.issuer != issuer {
            return Err(DiscoveryError::Issuer);
        }
        let lacks = |list: &Option<Vec<String>>, wanted: &str| {
            list.as_ref()
                .is_some_and(|list| !list.iter().any(|one| one == wanted))
        };
        if lacks(&document.response_types_supported, "code") {
            return Err(DiscoveryError::Lacks(
                "the authorization code flow (`code`)",
            ));
        }
        if lacks(&document.code_challenge_methods_supported, "S256") {
            return Err(DiscoveryError::Lacks("PKCE with `S256`"));
        }
        let method = &document.token_endpoint_auth_methods_supported;
        if has_secret && lacks(method, "client_secret_basic") {
            return Err(DiscoveryError::Lacks("`client_secret_basic`"));
        }
        if !has_secret && lacks(method, "none") {
            return Err(DiscoveryError::Lacks(
                "public clients (`none`): give the client a secret",
            ));
        }
        Ok(Self {
            authorization: document.authorization_endpoint,
            token: document.token_endpoint,
            keys: document.jwks_uri,
            end_session: document.end_session_endpoint,
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    const ISSUER: &str = "https://login.example.com/oauth2/token";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://login.example.com/oauth2/authorize",
            "token_endpoint": "https://login.example.com/oauth2/token",
            "jwks_uri": "https://login.example.com/oauth2/jwks",
        })
    }

    fn read(
        change: impl FnOnce(&mut Value),
        has_secret: bool,
    ) -> Result<Endpoints, DiscoveryError> {
        let mut document = document();
        change(&mut document);
        Endpoints::read(document.to_string().as_bytes(), ISSUER, has_secret)
    }

    #[test]
    fn what_is_not_said_is_taken_to_be_there() {
        let found = read(|_| {}, true).unwrap();
        assert!(found.end_session.is_none() && !found.names_itself);
        assert!(read(|_| {}, false).is_ok());
    }

    #[test]
    fn nothing_weaker_is_used_instead() {
        for (member, value, has_secret) in [
            ("code_challenge_methods_supported", json!(["plain"]), true),
            ("code_challenge_methods_supported", json!([]), true),
            (
                "response_types_supported",
                json!(["id_token", "token"]),
                true,
            ),
            (
                "token_endpoint_auth_methods_supported",
                json!(["client_secret_post", "none"]),
                true,
            ),
            (
                "token_endpoint_auth_methods_supported",
                json!(["client_secret_basic"]),
                false,
            ),
        ] {
            let found = read(|document| document[member] = value.clone(), has_secret);
            assert!(
                matches!(found, Err(DiscoveryError::Lacks(_))),
                "{member}: {value}"
            );
        }
    }

    #[test]
    fn a_document_is_that_of_the_issuer_to_the_letter() {
        for other in [
            "https://login.example.com/oauth2/token/",
            "https://LOGIN.example.com/oauth2/token",
            "https://evil.example/",
            "",
        ] {
            let found = read(|document| document["issuer"] = json!(other), true);
            assert_eq!(found, Err(DiscoveryError::Issuer), "{other}");
        }
        for member in ["issuer", "token_endpoint", "jwks_uri"] {
            let found = read(
                |document| {
                    document.as_object_mut().unwrap().remove(member);
                },
                true,
            );
            assert_eq!(found, Err(DiscoveryError::Form), "{member}");
        }
        assert_eq!(
            Endpoints::read(b"<html>", ISSUER, true),
            Err(DiscoveryError::Form)
        );
    }
}
