//! Why a request is refused before anything is scored. Degradation of scoring is a value and never one of these.

use crate::domain::fault::Fault;

/// A request that cannot be admitted. Status and code are all that the client and the record learn.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The name in records and metrics, from a bounded set.
    pub code: &'static str,
    /// For the client: names what is wrong, repeats nothing.
    pub message: String,
    /// The methods that would have been right, for a 405.
    pub allow: Option<String>,
    /// Whether the connection must not be used again, because its framing is in doubt or bytes are left on it.
    pub close: bool,
}

impl Refusal {
    /// A refusal that keeps the connection.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            allow: None,
            close: false,
        }
    }

    /// A refusal after which the connection is closed.
    pub fn closing(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            close: true,
            ..Self::new(status, code, message)
        }
    }

    /// Whose fault it is: always the client's.
    pub fn fault(&self) -> Fault {
        Fault::Client
    }
}
