//! The files of its own that a gateway finds at its start: whether it could use them. Makes none, takes no lock, and looks into
//! nothing that a gateway has open. What this user may not read another one may, so that is a warning.

use crate::adapters::access;
use crate::adapters::audit_log::AuditLog;
use crate::adapters::audit_log::AuditLogError;
use crate::adapters::store;
use crate::adapters::store::Look;
use crate::adapters::store::StoreSettings;
use crate::app::audit;
use crate::app::check::Findings;
use crate::app::keys::Keys;
use crate::app::operators;
use crate::config::Config;
use crate::config::ConfigError;
use std::io::ErrorKind;
use std::path::Path;

/// The secret as the next start will have it. Without one any key serves to build the parts.
pub(super) fn secret(config: &Config, findings: &mut Findings) -> Keys {
    findings.warnings.extend(Keys::warnings(config));
    match Keys::found(config) {
        Ok(Some(keys)) => return keys,
        Ok(None) => {}
        Err(error) => note(findings, Path::new(&error.file.clone()), error),
    }
    Keys::throwaway(0)
}

/// The operators' token and the keys of the audit log.
pub(super) fn look(config: &Config, file: &str, findings: &mut Findings) {
    if let Err(error) = operators::found(config) {
        match config.admin.token_file {
            Some(_) => findings.problems.push(error),
            None => note(findings, &config.token_file(), error),
        }
    }
    // What is wrong with the settings is said by others.
    let Ok(settings) = audit::settings(config, file) else {
        return;
    };
    if let Err(error) = AuditLog::look(&settings) {
        let (AuditLogError::File { cause, .. } | AuditLogError::Keys { cause, .. }) = &error;
        let is_denied = cause.kind() == ErrorKind::PermissionDenied;
        let problem = format!("audit.file: {error}");
        if is_denied {
            findings.warnings.push(of_another(&problem));
        } else {
            findings.problems.push(ConfigError::new(file, problem));
        }
    }
}

/// The store.
pub(super) fn state(
    config: &Config,
    file: &str,
    settings: &StoreSettings,
    findings: &mut Findings,
) {
    let found = store::look(&config.state.url, &config.state.data_dir, settings);
    let shown = store::without_credentials(&config.state.url);
    match found {
        Ok(Look::Absent | Look::Sound) => findings.fine.push(format!("state: {shown}")),
        Ok(Look::InUse) => findings.fine.push(format!(
            "state: {shown} (open in a process that runs, so it was not looked into)"
        )),
        Err(error) => {
            let problem = format!("state.url: {error}");
            if error.is_denied() {
                findings.warnings.push(of_another(&problem));
            } else {
                findings.problems.push(ConfigError::new(file, problem));
            }
        }
    }
}

fn note(findings: &mut Findings, path: &Path, error: ConfigError) {
    let denied = access::may_read(path).err();
    if denied.is_some_and(|denied| denied.kind() == ErrorKind::PermissionDenied) {
        findings.warnings.push(of_another(&error.to_string()));
    } else {
        findings.problems.push(error);
    }
}

fn of_another(problem: &str) -> String {
    format!("{problem}; the gateway must run as a user that may")
}
