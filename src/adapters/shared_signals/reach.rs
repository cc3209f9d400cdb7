//! Where each receiver is, what it is shown, and by which token it is known: exchanged while events wait, which notice nothing.

use super::Delivery;
use super::SignalSettings;
use crate::adapters::courier::CourierError;
use crate::adapters::courier::CurrentLine;
use crate::adapters::courier::Line;
use crate::domain::bearer_token::BearerToken;
use crate::domain::secret::Secret;
use crate::flow::ports::SignalOutbox;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The receivers that there are, by name.
#[derive(Clone, Debug, Default)]
pub struct Reach(BTreeMap<String, Known>);

/// Where something is exchanged for one of them.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Where tokens are sent, and the value of `Authorization`.
    Push(CurrentLine<Option<Secret<String>>>),
    /// What its token opens.
    Poll(Arc<dyn SignalOutbox>),
    /// Where plain JSON is sent, and what signs it.
    Webhook(CurrentLine<Secret<Vec<u8>>>),
}

/// What is ready to be exchanged.
#[derive(Debug, Default)]
pub struct Prepared {
    pushes: Vec<Exchange<Option<Secret<String>>>>,
    webhooks: Vec<Exchange<Secret<Vec<u8>>>>,
    outboxes: Vec<(BearerToken, Arc<dyn SignalOutbox>)>,
}

/// A line, and where it goes.
type Exchange<S> = (CurrentLine<S>, Line<S>);

impl Reach {
    pub(super) fn add(&mut self, name: String, known: Known) {
        self.0.insert(name, known);
    }

    /// What `settings` say of the same receivers, told in the same ways.
    ///
    /// # Errors
    /// See [`CourierError`].
    pub fn prepare(&self, settings: SignalSettings) -> Result<Prepared, CourierError> {
        let mut prepared = Prepared::default();
        for receiver in settings.receivers {
            match (self.0.get(&receiver.name), receiver.delivery) {
                (
                    Some(Known::Push(current)),
                    Delivery::Push {
                        destination,
                        authorization,
                        ..
                    },
                ) => {
                    let line = Line::new(destination, authorization)?;
                    prepared.pushes.push((Arc::clone(current), line));
                }
                (
                    Some(Known::Webhook(current)),
                    Delivery::Webhook {
                        destination,
                        secret,
                    },
                ) => {
                    let line = Line::new(destination, secret)?;
                    prepared.webhooks.push((Arc::clone(current), line));
                }
                (Some(Known::Poll(outbox)), Delivery::Poll { token, .. }) => {
                    prepared.outboxes.push((token, Arc::clone(outbox)));
                }
                // Others are not there before a restart.
                _ => {}
            }
        }
        Ok(prepared)
    }
}

impl Prepared {
    /// Exchanges where and with what is sent; what is fetched, and by which tokens from now on.
    pub fn take(self) -> Vec<(BearerToken, Arc<dyn SignalOutbox>)> {
        for (current, line) in self.pushes {
            current.store(Arc::new(line));
        }
        for (current, line) in self.webhooks {
            current.store(Arc::new(line));
        }
        self.outboxes
    }
}
