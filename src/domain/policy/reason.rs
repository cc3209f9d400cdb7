//! Why: the closed list of reason codes. A code is forever; a new behaviour gets a new code.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;

macro_rules! reasons {
    ($($variant:ident, $code:literal, $sentence:literal;)+) => {
        /// One reason of a score or a decision.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = $sentence] #[serde(rename = $code)] $variant),+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            /// The code, as it is written everywhere.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code),+ }
            }

            /// The reason in words.
            pub fn sentence(self) -> &'static str {
                match self { $(Reason::$variant => $sentence),+ }
            }
        }
    };
}

reasons! {
    // From the model's contributions.
    AccountUnderAttack, "account_under_attack", "many failed attempts on this account lately";
    AgentVelocity, "agent_velocity", "many failures from this browser and TLS fingerprint lately";
    AnonymizingNetwork, "anonymizing_network", "the network is a VPN, a data centre or a Tor exit";
    ClientChanged, "client_changed", "another program than the one that the token was issued to";
    ConcurrentCountry, "concurrent_country", "a new country soon after the last login";
    CredentialStuffing, "credential_stuffing", "many usernames tried from this address lately";
    DistantFromIssue, "distant_from_issue", "far from where the token was issued";
    DistantLocation, "distant_location", "far from every place this account has used";
    DormantAccount, "dormant_account", "the account was not used for long";
    HiddenParameters, "hidden_parameters", "the request's parameters could not be seen";
    ImpossibleTravel, "impossible_travel", "faster than travel allows since the last login";
    IpVelocity, "ip_velocity", "many failures from this address lately";
    KeyChanged, "key_changed", "the proof-of-possession key is missing or another one than at issue";
    ManyAddresses, "many_addresses", "many addresses tried this account lately";
    ManyNetworks, "many_networks", "the token was used from many networks lately";
    NetworkVelocity, "network_velocity", "many failures from this network lately";
    NewAccount, "new_account", "little is known of this account";
    PublicClient, "public_client", "the client does not authenticate itself";
    RareAgent, "rare_agent", "hardly anybody uses this browser here";
    RareLanguage, "rare_language", "hardly anybody here has this language set";
    RareCountry, "rare_country", "hardly anybody logs in from this country";
    RareNetwork, "rare_network", "hardly anybody logs in from this network";
    RiskyLogin, "risky_login", "the login behind the token was risky";
    ScopeWidened, "scope_widened", "more is asked for than at login";
    ScriptedAgent, "scripted_agent", "the client is a program and not a browser";
    TenantUnderAttack, "tenant_under_attack", "an unusual share of this tenant's logins fails";
    TlsMismatch, "tls_mismatch", "the TLS handshake does not fit the browser named";
    TokenReused, "token_reused", "a code or token that was used up before";
    TokenVelocity, "token_velocity", "the token was used many times lately";
    TrustedAddress, "trusted_address", "many accounts are at home at this address";
    UnfamiliarAddress, "unfamiliar_address", "an address that this account has not used";
    UnfamiliarAgent, "unfamiliar_agent", "a browser or system that this account has not used";
    UnfamiliarCountry, "unfamiliar_country", "a country that this account has not used";
    UnfamiliarDevice, "unfamiliar_device", "a device that is not known for this account";
    UnfamiliarDeviceAndNetwork, "unfamiliar_device_and_network", "an unknown device on an unknown network";
    UnfamiliarLanguage, "unfamiliar_language", "a language that this account has not used";
    UnfamiliarNetwork, "unfamiliar_network", "a network that this account has not used";
    UnusualHour, "unusual_hour", "an hour at which this account does not log in";
    UnusualPace, "unusual_pace", "sooner after the last use than this token is used";
    UnusualRate, "unusual_rate", "more requests than this service account makes";
    UnusualScope, "unusual_scope", "scopes that this service account does not ask for";
    // From the decision.
    AssuranceInsufficient, "assurance_insufficient", "a stronger factor was demanded and not given";
    CodeMismatch, "code_mismatch", "the code or token was given to another client or tenant";
    CodeUnknown, "code_unknown", "the code or token was not issued through this gateway";
    RateLimited, "rate_limited", "too many requests from this source";
    ReviewReleased, "review_released", "an analyst has released this login";
    RiskHigh, "risk_high", "the score is high";
    RiskMedium, "risk_medium", "the score is medium";
    RuleMatched, "rule_matched", "a policy rule matched";
    ScoreUnavailable, "score_unavailable", "no score could be had";
    StateUnavailable, "state_unavailable", "the history could not be read";
    StepUpOutstanding, "step_up_outstanding", "this browser, source or account owes a stronger factor from before";
}

impl Reason {
    /// The reason with that code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_snake_case_and_found_again() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(
                reason
                    .code()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{reason}"
            );
        }
    }
}
