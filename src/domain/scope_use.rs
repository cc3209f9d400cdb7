//! Which scopes a request uses that brings an access token to WSO2 itself: to userinfo, to one of its APIs, or to be asked
//! about. What the token says is read without being verified, so that it counts only once WSO2 has accepted it.

use crate::domain::history::scopes::Bearers;
use crate::domain::history::scopes::Groups;
use crate::domain::history::scopes::groups::GroupClaims;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The longest token that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The scopes that userinfo answers with claims for (OpenID Connect Core section 5.4).
const USERINFO: [&str; 5] = ["openid", "profile", "email", "address", "phone"];

/// What WSO2's APIs ask for: method, path, whether something follows the path, scope. Only what its API descriptions name;
/// what is not here is not known to be used.
const APIS: [(&str, &str, bool, &str); 14] = [
    ("GET", "/scim2/Users", false, "internal_user_mgt_list"),
    ("GET", "/scim2/Users", true, "internal_user_mgt_view"),
    ("POST", "/scim2/Users", false, "internal_user_mgt_create"),
    ("PUT", "/scim2/Users", true, "internal_user_mgt_update"),
    ("PATCH", "/scim2/Users", true, "internal_user_mgt_update"),
    ("DELETE", "/scim2/Users", true, "internal_user_mgt_delete"),
    ("GET", "/scim2/v2/Roles", false, "internal_role_mgt_view"),
    ("GET", "/scim2/v2/Roles", true, "internal_role_mgt_view"),
    ("GET", "/api/users/v1", true, "internal_session_view"),
    ("DELETE", "/api/users/v1", true, "internal_session_delete"),
    (
        "GET",
        "/api/server/v1/actions",
        true,
        "internal_action_mgt_view",
    ),
    (
        "POST",
        "/api/server/v1/actions",
        true,
        "internal_action_mgt_create",
    ),
    (
        "PATCH",
        "/api/server/v1/actions",
        true,
        "internal_action_mgt_update",
    ),
    (
        "DELETE",
        "/api/server/v1/actions",
        true,
        "internal_action_mgt_delete",
    ),
];

/// What an access token says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Presented {
    /// Its client.
    pub client_id: String,
    /// Its scopes, separated by spaces.
    pub scope: String,
    /// For whom it speaks.
    pub bearers: Bearers,
    /// The groups of its user, as far as it names them.
    pub groups: Groups,
}

/// A token about which somebody has asked, as WSO2 describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AskedAbout {
    /// Its client.
    pub client_id: String,
    /// Its scopes, separated by spaces.
    pub scope: String,
    /// For whom it speaks.
    pub bearers: Bearers,
}

#[derive(Deserialize)]
struct Claims {
    client_id: String,
    #[serde(default)]
    scope: String,
    aut: Option<String>,
    #[serde(default)]
    groups: Value,
    #[serde(default)]
    roles: Value,
}

impl Presented {
    /// Reads the claims of a JWT. `None` for an opaque token.
    pub fn read(token: &str) -> Option<Self> {
        let claims: Claims = claims(token)?;
        Some(Self {
            bearers: bearers(claims.aut.as_deref()),
            client_id: claims.client_id,
            scope: claims.scope,
            groups: Groups::of([&claims.groups, &claims.roles].into_iter()),
        })
    }
}

impl AskedAbout {
    /// Reads an introspection answer; `None` where the token is not active, or not said to be anybody's.
    pub fn read(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            active: bool,
            client_id: String,
            #[serde(default)]
            scope: String,
            aut: Option<String>,
        }
        let answer: Answer = serde_json::from_slice(answer).ok()?;
        answer.active.then(|| Self {
            bearers: bearers(answer.aut.as_deref()),
            client_id: answer.client_id,
            scope: answer.scope,
        })
    }
}

/// The groups that a JWT names: an access token or an ID token. None for what is no JWT.
pub fn groups_of(token: &str) -> Groups {
    claims::<GroupClaims>(token).map_or_else(Groups::default, |claims| claims.groups())
}

fn bearers(aut: Option<&str>) -> Bearers {
    match aut {
        Some("APPLICATION") => Bearers::Itself,
        _ => Bearers::Users,
    }
}

fn claims<T: for<'de> Deserialize<'de>>(token: &str) -> Option<T> {
    let mut parts = token.split('.').skip(1);
    let (payload, _) = parts.next().zip(parts.next())?;
    (token.len() <= TOKEN_BYTES_MAX && parts.next().is_none()).then_some(())?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The scopes that userinfo uses.
pub fn of_userinfo() -> &'static [&'static str] {
    &USERINFO
}

/// The scope that one of WSO2's APIs asks for; `path` is canonical, without tenant and organization.
pub fn of_api(method: &str, path: &str) -> Option<&'static str> {
    let fits = |front: &str, deeper: bool| match path.strip_prefix(front) {
        Some(rest) if deeper => rest.len() > 1 && rest.starts_with('/'),
        Some(rest) => rest.is_empty(),
        None => false,
    };
    APIS.into_iter()
        .find(|(known, front, deeper, _)| *known == method && fits(front, *deeper))
        .map(|(.., scope)| scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.sig", part("{\"alg\":\"RS256\"}"), part(claims))
    }

    #[test]
    fn a_token_says_whose_it_is() {
        let read = Presented::read(&token(
            r#"{"client_id":"app","scope":"openid internal_user_mgt_list","aut":"APPLICATION_USER","groups":["staff"]}"#,
        ));
        let read = read.unwrap();
        assert_eq!(read.client_id, "app");
        assert_eq!(read.scope, "openid internal_user_mgt_list");
        assert_eq!(read.bearers, Bearers::Users);
        assert_eq!(read.groups.names().collect::<Vec<_>>(), ["staff"]);
        let read = Presented::read(&token(r#"{"client_id":"app","aut":"APPLICATION"}"#)).unwrap();
        assert_eq!((read.bearers, read.scope.as_str()), (Bearers::Itself, ""));
        assert_eq!(read.groups, Groups::default());
        for other in [
            "",
            "a.b",
            "opaque-uuid",
            "a.b.c",
            "a.b.c.d.e",
            &token("[]"),
            &token("{}"),
        ] {
            assert_eq!(Presented::read(other), None, "{other}");
        }
    }

    #[test]
    fn an_answer_says_about_whose_token_somebody_has_asked() {
        let read = |text: &str| AskedAbout::read(text.as_bytes());
        let found = read(
            r#"{"active":true,"client_id":"app","scope":"a b","aut":"APPLICATION","exp":1,"username":"x"}"#,
        );
        let found = found.unwrap();
        assert_eq!(
            (found.client_id.as_str(), found.scope.as_str()),
            ("app", "a b")
        );
        assert_eq!(found.bearers, Bearers::Itself);
        for other in [
            r#"{"active":false}"#,
            r#"{"active":false,"client_id":"app","scope":"a"}"#,
            r#"{"active":"true","client_id":"app"}"#,
            r#"{"active":true}"#,
            "[]",
            "",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn groups_are_read_from_jwts_alone() {
        let names = |token: &str| {
            groups_of(token)
                .names()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&token(r#"{"roles":"admin","sub":"x"}"#)), ["admin"]);
        for other in ["", "opaque", "a.b.c", &token("[]"), &token("{}")] {
            assert!(names(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn apis_ask_for_what_their_descriptions_say() {
        for (method, path, scope) in [
            ("GET", "/scim2/Users", Some("internal_user_mgt_list")),
            ("GET", "/scim2/Users/1", Some("internal_user_mgt_view")),
            ("GET", "/scim2/Users/", None),
            ("GET", "/scim2/UsersAndMore", None),
            ("DELETE", "/scim2/Users", None),
            (
                "DELETE",
                "/api/users/v1/7/sessions",
                Some("internal_session_delete"),
            ),
            ("PATCH", "/api/users/v1/7/sessions", None),
            ("GET", "/oauth2/jwks", None),
        ] {
            assert_eq!(of_api(method, path), scope, "{method} {path}");
        }
        assert!(of_userinfo().contains(&"openid"));
    }
}
