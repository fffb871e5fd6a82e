//! A way to the API server that may go silent.

use std::net::SocketAddr;

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Passes connections on to a server. Dropping it ends them.
pub struct Proxy {
    address: SocketAddr,
    /// How many times it went silent: connections from before each time say nothing more.
    silences: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Passes on to the server at `target`, `host:port`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (silences, seen) = watch::channel(0);
        let target = target.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, target.clone(), seen.clone()));
            }
        });
        Self { address, silences, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the connections that there are take bytes and give none, as when the other side has lost its power. New
    /// ones work.
    pub fn go_silent(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(mut client: TcpStream, target: String, mut silences: watch::Receiver<usize>) {
    silences.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        silent = silences.changed() => if silent.is_err() { return },
    }
    let mut swallowed = [0; 4096];
    while matches!(client.read(&mut swallowed).await, Ok(1..)) {}
    // Whoever has closed it is not answered either.
    std::future::pending::<()>().await;
}
