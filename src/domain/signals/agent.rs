//! Who says it is knocking: the User-Agent header read into browser, system and kind of device, and what the TLS
//! handshake says to it.

use serde::Serialize;
use std::sync::LazyLock;

/// Bytes of a User-Agent that are read; the rest cannot make parsing slow.
pub const USER_AGENT_BYTES_MAX: usize = 512;

/// The kind of device that a User-Agent names.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A desktop or laptop computer.
    Computer,
    /// A telephone or tablet.
    Phone,
    /// A crawler.
    Crawler,
    /// A television, a console.
    Appliance,
    /// A program without a user: a library, a command-line tool, nothing at all.
    Program,
    /// Not recognized.
    Unknown,
}

/// What the User-Agent and the language header say. Claims, not facts.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFacts {
    /// The browser's name, such as `Chrome`; `UNKNOWN` when it was not recognized.
    pub browser: String,
    /// Its major version.
    pub version: Option<u32>,
    /// The operating system, such as `Windows 10`.
    pub os: String,
    /// The kind of device.
    pub kind: DeviceKind,
    /// The first accepted language, lower case, such as `nb-no`.
    pub language: Option<String>,
    /// Browser and major version as one text. Made here, since what was parsed is kept and hashed again and again.
    pub release: String,
    /// Operating system and kind of device as one text.
    pub platform: String,
}

/// What the TLS ClientHello shows, where TLS ends here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFingerprint {
    /// JA4 as FoxIO defines it, such as `t13d1516h2_8daaf6152771_02713d6af862`.
    pub ja4: String,
    /// Whether the hello carried GREASE values (RFC 8701), as Chromium's do.
    pub grease: bool,
}

impl DeviceKind {
    /// The kind as it is written in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Computer => "computer",
            Self::Phone => "phone",
            Self::Crawler => "crawler",
            Self::Appliance => "appliance",
            Self::Program => "program",
            Self::Unknown => "unknown",
        }
    }
}

impl AgentFacts {
    /// Reads the two headers.
    pub fn parse(user_agent: Option<&str>, accept_language: Option<&str>) -> Self {
        static PARSER: LazyLock<woothee::parser::Parser> =
            LazyLock::new(woothee::parser::Parser::new);
        let language = accept_language.and_then(first_language);
        let Some(text) = user_agent
            .map(|text| truncated(text, USER_AGENT_BYTES_MAX))
            .filter(|text| !text.trim().is_empty())
        else {
            return Self::program("none", language);
        };
        if let Some(name) = program_name(text) {
            return Self::program(name, language);
        }
        let Some(found) = PARSER.parse(text) else {
            return Self::of("UNKNOWN", None, "UNKNOWN", DeviceKind::Unknown, language);
        };
        let major = found.version.split('.').next();
        let kind = match found.category {
            "pc" => DeviceKind::Computer,
            "smartphone" | "mobilephone" => DeviceKind::Phone,
            "crawler" => DeviceKind::Crawler,
            "appliance" => DeviceKind::Appliance,
            "misc" => DeviceKind::Program,
            _ => DeviceKind::Unknown,
        };
        let version = major.and_then(|major| major.parse().ok());
        Self::of(found.name, version, found.os, kind, language)
    }

    fn of(
        browser: &str,
        version: Option<u32>,
        os: &str,
        kind: DeviceKind,
        language: Option<String>,
    ) -> Self {
        Self {
            browser: browser.to_owned(),
            version,
            os: os.to_owned(),
            kind,
            language,
            release: version.map_or_else(
                || browser.to_owned(),
                |version| format!("{browser} {version}"),
            ),
            platform: format!("{os} {}", kind.as_str()),
        }
    }

    /// Whether a program and not a person's browser speaks.
    pub fn is_scripted(&self) -> bool {
        matches!(self.kind, DeviceKind::Crawler | DeviceKind::Program)
    }

    /// Whether the ClientHello cannot come from the browser that the User-Agent names. Only what every release of the
    /// last years does is held against it: the evergreen browsers offer TLS 1.3 and HTTP/2, Chromium sends GREASE.
    pub fn contradicts(&self, tls: &TlsFingerprint) -> bool {
        let chromium = matches!(
            self.browser.as_str(),
            "Chrome" | "Edge" | "Opera" | "Vivaldi" | "Samsung Browser"
        );
        let evergreen = chromium || matches!(self.browser.as_str(), "Firefox" | "Safari");
        let modern_hello = tls.ja4.starts_with("t13") && tls.ja4.get(8..10) == Some("h2");
        evergreen && (!modern_hello || (chromium && !tls.grease))
    }

    fn program(name: &str, language: Option<String>) -> Self {
        Self::of(name, None, "none", DeviceKind::Program, language)
    }
}

/// The library or tool that a User-Agent names in its first token.
fn program_name(text: &str) -> Option<&'static str> {
    const PROGRAMS: &[(&str, &str)] = &[
        ("aiohttp", "aiohttp"),
        ("apache-httpclient", "apache-httpclient"),
        ("axios", "axios"),
        ("curl", "curl"),
        ("dart", "dart"),
        ("go-http-client", "go-http-client"),
        ("hey", "hey"),
        ("httpie", "httpie"),
        ("insomnia", "insomnia"),
        ("java", "java"),
        ("libwww-perl", "libwww-perl"),
        ("node", "node"),
        ("okhttp", "okhttp"),
        ("openid-client", "openid-client"),
        ("php", "php"),
        ("postmanruntime", "postman"),
        ("python", "python"),
        ("reqwest", "reqwest"),
        ("ruby", "ruby"),
        ("undici", "undici"),
        ("wget", "wget"),
        ("wso2", "wso2"),
    ];
    let head = text.trim_start().as_bytes();
    PROGRAMS
        .iter()
        .find(|(prefix, _)| {
            head.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        })
        .map(|(_, name)| *name)
}

/// The first tag of an Accept-Language header, if it looks like one.
fn first_language(header: &str) -> Option<String> {
    const TAG_BYTES_MAX: usize = 16;
    let tag = header.split([',', ';']).next()?.trim();
    let plausible = (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plausible.then(|| tag.to_ascii_lowercase())
}

fn truncated(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

    #[test]
    fn browsers_are_recognized() {
        let chrome = AgentFacts::parse(Some(CHROME), Some("nb-NO,nb;q=0.9,en;q=0.8"));
        assert_eq!(
            (chrome.browser.as_str(), chrome.version, chrome.kind),
            ("Chrome", Some(142), DeviceKind::Computer)
        );
        assert_eq!(chrome.language.as_deref(), Some("nb-no"));
        let iphone = AgentFacts::parse(Some(IPHONE), None);
        assert_eq!(
            (iphone.browser.as_str(), iphone.kind),
            ("Safari", DeviceKind::Phone)
        );
        assert!(!chrome.is_scripted() && !iphone.is_scripted());
    }

    #[test]
    fn programs_are_recognized() {
        for text in [
            None,
            Some(""),
            Some("curl/8.5.0"),
            Some("python-requests/2.32"),
            Some("Go-http-client/1.1"),
            Some("Java/17.0.2"),
        ] {
            assert!(AgentFacts::parse(text, None).is_scripted(), "{text:?}");
        }
    }

    #[test]
    fn monsters_are_cut_and_never_panic() {
        let long = "(".repeat(100_000);
        let umlauts = "ä".repeat(10_000);
        for text in [
            long.as_str(),
            umlauts.as_str(),
            "\u{0}\u{1f600}",
            "Mozilla/5.0 ((((((((((",
        ] {
            let facts = AgentFacts::parse(Some(text), Some(text));
            assert!(facts.release.len() < 200);
        }
    }

    #[test]
    fn a_hello_without_grease_is_not_chrome() {
        let chrome = AgentFacts::parse(Some(CHROME), None);
        let hello = |ja4: &str, grease| TlsFingerprint {
            ja4: ja4.to_owned(),
            grease,
        };
        assert!(!chrome.contradicts(&hello("t13d1516h2_8daaf6152771_02713d6af862", true)));
        assert!(chrome.contradicts(&hello("t13d1516h2_8daaf6152771_02713d6af862", false)));
        assert!(chrome.contradicts(&hello("t12d1516h1_8daaf6152771_02713d6af862", true)));
        assert!(
            !AgentFacts::parse(Some("curl/8"), None).contradicts(&hello("t12d100000_0_0", false))
        );
    }
}
