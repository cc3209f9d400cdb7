//! How a stronger factor is asked for: what it is called, how fresh it must be, and for how long it is owed.

use crate::domain::demand::DemandScope;
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
    /// For how long a browser owes a demand, in seconds.
    pub browser_seconds: u64,
    /// For how long a source owes a demand, in seconds.
    pub source_seconds: u64,
    /// For how long a user owes a demand, in seconds.
    pub user_seconds: u64,
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
            browser_seconds: 600,
            source_seconds: 600,
            user_seconds: 1_800,
        }
    }
}

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
        if self.acr.is_empty() || self.acr.chars().any(|c| !c.is_ascii_graphic()) {
            problems.push("acr: expected printable ASCII without spaces".to_owned());
        }
        problems
    }
}
