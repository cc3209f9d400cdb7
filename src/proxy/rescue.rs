//! The one table from failures to answers.

use crate::domain::fault::Fault;
use crate::domain::outcome::AuthOutcome;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::flow::permit::ForwardPermit;
use crate::proxy::answer::Answer;
use crate::proxy::body;
use crate::proxy::context::RequestContext;
use crate::telemetry::remedy;
use crate::telemetry::remedy::Side;
use pingora::Error;
use pingora::ErrorSource;
use pingora::ErrorType;
use pingora::proxy::FailToProxy;
use pingora::proxy::Session;

/// The name in metrics of what goes wrong in or right after a handshake.
const TLS: &str = "tls";

/// What another side says when it ends a TLS connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Alert {
    /// It is about our certificate, or that there was none.
    OurCertificate,
    /// It is about something else.
    Other,
}

impl Alert {
    /// In the words of rustls. With TLS 1.3 it may come only in place of the first answer.
    fn of(fault: Fault, cause: &str) -> Option<Self> {
        const RECEIVED: &str = "received fatal alert: ";
        let (_, alert) = cause
            .split_once(RECEIVED)
            .filter(|_| fault == Fault::Upstream)?;
        let ours = ["Certificate", "UnknownCA", "AccessDenied"];
        Some(if ours.iter().any(|word| alert.contains(word)) {
            Self::OurCertificate
        } else {
            Self::Other
        })
    }
}

/// Answers a request that could not be served, or whose answer is replaced.
pub async fn rescue(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    error: &Error,
) -> FailToProxy {
    if let Some(answer) = context.replacement.take() {
        return replace(session, answer).await;
    }
    let (fault, status, mut kind) = sort(error);
    // Pingora's own lines are switched off: they carry the whole target. The cause alone says what an operator needs.
    let cause = cause(error, kind);
    let alert = Alert::of(fault, &cause);
    if alert.is_some() {
        kind = TLS;
    }
    if fault == Fault::Upstream {
        flow.dependencies().metrics.upstream_error(kind);
    }
    let (door, reference) = context
        .exchange
        .as_ref()
        .map_or((None, String::new()), |exchange| {
            (exchange.door, exchange.id.to_string())
        });
    if let Some(exchange) = context.exchange.as_mut() {
        exchange.failure = Some(kind);
        exchange.outcome = match fault {
            Fault::Upstream => AuthOutcome::UpstreamError,
            Fault::Client => AuthOutcome::Abandoned,
            Fault::Dependency | Fault::Ours => exchange.outcome,
        };
    }
    match fault {
        Fault::Client => {}
        Fault::Upstream | Fault::Dependency if alert == Some(Alert::OurCertificate) => {
            tracing::warn!(
                kind, request.id = %reference, cause = %cause,
                "an upstream refused the connection: it asks for a client certificate, or does not take the one that it was shown"
            );
        }
        Fault::Upstream | Fault::Dependency => {
            let remedy = remedy::of_tls(&cause, side(context));
            tracing::warn!(kind, request.id = %reference, error = %error.etype().as_str(), cause = %cause, remedy, "an upstream failed");
        }
        Fault::Ours => {
            tracing::error!(kind, request.id = %reference, error = %error.etype().as_str(), cause = %cause, "a request could not be served");
        }
    }
    if status > 0 && session.response_written().is_none() {
        let is_visit = context.exchange.as_ref().is_some_and(Exchange::is_visit);
        let answer = if is_visit {
            Answer::service_failure(status, &reference)
        } else {
            Answer::upstream_failure(status, door, &reference)
        };
        if answer.write(session).await.is_err() {
            tracing::debug!("the client was gone before the error could be written");
        }
    }
    FailToProxy {
        error_code: status,
        can_reuse_downstream: false,
    }
}

/// Answers a request for which its upstream has no room: as many are under way as it takes.
pub async fn full(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
) -> pingora::Result<()> {
    const FULL: &str = "full";
    const STATUS: u16 = 503;
    flow.dependencies().metrics.upstream_error(FULL);
    let Some(exchange) = context.exchange.as_mut() else {
        return Error::e_explain(ErrorType::InternalError, "a request without an exchange");
    };
    exchange.failure = Some(FULL);
    exchange.outcome = AuthOutcome::UpstreamError;
    let reference = exchange.id.as_str();
    let answer = if exchange.is_visit() {
        Answer::service_failure(STATUS, reference)
    } else {
        Answer::upstream_failure(STATUS, exchange.door, reference)
    };
    answer.write(session).await
}

/// Writes an answer in place of the identity server's.
async fn replace(session: &mut Session, answer: Answer) -> FailToProxy {
    let status = answer.status();
    if answer.write(session).await.is_err() {
        tracing::debug!("the client was gone before the answer could be written");
    }
    FailToProxy {
        error_code: status,
        can_reuse_downstream: false,
    }
}

/// Where the request was to go.
fn side(context: &RequestContext) -> Side {
    let exchange = context.exchange.as_ref();
    let permit = exchange.and_then(|exchange| exchange.permit.as_ref());
    match permit.and_then(ForwardPermit::resource) {
        Some(_) => Side::Service,
        None => Side::IdentityServer,
    }
}

/// Why it failed. Of a handshake the cause is in the context alone, which names nothing but the upstream.
fn cause(error: &Error, kind: &str) -> String {
    let cause = error.cause.as_ref().map(ToString::to_string);
    let context = error.context.as_ref().filter(|_| kind == TLS);
    let context = context.map(|context| context.as_str().to_owned());
    let parts: Vec<String> = context.into_iter().chain(cause).collect();
    parts.join(": ")
}

/// Whose fault an error is, which status it gives and its name in metrics.
fn sort(error: &Error) -> (Fault, u16, &'static str) {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(408)) => (Fault::Client, 408, body::TOO_SLOW),
        (_, ErrorType::HTTPStatus(status)) if *status < 500 => (Fault::Client, *status, "request"),
        (_, ErrorType::HTTPStatus(status)) => (Fault::Ours, *status, "internal"),
        (ErrorSource::Upstream, ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout) => {
            (Fault::Upstream, 502, "connect_timeout")
        }
        (ErrorSource::Upstream, ErrorType::ConnectRefused) => {
            (Fault::Upstream, 502, "connect_refused")
        }
        (
            ErrorSource::Upstream,
            ErrorType::TLSHandshakeFailure
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
            | ErrorType::TLSWantX509Lookup,
        ) => (Fault::Upstream, 502, TLS),
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            (Fault::Upstream, 504, "timeout")
        }
        (ErrorSource::Upstream, ErrorType::ConnectionClosed) => (Fault::Upstream, 502, "closed"),
        (ErrorSource::Upstream, _) => (Fault::Upstream, 502, "other"),
        (
            ErrorSource::Downstream,
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed,
        ) => (Fault::Client, 0, "aborted"),
        (ErrorSource::Downstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            (Fault::Client, 0, "aborted")
        }
        (ErrorSource::Downstream, _) => (Fault::Client, 400, "request"),
        (ErrorSource::Internal | ErrorSource::Unset, _) => (Fault::Ours, 500, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;
    use rustls::CertificateError;
    use rustls::InvalidMessage;

    #[test]
    fn a_certificate_that_is_not_taken_leads_to_the_key() {
        let side = Side::IdentityServer;
        for (error, expected) in [
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "in upstream.ca_file",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidForName),
                "the host of upstream.url",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::Expired),
                "has ended",
            ),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "expected http:// in upstream.url",
            ),
        ] {
            let cause = format!("TLS connect() failed: {error}, SNI: localhost");
            let found = remedy::of_tls(&cause, side).unwrap_or_else(|| panic!("{cause}"));
            assert!(found.contains(expected), "{cause}: {found}");
        }
        // What another side says of ours is told elsewhere.
        let said = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        assert_eq!(remedy::of_tls(&said.to_string(), side), None);
    }

    #[test]
    fn alerts_about_our_certificate_are_told_from_others() {
        let said = |alert| rustls::Error::AlertReceived(alert).to_string();
        for alert in [
            AlertDescription::AccessDenied,
            AlertDescription::BadCertificate,
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateRequired,
            AlertDescription::CertificateUnknown,
            AlertDescription::UnknownCA,
        ] {
            let found = Alert::of(Fault::Upstream, &said(alert));
            assert_eq!(found, Some(Alert::OurCertificate), "{alert:?}");
            assert_eq!(Alert::of(Fault::Client, &said(alert)), None);
        }
        let other = said(AlertDescription::ProtocolVersion);
        let within = format!("TLS connect() failed: {other}, SNI: localhost");
        assert_eq!(Alert::of(Fault::Upstream, &within), Some(Alert::Other));
        assert_eq!(Alert::of(Fault::Upstream, "connection reset"), None);
    }
}
