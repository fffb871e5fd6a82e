//! A connection to a web server that stays open between requests.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// An open connection to one server behind a Service. Only the local cluster's addresses are reached from here.
pub struct Connection(TcpStream);

impl Connection {
    /// Connects to port 80 of `address`.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn open(address: &str) -> Result<Self, String> {
        let stream = timeout(Duration::from_secs(5), TcpStream::connect((address, 80))).await;
        stream.map_err(|_| "no answer in 5 s".to_owned())?.map(Self).map_err(|error| error.to_string())
    }

    /// Asks who answers.
    ///
    /// # Errors
    /// Why nobody did.
    pub async fn who(&mut self) -> Result<String, String> {
        let answer = timeout(Duration::from_secs(5), self.ask()).await;
        answer.map_err(|_| "no answer in 5 s".to_owned())?.map_err(|error| error.to_string())
    }

    async fn ask(&mut self) -> std::io::Result<String> {
        self.0.write_all(b"GET /hostname HTTP/1.1\r\nHost: e2e\r\n\r\n").await?;
        let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
        loop {
            let read = self.0.read(&mut chunk).await?;
            answer.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&answer);
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
            if length == Some(body.len()) {
                return Ok(body.to_owned());
            }
            if read == 0 {
                return Err(std::io::Error::other(format!("the connection was closed after {text:?}")));
            }
        }
    }
}
