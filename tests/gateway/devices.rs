//! What users see of their devices, and how they forget them.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use reqwest::Method;

const PAGE: &str = "/riskgate/devices";

async fn world(store: Store) -> World {
    World::start(Options {
        mode: "enforce",
        store,
        config: "[limits]\naddress_per_minute = 0\nuser_per_minute = 0",
        ..Options::default()
    })
    .await
}

/// The value of the first field or button of that name after `from`.
fn value<'a>(page: &'a Answer, name: &str, from: &str) -> &'a str {
    let start = page
        .body
        .find(from)
        .unwrap_or_else(|| panic!("no {from}: {page:?}"));
    let rest = &page.body[start..];
    let place = rest
        .find(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("no {name}: {page:?}"));
    let rest = &rest[place + name.len() + 15..];
    &rest[..rest.find('"').unwrap()]
}

fn listed(page: &Answer) -> usize {
    page.body.matches("<li>").count()
}

/// The page once it lists so many devices: learning happens after the answer.
async fn page_with(person: &mut Person<'_>, count: usize) -> Answer {
    let mut page = person.get(PAGE).await;
    for _ in 0..1_200 {
        if listed(&page) == count {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        page = person.get(PAGE).await;
    }
    assert_eq!((page.status, listed(&page)), (200, count), "{page:?}");
    page
}

/// Signs in until the gateway has learnt of it: on a busy machine a lesson may get lost.
async fn become_known(person: &mut Person<'_>, devices: usize) {
    for _ in 0..5 {
        person.sign_in().await;
        for _ in 0..200 {
            if listed(&person.get(PAGE).await) == devices {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        person.forget_session();
    }
    panic!("not learnt: {:?}", person.get(PAGE).await);
}

async fn users_forget_their_devices(store: Store) {
    let world = world(store).await;
    let mut phone = world.person("alice");
    become_known(&mut phone, 1).await;
    let mut laptop = world.person("alice").with(CHROME_ON_WINDOWS);
    become_known(&mut laptop, 2).await;
    let mut tablet = world.person("alice").with(CHROME_ON_WINDOWS);
    become_known(&mut tablet, 3).await;

    let page = page_with(&mut phone, 3).await;
    assert_eq!(page.body.matches("This browser").count(), 1);
    assert!(page.body.contains(" sign-in"), "{page:?}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self'"), "{policy}");
    // Else browsers would send its forms with `Origin: null`.
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    for secret in [
        "alice",
        phone.cookie("__Host-rg_device").unwrap(),
        "192.0.2.",
    ] {
        assert!(!page.body.contains(secret), "{secret}");
    }

    // One of the others.
    let form = value(&page, "form", "Device 2").to_owned();
    let device = value(&page, "device", "Device 2").to_owned();
    // As a browser sends it over HTTP/1.1.
    let request = phone
        .request(Method::POST, PAGE)
        .header("origin", &world.url)
        .header("sec-fetch-site", "same-origin")
        .form(&[("form", &form), ("device", &device)]);
    let answer = phone.send(request).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/riskgate/devices?forgotten=1")),
        "{answer:?}"
    );
    let record = world.last_record().await;
    assert_eq!(record.action, "forgot_device");
    assert!(record.subject.is_some());
    let shown = phone.get(answer.header("location").unwrap()).await;
    assert!(
        shown.body.contains("it is forgotten") && listed(&shown) == 2,
        "{shown:?}"
    );
    assert!(phone.cookie("__Host-rg_device").is_some());

    // All but this one; it is still known afterwards.
    let form = value(&shown, "form", "<form").to_owned();
    let answer = phone
        .post(PAGE, &[("form", &form), ("what", "others")])
        .await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(world.last_record().await.action, "forgot_devices");
    let shown = page_with(&mut phone, 1).await;
    phone.forget_session();
    phone.sign_in().await;
    assert_eq!(
        world.last_record_of("login").await.device.as_deref(),
        Some("known")
    );
    laptop.forget_session();
    laptop.try_password().await;
    assert_eq!(
        world.last_record_of("login").await.device.as_deref(),
        Some("none")
    );
    drop(shown);

    // This one: its cookie goes with it.
    let page = phone.get(PAGE).await;
    let form = value(&page, "form", "This browser").to_owned();
    let device = value(&page, "device", "This browser").to_owned();
    let before = phone.clone();
    phone
        .post(PAGE, &[("form", &form), ("device", &device)])
        .await;
    assert_eq!(phone.cookie("__Host-rg_device"), None);
    // A copy of the cookie is worth nothing.
    let mut copy = before.clone();
    copy.forget_session();
    copy.try_password().await;
    assert_eq!(
        world.last_record_of("login").await.device.as_deref(),
        Some("none")
    );
}

on_both_stores!(forgetting, users_forget_their_devices);

async fn a_browser_without_a_session_forgets_itself(store: Store) {
    let world = world(store).await;
    let mut alice = world.person("alice");
    become_known(&mut alice, 1).await;
    let copy = alice.clone();
    alice.forget_session();
    let page = alice.get(PAGE).await;
    assert!(
        listed(&page) == 0 && page.body.contains("Forget this browser"),
        "{page:?}"
    );
    let form = value(&page, "form", "<form").to_owned();
    let answer = alice
        .post(PAGE, &[("form", &form), ("what", "this_browser")])
        .await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(alice.cookie("__Host-rg_device"), None);
    let page = alice.get(PAGE).await;
    assert!(page.body.contains("is not remembered"), "{page:?}");
    // It is forgotten for those whom its cookie names.
    let mut copy = copy;
    page_with(&mut copy, 0).await;
    copy.forget_session();
    copy.try_password().await;
    assert_eq!(
        world.last_record_of("login").await.device.as_deref(),
        Some("none")
    );
}

on_both_stores!(
    without_a_session,
    a_browser_without_a_session_forgets_itself
);

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_known_is_none() {
    let world = world(Store::Embedded).await;
    let mut nobody = world.person("alice");
    let without = nobody.get(PAGE).await;
    let form = |page: &Answer| page.body.contains("name=\"form\"");
    assert!(!form(&without), "nothing is to be forgotten: {without:?}");
    let names = |answer: &Answer| {
        let names = answer.headers.iter().map(|(name, _)| name.clone());
        names.collect::<Vec<_>>()
    };
    for session in ["unknown", "", "a b", &"x".repeat(2_000), "\"quoted\""] {
        nobody.set_cookie("commonAuthId", session);
        let page = nobody.get(PAGE).await;
        assert_eq!(
            (page.status, &page.body, names(&page)),
            (without.status, &without.body, names(&without)),
            "{session}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_others_and_strange_forms_change_nothing() {
    let world = world(Store::Embedded).await;
    let mut alice = world.person("alice");
    become_known(&mut alice, 1).await;
    let mut bob = world.person("bob").with(CHROME_ON_WINDOWS);
    become_known(&mut bob, 1).await;
    let hers = page_with(&mut alice, 1).await;
    let his = page_with(&mut bob, 1).await;
    let form = value(&hers, "form", "This browser").to_owned();
    let device = value(&hers, "device", "This browser").to_owned();
    let (his_form, his_device) = (
        value(&his, "form", "This browser").to_owned(),
        value(&his, "device", "This browser").to_owned(),
    );
    let flipped = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters[12] = if letters[12] == 'x' { 'y' } else { 'x' };
        letters.into_iter().collect::<String>()
    };
    let strange: Vec<Vec<(&str, String)>> = vec![
        vec![("form", his_form.clone()), ("device", device.clone())],
        vec![("form", form.clone()), ("device", his_device.clone())],
        vec![("form", flipped(&form)), ("device", device.clone())],
        vec![("form", form.clone()), ("device", flipped(&device))],
        vec![("form", device.clone()), ("device", form.clone())],
        vec![("device", device.clone())],
        vec![("form", form.clone())],
        vec![("form", form.clone()), ("what", "everything".to_owned())],
        vec![
            ("form", form.clone()),
            ("what", "others".to_owned()),
            ("device", device.clone()),
        ],
        vec![
            ("form", form.clone()),
            ("form", form.clone()),
            ("what", "others".to_owned()),
        ],
        vec![
            ("form", form.clone()),
            ("what", "others".to_owned()),
            ("x", "1".to_owned()),
        ],
    ];
    for fields in &strange {
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = alice.post(PAGE, &fields).await;
        assert_eq!(answer.status, 403, "{fields:?}");
    }
    let good = [("form", form.as_str()), ("device", device.as_str())];
    // What the browser itself knows of the sender.
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let request = alice
            .request(Method::POST, PAGE)
            .header(name, value)
            .form(&good);
        assert_eq!(alice.send(request).await.status, 403, "{name}: {value}");
    }
    for (kind, body, status) in [
        ("application/json", "{}".to_owned(), 415),
        ("text/plain", "form=a".to_owned(), 415),
        ("application/x-www-form-urlencoded", "x".repeat(60_000), 413),
        ("application/x-www-form-urlencoded", "x".repeat(5_000), 413),
        ("application/x-www-form-urlencoded", String::new(), 403),
        (
            "application/x-www-form-urlencoded",
            "%00%ff&&==".to_owned(),
            403,
        ),
    ] {
        let request = alice
            .request(Method::POST, PAGE)
            .header("content-type", kind)
            .body(body);
        assert_eq!(alice.send(request).await.status, status, "{kind}");
    }
    // Without her session the form is another's.
    let mut without = alice.clone();
    without.forget_session();
    assert_eq!(without.post(PAGE, &good).await.status, 403);
    // Nothing was forgotten, and the form is still good.
    page_with(&mut alice, 1).await;
    page_with(&mut bob, 1).await;
    assert_eq!(alice.post(PAGE, &good).await.status, 303);
    page_with(&mut alice, 0).await;
}
