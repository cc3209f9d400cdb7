//! What every door shares: the server's state, and the context of one request (realm, URLs, cookies, clock). It must not
//! contain the behaviour of a door.

use parking_lot::Mutex;
use parking_lot::MutexGuard;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::action::Action;
use crate::clock::Clock;
use crate::config::Flaws;
use crate::config::Outage;
use crate::config::SimConfig;
use crate::config::Validity;
use crate::keys::Keys;
use crate::record::Recorder;
use crate::request::Request;
use crate::response::Response;
use crate::response::append_params;
use crate::script::Script;
use crate::seed::Client;
use crate::seed::Realm;
use crate::store::Session;
use crate::store::Store;
use crate::store::fingerprint;
use crate::users::Users;
use crate::webhooks::Webhooks;

/// The whole server.
pub(crate) struct App {
    pub(crate) config: SimConfig,
    pub(crate) public_url: RwLock<String>,
    pub(crate) clock: Clock,
    pub(crate) keys: RwLock<Arc<Keys>>,
    pub(crate) flaws: RwLock<Flaws>,
    pub(crate) recorder: Recorder,
    pub(crate) action: RwLock<Option<Arc<Action>>>,
    pub(crate) id_token_action: RwLock<Option<Arc<Action>>>,
    pub(crate) password_action: RwLock<Option<Arc<Action>>>,
    pub(crate) webhooks: Webhooks,
    pub(crate) outage: RwLock<Outage>,
    pub(crate) response_delay_ms: AtomicU64,
    pub(crate) users: Mutex<Users>,
    pub(crate) store: Mutex<Store>,
}

impl App {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock()
    }

    pub(crate) fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock()
    }

    pub(crate) fn action(&self) -> Option<Arc<Action>> {
        held(&self.action)
    }

    pub(crate) fn id_token_action(&self) -> Option<Arc<Action>> {
        held(&self.id_token_action)
    }

    pub(crate) fn password_action(&self) -> Option<Arc<Action>> {
        held(&self.password_action)
    }

    /// The keys that sign now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read())
    }

    pub(crate) fn flaws(&self) -> Flaws {
        *self.flaws.read()
    }

    pub(crate) fn public_url(&self) -> String {
        self.public_url.read().clone()
    }

    pub(crate) fn outage(&self) -> Outage {
        *self.outage.read()
    }

    pub(crate) fn client<'a>(&'a self, realm: &str, client_id: &str) -> Option<&'a Client> {
        self.config
            .clients
            .iter()
            .find(|client| client.realm == realm && client.client_id == client_id)
    }
}

fn held(action: &RwLock<Option<Arc<Action>>>) -> Option<Arc<Action>> {
    action.read().clone()
}

/// One request with everything around it.
pub(crate) struct Ctx<'a> {
    pub(crate) app: &'a App,
    pub(crate) request: &'a Request,
    pub(crate) realm: &'a Realm,
    pub(crate) now_ms: i64,
}

impl<'a> Ctx<'a> {
    pub(crate) fn now_s(&self) -> i64 {
        self.now_ms / 1000
    }

    pub(crate) fn validity(&self) -> &'a Validity {
        &self.app.config.validity
    }

    /// A moment `validity` from now, in milliseconds.
    pub(crate) fn expiry_ms(&self, validity: std::time::Duration) -> i64 {
        let validity_ms = i64::try_from(validity.as_millis()).unwrap_or(i64::MAX / 4);
        self.now_ms.saturating_add(validity_ms)
    }

    pub(crate) fn client(&self, client_id: &str) -> Option<&'a Client> {
        self.app.client(&self.realm.key, client_id)
    }

    /// An absolute URL of this server in this realm.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.app.public_url(), self.realm.prefix)
    }

    /// `iss` of the tokens of this realm.
    pub(crate) fn issuer(&self) -> String {
        self.url("/oauth2/token")
    }

    /// A redirect to one of the login pages.
    pub(crate) fn to_page(&self, page: &str, params: &[(String, String)]) -> Response {
        let url = self.url(&format!("/authenticationendpoint/{page}"));
        Response::redirect(append_params(&url, params, false))
    }

    /// A `Set-Cookie` value with WSO2's attributes; `max_age_s` of 0 removes the cookie.
    pub(crate) fn cookie(
        &self,
        name: &str,
        value: &str,
        is_http_only: bool,
        max_age_s: Option<u32>,
    ) -> String {
        let mut cookie = format!("{name}={value}; Path={}/", self.realm.prefix);
        if let Some(seconds) = max_age_s {
            cookie.push_str(&format!("; Max-Age={seconds}"));
        }
        if self.app.config.has_secure_cookies {
            cookie.push_str("; Secure");
        }
        if is_http_only {
            cookie.push_str("; HttpOnly");
        }
        cookie.push_str(if self.app.config.has_secure_cookies {
            "; SameSite=None"
        } else {
            "; SameSite=Lax"
        });
        cookie
    }

    /// The live session of the `commonAuthId` cookie, with its key.
    pub(crate) fn session(&self) -> Option<(String, Session)> {
        let key = fingerprint(self.request.cookie("commonAuthId")?);
        let store = self.app.store();
        let session = store.sessions.get(&key)?;
        let idle_ms = self.now_ms.saturating_sub(session.last_ms);
        let idle_ms_max = i64::try_from(self.validity().session.as_millis()).unwrap_or(i64::MAX);
        (session.realm == self.realm.key && idle_ms <= idle_ms_max).then(|| (key, session.clone()))
    }

    /// The script of an application.
    pub(crate) fn script(&self, client: &'a Client) -> Script<'a> {
        Script {
            settings: &self.app.config.script,
            is_on: client.has_script,
            is_mfa_always: client.is_mfa_always,
        }
    }

    /// The correlation id: the `activityid` header, or a fresh one.
    pub(crate) fn trace_id(&self) -> String {
        self.request
            .header("activityid")
            .map_or_else(crate::seed::random_uuid, str::to_owned)
    }

    /// 302 to the page for logins that broke.
    pub(crate) fn retry(&self, status: &str) -> Response {
        self.to_page(
            "retry.do",
            &pairs(&[("status", status), ("statusMsg", status)]),
        )
    }
}

/// Owned pairs for the URL functions.
pub(crate) fn pairs(items: &[(&str, &str)]) -> Vec<(String, String)> {
    items
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
