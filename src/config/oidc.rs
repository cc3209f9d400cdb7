//! `[admin.oidc]`: the provider by which operators sign in to the console beside those with passwords.

use serde::Deserialize;
use std::path::PathBuf;

/// `[admin.oidc]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// The provider's issuer, exactly as it writes it.
    pub issuer: String,
    /// The client that it knows the console as.
    pub client_id: String,
    /// A file with the client's secret; a public client when there is none in the environment either.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim that names operators.
    #[serde(default = "subject")]
    pub name_claim: String,
    /// The claim that lists roles or groups.
    #[serde(default = "roles")]
    pub roles_claim: String,
    /// The authentication context class that must have been reached.
    pub acr: Option<String>,
    /// Certificates of the authority that signed the provider's certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// Which of the provider's roles are which of the console's.
    #[serde(default)]
    pub roles: RoleNames,
}

/// `[admin.oidc.roles]`: names of the provider for each role of the console.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RoleNames {
    /// Who looks.
    pub viewer: Vec<String>,
    /// Who also decides about held logins.
    pub analyst: Vec<String>,
    /// Who also changes policy and rollout.
    pub admin: Vec<String>,
}

fn scopes() -> Vec<String> {
    vec!["openid".to_owned(), "roles".to_owned()]
}

fn subject() -> String {
    "sub".to_owned()
}

fn roles() -> String {
    "roles".to_owned()
}
