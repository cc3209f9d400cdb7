//! Receivers of shared signals that come and go while the gateway runs, what is told to them and in which words, and the section
//! that is switched on and off: by reloads alone, with real receivers, whatever waits for those that stay.

use crate::gateway::Options;
use crate::gateway::World;
use crate::lifecycle::until_reloaded;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use crate::receiver::Message;
use crate::receiver::header;
use crate::receiver::receiver;
use crate::shared_signals::AUDIENCE;
use crate::shared_signals::ISSUER;
use crate::shared_signals::confirm;
use crate::shared_signals::event;
use crate::shared_signals::levels;
use crate::shared_signals::verified;
use crate::signals_taken_over::RESTART;
use crate::signals_taken_over::fetch;
use crate::signals_taken_over::poll;
use crate::signals_taken_over::shown;
use crate::signals_taken_over::write;
use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc;

const TAKES: &str = "202 Accepted\r\ncontent-length: 0";
const BUSY: &str = "503 Busy\r\ncontent-length: 0";
const METADATA: &str = "/.well-known/ssf-configuration";

/// A gateway that is given other sections, one after the other.
struct Desk {
    world: World,
    folder: tempfile::TempDir,
    rest: toml::Table,
}

impl Desk {
    /// With the section that `say` writes; none where it is empty.
    async fn new(say: impl FnOnce(&tempfile::TempDir) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = with_operators(Options {
            mode: "advise",
            policy: Some(levels(1, 2)),
            // Lives as long as the test.
            config: say(&folder).leak(),
            ..Options::default()
        })
        .await;
        let whole = fs::read_to_string(world.config_file()).unwrap();
        let mut rest: toml::Table = whole.parse().unwrap();
        rest.remove("shared_signals");
        Self {
            world,
            folder,
            rest,
        }
    }

    /// Writes another section, and waits until so many reloads have ended so.
    async fn put(&self, section: &str, result: &str, count: f64) {
        let mut whole = self.rest.clone();
        whole.extend(section.parse::<toml::Table>().unwrap());
        write(&self.world, &whole.to_string());
        until_reloaded(&self.world, result, count).await;
    }

    /// Somebody signs in, whose level is another one than is known.
    async fn login(&self, name: &str) -> AuditEvent {
        self.world.person(name).sign_in().await;
        self.world.last_record_of("login").await
    }

    /// The text of the metrics that a receiver has.
    async fn series(&self, receiver: &str) -> String {
        let text = self.world.admin("/metrics").await.1;
        let lines = text.lines().filter(|line| {
            line.starts_with("riskgate_shared_signals_total{")
                && line.contains(&format!("receiver=\"{receiver}\""))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until so much was delivered to a receiver.
    async fn until_delivered(&self, receiver: &str, count: f64) {
        let labels = [("receiver", receiver), ("result", "delivered")];
        let name = "riskgate_shared_signals_total";
        eventually(async || (self.world.metric(name, &labels).await >= count).then_some(())).await;
    }

    async fn health(&self) -> Value {
        let (_, text) = self.world.admin("/health/ready").await;
        serde_json::from_str(&text).unwrap()
    }
}

fn head(issuer: &str) -> String {
    format!("[shared_signals]\nissuer = '{issuer}'\n")
}

fn pushed(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[shared_signals.receivers]]\nname = '{name}'\nurl = '{url}'\naudience = '{AUDIENCE}'\n{more}\n"
    )
}

fn fetched(name: &str, token: &str, more: &str) -> String {
    format!(
        "[[shared_signals.receivers]]\nname = '{name}'\ndelivery = 'poll'\naudience = '{AUDIENCE}'\n\
         token_file = '{token}'\n{more}\n"
    )
}

/// The next message of a receiver, once it is there.
async fn next(messages: &mpsc::Receiver<Message>) -> Message {
    eventually(async || messages.try_recv().ok()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_come_and_go_and_who_stays_misses_nothing() {
    let (busy, of_busy) = receiver("/ssf/s3cret", BUSY);
    let (stays, of_stays) = receiver("/ssf/s3cret", TAKES);
    let (comes, of_comes) = receiver("/ssf/s3cret", TAKES);
    let (reads, of_reads) = receiver("/hooks/s3cret", "204 No Content");
    let mut tokens = Vec::new();
    let desk = Desk::new(|folder| {
        tokens = vec![
            shown(folder.path(), "orders", 1),
            shown(folder.path(), "clients", 1),
        ];
        let [(_, orders), (_, crm)] = tokens.as_slice() else {
            unreachable!()
        };
        head(ISSUER)
            + &pushed("app", &busy, "")
            + &fetched("orders", orders, "")
            + &fetched("crm", crm, "")
    })
    .await;
    let world = &desk.world;
    let (orders, (crm, crm_file)) = (&tokens[0].0, &tokens[1]);
    let first = desk.login("alice").await;
    let (_, waits) = next(&of_busy).await;
    let kept = fetch(world, crm).await;
    let lost = fetch(world, orders).await;
    assert_eq!((kept.len(), lost.len()), (1, 1));
    // Acknowledged, so that it is counted and a poll waits.
    let ids: Vec<&String> = lost.keys().collect();
    poll(world, orders, json!({ "ack": ids, "maxEvents": 0 })).await;
    desk.until_delivered("orders", 1.0).await;

    // Who comes has a name twice: everything stays as it was.
    let secret = desk.folder.path().join("siem.secret");
    fs::write(&secret, "s3cret".repeat(8)).unwrap();
    let siem = format!(
        "[[shared_signals.receivers]]\nname = 'siem'\ndelivery = 'webhook'\nurl = '{reads}'\nsecret_file = '{}'\n",
        secret.display()
    );
    let common = head(ISSUER) + &pushed("app", &stays, "") + &fetched("crm", crm_file, "");
    let twice = common.clone() + &siem + &pushed("app", &comes, "");
    desk.put(&twice, "refused", 1.0).await;
    let file = world.config_file().display().to_string();
    let named = "shared_signals.receivers[3].name: `app` is the name of another one";
    eventually(async || {
        let log = world.log();
        (log.contains(named) && log.contains(&file)).then_some(())
    })
    .await;
    let at_once = json!({ "returnImmediately": true });
    assert_eq!(poll(world, orders, at_once.clone()).await.status, 200);

    // `orders` goes, `siem` and `late` come, the others stay; what waits for those is told once.
    let waiting = poll(world, orders, json!({}));
    let other = common.clone() + &siem + &pushed("late", &comes, "");
    let exchanged = desk.put(&other, "ok", 1.0);
    let (waited, ()) = tokio::join!(waiting, exchanged);
    assert_eq!(waited.status, 401, "{waited:?}");
    assert_eq!(poll(world, orders, at_once.clone()).await.status, 401);
    assert_eq!(desk.series("orders").await, "");
    let (_, told) = next(&of_stays).await;
    assert_eq!(told, waits);
    assert_eq!(verified(world, &told).await["txn"], first.id);
    assert_eq!(fetch(world, crm).await, kept);

    // Who came is told from then on.
    let mut ann = Browser::of(world, "ann").await;
    confirm(world, &mut ann, &first.id).await;
    let (_, token) = next(&of_comes).await;
    let ended = verified(world, &token).await;
    assert_eq!(ended["txn"], first.id);
    assert!(event(&ended, "session-revoked").is_object(), "{ended}");
    let (_, body) = next(&of_reads).await;
    let message: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(message["signals"].as_array().unwrap().len(), 1, "{message}");
    assert_eq!(message["signals"][0]["event"], "session-revoked");
    let (_, token) = next(&of_stays).await;
    assert_eq!(verified(world, &token).await["sub_id"], ended["sub_id"]);
    for name in ["app", "siem", "late"] {
        desk.until_delivered(name, 1.0).await;
    }

    // Those that push have gone as well: nobody is told twice, and nothing is left of them.
    desk.put(&(head(ISSUER) + &fetched("crm", crm_file, "")), "ok", 2.0)
        .await;
    for name in ["app", "siem", "late"] {
        assert_eq!(desk.series(name).await, "", "{name}");
    }
    desk.login("bob").await;
    eventually(async || (fetch(world, crm).await.len() == 3).then_some(())).await;
    for messages in [&of_stays, &of_comes, &of_reads] {
        assert!(messages.try_recv().is_err());
    }
    for (_, body) in of_busy.try_iter() {
        assert_eq!(body, waits);
    }
    assert!(!world.log().contains(RESTART), "{}", world.log());
    world.leaks_nothing(&["s3cret", orders, crm]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_a_receiver_that_stays_is_taken_over() {
    let (url, messages) = receiver("/ssf/s3cret", TAKES);
    let mut token = Default::default();
    let desk = Desk::new(|folder| {
        token = shown(folder.path(), "orders", 1);
        let old = "audience = 'https://old.example.com'\n";
        let app = pushed("app", &url, "events = ['session-revoked']")
            .replace(&format!("audience = '{AUDIENCE}'\n"), old);
        head("https://old.example.com")
            + "modes = ['enforce']\n"
            + &app
            + &fetched("orders", &token.1, "")
    })
    .await;
    let world = &desk.world;
    let (shown, file) = &token;
    // Levels of `advise` are not told, and `app` would not be told of any.
    let first = desk.login("alice").await;
    let mut ann = Browser::of(world, "ann").await;
    confirm(world, &mut ann, &first.id).await;
    let (_, old) = next(&messages).await;
    let old = crate::gateway::claims(&old);
    assert_eq!(
        (&old["iss"], &old["aud"]),
        (
            &"https://old.example.com".into(),
            &"https://old.example.com".into()
        )
    );
    let kept = fetch(world, shown).await;
    assert_eq!(kept.len(), 1);

    // Other modes, words and events, in another order.
    let named = "subject = 'iss_sub'\nclient_id = 'demo-web'";
    let other = head(ISSUER) + &fetched("orders", file, named) + &pushed("app", &url, "");
    desk.put(&other, "ok", 1.0).await;
    assert_eq!(world.get(METADATA).await.json()["issuer"], ISSUER);
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let login = world.last_record_of("login").await;
    let (_, body) = next(&messages).await;
    let told = verified(world, &body).await;
    assert_eq!(told["txn"], login.id);
    assert_eq!(event(&told, "risk-level-change")["current_level"], "HIGH");
    // What waited is as it was; what came is held until the client knows her, and told by that name.
    assert_eq!(fetch(world, shown).await, kept);
    let tokens = alice.redeem(&code).await;
    let id = crate::gateway::claims(&tokens.member("id_token"));
    let both = eventually(async || {
        let given = fetch(world, shown).await;
        (given.len() == 2).then_some(given)
    })
    .await;
    let before: BTreeSet<&String> = kept.keys().collect();
    let new = both.iter().find(|(id, _)| !before.contains(id)).unwrap();
    let new = verified(world, new.1.as_str().unwrap()).await;
    assert_eq!(new["txn"], login.id);
    assert_eq!(
        new["sub_id"],
        json!({ "format": "iss_sub", "iss": id["iss"], "sub": id["sub"] })
    );

    // One that is told in another way begins anew: what it has not fetched is lost, and its token opens nothing.
    let (sent, of_sent) = receiver("/ssf/s3cret", TAKES);
    let other = head(ISSUER) + &pushed("app", &url, "") + &pushed("orders", &sent, "");
    desk.put(&other, "ok", 2.0).await;
    assert_ne!(
        poll(world, shown, json!({ "returnImmediately": true }))
            .await
            .status,
        200
    );
    let second = desk.login("bob").await;
    let (_, body) = next(&of_sent).await;
    let told = verified(world, &body).await;
    assert_eq!(
        (&told["txn"], &told["sub_id"]["format"]),
        (&second.id.into(), &"opaque".into())
    );
    desk.until_delivered("orders", 1.0).await;
    desk.until_delivered("app", 3.0).await;
    assert!(!world.log().contains(RESTART), "{}", world.log());
    world.leaks_nothing(&["s3cret", shown]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_section_is_switched_on_and_off() {
    let (url, messages) = receiver("/ssf/s3cret", TAKES);
    let desk = Desk::new(|_| String::new()).await;
    let world = &desk.world;
    let (token, file) = shown(desk.folder.path(), "orders", 1);
    let is_off = async || {
        for path in [METADATA, "/riskgate/jwks.json"] {
            assert_eq!(world.get(path).await.status, 404, "{path}");
        }
        assert_eq!(poll(world, &token, json!({})).await.status, 404);
        let health = desk.health().await;
        assert_eq!(health["parts"].get("shared_signals"), None, "{health}");
    };
    is_off().await;
    desk.login("alice").await;

    let on = head(ISSUER) + &pushed("app", &url, "") + &fetched("orders", &file, "");
    desk.put(&on, "ok", 1.0).await;
    assert_eq!(world.get(METADATA).await.json()["issuer"], ISSUER);
    assert_eq!(
        desk.health().await["parts"]["shared_signals"],
        json!({ "status": "ok" })
    );
    // Nothing is known of what was before.
    let login = desk.login("alice").await;
    let (fields, body) = next(&messages).await;
    assert_eq!(header(&fields, "content-type"), "application/secevent+jwt");
    assert_eq!(verified(world, &body).await["txn"], login.id);
    assert_eq!(fetch(world, &token).await.len(), 1);
    desk.until_delivered("app", 1.0).await;

    // What was not fetched is lost, and the log says so; who waits for more is sent away.
    desk.put("", "ok", 2.0).await;
    is_off().await;
    for name in ["app", "orders"] {
        assert_eq!(desk.series(name).await, "", "{name}");
    }
    assert!(world.log().contains("were not fetched and are lost"));
    desk.login("alice").await;

    // Once more: levels are known anew, and nothing comes of what was seen meanwhile.
    desk.put(&on, "ok", 3.0).await;
    let again = desk.login("alice").await;
    let (_, body) = next(&messages).await;
    let told = verified(world, &body).await;
    assert_eq!(told["txn"], again.id);
    assert_eq!(
        event(&told, "risk-level-change").get("previous_level"),
        None
    );
    assert_eq!(fetch(world, &token).await.len(), 1);
    assert!(messages.try_recv().is_err());
    assert!(!world.log().contains(RESTART), "{}", world.log());
    world.leaks_nothing(&["s3cret", &token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_reloads_leaves_nothing_behind() {
    const ROUNDS: u32 = 20;
    const RECEIVERS: u32 = 7;
    const SPARE: usize = 8;
    // Nobody is there: what waits for those that go is tried in vain.
    let nobody = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/ssf/s3cret", free.local_addr().unwrap())
    };
    let mut token = Default::default();
    let desk = Desk::new(|folder| {
        token = shown(folder.path(), "orders", 1);
        head(ISSUER) + &fetched("orders", &token.1, "")
    })
    .await;
    let world = &desk.world;
    let (shown, file) = &token;
    let stays = fetched("orders", file, "");
    let first = desk.login("alice").await;
    let kept = fetch(world, shown).await;
    let mut ann = Browser::of(world, "ann").await;
    desk.put(&(head(ISSUER) + &stays), "ok", 1.0).await;
    let threads = || {
        let path = format!("/proc/{}/task", world.process_id());
        fs::read_dir(path).unwrap().count()
    };
    let (tasks, files) = (threads(), world.open_files());

    for round in 1..=ROUNDS {
        let come: String = (0..RECEIVERS)
            .map(|n| pushed(&format!("r{round}-{n}"), &nobody, ""))
            .collect();
        let mut whole = desk.rest.clone();
        let section = head(ISSUER) + &come + &stays;
        whole.extend(section.parse::<toml::Table>().unwrap());
        write(world, &whole.to_string());
        (0..5).for_each(|_| world.signal("HUP"));
        let here = format!("r{round}-0");
        // Something waits for them when they go.
        if round == ROUNDS / 2 {
            eventually(async || world.log().contains(&here).then_some(())).await;
            confirm(world, &mut ann, &first.id).await;
        }
    }
    let last = head(ISSUER) + &stays;
    let gone = format!("gone=r{ROUNDS}-0");
    let mut whole = desk.rest.clone();
    whole.extend(last.parse::<toml::Table>().unwrap());
    eventually(async || {
        let log = world.log();
        log.contains(&format!("came=r{ROUNDS}-0")).then_some(())
    })
    .await;
    write(world, &whole.to_string());
    world.signal("HUP");
    eventually(async || world.log().contains(&gone).then_some(())).await;

    // Who stayed has all, once, and nothing is left of the others.
    let both = eventually(async || {
        let given = fetch(world, shown).await;
        (given.len() == 2).then_some(given)
    })
    .await;
    assert!(kept.iter().all(|(id, set)| both.get(id) == Some(set)));
    let (status, text) = world.admin("/metrics").await;
    assert_eq!(status, 200);
    assert!(!text.contains("receiver=\"r"), "{text}");
    let health = desk.health().await;
    assert_eq!(
        health["parts"]["shared_signals"],
        json!({ "status": "ok" }),
        "{health}"
    );
    // Connections and threads of other work come and go; what a round left behind would be more than this.
    const { assert!(SPARE < ROUNDS as usize) };
    eventually(async || {
        let is_gone = threads() <= tasks + SPARE && world.open_files() <= files + SPARE;
        is_gone.then_some(())
    })
    .await;
    assert!(!world.log().contains("panicked"), "{}", world.log());
}
