//! What becomes of the identity server's answer: it passes, with cookies of ours added, or another one goes out in its
//! place. The edge carries it out; nothing here writes.

use crate::domain::enforcement::Rejection;
use crate::domain::enforcement::RejectionKind;

/// What the edge does with an answer whose head has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnswerPlan {
    /// Values of Set-Cookie headers to add, also to an answer that replaces.
    pub cookies: Vec<String>,
    /// What goes out in its place; the identity server's own head and body are dropped.
    pub replace: Option<Replacement>,
}

/// An answer in place of the identity server's: nothing of that one reaches the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Replacement {
    /// A refusal in the form of the door.
    Reject(Rejection),
    /// A redirect (303) to the page on which a held login waits.
    Held {
        /// The page.
        page: String,
        /// The Set-Cookie value that binds the browser, where it holds no such cookie yet.
        cookie: Option<String>,
    },
    /// A redirect (302) to this address.
    Redirect(String),
    /// A page that posts these fields to this address by itself.
    Post {
        /// The address.
        action: String,
        /// Names and values.
        fields: Vec<(String, String)>,
    },
}

impl AnswerPlan {
    /// The answer is dropped and this goes out.
    pub fn replaced(replacement: Replacement) -> Self {
        Self {
            cookies: Vec::new(),
            replace: Some(replacement),
        }
    }
}

impl Replacement {
    /// The action as it is written in records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Reject(rejection) => rejection.kind.as_str(),
            Self::Held { .. } => RejectionKind::Held.as_str(),
            Self::Redirect(_) | Self::Post { .. } => "withheld",
        }
    }
}
