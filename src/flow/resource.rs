//! The path of a request to a service of the operator's own: whether its token is good, which is the same in every mode;
//! the risk of the session behind it as of now, in one read; what becomes of it; and the word that the service gets.
//!
//! Bodies are not looked at. A token that cannot be checked is never let through; of a risk that is not known the route
//! says what becomes of it.

/// Tokens that were verified lately.
pub mod tokens;

use crate::domain::access_token;
use crate::domain::access_token::AccessToken;
use crate::domain::access_token::AccessTokenError;
use crate::domain::access_token::Grant;
use crate::domain::access_token::TokenDigest;
use crate::domain::demand::Bearer;
use crate::domain::demand::DemandKey;
use crate::domain::demand::DemandScope;
use crate::domain::enforcement;
use crate::domain::enforcement::Grounds;
use crate::domain::enforcement::HeaderPlan;
use crate::domain::headers;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::ids::NameSpace;
use crate::domain::ids::RequestId;
use crate::domain::ids::SubjectKey;
use crate::domain::jwt::RealmKeys;
use crate::domain::jwt::TokenKind;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::outcome::AuthOutcome;
use crate::domain::policy::decision::Mode;
use crate::domain::resource::ASSERTION_TYPE;
use crate::domain::resource::Assertion;
use crate::domain::resource::Denial;
use crate::domain::resource::Resource;
use crate::domain::resource::ResourceVerdict;
use crate::domain::resource::names_token;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskLevel;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::route::RouteClass;
use crate::domain::signals::network::host_hash;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Deadline;
use crate::domain::trace::Stage;
use crate::flow::Dependencies;
use crate::flow::admit;
use crate::flow::assess;
use crate::flow::demands;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use crate::flow::permit::ForwardPermit;
use crate::flow::resign::Resign;
use crate::flow::scopes;
use crate::flow::tracing::of_visit;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use tokens::Verified;

/// A request to a service, and what was found out about it.
#[derive(Debug)]
pub struct Visit {
    /// Which service.
    pub resource: Arc<Resource>,
    /// Whether a proof of possession came with the token.
    pub proves: bool,
    /// How the token was checked: `jwt` or `introspection`.
    pub token: Option<&'static str>,
    /// Who holds it.
    pub client_id: Option<String>,
    /// Whose session is behind it.
    pub subject: Option<SubjectKey>,
    /// The decision under which it was issued.
    pub decision: Option<RequestId>,
    /// The risk as of now; `None` where nobody asked.
    pub risk: Option<RiskClaims>,
    /// Why nothing could be learnt of the risk.
    pub cause: Option<FallbackCause>,
    /// Whether the user owes a stronger factor.
    pub demanded: bool,
    /// What the route says to that.
    pub verdict: Option<ResourceVerdict>,
    /// How far it is acted on.
    pub mode: Option<Mode>,
    /// Why the request is not let through.
    pub denial: Option<Denial>,
}

/// A token as it was presented.
struct Presented<'a> {
    token: &'a str,
    proves: bool,
}

/// A token that is good here and now.
struct Good {
    grant: Held,
    links: Vec<LinkKey>,
    client: SubjectKey,
    digest: TokenDigest,
}

/// What it grants, as verified here or as the identity server says.
enum Held {
    Introspected(Grant),
    Verified(Arc<Verified>),
}

/// What is known of the session behind a token.
#[derive(Default)]
struct Standing {
    link: Option<Arc<Provenance>>,
    demanded: bool,
    cause: Option<FallbackCause>,
}

impl Visit {
    fn to(resource: Arc<Resource>) -> Self {
        Self {
            resource,
            proves: false,
            token: None,
            client_id: None,
            subject: None,
            decision: None,
            risk: None,
            cause: None,
            demanded: false,
            verdict: None,
            mode: None,
            denial: None,
        }
    }
}

impl Held {
    fn grant(&self) -> &Grant {
        match self {
            Self::Introspected(grant) => grant,
            Self::Verified(verified) => &verified.token.grant,
        }
    }
}

/// Judges a request to a service. Afterwards the exchange has a permit, or its visit says why not.
pub(in crate::flow) async fn visit(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    method: &http::Method,
    headers: &http::HeaderMap,
) -> Result<(), Denial> {
    let Some(resource) = resource(exchange) else {
        return Err(Denial::Away);
    };
    let mut visit = Visit::to(resource);
    let begin = exchange.begins(dependencies.clock.as_ref());
    let judged = judge(dependencies, exchange, &mut visit, method, headers).await;
    let now = dependencies.clock.instant();
    exchange.timing.decision = now.saturating_duration_since(exchange.started);
    visit.denial = judged.as_ref().err().copied();
    if let Err(denial) = judged {
        exchange.outcome = AuthOutcome::RefusedHere;
        exchange.response_status = denial.status();
        // A refusal for the risk is a decision; every other one is about the request.
        exchange.error = visit.verdict.is_none().then(|| denial.as_str());
    }
    exchange.permit = judged.as_ref().ok().cloned();
    exchange.visit = Some(visit);
    if let Some(begin) = begin {
        exchange.spent(Stage::Visit, (begin, now), of_visit);
    }
    judged.map(drop)
}

fn resource(exchange: &Exchange) -> Option<Arc<Resource>> {
    let route = exchange.route.as_ref()?;
    let RouteClass::Resource(index) = route.class else {
        return None;
    };
    exchange
        .snapshot
        .resources
        .get(usize::from(index))
        .map(Arc::clone)
}

async fn judge(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    visit: &mut Visit,
    method: &http::Method,
    headers: &http::HeaderMap,
) -> Result<ForwardPermit, Denial> {
    let resource = Arc::clone(&visit.resource);
    if admit::is_preflight(method, headers) {
        let plan = enforcement::status_only("off");
        let permit = ForwardPermit::assertion(Grounds::Exempt, plan);
        return Ok(permit.leading_to(Arc::clone(&resource.upstream)));
    }
    let query = exchange.target.as_ref().and_then(CanonicalTarget::query);
    let presented = Presented::read(headers, query, visit)?;
    let good = checked(dependencies, exchange, visit, &presented).await?;
    let grant = good.grant.grant();
    visit.client_id = Some(grant.client_id.clone());
    resource.check(grant, presented.proves)?;

    let is_barred = |link: &LinkKey| dependencies.barred.contains(link);
    if !dependencies.barred.is_empty() && good.links.iter().any(is_barred) {
        return Err(Denial::Token(AccessTokenError::Revoked));
    }
    let client_id = grant.client_id.as_str();
    let looks = exchange.snapshot.rollout.strongest() != Mode::Off;
    let standing = if looks {
        standing(dependencies, exchange, &good, &resource.tenant, client_id).await
    } else {
        Standing::default()
    };
    let link = standing.link.as_deref();
    if link.is_some_and(|link| link.barred) {
        return Err(Denial::Token(AccessTokenError::Revoked));
    }
    let snapshot = &exchange.snapshot;
    let subject = link.and_then(|link| link.subject);
    let stable = subject.map_or_else(
        || host_hash(&snapshot.people, exchange.client.address),
        |subject| subject.0.value_hash(),
    );
    let share = snapshot.rollout.share(&resource.tenant, client_id);
    let mode = dependencies.rollout.mode_of(share, stable);
    let thresholds = snapshot.policy.thresholds(&resource.tenant, client_id);
    let risk = link.map_or(RiskClaims::Unscored, |link| {
        RiskClaims::of_link(link, thresholds)
    });
    visit.subject = subject;
    visit.decision = link.map(|link| link.decision_id.clone());
    visit.cause = standing.cause;
    visit.demanded = standing.demanded;
    visit.mode = Some(mode);
    if mode != Mode::Off {
        let verdict = resource.verdict(&risk, standing.demanded);
        visit.verdict = Some(verdict);
        visit.risk = Some(risk.clone());
        if mode == Mode::Enforce
            && let Some(denial) = verdict.denial()
        {
            return Err(denial);
        }
    }
    let plan = assertion(dependencies, exchange, visit, &good, (mode, &risk))?;
    let needed = resource.scopes.iter().map(String::as_str);
    let people = &snapshot.people;
    scopes::spent(dependencies, people, &resource.tenant, grant, needed);
    let permit = ForwardPermit::assertion(grounds(mode, standing.cause), plan);
    Ok(permit.leading_to(Arc::clone(&resource.upstream)))
}

fn grounds(mode: Mode, cause: Option<FallbackCause>) -> Grounds {
    match (mode, cause) {
        (Mode::Off, _) => Grounds::Off,
        (Mode::Monitor, _) => Grounds::Monitored,
        (Mode::Advise, _) => Grounds::Advised,
        (Mode::Enforce, Some(cause)) => Grounds::FailedOpen(cause),
        (Mode::Enforce, None) => Grounds::Decided,
    }
}

/// The gateway's signed word for the service about the caller and, where the mode tells it, the risk.
fn assertion(
    dependencies: &Dependencies,
    exchange: &Exchange,
    visit: &Visit,
    good: &Good,
    (mode, risk): (Mode, &RiskClaims),
) -> Result<HeaderPlan, Denial> {
    let grant = good.grant.grant();
    let status = if mode == Mode::Off {
        "off"
    } else {
        risk.status()
    };
    let assertion = Assertion {
        resource: &visit.resource,
        subject: &grant.subject,
        client_id: &grant.client_id,
        token_hash: &URL_SAFE_NO_PAD.encode(good.digest),
        id: &exchange.id,
        decision: visit.decision.as_ref(),
        risk: Some(risk).filter(|_| RiskClaims::are_told(mode)),
        status,
        now: dependencies.clock.now(),
    };
    // The service was promised a word with each request: without the keys for it nothing goes there.
    let signing = exchange.snapshot.signing.as_ref().ok_or(Denial::Away)?;
    let signed = signing.sign(ASSERTION_TYPE, &assertion.claims());
    let signed = signed.map_err(|error| {
        tracing::error!(error = %error, "an assertion could not be signed");
        Denial::Away
    })?;
    Ok(HeaderPlan(vec![
        (headers::X_RISK_STATUS, status.into()),
        (headers::X_RISK_ASSERTION, signed.into()),
    ]))
}

impl<'a> Presented<'a> {
    /// Reads the token of a request (RFC 6750 section 2, RFC 9449 section 7.1).
    fn read(
        headers: &'a http::HeaderMap,
        query: Option<&str>,
        visit: &mut Visit,
    ) -> Result<Self, Denial> {
        if query.is_some_and(names_token) {
            return Err(Denial::Request);
        }
        let mut fields = headers.get_all(http::header::AUTHORIZATION).iter();
        let field = match (fields.next(), fields.next()) {
            (None, _) => return Err(Denial::Missing),
            (Some(_), Some(_)) => return Err(Denial::Request),
            (Some(field), None) => field.to_str().map_err(|_| Denial::Missing)?,
        };
        let (scheme, token) = field.split_once(' ').ok_or(Denial::Missing)?;
        let token = token.trim_matches(' ');
        let proves = scheme.eq_ignore_ascii_case("dpop");
        visit.proves = proves;
        if !proves && !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denial::Missing);
        }
        // The characters of a token (RFC 6750 section 2.1); a list of several has others.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || !token.bytes().all(is_token) {
            return Err(Denial::Token(AccessTokenError::Malformed));
        }
        if proves && headers.get_all("dpop").iter().count() != 1 {
            return Err(Denial::Proof);
        }
        Ok(Self { token, proves })
    }
}

/// Checks a token by itself: that it is genuine, of this realm and good now.
async fn checked(
    dependencies: &Dependencies,
    exchange: &Exchange,
    visit: &mut Visit,
    presented: &Presented<'_>,
) -> Result<Good, Denial> {
    let token = presented.token;
    let digest = access_token::digest(token);
    if token.contains('.') {
        visit.token = Some("jwt");
        return verified(dependencies, exchange, &visit.resource, token, digest).await;
    }
    let resource = &visit.resource;
    let client = resource
        .introspection
        .as_ref()
        .ok_or(Denial::Token(AccessTokenError::Malformed))?;
    let answer = dependencies
        .introspector
        .introspect(&resource.realm, client, token)
        .await
        .map_err(|_| Denial::Away)?;
    visit.token = Some("introspection");
    let found = answer.ok_or(Denial::Token(AccessTokenError::Revoked))?;
    found
        .grant
        .check_time(dependencies.clock.now())
        .map_err(Denial::Token)?;
    let name = match &found.id {
        Some(id) => format!("jti:{id}"),
        None => token.to_owned(),
    };
    let people = &exchange.snapshot.people;
    Ok(Good {
        links: links(exchange, &name),
        client: people.client(&resource.tenant, &found.grant.client_id),
        grant: Held::Introspected(found.grant.clone()),
        digest,
    })
}

async fn verified(
    dependencies: &Dependencies,
    exchange: &Exchange,
    resource: &Resource,
    token: &str,
    digest: TokenDigest,
) -> Result<Good, Denial> {
    let known = match dependencies.tokens.find(&digest) {
        Some(known) if known.is_by(&keys_of(dependencies, resource, None).await?) => known,
        _ => authentic(dependencies, exchange, resource, token, digest).await?,
    };
    let issuer = resource.token_issuer.as_deref();
    let issuer = issuer
        .or(known.keys.issuer.as_deref())
        .ok_or(Denial::Away)?;
    known
        .token
        .check(issuer, dependencies.clock.now())
        .map_err(Denial::Token)?;
    Ok(Good {
        links: known.links.clone(),
        client: known.client,
        grant: Held::Verified(known),
        digest,
    })
}

/// Verifies a token that these keys have not verified before, and remembers it.
async fn authentic(
    dependencies: &Dependencies,
    exchange: &Exchange,
    resource: &Resource,
    token: &str,
    digest: TokenDigest,
) -> Result<Arc<Verified>, Denial> {
    let denied = |error: AccessTokenError| Denial::Token(error);
    // What is signed with a key of ours holds what the identity server has signed, and that is what counts.
    let resign = exchange.snapshot.resign.as_ref();
    let ours = resign
        .map(Resign::ours)
        .filter(|ours| ours.are_named(token));
    let original = match ours {
        Some(ours) => {
            let restored = ours.restored(token);
            Some(restored.ok_or(denied(AccessTokenError::Signature))?)
        }
        None => None,
    };
    let token = original.as_deref().unwrap_or(token);
    let keys = keys_of(dependencies, resource, Some(token)).await?;
    let token = AccessToken::authentic(token, &keys.keys).map_err(denied)?;
    let people = &exchange.snapshot.people;
    let verified = Arc::new(Verified {
        links: links(exchange, &format!("jti:{}", token.id)),
        client: people.client(&resource.tenant, &token.grant.client_id),
        keys,
        token,
    });
    dependencies.tokens.insert(digest, Arc::clone(&verified));
    Ok(verified)
}

/// The keys of the realm, with that of a token where it can be had.
async fn keys_of(
    dependencies: &Dependencies,
    resource: &Resource,
    token: Option<&str>,
) -> Result<Arc<RealmKeys>, Denial> {
    let header = token.map(|token| UnverifiedHeader::read(token, TokenKind::Access));
    let header = header
        .transpose()
        .map_err(|error| Denial::Token(error.into()))?;
    let keys = dependencies.keys.keys(&resource.realm, header.as_ref());
    keys.await.map_err(|_| Denial::Away)
}

/// Under what the decision behind a token is kept: its own name, and that under the secret that is being exchanged.
fn links(exchange: &Exchange, name: &str) -> Vec<LinkKey> {
    let people = &exchange.snapshot.people;
    let both = [Some(people), people.previous()];
    let both = both.into_iter().flatten();
    both.map(|people| link_key(people, LinkKind::AccessToken, name))
        .collect()
}

/// What is known of the session behind a token. One read tells both the decision behind it and what its user owes now; of
/// a token that this node has not met before it tells only whose it is, and a second one what that user owes.
async fn standing(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    good: &Good,
    tenant: &str,
    client_id: &str,
) -> Standing {
    let people = &exchange.snapshot.people;
    let tenant_hash = people.value(NameSpace::Tenant, tenant.as_bytes());
    let links = &good.links;
    let known = links
        .first()
        .and_then(|link| dependencies.tokens.subject(link));
    let recent = links
        .iter()
        .find_map(|link| dependencies.recent.find(link, dependencies.clock.instant()));
    let expected = known.or_else(|| recent.as_ref().and_then(|link| link.subject));
    let deadline = Deadline::after(dependencies.clock.instant(), exchange.snapshot.budget);
    // What this node has written itself it need not read.
    let asked = if recent.is_some() {
        Vec::new()
    } else {
        links.clone()
    };
    let query = query(exchange, asked, expected);
    let (history, cause) = assess::load(dependencies, exchange, &query, deadline).await;
    let is_ours = |link: &Arc<Provenance>| {
        link.tenant == tenant_hash && link.client.is_none_or(|client| client == good.client)
    };
    let stored = || {
        let history = history.as_ref()?;
        let mut found = links.iter().filter_map(|link| history.links.get(link));
        found.next().cloned().map(Arc::new)
    };
    let link = recent.or_else(stored).filter(is_ours);
    let Some(subject) = link.as_ref().and_then(|link| link.subject) else {
        return Standing {
            link,
            demanded: false,
            cause,
        };
    };
    let mut history = history;
    if expected != Some(subject) && history.is_some() {
        let query = self::query(exchange, Vec::new(), Some(subject));
        (history, _) = assess::load(dependencies, exchange, &query, deadline).await;
    }
    if let Some(link) = links.first().filter(|_| known.is_none()) {
        dependencies.tokens.is_of(*link, subject);
    }
    let demanded = link.as_deref().is_some_and(|link| {
        let application = link.application.as_deref().unwrap_or(client_id);
        is_demanded(
            dependencies,
            exchange,
            link,
            subject,
            (tenant, application),
            history.as_ref(),
        )
    });
    Standing {
        link,
        demanded,
        cause,
    }
}

fn query(exchange: &Exchange, links: Vec<LinkKey>, subject: Option<SubjectKey>) -> HistoryQuery {
    let demands = subject.map(DemandKey::user).into_iter().collect();
    HistoryQuery::of_links(links, demands, exchange.at)
}

/// Whether the user owes a stronger factor that nobody has proved. As at every other door it does not bind who is at home:
/// else anybody who knows a name could keep its user from the services.
fn is_demanded(
    dependencies: &Dependencies,
    exchange: &Exchange,
    link: &Provenance,
    subject: SubjectKey,
    (tenant, application): (&str, &str),
    history: Option<&History>,
) -> bool {
    let key = DemandKey::user(subject);
    let demand = demands::known(dependencies, history, &key, exchange.at);
    let Some(demand) = demand.filter(|demand| demand.is_outstanding(exchange.at)) else {
        return false;
    };
    let thresholds = exchange.snapshot.policy.thresholds(tenant, application);
    let level = RiskClaims::of_link(link, thresholds).level();
    let bearer = Bearer {
        subject: Some(subject),
        at_home: level == Some(RiskLevel::Low) && link.issued_to.device.is_some(),
        shared: false,
    };
    bearer.is_bound_by(DemandScope::User, &demand)
}
