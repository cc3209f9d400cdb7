//! The rollout plan: its file, what is wrong with it, and `riskgate rollout`, which speaks to the gateway that runs: the
//! record of a change belongs into its chain.

use crate::adapters::plan_files;
use crate::adapters::plan_files::FilesOnDisk;
use crate::app::RunError;
use crate::app::admin_client::Question;
use crate::app::admin_client::ask_with_token;
use crate::app::admin_client::foreign;
use crate::app::admin_client::wrong;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::Rollout;
use crate::domain::policy::scope::Scope;
use crate::domain::review::printable;
use crate::domain::rollout_plan::Level;
use crate::domain::rollout_plan::Plan;
use crate::domain::rollout_plan::status::Said;
use crate::domain::rollout_plan::status::Status;
use crate::flow::rollout::RolloutWatch;
use crate::flow::snapshot::Planned;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What keeps budgets and what has fallen back while the gateway runs.
pub(in crate::app) fn watch(config: &Config) -> RolloutWatch {
    RolloutWatch::new(Arc::new(FilesOnDisk::new(config.falls_file())))
}

/// The plan, where one is configured.
///
/// # Errors
/// It cannot be read or used, or `[mode]` says something else beside it.
pub(in crate::app) fn planned(config: &Config, file: &str) -> Result<Option<Planned>, ConfigError> {
    let Some(path) = &config.rollout.file else {
        return Ok(None);
    };
    if config.mode != Rollout::default() && !is_off(config) {
        return Err(ConfigError::new(
            file,
            "mode: says something beside rollout.file, whose stages hold in its place; move it there, or remove one of the two \
             (only `default = \"off\"` alone holds over a rollout file)",
        ));
    }
    let wrong = |problem: String| ConfigError::new(path.display().to_string(), problem);
    let text = plan_files::read(path).map_err(|error| {
        wrong(format!(
            "rollout.file: cannot be read: {error}; an empty file plans nothing: everybody is watched"
        ))
    })?;
    let plan = Plan::parse(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(Planned {
        plan,
        file: path.clone(),
    }))
}

/// The modes in force: those of the plan, where there is one and `[mode]` does not say `off`.
pub(in crate::app) fn modes(config: &Config, planned: Option<&Planned>) -> Rollout {
    match planned {
        Some(planned) if !is_off(config) => planned.plan.rollout(),
        _ => config.mode.clone(),
    }
}

/// Whether everybody is turned off in the configuration itself.
fn is_off(config: &Config) -> bool {
    config.mode == Rollout::of(Mode::Off)
}

/// What an operator should know of a plan. `seen` are the applications of the latest records; `None` where there are none.
pub(in crate::app) fn warnings(
    config: &Config,
    planned: &Planned,
    seen: Option<&BTreeSet<String>>,
) -> Vec<String> {
    let file = planned.file.display();
    let mut warnings = Vec::new();
    if is_off(config) {
        warnings.push(format!(
            "mode.default: `off` holds over {file}: nothing is scored"
        ));
    }
    let of_steps = config.step_up.applications.iter();
    let configured: BTreeSet<&str> = of_steps.map(|entry| entry.client_id.as_str()).collect();
    let Some(seen) = seen else {
        return warnings;
    };
    let stages = planned.plan.stages.iter().enumerate();
    for (place, stage) in stages {
        let name = stage.scope.as_ref().and_then(Scope::application);
        let is_known = |name: &str| configured.contains(name) || seen.contains(name);
        if let Some(name) = name.filter(|name| !is_known(name)) {
            warnings.push(format!(
                "{file}: stage[{place}].application: no record of late is of `{}`; is it the client id, or the issuer of its \
                 SAML requests?",
                printable(name)
            ));
        }
    }
    warnings
}

/// What is asked of the gateway.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// `promote`, `demote` or `approve`.
    pub word: &'static str,
    /// The tenant, where it is for one.
    pub tenant: Option<String>,
    /// The application, where it is for one.
    pub application: Option<String>,
    /// The mode; none for `approve`, or that which is expected to wait.
    pub mode: Option<Mode>,
    /// For how many of a hundred users.
    pub percentage: u8,
    /// Who asks.
    pub operator: String,
    /// The operator's password.
    pub password: String,
    /// Why.
    pub reason: String,
}

/// How the rollout stands.
///
/// # Errors
/// No gateway answers, or it has no rollout.
pub fn status(config: &Config) -> Result<Status, RunError> {
    let question = Question {
        method: "GET",
        path: "/rollout",
        headers: "",
        body: "",
    };
    let (status, body) = ask_with_token(config, question)?;
    match status {
        200 => Status::parse(&body).ok_or_else(|| foreign(config)),
        _ => Err(refused(config, status, &body)),
    }
}

/// Has the gateway change its rollout.
///
/// # Errors
/// No gateway answers, or it does not do it: why.
pub fn change(config: &Config, change: &Change) -> Result<Said, RunError> {
    let percentage = change.percentage.to_string();
    let to = change.mode.map_or_else(String::new, |mode| {
        Level(mode, change.percentage).to_string()
    });
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("tenant", change.tenant.as_deref().unwrap_or(""))
        .append_pair("application", change.application.as_deref().unwrap_or(""))
        .append_pair("to", &to)
        .append_pair("mode", change.mode.map_or("", Mode::as_str))
        .append_pair("percentage", &percentage)
        .append_pair("operator", &change.operator)
        .append_pair("password", &change.password)
        .append_pair("reason", &change.reason);
    let path = format!("/rollout/{}", change.word);
    let question = Question {
        method: "POST",
        path: &path,
        headers: "",
        body: &form.finish(),
    };
    let (status, body) = ask_with_token(config, question)?;
    match status {
        200 => Said::parse(&body).ok_or_else(|| foreign(config)),
        _ => Err(refused(config, status, &body)),
    }
}

fn refused(config: &Config, status: u16, body: &str) -> RunError {
    let said = Said::parse(body).unwrap_or_default().error;
    let said = if said.is_empty() {
        format!("the gateway answers {status} and gives no reason")
    } else {
        printable(&said)
    };
    match status {
        401 => wrong(
            "admin.token_file",
            &format!(
                "the gateway does not take the token in `{}`; use the one of the gateway that runs (--data or --config)",
                config.token_file().display()
            ),
        ),
        403 | 429 => wrong("--as", &said),
        500.. => RunError::System(said),
        _ => wrong("rollout", &said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn config(mode: &str, plan: Option<&str>) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.toml");
        if let Some(plan) = plan {
            fs::write(&path, plan).unwrap();
        }
        let text = format!("{mode}\n[rollout]\nfile = '{}'\n", path.display());
        (folder, Config::parse(&text).unwrap())
    }

    const PLAN: &str =
        "[[stage]]\napplication = 'expenses'\nmode = 'enforce'\napproved_by = ['ada']\n";

    #[test]
    fn the_plan_stands_in_for_the_mode() {
        let (_folder, good) = config("", Some(PLAN));
        let planned = planned(&good, "f").unwrap().unwrap();
        let modes = modes(&good, Some(&planned));
        assert_eq!(modes.mode_for("", "expenses", 0), Mode::Enforce);
        assert_eq!(modes.mode_for("", "other", 0), Mode::Monitor);
    }

    #[test]
    fn off_in_the_configuration_holds_over_the_plan() {
        let (_folder, off) = config("[mode]\ndefault = 'off'", Some(PLAN));
        let planned = planned(&off, "f").unwrap().unwrap();
        assert_eq!(modes(&off, Some(&planned)).strongest(), Mode::Off);
        let warned = warnings(&off, &planned, None);
        assert!(warned.iter().any(|line| line.contains("`off` holds over")));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_file_key_and_remedy() {
        let error = |mode: &str, plan: Option<&str>| {
            let (_folder, config) = config(mode, plan);
            planned(&config, "riskgate.toml").unwrap_err().to_string()
        };
        let both = error("[mode]\ndefault = 'enforce'", Some(PLAN));
        assert!(
            both.starts_with("riskgate.toml: mode: says something beside rollout.file"),
            "{both}"
        );
        let both = error("[mode]\npercentage = 50", Some(PLAN));
        assert!(both.contains("remove one of the two"), "{both}");
        let missing = error("", None);
        assert!(
            missing.contains("rollout.toml: rollout.file: cannot be read"),
            "{missing}"
        );
        let wrong = error("", Some("[[stage]]\napplication = 'a'\npercentage = 200"));
        assert!(
            wrong.contains("rollout.toml: stage[0].percentage: 200, expected 0 to 100"),
            "{wrong}"
        );
        let loud = error("", Some("[default]\nmode = 'loud'"));
        assert!(loud.contains("unknown variant `loud`"), "{loud}");
    }

    #[test]
    fn applications_of_which_nothing_is_known_are_pointed_out() {
        let (_folder, config) = config("", Some(PLAN));
        let planned = planned(&config, "f").unwrap().unwrap();
        let seen = |name: &str| BTreeSet::from([name.to_owned()]);
        assert!(warnings(&config, &planned, Some(&seen("expenses"))).is_empty());
        assert!(warnings(&config, &planned, None).is_empty());
        let warned = warnings(&config, &planned, Some(&seen("expense")));
        assert!(warned[0].contains("stage[0].application: no record of late is of `expenses`"));
    }
}
