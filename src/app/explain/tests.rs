//! Explanations of decisions that were made up here, with the starter's models.

use super::*;
use crate::adapters::native::NativeModel;
use crate::domain::audit::Word;
use crate::domain::explain::PolicyAtHand;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::policy::PolicySet;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::RiskScore;
use crate::domain::risk::Thresholds;
use proptest::prelude::*;

const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/models/starter");
const POLICY: &str = "version = 1\nbreak_glass = [\"admin\"]\n";

/// The starter's model for logins, its digest and file.
fn login_model() -> (NativeModel, String) {
    let models = onnx::load(Path::new(STARTER), None).unwrap();
    let loaded = models
        .into_kind(crate::domain::kind::RequestKind::Login)
        .unwrap();
    let file = model_files(Path::new(STARTER))
        .into_iter()
        .find(|file| digest(file).unwrap() == loaded.identity.digest)
        .unwrap();
    let bytes = std::fs::read(file).unwrap();
    let digest = loaded.identity.digest.clone();
    let native = NativeModel::from_bytes(
        &bytes,
        crate::domain::kind::RequestKind::Login,
        loaded.identity,
    );
    (native.unwrap(), digest)
}

fn row(shares: &[Option<f32>]) -> FeatureVector {
    let mut row = FeatureVector::missing();
    for (feature, share) in Feature::ALL.into_iter().zip(shares) {
        let (low, high) = FeatureSchema::current().entry(feature).clip;
        if let Some(share) = share {
            row.set(feature, low + share * (high - low));
        }
    }
    row
}

/// The record of a login with this row under the policy of the tests.
fn record(model: &NativeModel, digest: &str, row: &FeatureVector) -> AuditEvent {
    let output = model.evaluate(row).unwrap();
    let thresholds = Thresholds::default();
    let level = output.score.level(thresholds);
    let verdict = match level.as_str() {
        "low" => "allow",
        "medium" => "step_up",
        _ => "block",
    };
    let text = |text: &str| Some(text.to_owned());
    let word = |text: &str| Some(Word::from(text.to_owned()));
    let reasons = crate::domain::risk::reasons_of(&output.contributions, row);
    let event = AuditEvent {
        schema: 1,
        time: "2026-11-26T10:00:00.000Z".to_owned(),
        id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        class: "scored".into(),
        door: word("login"),
        route: "/commonauth".to_owned(),
        method: "POST".into(),
        tenant: text("carbon.super"),
        prefix: text("203.0.113.0/24"),
        device: word("none"),
        kind: word("login"),
        feature_schema: Some(FeatureSchema::current().version),
        features: row
            .as_slice()
            .iter()
            .map(|value| value.is_finite().then_some(*value))
            .collect(),
        status: word("scored"),
        score: Some(output.score.points()),
        probability: Some(output.score.probability()),
        level: word(level.as_str()),
        source: word("native"),
        contributions: output.contributions.to_vec(),
        reasons: reasons
            .iter()
            .map(|reason| Word::Borrowed(reason.code()))
            .collect(),
        thresholds: Some([thresholds.medium, thresholds.high]),
        verdict: word(verdict),
        matched: Some(format!("default_{level}")),
        mode: word("enforce"),
        action: "forwarded".into(),
        outcome: "succeeded".into(),
        model: text("starter"),
        model_digest: Some(digest.chars().take(16).collect()),
        policy: Some(PolicySet::parse(POLICY).unwrap().version().to_string()),
        ..AuditEvent::default()
    };
    // As it comes back from a file.
    serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap()
}

fn explained(event: &AuditEvent, model: &Model) -> Explanation {
    let policy = PolicySet::parse(POLICY).unwrap();
    let mut names = Names::of(&policy, None);
    Explanation::of(event, Some(&policy), &model.at_hand(), &mut names)
}

/// A model that is run by the native evaluator alone.
fn at_hand(model: &NativeModel) -> Model {
    let run = model.clone();
    Model {
        file: Some(ModelFile {
            name: "login.onnx".to_owned(),
            bias: Some(model.bias()),
            runs: vec![(
                "native",
                Box::new(move |row: &FeatureVector| run.evaluate(row).ok()),
            )],
        }),
        found: Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn contributions_and_base_add_up_to_the_logit_and_come_out_the_same(
        shares in proptest::collection::vec(proptest::option::weighted(0.7, 0.0_f32..=1.0), Feature::COUNT)
    ) {
        let (model, digest) = login_model();
        let event = record(&model, &digest, &row(&shares));
        let told = explained(&event, &at_hand(&model));
        prop_assert!(matches!(told.recomputed, Recomputed::Same { .. }), "{:?}", told.recomputed);
        let (base, logit) = (told.base.unwrap(), told.logit.unwrap());
        let sum: f64 = told.contributions.iter().map(|part| f64::from(part.contribution)).sum();
        prop_assert!((sum + f64::from(base) - f64::from(logit)).abs() < 1e-4, "{sum} {base} {logit}");
        let probability = 1.0 / (1.0 + (-logit).exp());
        prop_assert_eq!(probability.to_bits(), event.probability.unwrap().to_bits());
        prop_assert!(told.contributions.is_sorted_by(|a, b| a.contribution >= b.contribution));
        // The policy of the record is at hand, and gives its verdict again.
        let agrees = matches!(told.policy, PolicyAtHand::Same { agrees: Some(true), .. });
        prop_assert!(agrees, "{:?}", told.policy);
        // Without a reason nothing becomes riskier.
        for other in &told.without {
            prop_assert!(other.score <= event.score.unwrap(), "{other:?}");
        }
    }
}

#[test]
fn the_smallest_change_is_one_and_none_of_it_can_be_spared() {
    let (model, digest) = login_model();
    let mut event = None;
    for share in 0..=20 {
        let shares = vec![Some(share as f32 / 20.0); Feature::COUNT];
        let made = record(&model, &digest, &row(&shares));
        if made.verdict.as_deref() == Some("block") {
            event.get_or_insert(made);
        }
    }
    let event = event.expect("one of the rows is blocked");
    let told = explained(&event, &at_hand(&model));
    let smallest = told.smallest.expect("something makes it milder");
    assert!(smallest.verdict.unwrap() < Verdict::Block);
    assert!(!smallest.without.is_empty());
    let single = told
        .without
        .iter()
        .any(|one| one.verdict.unwrap() < Verdict::Block);
    assert_eq!(single, smallest.without.len() == 1);
}

#[test]
fn a_record_that_was_changed_shows() {
    let (model, digest) = login_model();
    let shares = vec![Some(0.4); Feature::COUNT];
    let mut event = record(&model, &digest, &row(&shares));
    let told = |event: &AuditEvent| explained(event, &at_hand(&model)).recomputed;
    event.probability = Some(event.probability.unwrap() / 2.0);
    assert!(matches!(told(&event), Recomputed::Different { .. }));
    let mut other = record(&model, &digest, &row(&shares));
    other.features[Feature::UserHistory.index()] = Some(0.123);
    assert!(!matches!(told(&other), Recomputed::Same { .. }));
}

#[test]
fn the_model_is_found_by_its_digest_and_what_is_missing_is_named() {
    let (model, digest) = login_model();
    let event = record(&model, &digest, &row(&[Some(0.5); Feature::COUNT]));
    let found = Model::of(Path::new(STARTER), &event);
    let told = explained(&event, &found);
    let Recomputed::Same { file, evaluator } = &told.recomputed else {
        panic!("{:?}", told.recomputed);
    };
    assert!(
        file.starts_with(STARTER) && *evaluator == "native",
        "{file}"
    );

    let other = AuditEvent {
        model_digest: Some("0123456789abcdef".to_owned()),
        ..event.clone()
    };
    let missing = explained(&other, &Model::of(Path::new(STARTER), &other));
    let said = crate::domain::explain::text::text(&missing, Language::English);
    assert!(
        said.contains("0123456789abcdef") && said.contains("not at hand"),
        "{said}"
    );
    // The base is still known, from the probability.
    assert!(missing.base.is_some());

    let earlier = AuditEvent {
        model_digest: None,
        ..event
    };
    let empty = tempfile::tempdir().unwrap();
    let told = explained(&earlier, &Model::of(empty.path(), &earlier));
    assert_eq!(told.recomputed, Recomputed::NotNamed);
}

#[test]
fn a_refused_request_says_what_was_wrong_with_it() {
    let (model, digest) = login_model();
    let scored = record(&model, &digest, &row(&[Some(0.5); Feature::COUNT]));
    let said = |event: &AuditEvent| {
        let told = explained(event, &at_hand(&model));
        crate::domain::explain::text::text(&told, Language::English)
    };
    assert!(!said(&scored).contains("Error"));
    let refused = AuditEvent {
        error: Some(Word::from("target_empty_segment")),
        ..scored
    };
    let said = said(&refused);
    assert!(
        said.contains("Error        target_empty_segment\n"),
        "{said}"
    );
}

#[test]
fn another_policy_says_what_it_would_say() {
    let (model, digest) = login_model();
    let event = record(&model, &digest, &row(&[Some(0.0); Feature::COUNT]));
    let stricter = format!("{POLICY}[defaults]\nlow = \"step_up\"\n");
    let policy = PolicySet::parse(&stricter).unwrap();
    let mut names = Names::of(&policy, None);
    let points = RiskScore::new(event.probability.unwrap()).unwrap().points();
    assert!(points < Thresholds::default().medium, "{points}");
    let model = at_hand(&model);
    let told = Explanation::of(&event, Some(&policy), &model.at_hand(), &mut names);
    assert_eq!(
        told.policy,
        PolicyAtHand::Other {
            version: policy.version().to_string(),
            verdict: Some(Verdict::StepUp)
        }
    );
}

#[test]
fn two_decisions_show_what_differs() {
    let (model, digest) = login_model();
    let mut shares = vec![Some(0.3); Feature::COUNT];
    let first = record(&model, &digest, &row(&shares));
    shares[Feature::UserHistory.index()] = Some(0.9);
    let second = record(&model, &digest, &row(&shares));
    let model = at_hand(&model);
    let compared = Comparison::of(explained(&first, &model), explained(&second, &model));
    assert_eq!(compared.differences.len(), 1);
    assert_eq!(compared.differences[0].feature, "user_history");
    let text = compared.text(Language::English);
    assert!(text.contains("user_history"), "{text}");
    let other = AuditEvent {
        model_digest: Some("f".repeat(16)),
        ..second
    };
    let compared = Comparison::of(explained(&first, &model), explained(&other, &model));
    assert!(!compared.same_model && compared.differences.is_empty());
}
