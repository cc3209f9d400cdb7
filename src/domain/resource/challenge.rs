//! What a caller is told who is not let through: the `WWW-Authenticate` field of RFC 6750 section 3, RFC 9449 section 7.1
//! and RFC 9470 section 3. It repeats nothing that the caller sent.

use crate::domain::resource::Denial;
use crate::domain::resource::Resource;
use std::fmt::Write;

/// The algorithms of proofs that are passed on (RFC 9449 section 5.1): whether one is good is for the service to say.
const PROOF_ALGORITHMS: &str = "ES256 ES384 EdDSA PS256 RS256";

/// The challenge of one refusal.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// Why.
    pub denial: Denial,
    /// Of which service.
    pub resource: &'a Resource,
    /// Whether the caller came with a proof of possession.
    pub proves: bool,
    /// The `acr` of a stronger factor.
    pub acr: &'a str,
    /// The greatest age of the authentication that is accepted, in seconds.
    pub max_age: u64,
}

impl Challenge<'_> {
    /// The field; `None` where no token would help.
    pub fn field(&self) -> Option<String> {
        if matches!(
            self.denial,
            Denial::Away | Denial::Blocked | Denial::Request
        ) {
            return None;
        }
        let scheme = if self.proves { "DPoP" } else { "Bearer" };
        let mut field = format!("{scheme} realm=\"{}\"", quotable(&self.resource.audience));
        // A String takes whatever is written to it.
        let mut add = |name: &str, value: &str| {
            let written = write!(field, ", {name}=\"{}\"", quotable(value));
            debug_assert!(written.is_ok());
        };
        if let Some(error) = self.denial.error() {
            add("error", error);
            add("error_description", &self.denial.to_string());
        }
        match self.denial {
            Denial::Level => {
                add("acr_values", self.acr);
                add("max_age", &self.max_age.to_string());
            }
            Denial::Missing | Denial::Scope if !self.resource.scopes.is_empty() => {
                add("scope", &self.resource.scopes.join(" "));
            }
            _ => {}
        }
        if self.proves {
            add("algs", PROOF_ALGORITHMS);
        }
        Some(field)
    }
}

/// What may stand in a quoted string of these fields: the texts are configured, and checked when they are.
fn quotable(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
        .collect()
}
