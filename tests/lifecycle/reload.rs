//! Configuration, policy and model exchanged under traffic: nothing fails, and nobody is judged by halves of two.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::beside_starter;
use crate::gateway::root;
use crate::gateway::rules;
use crate::load;
use crate::load::NUMBER;
use crate::load::Plan;
use crate::load::alone;
use crate::load::scaled;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::audit::is_mark;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use toml::Table;
use toml::Value;

/// The longest that a reload may usually take that has no model to prove, in an optimised build.
const RELOAD_MAX: Duration = Duration::from_millis(100);

/// The records that are in the file.
pub fn records(world: &World) -> Vec<AuditEvent> {
    let text = fs::read_to_string(world.data_dir().join("audit.jsonl")).expect("records");
    text.lines()
        .filter(|line| !is_mark(line.as_bytes()))
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

/// Waits for as many records as requests were answered.
pub async fn until_recorded(world: &World, count: u64) -> Vec<AuditEvent> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = records(world);
        if found.len() as u64 >= count || Instant::now() > end {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Replaces a file as a whole.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("a file that can be replaced");
}

/// The configuration with a policy, a model and a reserved header of its own.
pub fn edition(world: &World, name: &str, model: &str) -> String {
    let text = fs::read_to_string(world.config_file()).expect("a configuration");
    let mut config: Table = text.parse().expect("TOML");
    let policy = world
        .config_file()
        .with_file_name(format!("policy-{name}.toml"));
    let rule = format!("request.door == \"token\" && \"{name}\" != \"\"");
    fs::write(&policy, beside_starter(&rules(&[(&rule, "allow")]))).expect("a file");
    let path = |path: &Path| Value::String(path.display().to_string());
    let mut set = |section: &str, key: &str, value: Value| {
        let section = config
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        section
            .as_table_mut()
            .expect("a section")
            .insert(key.to_owned(), value);
    };
    set("policy", "file", path(&policy));
    set("model", "dir", path(&root().join(model)));
    let reserved = Value::String(format!("x-tag-{name}"));
    set("headers", "reserved", Value::Array(vec![reserved]));
    config.to_string()
}

/// How many reloads ended so, and how long all of them took.
async fn reloads(world: &World, result: &str) -> (f64, f64) {
    let labels = [("result", result)];
    let count = world.metric("riskgate_reloads_total", &labels).await;
    let seconds = world.metric("riskgate_reload_seconds_sum", &labels).await;
    (count, seconds)
}

/// SIGHUP: how long the reload took that it led to.
pub async fn reload(world: &World, result: &str) -> Duration {
    let before = reloads(world, result).await;
    world.signal("HUP");
    let end = Instant::now() + PATIENCE;
    loop {
        let now = reloads(world, result).await;
        if now.0 > before.0 {
            return Duration::from_secs_f64((now.1 - before.1) / (now.0 - before.0));
        }
        assert!(
            Instant::now() < end,
            "no reload was {result}\n{}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_exchanged_under_traffic_and_never_mixed() {
    let _alone = alone().await;
    let (requests, exchanges) = (scaled(600, 20_000), scaled(12, 100));
    let world = World::start(Options {
        mode: "enforce",
        config: "limits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0",
        ..Options::default()
    })
    .await;
    let models = ["tests/data/models/starter", "conf/model"];
    // Every second one has the models of the one before.
    let editions = [
        edition(&world, "a", models[0]),
        edition(&world, "b", models[0]),
        edition(&world, "a", models[1]),
        edition(&world, "b", models[1]),
    ];
    let load = Plan::keeping(4, world.port).start();
    let (mut kept, mut changed, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..exchanges {
        load.until(requests * number / exchanges).await;
        let place = usize::try_from(number % 4).expect("a place");
        replace(&world.config_file(), &editions[place]);
        let before = world.log().len();
        let took = reload(&world, "ok").await;
        // The world began with the first ones.
        let (proved, list) = match place {
            0 if number > 0 => (3, &mut changed),
            2 => (3, &mut changed),
            _ => (0, &mut kept),
        };
        list.push(took);
        let log = world.log().split_off(before);
        assert!(log.contains(&format!("models.proved={proved} ")), "{log}");
        if number % 3 == 2 {
            let wrong = wrong(&editions[place]);
            let which = usize::try_from(number / 3).expect("a place") % wrong.len();
            let (text, said) = &wrong[which];
            let before = world.log().len();
            replace(&world.config_file(), text);
            refused.push(reload(&world, "refused").await);
            let log = world.log().split_off(before);
            assert!(
                log.contains("the old one stays") && log.contains(said),
                "{said}: {log}"
            );
        }
    }
    load.until(requests).await;
    let tally = load.end().await;
    tally.assert_all_answered(&world.log());
    let answered = tally.answered.load(Ordering::Relaxed);

    // By the record: each configuration has one policy and one model.
    let records = until_recorded(&world, answered).await;
    assert_eq!(records.len() as u64, answered);
    let mut versions: BTreeMap<u64, BTreeSet<(String, String)>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.door.is_some()) {
        let policy = record.policy.clone().expect("a policy");
        let model = record.model.clone().expect("a model");
        versions
            .entry(record.config)
            .or_default()
            .insert((policy, model));
    }
    let mixed = versions.values().filter(|found| found.len() != 1).count();
    assert_eq!(mixed, 0, "{versions:#?}");
    let kinds: BTreeSet<_> = versions.values().flatten().collect();
    assert!(kinds.len() >= 2, "{kinds:?}");
    // By what arrived: the header that the same configuration reserves, and no other, is missing.
    let numbers: BTreeMap<String, u64> = records
        .iter()
        .filter(|record| record.door.is_some())
        .map(|record| (record.id.clone(), record.config))
        .collect();
    let mut judged = 0;
    for request in world.received() {
        if request.header_values(NUMBER).is_empty() {
            continue;
        }
        let id = request.header_values("activityid");
        let Some(config) = id.first().and_then(|id| numbers.get(*id)) else {
            continue;
        };
        // Version 1 is what the world began with; a is 2, b is 3, and so on.
        let tags = ["x-tag-a", "x-tag-b"].map(|tag| !request.header_values(tag).is_empty());
        let wanted = match config {
            1 => [true, true],
            even if even % 2 == 0 => [false, true],
            _ => [true, false],
        };
        assert_eq!(tags, wanted, "configuration {config}");
        judged += 1;
    }
    assert!(judged > 50, "{judged}");
    let usual = told("with the models of before", &mut kept);
    told("with three other models", &mut changed);
    told("refused", &mut refused);
    if !cfg!(debug_assertions) {
        assert!(usual <= RELOAD_MAX, "{usual:?}");
    }
    load::row(
        "R22",
        &format!("requests over {exchanges} configurations; a reload usually takes {usual:.0?}"),
        answered,
        refused.len() as u64,
        tally.lost() + mixed as u64,
    );
}

/// Says how long reloads took, and returns the median.
fn told(which: &str, took: &mut [Duration]) -> Duration {
    took.sort();
    let slowest = took.last().copied().unwrap_or_default();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let count = took.len();
    eprintln!("reload: {which}: median {median:.1?}, slowest {slowest:.1?}, of {count}");
    median
}

/// Configurations that cannot be taken, made of one that can, and what is said of each.
fn wrong(edition: &str) -> [(String, &'static str); 5] {
    let of_another = |text: &str| {
        text.replace("tests/data/models/starter", "tests/data/models/wrong_shape")
            .replace("conf/model", "tests/data/models/wrong_shape")
    };
    [
        ("not toml [".to_owned(), "expected"),
        (edition.replace("[score]", "[scorn]"), "scorn"),
        (
            edition
                .replace("policy-a", "policy-c")
                .replace("policy-b", "policy-c"),
            "policy.file",
        ),
        (of_another(edition), "model"),
        (
            edition.replace("x-tag-", "not a header "),
            "headers.reserved",
        ),
    ]
}
