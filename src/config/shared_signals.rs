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
    /// How events come to it.
    #[serde(default)]
    pub delivery: Delivery,
    /// Where they are sent: `https://`, or `http://` and an address of loopback.
    pub url: Option<String>,
    /// A file with the value of `Authorization` that the receiver wants.
    pub authorization_file: Option<PathBuf>,
    /// A file with the token by which a receiver that polls is known.
    pub token_file: Option<PathBuf>,
    /// A file with the secret that signs events in plain JSON, at least 32 bytes.
    pub secret_file: Option<PathBuf>,
    /// Certificates of the authority that signed the receiver's certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// What the receiver calls itself (`aud`); in plain JSON nothing says so.
    pub audience: Option<String>,
    /// How users are named to it.
    #[serde(default)]
    pub subject: SubjectFormat,
    /// The client by whose ID tokens it knows them.
    pub client_id: Option<String>,
    /// What it is told of; everything when absent.
    #[serde(default = "every_kind")]
    pub events: Vec<SignalKind>,
}

/// How events come to a receiver.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// As tokens that are sent to it (RFC 8935).
    #[default]
    Push,
    /// As tokens that it fetches (RFC 8936).
    Poll,
    /// In plain JSON that is sent to it.
    Webhook,
}

/// How users are named to a receiver (RFC 9493).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum SubjectFormat {
    /// By their pseudonym.
    #[default]
    Opaque,
    /// As the identity server names them to a client.
    IssSub,
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
