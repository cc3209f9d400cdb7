//! What mends a TLS connection of ours that has failed, in the words of the configuration: everything of ours that tells of
//! such a failure takes its words from here. Reads what rustls says of it, and has nothing to say of what it does not know.

/// To whom the connection was to lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// `[upstream]`.
    IdentityServer,
    /// The Redis of the state.
    Redis,
    /// That which a copy of the state is read from.
    RedisFrom,
    /// That which it is written to.
    RedisTo,
    /// That of `[audit.stream]`.
    RedisStream,
    /// A `[[resource]]`.
    Service,
}

impl Side {
    fn address(self) -> &'static str {
        match self {
            Self::IdentityServer => "upstream.url",
            Self::Redis => "state.url",
            Self::RedisFrom => "--from",
            Self::RedisTo => "--to",
            Self::RedisStream => "audit.stream.url",
            Self::Service => "resource.upstream",
        }
    }

    fn authority(self) -> &'static str {
        match self {
            Self::IdentityServer => "upstream.ca_file",
            Self::Redis | Self::RedisFrom | Self::RedisTo => "state.redis_ca_file",
            Self::RedisStream => "audit.stream.ca_file",
            Self::Service => "resource.ca_file",
        }
    }

    /// The keys of the certificate that is shown to it; none of ours is shown to Redis.
    fn own(self) -> Option<&'static str> {
        match self {
            Self::IdentityServer => Some("upstream.client_certificate and upstream.client_key"),
            Self::Service => Some("resource.client_certificate and resource.client_key"),
            Self::Redis | Self::RedisFrom | Self::RedisStream | Self::RedisTo => None,
        }
    }
}

/// What to do about a failure of this cause.
pub fn of_tls(cause: &str, side: Side) -> Option<String> {
    let (address, authority) = (side.address(), side.authority());
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if says(&["received fatal alert"]) {
        // The other side's word about us, which may name the same things.
        None
    } else if says(&["UnknownIssuer", "BadSignature"]) {
        // An authority that was made anew under the same name has another key.
        Some(format!(
            "name the authority that issued its certificate in {authority}"
        ))
    } else if says(&["CaUsedAsEndEntity"]) {
        // What `openssl req -x509` makes unless it is told otherwise.
        Some(
            "it shows an authority's own certificate (CA:TRUE): expected one that an authority has issued, or a self-signed \
             one with `basicConstraints=CA:FALSE`"
                .to_owned(),
        )
    } else if says(&["not valid for name", "NotValidForName"]) {
        Some(format!(
            "its certificate is for another name: expected a certificate for the host of {address}, or a host that it is for"
        ))
    } else if says(&[
        "certificate expired",
        "Expired",
        "NotValidYet",
        "not valid yet",
    ]) {
        Some(
            "its certificate has ended or is not valid yet: renew it there, or set the clock right"
                .to_owned(),
        )
    } else if says(&["InvalidContentType"]) {
        Some(without_tls(side))
    } else {
        None
    }
}

/// What to do about a server that speaks no TLS.
pub fn without_tls(side: Side) -> String {
    let address = side.address();
    match side {
        Side::IdentityServer | Side::Service => format!(
            "it speaks no TLS at this port: expected http:// in {address}, or the port where it does"
        ),
        Side::Redis | Side::RedisFrom | Side::RedisStream | Side::RedisTo => format!(
            "the server there speaks no TLS: expected redis:// in place of rediss:// in {address}, no `tls=true`, or the \
             server's `tls-port`"
        ),
    }
}

/// What to do where a server ends a connection without TLS at once, as one with TLS does.
pub fn with_tls(side: Side) -> String {
    let address = side.address();
    match side {
        Side::IdentityServer | Side::Service => {
            format!("if it speaks TLS, it needs https:// in {address}")
        }
        Side::Redis | Side::RedisFrom | Side::RedisStream | Side::RedisTo => {
            format!("if it speaks TLS, it needs rediss:// or `tls=true` in {address}")
        }
    }
}

/// What to do where Redis does not take what we show.
pub fn of_credentials(cause: &str, side: Side) -> Option<String> {
    let address = side.address();
    if cause.contains("NOAUTH") {
        Some(format!(
            "expected its user and password in {address}, as in redis://USER:PASSWORD@HOST:PORT"
        ))
    } else if cause.contains("WRONGPASS") || cause.contains("Password authentication failed") {
        Some(format!(
            "expected in {address} a user and password that the server knows (`ACL LIST` there)"
        ))
    } else {
        None
    }
}

/// What to do about a server that refuses us, who have shown it a certificate or not.
pub fn of_alert(side: Side, is_shown: bool) -> Option<String> {
    let keys = side.own()?;
    Some(if is_shown {
        format!("it may not take what {keys} name: does it know the authority of that certificate?")
    } else {
        format!("where it asks for a client certificate, set {keys}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: [Side; 6] = [
        Side::IdentityServer,
        Side::Redis,
        Side::RedisFrom,
        Side::RedisTo,
        Side::RedisStream,
        Side::Service,
    ];

    #[test]
    fn what_is_not_known_has_no_remedy() {
        let side = Side::IdentityServer;
        assert_eq!(of_tls("connection reset by peer", side), None);
        assert_eq!(of_tls("", side), None);
    }

    #[test]
    fn what_the_other_side_says_of_us_is_not_said_of_it() {
        let cause = "received fatal alert: CertificateExpired";
        assert_eq!(of_tls(cause, Side::IdentityServer), None);
    }

    #[test]
    fn a_certificate_of_an_authority_is_called_so() {
        let cause = "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))";
        let said = of_tls(cause, Side::IdentityServer).unwrap();
        assert!(said.contains("CA:FALSE"), "{said}");
    }

    #[test]
    fn what_is_shown_to_redis_leads_to_its_url() {
        for cause in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "Password authentication failed - AuthenticationFailed",
        ] {
            let said = of_credentials(cause, Side::Redis).unwrap();
            assert!(said.contains("state.url"), "{said}");
        }
        assert_eq!(of_credentials("Connection refused", Side::Redis), None);
    }

    #[test]
    fn the_key_is_that_of_the_side() {
        for side in SIDES {
            let of = |cause| of_tls(cause, side).unwrap();
            assert!(of("invalid peer certificate: UnknownIssuer").ends_with(side.authority()));
            assert!(of("invalid peer certificate: BadSignature").ends_with(side.authority()));
            for said in [
                of("invalid peer certificate: NotValidForName"),
                of("received corrupt message of type InvalidContentType"),
                without_tls(side),
                with_tls(side),
            ] {
                assert!(said.contains(side.address()), "{said}");
            }
            for is_shown in [true, false] {
                let said = of_alert(side, is_shown);
                let is_right = said.as_ref().zip(side.own());
                assert_eq!(said.is_some(), side.own().is_some());
                assert!(is_right.is_none_or(|(said, keys)| said.contains(keys)));
            }
        }
    }
}
