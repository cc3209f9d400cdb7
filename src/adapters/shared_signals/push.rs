//! Tokens that are sent to one receiver as they are (RFC 8935), one in a message.

use super::account::Account;
use crate::adapters::courier::Cargo;
use crate::adapters::courier::Parcel;
use crate::domain::alert::Receipt;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::REFUSAL_BYTES_MAX;
use crate::domain::shared_signal::SET_MEDIA_TYPE;
use crate::domain::shared_signal::Token;
use crate::domain::shared_signal::receipt;
use crate::domain::time::Timestamp;
use std::sync::Arc;

/// Tokens as messages.
pub(super) struct Push {
    pub(super) account: Arc<Account>,
}

impl Cargo for Push {
    type Item = Token;
    type Shown = Option<Secret<String>>;
    const BATCH_MAX: usize = 1;
    const ANSWER_BYTES_MAX: usize = REFUSAL_BYTES_MAX;

    fn pack(&self, items: &[Token]) -> Option<Parcel> {
        let token = items.first()?;
        Some(Parcel {
            id: token.id.clone(),
            body: token.text.clone().into_bytes(),
            lost: 0,
        })
    }

    fn fields(
        &self,
        authorization: &Option<Secret<String>>,
        _parcel: &Parcel,
        _now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("content-type", SET_MEDIA_TYPE.to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        fields.extend(
            authorization
                .as_ref()
                .map(|value| ("authorization", value.expose().clone())),
        );
        fields
    }

    fn receipt(&self, status: u16, answer: &[u8]) -> (Receipt, String) {
        receipt(status, answer)
    }

    fn taken(&self, items: &[Token], _parcel: &Parcel) {
        for token in items {
            self.account.delivered(token.kind);
        }
    }

    fn given_up(&self, items: &[Token], _parcel: &Parcel, why: &str) {
        for token in items {
            self.account.given_up(token.kind, why);
        }
    }
}
