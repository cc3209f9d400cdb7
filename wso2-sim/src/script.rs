//! A stand-in for the adaptive script of an application: it asks for the second factor when `acr_values` or the gateway's
//! header says so. As in WSO2 the header is read from the HTTP request of the moment, lower-case name, first value.

use crate::config::ScriptSettings;
use crate::request::Request;

/// Header in which a gateway says what to do.
const VERDICT_HEADER: &str = "x-risk-verdict";
/// Header whose absence says that no gateway was passed.
const STATUS_HEADER: &str = "x-risk-status";

/// The script of one application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script<'a> {
    pub(crate) settings: &'a ScriptSettings,
    pub(crate) is_on: bool,
    pub(crate) is_mfa_always: bool,
}

/// What follows a right password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AfterPassword {
    /// Refuse: the request did not come through the gateway.
    Fail,
    /// The login is complete.
    Finish,
    /// Ask for the second factor.
    StepTwo,
}

impl Script<'_> {
    /// `onLoginRequest`: whether the second factor is already certain when `/oauth2/authorize` arrives.
    pub(crate) fn demands_mfa_at_start(&self, acr_values: Option<&str>, request: &Request) -> bool {
        let is_asked = || {
            acr_values.is_some_and(|values| {
                values
                    .split_ascii_whitespace()
                    .any(|value| value == self.settings.acr_mfa)
            })
        };
        self.is_mfa_always || (self.is_on && (is_asked() || says_step_up(request)))
    }

    /// The success handler of step 1; `request` is the one that carried the password, or the session.
    pub(crate) fn after_password(&self, is_demanded: bool, request: &Request) -> AfterPassword {
        let has_status = request
            .header(STATUS_HEADER)
            .is_some_and(|value| !value.is_empty());
        if self.is_on && self.settings.requires_risk_status && !has_status {
            return AfterPassword::Fail;
        }
        if is_demanded || self.is_mfa_always || (self.is_on && says_step_up(request)) {
            AfterPassword::StepTwo
        } else {
            AfterPassword::Finish
        }
    }

    /// `selectedAcr`; without a script there is none.
    pub(crate) fn selected_acr(&self, has_second_factor: bool) -> Option<String> {
        self.is_on.then(|| {
            if has_second_factor {
                self.settings.acr_mfa.clone()
            } else {
                self.settings.acr_password.clone()
            }
        })
    }
}

fn says_step_up(request: &Request) -> bool {
    request.header(VERDICT_HEADER) == Some("step_up")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        Request {
            method: "GET".to_owned(),
            target: "/".to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Bytes::new(),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            client_certificate: None,
        }
    }

    #[test]
    fn the_first_verdict_header_wins_and_acr_values_are_a_list() {
        let settings = ScriptSettings::default();
        let script = Script {
            settings: &settings,
            is_on: true,
            is_mfa_always: false,
        };
        let twice = request(&[("X-Risk-Verdict", "allow"), ("x-risk-verdict", "step_up")]);
        assert_eq!(script.after_password(false, &twice), AfterPassword::Finish);
        let one = request(&[("X-RISK-VERDICT", "step_up")]);
        assert_eq!(script.after_password(false, &one), AfterPassword::StepTwo);
        assert!(script.demands_mfa_at_start(Some("a urn:riskgate:acr:mfa"), &request(&[])));
        assert!(!script.demands_mfa_at_start(Some("urn:riskgate:acr:mfa2"), &request(&[])));
    }

    #[test]
    fn without_a_script_neither_header_nor_acr_values_do_anything() {
        let settings = ScriptSettings {
            requires_risk_status: true,
            ..ScriptSettings::default()
        };
        let mut script = Script {
            settings: &settings,
            is_on: false,
            is_mfa_always: false,
        };
        let asks = request(&[("x-risk-verdict", "step_up")]);
        assert!(!script.demands_mfa_at_start(Some("urn:riskgate:acr:mfa"), &asks));
        assert_eq!(script.after_password(false, &asks), AfterPassword::Finish);
        assert_eq!(script.selected_acr(true), None);
        script.is_on = true;
        assert_eq!(script.after_password(false, &asks), AfterPassword::Fail);
    }
}
