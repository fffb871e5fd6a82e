//! Starts and stops components, and knows which run: each has a record with its process and flags.
//!
//! A component is recorded right after its start; should the command die in between, the process is still
//! found by its network namespace (see `down`).

use crate::{
    build::Cache,
    component::{Definition, Kind, Probe, zone_name},
    error::{Context, Error, Result, last_lines, output},
    layout::Layout,
    netns::Namespace,
    process::Process,
    progress::wait_until,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    fs::{File, OpenOptions},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// How long a component may take until it is ready.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(90);
/// How long a component may take to end on SIGTERM before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A component that was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name it runs under.
    pub name: String,
    /// Name of its kind, which differs from `name` for a second one of a kind.
    pub kind: String,
    /// Its process.
    pub process: Process,
    /// Flags given on top of the usual ones.
    pub overrides: Vec<String>,
    /// What answers once it is ready: a URL, or a socket.
    pub endpoint: String,
}

/// Starts, stops and lists one cluster's components.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    /// Where the cluster lives.
    pub layout: Layout,
    /// The programs it runs.
    pub cache: Cache,
    /// The network namespace it runs in.
    pub namespace: Namespace,
}

impl Supervisor {
    /// Supervises the cluster at `layout` with the programs of `cache`.
    pub(crate) fn new(layout: Layout, cache: Cache) -> Self {
        let namespace = Namespace::of(&layout);
        Self { layout, cache, namespace }
    }

    /// The record of `name`, dead or alive.
    pub(crate) fn record(&self, name: &str) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record_path(name)).ok()?).ok()
    }

    /// The records of all components, dead or alive, by name.
    pub(crate) fn records(&self) -> Vec<Record> {
        records(&self.layout)
    }

    /// Starts a component of the kind `kind` as `name` and returns once it is recorded; [`Self::ready`]
    /// waits until it serves. Fails when `name` runs already or its endpoint is taken.
    pub(crate) fn start(&self, name: &str, kind: &str, overrides: &[String]) -> Result<Record> {
        // Records and logs are called after it.
        if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
            return Err(Error::Refused(format!("{name:?}: a name has letters, digits and dashes only")));
        }
        let definition = Kind::of(kind)?.definition(&self.layout, &self.cache, overrides)?;
        let endpoint = self.endpoint(&definition.probe);
        if let Some(other) = self
            .records()
            .into_iter()
            .find(|other| other.process.alive() && (other.name == name || other.endpoint == endpoint))
        {
            return Err(Error::Refused(format!(
                "{} already serves {}; stop it first, or give {name} another port",
                other.name, other.endpoint
            )));
        }
        let process = self.spawn(name, &definition)?;
        let (name, kind, overrides) = (name.to_owned(), kind.to_owned(), overrides.to_vec());
        let record = Record { name, kind, process, overrides, endpoint };
        let bytes = serde_json::to_vec(&record).expect("a record is plain data");
        let path = self.record_path(&record.name);
        // Renamed into place, as readers do not take the lock.
        let part = path.with_extension("part");
        fs::write(&part, bytes)
            .and_then(|()| fs::rename(&part, &path))
            .context(|| format!("cannot write {}", path.display()))?;
        Ok(record)
    }

    fn spawn(&self, name: &str, definition: &Definition) -> Result<Process> {
        let path = self.layout.log(name);
        let what = || format!("cannot open {}", path.display());
        let log = OpenOptions::new().create(true).append(true).open(&path).context(what)?;
        let mut command = Command::new(&definition.program);
        command.args(&definition.flags).env("PATH", self.path()).env_remove("KUBECONFIG");
        command.stdin(Stdio::null()).stdout(log.try_clone().context(what)?).stderr(log);
        // A group of its own: Ctrl-C at the terminal is for the command, which stops what it started.
        let child = self.namespace.spawn(command.process_group(0))?;
        Process::of(child.id()).ok_or_else(|| self.failure(name, "ended at once"))
    }

    /// Waits until the component serves. Fails when it dies or is not ready in 90 s.
    pub(crate) fn ready(&self, record: &Record) -> Result<()> {
        let probe = Kind::of(&record.kind)?.definition(&self.layout, &self.cache, &record.overrides)?.probe;
        let mut seen = String::new();
        let ready = wait_until(READY_DEADLINE, || {
            if !record.process.alive() {
                return Err(self.failure(&record.name, "died"));
            }
            let answer = self.ask(&probe);
            seen = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Ok(answer.is_ok())
        })?;
        let late = || format!("is not ready after {} s ({seen})", READY_DEADLINE.as_secs());
        if ready { Ok(()) } else { Err(self.failure(&record.name, &late())) }
    }

    /// Starts a component and waits until it serves.
    pub(crate) fn start_ready(&self, name: &str, kind: &str, overrides: &[String]) -> Result<Record> {
        if let Kind::Kwok(zone) = Kind::of(kind)? {
            self.release_leases(&zone_name(zone))?;
        }
        let record = self.start(name, kind, overrides)?;
        self.ready(&record)?;
        Ok(record)
    }

    /// Ends `name` and forgets it. Fails with [`Error::NotRunning`] when it is not known.
    pub(crate) fn stop(&self, name: &str) -> Result<Record> {
        let record = self.record(name).ok_or_else(|| Error::NotRunning(name.into()))?;
        // With the children it may have; a container's shim has left for a group of its own.
        record.process.signal_group(Signal::TERM)?;
        if !wait_until(STOP_DEADLINE, || Ok(!record.process.alive()))? {
            record.process.signal_group(Signal::KILL)?;
            wait_until(STOP_DEADLINE, || Ok(!record.process.alive()))?;
        }
        let path = self.record_path(name);
        fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
        Ok(record)
    }

    /// Kills `name`, and keeps its record: it is dead, as after a crash.
    pub(crate) fn kill(&self, name: &str) -> Result<()> {
        let record = self.record(name).ok_or_else(|| Error::NotRunning(name.into()))?;
        record.process.signal_group(Signal::KILL)?;
        wait_until(STOP_DEADLINE, || Ok(!record.process.alive())).map(|_| ())
    }

    /// Asks what the probe names; the error is what it answered instead.
    fn ask(&self, probe: &Probe) -> Result<String> {
        let mut command = match probe {
            Probe::Get(url) => self.get(url),
            Probe::Containerd => self.ctr(&["version"]),
            Probe::File(path) => {
                return fs::read_to_string(path).context(|| format!("cannot read {}", path.display()));
            }
        };
        self.namespace.output(command.stdin(Stdio::null()))
    }

    /// A GET by kubectl, which speaks TLS and knows the cluster's certificate authority.
    fn get(&self, url: &str) -> Command {
        let (server, path) = match url.match_indices('/').nth(2) {
            Some((index, _)) => url.split_at(index),
            None => (url, "/"),
        };
        let mut kubectl = Command::new(self.cache.bin().join("kubectl"));
        kubectl.env("KUBECONFIG", self.layout.kubeconfig("admin")).arg("--request-timeout=5s");
        kubectl.arg(format!("--server={server}")).args(["get", "--raw", path]);
        kubectl
    }

    /// containerd's own client, on the kubelet's containers.
    pub(crate) fn ctr(&self, words: &[&str]) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.layout.containerd_socket()).arg("--namespace=k8s.io").args(words);
        ctr
    }

    /// Runs kubectl as admin in the network namespace and returns what it printed.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.cache.bin().join("kubectl"));
        kubectl.env("KUBECONFIG", self.layout.kubeconfig("admin")).args(words);
        self.namespace.run(|| output(&mut kubectl))?
    }

    /// Waits until `kubectl wait` with `words` succeeds; fails after 90 s with what it said last.
    pub(crate) fn kubectl_wait(&self, words: &[&str]) -> Result<()> {
        let mut last = Ok(String::new());
        // In rounds of a second, so that an interrupt need not wait long.
        let words = [&["wait", "--timeout=1s"], words].concat();
        wait_until(READY_DEADLINE, || {
            last = self.kubectl(&words);
            Ok(last.is_ok())
        })?;
        last.map(|_| ())
    }

    /// PATH with the built programs first and the sbin folders last.
    pub(crate) fn path(&self) -> std::ffi::OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let own = std::iter::once(self.cache.bin());
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        env::join_paths(own.chain(env::split_paths(&path)).chain(system)).unwrap_or(path)
    }

    fn endpoint(&self, probe: &Probe) -> String {
        match probe {
            Probe::Get(url) => url.clone(),
            Probe::Containerd => self.layout.containerd_socket().display().to_string(),
            Probe::File(path) => path.display().to_string(),
        }
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.layout.components().join(format!("{name}.json"))
    }

    fn failure(&self, name: &str, what: &str) -> Error {
        let log = self.layout.log(name);
        let tail = last_lines(&fs::read_to_string(&log).unwrap_or_default(), 20);
        Error::Component { name: name.into(), what: what.into(), log, tail }
    }

    /// Deletes the Leases of a zone's nodes. A new kwok would wait 40 s until those of the last one expire.
    fn release_leases(&self, zone: &str) -> Result<()> {
        let selector = format!("--selector=type=kwok,topology.kubernetes.io/zone={zone}");
        let listed = self.kubectl(&["get", "nodes", &selector, "--output=name"])?;
        let nodes: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("node/")).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let delete =
            ["delete", "leases", "--namespace=kube-node-lease", "--ignore-not-found", "--wait=false"];
        self.kubectl(&[delete.as_slice(), &nodes].concat()).map(|_| ())
    }
}

/// The records found at `layout`, by name.
pub(crate) fn records(layout: &Layout) -> Vec<Record> {
    let files = fs::read_dir(layout.components()).into_iter().flatten().flatten();
    let json = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json"));
    let mut records: Vec<Record> =
        json.filter_map(|file| serde_json::from_reader(File::open(file.path()).ok()?).ok()).collect();
    records.sort_by(|a, b| a.name.cmp(&b.name));
    records
}
