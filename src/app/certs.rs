//! `riskgate certs`: certificates for development, written into a folder, and what to do with them. Nothing that is there
//! already is replaced unless that is asked for.

use crate::adapters::issuer::Authority;
use crate::adapters::issuer::Issued;
use crate::adapters::replace;
use crate::adapters::replace::Access;
use crate::app::RunError;
use crate::config::ConfigError;
use crate::domain::time::Timestamp;
use std::fs;
use std::fs::Permissions;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// The longest life, in days. What is made in a minute need not live for long.
pub const DAYS_MAX: u32 = 365;
/// The longest list of names.
const NAMES_MAX: usize = 50;
/// The longest name (RFC 1035 section 2.3.4), and the longest part of one.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The authority's certificate.
const AUTHORITY: &str = "dev-ca.crt";

/// A certificate that is made, by its files.
struct Pair {
    certificate: &'static str,
    key: &'static str,
    is_for: &'static str,
}

const SERVER: Pair = Pair {
    certificate: "dev-server.crt",
    key: "dev-server.key",
    is_for: "the public listener",
};
const ACTIONS: Pair = Pair {
    certificate: "dev-actions.crt",
    key: "dev-actions.key",
    is_for: "the listener that WSO2 calls",
};
const CLIENT: Pair = Pair {
    certificate: "dev-client.crt",
    key: "dev-client.key",
    is_for: "a client of these listeners, or riskgate itself towards WSO2",
};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The folder.
    pub out: PathBuf,
    /// Names and addresses of the listeners.
    pub names: Vec<String>,
    /// The life of all certificates, in days.
    pub days: u32,
    /// Whether what is there is replaced.
    pub force: bool,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    wanted: Wanted,
    ends: Timestamp,
}

/// A file to be written.
struct Out {
    path: PathBuf,
    text: String,
    is_secret: bool,
}

/// Makes the authority and what it issues, and writes all but the authority's key.
///
/// # Errors
/// A name is none, files are there already, or they cannot be written.
pub fn make(wanted: Wanted, now: Timestamp) -> Result<Made, RunError> {
    let wrong = |problem: String| RunError::Config(vec![ConfigError::new("certs", problem)]);
    if wanted.names.is_empty() || wanted.names.len() > NAMES_MAX {
        let found = wanted.names.len();
        return Err(wrong(format!(
            "--name: {found} names, expected 1 to {NAMES_MAX}"
        )));
    }
    if let Some(odd) = wanted.names.iter().find(|name| !is_name(name)) {
        return Err(wrong(format!(
            "--name: `{odd}`: expected a host name such as `gateway.test` or `*.gateway.test`, or an address such as \
             `192.0.2.7`, without scheme and port"
        )));
    }
    if !(1..=DAYS_MAX).contains(&wanted.days) {
        let found = wanted.days;
        return Err(wrong(format!("--days: {found}, expected 1 to {DAYS_MAX}")));
    }
    let failed = |error: &dyn std::fmt::Display| RunError::System(error.to_string());
    let authority = Authority::new(now, DAY * wanted.days).map_err(|error| failed(&error))?;
    let issued = [
        (&SERVER, authority.server("server", &wanted.names)),
        (&ACTIONS, authority.server("actions", &wanted.names)),
        (&CLIENT, authority.client("client")),
    ];
    let mut files = vec![Out {
        path: wanted.out.join(AUTHORITY),
        text: authority.certificate(),
        is_secret: false,
    }];
    for (pair, issued) in issued {
        let Issued { certificate, key } = issued.map_err(|error| failed(&error))?;
        files.push(Out {
            path: wanted.out.join(pair.key),
            text: key.expose().clone(),
            is_secret: true,
        });
        files.push(Out {
            path: wanted.out.join(pair.certificate),
            text: certificate,
            is_secret: false,
        });
    }
    // A link that leads nowhere is there as well.
    let is_there = |file: &&Out| fs::symlink_metadata(&file.path).is_ok();
    let there: Vec<String> = files.iter().filter(is_there).map(Out::name).collect();
    if !there.is_empty() && !wanted.force {
        return Err(wrong(format!(
            "--out: there already: {}; nothing was written. `--force` replaces them all, and what trusts the old \
             authority must be given the new one",
            there.join(", ")
        )));
    }
    write_all(&wanted.out, &files, wanted.force)?;
    Ok(Made {
        ends: authority.ends(),
        wanted,
    })
}

fn write_all(folder: &Path, files: &[Out], force: bool) -> Result<(), RunError> {
    let unwritten = |path: &Path, error: &io::Error| {
        let path = path.display();
        RunError::System(format!("`{path}` {}", replace::unwritten(error)))
    };
    fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
    for (place, file) in files.iter().enumerate() {
        if let Err(error) = file.write(force) {
            if !force {
                // They were not there before. Half a set helps nobody, and the next call would refuse to replace it.
                for written in files.iter().take(place) {
                    drop(fs::remove_file(&written.path));
                }
            }
            return Err(unwritten(&file.path, &error));
        }
    }
    Ok(())
}

impl Out {
    fn name(&self) -> String {
        format!("`{}`", self.path.display())
    }

    /// For the owner alone; a certificate is then opened to everybody.
    fn write(&self, force: bool) -> io::Result<()> {
        if force {
            replace::replace(&self.path, self.text.as_bytes(), Access::Private)?;
        } else {
            replace::create(&self.path, self.text.as_bytes())?;
        }
        if self.is_secret {
            return Ok(());
        }
        fs::set_permissions(&self.path, Permissions::from_mode(0o644))
    }
}

impl Made {
    /// What was made, what goes into the configuration, and how clients are told to trust it.
    pub fn report(&self) -> String {
        let Wanted {
            out, names, days, ..
        } = &self.wanted;
        let at = |file: &str| out.join(file).display().to_string();
        let in_toml = |file: &str| toml_edit::Value::from(at(file)).to_string();
        let in_shell = |file: &str| quoted(&at(file));
        let first = names.iter().find(|name| !name.contains('*'));
        let host = first.map_or("localhost", String::as_str);
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.to_owned(),
        };
        let mut text = format!(
            "certificates in {}, for {}, good for {days} days (until {}):\n\n",
            out.display(),
            names.join(", "),
            self.ends.to_rfc3339()
        );
        let mut line = |files: String, what: &str| {
            text += &format!("  {files:<32}  {what}\n");
        };
        line(
            AUTHORITY.to_owned(),
            "the authority, for clients to trust; its key is gone: it will issue nothing more",
        );
        for pair in [&SERVER, &ACTIONS, &CLIENT] {
            line(format!("{} {}", pair.certificate, pair.key), pair.is_for);
        }
        let (authority, client) = (in_toml(AUTHORITY), &CLIENT);
        text += &format!(
            "\n\
             into riskgate.toml (what begins with # where it is wanted):\n\n\
             [server.tls]\n\
             certificate = {server}\n\
             key = {server_key}\n\
             # Clients must show a certificate of the same authority:\n\
             # client_ca_file = {authority}\n\
             # [actions.tls]\n\
             # certificate = {actions}\n\
             # key = {actions_key}\n\
             # client_ca_file = {authority}\n\
             # Shown to a WSO2 that demands certificates of this authority:\n\
             # [upstream]\n\
             # client_certificate = {own}\n\
             # client_key = {own_key}\n\n\
             a client trusts it for one call, the machine never:\n\n  \
             curl --cacert {ca} https://{host}:8080/oauth2/jwks\n  \
             curl --cacert {ca} --cert {cert} --key {key} https://{host}:8080/oauth2/jwks   # with client_ca_file\n",
            server = in_toml(SERVER.certificate),
            server_key = in_toml(SERVER.key),
            actions = in_toml(ACTIONS.certificate),
            actions_key = in_toml(ACTIONS.key),
            own = in_toml(client.certificate),
            own_key = in_toml(client.key),
            ca = in_shell(AUTHORITY),
            cert = in_shell(client.certificate),
            key = in_shell(client.key),
        );
        text
    }
}

/// A host name, perhaps for every name beneath another one, or an address.
fn is_name(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What looks like an address and is none is no name either.
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !is_number
}

/// A word of a shell's line.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names_and_addresses() {
        for good in [
            "localhost",
            "gateway.test",
            "*.gateway.test",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "::1",
            "a-b.c1",
        ] {
            assert!(is_name(good), "{good}");
        }
        let long = format!("{}.test", "a".repeat(64));
        let longer = format!("{}test", "a.".repeat(130));
        for bad in [
            "",
            ".",
            "a..b",
            "-a.test",
            "a-.test",
            "https://localhost",
            "localhost:8443",
            "[::1]",
            "127.0.0.256",
            "10.1",
            "a b",
            "a_b.test",
            "*",
            "a.*.test",
            "bücher.example",
            "a\n.test",
            &long,
            &longer,
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn words_of_a_shell_stay_one_word() {
        assert_eq!(quoted("certs/dev-ca.crt"), "certs/dev-ca.crt");
        assert_eq!(quoted("my certs/it's"), r"'my certs/it'\''s'");
        assert_eq!(quoted("$(x)"), "'$(x)'");
    }
}
