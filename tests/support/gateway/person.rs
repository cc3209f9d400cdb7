//! People with browsers: a cookie jar, an address, a user agent, and the way through a login.

use super::CALLBACK;
use super::HOME;
use super::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::Url;
use wso2_sim::seed;

/// A browser.
pub const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// Another browser on another system.
pub const CHROME_ON_WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36";
/// Redirects that a person goes along at most.
const HOPS_MAX: usize = 12;

/// An answer of the gateway.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The URL that was asked.
    pub url: Url,
    /// The status.
    pub status: u16,
    /// The header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// One person with one browser.
#[derive(Clone)]
pub struct Person<'a> {
    world: &'a World,
    name: String,
    password: String,
    totp_secret: Option<String>,
    address: String,
    agent: String,
    language: String,
    is_secure: bool,
    client: String,
    /// Before the paths of the identity server: empty, or a tenant's or an organization's.
    prefix: String,
    cookies: Vec<(String, String)>,
}

impl Answer {
    /// Reads an answer to its end.
    pub async fn read(response: reqwest::Response) -> Self {
        let (url, status) = (response.url().clone(), response.status().as_u16());
        let text = |value: &reqwest::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect();
        let body = response.bytes().await.expect("a whole body");
        Self {
            url,
            status,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The absolute URL that a redirect leads to.
    pub fn location(&self) -> Option<Url> {
        self.url
            .join(
                self.header("location")
                    .filter(|_| (300..400).contains(&self.status))?,
            )
            .ok()
    }

    /// The code in the redirect to the client.
    pub fn code(&self) -> Option<String> {
        let location = self
            .location()
            .filter(|location| location.as_str().starts_with(CALLBACK))?;
        param(&location, "code")
    }

    /// A text member of the JSON body.
    pub fn member(&self, name: &str) -> String {
        self.json()[name]
            .as_str()
            .unwrap_or_else(|| panic!("no `{name}` in {self:?}"))
            .to_owned()
    }

    /// Whether the browser has come to a page of the login portal, such as `totp.do`.
    pub fn is_page(&self, page: &str) -> bool {
        self.status == 200
            && self
                .url
                .path()
                .ends_with(&format!("/authenticationendpoint/{page}"))
    }
}

impl<'a> Person<'a> {
    /// A user by name, at home.
    pub fn new(world: &'a World, name: &str) -> Self {
        let known = seed::users()
            .into_iter()
            .find(|user| user.username == name && user.realm == seed::SUPER_TENANT);
        Self {
            world,
            name: name.to_owned(),
            password: known
                .as_ref()
                .map_or_else(|| "no-such-user".to_owned(), |user| user.password.clone()),
            totp_secret: known.and_then(|user| user.totp_secret),
            address: HOME.to_owned(),
            agent: FIREFOX.to_owned(),
            language: "de-CH,de;q=0.8,en;q=0.5".to_owned(),
            is_secure: true,
            client: "demo-web".to_owned(),
            prefix: String::new(),
            cookies: Vec::new(),
        }
    }

    /// The same person at another address.
    pub fn from(mut self, address: &str) -> Self {
        self.move_to(address);
        self
    }

    /// The same person with another browser, which knows nothing.
    pub fn with(mut self, agent: &str) -> Self {
        self.agent = agent.to_owned();
        self.cookies.clear();
        self
    }

    /// The same person with another language.
    pub fn speaking(mut self, language: &str) -> Self {
        self.language = language.to_owned();
        self
    }

    /// The same person with another password.
    pub fn guessing(mut self, password: &str) -> Self {
        self.password = password.to_owned();
        self
    }

    /// The same person in another application.
    pub fn in_app(mut self, client: &str) -> Self {
        self.client = client.to_owned();
        self
    }

    /// The user of that name in the organization of the simulator.
    pub fn of_organization(mut self) -> Self {
        let known = seed::users()
            .into_iter()
            .find(|user| user.username == self.name && user.realm == seed::ACME_ORG_ID);
        let known = known.expect("a user of the organization");
        self.password = known.password;
        self.totp_secret = known.totp_secret;
        self.prefix = format!("/o/{}", seed::ACME_ORG_ID);
        self
    }

    /// The same person without TLS.
    pub fn without_tls(mut self) -> Self {
        self.is_secure = false;
        self
    }

    /// The same person with this secret in an authenticator app.
    pub fn set_factor(&mut self, secret: &str) {
        self.totp_secret = Some(secret.to_owned());
    }

    /// The name that is sent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The password that is sent.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Goes to another address.
    pub fn move_to(&mut self, address: &str) {
        self.address = address.to_owned();
    }

    /// A cookie that the browser holds.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All cookies, as a browser sends them.
    pub fn cookies(&self) -> String {
        let pairs = self.cookies.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    /// Gives the browser a cookie.
    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.retain(|(known, _)| known != name);
        self.cookies.push((name.to_owned(), value.to_owned()));
    }

    /// Sits down at the browser of somebody else.
    pub fn set_cookies_of(&mut self, other: &Self) {
        self.cookies.clone_from(&other.cookies);
    }

    /// Forgets everything but the device cookie, as an expired session does.
    pub fn forget_session(&mut self) {
        self.cookies.retain(|(name, _)| name.starts_with("__Host-"));
    }

    /// Forgets every cookie.
    pub fn forget_everything(&mut self) {
        self.cookies.clear();
    }

    /// The authorize URL of the person's application; `more` replaces parameters of the same name.
    pub fn authorize_path(&self, more: &[(&str, &str)]) -> String {
        let mut params = vec![
            ("response_type", "code"),
            ("client_id", self.client.as_str()),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile"),
            ("state", "s-1"),
            ("nonce", "n-1"),
        ];
        params.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        params.extend(more);
        format!(
            "{}/oauth2/authorize?{}",
            self.prefix,
            form_urlencoded::Serializer::new(String::new())
                .extend_pairs(params)
                .finish()
        )
    }

    /// A request with everything that this browser sends.
    pub fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.world.url)
        } else {
            url.to_owned()
        };
        let mut request = self.world.http().request(method, url);
        request = request
            .header("user-agent", &self.agent)
            .header("accept-language", &self.language);
        request = request
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("x-forwarded-for", &self.address);
        request = request.header(
            "x-forwarded-proto",
            if self.is_secure { "https" } else { "http" },
        );
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookies());
        }
        request
    }

    /// Sends a request and keeps the cookies of the answer.
    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = self.world.send(request).await;
        let set: Vec<String> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
            .map(|(_, value)| value.clone())
            .collect();
        for cookie in set {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((&cookie, ""));
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let is_removal = value.is_empty()
                || attributes
                    .split(';')
                    .any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0"));
            self.cookies.retain(|(known, _)| known != name.trim());
            if !is_removal {
                self.cookies
                    .push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        answer
    }

    /// GET of a path or URL.
    pub async fn get(&mut self, url: &str) -> Answer {
        let request = self.request(Method::GET, url);
        self.send(request).await
    }

    /// POST of a form to a path or URL.
    pub async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, url).form(fields);
        self.send(request).await
    }

    /// POST of JSON.
    pub async fn post_json(&mut self, url: &str, body: &serde_json::Value) -> Answer {
        let request = self
            .request(Method::POST, url)
            .header("content-type", "application/json")
            .body(body.to_string());
        self.send(request).await
    }

    /// Follows redirects to a page, or to the redirect that leads to the application.
    pub async fn follow(&mut self, mut answer: Answer) -> Answer {
        for _ in 0..HOPS_MAX {
            let Some(location) = answer
                .location()
                .filter(|location| !location.as_str().starts_with(CALLBACK))
            else {
                return answer;
            };
            answer = self.get(location.as_str()).await;
        }
        panic!(
            "more than {HOPS_MAX} redirects, the last to {:?}",
            answer.location()
        );
    }

    /// Opens the application: the page on which the browser ends, or the redirect to the application.
    pub async fn open(&mut self) -> Answer {
        self.open_with(&[]).await
    }

    /// The same with further authorize parameters.
    pub async fn open_with(&mut self, more: &[(&str, &str)]) -> Answer {
        let path = self.authorize_path(more);
        let answer = self.get(&path).await;
        self.follow(answer).await
    }

    /// Sends the password form of a login page: the answer to the POST itself.
    pub async fn submit_password(&mut self, page: &Answer) -> Answer {
        self.submit_password_with(page, &[]).await
    }

    /// Sends the password form of a login page, with further fields: the answer to the POST itself.
    pub async fn submit_password_with(&mut self, page: &Answer, more: &[(&str, &str)]) -> Answer {
        let key =
            param(&page.url, "sessionDataKey").unwrap_or_else(|| panic!("no login page: {page:?}"));
        let (name, password) = (self.name.clone(), self.password.clone());
        let mut fields = vec![
            ("usernameUserInput", name.as_str()),
            ("username", &name),
            ("password", &password),
            ("sessionDataKey", &key),
        ];
        fields.extend(more);
        self.post(&format!("{}/commonauth", self.prefix), &fields)
            .await
    }

    /// Sends the one-time code to a TOTP page: the answer to the POST itself.
    pub async fn submit_code(&mut self, page: &Answer) -> Answer {
        self.submit_code_with(page, &[]).await
    }

    /// Sends the one-time code to a TOTP page, with further fields: the answer to the POST itself.
    pub async fn submit_code_with(&mut self, page: &Answer, more: &[(&str, &str)]) -> Answer {
        let key = param(&page.url, "sessionDataKey")
            .unwrap_or_else(|| panic!("no page for a code: {page:?}"));
        let secret = self
            .totp_secret
            .clone()
            .expect("a user with a second factor");
        let code = wso2_sim::totp_at(&secret, self.world.sim.now_s());
        let mut fields = vec![("token", code.as_str()), ("sessionDataKey", &key)];
        fields.extend(more);
        self.post(&format!("{}/commonauth", self.prefix), &fields)
            .await
    }

    /// Opens the application and sends the password: the answer to the POST itself.
    pub async fn try_password(&mut self) -> Answer {
        let page = self.open().await;
        assert!(page.is_page("login.do"), "no login page: {page:?}");
        self.submit_password(&page).await
    }

    /// Goes through the login as far as the password leads: the redirect to the application, or a page.
    pub async fn log_in(&mut self) -> Answer {
        let answer = self.try_password().await;
        self.follow(answer).await
    }

    /// Goes through the whole login, with the second factor where it is asked for: the code.
    pub async fn sign_in(&mut self) -> String {
        let mut answer = self.open().await;
        if answer.is_page("login.do") {
            answer = self.submit_password(&answer).await;
            answer = self.follow(answer).await;
        }
        if answer.is_page("totp.do") {
            answer = self.submit_code(&answer).await;
            answer = self.follow(answer).await;
        }
        answer
            .code()
            .unwrap_or_else(|| panic!("no code: {answer:?}"))
    }

    /// Redeems a code as the person's application does, from the person's own address.
    pub async fn redeem(&mut self, code: &str) -> Answer {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
        ])
        .await
    }

    /// POST to the token endpoint as the person's application, from the person's own address.
    pub async fn token(&mut self, fields: &[(&str, &str)]) -> Answer {
        let authorization = basic(&self.client, &format!("{}-secret", self.client));
        let request = self
            .request(Method::POST, &format!("{}/oauth2/token", self.prefix))
            .header("authorization", authorization)
            .form(fields);
        self.send(request).await
    }
}

/// The value of an Authorization header for HTTP Basic.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A parameter of a URL's query.
pub fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}
