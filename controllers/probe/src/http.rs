//! A GET request over HTTP/1.1; only the status of the answer counts.

use std::{error::Error, io, net::SocketAddr, ops::RangeInclusive};

use ::http::{
    HeaderValue, Request, Uri,
    header::{CONNECTION, HOST, USER_AGENT},
    uri::PathAndQuery,
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    exchange::{self, MAX_HEAD, drive},
    failure::Failure,
    tls::Tls,
};

/// A GET request over HTTP/1.1. No redirect is followed: its status is the answer.
#[derive(Debug, Clone)]
pub struct Http {
    /// Path and query as they are sent, percent-encoded; begins with `/`.
    pub path: String,
    /// The `Host` header; `None` sends the address and port that are checked.
    pub host: Option<String>,
    /// The statuses that pass: those in any of the ranges.
    pub expected: Vec<RangeInclusive<u16>>,
    /// `None` asks in plain text.
    pub tls: Option<Tls>,
}

/// The request to `target`, or which part of it is not valid.
pub(crate) fn request(check: &Http, target: SocketAddr) -> Result<Request<String>, Failure> {
    let path = Some(&check.path).filter(|path| path.starts_with('/'));
    let path: PathAndQuery = path.and_then(|path| path.parse().ok()).ok_or(Failure::Unsendable("path"))?;
    let host = check.host.clone().unwrap_or_else(|| target.to_string());
    let host = HeaderValue::try_from(host).map_err(|_| Failure::Unsendable("host"))?;

    let mut request = Request::new(String::new());
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(exchange::USER_AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// Sends `request` over `stream` and judges the status. What follows the head of the answer is dropped unread,
/// with the connection.
pub(crate) async fn ask<S>(
    stream: S,
    request: Request<String>,
    expected: &[RangeInclusive<u16>],
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failure)?;
    let answer = drive(connection, sender.send_request(request)).await.map_err(failure)?;
    let status = answer.status().as_u16();
    if expected.iter().any(|range| range.contains(&status)) { Ok(()) } else { Err(Failure::Status(status)) }
}

fn failure(error: hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::NotHttp;
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => Failure::of_io(source),
        // What is left is an answer that broke off.
        None => Failure::Closed,
    }
}

#[cfg(test)]
mod tests;
