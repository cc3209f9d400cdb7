//! Whether an answer of the identity server proves the stronger factor that is owed. Its word is the ID token that it
//! signs; what is not proved is not let through, and what it has issued is made useless.
//!
//! Nothing here can end in a release by accident: every way that is not a verified proof withholds.

use crate::domain::demand::Proof;
use crate::domain::enforcement;
use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::StepUpSettings;
use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::front_channel::FrontChannel;
use crate::domain::front_channel::FrontChannelError;
use crate::domain::history::FACTOR_PROVEN;
use crate::domain::history::FACTOR_SINCE;
use crate::domain::history::FACTOR_STRONG;
use crate::domain::history::LinkKind;
use crate::domain::history::OwedProof;
use crate::domain::history::Provenance;
use crate::domain::history::Told;
use crate::domain::id_token::Claimed;
use crate::domain::id_token::Expected;
use crate::domain::id_token::IdToken;
use crate::domain::id_token::IdTokenError;
use crate::domain::jwt::SKEW;
use crate::domain::jwt::TokenKind;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::CODE_LIFETIME;
use crate::domain::outcome::Conclusion;
use crate::domain::outcome::HandsOver;
use crate::domain::outcome::Issued;
use crate::domain::outcome::IssuedTokens;
use crate::domain::outcome::access_token_key;
use crate::domain::parameters::Parameters;
use crate::domain::policy::reason::Reason;
use crate::domain::route::Door;
use crate::domain::secret::Secret;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Timestamp;
use crate::flow::Dependencies;
use crate::flow::accounts;
use crate::flow::answer::Replacement;
use crate::flow::decide::push_reason;
use crate::flow::demands;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::ProofDue;
use crate::flow::identify::link_key;
use crate::flow::observe;
use crate::flow::ports::ClientAuth;
use crate::flow::ports::IssuedToken;
use crate::flow::ports::RevokeError;
use crate::flow::ports::Revoker;
use crate::flow::token_action;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;

/// Whether an assertion proves it.
pub(in crate::flow) mod saml;

/// The longest that a client waits until its tokens are taken back; then they are in the background.
const REVOCATION_WAIT: Duration = Duration::from_millis(400);

/// The identity server's answer, held back as a whole.
#[derive(Clone, Copy, Debug)]
pub struct HeldAnswer<'a> {
    /// Its status.
    pub status: u16,
    /// Its Location header.
    pub location: Option<&'a str>,
    /// Whether its body is HTML.
    pub is_page: bool,
    /// Its body; `None` when it is too long to be held or compressed.
    pub body: Option<&'a [u8]>,
}

impl HeldAnswer<'_> {
    /// What it hands to the application by the browser, in whatever way; `None` where it hands over nothing that can be read.
    pub(in crate::flow) fn handed(&self) -> Option<FrontChannel> {
        if let Some(location) = self.location {
            return FrontChannel::of_location(location);
        }
        let body = self.body?;
        if self.is_page {
            return FrontChannel::of_form(std::str::from_utf8(body).ok()?);
        }
        FrontChannel::of_json(body)
    }
}

/// Why an answer does not prove what is owed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::flow) enum Unproven {
    /// Neither `acr` nor `amr` says that a stronger factor was given.
    Acr,
    /// Only a reference is handed over, which the client resolves elsewhere.
    Artifact,
    /// Only the client can read it.
    Encrypted,
    /// The ID token cannot be taken.
    IdToken(IdTokenError),
    /// The issuer is neither configured nor learnt.
    IssuerUnknown,
    /// The keys cannot be had.
    KeysAway,
    /// The user was authenticated too long ago, or it is not known when.
    Stale,
    /// There is no ID token.
    NoIdToken,
    /// The application proves by something else.
    OtherProof,
    /// The identity server was told before it issued anything that the tokens would not prove it.
    RefusedBefore,
    /// The answer cannot be read.
    Unreadable,
}

impl Unproven {
    fn as_str(self) -> &'static str {
        match self {
            Self::Acr => "acr",
            Self::Artifact => "artifact",
            Self::Encrypted => "encrypted",
            Self::IdToken(error) => error.as_str(),
            Self::IssuerUnknown => "issuer_unknown",
            Self::KeysAway => "keys_away",
            Self::Stale => "stale",
            Self::NoIdToken => "no_id_token",
            Self::OtherProof => "other_proof",
            Self::RefusedBefore => "refused_before_issue",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How the client of a token request has authenticated itself, if the same can be sent again.
pub fn client_auth(
    headers: &http::HeaderMap,
    parameters: Option<&Parameters>,
) -> Option<ClientAuth> {
    let get = |name: &str| {
        parameters
            .and_then(|parameters| parameters.get(name))
            .filter(|value| !value.is_empty())
    };
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let value = value.to_str().ok()?;
        let is_basic = value
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "));
        return is_basic.then(|| ClientAuth::Basic(Secret::new(value.to_owned())));
    }
    // An assertion is good once.
    if get("client_assertion").is_some() {
        return None;
    }
    let id = get("client_id")?.to_owned();
    Some(match get("client_secret") {
        Some(secret) => ClientAuth::Post(id, Secret::new(secret.to_owned())),
        None => ClientAuth::Public(id),
    })
}

/// Judges an answer that was held back. `None` lets it through; else this goes out in its place.
pub async fn settle(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    answer: HeldAnswer<'_>,
    client: Option<ClientAuth>,
) -> Option<Replacement> {
    let told = accounts::told(dependencies, exchange, answer).await;
    if let Some(demand) = told.as_ref().and_then(|told| told.owed) {
        accounts::bind(dependencies, exchange, demand);
    }
    let replacement = judged(dependencies, exchange, answer, client).await;
    if let Some(told) = told {
        accounts::settled(dependencies, exchange, told, replacement.is_some());
    }
    replacement
}

async fn judged(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    answer: HeldAnswer<'_>,
    client: Option<ClientAuth>,
) -> Option<Replacement> {
    let owed = exchange.owes?;
    let hands_over = exchange.assessed.as_ref()?.facts.hands_over;
    match (exchange.door?, hands_over) {
        (Door::Token, _) => tokens(dependencies, exchange, owed, answer, client).await,
        (_, HandsOver::Saml) => saml::settle(dependencies, exchange, owed, answer),
        _ => front_channel(dependencies, exchange, owed, answer).await,
    }
}

async fn tokens(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    owed: ProofDue,
    answer: HeldAnswer<'_>,
    client: Option<ClientAuth>,
) -> Option<Replacement> {
    // An error of the identity server hands out nothing. Where it is one that it was told to give, the client is told what
    // to ask for.
    if answer.status >= 400 {
        if !token_action::told(dependencies, exchange).contains(&Told::Unproven) {
            return None;
        }
        note(dependencies, exchange, Err(Unproven::RefusedBefore));
        exchange.outcome = AuthOutcome::RefusedHere;
        return Some(unproven_tokens(exchange));
    }
    let issued = answer.body.and_then(IssuedTokens::read);
    let proof = match &issued {
        Some(issued) => prove(dependencies, exchange, owed, issued.id_token.as_deref()).await,
        None => Err(Unproven::Unreadable),
    };
    let unproven = note(dependencies, exchange, proof)?;
    withhold(
        dependencies,
        exchange,
        issued.unwrap_or_default(),
        client,
        unproven,
    )
    .await;
    Some(unproven_tokens(exchange))
}

/// What a client gets in place of tokens that prove nothing.
fn unproven_tokens(exchange: &Exchange) -> Replacement {
    let grant = exchange
        .assessed
        .as_ref()
        .and_then(|assessed| assessed.facts.grant_type.as_deref());
    let kind = match grant {
        grant if enforcement::polls(grant) => RejectionKind::StepUpDenied,
        // No factor can be given in it.
        Some("password") => RejectionKind::StepUpImpossible,
        _ => RejectionKind::StepUpByAuthorization,
    };
    Replacement::Reject(enforcement::rejection(Door::Token, kind, None))
}

/// What the browser carries to the client: tokens only with a proof. A code is checked when it is redeemed; but where
/// nobody could be asked (`prompt=none`) and no factor was seen, it is withheld as well.
async fn front_channel(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    owed: ProofDue,
    answer: HeldAnswer<'_>,
) -> Option<Replacement> {
    if answer.status >= 400 {
        return None;
    }
    if answer.location.is_none() && answer.body.is_none() {
        // Nobody can say what is in it.
        note(dependencies, exchange, Err(Unproven::Unreadable));
        return Some(refusal(exchange));
    }
    let handed = answer.handed()?;
    if handed.is_error {
        return None;
    }
    if let Some(code) = handed.code.as_deref().filter(|_| handed.is_page()) {
        // It is not in the head of the answer, where it would have been seen.
        code_in_page(dependencies, exchange, code);
    }
    let silent = exchange
        .assessed
        .as_ref()
        .is_some_and(|assessed| assessed.facts.prompts("none"));
    if !handed.has_tokens() {
        if !silent || owed.seen {
            return None;
        }
        note(dependencies, exchange, Err(Unproven::NoIdToken));
        exchange.outcome = AuthOutcome::RefusedHere;
    } else {
        let proof = prove(dependencies, exchange, owed, handed.id_token.as_deref()).await;
        let unproven = note(dependencies, exchange, proof)?;
        let client = exchange
            .assessed
            .as_ref()
            .and_then(|assessed| assessed.signals.client_id.clone())
            .or_else(|| {
                let token = handed
                    .id_token
                    .as_deref()
                    .or(handed.access_token.as_deref());
                token.and_then(|token| client_of(exchange, token))
            });
        let issued = IssuedTokens {
            access_token: handed.access_token.clone(),
            ..IssuedTokens::default()
        };
        if let Some(token) = &handed.subject_token {
            // It cannot be revoked, and is good for minutes.
            bar(dependencies, exchange, token);
        }
        withhold(
            dependencies,
            exchange,
            issued,
            client.map(ClientAuth::Public),
            unproven,
        )
        .await;
    }
    // OpenID Connect Core section 3.1.2.6 for who could not be asked; else the error that is registered for an
    // authentication that does not reach what is required (OpenID Connect Unmet Authentication Requirements 1.0).
    let (error, description) = if silent {
        ("login_required", "a stronger authentication is required")
    } else {
        (
            "unmet_authentication_requirements",
            "a stronger authentication is required and was not given",
        )
    };
    Some(match handed.with_error(error, description) {
        FrontChannelError::Redirect(location) => Replacement::Redirect(location),
        FrontChannelError::Post(action, fields) => Replacement::Post { action, fields },
        FrontChannelError::Direct => refusal(exchange),
    })
}

/// Links a code that the answer hands over in a page to its login.
fn code_in_page(dependencies: &Dependencies, exchange: &mut Exchange, code: &str) {
    let Some(door) = exchange.door else {
        return;
    };
    let issued = Issued {
        kind: LinkKind::Code,
        value: code.to_owned(),
        lifetime: CODE_LIFETIME,
    };
    exchange.outcome = AuthOutcome::CodeIssued;
    let conclusion = Conclusion::of(exchange.outcome, vec![issued]);
    observe::bind(dependencies, exchange, door, conclusion);
}

fn refusal(exchange: &Exchange) -> Replacement {
    let door = exchange.door.unwrap_or(Door::Authorize);
    Replacement::Reject(enforcement::rejection(
        door,
        RejectionKind::StepUpImpossible,
        None,
    ))
}

/// Whether an ID token proves what is owed. One that cannot be checked here counts as what the identity server said of it
/// before it issued it.
async fn prove(
    dependencies: &Dependencies,
    exchange: &Exchange,
    owed: ProofDue,
    token: Option<&str>,
) -> Result<Proof, Unproven> {
    let checked = verify(dependencies, exchange, owed, token).await;
    match checked {
        Err(
            unread @ (Unproven::IdToken(IdTokenError::Algorithm | IdTokenError::Malformed)
            | Unproven::IssuerUnknown
            | Unproven::KeysAway),
        ) => token_action::proof_of(dependencies, exchange).ok_or(unread),
        checked => checked,
    }
}

async fn verify(
    dependencies: &Dependencies,
    exchange: &Exchange,
    owed: ProofDue,
    token: Option<&str>,
) -> Result<Proof, Unproven> {
    if !accepts(exchange, ProofKind::IdToken) {
        return Err(Unproven::OtherProof);
    }
    let token = token.ok_or(Unproven::NoIdToken)?;
    let header = UnverifiedHeader::read(token, TokenKind::Id)
        .map_err(|error| Unproven::IdToken(error.into()))?;
    let client_id = client_of(exchange, token).ok_or(Unproven::IdToken(IdTokenError::Audience))?;
    let realm = exchange.target.as_ref().map_or("", CanonicalTarget::prefix);
    let known = dependencies
        .keys
        .keys(realm, Some(&header))
        .await
        .map_err(|_| Unproven::KeysAway)?;
    let settings = &exchange.snapshot.step_up;
    let configured = settings
        .issuer
        .as_ref()
        .map(|origin| format!("{origin}{realm}/oauth2/token"));
    let issuer = configured
        .as_deref()
        .or(known.issuer.as_deref())
        .ok_or(Unproven::IssuerUnknown)?;
    let now = dependencies.clock.now();
    let expected = Expected {
        issuer,
        client_id: &client_id,
        now,
    };
    let verified = IdToken::verify(token, &known.keys, &expected).map_err(Unproven::IdToken)?;
    let assessed = exchange.assessed.as_ref();
    // A factor that was seen came between the demand and the code.
    let seen_at = assessed
        .and_then(|assessed| assessed.provenance.as_deref())
        .map_or(owed.at, |link| link.at);
    let subject = assessed.and_then(Assessed::subject).unwrap_or_else(|| {
        let people = &exchange.snapshot.people;
        people.account(exchange.user_domain(), &verified.subject)
    });
    let due = OwedProof {
        at: owed.at,
        seen: owed.seen,
    };
    judge(
        settings,
        verified.acr.as_deref(),
        &verified.amr,
        verified.authenticated,
        due,
        now,
    )?;
    Ok(Proof {
        subject,
        at: verified.authenticated.unwrap_or(seen_at).max(owed.at),
        acr: verified.acr,
        amr: verified.amr,
    })
}

/// Whether what the identity server says of an authentication is what is owed.
pub(in crate::flow) fn judge(
    settings: &StepUpSettings,
    acr: Option<&str>,
    amr: &[String],
    authenticated: Option<Timestamp>,
    owed: OwedProof,
    now: Timestamp,
) -> Result<(), Unproven> {
    let is_fresh = match authenticated {
        Some(at) => {
            let max_age = Duration::from_secs(settings.max_age_seconds);
            at.plus(SKEW) >= owed.at || at.plus(max_age).plus(SKEW) >= now
        }
        // Only who sends `max_age` is told the time. Then what was seen of this login has to say that it is new.
        None => owed.seen,
    };
    match (settings.is_reached(acr, amr), is_fresh) {
        (false, _) => Err(Unproven::Acr),
        (true, false) => Err(Unproven::Stale),
        (true, true) => Ok(()),
    }
}

/// Whether the application of an exchange proves in this way. Where nothing is said it proves by what it is given.
pub(in crate::flow) fn accepts(exchange: &Exchange, kind: ProofKind) -> bool {
    let application = exchange
        .assessed
        .as_ref()
        .and_then(|assessed| assessed.signals.client_id.as_deref())
        .unwrap_or("");
    let settings = &exchange.snapshot.step_up;
    settings
        .proof(exchange.tenant(), application)
        .is_none_or(|named| named == kind)
}

/// The client that an ID token must be for: that of the request, else the one among those it names that the presented
/// login belongs to.
fn client_of(exchange: &Exchange, token: &str) -> Option<String> {
    let assessed = exchange.assessed.as_ref()?;
    if let Some(id) = &assessed.signals.client_id {
        return Some(id.clone());
    }
    let client = assessed.provenance.as_deref()?.client?;
    let people = &exchange.snapshot.people;
    Claimed::read(token)
        .audience
        .into_iter()
        .find(|id| people.client(exchange.tenant(), id) == client)
}

/// Notes what came of a proof, and what was issued with it. The reason when there is none.
fn note(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    proof: Result<Proof, Unproven>,
) -> Option<Unproven> {
    let door = exchange.door.map_or("none", Door::as_str);
    let unproven = proof.as_ref().err().copied();
    tell_demands(dependencies, exchange, proof.ok());
    let result = unproven.map_or("proven", Unproven::as_str);
    dependencies.metrics.proof(door, result);
    exchange.proof = Some(result);
    for (key, link, _) in &mut exchange.issued {
        let provenance = Arc::make_mut(link);
        if unproven.is_none() {
            provenance.factors |= FACTOR_STRONG | FACTOR_SINCE | FACTOR_PROVEN;
        } else {
            provenance.barred = true;
        }
        dependencies
            .recent
            .insert(*key, Arc::clone(link), dependencies.clock.instant());
    }
    if unproven.is_some()
        && let Some(decided) = &mut exchange.decided
    {
        push_reason(&mut decided.decision, Reason::AssuranceInsufficient);
    }
    unproven
}

/// Ends the demands that the proof meets, or notes that the login went to its end without one.
fn tell_demands(dependencies: &Dependencies, exchange: &Exchange, proof: Option<Proof>) {
    let link = exchange
        .assessed
        .as_ref()
        .and_then(|assessed| assessed.provenance.as_deref());
    let keys = link.map_or(&[][..], |link| &link.demand_keys);
    match proof {
        Some(proof) => {
            let user = exchange.assessed.as_ref().and_then(Assessed::subject);
            demands::proved(dependencies, exchange, keys, user, proof.proved());
        }
        None => {
            let subject = link.and_then(Provenance::user);
            demands::proof_failed(dependencies, exchange, keys, subject);
        }
    }
}

/// Makes what was issued useless: by the client's own word, else with the user's sessions; what remains is refused here.
async fn withhold(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    issued: IssuedTokens,
    client: Option<ClientAuth>,
    unproven: Unproven,
) {
    exchange.outcome = AuthOutcome::RefusedHere;
    if let Some(token) = &issued.access_token {
        bar(dependencies, exchange, token);
    }
    let takes_back = TakeBack {
        revoker: Arc::clone(&dependencies.revoker),
        metrics: Arc::clone(&dependencies.metrics),
        door: exchange.door.map_or("none", Door::as_str),
        realm: exchange
            .target
            .as_ref()
            .map_or_else(String::new, |target| target.prefix().to_owned()),
        // A token that was not verified names nobody.
        user: match unproven {
            Unproven::Acr | Unproven::Stale => issued
                .id_token
                .as_deref()
                .and_then(|token| Claimed::read(token).subject),
            _ => None,
        },
        issued,
        client,
    };
    let running = tokio::spawn(takes_back.run());
    exchange.revocation = Some(match tokio::time::timeout(REVOCATION_WAIT, running).await {
        Ok(Ok(result)) => result,
        // It goes on without the client.
        Ok(Err(_)) | Err(_) => "pending",
    });
}

/// From now on this node takes a token for nobody's.
fn bar(dependencies: &Dependencies, exchange: &Exchange, token: &str) {
    let people = &exchange.snapshot.people;
    let key = link_key(people, LinkKind::AccessToken, &access_token_key(token));
    dependencies.barred.insert(key);
}

/// Takes back tokens, beside the request.
struct TakeBack {
    revoker: Arc<dyn Revoker>,
    metrics: Arc<Metrics>,
    door: &'static str,
    realm: String,
    user: Option<String>,
    issued: IssuedTokens,
    client: Option<ClientAuth>,
}

impl TakeBack {
    async fn run(self) -> &'static str {
        let result = self.take_back().await;
        self.metrics.withheld(self.door, result);
        if result == "barred" {
            tracing::warn!(
                door = self.door,
                "tokens without a proof could not be revoked; they are refused here"
            );
        }
        result
    }

    async fn take_back(&self) -> &'static str {
        let tokens = [
            (&self.issued.refresh_token, true),
            (&self.issued.access_token, false),
        ];
        if tokens.iter().all(|(token, _)| token.is_none()) {
            return "none";
        }
        let mut revoked = true;
        for (token, is_refresh) in tokens {
            let (Some(token), Some(client)) = (token, &self.client) else {
                revoked &= token.is_none();
                continue;
            };
            let token = IssuedToken {
                value: Secret::new(token.clone()),
                is_refresh,
            };
            revoked &= self.tell(self.revoker.revoke(&self.realm, &token, client).await);
        }
        if revoked {
            return "revoked";
        }
        let Some(user) = &self.user else {
            return "barred";
        };
        if self.tell(self.revoker.end_sessions(&self.realm, user).await) {
            "sessions_ended"
        } else {
            "barred"
        }
    }

    fn tell(&self, result: Result<(), RevokeError>) -> bool {
        if let Err(error) = result {
            tracing::debug!(door = self.door, error = %error, "tokens were not taken back");
        }
        result.is_ok()
    }
}
