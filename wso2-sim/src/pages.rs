//! The pages that people see: login, second factor, consent, errors. They work with and without JavaScript. They must not
//! change anything on the server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::Ctx;
use crate::request::Params;
use crate::response::Response;
use crate::response::escape_html;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem;color:#1a1a1a}\
label{display:block;margin:.75rem 0 .25rem}input[type=text],input[type=password]{width:100%;padding:.5rem;\
box-sizing:border-box;font:inherit}button{margin-top:1rem;padding:.5rem 1.25rem;font:inherit}\
[role=alert]{border-left:4px solid #b00020;padding:.5rem .75rem;background:#fdecea}";

/// Copies the visible name to the field that the server reads, and asks first whether the login is still alive.
const LOGIN_SCRIPT: &str = "document.getElementById('loginForm').addEventListener('submit',function(event){\
var form=event.target;event.preventDefault();form.username.value=form.usernameUserInput.value.trim();\
var query='sessionDataKey='+encodeURIComponent(form.sessionDataKey.value)+'&relyingParty='\
+encodeURIComponent(form.dataset.relyingParty)+'&tenantDomain='+encodeURIComponent(form.dataset.tenant);\
fetch('../logincontext?'+query,{credentials:'same-origin'}).then(function(answer){return answer.json()})\
.then(function(data){if(data.status==='redirect'){location.href=data.redirectUrl}else{form.submit()}})\
.catch(function(){form.submit()})});";

/// GET `/authenticationendpoint/<page>`.
pub(crate) fn answer(ctx: &Ctx<'_>, page: &str) -> Response {
    let params = ctx.request.params().unwrap_or_default();
    let (title, body) = match page {
        "login.do" if offers_factors(&params) => ("Verify it is you", factors(&params)),
        "login.do" if params.get("inputType") == Some("idf") => ("Sign in", name_form(&params)),
        "login.do" => ("Sign in", login(ctx, &params)),
        "fido2-auth.jsp" => ("Passkey", alert("There are no passkeys in this simulator.")),
        "totp.do" => ("Verify it is you", totp(&params)),
        "oauth2_consent.do" | "oauth2_authz.do" => ("Allow access", consent(&params)),
        "oauth2_error.do" => ("Request refused", error(&params)),
        "retry.do" => ("Sign-in failed", retry(&params)),
        "totp_enroll.do" => ("Set up a second factor", totp_enrolment(&params)),
        "totp_error.do" => (
            "No second factor",
            alert(
                "This sign-in needs a code from an authenticator app, and your account has none.",
            ),
        ),
        "device.do" => ("Connect a device", device(&params)),
        "device_success.do" => (
            "Device connected",
            "<p>You can return to your device.</p>".to_owned(),
        ),
        "oauth2_logout_consent.do" => ("Sign out", logout()),
        "oauth2_logout.do" => ("Signed out", "<p>You are signed out.</p>".to_owned()),
        _ => return Response::html(404, html("Not found", "<p>There is no such page.</p>")),
    };
    Response::html(200, html(title, &body))
}

/// A portal that the simulator only names: console, my account, management.
pub(crate) fn portal(path: &str) -> Response {
    let body = format!("<p>Stand-in for <code>{}</code>.</p>", escape_html(path));
    Response::html(200, html("Portal", &body))
}

fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} | wso2-sim</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    )
}

fn login(ctx: &Ctx<'_>, params: &Params) -> String {
    let text = |name: &str| escape_html(params.get(name).unwrap_or_default());
    let failure = match (params.get("authFailure"), params.get("errorCode")) {
        (Some("true"), Some("17003")) => alert("Your account is locked. Try again later."),
        (Some("true"), _) => {
            alert("Login failed! Please check your username and password and try again.")
        }
        _ => String::new(),
    };
    let name = params
        .get("failedUsername")
        .or_else(|| params.get("login_hint"))
        .unwrap_or_default();
    // The form of a SAML login posts to the endpoint of SAML, which hands it to the login.
    let (action, in_place) = match params.get("type") {
        Some("samlsso") => (
            "../samlsso",
            "<input type=\"hidden\" name=\"tocommonauth\" value=\"true\">",
        ),
        _ => ("../commonauth", ""),
    };
    format!(
        "<p>to continue to {app}</p>{failure}\
         <form id=\"loginForm\" method=\"post\" action=\"{action}\" data-relying-party=\"{party}\" \
         data-tenant=\"{tenant}\">\
         <label for=\"usernameUserInput\">Username</label>\
         <input type=\"text\" id=\"usernameUserInput\" name=\"usernameUserInput\" value=\"{name}\" \
         autocomplete=\"username\" autofocus required>\
         <input type=\"hidden\" id=\"username\" name=\"username\" value=\"\">\
         <label for=\"password\">Password</label>\
         <input type=\"password\" id=\"password\" name=\"password\" autocomplete=\"current-password\" required>\
         <label><input type=\"checkbox\" id=\"chkRemember\" name=\"chkRemember\"> Remember me</label>\
         <input type=\"hidden\" name=\"sessionDataKey\" value=\"{key}\">{in_place}\
         <button type=\"submit\">Sign in</button></form><script>{LOGIN_SCRIPT}</script>",
        app = text("sp"),
        party = text("relyingParty"),
        tenant = escape_html(&ctx.realm.tenant),
        name = escape_html(name),
        key = text("sessionDataKey"),
    )
}

/// Identifier first. The form names its kind, as WSO2's does.
fn name_form(params: &Params) -> String {
    let text = |name: &str| escape_html(params.get(name).unwrap_or_default());
    let failure = match params.get("authFailure") {
        Some("true") => alert("Enter your username."),
        _ => String::new(),
    };
    format!(
        "<p>to continue to {app}</p>{failure}<form method=\"post\" action=\"../commonauth\">\
         <label for=\"username\">Username</label>\
         <input type=\"text\" id=\"username\" name=\"username\" autocomplete=\"username\" autofocus required>\
         <input type=\"hidden\" name=\"authType\" value=\"idf\">\
         <input type=\"hidden\" name=\"sessionDataKey\" value=\"{key}\">\
         <button type=\"submit\">Continue</button></form>",
        app = text("sp"),
        key = text("sessionDataKey"),
    )
}

fn offers_factors(params: &Params) -> bool {
    let options = params.get("authenticators").unwrap_or_default();
    options.starts_with("totp:")
}

/// The options of the second step: each is a link that picks it.
fn factors(params: &Params) -> String {
    let key = escape_html(params.get("sessionDataKey").unwrap_or_default());
    let link = |name: &str, label: &str| {
        format!(
            "<li><a id=\"{name}\" href=\"../commonauth?idp=LOCAL&amp;authenticator={name}\
             &amp;sessionDataKey={key}\">{label}</a></li>"
        )
    };
    let failure = match params.get("authFailure") {
        Some("true") => alert("That did not work. Try again."),
        _ => String::new(),
    };
    format!(
        "{failure}<ul>{}{}</ul>",
        link("totp", "Authenticator app"),
        link("FIDOAuthenticator", "Passkey")
    )
}

fn totp(params: &Params) -> String {
    let failure = match params.get("authFailure") {
        Some("true") => alert("The code is wrong or has expired. Try again."),
        _ => String::new(),
    };
    format!(
        "<p>Enter the code from your authenticator app.</p>{failure}\
         <form id=\"codeForm\" method=\"post\" action=\"../commonauth\">\
         <label for=\"token\">Verification code</label>\
         <input type=\"text\" id=\"token\" name=\"token\" inputmode=\"numeric\" pattern=\"[0-9]{{6}}\" \
         maxlength=\"6\" autocomplete=\"one-time-code\" autofocus required>\
         <input type=\"hidden\" name=\"sessionDataKey\" value=\"{}\">\
         <button type=\"submit\">Continue</button></form>",
        escape_html(params.get("sessionDataKey").unwrap_or_default())
    )
}

fn totp_enrolment(params: &Params) -> String {
    let key = params.get("ske").and_then(|ske| STANDARD.decode(ske).ok());
    let key = key.and_then(|key| String::from_utf8(key).ok());
    let session = escape_html(params.get("sessionDataKey").unwrap_or_default());
    let form = |id: &str, answer: &str, label: &str| {
        format!(
            "<form id=\"{id}\" method=\"post\" action=\"../commonauth\">\
             <input type=\"hidden\" name=\"ENABLE_TOTP\" value=\"{answer}\">\
             <input type=\"hidden\" name=\"sessionDataKey\" value=\"{session}\">\
             <button type=\"submit\">{label}</button></form>"
        )
    };
    format!(
        "<p>Add this key to your authenticator app:</p><p><code>{}</code></p>{}{}",
        escape_html(&key.unwrap_or_default()),
        form("continueForm", "true", "Continue"),
        form("cancelForm", "false", "Cancel"),
    )
}

fn consent(params: &Params) -> String {
    let text = |name: &str| escape_html(params.get(name).unwrap_or_default());
    format!(
        "<p>{user}, the application {app} asks for: {scope}</p>\
         <form id=\"consentForm\" method=\"post\" action=\"../oauth2/authorize\">\
         <input type=\"hidden\" name=\"sessionDataKeyConsent\" value=\"{key}\">\
         <button type=\"submit\" name=\"consent\" value=\"approve\">Allow once</button> \
         <button type=\"submit\" name=\"consent\" value=\"approveAlways\">Allow always</button> \
         <button type=\"submit\" name=\"consent\" value=\"deny\">Deny</button></form>",
        user = text("loggedInUser"),
        app = text("application"),
        scope = text("scope"),
        key = text("sessionDataKeyConsent"),
    )
}

fn error(params: &Params) -> String {
    let code = escape_html(params.get("oauthErrorCode").unwrap_or_default());
    let message = params.get("oauthErrorMsg").unwrap_or_default();
    format!("{}<p><code>{code}</code></p>", alert(message))
}

fn retry(params: &Params) -> String {
    match params.get("errorCode") {
        Some("17003") => alert("Your account is locked. Try again later."),
        _ => {
            let status = escape_html(params.get("status").unwrap_or_default());
            format!(
                "{}<p><code>{status}</code></p>",
                alert("Something went wrong during the sign-in. Start again from the application.")
            )
        }
    }
}

fn device(params: &Params) -> String {
    let failure = match params.get("error") {
        Some(_) => alert("That code is not known, or has expired."),
        None => String::new(),
    };
    format!(
        "{failure}<form id=\"deviceForm\" method=\"post\" action=\"../oauth2/device\">\
         <label for=\"user_code\">Code shown on the device</label>\
         <input type=\"text\" id=\"user_code\" name=\"user_code\" value=\"{}\" required>\
         <button type=\"submit\">Continue</button></form>",
        escape_html(params.get("user_code").unwrap_or_default())
    )
}

fn logout() -> String {
    "<form id=\"logoutForm\" method=\"post\" action=\"../oidc/logout\">\
     <input type=\"hidden\" name=\"consent\" value=\"approve\">\
     <button type=\"submit\">Sign out</button></form>"
        .to_owned()
}

fn alert(text: &str) -> String {
    format!("<p role=\"alert\">{}</p>", escape_html(text))
}
