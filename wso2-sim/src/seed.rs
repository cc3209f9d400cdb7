//! Everybody and everything that the simulator knows at start: tenants, users, applications. All of it is published test
//! data, so none of it is a secret; passwords here must never be reused elsewhere.
//!
//! | user | password | second factor (TOTP secret) | where |
//! |---|---|---|---|
//! | alice | wonderland | [`ALICE_TOTP_SECRET`] | both tenants |
//! | bob | builder-2024 | [`BOB_TOTP_SECRET`] | both tenants |
//! | carol | carol-sings | [`CAROL_TOTP_SECRET`] | both tenants |
//! | dave | dave-was-here | none | both tenants |
//! | erin, frank, grace, heidi, ivan, judy, mallory | `<name>-pw-1` | `KRSXG5CT` + four letters, see [`users`] | super tenant |
//! | niaj, olivia, peggy | `<name>-pw-1` | none | super tenant |
//! | olga | olga-pw-1 | [`ALICE_TOTP_SECRET`] | organization [`ACME_ORG_ID`] |
//! | alice | acme-pw-1 | [`BOB_TOTP_SECRET`] | organization [`ACME_ORG_ID`] |
//! | admin | admin | none; may use the management API | both tenants |
//!
//! | application | kind | secret |
//! |---|---|---|
//! | demo-web | confidential, code + refresh + device + CIBA, JWT, adaptive script, app-native | demo-web-secret |
//! | demo-spa | public, PKCE required, JWT, adaptive script, app-native | none |
//! | demo-consent | as demo-web, asks for consent, no script | demo-consent-secret |
//! | demo-mfa | as demo-web, both factors always | demo-mfa-secret |
//! | demo-service | client_credentials, JWT | demo-service-secret |
//! | demo-legacy | password grant, JWT | demo-legacy-secret |
//! | demo-opaque | code, password, client_credentials, opaque tokens | demo-opaque-secret |
//! | demo-saml | the service provider behind `/samlsso`, adaptive script | none |
//! | riskgate-ops | client_credentials with the session and user scopes | riskgate-ops-secret |

use sha2::Digest;
use sha2::Sha256;
use uuid::Uuid;

/// Base32 secret of alice's authenticator app.
pub const ALICE_TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
/// Base32 secret of bob's authenticator app.
pub const BOB_TOTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// Base32 secret of carol's authenticator app.
pub const CAROL_TOTP_SECRET: &str = "MZXW6YTBOJRGC6RAMZXW6YTBOJRGC6RA";
/// The super tenant, whose URLs have no prefix.
pub const SUPER_TENANT: &str = "carbon.super";
/// The second tenant: `/t/example.com/...`.
pub const EXAMPLE_TENANT: &str = "example.com";
/// An organization under the super tenant: `/o/<id>/...`.
pub const ACME_ORG_ID: &str = "0a1b2c3d-5e6f-4a7b-8c9d-0123456789ab";

/// A tenant, or an organization under a tenant: the space in which users, applications and sessions are known.
#[derive(Clone, Debug)]
pub struct Realm {
    /// Tenant domain, or the organization's id.
    pub key: String,
    /// Tenant domain that the realm belongs to.
    pub tenant: String,
    /// WSO2's numeric tenant id; the super tenant is -1234.
    pub tenant_id: i64,
    /// Organization id that is put into tokens.
    pub org_id: String,
    /// Organization name that is put into tokens.
    pub org_name: String,
    /// Organization handle that is put into tokens.
    pub org_handle: String,
    /// Start of its URL paths: empty, `/t/<tenant>` or `/o/<org>`.
    pub prefix: String,
}

/// A user of one realm.
#[derive(Clone, Debug)]
pub struct User {
    /// Realm the user lives in.
    pub realm: String,
    /// Login name; compared without case.
    pub username: String,
    /// Password in clear: test data.
    pub password: String,
    /// Base32 secret of the authenticator app, where the user has one.
    pub totp_secret: Option<String>,
    /// May use the management API with HTTP Basic.
    pub is_admin: bool,
    /// Roles in the applications, for ID tokens with the scope `roles`.
    pub roles: Vec<String>,
}

impl User {
    /// A user without a second factor.
    pub fn new(realm: &str, username: &str, password: &str) -> Self {
        Self {
            realm: realm.to_owned(),
            username: username.to_owned(),
            password: password.to_owned(),
            totp_secret: None,
            is_admin: false,
            roles: Vec::new(),
        }
    }

    /// The same user with roles.
    #[must_use]
    pub fn with_roles(mut self, roles: &[&str]) -> Self {
        self.roles = strings(roles);
        self
    }

    /// The same user with an authenticator app.
    #[must_use]
    pub fn with_totp(mut self, secret: &str) -> Self {
        self.totp_secret = Some(secret.to_owned());
        self
    }

    /// The same user as an administrator.
    #[must_use]
    pub fn as_admin(mut self) -> Self {
        self.is_admin = true;
        self
    }

    /// The user's id (`sub` in tokens): a UUID that depends only on realm and name, so that it is the same in every run.
    pub fn id(&self) -> String {
        stable_uuid(&["user", &self.realm, &self.username.to_lowercase()])
    }

    /// Name with tenant as WSO2 writes it (`alice@carbon.super`), for the given realm.
    pub fn qualified_name(&self, realm: &Realm) -> String {
        format!("{}@{}", self.username, realm.tenant)
    }
}

/// Kind of access token that an application gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// Signed `at+jwt`, new on every request.
    Jwt,
    /// A random reference; the same one is returned while it is valid.
    Opaque,
}

/// How a SAML service provider is answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct SamlProfile {
    /// The browser carries an artifact, which the service provider resolves itself.
    pub answers_by_artifact: bool,
    /// Assertions are encrypted.
    pub encrypts: bool,
    /// `AuthnInstant` is the moment of the answer, as in versions before `acr` was passed on, and not that of the session.
    pub instant_is_of_the_answer: bool,
}

/// An application registered in one realm.
#[derive(Clone, Debug)]
pub struct Client {
    /// Realm it is registered in.
    pub realm: String,
    /// OAuth client id.
    pub client_id: String,
    /// Secret; `None` is a public client.
    pub client_secret: Option<String>,
    /// Name shown on the pages.
    pub app_name: String,
    /// Registered redirect URIs; see [`Client::allows_redirect`] for the wildcard port.
    pub redirect_uris: Vec<String>,
    /// Grant types it may use.
    pub grants: Vec<String>,
    /// Scopes it may get; `*` is any. Others are dropped silently, as WSO2 7.x does.
    pub scopes: Vec<String>,
    /// Kind of access token.
    pub token_kind: TokenKind,
    /// Authorization requests without PKCE are refused.
    pub is_pkce_required: bool,
    /// The user is asked for consent once per session.
    pub asks_consent: bool,
    /// The adaptive script runs: step-up by `acr_values` or header, `acr` in the ID token.
    pub has_script: bool,
    /// Both factors are always asked for.
    pub is_mfa_always: bool,
    /// App-native authentication (`response_mode=direct`) is on.
    pub is_app_native: bool,
    /// Tokens are bound to the SSO session and die with it.
    pub is_session_bound: bool,
    /// How a SAML service provider is answered.
    pub saml: SamlProfile,
    /// The custom authenticator is the last step.
    pub has_authenticator: bool,
    /// Access tokens name the roles of the user, as where `roles` is one of the access token's attributes.
    pub names_roles: bool,
}

impl Client {
    /// A confidential (with secret) or public client with the code and refresh grants and JWT tokens.
    pub fn new(realm: &str, client_id: &str, client_secret: Option<&str>) -> Self {
        Self {
            realm: realm.to_owned(),
            client_id: client_id.to_owned(),
            client_secret: client_secret.map(str::to_owned),
            app_name: client_id.to_owned(),
            redirect_uris: Vec::new(),
            grants: strings(&["authorization_code", "refresh_token"]),
            scopes: strings(&["*"]),
            token_kind: TokenKind::Jwt,
            is_pkce_required: false,
            asks_consent: false,
            has_script: false,
            is_mfa_always: false,
            is_app_native: false,
            is_session_bound: true,
            saml: SamlProfile::default(),
            has_authenticator: false,
            names_roles: false,
        }
    }

    /// The application's id (`spId` in URLs): depends only on realm and client id.
    pub fn app_id(&self) -> String {
        stable_uuid(&["application", &self.realm, &self.client_id])
    }

    /// Whether a redirect URI is registered: exactly, or with any port where the registration says `:*` on a loopback host
    /// (RFC 8252 section 7.3).
    pub fn allows_redirect(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|known| known == uri || matches_loopback(known, uri))
    }

    /// Whether a grant type is allowed.
    pub fn allows_grant(&self, grant: &str) -> bool {
        self.grants.iter().any(|known| known == grant)
    }
}

/// The realms.
pub fn realms() -> Vec<Realm> {
    let tenant = |domain: &str, id: i64, name: &str, prefix: &str| Realm {
        key: domain.to_owned(),
        tenant: domain.to_owned(),
        tenant_id: id,
        org_id: stable_uuid(&["organization", domain]),
        org_name: name.to_owned(),
        org_handle: domain.to_owned(),
        prefix: prefix.to_owned(),
    };
    vec![
        tenant(SUPER_TENANT, -1234, "Super", ""),
        tenant(EXAMPLE_TENANT, 1, "example.com", "/t/example.com"),
        Realm {
            key: ACME_ORG_ID.to_owned(),
            tenant: SUPER_TENANT.to_owned(),
            tenant_id: 2,
            org_id: ACME_ORG_ID.to_owned(),
            org_name: "Acme".to_owned(),
            org_handle: "acme.example".to_owned(),
            prefix: format!("/o/{ACME_ORG_ID}"),
        },
    ]
}

/// The users.
pub fn users() -> Vec<User> {
    let mut users = Vec::new();
    for realm in [SUPER_TENANT, EXAMPLE_TENANT] {
        users.extend([
            User::new(realm, "alice", "wonderland").with_totp(ALICE_TOTP_SECRET),
            User::new(realm, "bob", "builder-2024").with_totp(BOB_TOTP_SECRET),
            User::new(realm, "carol", "carol-sings").with_totp(CAROL_TOTP_SECRET),
            User::new(realm, "dave", "dave-was-here"),
            User::new(realm, "admin", "admin").as_admin(),
        ]);
    }
    for (name, letters) in [
        ("erin", "ERIN"),
        ("frank", "FRAN"),
        ("grace", "GRAC"),
        ("heidi", "HEID"),
        ("ivan", "IVAN"),
        ("judy", "JUDY"),
        ("mallory", "MALL"),
    ] {
        users.push(
            User::new(SUPER_TENANT, name, &format!("{name}-pw-1"))
                .with_totp(&format!("KRSXG5CT{letters}")),
        );
    }
    for name in ["niaj", "olivia", "peggy"] {
        users.push(User::new(SUPER_TENANT, name, &format!("{name}-pw-1")));
    }
    users.push(User::new(ACME_ORG_ID, "olga", "olga-pw-1").with_totp(ALICE_TOTP_SECRET));
    // Nobody that the other alice knows.
    users.push(User::new(ACME_ORG_ID, "alice", "acme-pw-1").with_totp(BOB_TOTP_SECRET));
    users
}

/// The applications; each exists in every realm under the same client id.
pub fn clients() -> Vec<Client> {
    let realms = realms();
    realms
        .iter()
        .flat_map(|realm| clients_of(&realm.key))
        .collect()
}

fn clients_of(realm: &str) -> Vec<Client> {
    let redirect_uris = strings(&[
        "https://localhost/cb",
        "https://localhost:8443/cb",
        "https://app.example.com/cb",
        "http://127.0.0.1:*/cb",
        "http://localhost:*/cb",
    ]);
    let web = |id: &str| {
        let secret = format!("{id}-secret");
        let mut client = Client::new(realm, id, Some(secret.as_str()));
        client.redirect_uris.clone_from(&redirect_uris);
        client
            .grants
            .push("urn:ietf:params:oauth:grant-type:device_code".to_owned());
        client
            .grants
            .push("urn:openid:params:grant-type:ciba".to_owned());
        client
            .grants
            .push("urn:ietf:params:oauth:grant-type:token-exchange".to_owned());
        client
            .grants
            .push("urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned());
        client
    };
    let back_channel = |id: &str, grants: &[&str]| {
        let secret = format!("{id}-secret");
        let mut client = Client::new(realm, id, Some(secret.as_str()));
        client.grants = strings(grants);
        client.is_session_bound = false;
        client
    };

    let mut demo_web = web("demo-web");
    demo_web.has_script = true;
    demo_web.is_app_native = true;

    let mut demo_spa = Client::new(realm, "demo-spa", None);
    demo_spa.redirect_uris.clone_from(&redirect_uris);
    demo_spa.is_pkce_required = true;
    demo_spa.has_script = true;
    demo_spa.is_app_native = true;

    let mut demo_consent = web("demo-consent");
    demo_consent.asks_consent = true;

    let mut demo_mfa = web("demo-mfa");
    demo_mfa.has_script = true;
    demo_mfa.is_mfa_always = true;

    let demo_service = back_channel("demo-service", &["client_credentials"]);
    let demo_legacy = back_channel("demo-legacy", &["password", "refresh_token"]);

    let mut demo_opaque = web("demo-opaque");
    demo_opaque.token_kind = TokenKind::Opaque;
    demo_opaque.has_script = true;
    demo_opaque
        .grants
        .extend(strings(&["password", "client_credentials"]));

    let mut ops = back_channel("riskgate-ops", &["client_credentials"]);
    ops.scopes = strings(&[
        "internal_session_view",
        "internal_session_delete",
        "internal_user_mgt_list",
        "internal_user_mgt_view",
        "internal_user_mgt_update",
        "internal_oauth2_introspect",
    ]);

    let mut demo_saml = Client::new(realm, "demo-saml", None);
    demo_saml.redirect_uris = strings(&["https://app.example.com/acs"]);
    demo_saml.grants = Vec::new();
    demo_saml.has_script = true;

    vec![
        demo_saml,
        demo_web,
        demo_spa,
        demo_consent,
        demo_mfa,
        demo_service,
        demo_legacy,
        demo_opaque,
        ops,
    ]
}

/// A UUID (version 8, RFC 9562) made of a SHA-256 over the parts, each with its length before it.
fn stable_uuid(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let bytes = digest
        .get(..16)
        .and_then(|head| <[u8; 16]>::try_from(head).ok())
        .unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// A fresh random UUID in text form, as WSO2 uses for nearly every identifier.
pub(crate) fn random_uuid() -> String {
    Uuid::new_v4().to_string()
}

fn matches_loopback(registered: &str, uri: &str) -> bool {
    let Some((origin, path)) = registered.split_once(":*") else {
        return false;
    };
    let Some(rest) = uri.strip_prefix(origin).and_then(|r| r.strip_prefix(':')) else {
        return false;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (1..=5).contains(&digits) && rest.get(digits..) == Some(path)
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_redirect_takes_any_port_and_nothing_else() {
        let client = clients_of(SUPER_TENANT).remove(1);
        for good in [
            "https://localhost:8443/cb",
            "http://127.0.0.1:1/cb",
            "http://localhost:65535/cb",
        ] {
            assert!(client.allows_redirect(good), "{good}");
        }
        for bad in [
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:80@evil.example/cb",
            "http://127.0.0.1:8080/cb/x",
            "http://127.0.0.1:8080.evil.example/cb",
            "https://localhost:8443/cb?x=1",
            "",
        ] {
            assert!(!client.allows_redirect(bad), "{bad}");
        }
    }

    #[test]
    fn ids_are_stable_and_distinct() {
        let (one, two) = (
            User::new("a", "bc", "x").id(),
            User::new("ab", "c", "x").id(),
        );
        assert_eq!(one, User::new("a", "BC", "y").id());
        assert_ne!(one, two);
        assert!(users().len() >= 12);
    }
}
