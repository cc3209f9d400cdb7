//! What the metrics are when they are read.

use super::*;

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
