//! `riskgate health` and `--version`, as a container's health check and an operator call them.

use crate::gateway::Options;
use crate::gateway::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_health_command_says_how_the_gateway_is_and_when_it_is_gone() {
    let mut world = World::start(Options::default()).await;
    let (code, out, err) = world.command(&["health"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(matches!(lines[0], "ready" | "degraded"), "{out}");
    assert!(lines.contains(&"state       ok"), "{out}");
    let (code, out, err) = world.command(&["health", "--live"]);
    assert_eq!((code, out.as_str()), (Some(0), "alive\n"), "{err}");

    assert_eq!(world.stop().await, Some(0));
    for arguments in [&["health"][..], &["health", "--live"]] {
        let (code, out, err) = world.command(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains("no gateway answers at 127.0.0.1:"), "{err}");
    }
}

#[test]
fn the_version_names_commit_and_models() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let head = format!("riskgate {}\ncommit  ", env!("CARGO_PKG_VERSION"));
    assert!(text.starts_with(&head), "{text}");
    assert_eq!(text.matches("\nmodel   ").count(), 3, "{text}");
}
