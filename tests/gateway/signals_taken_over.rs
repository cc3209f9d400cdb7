//! What a reload takes over of `[shared_signals]` while events wait: where receivers are, what they are shown, and by which tokens
//! those that fetch are known.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::lifecycle::until_reloaded;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use crate::receiver::header;
use crate::receiver::receiver;
use crate::shared_signals::AUDIENCE;
use crate::shared_signals::ISSUER;
use crate::shared_signals::confirm;
use crate::shared_signals::event;
use crate::shared_signals::levels;
use crate::shared_signals::verified;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::Path;

const PATH: &str = "/riskgate/ssf/poll";
pub(crate) const RESTART: &str = "in force after a restart alone";

/// What is shown for the nth time.
pub(crate) fn shown(folder: &Path, what: &str, n: usize) -> (String, String) {
    let file = folder.join(format!("{what}-{n}"));
    let text = format!("{what}-{n}-").repeat(5);
    fs::write(&file, &text).unwrap();
    (text, file.display().to_string())
}

/// `app` is sent what it is told, `orders` fetches it.
fn section(url: &str, authorization: &str, token: &str) -> String {
    format!(
        "\n[shared_signals]\nissuer = '{ISSUER}'\n[[shared_signals.receivers]]\nname = 'app'\nurl = '{url}'\n\
         audience = '{AUDIENCE}'\nauthorization_file = '{authorization}'\n\
         [[shared_signals.receivers]]\nname = 'orders'\ndelivery = 'poll'\naudience = '{AUDIENCE}'\n\
         token_file = '{token}'\n"
    )
}

pub(crate) fn write(world: &World, text: &str) {
    let file = world.config_file();
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

pub(crate) async fn poll(world: &World, token: &str, body: Value) -> Answer {
    let request = world.request(Method::POST, PATH).body(body.to_string());
    let request = request
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    world.send(request).await
}

/// Polls until there is something: ids and tokens.
pub(crate) async fn fetch(world: &World, token: &str) -> serde_json::Map<String, Value> {
    eventually(async || {
        let given = poll(world, token, json!({ "returnImmediately": true })).await;
        assert_eq!(given.status, 200, "{given:?}");
        let sets = given.json()["sets"].as_object().unwrap().clone();
        (!sets.is_empty()).then_some(sets)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_receivers_are_and_their_secrets_are_taken_over_while_events_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (busy, of_busy) = receiver("/ssf/s3cret", "503 Busy\r\ncontent-length: 0");
    let (other, of_other) = receiver("/ssf/s3cret", "202 Accepted\r\ncontent-length: 0");
    let (first, first_file) = shown(folder.path(), "authorization", 1);
    let (second, second_file) = shown(folder.path(), "authorization", 2);
    let (old, old_file) = shown(folder.path(), "token", 1);
    let (new, new_file) = shown(folder.path(), "token", 2);
    let world = with_operators(Options {
        mode: "advise",
        policy: Some(levels(1, 2)),
        // Lives as long as the test.
        config: section(&busy, &first_file, &old_file).leak(),
        ..Options::default()
    })
    .await;
    let whole = fs::read_to_string(world.config_file()).unwrap();
    let with = |section: &str| {
        let mut whole: toml::Table = whole.parse().unwrap();
        whole.extend(section.parse::<toml::Table>().unwrap());
        whole.to_string()
    };
    world.person("alice").sign_in().await;
    let login = world.last_record_of("login").await;
    let (head, waits) = of_busy.recv_timeout(PATIENCE).unwrap();
    assert_eq!(header(&head, "authorization"), first);
    let given = fetch(&world, &old).await;

    // What is wrong is refused with everything else, by file and key, and the old goes on.
    let broken = folder.path().join("broken");
    fs::write(&broken, "\n").unwrap();
    let broken = broken.display().to_string();
    write(&world, &with(&section(&other, &broken, &new_file)));
    until_reloaded(&world, "refused", 1.0).await;
    let log = world.log();
    assert!(
        log.contains("shared_signals.receivers[0].authorization_file") && log.contains(&broken),
        "{log}"
    );
    assert_eq!(fetch(&world, &old).await, given);
    assert_eq!(poll(&world, &new, json!({})).await.status, 401);
    assert!(of_other.try_recv().is_err());

    // The event that waits goes to the other address, with what is shown there, and is the same.
    write(&world, &with(&section(&other, &second_file, &new_file)));
    until_reloaded(&world, "ok", 1.0).await;
    let (head, body) = of_other.recv_timeout(PATIENCE).unwrap();
    assert_eq!(header(&head, "authorization"), second);
    assert_eq!(body, waits);
    for (head, body) in of_busy.try_iter() {
        assert_eq!((header(&head, "authorization"), &body), (&*first, &waits));
    }
    // So is what was not acknowledged, by the other token alone.
    assert_eq!(poll(&world, &old, json!({})).await.status, 401);
    assert_eq!(fetch(&world, &new).await, given);
    let ids: Vec<&String> = given.keys().collect();
    let taken = json!({ "ack": ids, "returnImmediately": true });
    assert_eq!(
        poll(&world, &new, taken).await.json()["sets"],
        json!({}),
        "nothing was told twice"
    );
    assert!(!world.log().contains(RESTART), "{}", world.log());

    // A file whose text is another is seen by itself; who waits by the token of before is given nothing.
    let waiting = poll(&world, &new, json!({}));
    let exchanged = async {
        let third = "token-3-".repeat(5);
        fs::write(&new_file, &third).unwrap();
        until_reloaded(&world, "ok", 2.0).await;
        let mut ann = Browser::of(&world, "ann").await;
        confirm(&world, &mut ann, &login.id).await;
        third
    };
    let (waited, third) = tokio::join!(waiting, exchanged);
    assert_eq!(waited.status, 401, "{waited:?}");
    let ended = fetch(&world, &third).await;
    assert_eq!(ended.len(), 1);
    let ended = verified(&world, ended.values().next().unwrap().as_str().unwrap()).await;
    assert_eq!(
        event(&ended, "session-revoked")["initiating_entity"],
        "admin"
    );
    let (head, body) = of_other.recv_timeout(PATIENCE).unwrap();
    assert_eq!(header(&head, "authorization"), second);
    assert_eq!(verified(&world, &body).await["txn"], login.id);

    assert!(of_busy.try_recv().is_err() && of_other.try_recv().is_err());
    for kind in ["risk-level-change", "session-revoked"] {
        let labels = [
            ("receiver", "app"),
            ("event", kind),
            ("result", "delivered"),
        ];
        let count = world.metric("riskgate_shared_signals_total", &labels).await;
        assert!((count - 1.0).abs() < f64::EPSILON, "{kind} {count}");
    }
    world.leaks_nothing(&["s3cret", &first, &second, &old, &new, &third]);
}
