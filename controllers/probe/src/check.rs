//! One check: connect, send a request, evaluate the answer, close.
//!
//! A check keeps no state and no connection between two runs, so that every run tests the whole path to the address,
//! as a new client would.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    failure::Failure,
    grpc::{self, Grpc},
    http::{self, Http},
};

/// What is asked.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The address accepts a connection. Nothing is sent.
    Tcp,
    /// The address answers a GET request with an expected status.
    Http(Http),
    /// The address reports SERVING through `grpc.health.v1.Health/Check`.
    Grpc(Grpc),
}

impl Kind {
    /// Whether it can be sent at all, so that its author gets an error before the first run.
    ///
    /// # Errors
    /// [`Failure::Unsendable`] names the part that is not valid; each [run](Check::run) would end with it.
    pub fn validate(&self) -> Result<(), Failure> {
        let any = SocketAddr::from(([192, 0, 2, 1], 80));
        match self {
            Self::Tcp => Ok(()),
            Self::Http(check) => http::request(check, any).map(drop),
            Self::Grpc(check) => grpc::request(check, any).map(drop),
        }
    }
}

/// What is asked of an address, and how long it may take.
#[derive(Debug, Clone)]
pub struct Check {
    /// What is asked.
    pub kind: Kind,
    /// The whole check, from connecting to the judged answer, ends within this time.
    pub timeout: Duration,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// From the beginning of the check to its result.
    pub took: Duration,
    /// Whether the address passed, or why not.
    pub result: Result<(), Failure>,
}

impl Check {
    /// Runs the check once against `target`. The connection is closed before this returns, or when the future
    /// is dropped.
    pub async fn run(&self, target: SocketAddr) -> Outcome {
        let began = Instant::now();
        let result = timeout(self.timeout, self.ask(target)).await.unwrap_or(Err(Failure::TimedOut));
        Outcome { took: began.elapsed(), result }
    }

    async fn ask(&self, target: SocketAddr) -> Result<(), Failure> {
        match &self.kind {
            Kind::Tcp => {
                // Closing with a reset leaves no TIME_WAIT behind, which at thousands of checks a minute would use
                // up the local ports. A reset throws away what is still on its way; here nothing was sent, so
                // nothing can be lost. After a request it could take the other side's answer away from a proxy
                // between, so HTTP and gRPC close in order; only an answer whose body has come and is not read ends
                // with a reset all the same.
                connect(target).await?.set_zero_linger().map_err(Failure::from_io)
            }
            Kind::Http(check) => {
                let request = http::request(check, target)?;
                let stream = connect(target).await?;
                match &check.tls {
                    None => http::ask(stream, request, &check.expected).await,
                    Some(tls) => {
                        http::ask(tls.connect(stream, target.ip()).await?, request, &check.expected).await
                    }
                }
            }
            Kind::Grpc(check) => {
                let request = grpc::request(check, target)?;
                let stream = connect(target).await?;
                match &check.tls {
                    None => grpc::ask(stream, request, &check.service).await,
                    Some(tls) => {
                        grpc::ask(tls.connect(stream, target.ip()).await?, request, &check.service).await
                    }
                }
            }
        }
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(target).await.map_err(Failure::from_io)?;
    // The last flight of a TLS handshake and the request after it must not wait for an acknowledgement.
    stream.set_nodelay(true).map_err(Failure::from_io)?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
