//! The policy beside the starter model, whose weights are set by hand for levels that begin at 30 and 71: the shipped policy
//! speaks of the points of the shipped models.

use riskgate::domain::risk::Thresholds;

/// Where the starter's levels begin.
const LEVELS: Thresholds = Thresholds {
    medium: 30,
    high: 71,
};

/// The shipped policy with the starter's levels.
pub fn shipped() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/policy.toml");
    policy(&std::fs::read_to_string(path).expect("the shipped policy"))
}

/// `policy` with the starter's levels, unless it sets its own.
pub fn policy(policy: &str) -> String {
    let shipped = Thresholds::default();
    if !policy.contains("[thresholds]") {
        return format!(
            "{policy}\n[thresholds]\nmedium = {}\nhigh = {}\n",
            LEVELS.medium, LEVELS.high
        );
    }
    policy
        .replace(
            &format!("\nmedium = {}\n", shipped.medium),
            &format!("\nmedium = {}\n", LEVELS.medium),
        )
        .replace(
            &format!("\nhigh = {}\n", shipped.high),
            &format!("\nhigh = {}\n", LEVELS.high),
        )
        .replace("risk.score >= 40", "risk.score >= 60")
}
