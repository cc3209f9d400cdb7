//! A browser without a screen, for drivers: it keeps cookies as browsers do on loopback (a `Secure` cookie works there over plain
//! HTTP too), follows no redirect by itself, and can go through a whole login.

use anyhow::Context as _;
use anyhow::bail;
use reqwest::Method;
use reqwest::Url;

/// Redirects that [`Browser::follow`] goes along at most.
const HOPS_MAX: usize = 15;
/// Cookies kept at most.
const COOKIES_MAX: usize = 200;

/// An answer as the browser got it.
#[derive(Clone, Debug)]
pub struct Page {
    /// URL that was asked.
    pub url: Url,
    /// HTTP status.
    pub status: u16,
    /// Response headers in order.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
}

impl Page {
    /// First value of a response header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The absolute URL that a redirect leads to.
    pub fn location(&self) -> Option<Url> {
        self.url.join(self.header("location")?).ok()
    }

    /// A parameter of the redirect's query, or of its fragment.
    pub fn location_param(&self, name: &str) -> Option<String> {
        param(&self.location()?, name)
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
struct Cookie {
    host: String,
    path: String,
    name: String,
    value: String,
}

/// A cookie jar, an HTTP client, and headers sent with every request.
#[derive(Clone, Debug)]
pub struct Browser {
    http: reqwest::Client,
    cookies: Vec<Cookie>,
    /// Headers sent with every request, such as `User-Agent`.
    pub headers: Vec<(String, String)>,
}

impl Browser {
    /// A browser that trusts the given certificate authorities (PEM); empty strings are skipped.
    ///
    /// # Errors
    ///
    /// A certificate cannot be read.
    pub fn new(ca_pems: &[&str]) -> anyhow::Result<Self> {
        // A provider that is installed already serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let certificates: Vec<reqwest::Certificate> = ca_pems
            .iter()
            .filter(|pem| !pem.is_empty())
            .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()))
            .collect::<Result<_, _>>()?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(certificates)
            .build()?;
        Ok(Self {
            http,
            cookies: Vec::new(),
            headers: Vec::new(),
        })
    }

    /// The value of a cookie, whatever its path.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies
            .iter()
            .find(|cookie| cookie.name == name)
            .map(|cookie| cookie.value.as_str())
    }

    /// Forgets every cookie.
    pub fn clear_cookies(&mut self) {
        self.cookies.clear();
    }

    /// GET without following redirects.
    ///
    /// # Errors
    ///
    /// The URL is none, or the server cannot be reached.
    pub async fn get(&mut self, url: &str) -> anyhow::Result<Page> {
        self.send(Method::GET, url, None).await
    }

    /// POST of a form without following redirects.
    ///
    /// # Errors
    ///
    /// The URL is none, or the server cannot be reached.
    pub async fn post_form(&mut self, url: &str, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let body = (body, "application/x-www-form-urlencoded");
        self.send(Method::POST, url, Some(body)).await
    }

    /// POST of a JSON document without following redirects.
    ///
    /// # Errors
    ///
    /// The URL is none, or the server cannot be reached.
    pub async fn post_json(&mut self, url: &str, body: &serde_json::Value) -> anyhow::Result<Page> {
        let body = (body.to_string(), "application/json");
        self.send(Method::POST, url, Some(body)).await
    }

    /// Follows redirects until a page, or until one leads to where `stops_at` says; that redirect is then returned.
    ///
    /// # Errors
    ///
    /// Too many redirects, or the server cannot be reached.
    pub async fn follow(&mut self, mut page: Page, stops_at: &str) -> anyhow::Result<Page> {
        for _ in 0..HOPS_MAX {
            let Some(location) = page
                .location()
                .filter(|_| (300..400).contains(&page.status))
            else {
                return Ok(page);
            };
            if location.as_str().starts_with(stops_at) {
                return Ok(page);
            }
            page = self.get(location.as_str()).await?;
        }
        bail!("more than {HOPS_MAX} redirects")
    }

    /// A whole login: authorize, password, one-time code where asked. Returns the last answer: the redirect to `redirect_uri`,
    /// or the page on which the login stopped. `totp` makes the code when it is needed.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or redirects in circles.
    pub async fn login(
        &mut self,
        authorize_url: &str,
        redirect_uri: &str,
        username: &str,
        password: &str,
        totp: Option<&(dyn Fn() -> String + Send + Sync)>,
    ) -> anyhow::Result<Page> {
        let first = self.get(authorize_url).await?;
        let mut page = self.follow(first, redirect_uri).await?;
        if page.url.path().ends_with("/login.do") {
            page = self.submit_password(&page, username, password).await?;
            page = self.follow(page, redirect_uri).await?;
        }
        if page.url.path().ends_with("/totp.do")
            && let Some(totp) = totp
        {
            let code = totp();
            page = self.submit_code(&page, &code).await?;
            page = self.follow(page, redirect_uri).await?;
        }
        Ok(page)
    }

    /// Sends the form of a login page.
    ///
    /// # Errors
    ///
    /// The page has no login, or the server cannot be reached.
    pub async fn submit_password(
        &mut self,
        page: &Page,
        username: &str,
        password: &str,
    ) -> anyhow::Result<Page> {
        let key = param(&page.url, "sessionDataKey").context("the page has no sessionDataKey")?;
        let action = page.url.join("../commonauth")?;
        let fields = [
            ("usernameUserInput", username),
            ("username", username),
            ("password", password),
            ("sessionDataKey", &key),
        ];
        self.post_form(action.as_str(), &fields).await
    }

    /// Sends the form of a one-time code page.
    ///
    /// # Errors
    ///
    /// The page has no login, or the server cannot be reached.
    pub async fn submit_code(&mut self, page: &Page, code: &str) -> anyhow::Result<Page> {
        let key = param(&page.url, "sessionDataKey").context("the page has no sessionDataKey")?;
        let action = page.url.join("../commonauth")?;
        let fields = [("token", code), ("sessionDataKey", &key)];
        self.post_form(action.as_str(), &fields).await
    }

    async fn send(
        &mut self,
        method: Method,
        url: &str,
        body: Option<(String, &str)>,
    ) -> anyhow::Result<Page> {
        let url = Url::parse(url).with_context(|| format!("`{url}` is no URL"))?;
        let mut request = self.http.request(method, url.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let cookies = self.cookies_for(&url);
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        if let Some((body, media_type)) = body {
            request = request.header("content-type", media_type).body(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        for (name, value) in &headers {
            if name == "set-cookie" {
                self.keep(&url, value);
            }
        }
        Ok(Page {
            url,
            status,
            headers,
            body: response.text().await?,
        })
    }

    fn cookies_for(&self, url: &Url) -> String {
        let host = url.host_str().unwrap_or_default();
        self.cookies
            .iter()
            .filter(|cookie| cookie.host == host && is_under(url.path(), &cookie.path))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn keep(&mut self, url: &Url, header: &str) {
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let mut path = "/".to_owned();
        let mut is_removal = value.is_empty();
        for attribute in parts {
            match attribute.split_once('=') {
                Some((key, text)) if key.eq_ignore_ascii_case("path") => path = text.to_owned(),
                Some((key, "0")) if key.eq_ignore_ascii_case("max-age") => is_removal = true,
                _ => {}
            }
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        self.cookies
            .retain(|cookie| !(cookie.host == host && cookie.path == path && cookie.name == name));
        if !is_removal && self.cookies.len() < COOKIES_MAX {
            self.cookies.push(Cookie {
                host,
                path,
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
    }
}

/// A parameter of a URL's query, or of its fragment.
pub fn param(url: &Url, name: &str) -> Option<String> {
    let find = |text: &str| {
        form_urlencoded::parse(text.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    };
    url.query()
        .and_then(find)
        .or_else(|| url.fragment().and_then(find))
}

/// Path match of RFC 6265 section 5.1.4.
fn is_under(path: &str, cookie_path: &str) -> bool {
    path == cookie_path
        || path
            .strip_prefix(cookie_path)
            .is_some_and(|rest| cookie_path.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_follow_their_path() {
        let mut browser = Browser::new(&[]).unwrap();
        let url = Url::parse("http://127.0.0.1:1/t/example.com/oauth2/authorize").unwrap();
        browser.keep(&url, "a=1; Path=/t/example.com/; Secure");
        browser.keep(&url, "b=2; Path=/other");
        assert_eq!(browser.cookies_for(&url), "a=1");
        browser.keep(&url, "a=; Path=/t/example.com/; Max-Age=0");
        assert_eq!(browser.cookies_for(&url), "");
        assert_eq!(browser.cookie("b"), Some("2"));
    }
}
