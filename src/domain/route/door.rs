//! The doors, and what a passed path is for. Facts about them that others decide by; no paths.

use std::fmt;

/// A way in: a place where credentials or tokens pass and a score is due.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Door {
    /// The app-native authentication API: `/oauth2/authn`.
    Authn,
    /// The authorization endpoint: `/oauth2/authorize`.
    Authorize,
    /// Any passed path with a user's Basic credentials.
    Basic,
    /// The back channel of CIBA: `/oauth2/ciba`.
    Ciba,
    /// The front channel of CIBA: `/oauth2/ciba_authorize`.
    CibaAuthorize,
    /// The page where a device code is confirmed: `/oauth2/device`.
    Device,
    /// Where a device asks for a code: `/oauth2/device_authorize`.
    DeviceAuthorize,
    /// Registration and recovery: `/api/server/v1/flow/execute`.
    Flow,
    /// The login form: `/commonauth`.
    Login,
    /// Pushed authorization requests (RFC 9126): `/oauth2/par`.
    Par,
    /// The XACML decision point.
    Pdp,
    /// SAML 2.0 single sign-on.
    Saml,
    /// The token endpoint: `/oauth2/token`.
    Token,
    /// WS-Federation.
    WsFed,
}

/// What a passed path is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PassedKind {
    /// Management and user APIs.
    Api,
    /// Passed because the configuration says so.
    Configured,
    /// Metadata of the identity server.
    Discovery,
    /// Token introspection (RFC 7662).
    Introspect,
    /// The identity server's public keys (RFC 7517).
    Jwks,
    /// The pages of login, recovery and consent, and what they call in the background.
    LoginPages,
    /// The end of a session.
    Logout,
    /// The console and the self-care portal.
    Portal,
    /// A CORS preflight at a scored door: it carries no credentials.
    Preflight,
    /// Token revocation (RFC 7009).
    Revoke,
    /// Users and groups (RFC 7644).
    Scim,
    /// Files.
    Static,
    /// Claims about the user of a token.
    UserInfo,
}

impl Door {
    /// All doors.
    pub const ALL: [Self; 14] = [
        Self::Authn,
        Self::Authorize,
        Self::Basic,
        Self::Ciba,
        Self::CibaAuthorize,
        Self::Device,
        Self::DeviceAuthorize,
        Self::Flow,
        Self::Login,
        Self::Par,
        Self::Pdp,
        Self::Saml,
        Self::Token,
        Self::WsFed,
    ];

    /// The name in policies, records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authn => "authn",
            Self::Authorize => "authorize",
            Self::Basic => "basic",
            Self::Ciba => "ciba",
            Self::CibaAuthorize => "ciba_authorize",
            Self::Device => "device",
            Self::DeviceAuthorize => "device_authorize",
            Self::Flow => "flow",
            Self::Login => "login",
            Self::Par => "par",
            Self::Pdp => "pdp",
            Self::Saml => "saml",
            Self::Token => "token",
            Self::WsFed => "wsfed",
        }
    }

    /// Whether a browser with a user before it comes to this door (an authorization request with
    /// `response_mode=direct` excepted), so that a page, a redirect or a cookie makes sense as an answer.
    pub fn is_browser(self) -> bool {
        match self {
            Self::Authorize
            | Self::CibaAuthorize
            | Self::Device
            | Self::Login
            | Self::Saml
            | Self::WsFed => true,
            Self::Authn
            | Self::Basic
            | Self::Ciba
            | Self::DeviceAuthorize
            | Self::Flow
            | Self::Par
            | Self::Pdp
            | Self::Token => false,
        }
    }

    /// Whether parameters may come as a form.
    pub fn accepts_form(self) -> bool {
        match self {
            Self::Authorize
            | Self::Ciba
            | Self::CibaAuthorize
            | Self::Device
            | Self::DeviceAuthorize
            | Self::Login
            | Self::Par
            | Self::Saml
            | Self::Token
            | Self::WsFed => true,
            Self::Authn | Self::Basic | Self::Flow | Self::Pdp => false,
        }
    }

    /// Whether parameters may come as JSON.
    pub fn accepts_json(self) -> bool {
        match self {
            Self::Authn | Self::Flow | Self::Pdp | Self::Token => true,
            Self::Authorize
            | Self::Basic
            | Self::Ciba
            | Self::CibaAuthorize
            | Self::Device
            | Self::DeviceAuthorize
            | Self::Login
            | Self::Par
            | Self::Saml
            | Self::WsFed => false,
        }
    }

    /// Whether a stronger factor can be asked for here: by a redirect, by the verdict that travels to the identity
    /// server's script, or by an error that sends the client back to the authorization endpoint.
    pub fn may_step_up(self) -> bool {
        match self {
            Self::Authn
            | Self::Authorize
            | Self::CibaAuthorize
            | Self::Device
            | Self::Login
            | Self::Saml
            | Self::Token
            | Self::WsFed => true,
            Self::Basic
            | Self::Ciba
            | Self::DeviceAuthorize
            | Self::Flow
            | Self::Par
            | Self::Pdp => false,
        }
    }

    /// Whether pages of other origins call this door from script, after a CORS preflight.
    pub(super) fn takes_preflight(self) -> bool {
        !matches!(self, Self::Login | Self::Saml | Self::WsFed)
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PassedKind {
    /// The name in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Configured => "configured",
            Self::Discovery => "discovery",
            Self::Introspect => "introspect",
            Self::Jwks => "jwks",
            Self::LoginPages => "login_pages",
            Self::Logout => "logout",
            Self::Portal => "portal",
            Self::Preflight => "preflight",
            Self::Revoke => "revoke",
            Self::Scim => "scim",
            Self::Static => "static",
            Self::UserInfo => "userinfo",
        }
    }
}
