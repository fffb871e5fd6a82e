//! Brings a cluster up from nothing, or adds what a running one lacks.

use crate::{
    build::Cache,
    cgroup,
    component::MOST_ZONES,
    config, credentials, down,
    error::{Context, Error, Result, own_name},
    layout::{Layout, REAL_NODE},
    lock::Lock,
    nodes::{self, node_readiness},
    progress::{Progress, check_interrupt, forgive_interrupt, wait_until},
    requirements,
    settings::Settings,
    supervise::{READY_DEADLINE, Record, Supervisor},
};
use std::fs;

/// What `up` should bring about; what is left open stays as it is, or takes its default.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Fake nodes: 6 by default.
    pub nodes: Option<usize>,
    /// Zones they are spread over: 3 by default.
    pub zones: Option<usize>,
    /// Whether Prometheus runs.
    pub prometheus: bool,
}

const DEFAULT_NODES: usize = 6;
const DEFAULT_ZONES: usize = 3;

/// Builds what is missing and brings the cluster up. On a running cluster, adds what it lacks. On what a
/// dead one left, clears that first. Stops what it started when it is interrupted.
pub fn up(layout: &Layout, options: &Options, progress: &Progress) -> Result<()> {
    requirements::root("starting a cluster")?;
    requirements::cluster(options.prometheus)?;
    if let Some(zones) = options.zones.filter(|zones| !(1..=MOST_ZONES).contains(zones)) {
        return Err(Error::Refused(format!("--zones {zones}: there can be 1 to {MOST_ZONES} zones")));
    }
    let _lock = Lock::take(&layout.lock())?;
    if let Some((supervisor, settings)) = running(layout) {
        return extend(&supervisor, settings, options, progress);
    }
    let cache = Cache::locate()?;
    cache.build(progress)?;
    down::clear(layout, progress)?;
    let settings = Settings {
        cache: cache.root().into(),
        zones: options.zones.unwrap_or(DEFAULT_ZONES),
        prometheus: options.prometheus,
    };
    let started = start(&Supervisor::new(layout.clone(), cache), &settings, options, progress);
    // Ctrl-C at a terminal also ends a program that is waited for, which then looks like its failure.
    let started = started.or_else(|error| check_interrupt().and(Err(error)));
    if let Err(Error::Interrupted) = started {
        forgive_interrupt();
        progress.say("interrupted: stopping what was started");
        down::clear(layout, progress)?;
    }
    started
}

/// The cluster at `layout`, when its store and API server run.
fn running(layout: &Layout) -> Option<(Supervisor, Settings)> {
    let settings = Settings::read(layout)?;
    let supervisor = Supervisor::new(layout.clone(), Cache::at(settings.cache.clone()));
    let alive = |name| supervisor.record(name).is_some_and(|record: Record| record.process.alive());
    let answers = || supervisor.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"]).is_ok();
    let up = supervisor.namespace.exists() && alive("etcd") && alive("kube-apiserver") && answers();
    up.then_some((supervisor, settings))
}

fn start(supervisor: &Supervisor, settings: &Settings, options: &Options, progress: &Progress) -> Result<()> {
    let layout = &supervisor.layout;
    config::write_all(layout, &supervisor.cache)?;
    keep_command(layout)?;
    credentials::create(layout)?;
    cgroup::create(layout)?;
    supervisor.namespace.create()?;
    progress.say("network namespace, certificates and configuration made");

    let launch = |name: &str| supervisor.start(name, name, &[]);
    let ready = |record: &Record| {
        supervisor.ready(record)?;
        progress.say(format_args!("{} ready", record.name));
        Ok(())
    };
    let (etcd, containerd) = (launch("etcd")?, launch("containerd")?);
    ready(&etcd)?;
    let api_server = launch("kube-apiserver")?;
    ready(&containerd)?;
    for image in supervisor.cache.images() {
        load_image(supervisor, &image)?;
    }
    progress.say("images loaded");
    ready(&api_server)?;
    supervisor.kubectl(&[
        "apply",
        "--filename",
        &layout.config(config::BASE_MANIFESTS).display().to_string(),
    ])?;
    let rest: Vec<String> = settings.components().into_iter().skip(BASE_SERVERS).collect();
    let records = rest.iter().map(|name| launch(name)).collect::<Result<Vec<_>>>()?;
    nodes::create(supervisor, options.nodes.unwrap_or(DEFAULT_NODES), settings.zones)?;
    records.iter().try_for_each(ready)?;
    settle(supervisor, progress)?;
    check_interrupt()?;
    settings.write(layout)?;
    progress.say(format_args!("up: `{} exec -- kubectl get nodes`", own_name()));
    Ok(())
}

/// Keeps a copy of this command for the components that are parts of it; its own file may be rebuilt.
fn keep_command(layout: &Layout) -> Result<()> {
    let path = layout.command();
    let part = path.with_extension("part");
    fs::copy("/proc/self/exe", &part)
        .and_then(|_| fs::rename(&part, &path))
        .context(|| format!("cannot write {}", path.display()))
}

/// The first components of [`BASE`], which `start` orders by hand: etcd, containerd, kube-apiserver.
const BASE_SERVERS: usize = 3;

/// Waits until all nodes are ready and pods can be made, which needs the default account.
fn settle(supervisor: &Supervisor, progress: &Progress) -> Result<()> {
    // The kubelet makes the node it runs on.
    supervisor.kubectl_wait(&["--for=create", "node", REAL_NODE])?;
    let mut nodes = Vec::new();
    wait_until(READY_DEADLINE, || {
        nodes = node_readiness(supervisor)?;
        Ok(nodes.iter().all(|(_, ready)| *ready))
    })?;
    let unready: Vec<_> = nodes.iter().filter(|(_, ready)| !ready).map(|(name, _)| name.as_str()).collect();
    if !unready.is_empty() {
        let sentence =
            format!("nodes did not become ready: {}; `kubectl describe node` says why", unready.join(", "));
        return Err(Error::Refused(sentence));
    }
    supervisor.kubectl_wait(&["--for=create", "serviceaccount", "default"])?;
    progress.say(format_args!("{} nodes ready", nodes.len()));
    Ok(())
}

fn extend(
    supervisor: &Supervisor,
    mut settings: Settings,
    options: &Options,
    progress: &Progress,
) -> Result<()> {
    if Cache::locate().is_ok_and(|cache| cache.root() != settings.cache) {
        progress.say("it runs servers of other pins; `down`, then `up`, starts those of this command");
    }
    let before = settings.clone();
    settings.zones = settings.zones.max(options.zones.unwrap_or(0));
    settings.prometheus |= options.prometheus;
    let mut changed = before.zones != settings.zones || before.prometheus != settings.prometheus;
    config::write_all(&supervisor.layout, &supervisor.cache)?;
    if changed {
        keep_command(&supervisor.layout)?;
    }
    for name in settings.components() {
        let record = supervisor.record(&name);
        if record.as_ref().is_some_and(|record| record.process.alive()) {
            continue;
        }
        let overrides = record.map(|record| record.overrides).unwrap_or_default();
        supervisor.start_ready(&name, &name, &overrides)?;
        progress.say(format_args!("{name} started"));
        changed = true;
    }
    let added = nodes::create(supervisor, options.nodes.unwrap_or(0), settings.zones)?;
    if added > 0 {
        progress.say(format_args!("{added} fake nodes added"));
        changed = true;
    }
    if changed {
        settle(supervisor, progress)?;
        settings.write(&supervisor.layout)?;
        progress.say("up");
    } else {
        progress.say("already up and healthy");
    }
    Ok(())
}

/// Loads an OCI archive into the real node's containerd.
pub(crate) fn load_image(supervisor: &Supervisor, archive: &std::path::Path) -> Result<()> {
    let archive = archive.display().to_string();
    supervisor.namespace.output(&mut supervisor.ctr(&["images", "import", &archive])).map(|_| ())
}
