//! WSO2's authenticators by their names: what each asks for, and what it reads of a login form. What nobody reads proves
//! nothing, whatever the next page is.

/// The authenticators of the identity server itself have no other provider.
const LOCAL: &str = "LOCAL";

/// The one that asks for the name alone.
const IDENTIFIER: &str = "IdentifierExecutor";

/// Those that read no password. One that is not known here may read it.
const WITHOUT_PASSWORD: [&str; 10] = [
    "backup-code-authenticator",
    "email-otp-authenticator",
    "EmailOTP",
    "FIDOAuthenticator",
    IDENTIFIER,
    "MagicLinkAuthenticator",
    "push-notification-authenticator",
    "sms-otp-authenticator",
    "SMSOTP",
    "totp",
];

/// Those that read no factor beyond the password.
const WITHOUT_FACTOR: [&str; 2] = ["BasicAuthenticator", IDENTIFIER];

/// What a step of a login does not read. In doubt it reads everything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unread {
    /// The password.
    pub password: bool,
    /// A factor beyond the password.
    pub factor: bool,
}

impl Unread {
    /// What one of the identity server's own authenticators does not read.
    pub fn by(authenticator: &str) -> Self {
        // The framework compares without case.
        let is_among = |names: &[&str]| {
            names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(authenticator))
        };
        Self {
            password: is_among(&WITHOUT_PASSWORD),
            factor: is_among(&WITHOUT_FACTOR),
        }
    }

    /// What a step does not read whose page offers `options`, as WSO2 tells its pages: `name:provider:provider;name`.
    pub fn at(options: &str) -> Self {
        let mut offers_any = false;
        let mut all = Self {
            password: true,
            factor: true,
        };
        let mut asks_name = false;
        for option in options.split(';').filter(|option| !option.is_empty()) {
            let unread = of_option(option);
            offers_any = true;
            all.password &= unread.password;
            all.factor &= unread.factor;
            asks_name |= option.split(':').next() == Some(IDENTIFIER);
        }
        // Where a name is asked for, other options are read once they were picked.
        all.factor |= asks_name && all.password;
        if offers_any { all } else { Self::default() }
    }
}

fn of_option(option: &str) -> Unread {
    let (name, providers) = option.split_once(':').unwrap_or((option, LOCAL));
    // Another provider asks on pages of its own.
    if providers.split(':').all(|provider| provider != LOCAL) {
        return Unread {
            password: true,
            factor: true,
        };
    }
    Unread::by(name)
}

/// Whether an authenticator, by its name, asks for a username or a password: where it is offered, neither has been accepted.
/// Others than WSO2's own are called after what they do.
pub fn asks_who(authenticator: &str) -> bool {
    let name = authenticator.to_ascii_lowercase();
    ["basic", "identifier", "password"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_what_any_of_its_options_may_read() {
        for (options, password, factor) in [
            ("", false, false),
            (";", false, false),
            ("IdentifierExecutor:LOCAL", true, true),
            ("identifierexecutor", true, true),
            (
                "IdentifierExecutor:LOCAL;GoogleOIDCAuthenticator:google",
                true,
                true,
            ),
            ("BasicAuthenticator:LOCAL", false, true),
            (
                "BasicAuthenticator:LOCAL;FIDOAuthenticator:LOCAL",
                false,
                false,
            ),
            ("totp", true, false),
            ("totp:LOCAL;FIDOAuthenticator:LOCAL", true, false),
            ("SAMLSSOAuthenticator:one:two", true, true),
            ("SAMLSSOAuthenticator:one;totp:LOCAL", true, false),
            (
                "IdentifierExecutor:LOCAL;FIDOAuthenticator:LOCAL",
                true,
                true,
            ),
            // Somebody's own may read anything.
            ("OurAuthenticator:LOCAL", false, false),
            ("OurAuthenticator:one:LOCAL", false, false),
            (
                "IdentifierExecutor:LOCAL;OurAuthenticator:LOCAL",
                false,
                false,
            ),
        ] {
            assert_eq!(
                Unread::at(options),
                Unread { password, factor },
                "{options}"
            );
        }
    }
}
