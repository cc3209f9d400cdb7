//! What mends a TLS connection of ours that has failed, in the words of the configuration. Reads what rustls says of it, and
//! has nothing to say of what it does not know.

/// To whom the connection was to lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// `[upstream]`.
    IdentityServer,
    /// A `[[resource]]`.
    Service,
}

impl Side {
    fn address(self) -> &'static str {
        match self {
            Self::IdentityServer => "upstream.url",
            Self::Service => "resource.upstream",
        }
    }

    fn authority(self) -> &'static str {
        match self {
            Self::IdentityServer => "upstream.ca_file",
            Self::Service => "resource.ca_file",
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
    } else if says(&["UnknownIssuer"]) {
        Some(format!(
            "name the authority that issued its certificate in {authority}"
        ))
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
        Some(format!(
            "it speaks no TLS at this port: expected http:// in {address}, or the port where it does"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_key_is_that_of_the_side() {
        let cause = "invalid peer certificate: UnknownIssuer";
        for (side, key) in [
            (Side::IdentityServer, "upstream.ca_file"),
            (Side::Service, "resource.ca_file"),
        ] {
            assert!(of_tls(cause, side).unwrap().ends_with(key));
        }
    }
}
