//! The shipped inventory. Who adds a path of the identity server adds a line here and one in the tests; what has no line
//! does not pass.

use super::Door;
use super::KEYS_PATH;
use super::Methods;
use super::POLL_PATH;
use super::PassedKind as P;
use super::RouteClass;
use super::SIGNALS_PATH;
use Reach::Everywhere;
use Reach::Root;

/// Whether the identity server knows a path under tenant and organization prefixes as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    Everywhere,
    Root,
}

/// One line of the inventory.
pub(super) struct Entry {
    /// A path; with `/*` at its end that path and everything beneath it; with `{}` any one segment.
    pub(super) pattern: &'static str,
    pub(super) class: RouteClass,
    pub(super) methods: Methods,
    pub(super) reach: Reach,
}

/// The shipped inventory: a line per path. An exact path is also meant with a slash at its end, as the identity server
/// takes it so. A more specific line wins over a less specific one; the order is for the reader only.
#[rustfmt::skip] // A line per path is the point of the table.
pub(super) const INVENTORY: &[Entry] = &[
    // Scored: credentials and tokens pass here.
    scored("/oauth2/authorize", Door::Authorize, Methods::GET_POST),
    scored("/commonauth", Door::Login, Methods::GET_POST),
    scored("/oauth2/authn", Door::Authn, Methods::POST),
    scored("/api/server/v1/flow/execute", Door::Flow, Methods::POST),
    scored("/oauth2/token", Door::Token, Methods::POST),
    scored("/oauth2/par", Door::Par, Methods::POST),
    scored("/oauth2/device_authorize", Door::DeviceAuthorize, Methods::POST),
    scored("/oauth2/device", Door::Device, Methods::POST),
    scored("/oauth2/ciba", Door::Ciba, Methods::POST),
    scored("/oauth2/ciba_authorize", Door::CibaAuthorize, Methods::GET_POST),
    scored("/samlsso", Door::Saml, Methods::GET_POST),
    scored("/samlartresolve", Door::Saml, Methods::POST),
    scored("/passivests", Door::WsFed, Methods::GET_POST),
    scored("/api/identity/entitlement/decision/pdp", Door::Pdp, Methods::POST),
    // The same two as `/t/{tenant}/o/api/...` is rewritten to.
    scored("/api/o/server/v1/flow/execute", Door::Flow, Methods::POST),
    scored("/api/o/identity/entitlement/decision/pdp", Door::Pdp, Methods::POST),
    // Passed: the rest of OAuth and OpenID Connect.
    passed("/oauth2/introspect", P::Introspect, Methods::POST_CORS, Everywhere),
    passed("/oauth2/userinfo", P::UserInfo, Methods::GET_POST_CORS, Everywhere),
    passed("/oauth2/revoke", P::Revoke, Methods::POST_CORS, Everywhere),
    passed("/oauth2/jwks", P::Jwks, Methods::READ, Everywhere),
    passed("/oauth2/token/.well-known/openid-configuration", P::Discovery, Methods::READ, Everywhere),
    passed("/oauth2/token/.well-known/oauth-authorization-server", P::Discovery, Methods::READ, Everywhere),
    passed("/oauth2/token/client/{}/.well-known/openid-configuration", P::Discovery, Methods::READ, Everywhere),
    passed("/oauth2/oidcdiscovery/.well-known/openid-configuration", P::Discovery, Methods::READ, Everywhere),
    passed("/oauth2/oidcdiscovery/client/{}/.well-known/openid-configuration", P::Discovery, Methods::READ, Everywhere),
    passed("/.well-known/openid-configuration", P::Discovery, Methods::READ, Everywhere),
    passed("/.well-known/webfinger", P::Discovery, Methods::READ, Root),
    passed("/identity/metadata/saml2", P::Discovery, Methods::READ, Everywhere),
    passed("/oidc/logout", P::Logout, Methods::GET_POST_CORS, Everywhere),
    passed("/oidc/checksession", P::Logout, Methods::READ, Everywhere),
    // Passed: what the login pages are made of.
    passed("/logincontext", P::LoginPages, Methods::GET_POST_CORS, Everywhere),
    passed("/longwaitstatus", P::LoginPages, Methods::GET_POST_CORS, Everywhere),
    passed("/authenticationendpoint/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/accountrecoveryendpoint/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/emailotpauthenticationendpoint/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/smsotpauthenticationendpoint/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/totpauthenticationendpoint/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/lsp/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/accounts/*", P::LoginPages, Methods::PAGES, Everywhere),
    passed("/identity/*", P::LoginPages, Methods::ANY, Everywhere),
    passed("/push-auth/*", P::LoginPages, Methods::ANY, Everywhere),
    // Passed: portals and files.
    passed("/console/*", P::Portal, Methods::PAGES, Everywhere),
    passed("/myaccount/*", P::Portal, Methods::PAGES, Everywhere),
    passed("/favicon.ico", P::Static, Methods::READ, Root),
    passed("/robots.txt", P::Static, Methods::READ, Root),
    passed("/", P::Static, Methods::READ, Root),
    // Passed: APIs, which take bearer tokens. With Basic credentials they count as a login.
    passed("/scim2/*", P::Scim, Methods::ANY, Everywhere),
    passed("/api/*", P::Api, Methods::ANY, Everywhere),
    passed("/oid4vci/*", P::Api, Methods::ANY, Everywhere),
    // Own: served here and never forwarded.
    own("/riskgate/approve", Methods::GET_HEAD_POST),
    own(KEYS_PATH, Methods::GET_HEAD),
    own(SIGNALS_PATH, Methods::GET_HEAD),
    own(POLL_PATH, Methods::POST),
    own("/riskgate/devices", Methods::GET_HEAD_POST),
    own("/riskgate/step/{}", Methods::GET_HEAD),
    own("/riskgate/review/{}", Methods::GET_HEAD),
    own("/riskgate/*", Methods::ANY),
    // Blocked: management by SOAP and JSP, never needed from outside.
    blocked("/services/*"),
    blocked("/carbon/*"),
    blocked("/fileupload/*"),
    blocked("/filedownload/*"),
    blocked("/registry/*"),
    blocked("/repository/*"),
    blocked("/wso2/*"),
    blocked("/manager/*"),
    blocked("/host-manager/*"),
    // Blocked: takes a username and a password in JSON from whoever asks, and says whether they are right. Nothing of WSO2's
    // own needs it from outside; what its login pages fetch beside it (`context`, `data`) passes.
    blocked("/api/identity/auth/{}/authenticate"),
    blocked("/api/o/identity/auth/{}/authenticate"),
];

const fn scored(pattern: &'static str, door: Door, methods: Methods) -> Entry {
    Entry {
        pattern,
        class: RouteClass::Scored(door),
        methods,
        reach: Everywhere,
    }
}

const fn passed(pattern: &'static str, kind: P, methods: Methods, reach: Reach) -> Entry {
    Entry {
        pattern,
        class: RouteClass::Passed(kind),
        methods,
        reach,
    }
}

const fn own(pattern: &'static str, methods: Methods) -> Entry {
    Entry {
        pattern,
        class: RouteClass::Own,
        methods,
        reach: Root,
    }
}

const fn blocked(pattern: &'static str) -> Entry {
    Entry {
        pattern,
        class: RouteClass::Blocked,
        methods: Methods::ANY,
        reach: Everywhere,
    }
}
