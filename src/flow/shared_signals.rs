//! What the gateway serves as a transmitter of shared signals: what it says of itself, and whose outbox a token opens. And how
//! users are called by those who are told of them.

use crate::domain::bearer_token::BearerToken;
use crate::domain::id_token::Claimed;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::IssuedTokens;
use crate::domain::route::Door;
use crate::domain::shared_signal::Named;
use crate::flow::Dependencies;
use crate::flow::exchange::Exchange;
use crate::flow::ports::SignalOutbox;
use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Users whose names are remembered, for all clients together. For one there are some 300 bytes.
const NAMES_MAX: u64 = 100_000;
/// How long a name is remembered after the latest token that said it.
const NAME_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest issuer, and the longest name, in bytes.
const NAME_BYTES_MAX: usize = 500;
/// The grants at which the ID token is about the user whom the decision was about, and no other.
const GRANTS: [&str; 5] = [
    "authorization_code",
    "password",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:openid:params:grant-type:ciba",
];

/// What a transmitter publishes; nothing, where nobody is told.
#[derive(Debug, Default)]
pub struct Published {
    said: ArcSwap<Said>,
    names: Names,
}

/// What of it a reload exchanges, as one.
#[derive(Debug, Default)]
pub struct Said {
    /// What it says of itself: JSON.
    pub metadata: Option<String>,
    /// What can be fetched, by whoever shows which token.
    pub outboxes: Vec<(BearerToken, Arc<dyn SignalOutbox>)>,
    /// Clients whose users are to be named.
    pub clients: BTreeSet<String>,
}

/// How the identity server names users to clients whose receivers know them so: by its own word in ID tokens that it has just
/// issued. In memory alone; nothing at all where no receiver asks for it.
struct Names {
    users: Cache<(String, String), Named>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
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
    /// This is published from now on, and nothing else.
    pub fn take(&self, said: Said) {
        let said = Arc::new(said);
        let before = self.said.swap(Arc::clone(&said));
        if !before.clients.is_subset(&said.clients) {
            self.names.keep(&said.clients);
        }
    }

    /// How a client knows the user with this pseudonym.
    pub fn name(&self, client: &str, subject: &str) -> Option<Named> {
        self.names
            .users
            .get(&(client.to_owned(), subject.to_owned()))
    }

    /// What it says of itself, where somebody is told: JSON.
    pub fn metadata(&self) -> Option<String> {
        self.said.load().metadata.clone()
    }

    /// Whether anything can be fetched.
    pub fn is_polled(&self) -> bool {
        !self.said.load().outboxes.is_empty()
    }

    /// The outbox of whoever sends these headers.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn outbox(&self, headers: &HeaderMap) -> Result<Arc<dyn SignalOutbox>, NoOutbox> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let value = match (shown.next(), shown.next()) {
            (None, _) => return Err(NoOutbox::Missing),
            // Which of two counts would be a matter of taste.
            (Some(_), Some(_)) => return Err(NoOutbox::Wrong),
            (Some(value), None) => value.to_str().map_err(|_| NoOutbox::Wrong)?,
        };
        // All of them are compared: how long it takes says nothing of whose it might be.
        let said = self.said.load();
        let found = said.outboxes.iter().fold(None, |found, (token, outbox)| {
            let known = token.admits(value).then_some(outbox);
            found.or(known)
        });
        found.map(Arc::clone).ok_or(NoOutbox::Wrong)
    }
}

impl Default for Names {
    fn default() -> Self {
        let users = Cache::builder()
            .max_capacity(NAMES_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(NAME_TTL)
            .build();
        Self { users }
    }
}

impl Names {
    /// Forgets what other clients call users.
    fn keep(&self, clients: &BTreeSet<String>) {
        for (key, _) in &self.users {
            if !clients.contains(&key.0) {
                self.users.invalidate(&*key);
            }
        }
    }

    /// Takes in what the identity server has just issued to `client` for the user with this pseudonym.
    fn note(&self, client: &str, grant: &str, subject: &str, token: &str) {
        let claimed = Claimed::read(token);
        let is_for = claimed.audience.iter().any(|audience| audience == client);
        if !is_for || !GRANTS.contains(&grant) {
            return;
        }
        let fits = |text: &String| (1..=NAME_BYTES_MAX).contains(&text.len());
        let names = claimed
            .issuer
            .filter(fits)
            .zip(claimed.subject.filter(fits));
        if let Some((iss, sub)) = names {
            let key = (client.to_owned(), subject.to_owned());
            self.users.insert(key, Named { iss, sub });
        }
    }
}

/// The identity server has answered a token request with `body`. Costs nothing where no name is asked for.
pub(in crate::flow) fn issued(dependencies: &Dependencies, exchange: &Exchange, body: &[u8]) {
    let said = dependencies.transmitter.said.load();
    if said.clients.is_empty() {
        return;
    }
    let Some(assessed) = exchange.assessed.as_ref() else {
        return;
    };
    if exchange.door != Some(Door::Token) || exchange.outcome != AuthOutcome::TokensIssued {
        return;
    }
    let link = assessed.provenance.as_deref();
    let client = assessed.signals.client_id.as_deref();
    let client = client.or_else(|| link.and_then(|link| link.application.as_deref()));
    let client = client.filter(|client| said.clients.contains(*client));
    let grant = assessed.facts.grant_type.as_deref();
    if let (Some(client), Some(grant), Some(subject)) = (client, grant, assessed.subject())
        && let Some(token) = IssuedTokens::read(body).and_then(|tokens| tokens.id_token)
    {
        let names = &dependencies.transmitter.names;
        names.note(client, grant, &subject.to_string(), &token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::shared_signal::poll::PollAnswer;
    use crate::domain::shared_signal::poll::PollRequest;
    use async_trait::async_trait;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderValue;

    struct Lettered(&'static str);

    impl std::fmt::Debug for Lettered {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    #[async_trait]
    impl SignalOutbox for Lettered {
        async fn poll(&self, _request: &PollRequest) -> PollAnswer {
            PollAnswer::default()
        }
    }

    fn opened(shown: &[&str]) -> Result<String, NoOutbox> {
        let of = |letter: &str, name| {
            let outbox: Arc<dyn SignalOutbox> = Arc::new(Lettered(name));
            (BearerToken::parse(&letter.repeat(32)).unwrap(), outbox)
        };
        let outboxes = vec![of("a", "orders"), of("b", "siem")];
        let published = Published::default();
        published.take(Said {
            outboxes,
            ..Said::default()
        });
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

    #[test]
    fn a_name_is_the_word_of_an_id_token_for_that_client() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let names = Names::default();
        let code = "authorization_code";
        let good = token("{\"iss\":\"https://is\",\"sub\":\"alice\",\"aud\":[\"x\",\"app\"]}");
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let name = |names: &Names| names.users.get(&("app".to_owned(), "9f0c".to_owned()));
        for (grant, wrong) in [
            (
                "urn:ietf:params:oauth:grant-type:token-exchange",
                good.clone(),
            ),
            ("client_credentials", good.clone()),
            (code, "no token".to_owned()),
            (
                code,
                token("{\"iss\":\"https://is\",\"sub\":\"alice\",\"aud\":\"x\"}"),
            ),
            (code, token("{\"iss\":\"https://is\",\"aud\":\"app\"}")),
            (code, token("{\"sub\":\"alice\",\"aud\":\"app\"}")),
            (
                code,
                token("{\"iss\":\"https://is\",\"sub\":\"\",\"aud\":\"app\"}"),
            ),
            (
                code,
                token(&format!(
                    "{{\"iss\":\"https://is\",\"sub\":\"{long}\",\"aud\":\"app\"}}"
                )),
            ),
        ] {
            names.note("app", grant, "9f0c", &wrong);
            assert_eq!(name(&names), None, "{grant} {wrong}");
        }
        names.note("app", code, "9f0c", &good);
        let known = name(&names).unwrap();
        assert_eq!(
            (known.iss.as_str(), known.sub.as_str()),
            ("https://is", "alice")
        );
        assert!(!format!("{names:?}").contains("alice"));
        // It is forgotten with the receiver that asks for it, and no other is.
        names.note("app", code, "71ab", &good);
        names.keep(&BTreeSet::from(["app".to_owned()]));
        assert!(name(&names).is_some());
        names.keep(&BTreeSet::from(["x".to_owned()]));
        assert_eq!(name(&names), None);
    }
}
