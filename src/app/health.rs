//! `riskgate health`: asks the gateway that runs how it is, for the health checks of containers and services, which have
//! no other program at hand.

use crate::app::RunError;
use crate::app::admin_client::Question;
use crate::app::admin_client::Silence;
use crate::app::admin_client::ask;
use crate::config::Config;
use crate::domain::review::printable;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the gateway says of itself.
#[derive(Debug)]
pub struct HealthReport {
    /// Whether requests are served. Degraded is: every login still goes through.
    pub is_ready: bool,
    /// One line for the whole and one for each part, with line ends.
    pub text: String,
}

#[derive(Deserialize)]
struct Readiness {
    status: String,
    #[serde(default)]
    parts: BTreeMap<String, Part>,
}

#[derive(Deserialize)]
struct Part {
    status: String,
    detail: Option<String>,
}

/// Asks for readiness, or with `live` only whether the process answers.
pub fn health(config: &Config, live: bool) -> Result<HealthReport, RunError> {
    let path = if live {
        "/health/live"
    } else {
        "/health/ready"
    };
    let question = Question {
        method: "GET",
        path,
        headers: "",
        body: "",
    };
    let foreign = || {
        let listen = config.admin.listen;
        RunError::System(format!("what answers at {listen} is no riskgate"))
    };
    let (status, body) = ask(config.admin.listen, question).map_err(|silence| match silence {
        Silence::Away(address, error) => {
            RunError::System(format!("no gateway answers at {address}: {error}"))
        }
        Silence::Foreign => foreign(),
    })?;
    if live {
        return Ok(HealthReport {
            is_ready: status == 200,
            text: format!("{}\n", printable(body.trim())),
        });
    }
    let said: Readiness = serde_json::from_str(&body).map_err(|_| foreign())?;
    Ok(HealthReport {
        is_ready: status == 200,
        text: said.text(),
    })
}

impl Readiness {
    fn text(&self) -> String {
        let mut text = format!("{}\n", printable(&self.status));
        for (name, part) in &self.parts {
            let (name, status) = (printable(name), printable(&part.status));
            let detail = part.detail.as_deref().map(printable).unwrap_or_default();
            let line = format!("{name:<12}{status:<10}{detail}");
            // Writing to a string does not fail.
            writeln!(text, "{}", line.trim_end()).unwrap_or(());
        }
        text
    }
}
