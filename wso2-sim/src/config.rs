//! What a simulator can be told: addresses, users, applications, timing, faults. The default runs as it stands.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use crate::seed;
use crate::seed::Client;
use crate::seed::Realm;
use crate::seed::User;

/// Everything that can be set before the start.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// HTTPS, or plain HTTP when `None`.
    pub tls: Option<SimTls>,
    /// With HTTPS, whose certificates clients must show; `None` asks for none.
    pub client_certificates: Option<ClientCertificates>,
    /// Start of the server's own URLs, such as `https://localhost:8443`; `None` is the listening address. WSO2 takes it from
    /// `server.hostname` and `proxyPort`, never from the `Host` header.
    pub public_url: Option<String>,
    /// Tenants and organizations.
    pub realms: Vec<Realm>,
    /// Users.
    pub users: Vec<User>,
    /// Applications.
    pub clients: Vec<Client>,
    /// Pre-issue access token action; `None` is no action.
    pub action: Option<ActionSettings>,
    /// Pre-issue ID token action; `None` is no action.
    pub id_token_action: Option<ActionSettings>,
    /// Pre-update password action; `None` is no action.
    pub password_action: Option<ActionSettings>,
    /// Custom authenticator of the applications that have one as their last step; `None` fails them.
    pub authenticator: Option<ActionSettings>,
    /// Another identity provider by which users may log in; `None` is none.
    pub provider: Option<ProviderSettings>,
    /// Receiver of events; `None` is none.
    pub webhook: Option<WebhookSettings>,
    /// Adaptive script stand-in.
    pub script: ScriptSettings,
    /// BasicAuthenticator's `showAuthFailureReason`: error codes and remaining attempts in the redirect.
    pub show_auth_failure_reason: bool,
    /// Wrong passwords until the account locks.
    pub failed_attempts_max: u32,
    /// How long a locked account stays locked.
    pub lock_duration: Duration,
    /// Lifetimes.
    pub validity: Validity,
    /// Added to every answer.
    pub response_delay: Duration,
    /// Cookies carry `Secure`, as WSO2's do. Off only for clients that refuse such cookies over plain HTTP.
    pub has_secure_cookies: bool,
    /// TOTP's progressive enrolment: a user without an authenticator app is shown a page on which one is enrolled in the
    /// middle of the login, instead of an error page.
    pub enrols_at_login: bool,
    /// Both steps offer a passkey beside the password and the one-time code: whoever has a choice picks on the login page.
    /// There are no passkeys here: only the page for one.
    pub offers_passkeys: bool,
    /// Identifier first: the login begins with the name alone, and goes on with this.
    pub identifier_first: Option<AfterIdentifier>,
    /// Parameters that the addresses of login pages do not get (`[authentication.endpoint.redirect_params]`).
    pub hidden_page_params: Vec<String>,
    /// Multi-attribute login: users may type their e-mail address (`alice@users.example`) in place of their name.
    pub has_email_logins: bool,
    /// Requests are kept for [`crate::Sim::recorded`].
    pub is_recording: bool,
    /// How many requests are kept.
    pub recorded_max: usize,
    /// Longest request head in bytes; WSO2 ships 8,192 and answers 400 above.
    pub head_bytes_max: usize,
    /// Longest request body in bytes; Tomcat's `maxPostSize` is 2 MiB.
    pub body_bytes_max: usize,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            client_certificates: None,
            public_url: None,
            realms: seed::realms(),
            users: seed::users(),
            clients: seed::clients(),
            action: None,
            id_token_action: None,
            password_action: None,
            authenticator: None,
            provider: None,
            webhook: None,
            script: ScriptSettings::default(),
            show_auth_failure_reason: false,
            failed_attempts_max: 5,
            lock_duration: Duration::from_secs(5 * 60),
            validity: Validity::default(),
            response_delay: Duration::ZERO,
            has_secure_cookies: true,
            enrols_at_login: false,
            offers_passkeys: false,
            identifier_first: None,
            hidden_page_params: Vec::new(),
            has_email_logins: false,
            is_recording: true,
            recorded_max: 100_000,
            head_bytes_max: 8_192,
            body_bytes_max: 2 * 1024 * 1024,
            keep_alive: Duration::from_secs(60),
        }
    }
}

/// What comes after the name in a login that begins with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterIdentifier {
    /// The password.
    Password,
    /// The one-time code, without a password. As with codes by mail, the page comes for every name.
    Code,
}

/// How the server proves itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SimTls {
    /// A certificate for `localhost`, `127.0.0.1` and `::1` made at start by an authority made at start.
    SelfSigned,
}

/// Certificates that clients must show, as with Tomcat's `certificateVerification="required"`.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// Their authority, PEM.
    pub ca_pem: String,
    /// Whether TLS ends at version 1.2, where a refusal comes within the handshake and not after it.
    pub is_tls12: bool,
}

/// What the adaptive script stand-in does in applications that have a script.
#[derive(Clone, Debug)]
pub struct ScriptSettings {
    /// `acr` of a login with both factors, and the `acr_values` member that asks for it.
    pub acr_mfa: String,
    /// `acr` of a login with a password only.
    pub acr_password: String,
    /// Refuse a login whose request lacks `X-Risk-Status`: it did not come through the gateway.
    pub requires_risk_status: bool,
}

impl Default for ScriptSettings {
    fn default() -> Self {
        Self {
            acr_mfa: "urn:riskgate:acr:mfa".to_owned(),
            acr_password: "urn:riskgate:acr:pwd".to_owned(),
            requires_risk_status: false,
        }
    }
}

/// Lifetimes, with WSO2's shipped values.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// Authorization code: 300 s.
    pub code: Duration,
    /// Access token: 3,600 s.
    pub access_token: Duration,
    /// Refresh token: 86,400 s.
    pub refresh_token: Duration,
    /// ID token: 3,600 s.
    pub id_token: Duration,
    /// Pushed authorization request: 60 s.
    pub pushed_request: Duration,
    /// Device code: 600 s.
    pub device_code: Duration,
    /// A login that nobody finishes: 20 minutes.
    pub login: Duration,
    /// SSO session without use: 15 minutes.
    pub session: Duration,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            code: Duration::from_secs(300),
            access_token: Duration::from_secs(3_600),
            refresh_token: Duration::from_secs(86_400),
            id_token: Duration::from_secs(3_600),
            pushed_request: Duration::from_secs(60),
            device_code: Duration::from_secs(600),
            login: Duration::from_secs(20 * 60),
            session: Duration::from_secs(15 * 60),
        }
    }
}

/// Another identity provider, of which the first step of every login is an option.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// What the identity server calls it.
    pub name: String,
    /// Where browsers are sent.
    pub url: String,
    /// How it is spoken to.
    pub protocol: ProviderProtocol,
    /// There is no other option, and no page on which one would be picked.
    pub is_only: bool,
    /// Its users who have an account here, with the name of that.
    pub linked: Vec<(String, String)>,
}

impl ProviderSettings {
    /// One beside the password, none of whose users has an account here.
    pub fn new(protocol: ProviderProtocol) -> Self {
        Self {
            name: "Partner".to_owned(),
            url: "https://partner.example.net/authorize".to_owned(),
            protocol,
            is_only: false,
            linked: Vec::new(),
        }
    }
}

/// How another identity provider is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProviderProtocol {
    /// OpenID Connect, with a code.
    Oidc,
    /// SAML.
    Saml,
}

/// An action: whom to call and with what.
#[derive(Clone, Debug)]
pub struct ActionSettings {
    /// Endpoint, `http` or `https`.
    pub url: String,
    /// How the call proves itself.
    pub auth: ActionAuth,
    /// Value of `x-wso2-api-version`.
    pub api_version: String,
    /// Header names that are passed on, lower case; `None` passes all but the credentials.
    pub allowed_headers: Option<Vec<String>>,
    /// Parameter names that are passed on; `None` passes all but the credentials and the protocol's own.
    pub allowed_params: Option<Vec<String>>,
    /// Claims of the user that the action is given, as URIs.
    pub attributes: Vec<String>,
    /// Certificate authority of the endpoint, PEM.
    pub ca_pem: Option<String>,
    /// Connect timeout: 2 s.
    pub connect_timeout: Duration,
    /// Read timeout: 5 s.
    pub read_timeout: Duration,
    /// Attempts in total: 2.
    pub attempts_max: u32,
}

impl ActionSettings {
    /// An action with WSO2's shipped timeouts and without authentication.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth: ActionAuth::None,
            api_version: "v1.3".to_owned(),
            allowed_headers: None,
            allowed_params: None,
            attributes: Vec::new(),
            ca_pem: None,
            connect_timeout: Duration::from_millis(2_000),
            read_timeout: Duration::from_millis(5_000),
            attempts_max: 2,
        }
    }
}

/// Authentication of an action call.
#[derive(Clone)]
pub enum ActionAuth {
    /// A header of one's own: name and value.
    ApiKey(String, String),
    /// HTTP Basic: user and password.
    Basic(String, String),
    /// Bearer token.
    Bearer(String),
    /// None.
    None,
}

impl std::fmt::Debug for ActionAuth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::ApiKey(..) => "ApiKey(..)",
            Self::Basic(..) => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
            Self::None => "None",
        })
    }
}

/// Who receives events.
#[derive(Clone)]
pub struct WebhookSettings {
    /// Endpoint.
    pub url: String,
    /// Key of the `X-Hub-Signature: sha256=` header; none, no header.
    pub secret: Option<String>,
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WebhookSettings")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the tokens, for tests of who checks them. All off at start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flaws {
    /// How ID tokens are signed.
    pub signature: SignatureFlaw,
    /// `auth_time` is this much too early.
    pub auth_time_back: Duration,
    /// The key set is not served.
    pub hides_keys: bool,
    /// ID tokens are for another client.
    pub has_wrong_audience: bool,
    /// ID tokens carry the nonce of another request.
    pub has_wrong_nonce: bool,
}

/// How ID tokens are signed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SignatureFlaw {
    /// With a key that is not published, under the id of the one that is.
    ForeignKey,
    /// As they should be.
    #[default]
    None,
    /// With the client's secret (`HS256`), as WSO2 can be told to.
    SharedSecret,
}

/// A fault that the server plays on every connection, for tests of what is in front of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outage {
    /// Requests are read and never answered.
    Hang,
    /// None: requests are answered.
    #[default]
    None,
    /// The connection is closed after the request is read.
    Reset,
    /// Every request gets this status and an empty body.
    Status(u16),
}
