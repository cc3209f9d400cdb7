//! What the gateway's user could not do, where another one checks: root is allowed everything, and what it makes it alone can
//! read. The gateway is taken to run as the owner of its data folder. Only what is certain is said: a mode that lets a group
//! or all others in says yes, since nobody's groups are known here.

use crate::adapters::access;
use crate::app::check::Findings;
use crate::config::Config;
use std::fs;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Files of the data folder that are looked at.
const FILES_MAX: usize = 1_000;
const OTHERS_MAY_READ: u32 = 0o044;
const OTHERS_MAY_WRITE: u32 = 0o022;
const ROOT: u32 = 0;

/// Looks at the data folder and at the files that `run` needs.
pub(super) fn look(config: &Config, findings: &mut Findings) {
    let data = &config.state.data_dir;
    let us = access::this_user();
    match fs::metadata(data) {
        Ok(found) if found.uid() != ROOT && found.uid() != us => {
            closed_to(found.uid(), config, findings);
        }
        Ok(found) if us == ROOT && is_roots(&found) => findings.fine.push(format!(
            "state.data_dir: root alone may write `{}`, so the gateway must run as root, or the folder be given to its user",
            data.display()
        )),
        Ok(_) => {}
        Err(_) if us == ROOT => findings.fine.extend(made_by_root(data)),
        Err(_) => {}
    }
}

/// The files that `user` cannot read or write, though it owns the data folder.
fn closed_to(user: u32, config: &Config, findings: &mut Findings) {
    let data = &config.state.data_dir;
    let tls = [&config.server.tls, &config.actions.tls];
    let keys = tls.into_iter().flatten().map(|tls| ("tls.key", &tls.key));
    let named = [
        ("keys.secret_file", &config.keys.secret_file),
        ("admin.token_file", &config.admin.token_file),
        ("admin.operators_file", &config.admin.operators_file),
        ("audit.people_key_file", &config.audit.people_key_file),
        ("upstream.client_key", &config.upstream.client_key),
    ];
    let named = named
        .into_iter()
        .filter_map(|(key, path)| Some((key, path.as_ref()?)));
    let own = within(data);
    let read = own.iter().map(|path| ("state.data_dir", path));
    for (key, path) in named.chain(keys).chain(read) {
        let closed = fs::metadata(path).ok();
        if let Some(found) = closed.filter(|found| is_closed(found, user, OTHERS_MAY_READ)) {
            let told = told(key, path, &found, "read", (user, data));
            findings.warnings.push(told);
        }
    }
    let audit = config.audit_file();
    let state = data.join("state.redb");
    for (key, path) in [("audit.file", &audit), ("state.data_dir", &state)] {
        let closed = fs::metadata(path).ok();
        let closed = closed
            .filter(|found| is_closed(found, user, OTHERS_MAY_WRITE))
            .filter(|found| !is_closed(found, user, OTHERS_MAY_READ) || !own.contains(path));
        if let Some(found) = closed {
            let told = told(key, path, &found, "write", (user, data));
            findings.warnings.push(told);
        }
    }
}

fn told(key: &str, path: &Path, found: &Metadata, act: &str, (user, data): (u32, &Path)) -> String {
    format!(
        "{key}: `{}` belongs to {} (mode {:o}), and {}, who owns `{}`, may not {act} it: if the gateway runs as that one, \
         `chown {user}` the file",
        path.display(),
        called(found.uid()),
        found.mode() & 0o777,
        called(user),
        data.display()
    )
}

/// Whether `user` is certainly not allowed what `others` stands for.
fn is_closed(found: &Metadata, user: u32, others: u32) -> bool {
    found.is_file() && found.uid() != user && found.mode() & others == 0
}

/// What there is to say of a folder that is not there.
fn made_by_root(data: &Path) -> Option<String> {
    let (above, found) = data.ancestors().skip(1).find_map(|above| {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        Some((above, fs::metadata(above).ok()?))
    })?;
    is_roots(&found).then(|| {
        format!(
            "state.data_dir: `{}` is not there, and root alone may make it in `{}`: make it and give it to the gateway's user, \
             unless that is root or its service manager does so",
            data.display(),
            above.display()
        )
    })
}

fn is_roots(found: &Metadata) -> bool {
    found.uid() == ROOT && found.mode() & OTHERS_MAY_WRITE == 0
}

fn called(user: u32) -> String {
    match user {
        ROOT => "root".to_owned(),
        user => format!("user {user}"),
    }
}

fn within(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.take(FILES_MAX).map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_its_owner_alone_may_use_is_closed_to_the_gateways_user() {
        let folder = tempfile::tempdir().unwrap();
        let us = access::this_user();
        let at = |name: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        at("secret.key", 0o600);
        at("operators.toml", 0o640);
        at("audit.jsonl", 0o640);
        at("state.redb", 0o600);
        let mut config = Config::default();
        config.state.data_dir = folder.path().to_owned();
        let said_to = |user| {
            let mut findings = Findings::default();
            closed_to(user, &config, &mut findings);
            assert!(findings.problems.is_empty() && findings.fine.is_empty());
            findings.warnings
        };
        assert_eq!(said_to(us), [""; 0]);
        let said = said_to(us + 1);
        let parts = [
            ("state.data_dir", "secret.key", "mode 600", "read"),
            ("state.data_dir", "state.redb", "mode 600", "read"),
            ("audit.file", "audit.jsonl", "mode 640", "write"),
        ];
        assert_eq!(said.len(), parts.len(), "{said:#?}");
        for (said, (key, name, mode, act)) in said.iter().zip(parts) {
            assert!(said.starts_with(&format!("{key}: `")), "{said}");
            assert!(said.contains(&format!("{name}` belongs to ")), "{said}");
            assert!(said.contains(mode), "{said}");
            assert!(said.contains(&format!("may not {act} it")), "{said}");
            assert!(said.contains(&format!("`chown {}` the file", us + 1)));
        }
    }

    #[test]
    fn a_folder_that_root_alone_can_make_is_told_of() {
        let said = made_by_root(Path::new("/nonexistent/riskgate/data")).unwrap();
        assert!(said.contains("root alone may make it in `/`"), "{said}");
        // Everybody may make files there.
        assert_eq!(
            made_by_root(Path::new("/tmp/nonexistent-riskgate/data")),
            None
        );
    }
}
