//! Policies of a few rules, and the worlds that most tests begin with.

use super::Options;
use super::World;
use std::fmt::Write as _;
use wso2_sim::SimConfig;

/// A policy with one rule for everything before the shipped defaults.
pub fn always(verdict: &str) -> String {
    rules(&[("true", verdict)])
}

/// A policy of these rules (condition, verdict) before the shipped defaults.
pub fn rules(rules: &[(&str, &str)]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (number, (when, verdict)) in rules.iter().enumerate() {
        write!(
            text,
            "[[rule]]\nname = \"rule-{number}\"\nwhen = '''{when}'''\nverdict = \"{verdict}\"\n"
        )
        .expect("a text takes more text");
    }
    text
}

/// An identity server whose applications do not follow a demand.
pub fn deaf() -> SimConfig {
    let mut sim = SimConfig::default();
    for client in &mut sim.clients {
        client.has_script = false;
    }
    sim
}

/// A world that enforces `policy`.
pub async fn enforcing(policy: String) -> World {
    enforcing_before(SimConfig::default(), policy).await
}

/// The same in front of this identity server.
pub async fn enforcing_before(sim: SimConfig, policy: String) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(policy),
        sim,
        ..Options::default()
    })
    .await
}

/// A world that enforces and asks for a stronger factor where `rule` holds, with further configuration.
pub async fn stepped_up(rule: &str, sim: SimConfig, config: &'static str) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[(rule, "step_up")])),
        sim,
        config,
        ..Options::default()
    })
    .await
}

/// A gateway in front of whatever listens on this port of the machine, with no request limits. The simulator is not asked.
pub fn in_front_of(port: u16) -> Options {
    let config = format!(
        "[upstream]\nurl = \"http://127.0.0.1:{port}\"\n[limits]\naddress_per_minute = 0\nnetwork_per_minute = 0\nuser_per_minute = 0\nclient_per_minute = 0\n"
    );
    Options {
        // Options are kept for the whole of the run.
        config: Box::leak(config.into_boxed_str()),
        ..Options::default()
    }
}
