//! Events to a receiver: loginSuccess, loginFailed, userAccountLocked, sessionRevoked, credentialUpdated. The queue is bounded and delivery is
//! in the background; what does not fit or does not arrive is counted. It must not slow a login down.

use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hmac::Hmac;
use hmac::Mac;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::app::Ctx;
use crate::config::WebhookSettings;
use crate::issue;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::UserRef;
use crate::store::hex;

/// Events that wait for delivery.
const QUEUE_MAX: usize = 1_000;
/// Time for one delivery.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Deliveries of one event: the first and two more.
const ATTEMPTS_MAX: u32 = 3;
/// Start of every event type.
const EVENTS: &str = "https://schemas.identity.wso2.org/events/";

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    AccountLocked {
        user: &'a UserRef,
    },
    CredentialUpdated {
        user: &'a UserRef,
    },
    LoginFailed {
        username: &'a str,
        client: &'a Client,
        step: u8,
        authenticator: &'a str,
    },
    LoginSuccess {
        user: &'a UserRef,
        client: &'a Client,
        methods: &'a [String],
    },
    SessionRevoked {
        user: &'a UserRef,
        session_key: &'a str,
        initiator: &'static str,
    },
}

struct Delivery {
    settings: WebhookSettings,
    body: String,
}

/// The sender of events.
pub(crate) struct Webhooks {
    settings: RwLock<Option<WebhookSettings>>,
    queue: mpsc::Sender<Delivery>,
    dropped: Arc<AtomicU64>,
}

impl Webhooks {
    pub(crate) fn start(
        settings: Option<WebhookSettings>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(deliver_all(http, waiting, stopped, Arc::clone(&dropped)));
        Ok(Self {
            settings: RwLock::new(settings),
            queue,
            dropped,
        })
    }

    pub(crate) fn set(&self, settings: Option<WebhookSettings>) {
        *self.settings.write() = settings;
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Queues an event; never waits.
    pub(crate) fn publish(&self, ctx: &Ctx<'_>, event: &Event<'_>) {
        let settings = self.settings.read().clone();
        let Some(settings) = settings else {
            return;
        };
        let body = token(ctx, event).to_string();
        if self.queue.try_send(Delivery { settings, body }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn deliver_all(
    http: reqwest::Client,
    mut waiting: mpsc::Receiver<Delivery>,
    mut stopped: watch::Receiver<bool>,
    dropped: Arc<AtomicU64>,
) {
    loop {
        let delivery = tokio::select! {
            delivery = waiting.recv() => delivery,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Some(delivery) = delivery else {
            return;
        };
        if !deliver(&http, &delivery).await {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn deliver(http: &reqwest::Client, delivery: &Delivery) -> bool {
    for _ in 0..ATTEMPTS_MAX {
        let mut call = http
            .post(&delivery.settings.url)
            .header("content-type", "application/json")
            .body(delivery.body.clone());
        if let Some(signature) = signature(delivery) {
            call = call.header("X-Hub-Signature", signature);
        }
        if let Ok(response) = call.send().await
            && response.status().is_success()
        {
            return true;
        }
    }
    false
}

fn signature(delivery: &Delivery) -> Option<String> {
    let secret = delivery.settings.secret.as_ref()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(delivery.body.as_bytes());
    Some(format!("sha256={}", hex(&mac.finalize().into_bytes())))
}

/// The event in the shape of a security event token, unsigned; `iat` is in milliseconds as WSO2 writes it.
fn token(ctx: &Ctx<'_>, event: &Event<'_>) -> Value {
    let (kind, payload) = payload(ctx, event);
    json!({
        "iss": format!("{}/t/{}", ctx.app.public_url(), ctx.realm.tenant),
        "jti": random_uuid(),
        "iat": ctx.now_ms,
        "events": {format!("{EVENTS}{kind}"): payload},
    })
}

fn payload(ctx: &Ctx<'_>, event: &Event<'_>) -> (&'static str, Value) {
    let organization = json!({
        "id": ctx.realm.org_id, "name": ctx.realm.org_name,
        "orgHandle": ctx.realm.org_handle, "depth": i32::from(ctx.realm.key != ctx.realm.tenant),
    });
    let known_user = |user: &UserRef| {
        json!({
            "id": user.id,
            "claims": [{"uri": "http://wso2.org/claims/username", "value": user.username}],
            "organization": organization,
            "ref": ctx.url(&format!("/scim2/Users/{}", user.id)),
        })
    };
    let application = |client: &Client| json!({"id": client.app_id(), "name": client.app_name});
    let mut payload = json!({
        "initiatorType": "USER",
        "initiatorIpAddress": ctx.request.client_ip(),
        "tenant": {"id": ctx.realm.tenant_id.to_string(), "name": ctx.realm.tenant},
        "organization": organization,
        "userStore": {"id": "UFJJTUFSWQ==", "name": "PRIMARY"},
    });
    let mut put = |name: &str, value: Value| issue::put(&mut payload, name, value);
    let kind = match event {
        Event::AccountLocked { user } => {
            put("user", known_user(user));
            "user/event-type/userAccountLocked"
        }
        Event::CredentialUpdated { user } => {
            put("user", known_user(user));
            put("credentialType", json!("PASSWORD"));
            "credential/event-type/credentialUpdated"
        }
        Event::LoginFailed {
            username,
            client,
            step,
            authenticator,
        } => {
            let claim = json!({"uri": "http://wso2.org/claims/username", "value": username});
            put(
                "user",
                json!({"claims": [claim], "organization": organization}),
            );
            put("application", application(client));
            let failed = json!({"step": step, "idp": "LOCAL", "authenticator": authenticator});
            put(
                "reason",
                json!({"message": "User authentication failed due to invalid credentials.",
                    "context": {"failedStep": failed}}),
            );
            "login/event-type/loginFailed"
        }
        Event::LoginSuccess {
            user,
            client,
            methods,
        } => {
            put("user", known_user(user));
            put("application", application(client));
            put("authenticationMethods", json!(methods));
            "login/event-type/loginSuccess"
        }
        Event::SessionRevoked {
            user,
            session_key,
            initiator,
        } => {
            put("user", known_user(user));
            put("initiatorType", json!(initiator));
            put("session", json!({"id": session_key}));
            "session/event-type/sessionRevoked"
        }
    };
    (kind, payload)
}
