//! Plays people and programs: goes through logins hop by hop as a browser does, and calls the token endpoint as
//! applications do. It knows nothing of decisions; it only sees what a client sees.

use crate::cast::Account;
use crate::cast::Agent;
use crate::place::Place;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use uuid::Uuid;
use wso2_sim::browser::Browser;
use wso2_sim::browser::Page;

/// `acr` of a sign-in with both factors, as riskgate ships it.
pub(crate) const ACR_MFA: &str = "urn:riskgate:acr:mfa";

/// riskgate as clients know it.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    url: String,
    callback: String,
    certificate: String,
}

/// An application registered with the simulated WSO2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) id: &'static str,
    pub(crate) secret: Option<&'static str>,
}

/// A public application in the browser; its script asks for the second factor when riskgate says so.
pub(crate) const SPA: Client = Client {
    id: "demo-spa",
    secret: None,
};
/// An application that always asks for two factors.
pub(crate) const TWO_FACTOR: Client = Client {
    id: "demo-mfa",
    secret: Some("demo-mfa-secret"),
};
/// An application with a server; the one that people try in the browser.
pub(crate) const WEB: Client = Client {
    id: "demo-web",
    secret: Some("demo-web-secret"),
};
/// A service account.
pub(crate) const SERVICE: Client = Client {
    id: "demo-service",
    secret: Some("demo-service-secret"),
};

/// How a sign-in ended, as its browser saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignIn {
    /// Whether the application got tokens.
    pub(crate) is_in: bool,
    /// Whether a one-time code was asked for.
    pub(crate) gave_code: bool,
    /// The status of the last page.
    pub(crate) status: u16,
    /// `acr` of the ID token: how strongly WSO2 says that the user was authenticated.
    pub(crate) acr: Option<String>,
    /// The refresh token.
    pub(crate) refresh_token: Option<String>,
}

/// The answer of the token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct TokenAnswer {
    /// Its status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: Value,
}

impl Gateway {
    /// The gateway of this run.
    pub(crate) fn new(place: &Place) -> anyhow::Result<Self> {
        let certificate = std::fs::read_to_string(place.certificate_file())
            .context("the gateway's certificate cannot be read")?;
        Ok(Self {
            url: place.gateway_url(),
            callback: format!("{}/cb", place.app_url()),
            certificate,
        })
    }

    /// A browser or program at an address. The driver is a trusted proxy: its word about the address is taken.
    pub(crate) fn visitor(&self, address: Ipv4Addr, agent: Agent) -> anyhow::Result<Browser> {
        let mut browser = self.direct()?;
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        browser.headers = vec![
            header("x-forwarded-for", &address.to_string()),
            header("user-agent", agent.user_agent),
        ];
        if let Some(language) = agent.language {
            browser.headers.push(header("accept-language", language));
            browser
                .headers
                .push(header("accept", "text/html,application/xhtml+xml"));
        }
        Ok(browser)
    }

    /// A client without an address of its own.
    pub(crate) fn direct(&self) -> anyhow::Result<Browser> {
        Browser::new(&[&self.certificate])
    }

    /// An endpoint.
    pub(crate) fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The URL at which a sign-in begins. `more` are further parameters.
    pub(crate) fn authorize_url(
        &self,
        client: Client,
        state: &str,
        more: &[(&str, &str)],
    ) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("response_type", "code"),
                ("client_id", client.id),
                ("redirect_uri", &self.callback),
                ("scope", "openid profile"),
                ("state", state),
            ])
            .extend_pairs(more)
            .finish();
        format!("{}/oauth2/authorize?{query}", self.url)
    }

    /// A whole sign-in, up to the tokens. The password is always asked for, even where a session is there.
    pub(crate) async fn sign_in(
        &self,
        browser: &mut Browser,
        client: Client,
        account: Account,
    ) -> anyhow::Result<SignIn> {
        let (verifier, challenge) = proof_of_code();
        let state = Uuid::new_v4().to_string();
        let more = [
            ("prompt", "login"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        let url = self.authorize_url(client, &state, &more);
        let was_asked = AtomicBool::new(false);
        let code = || {
            was_asked.store(true, Ordering::Relaxed);
            account.totp.map(wso2_sim::totp_now).unwrap_or_default()
        };
        let page = browser
            .login(
                &url,
                &self.callback,
                account.name,
                account.password,
                Some(&code),
            )
            .await?;
        let mut sign_in = SignIn {
            gave_code: was_asked.load(Ordering::Relaxed),
            status: page.status,
            ..SignIn::default()
        };
        let is_own_state = page.location_param("state").as_deref() == Some(state.as_str());
        if let Some(code) = page.location_param("code").filter(|_| is_own_state) {
            let answer = self.redeem(browser, client, &code, Some(&verifier)).await?;
            sign_in.status = answer.status;
            sign_in.is_in = answer.text("access_token").is_some();
            sign_in.acr = answer.id_claim("acr");
            sign_in.refresh_token = answer.text("refresh_token");
        }
        Ok(sign_in)
    }

    /// Exchanges a code for tokens.
    pub(crate) async fn redeem(
        &self,
        browser: &mut Browser,
        client: Client,
        code: &str,
        verifier: Option<&str>,
    ) -> anyhow::Result<TokenAnswer> {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.callback.as_str()),
        ];
        fields.extend(verifier.map(|verifier| ("code_verifier", verifier)));
        self.token(browser, client, &fields).await
    }

    /// Calls the token endpoint.
    pub(crate) async fn token(
        &self,
        browser: &mut Browser,
        client: Client,
        fields: &[(&str, &str)],
    ) -> anyhow::Result<TokenAnswer> {
        let mut all = vec![("client_id", client.id)];
        all.extend(client.secret.map(|secret| ("client_secret", secret)));
        all.extend(fields);
        let page = browser
            .post_form(&self.endpoint("/oauth2/token"), &all)
            .await?;
        Ok(TokenAnswer {
            status: page.status,
            body: page.json(),
        })
    }
}

impl TokenAnswer {
    /// A text of the answer.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.body.get(name)?.as_str().map(str::to_owned)
    }

    /// A claim of the ID token, as text. The signature is not checked: the token comes straight from the endpoint.
    pub(crate) fn id_claim(&self, name: &str) -> Option<String> {
        let token = self.text("id_token")?;
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        match claims.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                Some(items.join(", "))
            }
            other => Some(other.to_string()),
        }
    }
}

/// A code verifier and its challenge (RFC 7636): without one WSO2 begins no login for a public client.
pub(crate) fn proof_of_code() -> (String, String) {
    let verifier = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    (verifier, challenge)
}

/// Whether an answer of the login form lets somebody in, or on to the next factor.
pub(crate) fn accepts_password(page: &Page) -> bool {
    let location = page.location();
    let leads = |part: &str| {
        location
            .as_ref()
            .is_some_and(|location| location.path().ends_with(part))
    };
    leads("/oauth2/authorize") || leads("/totp.do")
}
