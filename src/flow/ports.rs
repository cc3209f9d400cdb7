//! The ports: what the path needs from the world. Adapters implement them; nothing here names a vendor.

use crate::domain::audit::AuditEvent;
use crate::domain::features::FeatureVector;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::LinkKey;
use crate::domain::history::Observation;
use crate::domain::history::Population;
use crate::domain::history::Provenance;
use crate::domain::history::WhichDevices;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::introspection::Introspected;
use crate::domain::jwt::KeySet;
use crate::domain::jwt::RealmKeys;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::label::Label;
use crate::domain::label::Truth;
use crate::domain::policy::editing::Finding;
use crate::domain::policy::editing::How;
use crate::domain::policy::editing::Replayed;
use crate::domain::policy::editing::Versions;
use crate::domain::resource::IntrospectionClient;
use crate::domain::review::ReviewQueue;
use crate::domain::risk::ModelOutput;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::poll::PollAnswer;
use crate::domain::shared_signal::poll::PollRequest;
use crate::domain::sign_in::Endpoints;
use crate::domain::signals::network::NetworkFacts;
use crate::domain::time::Deadline;
use crate::domain::time::Timestamp;
use crate::domain::trace::FinishedTrace;
use crate::domain::trail::Filter;
use crate::domain::trail::Found;
use crate::domain::trail::Page;
use crate::domain::trail::Place;
use crate::domain::trail::foreign::StreamId;
use crate::domain::trail::tally::Span;
use crate::domain::trail::tally::Tally;
use async_trait::async_trait;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

/// The memory: profiles, counters and links.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Everything that one request needs, in one round trip. Values that cannot be decoded count as missing.
    async fn load(&self, query: &HistoryQuery) -> Result<History, StateError>;

    /// One link, off the path of requests. `None` when there is none or it cannot be decoded.
    async fn link(&self, key: &LinkKey, now: Timestamp) -> Result<Option<Provenance>, StateError> {
        let mut history = self.load(&HistoryQuery::of_link(*key, now)).await?;
        Ok(history.links.remove(key))
    }

    /// Applies what was learnt, in order. Off the request path. An error means that nothing or only a part was kept.
    async fn record(&self, observations: &[Observation]) -> Result<(), StateError>;

    /// The same with a batch that is nobody else's: it is empty afterwards.
    async fn learn(&self, batch: &mut Vec<Observation>) -> Result<(), StateError> {
        let done = self.record(batch).await;
        batch.clear();
        done
    }

    /// Brings what was recorded to where it outlives the process. Called at its end, whoever still holds the store.
    async fn close(&self) -> Result<(), StateError> {
        Ok(())
    }

    /// How long what was learnt may gather before [`record`](Self::record) is called with it, as long as nothing of it is
    /// urgent: little for a store that other nodes read as well, whom a client may ask next.
    fn gathering(&self) -> Duration {
        Duration::from_millis(5)
    }

    /// Keeps a ticket that can be redeemed once within `ttl`. It is bound to `binding`, which stands for whatever the
    /// ticket was given for: tenant, client, session.
    ///
    /// An error means that the ticket may or may not be there: a caller does not hand it out.
    async fn issue_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), StateError>;

    /// Redeems a ticket: of any number of callers, at the same time and on whatever nodes, one is told
    /// [`Redemption::Redeemed`]. With a wrong `binding` the ticket is used up as well. An error means that it may have
    /// been used up; a caller refuses then.
    async fn redeem_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        now: Timestamp,
    ) -> Result<Redemption, StateError>;

    /// The queue of held logins; empty when there is none.
    async fn review_queue(&self) -> Result<ReviewQueue, StateError>;

    /// Changes the queue without losing what others change at the same time. `change` says whether it did change
    /// anything, and may be called again on a newer queue: only its last call counts. Returns the queue as it is then.
    async fn change_review_queue(&self, change: QueueChange) -> Result<ReviewQueue, StateError>;

    /// Forgets devices of a subject without losing what is learnt at the same time. Returns whether anything is known of
    /// the subject.
    async fn forget_devices(
        &self,
        subject: SubjectKey,
        which: WhichDevices,
        now: Timestamp,
    ) -> Result<bool, StateError>;

    /// How common values are. Read seldom, never on the request path.
    async fn population(&self) -> Result<Population, StateError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StateError>;

    /// The kind of store, for logs and readiness: `embedded` or `redis`.
    fn kind(&self) -> &'static str;
}

/// What changes the queue of held logins.
pub type QueueChange = Arc<dyn Fn(&mut ReviewQueue) -> bool + Send + Sync>;

/// What became of a ticket that was to be redeemed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Redemption {
    /// Somebody has redeemed it before.
    AlreadyRedeemed,
    /// It is good, and used up by now.
    Redeemed,
    /// It was never given, has ended, was given for something else, or comes from before the store changed its master.
    Unknown,
}

/// Why the memory did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    /// No connection, or the connection broke.
    #[error("the state store cannot be reached: {0}")]
    Unavailable(String),
    /// The store answered with an error, such as out of memory or a missing permission.
    #[error("the state store refused: {0}")]
    Refused(String),
    /// The time allowed for one call ran out.
    #[error("the state store did not answer in time")]
    Timeout,
}

impl StateError {
    /// The same of a stream of records.
    pub fn of_stream(&self) -> String {
        match self {
            Self::Unavailable(reason) => format!("cannot be reached: {reason}"),
            Self::Refused(reason) => format!("refused: {reason}"),
            Self::Timeout => "did not answer in time".to_owned(),
        }
    }
}

/// The risk model. `run` blocks for as long as the model computes and is called on the worker itself as long as the
/// model is quick.
pub trait RiskModel: Send + Sync {
    /// Scores one row. An implementation that can interrupt a run does so at `deadline`.
    fn run(&self, features: &FeatureVector, deadline: Deadline) -> Result<ModelOutput, ModelError>;

    /// Which model this is.
    fn identity(&self) -> &ModelIdentity;

    /// Whether a run of it was interrupted and does not end: the model is to be opened anew rather than taken over.
    fn hangs(&self) -> bool {
        false
    }
}

/// What tells one model from another; kept in every record.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ModelIdentity {
    /// The version from the manifest.
    pub version: String,
    /// The SHA-256 of the model file in hexadecimal.
    pub digest: String,
}

/// Why the model gave no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The runtime reported an error.
    #[error("the model failed: {0}")]
    Failed(String),
    /// The answer was not a finite probability with finite contributions.
    #[error("the model's answer is not a probability")]
    Output,
    /// The run was interrupted at its deadline.
    #[error("the model did not answer in time")]
    Timeout,
}

/// What the identity server publishes about the tokens that it signs.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Issuer and keys of a realm, which is named by its prefix as in
    /// [`CanonicalTarget::prefix`](crate::domain::target::CanonicalTarget::prefix). They are fetched anew when they are
    /// old or have no key for `wanted`, but not more often than the source allows itself; what it had before is given as
    /// long as nothing better can be had. Takes a bounded time.
    ///
    /// # Errors
    /// Nothing is known, or what is known is too old.
    async fn keys(
        &self,
        realm: &str,
        wanted: Option<&UnverifiedHeader>,
    ) -> Result<Arc<RealmKeys>, KeysAway>;
}

/// The keys cannot be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the keys of the identity server cannot be had")]
pub struct KeysAway;

/// Asks the identity server about tokens that say nothing of themselves.
#[async_trait]
pub trait Introspector: Send + Sync {
    /// What a token grants, as of now; `None` where it is not active. Takes a bounded time.
    ///
    /// # Errors
    /// The identity server gave no answer, or none that can be understood.
    async fn introspect(
        &self,
        realm: &str,
        client: &IntrospectionClient,
        token: &str,
    ) -> Result<Option<Arc<Introspected>>, IntrospectionAway>;
}

/// The identity server did not say whether a token is active.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the identity server did not say whether the token is active")]
pub struct IntrospectionAway;

/// The provider by which operators sign in to the console. Every call takes a bounded time.
#[async_trait]
pub trait SignInProvider: std::fmt::Debug + Send + Sync {
    /// Where its endpoints are.
    ///
    /// # Errors
    /// It did not say, or cannot be used.
    async fn endpoints(&self) -> Result<Arc<Endpoints>, ProviderAway>;

    /// Its keys, fetched anew when they are old or have none for `wanted`.
    ///
    /// # Errors
    /// They cannot be had.
    async fn keys(&self, wanted: Option<&UnverifiedHeader>) -> Result<Arc<KeySet>, ProviderAway>;

    /// The ID token for a code, of which nothing is verified yet.
    ///
    /// # Errors
    /// See [`NotRedeemed`].
    async fn redeem(&self, code: &str, verifier: &str) -> Result<Secret<String>, NotRedeemed>;
}

/// The provider did not answer, or not as it has to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the provider cannot be asked")]
pub struct ProviderAway;

/// Why a code gives no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotRedeemed {
    /// The provider did not answer, or not as it has to.
    #[error("the provider cannot be asked")]
    Away,
    /// It refuses the client: a wrong id or secret.
    #[error("the provider refuses the client")]
    Client,
    /// It refuses the code: used before, too old, or given for something else.
    #[error("the provider refuses the code")]
    Code,
}

/// Takes back what the identity server has issued. Every call takes a bounded time.
#[async_trait]
pub trait Revoker: Send + Sync {
    /// Revokes a token on behalf of its client (RFC 7009).
    ///
    /// # Errors
    /// The identity server did not confirm it.
    async fn revoke(
        &self,
        realm: &str,
        token: &IssuedToken,
        client: &ClientAuth,
    ) -> Result<(), RevokeError>;

    /// Ends the sessions of a user, and with them the tokens that are bound to one.
    ///
    /// # Errors
    /// No credential is configured for it, or the identity server did not confirm it.
    async fn end_sessions(&self, realm: &str, user: &str) -> Result<(), RevokeError>;

    /// Ends the sessions of the user who has this name in a domain, which is spelled as [`canonical_username`] does it.
    ///
    /// # Errors
    /// No credential is configured for it, or the identity server did not confirm it.
    ///
    /// [`canonical_username`]: crate::domain::ids::canonical_username
    async fn end_sessions_of(
        &self,
        realm: &str,
        domain: &str,
        name: &Secret<String>,
    ) -> Result<SessionsOf, RevokeError>;
}

/// What there was to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionsOf {
    /// Sessions, which are ended.
    Ended,
    /// The user has none.
    Nobody,
    /// Nobody has this name, or more than one.
    UnknownUser,
}

/// A token to revoke.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token.
    pub value: Secret<String>,
    /// Whether it is a refresh token.
    pub is_refresh: bool,
}

/// How a client has authenticated itself, where the same can be sent once more (RFC 6749 section 2.3.1). A signed
/// assertion or a certificate cannot.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// HTTP Basic: the value of the header.
    Basic(Secret<String>),
    /// Id and secret in the body.
    Post(String, Secret<String>),
    /// A public client: its id.
    Public(String),
}

/// Why something was not taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RevokeError {
    /// The identity server could not be reached, or not in time.
    #[error("the identity server cannot be reached")]
    Away,
    /// There is no credential for it.
    #[error("no credential of the identity server is configured for this")]
    NoCredential,
    /// It answered with an error.
    #[error("the identity server refused")]
    Refused,
}

/// Facts about addresses.
pub trait GeoLookup: Send + Sync {
    /// What is known of the network of `address`; without a database, nothing.
    fn lookup(&self, address: IpAddr) -> NetworkFacts;
}

/// What waits until a receiver of shared signals fetches it.
#[async_trait]
pub trait SignalOutbox: std::fmt::Debug + Send + Sync {
    /// Takes in what the receiver says of earlier tokens and gives it what waits. Where nothing does and the request is not
    /// to be answered at once, something is waited for, but not for long. May be dropped while it waits.
    async fn poll(&self, request: &PollRequest) -> PollAnswer;
}

/// Where records of exchanges go.
pub trait AuditSink: Send + Sync {
    /// Hands over one record without waiting. A record that finds no room is dropped and counted by the sink.
    fn write(&self, event: AuditEvent);

    /// Whether the record of one more exchange would be taken. Where it would not, and records must not be lost, a request
    /// at a scored door is refused.
    fn takes(&self) -> bool {
        true
    }

    /// Whether records are kept at all. Where they are not, none need be made.
    fn keeps(&self) -> bool {
        true
    }
}

/// Is handed the lines of records once they are in the audit log. Called by the thread that writes it: never waits.
pub trait RecordTap: std::fmt::Debug + Send + Sync {
    /// A line, without its end.
    fn take(&self, line: &[u8]);
}

/// A stream of records that the nodes of a fleet share. Off the request path.
#[async_trait]
pub trait RecordStream: std::fmt::Debug + Send + Sync {
    /// Whether it can be reached.
    async fn ready(&self) -> Result<(), StateError>;

    /// Puts lines at its end, each once at most, and says how many were taken. An error means that any of them may be there.
    async fn append(&self, lines: &[Vec<u8>]) -> Result<usize, StateError>;

    /// At most `most` entries from `from` on, the oldest first.
    async fn from(&self, from: StreamId, most: usize) -> Result<Vec<StreamEntry>, StateError>;

    /// At most `most` entries up to `to`, the latest first.
    async fn up_to(&self, to: StreamId, most: usize) -> Result<Vec<StreamEntry>, StateError>;
}

/// An entry of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamEntry {
    /// Where it stands.
    pub id: StreamId,
    /// The line; `None` when no node of the fleet has put it there.
    pub line: Option<Vec<u8>>,
}

/// The way through the records that were kept, for the console. Its calls read files: not for a thread that others wait for.
pub trait Trail: std::fmt::Debug + Send + Sync {
    /// Begins to read. Calling it again does nothing.
    fn start(&self);

    /// Bytes that were there at the start, and how many of them have been looked through.
    fn progress(&self) -> (u64, u64);

    /// How many records have been seen; changes with each.
    fn seen(&self) -> watch::Receiver<u64>;

    /// At most `most` records of those that are asked for, the latest first, from `older` on. `goes_on` is asked now and
    /// then whether there is time for more.
    fn page(
        &self,
        filter: &Filter,
        older: Option<Place>,
        most: usize,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Page;

    /// The whole record of this id.
    fn find(&self, id: &str) -> Option<Found>;

    /// Whether records of other nodes are among them.
    fn is_of_fleet(&self) -> bool;

    /// Why new records of other nodes are missing; `None` when none is.
    fn missing(&self) -> Option<String>;

    /// Figures by stretches of time up to `now` (seconds since the epoch), the oldest first.
    fn stretches(&self, span: Span, now: i64) -> Vec<(i64, Tally)>;
}

/// The rollout file, and where a node keeps which stages have fallen back. Its calls wait for the disk.
pub trait PlanFiles: std::fmt::Debug + Send + Sync {
    /// The text of the file.
    ///
    /// # Errors
    /// It cannot be read, or is longer than such a file can be.
    fn read(&self, file: &Path) -> io::Result<String>;

    /// Puts `text` in the place of the file, as a whole or not at all.
    ///
    /// # Errors
    /// It cannot be written, as the error says in words; what was there stays.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;

    /// What was kept of stages that have fallen back; `None` when nothing was.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_falls(&self) -> io::Result<Option<String>>;

    /// Keeps which stages have fallen back.
    ///
    /// # Errors
    /// It cannot be written; what was there stays.
    fn write_falls(&self, text: &str) -> io::Result<()>;
}

/// The policy file and its earlier versions, for the console. Its calls read files and compute for up to some seconds: not for
/// a thread that others wait for.
pub trait PolicyDesk: std::fmt::Debug + Send + Sync {
    /// The text that the next reload takes.
    ///
    /// # Errors
    /// The configuration or the file cannot be read.
    fn read(&self) -> Result<PolicyText, DraftError>;

    /// What the latest records say about a draft: the end of the node's own log, for a bounded time.
    ///
    /// # Errors
    /// Why they say nothing.
    fn replay(&self, text: &str) -> Result<Replayed, String>;

    /// Puts a draft into the file, and keeps what was there. Returns the digest of that.
    ///
    /// # Errors
    /// See [`DraftError`]; the file is as it was.
    fn save(&self, draft: &Draft<'_>, at: Timestamp) -> Result<String, DraftError>;

    /// The versions that are known.
    ///
    /// # Errors
    /// They cannot be read.
    fn history(&self) -> Result<Versions, DraftError>;

    /// The text of one of them.
    ///
    /// # Errors
    /// It cannot be read, or is another one than was kept.
    fn version(&self, digest: &str) -> Result<Option<String>, DraftError>;
}

/// A policy's text and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyText {
    /// The file; none for the policy that is built in.
    pub file: Option<String>,
    /// The text.
    pub text: String,
}

/// What an operator wants in the file.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'d> {
    /// The text.
    pub text: &'d str,
    /// The digest of the text that it was made from.
    pub base: &'d str,
    /// Written, or put back.
    pub how: How,
    /// Who.
    pub operator: &'d str,
    /// Why.
    pub note: &'d str,
}

/// Why a draft is not put into the file.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// There is no file.
    #[error("no policy file is configured: set `policy.file`")]
    BuiltIn,
    /// A file cannot be used.
    #[error("`{file}`: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Somebody else was quicker.
    #[error("the file has changed since the draft was begun")]
    Changed,
    /// There is nothing to write.
    #[error("the draft is what the file has already")]
    Same,
    /// The checker finds errors.
    #[error("the checker finds errors in the draft")]
    Wrong(Vec<Finding>),
    /// The records could not be asked.
    #[error("the draft cannot be replayed: {0}")]
    Unreplayed(String),
    /// Break-glass accounts that got in as recorded would not.
    #[error("the draft would have locked out {0} break-glass accounts that got in")]
    LocksOut(u64),
}

/// What analysts know of decisions. Its calls wait for the disk.
pub trait LabelBook: std::fmt::Debug + Send + Sync {
    /// Keeps a label. Returns whether it is new: the word that counts already is not kept again.
    ///
    /// # Errors
    /// It cannot be written.
    fn add(&self, label: &Label) -> io::Result<bool>;

    /// The labels of those decisions that have one.
    ///
    /// # Errors
    /// They cannot be read.
    fn of(&self, ids: &[&str]) -> io::Result<HashMap<String, Label>>;

    /// At most `most` labels that say `truth` (any, without), the word that was said last first, from `older` on; and from where
    /// on there are more.
    ///
    /// # Errors
    /// They cannot be read.
    fn page(
        &self,
        truth: Option<Truth>,
        older: Option<u64>,
        most: usize,
    ) -> io::Result<(Vec<Label>, Option<u64>)>;
}

/// Where spans of requests go.
pub trait TraceSink: Send + Sync {
    /// Hands over the spans of one request without waiting. What finds no room is dropped and counted by the sink.
    fn write(&self, trace: FinishedTrace);
}

/// The two clocks.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// The monotonic clock.
    fn instant(&self) -> Instant;
}

/// Chance.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random bytes fit for keys and ids.
    fn fill(&self, bytes: &mut [u8]);
}
