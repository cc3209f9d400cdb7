//! Whose fault a failure is. Every error that reaches an edge is sorted by this and turned into a response in one place.

/// Who caused a failure.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// The request cannot be accepted: a 4xx.
    Client,
    /// The state, the model or a database did not answer: never an error towards the client.
    Dependency,
    /// A bug or a wrong configuration: a 500.
    Ours,
    /// The identity server did not answer or answered nonsense: a 502 or 504.
    Upstream,
}

impl Fault {
    /// The name in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Dependency => "dependency",
            Self::Ours => "ours",
            Self::Upstream => "upstream",
        }
    }
}
