//! The inventory against the list of the identity server's paths, and the rules of its configuration.

use super::*;
use PassedKind as P;
use std::collections::HashSet;

fn classify(table: &RouteTable, method: &str, target: &str) -> RouteMatch {
    let target = CanonicalTarget::parse(target.as_bytes())
        .unwrap_or_else(|error| panic!("{target}: {error}"));
    table.classify(&Method::from_bytes(method.as_bytes()).unwrap(), &target)
}

fn settings(pass: &[&str], block: &[&str], unblock: &[&str]) -> RouteSettings {
    let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
    RouteSettings {
        pass: owned(pass),
        block: owned(block),
        unblock: owned(unblock),
    }
}

/// Every path of WSO2 IS 7.x, the methods it takes, and its class. A path that has no line here has no class.
#[rustfmt::skip] // A line per row.
const PATHS: &[(&str, &str, RouteClass)] = &[
    ("GET POST", "/oauth2/authorize", RouteClass::Scored(Door::Authorize)),
    ("POST", "/oauth2/token", RouteClass::Scored(Door::Token)),
    ("POST", "/oauth2/introspect", RouteClass::Passed(P::Introspect)),
    ("POST", "/oauth2/revoke", RouteClass::Passed(P::Revoke)),
    ("GET POST", "/oauth2/userinfo", RouteClass::Passed(P::UserInfo)),
    ("GET", "/oauth2/jwks", RouteClass::Passed(P::Jwks)),
    ("GET", "/oauth2/token/.well-known/openid-configuration", RouteClass::Passed(P::Discovery)),
    ("GET", "/oauth2/oidcdiscovery/.well-known/openid-configuration", RouteClass::Passed(P::Discovery)),
    ("GET", "/oauth2/token/client/Abc_1/.well-known/openid-configuration", RouteClass::Passed(P::Discovery)),
    ("GET", "/oauth2/oidcdiscovery/client/Abc_1/.well-known/openid-configuration", RouteClass::Passed(P::Discovery)),
    ("GET", "/oauth2/token/.well-known/oauth-authorization-server", RouteClass::Passed(P::Discovery)),
    ("POST", "/oauth2/par", RouteClass::Scored(Door::Par)),
    ("POST", "/oauth2/device_authorize", RouteClass::Scored(Door::DeviceAuthorize)),
    ("POST", "/oauth2/device", RouteClass::Scored(Door::Device)),
    ("POST", "/oauth2/ciba", RouteClass::Scored(Door::Ciba)),
    ("GET POST", "/oauth2/ciba_authorize", RouteClass::Scored(Door::CibaAuthorize)),
    ("POST", "/oauth2/authn", RouteClass::Scored(Door::Authn)),
    ("GET POST", "/commonauth", RouteClass::Scored(Door::Login)),
    ("GET", "/logincontext", RouteClass::Passed(P::LoginPages)),
    ("GET POST", "/longwaitstatus", RouteClass::Passed(P::LoginPages)),
    ("GET POST", "/oidc/logout", RouteClass::Passed(P::Logout)),
    ("GET", "/oidc/checksession", RouteClass::Passed(P::Logout)),
    ("GET POST", "/samlsso", RouteClass::Scored(Door::Saml)),
    ("POST", "/samlartresolve", RouteClass::Scored(Door::Saml)),
    ("GET POST", "/passivests", RouteClass::Scored(Door::WsFed)),
    ("GET", "/identity/metadata/saml2", RouteClass::Passed(P::Discovery)),
    ("GET POST", "/identity/extend-session", RouteClass::Passed(P::LoginPages)),
    ("POST", "/push-auth/authenticate", RouteClass::Passed(P::LoginPages)),
    ("GET", "/.well-known/openid-configuration", RouteClass::Passed(P::Discovery)),
    ("GET", "/.well-known/webfinger", RouteClass::Passed(P::Discovery)),
    ("GET", "/authenticationendpoint/login.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/retry.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/wait.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/dynamic_prompt.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/totp.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/totp_enroll.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/email_otp.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/sms_otp.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/backup_code.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/oauth2_authz.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/oauth2_consent.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/oauth2_error.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/handle-multiple-sessions.do", RouteClass::Passed(P::LoginPages)),
    ("GET POST", "/authenticationendpoint/device.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/authenticationendpoint/libs/themes/default/theme.min.css", RouteClass::Passed(P::LoginPages)),
    ("GET POST", "/accountrecoveryendpoint/recoverpassword.do", RouteClass::Passed(P::LoginPages)),
    ("GET", "/emailotpauthenticationendpoint/emailotp.jsp", RouteClass::Passed(P::LoginPages)),
    ("GET", "/smsotpauthenticationendpoint/smsotp.jsp", RouteClass::Passed(P::LoginPages)),
    ("GET", "/totpauthenticationendpoint/totp.jsp", RouteClass::Passed(P::LoginPages)),
    ("GET", "/lsp/x", RouteClass::Passed(P::LoginPages)),
    ("GET", "/accounts/x", RouteClass::Passed(P::LoginPages)),
    ("GET POST", "/console", RouteClass::Passed(P::Portal)),
    ("GET", "/console/applications", RouteClass::Passed(P::Portal)),
    ("GET POST", "/myaccount", RouteClass::Passed(P::Portal)),
    ("GET", "/myaccount/overview", RouteClass::Passed(P::Portal)),
    ("GET POST", "/scim2/Users", RouteClass::Passed(P::Scim)),
    ("GET PUT PATCH DELETE", "/scim2/Users/7a1b", RouteClass::Passed(P::Scim)),
    ("GET", "/scim2/Groups", RouteClass::Passed(P::Scim)),
    ("GET PATCH", "/scim2/Me", RouteClass::Passed(P::Scim)),
    ("POST", "/scim2/Bulk", RouteClass::Passed(P::Scim)),
    ("POST", "/scim2/Users/.search", RouteClass::Passed(P::Scim)),
    ("GET", "/scim2/v2/Roles", RouteClass::Passed(P::Scim)),
    ("GET", "/scim2/v3/Roles/x/Users", RouteClass::Passed(P::Scim)),
    ("GET", "/scim2/Agents", RouteClass::Passed(P::Scim)),
    ("GET POST", "/api/server/v1/actions/preIssueAccessToken", RouteClass::Passed(P::Api)),
    ("POST", "/api/server/v1/flow/execute", RouteClass::Scored(Door::Flow)),
    ("GET", "/api/server/v1/webhooks", RouteClass::Passed(P::Api)),
    ("GET", "/api/server/v1/organizations", RouteClass::Passed(P::Api)),
    ("GET DELETE", "/api/users/v1/7a1b/sessions", RouteClass::Passed(P::Api)),
    ("GET PUT", "/api/users/v2/me/approval-tasks/1", RouteClass::Passed(P::Api)),
    ("GET", "/api/idle-account-identification/v1/inactive-users", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/oauth2/dcr/v1.1/register", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/entitlement/decision/pdp", RouteClass::Scored(Door::Pdp)),
    ("POST", "/api/o/server/v1/flow/execute", RouteClass::Scored(Door::Flow)),
    ("POST", "/api/o/identity/entitlement/decision/pdp", RouteClass::Scored(Door::Pdp)),
    ("GET", "/api/identity/entitlement/decision/home", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/entitlement/decision/by-attrib", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/entitlement/decision/by-attrib-boolean", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/entitlement/decision/entitled-attribs", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/entitlement/v1/entitlements/policies", RouteClass::Passed(P::Api)),
    ("POST", "/api/identity/media/v1/x", RouteClass::Passed(P::Api)),
    ("GET POST", "/oid4vci/credential", RouteClass::Passed(P::Api)),
    ("GET", "/favicon.ico", RouteClass::Passed(P::Static)),
    ("GET", "/robots.txt", RouteClass::Passed(P::Static)),
    ("GET", "/", RouteClass::Passed(P::Static)),
    ("GET HEAD POST", "/riskgate/approve", RouteClass::Own),
    ("GET HEAD POST", "/riskgate/devices", RouteClass::Own),
    ("GET HEAD", "/riskgate/jwks.json", RouteClass::Own),
    ("GET HEAD", "/.well-known/ssf-configuration", RouteClass::Own),
    ("POST", "/riskgate/ssf/poll", RouteClass::Own),
    ("GET HEAD", "/riskgate/review/AbC_-9", RouteClass::Own),
    ("GET HEAD", "/riskgate/step/AbC_-9", RouteClass::Own),
    ("GET POST", "/riskgate/nothing", RouteClass::Own),
    ("GET", "/riskgate", RouteClass::Own),
    ("POST", "/services/AuthenticationAdmin", RouteClass::Blocked),
    ("GET", "/services", RouteClass::Blocked),
    ("POST", "/carbon/admin/login_action.jsp", RouteClass::Blocked),
    ("GET", "/carbon", RouteClass::Blocked),
    ("POST", "/fileupload/keystore", RouteClass::Blocked),
    ("GET", "/manager/html", RouteClass::Blocked),
    ("POST", "/api/identity/auth/v1.1/authenticate", RouteClass::Blocked),
    ("POST", "/api/identity/auth/v1.2/authenticate/", RouteClass::Blocked),
    ("POST", "/api/o/identity/auth/v1.1/authenticate", RouteClass::Blocked),
    ("GET", "/api/identity/auth/v1.1/data/OauthConsentKey/1", RouteClass::Passed(P::Api)),
    ("GET", "/api/identity/auth/v1.1/context/1", RouteClass::Passed(P::Api)),
    ("GET", "/host-manager/html", RouteClass::Blocked),
];

#[test]
fn every_path_of_the_identity_server_has_its_class() {
    let table = RouteTable::shipped();
    let mut met = HashSet::new();
    for (methods, path, class) in PATHS {
        for method in methods.split(' ') {
            let found = classify(&table, method, path);
            assert_eq!(found.class, *class, "{method} {path}");
            assert!(found.method_is_allowed, "{method} {path}");
            met.insert(found.pattern);
        }
    }
    for prefix in ["/t/example.com", "/o/0a1b-2c", "/t/example.com/o/0a1b-2c"] {
        // The root itself is not a path under a prefix.
        for (methods, path, class) in PATHS.iter().filter(|(_, path, _)| *path != "/") {
            let method = methods.split(' ').next().unwrap();
            let found = classify(&table, method, &format!("{prefix}{path}"));
            let is_root_only = matches!(class, RouteClass::Own | RouteClass::Passed(P::Static))
                || path.ends_with("webfinger");
            assert_eq!(
                found.class,
                if is_root_only {
                    RouteClass::Unknown
                } else {
                    *class
                },
                "{prefix}{path}"
            );
        }
    }
    let unmet: Vec<_> = INVENTORY
        .iter()
        .map(|line| line.pattern)
        .filter(|pattern| !met.contains(*pattern))
        .collect();
    assert_eq!(
        unmet,
        ["/filedownload/*", "/registry/*", "/repository/*", "/wso2/*"],
        "lines of the inventory that no path of the list meets"
    );
}

#[test]
fn no_line_of_the_inventory_is_there_twice() {
    let patterns: HashSet<_> = INVENTORY.iter().map(|line| line.pattern).collect();
    assert_eq!(patterns.len(), INVENTORY.len());
    assert!(patterns.contains(format!("{OWN_PREFIX}/*").as_str()));
}

#[test]
fn what_only_looks_like_a_door_is_unknown() {
    let table = RouteTable::shipped();
    for path in [
        "/OAuth2/token",
        "/oauth2/TOKEN",
        "/oauth2/token.json",
        "/oauth2/token.",
        "/oauth2/tokens",
        "/oauth2/token/x",
        "/oauth2",
        "/oauth2/x/oauth2/token",
        "/oauth2/x/.well-known/openid-configuration",
        "/oauth2/token/client/a/b/.well-known/openid-configuration",
        "/commonauthX",
        "/commonauth/x",
        "/samlsso/x",
        "/api/server/v1/flow/execute/x",
        "/x/oauth2/token",
        "/servicesX",
        "/scim2x",
        "/nothing",
    ] {
        assert_eq!(
            classify(&table, "POST", path).class,
            RouteClass::Unknown,
            "{path}"
        );
    }
}

#[test]
fn a_slash_at_the_end_is_the_same_door() {
    let table = RouteTable::shipped();
    for (methods, path, class) in PATHS.iter().filter(|(_, _, class)| class.door().is_some()) {
        let method = methods.split(' ').next().unwrap();
        assert_eq!(
            classify(&table, method, &format!("{path}/")).class,
            *class,
            "{path}/"
        );
    }
}

#[test]
fn methods_are_held_to_the_door() {
    let table = RouteTable::shipped();
    for (method, path, allow) in [
        ("GET", "/oauth2/token", "POST"),
        ("PUT", "/oauth2/authorize", "GET, POST"),
        ("HEAD", "/oauth2/authorize", "GET, POST"),
        ("post", "/oauth2/token", "POST"),
        ("DELETE", "/commonauth", "GET, POST"),
        ("OPTIONS", "/commonauth", "GET, POST"),
        ("POST", "/oauth2/jwks", "GET, HEAD, OPTIONS"),
        (
            "TRACE",
            "/scim2/Users",
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (
            "CONNECT",
            "/api/server/v1/x",
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        ("PROPFIND", "/console/x", "GET, HEAD, POST, OPTIONS"),
    ] {
        let found = classify(&table, method, path);
        assert!(!found.method_is_allowed, "{method} {path}");
        assert_eq!(found.methods.allow_header(), allow, "{method} {path}");
    }
}

#[test]
fn a_preflight_is_passed_where_script_calls_the_door() {
    let table = RouteTable::shipped();
    for path in [
        "/oauth2/token",
        "/oauth2/authn",
        "/oauth2/authorize",
        "/api/server/v1/flow/execute",
    ] {
        let found = classify(&table, "OPTIONS", path);
        assert_eq!(
            (found.class, found.method_is_allowed),
            (RouteClass::Passed(P::Preflight), true),
            "{path}"
        );
    }
}

#[test]
fn configuration_adds_blocks_and_unblocks() {
    let settings = settings(
        &["/reports", "/oauth2"],
        &["/console", "/oauth2/ciba"],
        &["/services/Some"],
    );
    let table = RouteTable::with_settings(&settings).unwrap();
    let class = |path: &str| classify(&table, "POST", path).class;
    let configured = RouteClass::Passed(P::Configured);
    assert_eq!(class("/reports"), configured);
    assert_eq!(class("/t/foo/reports/x"), configured);
    assert_eq!(class("/reportsX"), RouteClass::Unknown);
    assert_eq!(class("/oauth2/other"), configured);
    assert_eq!(class("/oauth2/token"), RouteClass::Scored(Door::Token));
    assert_eq!(class("/oauth2/token/x"), RouteClass::Unknown);
    assert_eq!(class("/oauth2/ciba"), RouteClass::Blocked);
    assert_eq!(class("/console"), RouteClass::Blocked);
    assert_eq!(class("/console/x"), RouteClass::Blocked);
    assert_eq!(class("/services/Some"), configured);
    assert_eq!(class("/services/Some/x"), configured);
    assert_eq!(class("/services/Other"), RouteClass::Blocked);
    assert_eq!(
        &*classify(&table, "GET", "/reports/x").pattern,
        "pass:/reports"
    );
}

#[test]
fn passing_everything_opens_no_door_and_no_block() {
    let table = RouteTable::with_settings(&settings(&["/"], &[], &[])).unwrap();
    let class = |path: &str| classify(&table, "POST", path).class;
    assert_eq!(class("/anything/at/all"), RouteClass::Passed(P::Configured));
    assert_eq!(class("/oauth2/token/"), RouteClass::Scored(Door::Token));
    assert_eq!(class("/commonauth/x"), RouteClass::Unknown);
    assert_eq!(class("/carbon/x"), RouteClass::Blocked);
    assert_eq!(class("/riskgate/x"), RouteClass::Own);
}

#[test]
fn a_wrong_entry_is_named() {
    for (settings, list, entry) in [
        (settings(&["reports"], &[], &[]), "pass", "reports"),
        (settings(&["/reports/"], &[], &[]), "pass", "/reports/"),
        (settings(&["/a//b"], &[], &[]), "pass", "/a//b"),
        (settings(&["/%74"], &[], &[]), "pass", "/%74"),
        (settings(&["/t/foo/x"], &[], &[]), "pass", "/t/foo/x"),
        (settings(&["/a?b"], &[], &[]), "pass", "/a?b"),
        (settings(&["/a/*"], &[], &[]), "pass", "/a/*"),
        (settings(&["/commonauth"], &[], &[]), "pass", "/commonauth"),
        (
            settings(&["/commonauth/x"], &[], &[]),
            "pass",
            "/commonauth/x",
        ),
        (settings(&["/carbon"], &[], &[]), "pass", "/carbon"),
        (
            settings(&["/services/Some"], &[], &[]),
            "pass",
            "/services/Some",
        ),
        (settings(&["/riskgate/x"], &[], &[]), "pass", "/riskgate/x"),
        (settings(&[], &["/"], &[]), "block", "/"),
        (settings(&[], &["/riskgate"], &[]), "block", "/riskgate"),
        (
            settings(&[], &["/carbon"], &["/carbon"]),
            "block",
            "/carbon",
        ),
        (settings(&[], &[], &["/console"]), "unblock", "/console"),
    ] {
        let message = RouteTable::with_settings(&settings)
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with(&format!("routes.{list}: entry `{entry}`: expected ")),
            "{message}"
        );
    }
    let many = vec!["/x".to_owned(); ROUTE_ENTRIES_MAX + 1];
    let error = RouteTable::with_settings(&RouteSettings {
        block: many,
        ..RouteSettings::default()
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "routes.block: expected at most 256 entries, found 257"
    );
}

#[test]
fn settings_are_read_strictly() {
    let read = toml::from_str::<RouteSettings>("pass = [\"/a\"]").unwrap();
    assert_eq!(read, settings(&["/a"], &[], &[]));
    assert!(toml::from_str::<RouteSettings>("passed = []").is_err());
}

#[test]
fn names_of_doors_are_distinct() {
    let names: HashSet<_> = Door::ALL.iter().map(|door| door.as_str()).collect();
    assert_eq!(names.len(), Door::ALL.len());
    for door in Door::ALL {
        assert!(!(door.is_browser() && door.accepts_json()), "{door}");
    }
}

#[test]
fn success_proves_credentials_where_nobody_else_gets_it() {
    let proves = |method: &str, path: &str| {
        authenticates(method, &CanonicalTarget::parse(path.as_bytes()).unwrap())
    };
    for path in [
        "/scim2/Me",
        "/scim2/Me/",
        "/t/example.com/scim2/Me?attributes=emails",
        "/o/0a1b2c3d-5e6f-4a7b-8c9d-0123456789ab/scim2/Users/1",
        "/scim2/v2/Roles",
    ] {
        assert!(proves("GET", path), "{path}");
        // Answered before anybody is authenticated: CORS, and registration where it is open.
        assert!(!proves("OPTIONS", path), "{path}");
        assert!(!proves("POST", path), "{path}");
    }
    for path in [
        "/console/",
        "/scim2/ServiceProviderConfig",
        "/scim2/Schemas",
        "/scim2/Meadow",
        "/api/server/v1/branding-preference/resolve",
        "/api/x/scim2/Me",
    ] {
        assert!(!proves("GET", path), "{path}");
    }
}

#[test]
fn a_template_that_is_blocked_can_be_opened_path_by_path() {
    const OPEN: &str = "/api/identity/auth/v1.1/authenticate";
    let table = RouteTable::with_settings(&settings(&[], &[], &[OPEN])).unwrap();
    let class = |path: &str| classify(&table, "POST", path).class;
    let opened = RouteClass::Passed(P::Configured);
    assert_eq!(class(OPEN), opened);
    assert_eq!(class(&format!("/t/example.com{OPEN}")), opened);
    assert_eq!(
        class("/api/identity/auth/v1.2/authenticate"),
        RouteClass::Blocked
    );
    let wrong = settings(&[], &[], &["/api/identity/auth/v1.1/data"]);
    assert!(RouteTable::with_settings(&wrong).is_err());
}
