//! A controller of Mainstay as a process of the bench.

use crate::{
    bed::Bed,
    credentials::Account,
    error::{Context, Error, Result},
    meter::Meter,
    names::NAMESPACE,
};
use futures::StreamExt;
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Config,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use mainstay_cluster::Process;
use rustix::process::Signal;
use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};

const METRICS: &str = "127.0.0.1:18080";
const PROBES: &str = "127.0.0.1:18081";
/// How long it may take to end on SIGTERM before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(35);
/// A leader renews its Lease every 2 s.
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);
/// For the answer to a renewal to reach the controller, which counts it only then. The next renewal begins
/// 2 s after the last.
const ANSWER: Duration = Duration::from_millis(300);

/// A running controller; it ends when this is dropped.
pub(crate) struct Controller {
    /// What it costs.
    pub meter: Meter,
    child: Child,
    process: Process,
    leases: Api<Lease>,
    lease: String,
}

impl Controller {
    /// Starts the controller of `account` with `program`, with leader election and what the chart bounds it by, and
    /// otherwise as it comes, and waits until it is ready and leads. Its log is added to `log`.
    pub(crate) async fn start(bed: &Bed, program: &Path, account: &Account, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.map_err(|source| Error::io(format!("cannot open {}", log.display()), source))?;
        let failed = |source| Error::io(format!("cannot start {}", program.display()), source);
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &account.kubeconfig);
        command.arg(&account.controller);
        command.arg(format!("--leader-election-id={}", account.name));
        command.arg(format!("--leader-election-namespace={NAMESPACE}"));
        command.args(&account.bounds);
        command.arg(format!("--metrics-bind-address={METRICS}"));
        command.arg(format!("--health-probe-bind-address={PROBES}"));
        command.stdout(output.try_clone().map_err(failed)?).stderr(output);
        // A group of its own: Ctrl-C at the terminal is for the bench, which stops what it started.
        let child = command.process_group(0).spawn().map_err(failed)?;
        let name = format!("mainstay-{}", account.controller);
        let died = || Error::Refused(format!("{name} ended at once; its log is {}", log.display()));
        let process = Process::of(child.id()).ok_or_else(died)?;
        let meter = Meter::new(&name, process.clone(), &format!("http://{METRICS}"), &bed.config)?;
        let leases = Api::namespaced(bed.client.clone(), NAMESPACE);
        let controller = Self { meter, child, process, leases, lease: account.name.clone() };
        let mut probes = Config::new(format!("http://{PROBES}").parse().expect("a valid URL"));
        probes.default_retry = false;
        let probes = Client::try_from(probes).when("make a client for probes")?;
        bed.until(&format!("{name} to be ready and to lead"), async || {
            if !controller.process.alive() {
                return Err(died());
            }
            let request = Request::get("/readyz").body(Vec::new()).expect("a valid request");
            Ok(probes.request_text(request).await.is_ok() && controller.leads().await)
        })
        .await?;
        Ok(controller)
    }

    async fn leads(&self) -> bool {
        let leads = |line: &str| line.starts_with("leader_election_master_status{") && line.ends_with(" 1");
        self.meter.scrape().await.is_ok_and(|metrics| metrics.lines().any(leads))
    }

    /// The renewals of its Lease from now on.
    pub(crate) async fn renewals(&self) -> Result<Renewals> {
        let changes = watch_object(self.leases.clone(), &self.lease).default_backoff();
        let (sender, seen) = watch::channel(0);
        let mut watch = JoinSet::new();
        watch.spawn(changes.for_each(move |lease| {
            sender.send_modify(|count| *count += u64::from(matches!(lease, Ok(Some(_)))));
            std::future::ready(())
        }));
        let mut renewals = Renewals { seen, _watch: watch };
        // The first is the Lease as it is.
        renewals.next().await?;
        Ok(renewals)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let start = Instant::now();
        let _ = self.process.signal(Signal::TERM);
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_LIMIT {
                let _ = self.process.signal(Signal::KILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A Lease's changes, each of which is one read and one write of its holder. The watch ends when this is
/// dropped.
pub(crate) struct Renewals {
    seen: watch::Receiver<u64>,
    _watch: JoinSet<()>,
}

impl Renewals {
    /// Waits for the next renewal, and until its holder has counted it.
    pub(crate) async fn next(&mut self) -> Result<()> {
        let late = || Error::Late {
            what: "a renewal of the Lease".into(),
            seen: "none".into(),
            limit: RENEWAL_LIMIT,
        };
        self.seen.mark_unchanged();
        let changed = tokio::time::timeout(RENEWAL_LIMIT, self.seen.changed()).await;
        changed.map_err(|_| late())?.map_err(|_| late())?;
        tokio::time::sleep(ANSWER).await;
        Ok(())
    }

    /// How many there have been; only a difference of two counts means anything.
    pub(crate) fn count(&self) -> u64 {
        *self.seen.borrow()
    }
}
