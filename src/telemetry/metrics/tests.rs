//! What the metrics are when they are read.

use super::*;
use std::time::Duration;

#[test]
fn metrics_are_rendered_with_bounded_labels() {
    let metrics = Metrics::new().unwrap();
    metrics.request(RequestLabels {
        class: "scored",
        door: "token",
        verdict: Some(Verdict::Allow),
        mode: Some(Mode::Monitor),
        grounds: Some(Grounds::Monitored),
    });
    metrics.unscored(FallbackCause::ModelMissing);
    let text = metrics.render();
    assert!(text.contains(r#"riskgate_requests_total{class="scored",door="token",grounds="monitored",mode="monitor",verdict="allow"} 1"#), "{text}");
    assert!(text.contains(r#"riskgate_unscored_total{cause="model_missing"} 1"#));
}

/// `increase` sees nothing of a series that begins with its first event.
#[test]
fn what_alerts_ask_for_is_there_before_it_happens() {
    let text = Metrics::new().unwrap().render();
    for series in [
        r#"riskgate_alerts_total{result="given_up"} 0"#,
        r#"riskgate_alerts_total{result="queue_full"} 0"#,
        r#"riskgate_audit_events_dropped_total 0"#,
        r#"riskgate_audit_stream_records_total{result="lost"} 0"#,
        r#"riskgate_certificate_reloads_total{listener="authorities",result="refused"} 0"#,
        r#"riskgate_certificate_reloads_total{listener="server",result="refused"} 0"#,
        r#"riskgate_panics_total 0"#,
        r#"riskgate_reload_refused 0"#,
        r#"riskgate_reviews_total{event="full"} 0"#,
        r#"riskgate_state_writes_lost_total 0"#,
        r#"riskgate_tokens_withheld_total{door="saml",revocation="barred"} 0"#,
        r#"riskgate_tokens_withheld_total{door="token",revocation="barred"} 0"#,
    ] {
        assert!(text.contains(series), "no `{series}` in {text}");
    }
}

#[test]
fn a_refused_reload_shows_until_one_is_taken() {
    let metrics = Metrics::new().unwrap();
    let shows = |value: &str| {
        let line = format!("riskgate_reload_refused {value}\n");
        metrics.render().contains(&line)
    };
    metrics.reload(true, Duration::ZERO);
    assert!(shows("0"));
    metrics.reload(false, Duration::ZERO);
    assert!(shows("1"));
    metrics.reload(true, Duration::ZERO);
    assert!(shows("0"));
}
