//! Replays of logs that were made up here.

use super::*;
use crate::app::rerun::glance::glance;
use crate::domain::audit::Word;
use crate::domain::ids::Pseudonymizer;
use std::fmt::Write as _;

const POLICY: &str = "version = 1\nbreak_glass = [\"admin\"]\n";

/// A folder with a configuration, a policy, a secret and a log.
struct Place {
    folder: tempfile::TempDir,
    config: Config,
    lines: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.key"), [7; 32]).unwrap();
        std::fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().to_owned();
        config.policy.file = Some(folder.path().join("policy.toml"));
        Self {
            folder,
            config,
            lines: String::new(),
        }
    }

    fn draft(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("draft.toml");
        std::fs::write(&path, format!("{POLICY}{text}")).unwrap();
        path
    }

    fn subject(&self, name: &str) -> String {
        let keys = crate::app::keys::Keys::existing(&self.config).unwrap();
        let people = Pseudonymizer::new(keys.pseudonyms.expose());
        people.user("carbon.super", name).to_string()
    }

    /// Records a login with a score.
    fn login(
        &mut self,
        number: usize,
        name: &str,
        score: u8,
        change: impl FnOnce(&mut AuditEvent),
    ) {
        let text = |text: &str| Some(text.to_owned());
        let word = |text: &'static str| Some(Word::from(text));
        let (level, verdict) = match score {
            50.. => ("high", "block"),
            15.. => ("medium", "step_up"),
            _ => ("low", "allow"),
        };
        let mut event = AuditEvent {
            schema: 1,
            seq: number as u64,
            time: format!("2026-11-26T{:02}:00:00.000Z", number % 24),
            id: format!("01890a5d-ac96-774b-bcce-{number:012x}"),
            class: "scored".into(),
            door: word("login"),
            route: "/commonauth".to_owned(),
            method: "POST".into(),
            tenant: text("carbon.super"),
            client_id: text("app"),
            subject: Some(self.subject(name)),
            named: true,
            known: true,
            logins: 3,
            prefix: text("203.0.113.0/24"),
            country: text("DE"),
            device: word("known"),
            kind: word("login"),
            status: word("scored"),
            score: Some(score),
            probability: Some(f32::from(score) / 100.0),
            level: word(level),
            source: word("provenance"),
            thresholds: Some([15, 50]),
            verdict: word(verdict),
            matched: Some(format!("default_{level}")),
            mode: word("monitor"),
            action: "forwarded".into(),
            outcome: "succeeded".into(),
            policy: Some(PolicySet::parse(POLICY).unwrap().version().to_string()),
            ..AuditEvent::default()
        };
        // Rules speak of inherited scores, defaults do not: the tests want the defaults to speak.
        event.source = word("cache");
        event.contributions = vec![0.0; crate::domain::features::Feature::COUNT];
        event.features = vec![None; crate::domain::features::Feature::COUNT];
        event.feature_schema = Some(crate::domain::features::FeatureSchema::current().version);
        if name == "admin" {
            event.break_glass = true;
            if verdict == "block" {
                event.verdict = word("step_up");
            }
        }
        change(&mut event);
        writeln!(self.lines, "{}", serde_json::to_string(&event).unwrap()).unwrap();
    }

    fn replay(&self, plan: Plan) -> Report {
        std::fs::write(self.config.audit_file(), &self.lines).unwrap();
        replay(&self.config, &plan).unwrap()
    }
}

#[test]
fn the_policy_that_decided_decides_the_same() {
    let mut place = Place::new();
    for number in 0..200 {
        place.login(number, "alice", (number % 101) as u8, |_| {});
    }
    place.login(200, "admin", 99, |_| {});
    let report = place.replay(Plan::default());
    assert_eq!((report.records, report.replayed), (201, 201));
    assert_eq!((report.same, report.not_reproduced), (201, 0));
    assert!(report.changes.is_empty() && report.left_out.is_empty());
    assert_eq!(report.all.before, report.all.after);
}

#[test]
fn a_stricter_policy_changes_what_it_says_and_who_is_locked_out_is_named() {
    let mut place = Place::new();
    for number in 0..90 {
        place.login(number, "alice", 10, |event| {
            event.outcome = "next_factor".into()
        });
    }
    for number in 90..100 {
        place.login(number, "bob", 40, |_| {});
    }
    place.login(100, "carol", 12, |event| {
        event.country = Some("FR".to_owned())
    });
    place.login(101, "admin", 5, |event| {
        event.door = Some("basic".into());
        event.route = "/scim2/*".to_owned();
    });
    let draft = place.draft(
        "[thresholds]\nmedium = 5\nhigh = 35\n[[rule]]\nname = \"bob-goes\"\nwhen = 'user.name == \"bob\"'\nverdict = \"block\"\n",
    );
    let report = place.replay(Plan {
        policy: Some(draft),
        ..Plan::default()
    });
    assert_eq!(report.replayed, 102);
    assert_eq!(report.same, 0);
    assert_eq!(report.all.before, [92, 10, 0, 0]);
    assert_eq!(report.all.after, [0, 92, 0, 10]);
    assert_eq!(report.all.stricter, 102);
    let of =
        |rows: &[report::Row], name: &str| rows.iter().find(|row| row.name == name).unwrap().counts;
    assert_eq!(of(&report.countries, "FR").stricter, 1);
    assert_eq!(of(&report.doors, "basic").total, 1);
    let rule = report
        .rules
        .iter()
        .find(|rule| rule.name == "bob-goes")
        .unwrap();
    assert_eq!((rule.before, rule.after), (0, 10));
    let locked_out = &report.locked_out;
    // Whoever calls an API with a password cannot be asked for a factor.
    assert_eq!(locked_out.break_glass.count, 1);
    assert_eq!(locked_out.refused.listed[0].subject, place.subject("bob"));
    // Of alice a second factor was seen; of carol and of the admin none.
    assert_eq!(locked_out.without_factor.count, 2);
    assert!(report.doubles());
    let text = report.text();
    assert!(
        text.contains("bob-goes") && text.contains("break-glass"),
        "{text}"
    );
    let html = report.html().unwrap();
    assert!(
        html.matches("<svg").count() >= 8 && !html.contains("<script"),
        "{html}"
    );
    let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(json["all"]["after"][3], 10);
}

#[test]
fn what_cannot_be_given_again_is_counted_and_named() {
    let mut place = Place::new();
    place.login(1, "alice", 10, |_| {});
    place.login(2, "alice", 10, |event| event.thresholds = None);
    place.login(3, "alice", 10, |event| {
        event.verdict = None;
    });
    place.login(4, "alice", 10, |event| {
        event.time = "2026-11-25T00:00:00.000Z".to_owned()
    });
    place
        .lines
        .push_str("{\"mark\":\"checkpoint\",\"seq\":4}\nnot a record\n");
    let draft = place.draft(
        "[[rule]]\nname = \"by-address\"\nwhen = 'in_cidr(network.address, [\"203.0.113.9/32\"])'\nverdict = \"block\"\n",
    );
    let from = crate::app::replay::events::moment("2026-11-26 00:00:00");
    let report = place.replay(Plan {
        policy: Some(draft),
        from,
        ..Plan::default()
    });
    assert_eq!((report.records, report.broken, report.replayed), (4, 1, 0));
    assert_eq!((report.not_decided, report.earlier), (1, 1));
    let codes: Vec<(&str, u64)> = report
        .left_out
        .iter()
        .map(|one| (one.code, one.count))
        .collect();
    assert_eq!(codes, [("earlier_version", 1), ("rule_needs_more", 1)]);
    assert!(report.left_out[1].why.contains("by-address"));
    assert!(report.first_broken.unwrap().contains("line 6"));
}

#[test]
fn another_model_scores_the_recorded_rows() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/starter");
    let mut place = Place::new();
    place.login(1, "alice", 99, |_| {});
    place.login(2, "alice", 10, |event| {
        event.source = Some("provenance".into())
    });
    place.login(3, "alice", 20, |event| {
        event.features.clear();
        event.contributions.clear();
        event.score = None;
        event.source = None;
        event.fallback = Some("overload".into());
        event.verdict = Some("allow".into());
        event.matched = Some("on_unscored".to_owned());
    });
    let report = place.replay(Plan {
        model: Some(starter),
        ..Plan::default()
    });
    // The first has a row without any value, which no model calls high; the second has none; the third had no score.
    assert_eq!(report.replayed, 2, "{report:#?}");
    assert_eq!(report.left_out[0].code, "no_row");
    assert_eq!(report.all.before, [1, 0, 0, 1]);
    assert_eq!(report.all.after[3], 0);
    assert_eq!(report.same, 0);
}

#[test]
fn labels_and_groups_are_joined() {
    let mut place = Place::new();
    place.login(1, "alice", 10, |_| {});
    place.login(2, "mallory", 40, |_| {});
    place.login(3, "ann", 80, |_| {});
    let labels = place.folder.path().join("labels.csv");
    let id = |number: usize| format!("01890a5d-ac96-774b-bcce-{number:012x}");
    std::fs::write(
        &labels,
        format!("id,label,cohort\n{},0,\n{},1,\n", id(1), id(2)),
    )
    .unwrap();
    let people = place.folder.path().join("people.csv");
    std::fs::write(&people, "user,group\nAnn,operators\nalice,sales\n").unwrap();
    let draft = place.draft("[thresholds]\nmedium = 45\nhigh = 71\n");
    let report = place.replay(Plan {
        policy: Some(draft.clone()),
        labels: Some(labels),
        people: Some(people.clone()),
        ..Plan::default()
    });
    assert_eq!(report.labels.attacks.before, [0, 1, 0, 0]);
    assert_eq!(report.labels.attacks.after, [1, 0, 0, 0]);
    assert_eq!(report.labels.legitimate.after, [1, 0, 0, 0]);
    let groups: Vec<&str> = report.groups.iter().map(|row| row.name.as_str()).collect();
    assert!(
        groups.contains(&"operators") && groups.contains(&"sales"),
        "{groups:?}"
    );
    assert_eq!(report.locked_out.operators.count, 1);
    // Without the secret no name can be found.
    std::fs::remove_file(place.folder.path().join("secret.key")).unwrap();
    let plan = Plan {
        policy: Some(draft),
        people: Some(people),
        ..Plan::default()
    };
    let error = replay(&place.config, &plan).unwrap_err().to_string();
    assert!(error.contains("without the secret"), "{error}");
}

#[test]
fn as_many_threads_as_there_are_find_the_same() {
    let mut place = Place::new();
    for number in 0..3_000 {
        let name = format!("user{}", number % 50);
        place.login(number, &name, (number * 7 % 101) as u8, |_| {});
    }
    let draft = place.draft("[thresholds]\nmedium = 20\nhigh = 60\n");
    let with = |threads: usize| {
        let mut report = place.replay(Plan {
            policy: Some(draft.clone()),
            threads: NonZero::new(threads),
            ..Plan::default()
        });
        (report.seconds, report.records_per_minute) = (0.0, 0.0);
        report.json().unwrap()
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn the_end_of_a_log_is_looked_at_alone() {
    let mut place = Place::new();
    for number in 0..100 {
        place.login(number, "alice", 10, |_| {});
    }
    let whole = place.replay(Plan::default());
    let bytes = place.lines.len() as u64;
    let tail = place.replay(Plan {
        tail_bytes: Some(bytes / 2),
        ..Plan::default()
    });
    assert!(!whole.is_cut && tail.is_cut);
    assert!(
        (45..=50).contains(&tail.records) && tail.broken == 0,
        "{}",
        tail.records
    );
}

#[test]
fn a_glance_says_nothing_without_records_and_warns_of_twice_as_much() {
    let mut place = Place::new();
    assert_eq!(glance(&place.config), glance::Glance::default());
    for number in 0..100 {
        place.login(number, "alice", if number < 10 { 40 } else { 12 }, |_| {});
    }
    std::fs::write(place.config.audit_file(), &place.lines).unwrap();
    let calm = glance(&place.config);
    assert!(calm.summary.unwrap().contains("of the last 100"));
    assert!(calm.warnings.is_empty(), "{:?}", calm.warnings);
    place.config.policy.file = Some(place.draft("[thresholds]\nmedium = 10\nhigh = 50\n"));
    let strict = glance(&place.config);
    assert_eq!(strict.warnings.len(), 1, "{:?}", strict.warnings);
    assert!(strict.warnings[0].contains("more than twice"));
}
