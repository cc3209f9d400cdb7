//! What became of each chapter, in a sentence made of what was recorded and what the driver saw, and whether it is what
//! riskgate promises. Nothing here is known beforehand.

use crate::audit::Records;
use crate::chapters::Chapter;
use crate::chapters::Facts;
use crate::driver::ACR_MFA;
use riskgate::domain::audit::AuditEvent;
use std::collections::BTreeSet;

/// Refused attempts of a stolen list, in percent, below which the promise is broken.
const STUFFING_REFUSED_PERCENT_MIN: usize = 90;
/// The attempt by which the first refusal must have come.
const STUFFING_FIRST_REFUSAL_MAX: usize = 10;

/// What is told of a chapter.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) chapter: Option<Chapter>,
    pub(crate) holds: bool,
    pub(crate) sentence: String,
}

/// The decisions of a chapter.
struct Seen(Vec<AuditEvent>);

/// All chapters, and the completeness of the records.
pub(crate) fn of(records: &Records, facts: &Facts) -> Vec<Told> {
    let mut all: Vec<Told> = Chapter::PLAYED
        .into_iter()
        .map(|chapter| {
            let seen = Seen(records.decisions(chapter));
            let (holds, mut sentence) = match chapter {
                Chapter::AtHome => at_home(&seen, facts),
                Chapter::App => app(&seen, facts),
                Chapter::Service => service(&seen, facts),
                Chapter::NewPhone => new_phone(&seen, facts),
                Chapter::Travel => travel(&seen, facts),
                Chapter::Stuffing => stuffing(&seen, facts),
                Chapter::Visitor => (true, String::new()),
            };
            let unscored = seen.count(|event| event.status.as_deref() == Some("unscored"));
            if unscored > 0 {
                sentence.push_str(&format!(" {unscored} requests went unscored."));
            }
            Told {
                chapter: Some(chapter),
                holds: holds && !seen.0.is_empty(),
                sentence,
            }
        })
        .collect();
    let complete = records.completeness();
    all.push(Told {
        chapter: None,
        holds: complete.missing == 0 && complete.unreadable == 0 && complete.lines > 0,
        sentence: format!(
            "{} audit records, {} missing, {} unreadable.",
            complete.lines, complete.missing, complete.unreadable
        ),
    });
    all
}

fn at_home(seen: &Seen, facts: &Facts) -> (bool, String) {
    let visits = &facts.at_home;
    let went_in = visits.iter().filter(|visit| visit.is_in).count();
    let two_factors = visits.iter().filter(|visit| visit.is_in && visit.gave_code);
    let disturbed = seen.count(|event| event.verdict.as_deref() != Some("allow"));
    let sentence = format!(
        "{went_in} of {all} sign-ins by {people} people from {countries} went through, {two} of them with two factors; \
         scores {scores}; riskgate challenged or refused {disturbed} requests.",
        all = visits.len(),
        people = facts.residents,
        countries = seen.countries(),
        two = two_factors.count(),
        scores = seen.scores("login"),
    );
    (went_in == visits.len() && disturbed == 0, sentence)
}

fn app(seen: &Seen, facts: &Facts) -> (bool, String) {
    let refreshed = facts
        .refreshes
        .iter()
        .filter(|status| **status == 200)
        .count();
    let is_in = if facts.app.is_in {
        "signed in"
    } else {
        "could not sign in"
    };
    let sentence = format!(
        "the user {is_in} and the app refreshed its tokens {refreshed} of {all} times, half of them from another address \
         of the same operator; scores at the token door {scores}.",
        all = facts.refreshes.len(),
        scores = seen.scores("token"),
    );
    let holds = facts.app.is_in && refreshed == facts.refreshes.len();
    (holds, sentence)
}

fn service(seen: &Seen, facts: &Facts) -> (bool, String) {
    let granted = facts
        .service
        .iter()
        .filter(|status| **status == 200)
        .count();
    let sentence = format!(
        "{granted} of {all} token requests from a network of kind {kinds} were granted; scores {scores}, decided by {matched}.",
        all = facts.service.len(),
        kinds = seen.texts(|event| event.network.as_deref().map(str::to_owned)),
        scores = seen.scores("token"),
        matched = seen.texts(|event| event.matched.clone()),
    );
    (granted == facts.service.len(), sentence)
}

fn new_phone(seen: &Seen, facts: &Facts) -> (bool, String) {
    let phone = &facts.phone;
    let asked = seen.count(|event| event.verdict.as_deref() == Some("step_up"));
    let scores = seen.scores("login");
    let country = seen.countries();
    let acr = phone.acr.as_deref().unwrap_or("none");
    let holds =
        asked > 0 && phone.is_in && phone.gave_code && phone.acr.as_deref() == Some(ACR_MFA);
    let ending = match (phone.is_in, phone.gave_code) {
        (true, true) => "the one-time code was asked for and given",
        (true, false) => "she got in without a second factor",
        (false, true) => "she did not get in although she gave a code",
        (false, false) => "she was refused",
    };
    let sentence = format!(
        "grace in {country} on the new phone: score {scores}, {ending} (HTTP {status}); acr in the ID token: {acr}.",
        status = phone.status,
    );
    (holds, sentence)
}

fn travel(seen: &Seen, facts: &Facts) -> (bool, String) {
    let travel = &facts.travel;
    let blocked = seen.refused("login");
    let reasons = seen
        .of_door("login")
        .last()
        .map(|event| event.reasons.join(", "))
        .unwrap_or_default();
    let ending = if travel.is_in {
        "got in"
    } else if blocked > 0 {
        "was refused by riskgate"
    } else {
        "did not get in"
    };
    let sentence = format!(
        "whoever had frank's password in {country} {ending} (HTTP {status}); score {scores}; {reasons}.",
        country = seen.countries(),
        status = travel.status,
        scores = seen.scores("login"),
    );
    (!travel.is_in && blocked > 0, sentence)
}

fn stuffing(seen: &Seen, facts: &Facts) -> (bool, String) {
    let tried = facts.stuffing.len();
    let accepted = facts.stuffing.iter().filter(|accepted| **accepted).count();
    let attempts: Vec<&AuditEvent> = seen.of_door("login").collect();
    let refused = seen.refused("login");
    let first_refusal = attempts.iter().position(|event| is_refusal(event));
    let first = first_refusal.map_or_else(
        || "never".to_owned(),
        |at| format!("at attempt {}", at.saturating_add(1)),
    );
    let holds = accepted == 0
        && attempts.len() == tried
        && refused.saturating_mul(100) >= tried.saturating_mul(STUFFING_REFUSED_PERCENT_MIN)
        && first_refusal.is_some_and(|at| at < STUFFING_FIRST_REFUSAL_MAX);
    let sentence = format!(
        "{refused} of {tried} passwords were refused before WSO2 saw them, the first {first}; scores {scores}; {accepted} \
         accepted, although the list held one that is right.",
        scores = seen.scores("login"),
    );
    (holds, sentence)
}

fn is_refusal(event: &AuditEvent) -> bool {
    event.action != "forwarded" && event.action != "redirected"
}

impl Seen {
    fn of_door<'a>(&'a self, door: &'a str) -> impl Iterator<Item = &'a AuditEvent> {
        self.0
            .iter()
            .filter(move |event| event.door.as_deref() == Some(door))
    }

    fn count(&self, holds: impl Fn(&AuditEvent) -> bool) -> usize {
        self.0.iter().filter(|event| holds(event)).count()
    }

    fn refused(&self, door: &str) -> usize {
        self.of_door(door).filter(|event| is_refusal(event)).count()
    }

    /// The range of the scores at a door, without those that continue an earlier decision.
    fn scores(&self, door: &str) -> String {
        let own = || {
            self.of_door(door)
                .filter(|event| event.source.as_deref() != Some("provenance"))
                .filter_map(|event| event.score)
        };
        match (own().min(), own().max()) {
            (Some(least), Some(most)) if least == most => least.to_string(),
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "none".to_owned(),
        }
    }

    fn countries(&self) -> String {
        self.texts(|event| event.country.clone())
    }

    /// The distinct texts, in order.
    fn texts(&self, of: impl Fn(&AuditEvent) -> Option<String>) -> String {
        let distinct: BTreeSet<String> = self.0.iter().filter_map(of).collect();
        if distinct.is_empty() {
            return "an unknown place".to_owned();
        }
        distinct.into_iter().collect::<Vec<_>>().join(", ")
    }
}
