//! A real Kubernetes on one Linux machine, for demos, end-to-end tests and benchmarks: the pinned servers,
//! one node that runs containers and as many fake ones as asked, in a network namespace of their own.
//!
//! The command `mainstay-cluster` brings it up and down; programs work on a running one through [`Cluster`].
//! Promises: a second `up` changes nothing, `down` leaves nothing, and what is not the cluster's own is
//! never touched.

mod build;
mod cgroup;
mod component;
mod config;
mod credentials;
mod discovery;
mod down;
mod error;
mod image;
mod layout;
mod lock;
mod netns;
mod nodes;
mod pins;
mod process;
mod progress;
mod requirements;
mod settings;
mod status;
mod supervise;
mod up;

pub use build::Cache;
pub use discovery::discover_pods;
pub use down::down;
pub use error::{Error, Result};
pub use image::Image;
pub use layout::{API_SERVICE_ADDRESS, DNS_SERVICE_ADDRESS, HOST_ADDRESS, Layout, POD_RANGE, REAL_NODE};
pub use pins::{AGNHOST_IMAGE, KUBECTL_IMAGE, KUBERNETES_VERSION};
pub use process::{Process, Usage};
pub use progress::{Progress, catch_interrupts};
pub use status::{ComponentStatus, State, Status};
pub use supervise::Record;
pub use up::{Options, up};

use component::kwok_name;
use error::Context;
use lock::Lock;
use settings::Settings;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};
use supervise::Supervisor;

/// How long one change of a component waits for another to finish.
const LOCK_DEADLINE: Duration = Duration::from_secs(120);

/// Builds the servers that are not in the cache yet, and returns the cache.
pub fn build(progress: &Progress) -> Result<Cache> {
    requirements::build()?;
    let cache = Cache::locate()?;
    cache.build(progress)?;
    Ok(cache)
}

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    supervisor: Supervisor,
    settings: Settings,
}

impl Cluster {
    /// The cluster that this environment names (see [`Layout::from_env`]). Needs root, as entering its
    /// network namespace does. Fails when it is not up.
    pub fn open() -> Result<Self> {
        requirements::root("working on a cluster")?;
        let layout = Layout::from_env()?;
        let settings = Settings::read(&layout).ok_or(Error::NotUp)?;
        let supervisor = Supervisor::new(layout, Cache::at(settings.cache.clone()));
        if !supervisor.namespace.exists() {
            return Err(Error::NotUp);
        }
        Ok(Self { supervisor, settings })
    }

    /// The admin kubeconfig. It works only inside the cluster's network namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.supervisor.layout.kubeconfig("admin")
    }

    /// Folder of the built programs: kubectl, helm, kube-controller-manager, ...
    pub fn bin(&self) -> PathBuf {
        self.supervisor.cache.bin()
    }

    /// kwok's stages as its module ships them: node/, pod/ and volume/.
    pub fn stages(&self) -> PathBuf {
        self.supervisor.cache.stages()
    }

    /// Log of a component.
    pub fn log(&self, component: &str) -> PathBuf {
        self.supervisor.layout.log(component)
    }

    /// A component that was started, dead or alive.
    pub fn component(&self, name: &str) -> Result<Record> {
        self.supervisor.record(name).ok_or_else(|| Error::NotRunning(name.into()))
    }

    /// What runs.
    pub fn status(&self) -> Result<Status> {
        Status::read(&self.supervisor, &self.settings)
    }

    /// Starts a stopped component with `flags` (`--flag=value`) on top of its usual ones, and waits until it
    /// is ready.
    pub fn start(&self, name: &str, flags: &[String]) -> Result<Record> {
        self.start_as(name, name, flags)
    }

    /// Starts a further component of the kind `kind` under the name `name`. It needs a port of its own.
    pub fn start_as(&self, name: &str, kind: &str, flags: &[String]) -> Result<Record> {
        let _lock = self.lock()?;
        self.supervisor.start_ready(name, kind, flags)
    }

    /// Stops a component.
    pub fn stop(&self, name: &str) -> Result<()> {
        let _lock = self.lock()?;
        self.supervisor.stop(name).map(|_| ())
    }

    /// Kills a component, which has no time to write anything or to end a connection. `start` brings it back.
    pub fn kill(&self, name: &str) -> Result<()> {
        let _lock = self.lock()?;
        self.supervisor.kill(name)
    }

    /// Stops a component if it runs and starts it with `flags` in place of those of an earlier restart.
    pub fn restart(&self, name: &str, flags: &[String]) -> Result<Record> {
        let _lock = self.lock()?;
        let kind = match self.supervisor.stop(name) {
            Ok(record) => record.kind,
            Err(Error::NotRunning(_)) => name.into(),
            Err(error) => return Err(error),
        };
        self.supervisor.start_ready(name, &kind, flags)
    }

    /// Lets a zone's nodes go silent, as when its power fails: heartbeats end, pods are no longer played.
    pub fn zone_stop(&self, zone: &str) -> Result<()> {
        self.stop(&kwok_name(zone))
    }

    /// Brings a stopped zone back.
    pub fn zone_start(&self, zone: &str) -> Result<()> {
        self.start(&kwok_name(zone), &[]).map(|_| ())
    }

    /// Loads an OCI archive into the real node's containerd.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        up::load_image(&self.supervisor, archive)
    }

    /// Runs kubectl as admin and returns what it printed.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.supervisor.kubectl(words)
    }

    /// `program` with KUBECONFIG and PATH set for this cluster; for [`Self::spawn`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("PATH", self.supervisor.path());
        command
    }

    /// Starts a command inside the cluster's network namespace.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.supervisor.namespace.spawn(command)
    }

    /// Moves the calling thread, and the threads and processes it starts later, into the cluster's network
    /// namespace for good.
    pub fn enter(&self) -> Result<()> {
        self.supervisor.namespace.enter()
    }

    fn lock(&self) -> Result<Lock> {
        Lock::wait(&self.supervisor.layout.lock(), LOCK_DEADLINE, &Progress::quiet())
    }
}

/// Asks the cluster that KUBECONFIG names for its version.
pub fn existing_version() -> Result<String> {
    let Some(named) = std::env::var_os("KUBECONFIG") else {
        return Err(Error::Refused(
            "--existing uses the cluster that KUBECONFIG names, which is not set".into(),
        ));
    };
    // kubectl passes over files that do not exist and then asks a server on this machine.
    if let Some(missing) = std::env::split_paths(&named).find(|path| !path.exists()) {
        return Err(Error::Refused(format!("KUBECONFIG names {}, which does not exist", missing.display())));
    }
    // A built kubectl, or else the machine's own: nothing is built for a cluster that exists.
    let built = || Some(Cache::locate().ok()?.bin().join("kubectl")).filter(|path| path.exists());
    let kubectl = built().unwrap_or_else(|| "kubectl".into());
    let mut ask = Command::new(kubectl);
    ask.args(["version", "--output=json", "--request-timeout=10s"]);
    let text = error::output(&mut ask).map_err(|error| {
        let named = Path::new(&named).display();
        Error::Refused(format!("the cluster that KUBECONFIG ({named}) names does not answer: {error}"))
    })?;
    let version: serde_json::Value =
        serde_json::from_str(&text).context(|| "kubectl's answer is no JSON".into())?;
    Ok(version["serverVersion"]["gitVersion"].as_str().unwrap_or("of unknown version").to_owned())
}
