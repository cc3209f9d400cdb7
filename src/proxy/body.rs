//! Reads the body of a request on a scored door: bounded in size and time, and kept by Pingora for replay.

use crate::flow::error::Refusal;
use bytes::Bytes;
use pingora::proxy::Session;
use std::time::Duration;

/// The longest body on a scored door: what Pingora keeps for replay. Beyond it nothing would be forwarded at all.
pub const BODY_BYTES_MAX: usize = 65_536;

/// In records, and to the client, of a body that does not come in its time.
pub const TOO_SLOW: &str = "body_timeout";

/// Reads the whole body, or says why not.
pub async fn read(session: &mut Session, deadline: Duration) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::closing(413, "body_size", "the body is larger than 65,536 bytes");
    let broken_off =
        || Refusal::closing(400, "body_aborted", "the body could not be read to its end");
    let length = session
        .req_header()
        .headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if length
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length > BODY_BYTES_MAX as u64)
    {
        return Err(too_large());
    }
    // HTTP/1.0 knows no answer before the answer.
    let head = session.req_header();
    let expects = head.headers.contains_key(http::header::EXPECT);
    if expects
        && head.version > http::Version::HTTP_10
        && session
            .as_downstream_mut()
            .write_continue_response()
            .await
            .is_err()
    {
        return Err(Refusal::closing(
            400,
            "body_aborted",
            "the client went away",
        ));
    }
    // Without this, before the first read, the body would be gone for the identity server.
    session.as_downstream_mut().enable_retry_buffering();
    let all = async {
        let mut length = 0;
        while let Some(chunk) = session
            .as_downstream_mut()
            .read_request_body()
            .await
            .map_err(|_| broken_off())?
        {
            length += chunk.len();
            if length > BODY_BYTES_MAX {
                return Err(too_large());
            }
        }
        // What Pingora keeps is enough: a copy of our own would take as much for each client that is slow. There is none
        // where nothing came.
        let kept = session.as_downstream_mut().get_retry_buffer();
        let kept = kept.unwrap_or_default();
        if kept.len() == length {
            Ok(kept)
        } else {
            Err(broken_off())
        }
    };
    tokio::time::timeout(deadline, all)
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::closing(
                408,
                TOO_SLOW,
                "the body did not arrive in time",
            ))
        })
}
