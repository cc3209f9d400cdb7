//! The console's page about the rollout: who sees what, who may change it, and that nothing of a plan can leave its place.

use crate::gateway::always;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use crate::rollout::File;
use riskgate::domain::operator::roster::Role;

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_seen_by_viewers_and_changed_by_two_admins_in_the_console() {
    let hostile = "[[stage]]\napplication = '<script>alert(1)</script>'\nreason = '\"><b>x</b>'\n";
    let file = File::new(&format!("approvals = 2\n{hostile}"));
    let world = with_operators(file.options(always("block"))).await;
    file.expect(&world);
    let bo = ("bo", Role::Admin);
    crate::operators::employ(&world, &[("vi", Role::Viewer), ("ada", Role::Admin), bo]);
    eventually(async || {
        let log = world.log();
        let changes = log.matches("the operators of the console have changed");
        (changes.count() >= 2).then_some(())
    })
    .await;
    let mut vi = Browser::of(&world, "vi").await;
    let page = vi.get("/console/rollout").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.body.contains("<script>alert") && !page.body.contains("<b>x</b>"));
    assert!(!page.body.contains("Change a stage") && page.body.contains("with the role admin"));

    let mut ada = Browser::of(&world, "ada").await;
    let mut bo = Browser::of(&world, "bo").await;
    let fields = [
        ("application", "demo-web"),
        ("tenant", ""),
        ("mode", "enforce"),
        ("percentage", "100"),
        ("reason", "a <i>quiet</i> week"),
    ];
    assert_eq!(
        vi.post("/console/rollout/promote", &fields).await.status,
        403
    );
    let without = [fields[0], fields[2], fields[3], ("reason", " ")];
    let answer = ada.post("/console/rollout/promote", &without).await;
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("A reason is missing"));
    assert_eq!(
        ada.post("/console/rollout/demote", &fields).await.status,
        409
    );
    world.expect_record();
    let answer = ada.post("/console/rollout/promote", &fields).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/console/rollout?done=promote"))
    );
    let page = ada.get("/console/rollout").await.body;
    assert!(page.contains("Another operator has to approve"), "{page}");
    let scope = [("application", "demo-web"), ("tenant", ""), ("reason", "")];
    let [application, tenant, reason] = scope;
    let all = [application, tenant, reason, ("to", "enforce 100 %")];
    let own = ada.post("/console/rollout/approve", &all).await;
    assert_eq!(own.status, 409);
    // Who approves has read what.
    let unread = bo.post("/console/rollout/approve", &scope).await;
    assert_eq!(unread.status, 400);
    assert!(unread.body.contains("what was read that waits"));
    // The page says what it shows; where something else waits by then, it is not approved.
    assert!(
        bo.get("/console/rollout")
            .await
            .body
            .contains(r#"name="to" value="enforce 100 %""#)
    );
    let other = [application, tenant, reason, ("to", "enforce 10 %")];
    let answer = bo.post("/console/rollout/approve", &other).await;
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("What waits is enforce 100 % by now"));
    world.expect_record();
    world.expect_record();
    assert_eq!(bo.post("/console/rollout/approve", &all).await.status, 303);
    let records = world.records().await;
    assert_eq!(records.last().unwrap().action, "in_force");
    assert_eq!(world.person("alice").open().await.status, 403);
    // What was changed shows as soon as its record has been read.
    let page = eventually(async || {
        let page = bo.get("/console/rollout").await.body;
        page.contains("in force</td>").then_some(page)
    })
    .await;
    assert!(
        page.contains("<bdi>ada</bdi>, <bdi>bo</bdi>")
            && page.contains("a &lt;i&gt;quiet&lt;/i&gt; week")
    );
    let page = eventually(async || {
        let page = bo.get("/console/rollout").await.body;
        (page.contains("approved") && page.contains("proposed")).then_some(page)
    })
    .await;
    assert!(page.contains("monitor 100 %") && page.contains("enforce 100 %"));
    // A file that cannot be read is said, and not hidden behind what was.
    file.write("broken");
    let page = bo.get("/console/rollout").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("The stages from before stay in force"));
    assert_eq!(
        bo.post("/console/rollout/promote", &fields).await.status,
        500
    );
}
