//! Tokens that a receiver fetches (RFC 8936): what waits for it, what it asks for and acknowledges, what it is given. Time
//! and waiting are the caller's.

use crate::domain::shared_signal::Refusal;
use crate::domain::shared_signal::SignalKind;
use crate::domain::shared_signal::Token;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::VecDeque;

/// Tokens in one answer at most. One has some 900 bytes.
pub const GIVEN_MAX: usize = 100;

/// What a receiver asks for (section 2.2). What it says beside is passed over.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct PollRequest {
    /// Tokens that it takes at most; as many as there may be in an answer when absent.
    max_events: Option<u64>,
    /// Whether it is answered at once also when nothing is there for it.
    return_immediately: bool,
    /// Ids of tokens that it has taken.
    ack: Vec<String>,
    /// Ids of tokens that it does not take, and why.
    set_errs: BTreeMap<String, Refusal>,
}

/// It asks in another form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected one JSON object, with `maxEvents`, `returnImmediately`, `ack` and `setErrs` as in RFC 8936 section 2.2"
)]
pub struct PollError;

/// What a receiver is given (section 2.3).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PollAnswer {
    sets: Vec<(String, String)>,
    more: bool,
}

/// A token is done with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It was taken.
    Taken(SignalKind),
    /// It was refused, in these words.
    Refused(SignalKind, String),
}

/// Tokens that wait, the oldest first.
#[derive(Debug)]
pub struct Outbox {
    most: usize,
    tokens: VecDeque<Token>,
}

impl PollRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(body: &[u8]) -> Result<Self, PollError> {
        // A list of the members' values would be read as well.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(PollError);
        }
        serde_json::from_slice(body).map_err(|_| PollError)
    }

    /// How many tokens it may be given.
    pub fn most(&self) -> usize {
        let wanted = self.max_events.map(usize::try_from);
        wanted.map_or(GIVEN_MAX, |wanted| {
            wanted.unwrap_or(GIVEN_MAX).min(GIVEN_MAX)
        })
    }

    /// Whether it waits until there is something for it: who takes nothing only acknowledges.
    pub fn waits(&self) -> bool {
        !self.return_immediately && self.most() > 0
    }

    /// The same request once its word on earlier tokens is taken: it is answered at once, with what is there.
    pub fn at_once(&self) -> Self {
        Self {
            max_events: self.max_events,
            return_immediately: true,
            ..Self::default()
        }
    }
}

impl PollAnswer {
    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The body of the answer.
    pub fn json(self) -> String {
        let sets = self.sets.into_iter();
        let sets: Map<String, Value> = sets.map(|(id, text)| (id, text.into())).collect();
        json!({ "sets": sets, "moreAvailable": self.more }).to_string()
    }
}

impl Outbox {
    /// Room for `most` tokens.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            tokens: VecDeque::new(),
        }
    }

    /// Puts a token in. Where there is no room the oldest makes some, and is yielded: what is new matters more.
    pub fn put(&mut self, token: Token) -> Option<Token> {
        let oldest = (self.tokens.len() >= self.most)
            .then(|| self.tokens.pop_front())
            .flatten();
        self.tokens.push_back(token);
        oldest
    }

    /// Takes in what a receiver says of earlier tokens. What is not here any more, or never was, is no matter.
    pub fn settle(&mut self, request: &PollRequest) -> Vec<Settled> {
        let taken: HashSet<&str> = request.ack.iter().map(String::as_str).collect();
        let mut settled = Vec::new();
        self.tokens.retain(|token| {
            let word = if taken.contains(token.id.as_str()) {
                Some(Settled::Taken(token.kind))
            } else {
                let refusal = request.set_errs.get(&token.id);
                refusal.map(|refusal| Settled::Refused(token.kind, refusal.text()))
            };
            let stays = word.is_none();
            settled.extend(word);
            stays
        });
        settled
    }

    /// What a request is given: the oldest that wait. They stay until they are settled.
    pub fn give(&self, request: &PollRequest) -> PollAnswer {
        let most = request.most();
        let given = self.tokens.iter().take(most);
        PollAnswer {
            sets: given
                .map(|token| (token.id.clone(), token.text.clone()))
                .collect(),
            more: self.tokens.len() > most,
        }
    }

    /// All that wait.
    pub fn take(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.tokens).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> Token {
        Token {
            id: id.to_owned(),
            kind: SignalKind::SessionRevoked,
            text: format!("text of {id}"),
        }
    }

    fn outbox(ids: &[&str]) -> Outbox {
        let mut outbox = Outbox::new(3);
        for id in ids {
            assert_eq!(outbox.put(token(id)), None);
        }
        outbox
    }

    fn asked(text: &str) -> PollRequest {
        PollRequest::parse(text.as_bytes()).unwrap()
    }

    fn given(outbox: &Outbox, text: &str) -> Value {
        serde_json::from_str(&outbox.give(&asked(text)).json()).unwrap()
    }

    #[test]
    fn the_members_of_a_request_are_those_of_the_rfc() {
        let request = asked(
            " {\"maxEvents\": 5, \"returnImmediately\": true, \"ack\": [\"a\"], \"other\": [1],
               \"setErrs\": {\"b\": {\"err\": \"invalid_key\", \"description\": \"who?\"}}}",
        );
        assert_eq!((request.most(), request.waits()), (5, false));
        assert_eq!(request.ack, ["a"]);
        assert_eq!(request.set_errs["b"].err, "invalid_key");
        // Nothing is asked for: all that may be given, as soon as there is something.
        let request = asked("{}");
        assert_eq!((request.most(), request.waits()), (GIVEN_MAX, true));
        // Who takes nothing acknowledges alone.
        let request = asked("{\"maxEvents\": 0}");
        assert_eq!((request.most(), request.waits()), (0, false));
        assert_eq!(
            asked("{\"maxEvents\": 18446744073709551615}").most(),
            GIVEN_MAX
        );
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for text in [
            "",
            " ",
            "null",
            "[]",
            "[5, true, [], {}]",
            "\"ack\"",
            "{",
            "{}{}",
            "{\"maxEvents\": -1}",
            "{\"maxEvents\": 1.5}",
            "{\"maxEvents\": \"5\"}",
            "{\"maxEvents\": 18446744073709551616}",
            "{\"maxEvents\": 1, \"maxEvents\": 2}",
            "{\"returnImmediately\": 1}",
            "{\"ack\": \"a\"}",
            "{\"ack\": [1]}",
            "{\"ack\": {\"a\": 1}}",
            "{\"setErrs\": [\"a\"]}",
            "{\"setErrs\": {\"a\": \"no\"}}",
            "{\"setErrs\": {\"a\": {\"description\": \"no\"}}}",
        ] {
            assert_eq!(
                PollRequest::parse(text.as_bytes()),
                Err(PollError),
                "{text}"
            );
        }
        assert_eq!(PollRequest::parse(b"{\"ack\": [\"\xff\"]}"), Err(PollError));
        // What nobody reads may be nested as deeply as it likes: it needs no stack.
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(PollRequest::parse(deep.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_not_acknowledged_is_given_again() {
        let mut outbox = outbox(&["a", "b", "c"]);
        let all = json!({
            "sets": { "a": "text of a", "b": "text of b", "c": "text of c" }, "moreAvailable": false,
        });
        assert_eq!(given(&outbox, "{}"), all);
        assert_eq!(given(&outbox, "{}"), all);
        let two = given(&outbox, "{\"maxEvents\": 2}");
        assert_eq!(
            two,
            json!({ "sets": { "a": "text of a", "b": "text of b" }, "moreAvailable": true })
        );
        let none = given(&outbox, "{\"maxEvents\": 0}");
        assert_eq!(none, json!({ "sets": {}, "moreAvailable": true }));
        // Known or not, once or twice: what is acknowledged is gone.
        let settled = outbox.settle(&asked("{\"ack\": [\"b\", \"b\", \"zzz\"]}"));
        assert_eq!(settled, [Settled::Taken(SignalKind::SessionRevoked)]);
        let refused =
            asked("{\"setErrs\": {\"a\": {\"err\": \"x\\u001b[2J\", \"description\": \"no\"}}}");
        let settled = outbox.settle(&refused);
        let [Settled::Refused(SignalKind::SessionRevoked, why)] = settled.as_slice() else {
            panic!("{settled:?}");
        };
        assert!(!why.contains('\u{1b}') && why.ends_with(": no"), "{why}");
        assert!(outbox.settle(&refused).is_empty());
        assert_eq!(
            given(&outbox, "{}"),
            json!({ "sets": { "c": "text of c" }, "moreAvailable": false })
        );
        assert!(
            outbox
                .settle(&asked("{\"ack\": [\"c\"]}").at_once())
                .is_empty()
        );
        assert_eq!(outbox.take(), [token("c")]);
        assert!(outbox.give(&asked("{}")).is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut outbox = outbox(&["a", "b", "c"]);
        assert_eq!(outbox.put(token("d")), Some(token("a")));
        let sets = &given(&outbox, "{}")["sets"];
        assert_eq!(
            sets.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["b", "c", "d"]
        );
    }

    #[test]
    fn an_answer_has_a_bound_whatever_is_asked_for() {
        let mut outbox = Outbox::new(2 * GIVEN_MAX);
        for n in 0..=GIVEN_MAX {
            outbox.put(token(&n.to_string()));
        }
        for text in ["{}", "{\"maxEvents\": 100000}"] {
            let answer = given(&outbox, text);
            assert_eq!(answer["sets"].as_object().unwrap().len(), GIVEN_MAX);
            assert_eq!(answer["moreAvailable"], true);
        }
    }
}
