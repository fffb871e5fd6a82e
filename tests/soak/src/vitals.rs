//! What the controllers' processes say of themselves all the time: memory, panics, and their logs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use mainstay_cluster::Layout;
use mainstay_e2e::{Component, Metrics, NAMESPACE};
use tokio::time::{Instant, timeout};

use crate::world::World;

const EVERY: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Default)]
pub(crate) struct Vitals {
    /// Resident memory of each process, in bytes.
    memory: Vec<(Component, Instant, f64)>,
    /// Lines of logs and metrics that tell of a panic.
    pub(crate) panics: BTreeSet<String>,
    /// How far each log was read.
    read: BTreeMap<PathBuf, u64>,
}

impl Vitals {
    /// Looks until the load ends.
    pub(crate) async fn follow(mut self, world: &World) -> Self {
        loop {
            self.look(world).await;
            if !world.next_step(EVERY).await {
                return self;
            }
        }
    }

    /// Looks once; whoever does not answer is seen the next time.
    pub(crate) async fn look(&mut self, world: &World) {
        for component in Component::ALL {
            for (pod, text) in scrape(world, component).await.unwrap_or_default() {
                let memory = Metrics::parse(&text).sum("process_resident_memory_bytes", &[]);
                self.memory.push((component, Instant::now(), memory));
                // The panic mode of pools is something else.
                let is_meant = |line: &&str| {
                    line.contains("panics_total") && !line.starts_with("mainstay_endpoints_panics_total")
                };
                let panics = text.lines().filter(|line| !line.starts_with('#')).filter(is_meant);
                let counted = panics.filter(|line| !line.ends_with(" 0"));
                self.panics.extend(counted.map(|line| format!("{pod}: {line}")));
            }
        }
        let Ok(layout) = Layout::from_env() else { return };
        for log in logs(&layout.data.join("pod-logs")) {
            self.read_on(log);
        }
    }

    /// Reads what was added to a log.
    fn read_on(&mut self, log: PathBuf) {
        let place = self.read.entry(log.clone()).or_default();
        let mut added = Vec::new();
        let read = File::open(&log).and_then(|mut file| {
            file.seek(SeekFrom::Start(*place))?;
            file.read_to_end(&mut added)
        });
        *place += read.unwrap_or_default() as u64;
        let text = String::from_utf8_lossy(&added);
        let panics = text.lines().filter(|line| line.contains("panicked"));
        self.panics.extend(panics.map(|line| format!("{}: {line}", log.display())));
    }

    /// The highest memory of a process of a controller between the two, in bytes.
    pub(crate) fn memory(&self, component: Component, from: Instant, to: Instant) -> Option<f64> {
        let samples = self.memory.iter().filter(|(of, at, _)| *of == component && *at >= from && *at <= to);
        samples.map(|(_, _, bytes)| *bytes).max_by(f64::total_cmp)
    }
}

/// The metrics of all pods of a controller that answer.
pub(crate) async fn scrape(world: &World, component: Component) -> Result<Vec<(String, String)>, String> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/component={}", component.name()));
    let listed = timeout(ANSWER, pods.list(&ours)).await.map_err(|error| error.to_string())?;
    let mut scraped = Vec::new();
    for pod in listed.map_err(|error| error.to_string())? {
        let name = pod.name_any();
        let url = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
        let request = Request::get(url).body(Vec::new()).map_err(|error| error.to_string())?;
        if let Ok(Ok(text)) = timeout(ANSWER, world.client.request_text(request)).await {
            scraped.push((name, text));
        }
    }
    Ok(scraped)
}

/// The logs of the controllers' containers, also of those that have ended.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let inside =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |folder: &PathBuf| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{NAMESPACE}_")))
    };
    inside(folder.to_owned()).filter(ours).flat_map(inside).flat_map(inside).collect()
}
