//! A proxy between a controller and a real API server, that can be told to misbehave while it runs.
//!
//! It has two parts, and both run in the process that uses it. [`Proxy::bytes`] passes bytes on to an address and knows
//! nothing of what they mean, so that TLS ends where it ended before; it can be silent, slow, or cut connections.
//! [`Proxy::requests`] puts the HTTP server of [`lists`] behind that, which sends each request on with credentials of its
//! own and can answer lists from the past.

mod lists;
mod mood;
mod relay;

use std::{io, net::SocketAddr};

use kube::Client;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub use mood::Mood;
use mood::State;

/// See the module. Dropping it ends it with all its connections.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Passes bytes on to the server at `target`, `host:port`. It has no lists: [`Mood::Stale`] changes nothing.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn bytes(target: &str) -> io::Result<Self> {
        let (state, seen) = watch::channel(State::default());
        Self::start(target.to_owned(), state, seen, Vec::new()).await
    }

    /// Sends requests on with `client`: who connects needs no credentials, and has the rights of `client`. It listens on
    /// loopback only.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn requests(client: Client) -> io::Result<Self> {
        let (state, seen) = watch::channel(State::default());
        let (behind, server) = lists::serve(client, seen.clone()).await?;
        Self::start(behind.to_string(), state, seen, vec![server]).await
    }

    async fn start(
        target: String,
        state: watch::Sender<State>,
        seen: watch::Receiver<State>,
        mut tasks: Vec<JoinHandle<()>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tasks.push(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target.clone(), seen.clone()));
            }
        }));
        Ok(Self { address, state, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it behaves from now on. Connections that were silent or cut once remain so.
    pub fn set(&self, mood: Mood) {
        self.state.send_modify(|state| state.enter(mood));
    }

    /// The kubeconfig of a controller that is to use a proxy of [`Proxy::requests`].
    pub fn kubeconfig(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn connect(client: TcpStream, target: String, state: watch::Receiver<State>) {
    // One that connects while the other side is dead is not told so either.
    let Ok(server) = TcpStream::connect(target).await else { return };
    relay::relay(client, server, state).await;
}
