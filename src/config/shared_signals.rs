//! `[shared_signals]`: which other products are told of users' risk and sessions.

use crate::domain::policy::decision::Mode;
use crate::domain::shared_signal::SignalKind;
use serde::Deserialize;
use std::path::PathBuf;

/// `[shared_signals]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SharedSignalSettings {
    /// Who says so: the address of this gateway as receivers know it. Needed where there is a receiver.
    pub issuer: Option<String>,
    /// The modes whose decisions change the level that is told.
    pub modes: Vec<Mode>,
    /// Who is told.
    pub receivers: Vec<ReceiverSettings>,
}

/// One `[[shared_signals.receivers]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ReceiverSettings {
    /// Its name, for metrics and the log.
    pub name: String,
    /// Where events go: `https://`, or `http://` and an address of loopback.
    pub url: String,
    /// A file with the value of `Authorization` that the receiver wants.
    pub authorization_file: Option<PathBuf>,
    /// Certificates of the authority that signed the receiver's certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// What the receiver calls itself (`aud`).
    pub audience: String,
    /// What it is told of; everything when absent.
    #[serde(default = "every_kind")]
    pub events: Vec<SignalKind>,
}

impl Default for SharedSignalSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            modes: vec![Mode::Advise, Mode::Enforce],
            receivers: Vec::new(),
        }
    }
}

fn every_kind() -> Vec<SignalKind> {
    SignalKind::ALL.to_vec()
}
