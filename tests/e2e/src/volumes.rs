//! Volumes that lie ready before they are claimed, and what becomes of a group's claims to them.
//!
//! Each test has a StorageClass of its own, so that no test takes another's volumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, ListParams},
};
use mainstay_cluster::{Layout, REAL_NODE};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    command::{kubectl, run},
    group::{Draft, Group},
    local::is_local,
    nodes::FakeNodes,
    pods::{has_ended, is_active, is_ready},
    record::Recorder,
    scenario::Scenario,
    wait::eventually,
};

const OWNER: &str = "e2e.mainstay.dev/volumes-of";
const SLOT: &str = "mainstay.dev/slot";
const GROUP: &str = "mainstay.dev/group";

/// PersistentVolumes that wait for claims of their StorageClass. They go when this is dropped.
pub struct Volumes {
    /// Name of the StorageClass, and what the volumes are labelled with.
    class: String,
    /// The folder below which those of the real node lie.
    folder: Option<PathBuf>,
}

impl Volumes {
    /// So many empty folders of the real node. `None`, and a line that says so, where that node is not of this machine.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn real(scenario: &Scenario, count: usize) -> Option<Self> {
        if !is_local() {
            eprintln!("skipped: volumes are made on the local cluster alone");
            return None;
        }
        let class = scenario.namespace.clone();
        let data = Layout::from_env().expect("the cluster that runs has a layout").data;
        let folder = data.join("volumes").join(&class);
        let made = Self { class, folder: Some(folder.clone()) };
        let volumes = (0..count).map(|number| {
            let path = folder.join(number.to_string());
            // Pods write as a user whom this machine does not know.
            fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o777)))
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
            made.volume(number, REAL_NODE, &path.display().to_string())
        });
        made.create(volumes.collect());
        Some(made)
    }

    /// Volumes of fake nodes, `counts[n]` of node number n. Claims are bound to them, and nobody mounts them.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn fake(scenario: &Scenario, nodes: &FakeNodes, counts: &[usize]) -> Self {
        let made = Self { class: scenario.namespace.clone(), folder: None };
        let places = counts.iter().enumerate().flat_map(|(node, count)| (0..*count).map(move |_| node));
        let volume =
            |(number, node)| made.volume(number, nodes.name(node), "/e2e.mainstay.dev/nobody-mounts-it");
        made.create(places.enumerate().map(volume).collect());
        made
    }

    /// A claim of one of these volumes, as a group's template.
    pub fn claim(&self, name: &str) -> Value {
        claim(name, &self.class)
    }

    fn create(&self, mut objects: Vec<Value>) {
        objects.push(json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": self.class, "labels": {OWNER: self.class}},
            "provisioner": "kubernetes.io/no-provisioner",
            // A claim is bound where its pod is placed, not the other way round.
            "volumeBindingMode": "WaitForFirstConsumer",
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        run("kubectl", &["create", "--filename=-"], &list).succeeded();
    }

    fn volume(&self, number: usize, node: &str, path: &str) -> Value {
        let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": format!("{}-{number}", self.class), "labels": {OWNER: self.class}},
            "spec": {
                "storageClassName": self.class,
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                // Whoever gets the volume twice finds what was there before: none is ever emptied.
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        })
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        let ours = format!("--selector={OWNER}={}", self.class);
        // Volumes that are still claimed go when the claims have gone, with the namespace.
        kubectl(&format!("delete storageclasses,persistentvolumes {ours} --wait=false"));
        if let Some(folder) = &self.folder
            && let Err(error) = fs::remove_dir_all(folder)
        {
            eprintln!("cannot remove {}: {error}", folder.display());
        }
    }
}

/// A claim that no volume answers, as a group's template: enough where no pod is ever placed.
pub fn unbound_claim(name: &str) -> Value {
    claim(name, "e2e-nobody-provides-it")
}

fn claim(name: &str, class: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "storageClassName": class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    })
}

impl Draft {
    /// Sets `spec.volumeClaimTemplates`.
    pub fn claims(self, templates: impl IntoIterator<Item = Value>) -> Self {
        self.with("spec.volumeClaimTemplates", templates.into_iter().collect::<Vec<_>>())
    }

    /// Sets `spec.volumeClaims.retention`.
    pub fn retention(self, when_scaled: &str, when_deleted: &str) -> Self {
        let retention = json!({"whenScaled": when_scaled, "whenDeleted": when_deleted});
        self.with("spec.volumeClaims.retention", retention)
    }
}

/// The slot of a pod or a claim, or nothing.
pub fn slot(object: &impl Resource) -> &str {
    object.labels().get(SLOT).map(String::as_str).unwrap_or_default()
}

impl Group {
    /// The claims that name the group, those on their way out included, by name.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn claims(&self) -> Vec<PersistentVolumeClaim> {
        let ours = ListParams::default().labels(&format!("{GROUP}={}", self.name()));
        self.beside().list(&ours).await.expect("claims are listed").items
    }

    /// UID of each of [`Self::claims`], by its name.
    pub async fn claim_uids(&self) -> BTreeMap<String, String> {
        let uid = |claim: PersistentVolumeClaim| (claim.name_any(), claim.uid().unwrap_or_default());
        self.claims().await.into_iter().map(uid).collect()
    }

    /// The slots that [`Self::claims`] belong to.
    pub async fn claim_slots(&self) -> BTreeSet<String> {
        self.claims().await.iter().map(|claim| slot(claim).to_owned()).collect()
    }

    /// Deletes a pod, and waits until others are ready in its place and that of all that are gone.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn replaces(&self, pod: &Pod) {
        let pods = self.beside::<Pod>();
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.expect("the pod is deleted");
        let wanted = usize::try_from(self.get().await.spec.replicas).expect("a number of pods");
        eventually(
            &format!("{} has {wanted} ready pods without {}", self.name(), pod.name_any()),
            async || {
                let pods = self.pods().await;
                let ready = pods.iter().filter(|pod| is_active(pod) && is_ready(pod)).count();
                let is_left = pods.iter().any(|other| other.uid() == pod.uid());
                let done = !is_left && (ready, pods.len()) == (wanted, wanted);
                done.then_some(())
                    .ok_or_else(|| format!("{ready} of {} are, it is there: {is_left}", pods.len()))
            },
        )
        .await;
    }

    /// Waits until there are claims for the active pods and no others.
    pub async fn keeps_claims_of_pods_alone(&self) {
        eventually(&format!("{} has claims for its pods and no others", self.name()), async || {
            let (claims, pods) = (self.claim_slots().await, self.pods().await);
            let used: BTreeSet<_> =
                pods.iter().filter(|pod| is_active(pod)).map(|pod| slot(pod).into()).collect();
            (claims == used).then_some(()).ok_or_else(|| format!("{claims:?} for {used:?}"))
        })
        .await;
    }

    /// The pod of each slot; each of [`Self::pods`] that has not ended must have one that no other of them has.
    ///
    /// # Panics
    /// When a pod has none, or that of another.
    pub async fn slots(&self) -> BTreeMap<String, Pod> {
        let mut slots = BTreeMap::new();
        for pod in self.pods().await.into_iter().filter(|pod| !has_ended(pod)) {
            let name = slot(&pod).to_owned();
            assert!(!name.is_empty(), "{} has no slot", pod.name_any());
            let other = slots.insert(name, pod);
            assert_eq!(other.map(|pod| pod.name_any()), None, "two pods have one slot: {slots:?}");
        }
        slots
    }
}

impl Recorder<PersistentVolumeClaim> {
    /// The most slots that had claims at one moment.
    pub fn most_slots_at_once(&self) -> usize {
        self.slots(|_| true).iter().map(BTreeMap::len).max().unwrap_or_default()
    }
}

impl Recorder<Pod> {
    /// Asserts that at no moment so far two pods that had not ended had one slot, be they terminating or not.
    ///
    /// # Panics
    /// With the first moment at which two did.
    pub async fn shares_no_slot(&self) {
        self.catch_up().await;
        let slots = self.slots(|pod| !has_ended(pod));
        let shared = slots.into_iter().find(|slots| slots.values().any(|pods| pods.len() > 1));
        assert_eq!(shared, None, "two pods had one slot");
    }
}

impl<K> Recorder<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// The objects that `counts` says, as there were after each change: their names, by slot.
    fn slots(&self, counts: impl Fn(&K) -> bool) -> Vec<BTreeMap<String, BTreeSet<String>>> {
        let listed = self.listed();
        self.read(|states| {
            let (mut live, mut moments) = (BTreeMap::new(), Vec::new());
            for (number, (object, gone)) in states.iter().enumerate() {
                if *gone || !counts(object) {
                    live.remove(&object.uid());
                } else {
                    live.insert(object.uid(), object);
                }
                // Until all that were listed are in, what there is has never been.
                if number + 1 >= listed {
                    let mut slots = BTreeMap::<_, BTreeSet<_>>::new();
                    for object in live.values() {
                        slots.entry(slot(*object).into()).or_default().insert(object.name_any());
                    }
                    moments.push(slots);
                }
            }
            moments
        })
    }
}
