//! A gateway that the identity server asks before it issues tokens and changes passwords.

use crate::gateway::Options;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::listening_port;
use crate::gateway::rules;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use wso2_sim::ActionAuth;
use wso2_sim::ActionSettings;

/// What the identity server shows.
pub(crate) const SECRET: &str = "a-secret-of-wso2-and-the-gateway-alone";
/// Before an access token.
pub(crate) const ACCESS: &str = "/actions/pre-issue-access-token";
/// Before an ID token.
pub(crate) const ID: &str = "/actions/pre-issue-id-token";
/// Before a password is changed.
pub(crate) const PASSWORD: &str = "/actions/pre-update-password";

/// A world in which the identity server calls the gateway before it issues a token.
pub(crate) struct Issuing {
    /// Everything else.
    pub(crate) world: World,
    /// The actions listener, without a path.
    pub(crate) url: String,
    _folder: TempDir,
}

impl Issuing {
    /// Over a Redis, in `enforce`, with a rule that lets everything through.
    pub(crate) async fn over_redis() -> Self {
        Self::start_with(Options {
            mode: "enforce",
            policy: Some(rules(&[("true", "allow")])),
            store: Store::Redis,
            ..Options::default()
        })
        .await
    }

    /// With these lines after the rule that lets everything through.
    pub(crate) async fn start(mode: &'static str, policy: &str) -> Self {
        let policy = format!("{}{policy}", rules(&[("true", "allow")]));
        Self::start_with(Options {
            mode,
            policy: Some(policy),
            ..Options::default()
        })
        .await
    }

    /// With these options and the listener.
    pub(crate) async fn start_with(mut options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let port = listening_port();
        let config = format!(
            "{}\n[actions]\nlisten = \"127.0.0.1:{port}\"\nsecret_file = '{}'\n",
            options.config,
            secret.display()
        );
        options.config = Box::leak(config.into_boxed_str());
        let world = World::start(options).await;
        let url = format!("http://127.0.0.1:{port}");
        let action = |path: &str| {
            let mut settings = ActionSettings::new(format!("{url}{path}"));
            settings.auth = ActionAuth::Bearer(SECRET.to_owned());
            settings.allowed_headers = Some(vec!["x-risk-decision-id".to_owned()]);
            Some(settings)
        };
        world.sim.set_action(action(ACCESS)).unwrap();
        world.sim.set_id_token_action(action(ID)).unwrap();
        let mut password = action(PASSWORD).unwrap();
        password.attributes = vec!["http://wso2.org/claims/username".to_owned()];
        world.sim.set_password_action(Some(password)).unwrap();
        Self {
            world,
            url,
            _folder: folder,
        }
    }

    /// Calls an action as the identity server does: status and answer.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.world.http().post(format!("{}{path}", self.url));
        read(request.bearer_auth(SECRET).json(body)).await
    }

    /// The decision id on the latest token request.
    pub(crate) fn decision(&self) -> String {
        let received = self.world.sim.recorded();
        let request = received
            .iter()
            .rev()
            .find(|request| request.path() == "/oauth2/token")
            .unwrap();
        let ids = request.header_values("x-risk-decision-id");
        assert_eq!(ids.len(), 1, "{request:?}");
        ids[0].to_owned()
    }

    /// The risk headers on the latest token request: what the tokens must say.
    pub(crate) fn headers(&self) -> Value {
        let received = self.world.sim.recorded();
        let request = received
            .iter()
            .rev()
            .find(|request| request.path() == "/oauth2/token")
            .unwrap();
        let value = |name: &str| {
            request
                .header_values(name)
                .first()
                .copied()
                .map(str::to_owned)
        };
        let reasons = value("x-risk-reasons").unwrap_or_default();
        let reasons: Vec<&str> = reasons.split(',').filter(|code| !code.is_empty()).collect();
        let score: Option<u64> = value("x-risk-score").map(|score| score.parse().unwrap());
        json!({
            "risk_score": score,
            "risk_level": value("x-risk-level"),
            "risk_reasons": reasons,
            "risk_status": value("x-risk-status"),
        })
    }
}

/// Sends a request and reads JSON.
pub(crate) async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

/// What a token says of the risk.
pub(crate) fn risk(token: &str) -> Value {
    let claims = claims(token);
    let said = claims.as_object().unwrap().iter();
    said.filter(|(name, _)| name.starts_with("risk_"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Seconds from issue to end.
pub(crate) fn lifetime(token: &str) -> i64 {
    let claims = claims(token);
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

/// A call for a token of `client_id` by `grant`.
pub(crate) fn call(decision: &str, client_id: &str, grant: &str) -> Value {
    json!({
        "actionType": "PRE_ISSUE_ACCESS_TOKEN",
        "requestId": "r",
        "event": {
            "request": {
                "grantType": grant,
                "clientId": client_id,
                "scopes": ["openid", "profile"],
                "additionalHeaders": [{ "name": "x-risk-decision-id", "value": [decision] }],
                "additionalParams": [],
            },
            "tenant": { "id": "-1234", "name": "carbon.super" },
            "accessToken": {
                "tokenType": "JWT",
                "scopes": ["openid", "profile"],
                "claims": [{ "name": "client_id", "value": client_id }, { "name": "expires_in", "value": 3600 }],
            },
        },
        "allowedOperations": [
            { "op": "add", "paths": ["/accessToken/claims/", "/accessToken/scopes/"] },
            { "op": "remove", "paths": ["/accessToken/scopes/"] },
            { "op": "replace", "paths": ["/accessToken/claims/expires_in", "/refreshToken/claims/expires_in"] },
        ],
    })
}
