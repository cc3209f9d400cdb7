//! How a stronger factor is asked for: what it is called, in which style each application takes it, and what becomes of
//! an authorize request that asks for it.

use crate::domain::demand::DemandScope;
use crate::domain::policy::scope::SUPER_TENANT;
use serde::Deserialize;
use std::time::Duration;

/// The shortest and the longest window of a demand, in seconds.
pub const WINDOW_SECONDS: std::ops::RangeInclusive<u64> = 60..=24 * 3600;

/// What a stronger factor is called, how fresh it must be and how it is asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StepUpSettings {
    /// The `acr` value that means a second factor; WSO2's script maps it to the second step.
    pub acr: String,
    /// The greatest age of the authentication that is accepted, in seconds (`max_age`).
    pub max_age_seconds: u64,
    /// Authenticators of WSO2 that count as a stronger factor, by the names that it writes into `amr` and into the steps
    /// of a login.
    pub amr_values: Vec<String>,
    /// How it is asked for at the authorize door, unless an application says otherwise.
    pub style: Style,
    /// What becomes of a request whose parameters cannot be changed: signed or pushed.
    pub fixed_requests: FixedRequests,
    /// What becomes of a user who has no second factor, unless an application says otherwise.
    pub without_factor: WithoutFactor,
    /// Further `acr` values in an ID token that prove a second factor.
    pub accepted_acr: Vec<String>,
    /// The origin under which WSO2 issues tokens (`https://host`), where it is not to be learnt from WSO2 itself.
    pub issuer: Option<String>,
    /// For how long a browser owes a demand, in seconds.
    pub browser_seconds: u64,
    /// For how long a source owes a demand, in seconds.
    pub source_seconds: u64,
    /// For how long a user owes a demand, in seconds.
    pub user_seconds: u64,
    /// Challenges of one user within ten minutes from devices that are not known to be theirs; then they are refused.
    pub challenges_max: u8,
    /// How often a browser is sent to the authorize endpoint within five minutes; then it gets a page.
    pub redirects_max: u8,
    /// What holds for single applications.
    pub applications: Vec<ApplicationStepUp>,
}

/// What holds for one application.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ApplicationStepUp {
    /// The client id.
    pub client_id: String,
    /// The tenant; any when absent.
    pub tenant: Option<String>,
    /// The style; the general one when absent.
    pub style: Option<Style>,
    /// By what it proves that the factor was given; when absent by what it is given: an ID token or a SAML assertion.
    pub proof: Option<ProofKind>,
    /// What becomes of a user who has no second factor; the general rule when absent.
    pub without_factor: Option<WithoutFactor>,
}

/// How a stronger factor is asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// The browser is sent to the same URL with the demand added.
    #[default]
    Redirect,
    /// The demand is added to the request that is forwarded.
    Rewrite,
    /// Only the verdict header says it; WSO2's script decides.
    Header,
    /// riskgate itself is a step of the application.
    Action,
}

/// By what an application proves that a factor was given.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// The ID token that WSO2 signs.
    IdToken,
    /// The AuthnContext of the SAML assertion.
    Saml,
    /// The authenticated call of riskgate's own step.
    Action,
    /// By nothing: then nothing can be enforced.
    None,
}

/// What becomes of a user who has no second factor when one is demanded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum WithoutFactor {
    /// One may be enrolled from a device that is known to be the user's; from others the login is held for review.
    #[default]
    EnrolFromKnownDevice,
    /// The login is held for review.
    Review,
    /// The login is refused.
    Block,
}

/// What becomes of a request that cannot be changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum FixedRequests {
    /// It goes on with the verdict header.
    #[default]
    Header,
    /// It is refused.
    Refuse,
}

impl Default for StepUpSettings {
    fn default() -> Self {
        Self {
            acr: "urn:riskgate:acr:mfa".to_owned(),
            max_age_seconds: 300,
            amr_values: [
                "totp",
                "email-otp-authenticator",
                "sms-otp-authenticator",
                "FIDOAuthenticator",
            ]
            .map(str::to_owned)
            .to_vec(),
            style: Style::default(),
            fixed_requests: FixedRequests::default(),
            without_factor: WithoutFactor::default(),
            accepted_acr: Vec::new(),
            issuer: None,
            browser_seconds: 600,
            source_seconds: 600,
            user_seconds: 1_800,
            challenges_max: 3,
            redirects_max: 2,
            applications: Vec::new(),
        }
    }
}

/// What WSO2 (names of authenticators, and of grants without a login) and RFC 8176 write into `amr` where nothing but a
/// password, or less, was shown.
const NO_FACTORS: [&str; 16] = [
    "BasicAuthenticator",
    "BasicAuthRequestPathAuthenticator",
    "IdentifierExecutor",
    "JWTBasicAuthenticator",
    "OAuthRequestPathAuthenticator",
    "SessionExecutor",
    "authorization_code",
    "client_credentials",
    "implicit",
    "kba",
    "passwd",
    "password",
    "pwd",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];

impl StepUpSettings {
    /// Whether the authenticator with this name is a stronger factor.
    pub fn is_strong_method(&self, name: &str) -> bool {
        self.amr_values.iter().any(|strong| strong == name)
    }

    /// For how long a demand holds.
    pub fn window(&self, scope: DemandScope) -> Duration {
        let seconds = match scope {
            DemandScope::Browser => self.browser_seconds,
            DemandScope::Source => self.source_seconds,
            DemandScope::User => self.user_seconds,
        };
        Duration::from_secs(seconds.clamp(*WINDOW_SECONDS.start(), *WINDOW_SECONDS.end()))
    }

    /// What is said of an application; an entry with a tenant stands over one without.
    pub fn application(&self, tenant: &str, client_id: &str) -> Option<&ApplicationStepUp> {
        let tenant = if tenant.is_empty() {
            SUPER_TENANT
        } else {
            tenant
        };
        let covers = |entry: &&ApplicationStepUp| {
            let own = entry.tenant.as_deref();
            entry.client_id == client_id && own.is_none_or(|own| own.eq_ignore_ascii_case(tenant))
        };
        self.applications
            .iter()
            .filter(covers)
            .max_by_key(|entry| entry.tenant.is_some())
    }

    /// The style for an application.
    pub fn style(&self, tenant: &str, client_id: &str) -> Style {
        self.application(tenant, client_id)
            .and_then(|entry| entry.style)
            .unwrap_or(self.style)
    }

    /// By what an application proves, where that is said.
    pub fn proof(&self, tenant: &str, client_id: &str) -> Option<ProofKind> {
        self.application(tenant, client_id)
            .and_then(|entry| entry.proof)
    }

    /// Whether what was reached, as the identity server says it in an ID token, is a stronger factor: one of our `acr`
    /// values, or a method that counts as one.
    pub fn is_reached(&self, acr: Option<&str>, amr: &[String]) -> bool {
        let mut accepted = std::iter::once(&self.acr).chain(&self.accepted_acr);
        accepted.any(|known| acr == Some(known.as_str()))
            || amr.iter().any(|method| self.amr_values.contains(method))
    }

    /// What becomes of a user of an application who has no second factor.
    pub fn without_factor(&self, tenant: &str, client_id: &str) -> WithoutFactor {
        self.application(tenant, client_id)
            .and_then(|entry| entry.without_factor)
            .unwrap_or(self.without_factor)
    }

    /// What is wrong with these settings, each with its key, what was found and what is expected.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, seconds) in [
            ("browser_seconds", self.browser_seconds),
            ("source_seconds", self.source_seconds),
            ("user_seconds", self.user_seconds),
        ] {
            if !WINDOW_SECONDS.contains(&seconds) {
                problems.push(format!(
                    "{key}: {seconds}, expected {} to {} seconds",
                    WINDOW_SECONDS.start(),
                    WINDOW_SECONDS.end()
                ));
            }
        }
        for (key, count) in [
            ("challenges_max", self.challenges_max),
            ("redirects_max", self.redirects_max),
        ] {
            if count == 0 || count > 100 {
                problems.push(format!("{key}: {count}, expected 1 to 100"));
            }
        }
        if self.acr.is_empty() || self.acr.chars().any(|c| !c.is_ascii_graphic()) {
            problems.push("acr: expected printable ASCII without spaces".to_owned());
        }
        for (key, words) in [
            ("amr_values", &self.amr_values),
            ("accepted_acr", &self.accepted_acr),
        ] {
            // An empty one would be proved by a token that says nothing.
            if words.iter().any(|word| word.trim().is_empty()) {
                problems.push(format!("{key}: has an empty entry; name it, or remove it"));
            }
        }
        for word in &self.amr_values {
            if NO_FACTORS
                .iter()
                .any(|weak| weak.eq_ignore_ascii_case(word.trim()))
            {
                problems.push(format!(
                    "amr_values: `{word}` is what every login with a password has, so that it would prove the stronger factor; remove it"
                ));
            }
        }
        for (place, entry) in self.applications.iter().enumerate() {
            let tenant =
                |of: &ApplicationStepUp| of.tenant.as_ref().map(|it| it.to_ascii_lowercase());
            let same = |other: &ApplicationStepUp| {
                other.client_id == entry.client_id && tenant(other) == tenant(entry)
            };
            for (key, is_empty) in [
                ("client_id", entry.client_id.is_empty()),
                ("tenant", entry.tenant.as_deref() == Some("")),
            ] {
                if is_empty {
                    problems.push(format!(
                        "applications[{place}].{key}: empty, so that it is for nobody; name one, or remove it"
                    ));
                }
            }
            if self.applications.iter().take(place).any(same) {
                problems.push(format!(
                    "applications[{place}].client_id: `{}` is there twice, keep one of the two",
                    entry.client_id
                ));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_or_a_method_reaches_it() {
        let settings = StepUpSettings {
            acr: "mfa".to_owned(),
            accepted_acr: vec!["also".to_owned()],
            amr_values: vec!["totp".to_owned()],
            ..StepUpSettings::default()
        };
        let password = ["BasicAuthenticator".to_owned()];
        let both = ["BasicAuthenticator".to_owned(), "totp".to_owned()];
        for (acr, amr, reached) in [
            (Some("mfa"), &password[..], true),
            (Some("also"), &[], true),
            (Some("other"), &password, false),
            (None, &both, true),
            (None, &password, false),
            (None, &[], false),
        ] {
            assert_eq!(settings.is_reached(acr, amr), reached, "{acr:?} {amr:?}");
        }
    }

    #[test]
    fn a_password_is_no_stronger_factor() {
        for weak in ["BasicAuthenticator", "pwd", " Password ", "refresh_token"] {
            let settings = StepUpSettings {
                amr_values: vec!["totp".to_owned(), weak.to_owned()],
                ..StepUpSettings::default()
            };
            let problems = settings.problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with(&format!("amr_values: `{weak}` is what")),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn settings_that_are_for_nobody_or_stand_twice_are_named() {
        let entry = |client_id: &str, tenant: Option<&str>| ApplicationStepUp {
            client_id: client_id.to_owned(),
            tenant: tenant.map(str::to_owned),
            style: None,
            proof: None,
            without_factor: None,
        };
        let settings = StepUpSettings {
            accepted_acr: vec![String::new()],
            applications: vec![
                entry("shop", Some("acme.com")),
                entry("shop", Some("Acme.COM")),
                entry("", None),
                entry("shop", Some("")),
            ],
            ..StepUpSettings::default()
        };
        let problems = settings.problems();
        let begins = [
            "accepted_acr: has an empty entry",
            "applications[1].client_id: `shop` is there twice",
            "applications[2].client_id: empty",
            "applications[3].tenant: empty",
        ];
        assert_eq!(problems.len(), begins.len(), "{problems:?}");
        for (problem, begin) in problems.iter().zip(begins) {
            assert!(problem.starts_with(begin), "{problem}");
        }
        assert!(StepUpSettings::default().problems().is_empty());
    }
}
