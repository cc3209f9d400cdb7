//! Ending sessions: `/oidc/logout` (OpenID Connect RP-Initiated Logout) and the plain logout of `/commonauth`.

use crate::app::Ctx;
use crate::app::pairs;
use crate::request::Params;
use crate::response::Response;
use crate::response::append_params;
use crate::store::Session;
use crate::webhooks::Event;

/// GET and POST `/oidc/logout`.
pub(crate) fn answer(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    let client = params
        .get("id_token_hint")
        .and_then(|hint| ctx.app.keys().verify(hint))
        .and_then(|claims| claims.get("aud")?.as_str().map(str::to_owned))
        .or_else(|| params.get_owned("client_id"))
        .and_then(|id| ctx.client(&id));
    let is_proven = params.get("id_token_hint").is_some() && client.is_some();
    if params.get("id_token_hint").is_some() && client.is_none() {
        let error = pairs(&[
            ("oauthErrorCode", "access_denied"),
            ("oauthErrorMsg", "Invalid id_token_hint"),
        ]);
        return ctx.to_page("oauth2_error.do", &error);
    }
    // Without proof of who asks, the user confirms.
    if !is_proven && ctx.session().is_some() && params.get("consent") != Some("approve") {
        return ctx.to_page("oauth2_logout_consent.do", &[]);
    }
    let target = match (client, params.get("post_logout_redirect_uri")) {
        (Some(client), Some(uri)) if client.allows_redirect(uri) => {
            let state = params.get("state");
            let state = state.map(|state| pairs(&[("state", state)]));
            match state {
                Some(state) => append_params(uri, &state, false),
                None => uri.to_owned(),
            }
        }
        (_, Some(_)) => {
            let error = pairs(&[
                ("oauthErrorCode", "access_denied"),
                (
                    "oauthErrorMsg",
                    "Post logout URI does not match with registered callback URI.",
                ),
            ]);
            return ctx.to_page("oauth2_error.do", &error);
        }
        (_, None) => ctx.url("/authenticationendpoint/oauth2_logout.do"),
    };
    end_of_browser(ctx, Response::redirect(target))
}

/// `/commonauth?commonAuthLogout=true`.
pub(crate) fn common(ctx: &Ctx<'_>, params: &Params) -> Response {
    // Only a page of this server: anything else would be an open redirect.
    let page = params
        .get("commonAuthCallerPath")
        .filter(|path| path.starts_with('/') && !path.starts_with("//") && !path.contains('\\'))
        .map_or_else(
            || ctx.url("/authenticationendpoint/oauth2_logout.do"),
            |path| ctx.url(path),
        );
    end_of_browser(ctx, Response::redirect(page))
}

/// Ends the browser's session and its cookies.
fn end_of_browser(ctx: &Ctx<'_>, response: Response) -> Response {
    if let Some((key, _)) = ctx.session() {
        end(ctx, &key, "USER");
    }
    response
        .with_header("Set-Cookie", ctx.cookie("commonAuthId", "", true, Some(0)))
        .with_header("Set-Cookie", ctx.cookie("opbs", "", false, Some(0)))
}

/// Ends a session and revokes the tokens bound to it; the session that was.
pub(crate) fn end(ctx: &Ctx<'_>, key: &str, initiator: &'static str) -> Option<Session> {
    let mut store = ctx.app.store();
    let session = store.sessions.remove(key)?;
    store.revoke_where(|grant| {
        grant.session_key.as_deref() == Some(key)
            && ctx
                .client(&grant.client_id)
                .is_some_and(|client| client.is_session_bound)
    });
    drop(store);
    ctx.app.webhooks.publish(
        ctx,
        &Event::SessionRevoked {
            user: &session.user,
            session_key: key,
            initiator,
        },
    );
    Some(session)
}
