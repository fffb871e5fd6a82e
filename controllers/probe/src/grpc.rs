//! A unary call of `grpc.health.v1.Health/Check` over HTTP/2, written out by hand: the request and the answer
//! have one field each.
//!
//! Protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, messages:
//! <https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto>.

use std::net::SocketAddr;

use ::http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, Scheme},
};
use h2::client::{Builder, SendRequest};
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    exchange::{self, MAX_HEAD, drive},
    failure::Failure,
    tls::Tls,
};

const METHOD_PATH: &str = "/grpc.health.v1.Health/Check";

/// A longer answer is not read, in bytes: a `HealthCheckResponse` takes seven with its frame.
const MAX_MESSAGE: usize = 1024;

/// A call of the gRPC health protocol
/// (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
#[derive(Debug, Clone)]
pub struct Grpc {
    /// The service that is asked about; empty asks about the server as a whole.
    pub service: String,
    /// The `:authority` of the request; `None` sends the address and port that are checked.
    pub authority: Option<String>,
    /// `None` speaks HTTP/2 in plain text with prior knowledge. With TLS, make it with `alpn_h2`.
    pub tls: Option<Tls>,
}

/// The head of the request to `target`, or which part of it is not valid.
pub(crate) fn request(check: &Grpc, target: SocketAddr) -> Result<Request<()>, Failure> {
    let authority = check.authority.clone().unwrap_or_else(|| target.to_string());
    let authority = Authority::try_from(authority).map_err(|_| Failure::Unsendable("authority"))?;
    let scheme = if check.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(METHOD_PATH).build();

    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.map_err(|_| Failure::Unsendable("authority"))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(exchange::USER_AGENT));
    Ok(request)
}

/// Sends the call over `stream` and judges its answer.
pub(crate) async fn ask<S>(stream: S, request: Request<()>, service: &str) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_HEAD as u32);
    let (sender, connection) = builder.handshake(stream).await.map_err(failure)?;
    drive(connection, exchange(sender, request, message(service))).await
}

async fn exchange(sender: SendRequest<Bytes>, request: Request<()>, message: Bytes) -> Result<(), Failure> {
    let mut sender = sender.ready().await.map_err(failure)?;
    let (answer, mut body) = sender.send_request(request, false).map_err(failure)?;
    body.send_data(message, true).map_err(failure)?;
    let (head, mut body) = answer.await.map_err(failure)?.into_parts();

    if head.status != StatusCode::OK {
        return Err(Failure::Status(head.status.as_u16()));
    }
    let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !content_type.starts_with(b"application/grpc") {
        return Err(Failure::NotGrpc);
    }
    // A call that fails at once ends with its first and only headers ("Trailers-Only").
    if let Some(status) = status(&head.headers) {
        succeeded(status)?;
    }
    let mut frame = Vec::new();
    while let Some(chunk) = body.data().await {
        frame.extend_from_slice(&chunk.map_err(failure)?);
        if frame.len() > MAX_MESSAGE {
            return Err(Failure::NotGrpc);
        }
    }
    let trailers = body.trailers().await.map_err(failure)?.ok_or(Failure::NotGrpc)?;
    succeeded(status(&trailers).ok_or(Failure::NotGrpc)?)?;
    match serving_status(&frame).ok_or(Failure::NotGrpc)? {
        1 => Ok(()),
        2 => Err(Failure::NotServing("NOT_SERVING")),
        3 => Err(Failure::NotServing("SERVICE_UNKNOWN")),
        // 0, and what a later version of the protocol may add.
        _ => Err(Failure::NotServing("UNKNOWN")),
    }
}

fn failure(error: h2::Error) -> Failure {
    if error.is_io() {
        return error.into_io().map_or(Failure::Closed, Failure::from_io);
    }
    // The other side's GOAWAY or RST_STREAM is its way of leaving; all else are breaches that h2 found in what it
    // sent.
    if error.is_remote() { Failure::Closed } else { Failure::NotGrpc }
}

fn succeeded(status: u32) -> Result<(), Failure> {
    if status == 0 { Ok(()) } else { Err(Failure::GrpcStatus(status)) }
}

/// `grpc-status`, where there is a valid one.
fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckRequest { service }` in its frame.
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, length-delimited.
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    // Not compressed, then the length.
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// `status` of the one `HealthCheckResponse` that `frame` must hold: 0 when the field is missing, and `None`
/// for all that is no such frame, or a compressed one, which was not offered.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (&[compressed, a, b, c, d], mut message) = frame.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([a, b, c, d]);
    if compressed != 0 || usize::try_from(length) != Ok(message.len()) {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        let skipped = match wire_type {
            0 => {
                let value = varint(&mut message)?;
                if field == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

/// Takes a base-128 number off the front of `bytes`.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
