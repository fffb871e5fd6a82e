//! Why an address did not pass a check.

use std::io::{self, ErrorKind};

use tokio_rustls::rustls::{CertificateError, Error as TlsError};

/// Text from a library or from the other side is cut to this many characters.
const MAX_WORDS: usize = 200;

/// Why an address did not pass. Each variant reads as a sentence whose subject is the address, for a status;
/// nothing of an answer's body is ever in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing listens on the port.
    #[error("refused the connection")]
    Refused,
    /// The check's timeout passed, or the kernel gave up connecting.
    #[error("gave no answer in time")]
    TimedOut,
    /// The network or this machine did not let the connection come about, or broke it.
    #[error("could not be reached: {0}")]
    Unreachable(ErrorKind),
    /// The other side ended the connection before its answer was complete.
    #[error("closed the connection before it answered")]
    Closed,
    /// TLS failed, and why. Nothing of a certificate is in it: who may write a check must not learn from it which names the
    /// servers of others have.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The answer is no HTTP/1 answer, or its head is longer than 16 KiB.
    #[error("did not answer in HTTP/1.1, or its response head was too long")]
    NotHttp,
    /// The HTTP status is not an expected one; for gRPC, any but 200.
    #[error("answered with status {0}")]
    Status(u16),
    /// The gRPC call ended with a status other than OK.
    #[error("answered with gRPC status {0} ({name})", name = grpc_status_name(*.0))]
    GrpcStatus(u32),
    /// The health service reports another state than SERVING: `UNKNOWN`, `NOT_SERVING` or `SERVICE_UNKNOWN`.
    #[error("reports {0} through the gRPC health service")]
    NotServing(&'static str),
    /// The answer breaks the rules of HTTP/2, of gRPC, or of the health protocol.
    #[error("did not answer as a gRPC health service")]
    NotGrpc,
    /// The check itself is at fault: the named part of it is not valid. Nothing was sent.
    #[error("was not checked: the {0} of the check is not valid; correct it")]
    Unsendable(&'static str),
}

impl Failure {
    /// The variant's name, as a reason and a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::TimedOut => "TimedOut",
            Self::Unreachable(_) => "Unreachable",
            Self::Closed => "Closed",
            Self::Tls(_) => "Tls",
            Self::NotHttp => "NotHttp",
            Self::Status(_) => "Status",
            Self::GrpcStatus(_) => "GrpcStatus",
            Self::NotServing(_) => "NotServing",
            Self::NotGrpc => "NotGrpc",
            Self::Unsendable(_) => "Unsendable",
        }
    }

    pub(crate) fn from_io(error: io::Error) -> Self {
        Self::of_io(&error)
    }

    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Self::Closed,
            // No socket gives this kind: it is how tokio-rustls wraps rustls' errors, also after the handshake.
            ErrorKind::InvalidData => Self::Tls(tls(error)),
            kind => Self::Unreachable(kind),
        }
    }
}

/// Why TLS failed, without what the other side has sent but for the number of an alert.
fn tls(error: &io::Error) -> String {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    let why = match error {
        Some(TlsError::InvalidCertificate(error)) => certificate(error),
        Some(TlsError::AlertReceived(alert)) => return format!("the server sent the alert {alert:?}"),
        Some(TlsError::InvalidMessage(_)) => "the server did not answer in TLS",
        Some(TlsError::NoApplicationProtocol) => "the server does not speak the protocol of the check",
        Some(TlsError::PeerIncompatible(_)) => {
            "the server supports no version of TLS 1.2 or 1.3 of the check"
        }
        _ => "the handshake failed",
    };
    why.to_owned()
}

fn certificate(error: &CertificateError) -> &'static str {
    use CertificateError as Error;
    match error {
        Error::Expired | Error::ExpiredContext { .. } => "the certificate has expired",
        Error::NotValidYet | Error::NotValidYetContext { .. } => "the certificate is not valid yet",
        Error::NotValidForName | Error::NotValidForNameContext { .. } => {
            "the certificate is not valid for the name or address that is checked"
        }
        Error::UnknownIssuer => "the certificate is from an unknown issuer",
        Error::BadSignature => "the certificate is not signed by the key of the trusted issuer of that name",
        Error::Revoked => "the certificate is revoked",
        _ => "the certificate cannot be verified",
    }
}

/// `words` as one line of at most 200 characters, fit for a status.
pub(crate) fn bounded(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}

/// Names of <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
fn grpc_status_name(code: u32) -> &'static str {
    match code {
        0 => "OK",
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => "unknown code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_reads_as_what_the_address_did() {
        let table = [
            (Failure::Refused, "refused the connection"),
            (Failure::TimedOut, "gave no answer in time"),
            (Failure::Unreachable(ErrorKind::HostUnreachable), "could not be reached: host unreachable"),
            (Failure::Status(503), "answered with status 503"),
            (Failure::GrpcStatus(12), "answered with gRPC status 12 (UNIMPLEMENTED)"),
            (Failure::GrpcStatus(99), "answered with gRPC status 99 (unknown code)"),
            (Failure::NotServing("NOT_SERVING"), "reports NOT_SERVING through the gRPC health service"),
            (Failure::Unsendable("path"), "was not checked: the path of the check is not valid; correct it"),
        ];
        for (failure, sentence) in table {
            assert_eq!(failure.to_string(), sentence);
        }
    }

    #[test]
    fn the_reason_is_the_name_of_the_variant() {
        for failure in [
            Failure::Refused,
            Failure::TimedOut,
            Failure::Unreachable(ErrorKind::HostUnreachable),
            Failure::Closed,
            Failure::Tls("words".to_owned()),
            Failure::NotHttp,
            Failure::Status(503),
            Failure::GrpcStatus(5),
            Failure::NotServing("UNKNOWN"),
            Failure::NotGrpc,
            Failure::Unsendable("path"),
        ] {
            let name = format!("{failure:?}");
            assert_eq!(name.split('(').next(), Some(failure.reason()));
        }
    }

    #[test]
    fn words_of_a_library_are_cut_to_one_short_line() {
        assert_eq!(bounded(&"ä\n".repeat(500)), "ä ".repeat(100));
    }
}
