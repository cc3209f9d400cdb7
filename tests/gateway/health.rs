//! `riskgate health` and `--version`, as a container's health check and an operator call them.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::exchange;

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

/// A page in an operator's browser can lead a name of its own to this listener, and then reads what it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_name_reads_no_metrics_and_no_parts() {
    let world = World::start(Options {
        config: "[admin]\nhosts = ['Prometheus-1.internal', 'edge:9090']\norigin = 'https://risk.example'",
        ..Options::default()
    })
    .await;
    let port = world.admin_port;
    let ask = async |head: &str| {
        exchange(port, format!("{head}Connection: close\r\n\r\n").as_bytes()).await
    };
    for (hosts, is_known) in [
        ("Host: 127.0.0.1\r\n", true),
        ("Host: 10.0.0.7:9090\r\n", true),
        ("Host: [::1]:9090\r\n", true),
        ("Host: LOCALHOST:1\r\n", true),
        ("Host: prometheus-1.internal\r\n", true),
        ("Host: PROMETHEUS-1.internal:9090\r\n", true),
        ("Host: edge:9090\r\n", true),
        ("Host: risk.example\r\n", true),
        ("Host: edge\r\n", false),
        ("Host: edge:9091\r\n", false),
        ("Host: evil.example\r\n", false),
        ("Host: evil.example:9090\r\n", false),
        ("Host: 127.0.0.1.evil.example\r\n", false),
        ("Host: prometheus-1.internal.evil.example\r\n", false),
        ("Host: localhost\r\nHost: evil.example\r\n", false),
        ("Host: \r\n", false),
    ] {
        let metrics = ask(&format!("GET /metrics HTTP/1.1\r\n{hosts}")).await;
        let expected = if is_known { 200 } else { 421 };
        assert_eq!(metrics.status, expected, "{hosts:?}: {metrics:?}");
        assert_eq!(metrics.body().contains("riskgate_"), is_known, "{hosts:?}");
        let ready = ask(&format!("GET /health/ready HTTP/1.1\r\n{hosts}")).await;
        assert_eq!(ready.status, 200, "{hosts:?}: {ready:?}");
        assert_eq!(ready.body().contains("\"model\""), is_known, "{hosts:?}");
        let live = ask(&format!("GET /health/live HTTP/1.1\r\n{hosts}")).await;
        assert_eq!(live.status, 200, "{hosts:?}");
    }
    // Balancers' checks of HTTP/1.0 name no host; browsers always do.
    for path in ["/metrics", "/health/ready"] {
        assert_eq!(ask(&format!("GET {path} HTTP/1.0\r\n")).await.status, 200);
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
