//! What the gateway serves as a transmitter of shared signals: what it says of itself, and whose outbox a token opens.

use crate::domain::bearer_token::BearerToken;
use crate::flow::ports::SignalOutbox;
use http::HeaderMap;
use http::header;
use std::sync::Arc;

/// What a transmitter publishes.
#[derive(Debug)]
pub struct Published {
    metadata: String,
    outboxes: Vec<(BearerToken, Arc<dyn SignalOutbox>)>,
}

/// Why no outbox is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoOutbox {
    /// No credentials are shown.
    Missing,
    /// They are nobody's, or not one.
    Wrong,
}

impl Published {
    /// What it says of itself (JSON), and outboxes for whoever shows their tokens.
    pub fn new(metadata: String, outboxes: Vec<(BearerToken, Arc<dyn SignalOutbox>)>) -> Self {
        Self { metadata, outboxes }
    }

    /// What it says of itself: JSON.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Whether anything can be fetched.
    pub fn is_polled(&self) -> bool {
        !self.outboxes.is_empty()
    }

    /// The outbox of whoever sends these headers.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn outbox(&self, headers: &HeaderMap) -> Result<&dyn SignalOutbox, NoOutbox> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let value = match (shown.next(), shown.next()) {
            (None, _) => return Err(NoOutbox::Missing),
            // Which of two counts would be a matter of taste.
            (Some(_), Some(_)) => return Err(NoOutbox::Wrong),
            (Some(value), None) => value.to_str().map_err(|_| NoOutbox::Wrong)?,
        };
        // All of them are compared: how long it takes says nothing of whose it might be.
        let found = self.outboxes.iter().fold(None, |found, (token, outbox)| {
            let known = token.admits(value).then_some(outbox);
            found.or(known)
        });
        found.map(AsRef::as_ref).ok_or(NoOutbox::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::shared_signal::poll::PollAnswer;
    use crate::domain::shared_signal::poll::PollRequest;
    use async_trait::async_trait;
    use http::HeaderValue;

    struct Named(&'static str);

    impl std::fmt::Debug for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    #[async_trait]
    impl SignalOutbox for Named {
        async fn poll(&self, _request: &PollRequest) -> PollAnswer {
            PollAnswer::default()
        }
    }

    fn opened(shown: &[&str]) -> Result<String, NoOutbox> {
        let of = |letter: &str, name| {
            let outbox: Arc<dyn SignalOutbox> = Arc::new(Named(name));
            (BearerToken::parse(&letter.repeat(32)).unwrap(), outbox)
        };
        let outboxes = vec![of("a", "orders"), of("b", "siem")];
        let published = Published::new("{}".to_owned(), outboxes);
        let mut headers = HeaderMap::new();
        for value in shown {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(header::AUTHORIZATION, value);
        }
        let outbox = published.outbox(&headers);
        outbox.map(|outbox| format!("{outbox:?}"))
    }

    #[test]
    fn each_token_opens_its_own_outbox_and_nothing_else_opens_one() {
        let of = |letter: &str| format!("Bearer {}", letter.repeat(32));
        assert_eq!(opened(&[&of("a")]).unwrap(), "orders");
        assert_eq!(opened(&[&of("b")]).unwrap(), "siem");
        assert_eq!(opened(&[]), Err(NoOutbox::Missing));
        for wrong in [
            vec![of("c")],
            vec![of("A")],
            vec![String::new()],
            vec!["Bearer".to_owned()],
            vec!["a".repeat(32)],
            vec![format!("Basic {}", "a".repeat(32))],
            vec![of("a") + "a"],
            vec![of("ä")],
            vec![of("a"), of("a")],
            vec![of("c"), of("a")],
        ] {
            let shown: Vec<&str> = wrong.iter().map(String::as_str).collect();
            assert_eq!(opened(&shown), Err(NoOutbox::Wrong), "{wrong:?}");
        }
    }
}
