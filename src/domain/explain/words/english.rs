//! English.

use crate::domain::explain::words::Words;
use crate::domain::features::counterfactual;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::RiskLevel;
use crate::domain::route::Door;

/// The sentences.
pub(super) static WORDS: Words = Words {
    decision: "Decision {id}",
    record: "{time}, record {seq}",
    asked: "What was asked",
    request: "{door} ({method} {route})",
    application: "Application  {client} (tenant {tenant})",
    no_application: "Application  none is named (tenant {tenant})",
    organization: "Organization {organization}",
    user: "User         {subject} (a pseudonym)",
    user_named: "named by the request",
    user_presented: "known from what the request presents",
    no_user: "User         nobody is named",
    logins: "{count} confirmed logins are remembered",
    no_logins: "no login is remembered",
    break_glass: "a break-glass account",
    from: "From         {place}",
    unknown_place: "an unknown place",
    with: "With         {agent}; {device}",
    device,
    decided: "What was decided",
    verdict_line: "{verdict}: {meaning}. Mode {mode}: {effect}.",
    nothing_decided: "Nothing: policy was not asked.",
    by_rule: "Why          the rule `{rule}` matched",
    rule_condition: "when {condition}",
    by_default: "Why          no rule spoke, and the level is {level}: [defaults] decides",
    by_unscored: "Why          no rule spoke, and there is no score ({cause}): [on_unscored] decides",
    score_line: "Score        {score} of 100, {level}",
    thresholds: "medium begins at {medium}, high at {high}",
    unscored_line: "Score        none: {cause}. Unscored is not low",
    from_earlier: "it is that of the decision under which the code, token or session was given",
    without_history: "from the request alone, because the history could not be read ({cause})",
    skipped: "Passed over  {rules}: they ask for a score",
    standing,
    shown: "Until the name was proved, {verdict} showed, as a name that nobody has would get",
    done: "Done         {action}, status {status}; outcome {outcome}",
    refused_for: "Error        {code}",
    reasons: "Reasons",
    why: "Why the score is {score}",
    why_note: "Log-odds: what each feature adds to those of a typical login, the largest first.",
    base: "a typical login: the model's base",
    base_derived: "a typical login (from the probability, since the model is not at hand)",
    together: "together: a probability of {probability}, the score {score}",
    others: "{count} others, each of less than {most}",
    missing: "missing",
    not_so: "speaks against: {reason}",
    no_parts: "There are no contributions in the record: the score is not the model's own word on this request.",
    changed: "What would have changed it",
    changed_line: "{supposed} the score would have been {score}, {level}",
    changed_verdict: "{line}: {verdict}",
    smallest: "The least that makes it milder: {supposed} ({score}, {outcome})",
    no_smallest: "No reason and no several of them would have made it milder.",
    to_next: "{points} points more would have made it {level}.",
    nothing_changes: "The record has no reasons of a score to take away.",
    again: "Computed again",
    same: "The score and every contribution come out the same to the last bit: recorded row, model {model}, file {file} (SHA-256 {digest}...), {evaluator} evaluator.",
    close: "The score comes out the same but for {difference}, within what two evaluators of one model may differ: recorded row, model {model}, file {file} (SHA-256 {digest}...), {evaluator} evaluator.",
    different: "THE SCORE COMES OUT DIFFERENT: {again} instead of {recorded}, with model {model}, file {file} (SHA-256 {digest}...), {evaluator} evaluator. The record was changed, or this version computes differently.",
    no_model: "Not done: the model {model} (SHA-256 {digest}...) is not at hand.",
    no_model_found: "There is: {found}. `--model` names another file or folder.",
    not_named: "Not done: the record does not say which model file it was (an earlier version wrote it).",
    no_row: "Not done: no row of this request was scored; the score is that of an earlier decision, or there was none.",
    other_schema: "Not done: the row is of feature schema {schema}, which this version does not compute.",
    policy_agrees: "The policy at hand is the one that decided, and gives the same verdict again.",
    policy_disagrees: "THE POLICY AT HAND IS THE ONE THAT DECIDED, BUT GIVES ANOTHER VERDICT.",
    policy_cannot: "The policy at hand is the one that decided; it asks for what is not recorded, so that it cannot be asked again.",
    policy_other: "The policy at hand is another one ({version}); it would say {verdict}.",
    policy_other_cannot: "The policy at hand is another one ({version}); it asks for what is not recorded.",
    policy_missing: "There is no policy at hand.",
    versions: "Versions",
    versions_line: "model {model} (SHA-256 {digest}), features {features}, policy {policy}, configuration {config}, record schema {schema}",
    unknown: "unknown",
    compared: "Two decisions",
    rows: [
        "id",
        "time",
        "door",
        "application",
        "user",
        "from",
        "network",
        "device",
        "score",
        "thresholds",
        "verdict",
        "why",
        "mode",
        "model",
        "policy",
    ],
    differing: "What differs in the score (log-odds; the value of the feature in brackets)",
    no_differing: "No feature adds more to one than to the other.",
    only_in: "Only in {which}: {reasons}",
    same_reasons: "Both have the same reasons.",
    other_model: "The two were scored by different models: their contributions do not compare.",
    and: " and ",
    door,
    verdict,
    level,
    mode,
    reason: Reason::sentence,
    supposed: counterfactual::supposed,
};

fn door(door: Door) -> &'static str {
    match door {
        Door::Authorize => "An application sent its user to sign in",
        Door::Login => "A login form was sent in",
        Door::Authn => "An app sent in a step of a login",
        Door::Flow => "An app sent in a step of a flow",
        Door::Token => "An application asked for tokens",
        Door::Par => "An application pushed the parameters of a login",
        Door::DeviceAuthorize => "A device asked for a code to show to its user",
        Door::Device => "A user typed the code of a device",
        Door::Ciba => "An application asked for a login in the background",
        Door::CibaAuthorize => "A user opened a request for approval",
        Door::Saml => "A service provider sent its user to sign in by SAML",
        Door::WsFed => "A service provider sent its user to sign in by WS-Federation",
        Door::Pdp => "The XACML decision point was asked about a user",
        Door::Basic => "An API was called with a username and a password",
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "let through",
        Verdict::StepUp => "ask for a second factor",
        Verdict::Review => "hold until an analyst has looked at it",
        Verdict::Block => "refuse",
    }
}

fn level(level: RiskLevel) -> &'static str {
    match level {
        RiskLevel::Low => "low",
        RiskLevel::Medium => "medium",
        RiskLevel::High => "high",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "nothing was scored",
        Mode::Monitor => "only recorded, nothing was changed",
        Mode::Advise => "WSO2 was told, nobody was stopped",
        Mode::Enforce => "it was acted on",
    }
}

fn device(device: &str) -> &'static str {
    match device {
        "known" => "a device that is known to be the user's",
        "foreign" => "a device of somebody else, or a forged cookie",
        _ => "a device without a cookie of this user",
    }
}

fn standing(code: &str) -> &'static str {
    match code {
        "continues" => {
            "It goes on with a login that was decided before: it is not challenged again."
        }
        "barred" => "It goes on with a login that was withheld.",
        "outstanding" => {
            "A stronger factor was demanded of the login that it presents, and not given yet."
        }
        "approval" => "A stronger factor was demanded of who asked for what it approves.",
        "bound" => "Its browser, source or user owes a stronger factor from before.",
        "bound_unless_low" => {
            "Its browser, source or user owes a stronger factor from before; at a low level the user's own device does not."
        }
        "enrols_review" | "enrols_block" => {
            "It would enrol a second factor, which must not be done while one is owed."
        }
        "released" => "An analyst has released it.",
        _ => "Something that this version does not know stood beside the policy.",
    }
}
