//! What is known of one request so far. It is filled as the request advances and closed exactly once.

use crate::domain::authenticator::Unread;
use crate::domain::demand::DemandKey;
use crate::domain::enforcement::Enforcement;
use crate::domain::enforcement::Rejection;
use crate::domain::features::FeatureVector;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::IssuedLink;
use crate::domain::history::Joined;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::Renamed;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::RequestId;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::kind::RequestKind;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::HandsOver;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::rollout::StageMark;
use crate::domain::policy::standing::Standing;
use crate::domain::risk::Assessment;
use crate::domain::route::Door;
use crate::domain::route::RouteClass;
use crate::domain::route::RouteMatch;
use crate::domain::saml::AuthnRequest;
use crate::domain::signals::Signals;
use crate::domain::signals::session::DeviceToken;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Timestamp;
use crate::domain::trace::Trace;
use crate::flow::admit::Client;
use crate::flow::demands::Owed;
use crate::flow::demands::UnderWay;
use crate::flow::identify::Domains;
use crate::flow::introspection::AskedAbout;
use crate::flow::limits::Limited;
use crate::flow::permit::ForwardPermit;
use crate::flow::resource::Visit;
use crate::flow::review::Reviewed;
use crate::flow::snapshot::Snapshot;
use crate::flow::unproven::Shown;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// One request from its admission to its end.
#[derive(Debug)]
pub struct Exchange {
    /// Its id, and that of its decision.
    pub id: RequestId,
    /// When it began, on the wall clock.
    pub at: Timestamp,
    /// When it began, on the monotonic clock.
    pub started: Instant,
    /// What it is judged by.
    pub snapshot: Arc<Snapshot>,
    /// The method as sent, when it is a known one; else `OTHER`.
    pub method: &'static str,
    /// The canonical target; `None` when there is none.
    pub target: Option<CanonicalTarget>,
    /// Where it leads; `None` when the target could not be read.
    pub route: Option<RouteMatch>,
    /// The scored door, including those that only the request's content reveals.
    pub door: Option<Door>,
    /// Who speaks, behind trusted proxies.
    pub client: Client,
    /// What the assessment found; `None` until then and on routes that are not scored.
    pub assessed: Option<Assessed>,
    /// What was decided.
    pub decided: Option<Decided>,
    /// What was found out, where it leads to a service of the operator's own.
    pub visit: Option<Visit>,
    /// What became of it where policy wants it reviewed.
    pub review: Option<Reviewed>,
    /// What is known of the token about which it asks.
    pub asked: Option<AskedAbout>,
    /// As whom it asks, where it asks about a token and the identity server has answered.
    pub asker: Option<String>,
    /// What the gateway's own page did.
    pub served: Option<Served>,
    /// The permit to forward.
    pub permit: Option<ForwardPermit>,
    /// What goes out in place of the identity server's answer if that one accepts the password.
    pub withheld: Option<Rejection>,
    /// Whether the identity server has accepted the password.
    pub accepted: bool,
    /// What was wrong with a refused request.
    pub error: Option<&'static str>,
    /// What the answer of the identity server must prove before it is let through.
    pub owes: Option<ProofDue>,
    /// Whether the answer is held until it has told whose account it is.
    pub asks_account: bool,
    /// Whose names are, as it has told.
    pub joined: Vec<Joined>,
    /// What it proved: `proven`, or why not.
    pub proof: Option<&'static str>,
    /// What became of tokens that were withheld.
    pub revocation: Option<&'static str>,
    /// How the identity server, or the way to it, failed.
    pub failure: Option<&'static str>,
    /// How many of the requests before it had no score, in percent, where it has none either.
    pub unscored_percent: u8,
    /// Whether the mode is off for this request: nothing is scored.
    pub off: bool,
    /// The stage of the rollout plan that enforces for whom it is about, whether or not it has fallen back.
    pub stage: Option<StageMark>,
    /// How it ended, as far as the answer has told.
    pub outcome: AuthOutcome,
    /// What went out in place of the identity server's answer, as it is recorded.
    pub replaced: Option<&'static str>,
    /// The copy of its demands that the browser gets, as a Set-Cookie value.
    pub demand_cookie: Option<String>,
    /// The challenge that this request may lead to.
    pub under_way: Option<UnderWay>,
    /// Links that the answer gave rise to.
    pub issued: Vec<IssuedLink>,
    /// The device token that was set with the answer.
    pub device_issued: Option<DeviceToken>,
    /// The status that the client got; 0 when none was sent.
    pub response_status: u16,
    /// Where the time went.
    pub timing: Timing,
    /// Its trace; `None` where nothing is traced.
    pub trace: Option<Box<Trace>>,
}

/// What one of the gateway's own pages did, for the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Served {
    /// `served`, `forgot_device`, `forgot_devices`, `approved`, `approved_elsewhere`, `declined`.
    pub action: &'static str,
    /// Whose memory changed.
    pub subject: Option<SubjectKey>,
}

/// What the assessment found.
#[derive(Debug)]
pub struct Assessed {
    /// What the request shows.
    pub signals: Signals,
    /// Facts of the request that later steps need.
    pub facts: RequestFacts,
    /// The kind of request whose features and model were used.
    pub kind: RequestKind,
    /// The numbers for the model; `None` when the score came from a provenance.
    pub features: Option<FeatureVector>,
    /// The answer of the scoring.
    pub assessment: Assessment,
    /// The same for a name that nobody has, where a name is presented that is not proved yet.
    pub shown: Option<Assessment>,
    /// Whether the name is a mere hint: nothing that is known of it was looked at.
    pub is_hint: bool,
    /// Whether the name is a word of a link alone: of this request to the authorize endpoint, or of the one that began the
    /// login, if this request brings none. Nothing is credited to it.
    pub is_mere_name: bool,
    /// What the presented code, token, session or login in progress was given under.
    pub provenance: Option<Arc<Provenance>>,
    /// The code, token or login in progress that the request presents.
    pub presented: Option<LinkKey>,
    /// Whether the request is a return into a login that was decided before.
    pub continues: bool,
    /// What a client polls with that this login approves.
    pub approves: Option<Pseudonym>,
    /// Whether a stronger factor was demanded of who began it.
    pub approval_demanded: bool,
    /// The latest decision within the login in progress, as our own step has left it.
    pub own_step: Option<Arc<Provenance>>,
    /// The subject's own profile.
    pub profile: Option<Profile>,
    /// How the device cookie stands to the subject.
    pub device: DeviceStanding,
    /// Whether the history could be read.
    pub state_answered: bool,
    /// Reasons that come from the request's history and not from the model.
    pub notes: Vec<Reason>,
    /// Whether a request limit was reached.
    pub limited: Option<Limited>,
    /// Where the subject was kept under the previous secret.
    pub renamed: Option<Renamed>,
    /// Whether a session is presented, known or not.
    pub presents_session: bool,
    /// The session that is presented.
    pub session: Option<Arc<Provenance>>,
    /// Since when a session is proved that need not be proved again: a demand counts from then.
    pub demanded_since: Option<Timestamp>,
    /// What is owed.
    pub owed: Owed,
    /// Where a demand of the presented token family is kept.
    pub family: Option<DemandKey>,
    /// Whether several users are at home at the address.
    pub address_is_shared: bool,
}

/// Facts of a request that outlive its parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts {
    /// `grant_type`.
    pub grant_type: Option<String>,
    /// `response_type`.
    pub response_type: Option<String>,
    /// `prompt`.
    pub prompt: Option<String>,
    /// `acr_values`.
    pub acr_values: Option<String>,
    /// `max_age`.
    pub max_age: Option<String>,
    /// The hashes of the scopes asked for, at most [`SCOPES_MAX`](crate::domain::history::client::SCOPES_MAX).
    pub scopes: Vec<ValueHash>,
    /// Whether the parameters are in a pushed or signed object, which cannot be changed.
    pub fixed: bool,
    /// Whether the request carries a factor beyond the password.
    pub second_factor: bool,
    /// Whether the request carries credentials of any kind.
    pub credentials: bool,
    /// What of that a step of a login brings.
    pub brings: Brought,
    /// Where in the login that is handled.
    pub handled: Handled,
    /// Whether it is the answer of another identity provider, which proves nobody who was named here.
    pub from_provider: bool,
    /// Whether it begins a flow of the app-native API.
    pub starts_flow: bool,
    /// Whether the user agrees to enrol a second factor, where the request says so.
    pub enrols: Option<bool>,
    /// The SAML request that it brings.
    pub saml: Option<AuthnRequest>,
    /// What the identity server may hand to the application in answer to it.
    pub hands_over: HandsOver,
}

/// What a step of a login brings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Brought {
    /// A password.
    pub password: bool,
    /// A factor beyond the password.
    pub factor: bool,
}

/// Which step of a login handles a form.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Handled {
    /// That whose page the login is at.
    AtThePage,
    /// The first one: the login begins anew.
    AtTheStart,
    /// Another option of a step, or it is no form of a login.
    #[default]
    Elsewhere,
}

impl Brought {
    /// What is left of it where something is not read.
    pub fn without(self, unread: Unread) -> Self {
        Self {
            password: self.password && !unread.password,
            factor: self.factor && !unread.factor,
        }
    }

    /// Whether it may prove anything.
    pub fn is_any(self) -> bool {
        self.password || self.factor
    }

    /// Whether that is a factor beyond the password.
    pub fn is_second_factor(self) -> bool {
        self.factor && !self.password
    }
}

impl RequestFacts {
    /// The login is at a page that does not read everything: what it does not read is no credential.
    pub fn leave(&mut self, unread: Unread) {
        let applies = match self.handled {
            Handled::AtThePage => true,
            // A page for a name alone is where the login begins.
            Handled::AtTheStart => unread.password && unread.factor,
            Handled::Elsewhere => false,
        };
        if applies {
            let left = self.brings.without(unread);
            self.second_factor = left.is_second_factor();
            self.credentials = left.is_any();
        }
    }
}

/// A stronger factor that is owed, and must be proved by the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProofDue {
    /// When it was demanded.
    pub at: Timestamp,
    /// Whether a stronger factor was seen to be accepted since.
    pub seen: bool,
    /// Whether the demand is that of the code, token or login in progress that is presented; else it was raised by this
    /// very request.
    pub inherited: bool,
}

/// What was decided.
#[derive(Debug)]
pub struct Decided {
    /// By the policy.
    pub decision: Decision,
    /// Under this mode.
    pub mode: Mode,
    /// What stood beside the policy.
    pub standing: Standing,
    /// Whether policy itself demands a factor, whatever was demanded before.
    pub own_demand: bool,
    /// What is decided as if nobody had the name, where it is not proved yet: that alone shows until it is.
    pub shown: Option<Shown>,
    /// With these effects.
    pub enforcement: Enforcement,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Reading the state.
    pub state: Duration,
    /// Features and model.
    pub score: Duration,
    /// From admission to decision.
    pub decision: Duration,
}

impl RequestFacts {
    /// Whether `prompt` has this value (OpenID Connect Core section 3.1.2.1).
    pub fn prompts(&self, value: &str) -> bool {
        let prompt = self.prompt.as_deref().unwrap_or_default();
        prompt.split(' ').any(|one| one == value)
    }
}

impl Assessed {
    /// Who makes the request: whom it names together with what may prove it, else whom the presented token, session or login
    /// in progress stands for.
    pub fn subject(&self) -> Option<SubjectKey> {
        let named = self.signals.subject.key();
        named.filter(|_| !self.is_mere_name).or_else(|| {
            let link = self.provenance.as_deref();
            // Who was named before a password was accepted need not be who comes back from another identity provider.
            let proved = |link: &&Provenance| !self.facts.from_provider || link.has_password();
            link.filter(proved).and_then(Provenance::user)
        })
    }

    /// Whom the request is about: who makes it, else whom a link names. What is credited to a user goes by
    /// [`subject`](Self::subject).
    pub fn about(&self) -> Option<SubjectKey> {
        self.subject().or_else(|| self.signals.subject.key())
    }

    /// Whether a login names somebody else than the user whose password was accepted in it before. From then on the identity
    /// server knows whose login it is and does not read a name beside the next factor: that it succeeds says nothing about
    /// whoever is named, though it is judged as theirs.
    pub fn is_misnamed(&self, door: Door) -> bool {
        let accepted = self
            .provenance
            .as_deref()
            .filter(|link| link.has_password())
            .and_then(|link| link.subject);
        let is_login = matches!(door, Door::Login | Door::Authn | Door::Flow);
        match (accepted, self.signals.subject.key()) {
            (Some(accepted), Some(named)) => is_login && accepted != named,
            _ => false,
        }
    }

    /// Whose side of a percentage the request is on, the same each time for the same user. A name in a link does not count
    /// beside a session or a token, which stand for somebody: else one could write into it which side it takes. Without a
    /// user the address decides.
    pub fn stable_key(&self) -> u64 {
        self.about().map_or(self.signals.hashes.address, |subject| {
            subject.0.value_hash()
        })
    }

    /// Whether an authorization code is presented.
    pub fn turns_in_a_code(&self) -> bool {
        self.presented.is_some_and(|key| key.kind == LinkKind::Code)
    }

    /// When the subject last had devices forgotten; the epoch when never.
    pub fn forgotten(&self) -> Timestamp {
        let profile = self.profile.as_ref();
        profile.map(|profile| profile.forgotten).unwrap_or_default()
    }

    /// Confirmed logins of the subject: those of the profile, else those that were known when what is presented was
    /// issued.
    pub fn logins(&self) -> u32 {
        let evidence = || self.provenance.as_deref().map(|link| link.evidence);
        self.profile
            .as_ref()
            .map(|profile| profile.successes)
            .or_else(evidence)
            .unwrap_or(0)
    }

    /// Whether the subject has logged in from this address before.
    pub fn knows_address(&self) -> bool {
        let address = self.signals.hashes.address;
        let profile = self.profile.as_ref();
        profile.is_some_and(|profile| profile.addresses.find(address).is_some())
    }
}

impl Exchange {
    /// One that begins at `at` by the wall clock and `started` by the monotonic one; nothing of its target is known yet.
    pub(in crate::flow) fn begun(
        id: RequestId,
        (at, started): (Timestamp, Instant),
        method: &'static str,
        client: Client,
        snapshot: Arc<Snapshot>,
    ) -> Self {
        Self {
            id,
            at,
            started,
            snapshot,
            method,
            target: None,
            route: None,
            door: None,
            client,
            assessed: None,
            decided: None,
            visit: None,
            asked: None,
            asker: None,
            review: None,
            served: None,
            permit: None,
            withheld: None,
            accepted: false,
            error: None,
            failure: None,
            unscored_percent: 0,
            off: false,
            stage: None,
            outcome: AuthOutcome::None,
            owes: None,
            asks_account: false,
            joined: Vec::new(),
            proof: None,
            revocation: None,
            replaced: None,
            demand_cookie: None,
            under_way: None,
            issued: Vec::new(),
            device_issued: None,
            response_status: 0,
            timing: Timing::default(),
            trace: None,
        }
    }

    /// The tenant domain, or an empty text when the target could not be read.
    pub fn tenant(&self) -> &str {
        self.target
            .as_ref()
            .map_or("", CanonicalTarget::tenant_domain)
    }

    /// The domains that the names in it are of.
    pub fn domains(&self) -> Domains<'_> {
        Domains {
            tenant: self.tenant(),
            users: self.user_domain(),
        }
    }

    /// The domain that usernames are of, or an empty text when the target could not be read.
    pub fn user_domain(&self) -> &str {
        self.target
            .as_ref()
            .map_or("", CanonicalTarget::user_domain)
    }

    /// The organization that the target names, or an empty text.
    pub fn organization(&self) -> &str {
        self.target
            .as_ref()
            .and_then(CanonicalTarget::organization)
            .unwrap_or("")
    }

    /// The client id of the application, or an empty text where none is known.
    pub fn application(&self) -> &str {
        let assessed = self.assessed.as_ref();
        assessed
            .and_then(|assessed| assessed.signals.client_id.as_deref())
            .unwrap_or("")
    }

    /// Whether the gateway serves it itself.
    pub fn is_own(&self) -> bool {
        self.route
            .as_ref()
            .is_some_and(|route| route.class == RouteClass::Own)
    }

    /// Whether it leads to a service of the operator's own.
    pub fn is_visit(&self) -> bool {
        let class = self.route.as_ref().map(|route| route.class);
        matches!(class, Some(RouteClass::Resource(_)))
    }

    /// Whether a name is presented that is not proved, or not yet: what its history says must not show.
    pub fn is_unproven(&self) -> bool {
        let shown = self.decided.as_ref().map(|decided| &decided.shown);
        shown.is_some_and(Option::is_some) && !self.accepted
    }

    /// The decision that was carried out, so far.
    pub fn carried_out(&self) -> Option<&Decision> {
        let decided = self.decided.as_ref()?;
        let shown = decided.shown.as_ref().filter(|shown| shown.refused);
        Some(shown.map_or(&decided.decision, |shown| &shown.decision))
    }

    /// The mode, once it is known.
    pub fn mode(&self) -> Option<Mode> {
        self.decided.as_ref().map(|decided| decided.mode)
    }
}
