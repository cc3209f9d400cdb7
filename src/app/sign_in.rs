//! From `[admin.oidc]` to the provider by which operators sign in: who it is, what is agreed with it, the client's secret.

use crate::adapters::oidc_provider::OidcProvider;
use crate::adapters::oidc_provider::OidcProviderSettings;
use crate::adapters::store;
use crate::adapters::target::Target;
use crate::admin::console::Origin;
use crate::admin::console::Provider;
use crate::app::console;
use crate::app::keys::Keys;
use crate::app::secret_file;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::oidc::OidcSettings;
use crate::domain::operator::roster::Role;
use crate::domain::page_key::PageKey;
use crate::domain::secret::Secret;
use crate::domain::sign_in::MAPPED_MAX;
use crate::domain::sign_in::ProviderRules;
use crate::domain::sign_in::WORD_BYTES_MAX;
use crate::flow::ports::Clock;
use std::ffi::OsString;
use std::sync::Arc;

/// The variable that holds the client's secret itself. It stands over the file.
const SECRET_VARIABLE: &str = "RISKGATE_OIDC_CLIENT_SECRET";

/// What `[admin.oidc]` says: what is agreed, and where the provider is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prepared {
    rules: ProviderRules,
    settings: OidcProviderSettings,
}

/// What `[admin.oidc]` says, where it is there. All problems are found in one go.
pub fn prepare(config: &Config, file: &str) -> Result<Option<Prepared>, Vec<ConfigError>> {
    prepare_with(config, file, &|name| std::env::var_os(name))
}

impl Prepared {
    /// The provider's issuer.
    pub fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    /// Asks the provider for what a sign-in needs.
    pub async fn reach(self, clock: Arc<dyn Clock>) -> Result<(), String> {
        let provider = OidcProvider::new(self.settings, clock)
            .map_err(|error| format!("admin.oidc.{error}"))?;
        provider.look().await.map_err(|error| {
            format!(
                "admin.oidc.issuer: `{}`: {error}; is the issuer that of its discovery document, and `ca_file` its authority's?",
                self.rules.issuer
            )
        })
    }

    /// What the console needs of it.
    pub fn provider(
        &self,
        keys: &Keys,
        clock: Arc<dyn Clock>,
        file: &str,
    ) -> Result<Provider, ConfigError> {
        let provider = OidcProvider::new(self.settings.clone(), clock)
            .map_err(|error| ConfigError::new(file, format!("admin.oidc.{error}")))?;
        let previous = keys.previous.as_ref();
        let previous = previous.map(|previous| previous.pages.expose().as_slice());
        let key = PageKey::new(keys.pages.expose()).with_previous(previous);
        Ok(Provider::new(self.rules.clone(), Arc::new(provider), key))
    }
}

fn prepare_with(
    config: &Config,
    file: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Prepared>, Vec<ConfigError>> {
    let Some(said) = &config.admin.oidc else {
        return Ok(None);
    };
    let mut problems = Vec::new();
    let mut wrong = |key: &str, problem: String| {
        problems.push(ConfigError::new(file, format!("admin.{key}: {problem}")));
    };
    // What is no origin at all is told of where it is read.
    let origin = match console::origin(config, file) {
        Ok(Some(origin)) if origin.is_secure() || origin.is_loopback() => Some(origin),
        Ok(Some(origin)) => {
            let found = origin.text();
            let problem = format!(
                "`{found}`, expected `https://NAME` with `[admin.oidc]`: codes and cookies go through it"
            );
            wrong("origin", problem);
            None
        }
        Ok(None) => {
            let problem = "missing, expected `https://NAME` with `[admin.oidc]`: the provider sends browsers back to it";
            wrong("origin", problem.to_owned());
            None
        }
        Err(_) => None,
    };
    let issuer = Target::parse(&said.issuer).and_then(|target| {
        if target.url().query().is_some() {
            return Err("expected no query");
        }
        Ok(target)
    });
    if let Err(expected) = issuer {
        let found = store::without_credentials(&said.issuer);
        wrong(
            "oidc.issuer",
            format!("`{found}`: {expected}; it stands as `issuer` in the discovery document"),
        );
    }
    for (key, word) in [
        ("oidc.client_id", &said.client_id),
        ("oidc.name_claim", &said.name_claim),
        ("oidc.roles_claim", &said.roles_claim),
    ] {
        if !is_word(word) {
            wrong(key, format!("`{word}`: expected {WORDS}"));
        }
    }
    if let Some(acr) = said.acr.as_ref().filter(|acr| !is_word(acr)) {
        wrong("oidc.acr", format!("`{acr}`: expected {WORDS}"));
    }
    if let Some(scope) = said.scopes.iter().find(|scope| !is_word(scope)) {
        wrong("oidc.scopes", format!("`{scope}`: expected {WORDS}"));
    }
    if !said.scopes.iter().any(|scope| scope == "openid") || said.scopes.len() > MAPPED_MAX {
        wrong(
            "oidc.scopes",
            format!("expected at most {MAPPED_MAX}, with `openid` among them"),
        );
    }
    let roles = roles(said).unwrap_or_else(|problem| {
        wrong("oidc.roles", problem);
        Vec::new()
    });
    let secret = secret(said, variable).unwrap_or_else(|problem| {
        wrong("oidc.client_secret_file", problem);
        None
    });
    let is_tls = said.issuer.starts_with("https:");
    let authorities = trust::of_file_or_system(said.ca_file.as_deref(), is_tls);
    let authorities = authorities.unwrap_or_else(|error| {
        wrong("oidc.ca_file", error.to_string());
        Vec::new()
    });
    match origin {
        Some(origin) if problems.is_empty() => {
            Ok(Some(prepared(said, &origin, roles, secret, authorities)))
        }
        _ => Err(problems),
    }
}

fn prepared(
    said: &OidcSettings,
    origin: &Origin,
    roles: Vec<(String, Role)>,
    secret: Option<Secret<String>>,
    authorities: Vec<Vec<u8>>,
) -> Prepared {
    let origin = origin.text();
    let redirect_uri = format!("{origin}/console/sign-in/callback");
    Prepared {
        settings: OidcProviderSettings {
            issuer: said.issuer.clone(),
            client_id: said.client_id.clone(),
            secret,
            redirect_uri: redirect_uri.clone(),
            authorities,
        },
        rules: ProviderRules {
            issuer: said.issuer.clone(),
            client_id: said.client_id.clone(),
            redirect_uri,
            signed_out_uri: format!("{origin}/console/sign-in"),
            scopes: said.scopes.clone(),
            name_claim: said.name_claim.clone(),
            roles_claim: said.roles_claim.clone(),
            roles,
            acr: said.acr.clone(),
        },
    }
}

/// What the provider's roles are here.
fn roles(said: &OidcSettings) -> Result<Vec<(String, Role)>, String> {
    let mut mapped: Vec<(String, Role)> = Vec::new();
    for (names, role) in [
        (&said.roles.viewer, Role::Viewer),
        (&said.roles.analyst, Role::Analyst),
        (&said.roles.admin, Role::Admin),
    ] {
        for name in names {
            if name.trim().is_empty() || name.len() > WORD_BYTES_MAX {
                return Err(format!(
                    "{role}: `{name}`: expected the name of a role or group, {WORD_BYTES_MAX} bytes at most"
                ));
            }
            if mapped.iter().any(|(known, _)| known == name) {
                return Err(format!("`{name}` is there twice, expected one role for it"));
            }
            mapped.push((name.clone(), role));
        }
    }
    match mapped.len() {
        0 => Err(
            "names nobody, expected names of the provider's roles or groups under `viewer`, `analyst` or `admin`"
                .to_owned(),
        ),
        1..=MAPPED_MAX => Ok(mapped),
        found => Err(format!("{found} names, expected at most {MAPPED_MAX}")),
    }
}

fn secret(
    said: &OidcSettings,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Secret<String>>, String> {
    const EXPECTED: &str = "the client's secret";
    let Some(text) = variable(SECRET_VARIABLE) else {
        let path = said.client_secret_file.as_deref();
        return path
            .map(|path| secret_file::read(path, EXPECTED))
            .transpose();
    };
    let text = text.into_string();
    let text = text.map_err(|_| format!("{SECRET_VARIABLE} is no text"))?;
    match text.trim() {
        "" => Err(format!("{SECRET_VARIABLE} is empty, expected {EXPECTED}")),
        secret => Ok(Some(Secret::new(secret.to_owned()))),
    }
}

/// What client ids, claims, scopes and context classes are.
const WORDS: &str = "1 to 255 visible ASCII characters without `\"`, `\\` and space";

fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[admin]\norigin = 'https://risk.example.com'\n[admin.oidc]\n\
        issuer = 'http://127.0.0.1:9/oauth2/token'\nclient_id = 'console'\n[admin.oidc.roles]\nadmin = ['risk-admin']\n";

    fn said(text: &str, secret: Option<&str>) -> Result<Option<Prepared>, String> {
        let config = Config::parse(text).unwrap();
        prepare_with(&config, "test", &|name| {
            (name == SECRET_VARIABLE).then(|| secret.map(OsString::from))?
        })
        .map_err(|problems| {
            let problems = problems.iter().map(ToString::to_string);
            problems.collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn there_is_no_provider_unless_one_is_named() {
        assert!(said("", None).unwrap().is_none());
        let prepared = said(GOOD, None).unwrap().unwrap();
        assert!(prepared.settings.secret.is_none());
        assert_eq!(
            prepared.rules.redirect_uri,
            "https://risk.example.com/console/sign-in/callback"
        );
        assert_eq!(
            (prepared.rules.scopes.join(" "), prepared.rules.roles),
            (
                "openid roles".to_owned(),
                vec![("risk-admin".to_owned(), Role::Admin)]
            )
        );
        let local = GOOD.replace("https://risk.example.com", "http://localhost:9090");
        assert!(said(&local, None).unwrap().is_some());
    }

    #[test]
    fn the_secret_comes_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = format!(
            "client_id = 'console'\nclient_secret_file = '{}'",
            path.display()
        );
        let text = GOOD.replace("client_id = 'console'", &file);
        assert!(said(&text, None).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, " \n").unwrap();
        assert!(said(&text, None).unwrap_err().contains("is empty"));
        std::fs::write(&path, "of the file\n").unwrap();
        for (variable, expected) in [(None, "of the file"), (Some("canary"), "canary")] {
            let prepared = said(&text, variable).unwrap().unwrap();
            assert_eq!(
                prepared.settings.secret.as_ref().unwrap().expose(),
                expected
            );
            assert!(!format!("{prepared:?}").contains(expected));
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        for (from, to, expected) in [
            (
                "origin = 'https://risk.example.com'\n",
                "",
                "admin.origin: missing, expected `https://",
            ),
            (
                "https://risk.example.com",
                "http://risk.example.com",
                "admin.origin: `http://risk.example.com`, expected `https://",
            ),
            (
                "http://127.0.0.1:9",
                "http://login.example.com",
                "admin.oidc.issuer: `http://login.example.com/oauth2/token`: expected https://",
            ),
            (
                "http://127.0.0.1:9",
                "https://169.254.169.254",
                "admin.oidc.issuer: `https://169.254.169.254/oauth2/token`: expected no link-local",
            ),
            ("/oauth2/token", "/oauth2/token?x=1", "expected no query"),
            (
                "'console'",
                "'my console'",
                "admin.oidc.client_id: `my console`: expected 1 to 255",
            ),
            ("'console'", "''", "admin.oidc.client_id: ``"),
            (
                "'console'\n",
                "'console'\nscopes = ['roles']\n",
                "admin.oidc.scopes: expected at most 64, with `openid`",
            ),
            (
                "'console'\n",
                "'console'\nscopes = ['openid', 'a b']\n",
                "admin.oidc.scopes: `a b`",
            ),
            (
                "'console'\n",
                "'console'\nname_claim = ''\n",
                "admin.oidc.name_claim",
            ),
            ("'console'\n", "'console'\nacr = ''\n", "admin.oidc.acr"),
            (
                "'console'\n",
                "'console'\nca_file = '/nowhere'\n",
                "admin.oidc.ca_file",
            ),
            (
                "['risk-admin']",
                "[]",
                "admin.oidc.roles: names nobody, expected",
            ),
            ("['risk-admin']", "['']", "admin.oidc.roles: admin: ``"),
            (
                "['risk-admin']",
                "['a']\nviewer = ['a']",
                "admin.oidc.roles: `a` is there twice",
            ),
        ] {
            let error = said(&GOOD.replace(from, to), None).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
