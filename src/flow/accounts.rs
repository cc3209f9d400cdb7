//! Several names of one account. Where the identity server takes an e-mail address or a telephone number for the username,
//! whoever owes a factor under one name could go on under another. Only the identity server knows that both are the same
//! account, and says so no earlier than in what it issues: the `sub` of its tokens, the NameID of its assertions.
//!
//! So the answer to a login under a name whose account is not known here is held until it has told; what is owed under the
//! other names of the account is owed by this login, too. From then on the names know of one another, and a demand
//! that is raised under one of them is raised under all: no later login is held for this, and none needs one more read.

use crate::domain::demand::DEMANDS_MAX;
use crate::domain::demand::Demand;
use crate::domain::demand::DemandKey;
use crate::domain::demand::DemandScope;
use crate::domain::demand::SKEW;
use crate::domain::enforcement::CIBA;
use crate::domain::enforcement::DEVICE_CODE;
use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::history;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::Joined;
use crate::domain::history::Names;
use crate::domain::history::Provenance;
use crate::domain::id_token::Claimed;
use crate::domain::ids::SubjectKey;
use crate::domain::outcome::HandsOver;
use crate::domain::outcome::IssuedTokens;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::reason::Reason;
use crate::domain::route::Door;
use crate::domain::time::Deadline;
use crate::domain::time::Timestamp;
use crate::flow::Dependencies;
use crate::flow::assess;
use crate::flow::decide::push_reason;
use crate::flow::demands;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::ProofDue;
use crate::flow::proof;
use crate::flow::proof::HeldAnswer;
use quick_cache::sync::Cache;
use std::time::Duration;
use std::time::Instant;

/// Names whose account this node knows; the least used make room, and their next login is held once more.
const NAMES_MAX: usize = 100_000;
/// For how long it does. An account is told anew long before its profile ends.
const KNOWN_FOR: Duration = Duration::from_secs(12 * 3600);
/// An account that has all its names is written again after this time, so that it outlives them.
const WRITTEN_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The names whose account this node knows, with when it was told.
#[derive(Debug)]
pub struct Accounts(Cache<SubjectKey, Instant>);

/// What a held answer tells of the account behind the name of a login.
#[derive(Debug)]
pub struct Told {
    name: SubjectKey,
    account: SubjectKey,
    names: Names,
    written: Timestamp,
    /// What is owed under another name of the account, the latest of it.
    pub owed: Option<Demand>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self(Cache::new(NAMES_MAX))
    }
}

impl Accounts {
    fn knows(&self, name: SubjectKey, now: Instant) -> bool {
        let told = self.0.get(&name);
        told.is_some_and(|told| now.saturating_duration_since(told) < KNOWN_FOR)
    }
}

/// Whether the answer to a request that is forwarded must be held until it has told whose login it is. Answers that
/// hand out nothing by themselves are not: what comes of a code is told when it is redeemed. Where a name is typed that is
/// not proved yet (`is_claimed`) it is held for every name alike, so that it takes as long.
pub fn is_asked(
    dependencies: &Dependencies,
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
    is_claimed: bool,
) -> bool {
    if !assessed.state_answered {
        return false;
    }
    let facts = &assessed.facts;
    let (tells, kind) = match (door, facts.hands_over) {
        (Door::Token, _) => {
            let grant = facts.grant_type.as_deref();
            let is_login = matches!(
                grant,
                Some("authorization_code" | "password" | DEVICE_CODE | CIBA)
            );
            (is_login, ProofKind::IdToken)
        }
        (_, HandsOver::OAuth) => (
            facts.response_type.as_deref() != Some("code"),
            ProofKind::IdToken,
        ),
        (_, HandsOver::Saml) => (true, ProofKind::Saml),
        (_, HandsOver::Nothing) => return false,
    };
    let now = dependencies.clock.instant();
    let is_unknown = |name| is_claimed || !dependencies.accounts.knows(name, now);
    tells && person(assessed, door).is_some_and(is_unknown) && proof::accepts(exchange, kind)
}

/// Under which name the login is: where somebody else is named beside it, under the one that it was begun with.
fn person(assessed: &Assessed, door: Door) -> Option<SubjectKey> {
    if assessed.is_misnamed(door) {
        return assessed.provenance.as_deref().and_then(Provenance::user);
    }
    assessed.subject()
}

/// What a held answer tells, and what is owed under the other names of the account. `None` where nothing is asked or it
/// tells nothing, and where the state does not answer: then nobody knows.
pub async fn told(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    answer: HeldAnswer<'_>,
) -> Option<Told> {
    let is_asked = exchange.asks_account || exchange.owes.is_some();
    if !is_asked || exchange.mode() != Some(Mode::Enforce) || answer.status >= 400 {
        return None;
    }
    let (door, assessed) = (exchange.door?, exchange.assessed.as_ref()?);
    let name = person(assessed, door)?;
    let now = dependencies.clock.instant();
    if exchange.owes.is_none() && dependencies.accounts.knows(name, now) {
        return None;
    }
    let told = whose(door, assessed.facts.hands_over, answer)?;
    let people = &exchange.snapshot.people;
    let account = people.account(exchange.user_domain(), &told);
    let spent = exchange.timing.state;
    let history = {
        let query = HistoryQuery {
            subject: Some(account),
            ..HistoryQuery::of_links(Vec::new(), Vec::new(), exchange.at)
        };
        load(dependencies, exchange, &query).await?
    };
    let profile = history.profile.unwrap_or_default();
    let owed = owed(dependencies, exchange, name, &profile.names).await;
    // In the record it is the time that the decision took.
    exchange.timing.state = spent;
    Some(Told {
        name,
        account,
        names: profile.names,
        written: profile.last,
        owed,
    })
}

async fn load(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    query: &HistoryQuery,
) -> Option<History> {
    let deadline = Deadline::after(dependencies.clock.instant(), exchange.snapshot.budget);
    assess::load(dependencies, exchange, query, deadline)
        .await
        .0
}

/// What an answer calls the account: in the ID token, else in an access token that is a JWT, or in the assertion. It came
/// from the identity server itself just now.
fn whose(door: Door, hands_over: HandsOver, answer: HeldAnswer<'_>) -> Option<String> {
    let of_tokens = |id_token: Option<&str>, access_token: Option<&str>| {
        let mut tokens = [id_token, access_token].into_iter().flatten();
        tokens.find_map(|token| Claimed::read(token).subject)
    };
    let told = match (door, hands_over) {
        (Door::Token, _) => {
            let issued = IssuedTokens::read(answer.body?)?;
            of_tokens(issued.id_token.as_deref(), issued.access_token.as_deref())
        }
        (_, HandsOver::Saml) => proof::saml::subject(answer),
        _ => {
            let handed = answer.handed()?;
            of_tokens(handed.id_token.as_deref(), handed.access_token.as_deref())
        }
    };
    told.filter(|told| !told.is_empty())
}

/// The latest demand that is outstanding under another of the names, and that the name of this login has not met since.
/// The device cookie does not speak against it: that of a name which is here for the first time comes from this very login.
async fn owed(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    name: SubjectKey,
    names: &Names,
) -> Option<Demand> {
    let mut keys: Vec<DemandKey> = names.beside(name).map(DemandKey::user).collect();
    if keys.is_empty() {
        return None;
    }
    keys.push(DemandKey::user(name));
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(DEMANDS_MAX) {
        let query = HistoryQuery::of_links(Vec::new(), keys.to_vec(), exchange.at);
        let history = load(dependencies, exchange, &query).await;
        let now = exchange.at;
        let known = |key| demands::known(dependencies, history.as_ref(), key, now);
        found.extend(keys.iter().map(known));
    }
    let own = found.pop().flatten().and_then(|own| own.proved);
    let own = own.filter(|proof| proof.subject == name);
    let is_met = |demand: &Demand| own.is_some_and(|proof| proof.at.plus(SKEW) >= demand.at);
    let owed = found.into_iter().flatten();
    owed.filter(|demand| demand.is_outstanding(exchange.at) && !is_met(demand))
        .max_by_key(|demand| demand.at)
}

/// What is owed under another name is owed by this login: its answer must prove it.
pub fn bind(dependencies: &Dependencies, exchange: &mut Exchange, demand: Demand) {
    dependencies.metrics.demand("other_name");
    let due = ProofDue {
        at: demand.at,
        // Whatever was seen of this login was not asked for by this demand.
        seen: false,
        inherited: false,
    };
    exchange.owes = exchange
        .owes
        .filter(|owed| owed.at >= demand.at)
        .or(Some(due));
    if let Some(assessed) = &mut exchange.assessed {
        assessed.owed.outstanding.push((DemandScope::User, demand));
        if !assessed.owed.binding.contains(&DemandScope::User) {
            assessed.owed.binding.push(DemandScope::User);
        }
    }
    if let Some(decided) = &mut exchange.decided {
        push_reason(&mut decided.decision, Reason::StepUpOutstanding);
    }
}

/// The answer has been judged. What goes out joins the name to its account; of what is withheld every name owes the factor.
pub fn settled(dependencies: &Dependencies, exchange: &mut Exchange, told: Told, withheld: bool) {
    let Told {
        name,
        account,
        mut names,
        written,
        ..
    } = told;
    if withheld {
        let owing = names.beside(name).chain([name]);
        demands::raise_for(dependencies, exchange, owing);
        return;
    }
    let now = dependencies.clock.instant();
    dependencies.accounts.0.insert(name, now);
    let is_new = !names.kept().contains(&name);
    if !is_new && exchange.at.since(written) < WRITTEN_AGAIN {
        return;
    }
    let was_of_one = !names.of_one_account().is_empty();
    names.add(name);
    if is_new && was_of_one && names.of_one_account().is_empty() {
        tracing::warn!(
            tenant = exchange.tenant(),
            application = exchange.application(),
            "the identity server has given one `sub` to the users of more than {} names: demands are kept for each name alone; \
             let the application have a subject attribute that is one user's",
            history::NAMES_MAX
        );
    }
    let joined = |subject, is_account| Joined {
        subject,
        is_account,
        at: exchange.at,
        names: names.kept().to_vec(),
    };
    let mut all = vec![joined(account, true)];
    if names.kept().len() > 1 {
        let of_names = names.of_one_account().iter();
        all.extend(of_names.map(|name| joined(*name, false)));
    }
    exchange.joined = all;
}
