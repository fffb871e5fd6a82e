//! A controller that runs on this machine, outside of the cluster, for tests of its way to the API server.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{command::root, controller::Component, metrics::Metrics};

/// A process of the program under test. Dropping it kills it.
pub struct Outside {
    process: Child,
    port: u16,
    kubeconfig: PathBuf,
}

impl Outside {
    /// Starts this controller with a kubeconfig and further flags.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(component: Component, kubeconfig: &Value, flags: &[&str]) -> Self {
        // Nothing else in the network of the tests asks for a port that was just free.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let file = env::temp_dir().join(format!("mainstay-outside-{port}"));
        fs::write(&file, kubeconfig.to_string()).expect("a file is written");
        let program = env::var_os("MAINSTAY_PROGRAM").map(PathBuf::from);
        let program = program.unwrap_or_else(|| root().join("target/debug/mainstay"));
        let process = Command::new(&program)
            .args([component.name(), "--health-probe-bind-address=0"])
            .arg(format!("--metrics-bind-address=127.0.0.1:{port}"))
            .args(flags)
            .env("KUBECONFIG", &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        Self { process, port, kubeconfig: file }
    }

    /// What it measures now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics, String> {
        let answer = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let text = answer.await.map_err(|error| error.to_string())?;
        Ok(Metrics::parse(text.split_once("\r\n\r\n").map_or("", |(_, body)| body)))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_file(&self.kubeconfig));
    }
}
