//! What the console, and who decides about held logins, is told when something is not done: why, what to do, and the way on.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::rules;
use crate::operators::Browser;
use crate::operators::with_operators;
use crate::review::review;
use crate::review::waiting;
use riskgate::domain::review::TEXT_MAX;

/// What stands in the navigation of each page, and nowhere else.
const NAVIGATION: &str = "<a href=\"/console/overview\">Overview</a>";

async fn world() -> World {
    with_operators(Options {
        mode: "enforce",
        policy: Some(rules(&[("request.door == \"login\"", "review")])),
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_is_kept_whole_or_refused() {
    let world = world().await;
    let mut alice = world.person("alice");
    assert_eq!(alice.try_password().await.status, 303);
    let id = waiting(&world).await.remove(0).id;
    // Characters count, not bytes.
    let long = "é".repeat(TEXT_MAX + 1);
    let fits = "é".repeat(TEXT_MAX);
    let said = "the reason has 129 characters, expected at most 128";

    let run = review(&world, &["release", &id, "--as", "ann", "--reason", &long]).await;
    assert_eq!(run.code, 2, "{}{}", run.out, run.err);
    assert!(
        run.err
            .contains("--reason: 129 characters, expected at most 128"),
        "{}",
        run.err
    );

    let token = std::fs::read_to_string(world.data_dir().join("admin.token")).expect("a token");
    let url = format!("http://127.0.0.1:{}/review/{id}/release", world.admin_port);
    let request = world.http().post(url).bearer_auth(token.trim());
    let request = request.header("x-riskgate-operator", "ann");
    let answer = request.body(long.clone()).send().await.expect("an answer");
    assert_eq!(answer.status(), 400);
    let body = answer.text().await.expect("a text");
    assert!(body.contains(said), "{body}");

    let mut ann = Browser::of(&world, "ann").await;
    let path = format!("/console/review/{id}/release");
    let page = ann.post(&path, &[("reason", &long)]).await;
    assert_eq!(page.status, 400, "{page:?}");
    let has = |part: &str| assert!(page.body.contains(part), "{part}\n{}", page.body);
    has("The reason has 129 characters, expected at most 128");
    // It can be shortened from there.
    has(&long);
    let form = ann.get("/console/review").await.body;
    assert!(form.contains("Reason, for the record, at most 128 characters"));
    assert_eq!(waiting(&world).await.len(), 1, "nothing was decided");

    world.expect_record();
    let run = review(&world, &["release", &id, "--as", "ann", "--reason", &fits]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    let note = world.last_record().await.note;
    assert_eq!(note.as_deref(), Some(&*fits));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_stands_on_a_page_with_the_navigation() {
    let world = world().await;
    let mut ann = Browser::of(&world, "ann").await;
    let nowhere = format!("/console/review/{}/release", "0".repeat(32));
    for (status, path) in [
        (404, "/console/nothing"),
        (404, "/console/decisions/unknown"),
        (404, "/console/policy/versions/unknown"),
        (403, "/console/sessions"),
    ] {
        let page = ann.get(path).await;
        let page_status = if path.contains("versions") {
            403
        } else {
            status
        };
        assert_eq!(page.status, page_status, "{path}");
        assert!(page.body.contains(NAVIGATION), "{path}\n{}", page.body);
        assert_eq!(page.body.matches("<h1>").count(), 1, "{path}");
    }
    // A filter that there is not: what the page shows is what was asked for.
    let page = ann.get("/console?verdict=maybe&country=XX").await;
    let chosen = "<option value=\"maybe\" selected>maybe (unknown)</option>";
    assert!(page.status == 200 && page.body.contains(chosen));
    assert!(page.body.contains("nothing of that") && page.body.contains(">Clear<"));
    let gone = ann.post(&nowhere, &[]).await;
    assert!(gone.status == 404 && gone.body.contains(NAVIGATION));
    assert!(gone.body.contains("href=\"/console/review\">To the queue"));
    // Whoever has the page may not have the token: neither does a page without it lose the text.
    let token = std::mem::replace(&mut ann.token, "other".to_owned());
    let old = ann.post(&nowhere, &[("text", "my <draft>")]).await;
    assert!(old.status == 403 && old.body.contains(NAVIGATION));
    assert!(old.body.contains("my &lt;draft&gt;") && old.body.contains(&token));
    // Nobody who is not signed in sees where there is something.
    let mut nobody = Browser::new(&world);
    let page = nobody.post(&nowhere, &[]).await;
    assert!(page.status == 401 && !page.body.contains("class=\"top\""));
}
