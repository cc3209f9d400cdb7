//! The gateway's own keys: made at the first start, published for everybody, exchanged while it runs.

use crate::gateway::Options;
use crate::gateway::World;
use crate::lifecycle::until_reloaded;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

async fn signing_world() -> World {
    World::start(Options {
        config: "[signing]\nenabled = true\n",
        ..Options::default()
    })
    .await
}

/// The ids of the published keys, by algorithm and in their order: current, next, previous.
async fn published(world: &World, algorithm: &str) -> Vec<String> {
    let answer = world.get("/riskgate/jwks.json").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    keys.iter()
        .filter(|key| key["alg"] == algorithm)
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_published_and_may_be_kept() {
    let world = signing_world().await;
    let mark = world.mark().await;
    let answer = world.get("/riskgate/jwks.json").await;
    assert_eq!(
        (
            answer.status,
            answer.header("content-type"),
            answer.header("cache-control"),
            answer.header("access-control-allow-origin"),
        ),
        (
            200,
            Some("application/jwk-set+json"),
            Some("public, max-age=300"),
            Some("*")
        )
    );
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 6);
    for key in &keys {
        assert!(
            key["use"] == "sig" && key.get("d").is_none() && key.get("p").is_none(),
            "{key}"
        );
    }
    assert_eq!(world.record_since(mark).await.action, "served");
    assert!(world.received_since(mark).is_empty());
    let head = world
        .send(world.request(reqwest::Method::HEAD, "/riskgate/jwks.json"))
        .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for tenant in ["/t/example.com/riskgate/jwks.json", "/riskgate/jwks.json/x"] {
        assert_eq!(world.get(tenant).await.status, 404, "{tenant}");
    }
    // No private part is anywhere but in its file.
    let folder = world.data_dir().join("signing");
    let pem = std::fs::read_to_string(folder.join("eddsa.pem")).unwrap();
    world.leaks_nothing(&[pem.lines().nth(1).unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_something_to_sign_there_are_no_keys() {
    let world = World::start(Options::default()).await;
    assert_eq!(world.get("/riskgate/jwks.json").await.status, 404);
    // Nor is there a transmitter of shared signals.
    let metadata = world.get("/.well-known/ssf-configuration").await;
    assert_eq!(metadata.status, 404);
    assert!(world.received().is_empty());
    assert!(!world.data_dir().join("signing").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_taken_over_and_an_open_file_is_refused() {
    let world = signing_world().await;
    let before = published(&world, "ES256").await;
    let told = world.command(&["keys", "rotate", "--signing"]);
    assert!(told.0 == Some(0), "{told:?}");
    until_reloaded(&world, "ok", 1.0).await;
    let after = published(&world, "ES256").await;
    assert_eq!((before.len(), after.len()), (2, 3));
    assert_eq!((&after[0], &after[2]), (&before[1], &before[0]));
    assert!(
        told.1.contains(&after[0]) && told.1.contains(&after[1]),
        "{told:?}"
    );

    // Too early for another one; and a file that others can read is not taken.
    let told = world.command(&["keys", "rotate", "--signing"]);
    assert!(told.0 == Some(2) && told.2.contains("--force"), "{told:?}");
    let file = world.data_dir().join("signing/es256.next.pem");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = world.command(&["check"]);
    assert!(
        told.0 == Some(2) && told.2.contains("es256.next.pem") && told.2.contains("mode 644"),
        "{told:?}"
    );
    let told = world.command(&["keys", "rotate", "--signing", "--force"]);
    assert!(told.0 == Some(2) && told.2.contains("mode 644"), "{told:?}");
    // A change of the time makes the gateway look.
    let key = std::fs::read(&file).unwrap();
    std::fs::write(&file, key).unwrap();
    until_reloaded(&world, "refused", 1.0).await;
    assert_eq!(published(&world, "ES256").await, after);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let told = world.command(&["check"]);
    assert!(told.0 == Some(0) && told.1.contains(&after[0]), "{told:?}");
    let _: Value = serde_json::from_str(&world.get("/riskgate/jwks.json").await.body).unwrap();
}
