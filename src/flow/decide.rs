//! Policy, mode and permit, from one assessment.

use crate::domain::enforcement;
use crate::domain::enforcement::AuthorizeFacts;
use crate::domain::enforcement::CIBA;
use crate::domain::enforcement::DEVICE_CODE;
use crate::domain::enforcement::Enforcement;
use crate::domain::enforcement::Grounds;
use crate::domain::enforcement::PlanInput;
use crate::domain::enforcement::Rejection;
use crate::domain::enforcement::RejectionKind;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::outcome::HandsOver;
use crate::domain::parameters::Parameters;
use crate::domain::policy::decision::Adjustment;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Matched;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::input::AgentInput;
use crate::domain::policy::input::ClientInput;
use crate::domain::policy::input::DeviceCookie;
use crate::domain::policy::input::DeviceInput;
use crate::domain::policy::input::NetworkInput;
use crate::domain::policy::input::PolicyInput;
use crate::domain::policy::input::RequestInput;
use crate::domain::policy::input::RiskInput;
use crate::domain::policy::input::SessionInput;
use crate::domain::policy::input::TimeInput;
use crate::domain::policy::input::UserInput;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::standing::Bound;
use crate::domain::policy::standing::Standing;
use crate::domain::risk::Assessment;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::ScoreSource;
use crate::domain::risk::Thresholds;
use crate::domain::route::Door;
use crate::domain::signals::Subject;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Timestamp;
use crate::flow::Dependencies;
use crate::flow::accounts;
use crate::flow::demands;
use crate::flow::demands::Exhausted;
use crate::flow::enrolment;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Decided;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::ProofDue;
use crate::flow::permit::ForwardPermit;
use crate::flow::rollout;
use crate::flow::unproven::Shown;

/// Decides an assessed request.
pub fn decide(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    parameters: Option<&Parameters>,
    now: Timestamp,
) {
    if let Some(assessed) = exchange.assessed.as_ref() {
        let is_unscored = matches!(assessed.assessment, Assessment::Unscored(_));
        let share = dependencies.scorer.share();
        if assessed.limited.is_none() {
            share.note(now, is_unscored);
        }
        if is_unscored {
            exchange.unscored_percent = share.percent(now);
        }
        let level = level(exchange, assessed, &assessed.assessment);
        let binding = demands::binding(assessed, door, level);
        if let Some(assessed) = exchange.assessed.as_mut() {
            assessed.owed.binding = binding;
        }
    }
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let share = rollout::share(exchange, &assessed.signals);
    let mode = share.mode_of(assessed.stable_key());
    let stage = share.mark().filter(|_| mode == Mode::Enforce);
    let has_fallen = mode == Mode::Enforce && dependencies.rollout.has_fallen(share);
    let standing = standing(exchange, assessed, door);
    // What binds the request binds what shows of it as well.
    let bound = match assessed.owed.binding.as_slice() {
        [] => Bound::No,
        _ => Bound::Always,
    };
    let beside = (mode, Standing { bound, ..standing });
    let (decision, own_demand) =
        verdict(exchange, assessed, &assessed.assessment, door, now, beside);
    let shown = assessed.shown.as_ref().filter(|_| mode == Mode::Enforce);
    let shown = shown.map(|assessment| {
        let (decision, own_demand) = verdict(exchange, assessed, assessment, door, now, beside);
        Shown {
            decision,
            own_demand,
            refused: false,
        }
    });
    let mut taken = Taken {
        decision,
        mode,
        standing,
        own_demand,
        shown,
    };
    if has_fallen && !stays(exchange, assessed, &mut taken) {
        let beside = (Mode::Monitor, standing);
        let (decision, own_demand) =
            verdict(exchange, assessed, &assessed.assessment, door, now, beside);
        taken = Taken {
            decision,
            mode: Mode::Monitor,
            standing,
            own_demand,
            shown: None,
        };
    }
    exchange.stage = stage;
    enact(dependencies, exchange, door, parameters, taken, now);
}

/// Whether a decision holds although its stage has fallen back to monitor. What shows of a name that is not proved is judged
/// by itself: it must not tell what is known of the name.
fn stays(exchange: &Exchange, assessed: &Assessed, taken: &mut Taken) -> bool {
    let standing = taken.standing;
    let is_limited = assessed.limited.is_some();
    let own = standing.is_bound(level(exchange, assessed, &assessed.assessment));
    let stays = rollout::stays(&taken.decision, &standing, own, is_limited);
    let Some(shown) = &mut taken.shown else {
        return stays;
    };
    let shows = rollout::stays(&shown.decision, &standing, own, is_limited);
    if stays && !shows {
        shown.decision.verdict = Verdict::Allow;
        shown.own_demand = false;
    }
    stays || shows
}

/// An analyst has lifted the review: the request goes on as if policy had let it through, and a stronger factor that it
/// owes is still owed.
pub fn lift(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    parameters: Option<&Parameters>,
) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let lifted = lifted(assessed, door);
    let Some(mut decided) = exchange.decided.take() else {
        return;
    };
    if decided.decision.verdict == Verdict::Review {
        decided.decision.verdict = lifted;
    }
    if let Some(shown) = &mut decided.shown
        && shown.decision.verdict == Verdict::Review
    {
        shown.decision.verdict = Verdict::Allow;
        shown.refused = false;
    }
    push_reason(&mut decided.decision, Reason::ReviewReleased);
    let taken = Taken {
        decision: decided.decision,
        mode: decided.mode,
        standing: decided.standing,
        own_demand: decided.own_demand,
        shown: decided.shown,
    };
    let now = exchange.at;
    enact(dependencies, exchange, door, parameters, taken, now);
}

/// The same where the identity server has answered already: what was forwarded cannot be changed any more.
pub fn lift_answered(exchange: &mut Exchange, door: Door) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let lifted = lifted(assessed, door);
    if let Some(decided) = &mut exchange.decided {
        if decided.decision.verdict == Verdict::Review {
            decided.decision.verdict = lifted;
        }
        push_reason(&mut decided.decision, Reason::ReviewReleased);
    }
}

/// What is left of a review that was lifted: a factor that is owed is still owed.
pub(in crate::flow) fn lifted(assessed: &Assessed, door: Door) -> Verdict {
    if outstanding(assessed, door) || !assessed.owed.binding.is_empty() {
        Verdict::StepUp
    } else {
        Verdict::Allow
    }
}

/// A decision that is to be carried out.
struct Taken {
    decision: Decision,
    mode: Mode,
    standing: Standing,
    own_demand: bool,
    /// What is decided as if nobody had the name, where it is not proved.
    shown: Option<Shown>,
}

/// From a decision to its effects.
fn enact(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    parameters: Option<&Parameters>,
    taken: Taken,
    now: Timestamp,
) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let Taken {
        decision,
        mode,
        standing,
        own_demand,
        mut shown,
    } = taken;
    // What goes on with a name that is not proved may ring its telephone, even if it is refused in the end.
    let rings = decision.verdict == Verdict::StepUp
        || (shown.is_some() && decision.verdict > Verdict::StepUp);
    let (exhausted, under_way) = if mode == Mode::Enforce && rings {
        demands::challenge(dependencies, exchange, assessed, door)
    } else {
        (None, None)
    };
    // Only at these doors may a demand be written into the request.
    let changeable = parameters.filter(|_| matches!(door, Door::Authorize | Door::Saml));
    let body = changeable.and_then(Parameters::form);
    let body = body.as_deref();
    let input = plan_input(exchange, assessed, door, body, mode, &decision, now);
    let seconds = exhausted.map(|exhausted| exhausted.seconds);
    let own = || {
        enforcement::plan(&PlanInput {
            exhausted: seconds,
            ..input
        })
    };
    let (mut enforcement, withheld) = match (assessed.limited, &mut shown, &assessed.shown) {
        (Some(limited), _, _) if mode == Mode::Enforce => {
            let kind = RejectionKind::RateLimited;
            let rejection = enforcement::rejection(door, kind, Some(limited.retry_after));
            (Enforcement::Reject(rejection), None)
        }
        (_, Some(shown), Some(assessment)) if shown.decision.verdict > Verdict::StepUp => {
            shown.refused = true;
            let refused = PlanInput {
                decision: &shown.decision,
                assessment,
                ..input
            };
            (enforcement::plan(&refused), None)
        }
        (_, Some(shown), _) => match own() {
            Enforcement::Reject(rejection) if !shows(&rejection, exhausted, shown) => {
                let mut told = decision.clone();
                if told.verdict == Verdict::Review {
                    // The identity server goes on as it must if an analyst lets the login in.
                    told.verdict = lifted(assessed, door);
                }
                let forwarded = PlanInput {
                    decision: &told,
                    deferred: true,
                    ..input
                };
                (enforcement::plan(&forwarded), Some(rejection))
            }
            own => (own, None),
        },
        _ => (own(), None),
    };
    let owes = owed(assessed, door, &decision, input.provable, now);
    let asks = mode == Mode::Enforce
        && accounts::is_asked(dependencies, exchange, assessed, door, shown.is_some());
    exchange.permit = match &mut enforcement {
        Enforcement::Forward(headers, grounds) => {
            let headers = std::mem::take(headers);
            Some(ForwardPermit::assertion(*grounds, headers))
        }
        Enforcement::Rewrite(headers, grounds, changed) => {
            let headers = std::mem::take(headers);
            let permit = ForwardPermit::assertion(*grounds, headers);
            Some(permit.with_change(changed.clone()))
        }
        Enforcement::Redirect(_) | Enforcement::Reject(_) => None,
    };
    exchange.under_way = under_way;
    exchange.withheld = withheld;
    exchange.owes = owes.filter(|_| mode == Mode::Enforce && exchange.permit.is_some());
    exchange.asks_account = asks && exchange.permit.is_some();
    exchange.decided = Some(Decided {
        decision,
        mode,
        standing,
        own_demand,
        shown,
        enforcement,
    });
}

/// What the effects of `decision` depend on, where nobody was asked too often and nothing is put off. `body` is the form that
/// was sent.
fn plan_input<'a>(
    exchange: &'a Exchange,
    assessed: &'a Assessed,
    door: Door,
    body: Option<&'a [(String, String)]>,
    mode: Mode,
    decision: &'a Decision,
    now: Timestamp,
) -> PlanInput<'a> {
    let snapshot = &exchange.snapshot;
    let application = assessed.signals.client_id.as_deref().unwrap_or("");
    let outstanding = assessed.owed.outstanding.iter();
    let failed = outstanding.map(|(_, demand)| demand.failed).max();
    PlanInput {
        mode,
        assessment: &assessed.assessment,
        decision,
        door,
        method: exchange.method,
        target: exchange
            .target
            .as_ref()
            .map_or("", CanonicalTarget::forwarded),
        grant_type: assessed.facts.grant_type.as_deref(),
        authorize: AuthorizeFacts {
            body,
            reprove: assessed.presents_session && assessed.demanded_since.is_none(),
            ..assessed.facts.authorize()
        },
        saml: assessed.facts.saml.as_ref(),
        continues: assessed.continues,
        decision_id: exchange.id.as_str(),
        address: exchange.client.address,
        now,
        step_up: &snapshot.step_up,
        style: snapshot.step_up.style(exchange.tenant(), application),
        sent: assessed.owed.sent,
        failed: failed.unwrap_or(0),
        exhausted: None,
        provable: is_provable(assessed, door),
        deferred: false,
        signer: snapshot.signer.as_ref(),
    }
}

/// Whether a refusal may show before the name is proved. That a user was asked too often does where challenges were given
/// already, each after the right password: else telephones would go on ringing where WSO2 asks for the factor by itself.
/// Of those that are only under way nobody knows whether the password was right.
fn shows(rejection: &Rejection, exhausted: Option<Exhausted>, shown: &Shown) -> bool {
    rejection.kind == RejectionKind::ChallengesExhausted
        && (exhausted.is_some_and(|exhausted| exhausted.were_given)
            || shown.decision.verdict == Verdict::StepUp)
}

/// Whether the answer to this request can prove that a stronger factor was given: the tokens of an authorization that a
/// user has made in a browser. A refresh tells of the same authentication as the token that it renews; it is asked only
/// where that one still owes its proof.
fn is_provable(assessed: &Assessed, door: Door) -> bool {
    let link = assessed.provenance.as_deref();
    door == Door::Token
        && !link.is_some_and(|link| link.barred)
        && match assessed.facts.grant_type.as_deref() {
            Some("authorization_code" | DEVICE_CODE | CIBA) => true,
            Some("refresh_token") => link.is_some_and(Provenance::owes_proof),
            _ => false,
        }
}

/// What the answer must prove.
fn owed(
    assessed: &Assessed,
    door: Door,
    decision: &Decision,
    provable: bool,
    now: Timestamp,
) -> Option<ProofDue> {
    let steps_up = decision.verdict == Verdict::StepUp;
    let link = assessed
        .provenance
        .as_deref()
        .filter(|link| link.owes_proof());
    let (asked, raised) = match door {
        Door::Token => (steps_up && provable, link.is_none()),
        _ if assessed.facts.hands_over != HandsOver::Nothing => {
            let raised = steps_up && !assessed.continues;
            (raised || link.is_some(), raised)
        }
        _ => return None,
    };
    asked.then(|| match link {
        Some(link) if !raised => ProofDue {
            at: link.demanded_at,
            seen: link.has_factor_since(),
            inherited: true,
        },
        _ => ProofDue {
            at: assessed.demanded_since.unwrap_or(now),
            // An assertion does not tell when the session was proved; here that is known.
            seen: assessed.facts.hands_over == HandsOver::Saml && assessed.demanded_since.is_some(),
            inherited: false,
        },
    })
}

/// Whether a stronger factor was demanded of the login that is presented, and not given yet. Where tokens are handed out,
/// only the identity server's word counts.
fn outstanding(assessed: &Assessed, door: Door) -> bool {
    assessed.provenance.as_deref().is_some_and(|link| {
        if door == Door::Token {
            link.owes_proof() || link.barred
        } else {
            link.demanded && !link.has_strong_factor()
        }
    })
}

/// The permit of a request that is not scored: its route is exempt or the mode is off. The status header tells WSO2's
/// script that the gateway saw the request.
pub fn unscored_permit(exchange: &mut Exchange, grounds: Grounds) {
    let headers = enforcement::status_only("off");
    exchange.permit = Some(ForwardPermit::assertion(grounds, headers));
}

fn level(exchange: &Exchange, assessed: &Assessed, assessment: &Assessment) -> Option<RiskLevel> {
    let score = assessment.score()?;
    Some(score.level(thresholds(exchange, assessed)))
}

/// The thresholds that hold for a request.
pub(in crate::flow) fn thresholds(exchange: &Exchange, assessed: &Assessed) -> Thresholds {
    let application = assessed.signals.client_id.as_deref().unwrap_or("");
    let policy = &exchange.snapshot.policy;
    policy.thresholds(exchange.tenant(), application)
}

/// What stands beside the policy.
fn standing(exchange: &Exchange, assessed: &Assessed, door: Door) -> Standing {
    let binds = |level| !demands::binding(assessed, door, level).is_empty();
    Standing {
        continues: assessed.continues,
        barred: is_barred(assessed),
        outstanding: outstanding(assessed, door),
        redeems: door == Door::Token,
        inherited: is_inherited(&assessed.assessment),
        bound: if binds(Some(RiskLevel::Low)) {
            Bound::Always
        } else if binds(None) {
            Bound::UnlessLow
        } else {
            Bound::No
        },
        approval: assessed.approval_demanded,
        enrols: enrolment::of_request(exchange, assessed, door),
        released: false,
    }
}

fn is_inherited(assessment: &Assessment) -> bool {
    matches!(
        assessment,
        Assessment::Scored {
            source: ScoreSource::Provenance,
            ..
        }
    )
}

/// The decision about a request that is assessed like this, and whether it is a demand of its own.
pub(in crate::flow) fn verdict(
    exchange: &Exchange,
    assessed: &Assessed,
    assessment: &Assessment,
    door: Door,
    now: Timestamp,
    (mode, standing): (Mode, Standing),
) -> (Decision, bool) {
    let standing = Standing {
        inherited: is_inherited(assessment),
        ..standing
    };
    let demanded = standing.is_demanded(level(exchange, assessed, assessment), mode);
    let input = input(exchange, assessed, assessment, door, demanded, now);
    let mut decision = exchange.snapshot.policy.decide(&input);
    let adjusted = matches!(decision.adjusted, Some(Adjustment::Demanded { .. }));
    let mut own_demand = !adjusted && demands::is_own_demand(&decision);
    let by_rule = matches!(decision.matched, Matched::Rule { .. });
    let settled = standing.settle(&decision, mode);
    let provable = is_provable(assessed, door);
    if !standing.continues && !standing.barred {
        if standing.redeems && standing.outstanding {
            own_demand = true;
            if !provable {
                push_reason(&mut decision, Reason::AssuranceInsufficient);
            }
        } else if standing.inherited && !by_rule {
            own_demand = false;
        }
    }
    if standing.redeems && provable {
        // Whether it is met is not known before the answer has come.
        own_demand = false;
    }
    decision.verdict = settled.verdict;
    if settled.owes {
        push_reason(&mut decision, Reason::StepUpOutstanding);
    }
    if settled.may_not_enrol {
        push_reason(&mut decision, Reason::AssuranceInsufficient);
    }
    if assessed.limited.is_some() {
        push_reason(&mut decision, Reason::RateLimited);
    } else if !assessed.state_answered {
        push_reason(&mut decision, Reason::StateUnavailable);
    }
    for note in &assessed.notes {
        push_reason(&mut decision, *note);
    }
    (decision, own_demand)
}

/// Adds a reason, unless it is there.
pub(in crate::flow) fn push_reason(decision: &mut Decision, reason: Reason) {
    if !decision.reasons.contains(&reason) {
        decision.reasons.push(reason);
    }
}

/// Whether a login that was withheld is gone on with. Whoever names somebody again begins anew.
pub(in crate::flow) fn is_barred(assessed: &Assessed) -> bool {
    let link = assessed.provenance.as_deref();
    let presented = assessed.presented.map(|key| key.kind);
    let names =
        matches!(&assessed.signals.subject, Subject::Named { name, .. } if !name.is_empty());
    presented == Some(LinkKind::Transaction) && link.is_some_and(|link| link.barred) && !names
}

/// Whether whoever makes the request is a break-glass account: also where a later step of a login, a code, a session or a
/// token does not name it. A name in a link, or beside the factor of somebody else, makes nobody one.
pub(in crate::flow) fn is_break_glass(
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
) -> bool {
    let snapshot = &exchange.snapshot;
    if snapshot.break_glass.is_empty() {
        return false;
    }
    let who = if assessed.is_misnamed(door) {
        let link = assessed.provenance.as_deref();
        link.and_then(|link| link.subject)
    } else {
        assessed.subject()
    };
    who.is_some_and(|key| snapshot.break_glass.contains(&key))
}

/// What policy is asked about.
pub(in crate::flow) fn input<'a>(
    exchange: &'a Exchange,
    assessed: &'a Assessed,
    assessment: &'a Assessment,
    door: Door,
    outstanding: bool,
    now: Timestamp,
) -> PolicyInput<'a> {
    let text = |value: &'a Option<String>| value.as_deref().unwrap_or("");
    let signals = &assessed.signals;
    let facts = &assessed.facts;
    PolicyInput {
        risk: RiskInput::from(assessment),
        request: RequestInput {
            door,
            method: exchange.method,
            tenant: exchange.tenant(),
            organization: exchange.organization(),
            grant_type: text(&facts.grant_type),
            response_type: text(&facts.response_type),
            prompt: text(&facts.prompt),
            acr_values: text(&facts.acr_values),
            path: exchange.target.as_ref().map_or("", CanonicalTarget::path),
            demanded: outstanding,
        },
        client: ClientInput {
            id: signals.client_id.as_deref().unwrap_or(""),
        },
        user: UserInput {
            name: match &signals.subject {
                Subject::Named { name, .. } => Some(name),
                Subject::Anonymous | Subject::Client { .. } => None,
            },
            known: assessed.profile.is_some(),
            logins: assessed.logins(),
            break_glass: Some(is_break_glass(exchange, assessed, door)),
        },
        network: NetworkInput {
            address: signals.address,
            country: signals.network.country,
            asn: signals.network.asn,
            kind: signals.network.kind,
        },
        device: DeviceInput {
            known: assessed.device == DeviceStanding::Known,
            cookie: match assessed.device {
                DeviceStanding::Known => DeviceCookie::Known,
                DeviceStanding::None => DeviceCookie::Missing,
                DeviceStanding::Foreign => DeviceCookie::Foreign,
            },
        },
        agent: AgentInput {
            browser: &signals.agent.browser,
            os: &signals.agent.os,
            kind: signals.agent.kind.as_str(),
        },
        session: SessionInput {
            present: assessed.provenance.is_some() && door == Door::Authorize,
        },
        time: TimeInput {
            hour: u8::try_from(now.hour_of_day()).unwrap_or(0),
            weekday: now.weekday() % 7,
        },
        unscored_percent: exchange.unscored_percent,
    }
}
