//! A namespace of a test's own, that goes with the test.

use std::{collections::BTreeMap, thread, time::Duration};

use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams,
    },
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    command::{Finished, kubectl, run},
    controller::{Component, Controller},
    group::Group,
    hold::Hold,
    last::at_the_end,
    object::{DraftOf, Kind, Made},
    pods::{self, is_active, is_ready},
    rollout::version,
    setup::{install, install_kinds},
    wait::eventually,
};

/// What a test works with. Its namespace is deleted when it is dropped.
pub struct Scenario {
    /// The connection to the API server, as admin.
    pub client: Client,
    /// Name of the namespace.
    pub namespace: String,
    _hold: Option<Hold>,
}

impl Scenario {
    /// A namespace of this name and some letters, for a test that needs `uses` undisturbed.
    pub async fn start(name: &str, uses: &[Component]) -> Self {
        let hold = Hold::shared(name, uses).await;
        install();
        Self::new(name, Some(hold)).await
    }

    /// The same while no other test uses `disturbs`: for a test that disturbs these controllers, or that no other may
    /// disturb.
    pub async fn alone(name: &str, disturbs: &[Component]) -> Self {
        let hold = Hold::alone(name, disturbs).await;
        install();
        Self::new(name, Some(hold)).await
    }

    /// The same while no other test runs at all: for one that disturbs the cluster.
    pub async fn alone_in_the_cluster(name: &str) -> Self {
        let hold = Hold::cluster(name).await;
        install();
        Self::new(name, Some(hold)).await
    }

    /// The same for a test of the kinds alone: the controllers need not be installed.
    pub async fn without_controllers(name: &str) -> Self {
        let hold = Hold::shared(name, &[]).await;
        install_kinds();
        Self::new(name, Some(hold)).await
    }

    /// A further namespace for the same test. It must not outlive this one, which holds the controllers for both: a test
    /// that asked for them twice would wait for one that waits for it.
    pub async fn beside(&self, name: &str) -> Self {
        Self::new(name, None).await
    }

    async fn new(name: &str, hold: Option<Hold>) -> Self {
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        let metadata = ObjectMeta { generate_name: Some(format!("e2e-{name}-")), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let made =
            namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace is created");
        let scenario = Self { client, namespace: made.name_any(), _hold: hold };
        // Before that, every pod is refused.
        let accounts = scenario.api::<ServiceAccount>();
        eventually("the namespace has its ServiceAccount", async || {
            accounts.get("default").await.map_err(|error| error.to_string())
        })
        .await;
        scenario
    }

    /// Objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// Creates what is drafted.
    pub async fn create<K>(&self, draft: &DraftOf<K>) -> Made<K>
    where
        K: Kind + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        draft.create_in(&self.client, &self.namespace).await
    }

    /// The group of this name.
    pub async fn group(&self, name: &str) -> Group {
        let groups = self.api::<ReplicaGroup>();
        let group = groups.get(name).await.expect("the group is there");
        Group::of(&self.client, groups, &group)
    }

    /// The replication controller.
    pub fn controller(&self) -> Controller {
        Controller::new(self.client.clone(), Component::Replication)
    }

    /// The endpoints controller.
    pub fn endpoints_controller(&self) -> Controller {
        Controller::new(self.client.clone(), Component::Endpoints)
    }

    /// The node-health controller.
    pub fn health_controller(&self) -> Controller {
        Controller::new(self.client.clone(), Component::NodeHealth)
    }

    /// Runs `kubectl` with the words of `line` in the namespace.
    pub fn kubectl(&self, line: &str) -> Finished {
        kubectl(&format!("--namespace={} {line}", self.namespace))
    }

    /// Gives `object` to `kubectl create` in the namespace, with further words.
    pub fn kubectl_create(&self, object: &Value, words: &[&str]) -> Finished {
        let namespace = format!("--namespace={}", self.namespace);
        run("kubectl", &[&["create", "--filename=-", &namespace], words].concat(), &object.to_string())
    }

    /// Why the API server refuses `object`, which it would not keep in any case: with unknown fields refused, as by kubectl.
    ///
    /// # Panics
    /// When it does not refuse it.
    pub async fn refusal(&self, object: &Value) -> String {
        let of = |field: &str| object[field].as_str().expect("an object has a kind");
        let (group, version) = of("apiVersion").split_once('/').expect("no kind of the core group");
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, of("kind")));
        // Those of the whole cluster are policies.
        let namespace = (!of("kind").ends_with("Policy")).then_some(&*self.namespace);
        let url =
            format!("{}?dryRun=All&fieldValidation=Strict", DynamicObject::url_path(&resource, namespace));
        let request = Request::post(url).header(CONTENT_TYPE, "application/json");
        let request = request.body(object.to_string().into_bytes()).expect("a valid request");
        match self.client.request_text(request).await {
            Err(kube::Error::Api(status)) => status.message,
            other => panic!("it should have been refused: {other:?}"),
        }
    }

    /// Creates a pod that nobody controls, with the label `app: <app>`.
    pub async fn orphan(&self, name: &str, app: &str, spec: Value) -> Pod {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let metadata = ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() };
        let spec = serde_json::from_value(spec).expect("a pod's spec");
        let pod = Pod { metadata, spec: Some(spec), status: None };
        self.pods().create(&PostParams::default(), &pod).await.expect("the pod is created")
    }

    /// Creates a pod of [`pods::judged`] as [`Self::orphan`], waits until it is ready, and returns its address.
    pub async fn server(&self, name: &str, app: &str) -> String {
        self.orphan(name, app, pods::judged()).await;
        eventually(&format!("pod {name} is ready and has an address"), async || {
            let pod = self.pods().get(name).await.map_err(|error| error.to_string())?;
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
            address.filter(|_| is_ready(&pod)).ok_or_else(|| format!("{:?}", pod.status))
        })
        .await
    }

    /// Tells a pod of [`pods::judged`] what to say to those who check it.
    pub async fn serving(&self, pod: &str, serving: bool) {
        let path = if serving { "make-serving" } else { "make-not-serving" };
        eventually(&format!("{pod} is told to {path}"), async || {
            self.asked(&format!("pods/{pod}:8091"), path).await
        })
        .await;
    }

    /// What a server of the namespace, such as `pods/web:80` or `services/web:80`, answers through the API server's proxy.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn asked(&self, server: &str, path: &str) -> Result<String, String> {
        let url = format!("/api/v1/namespaces/{}/{server}/proxy/{path}", self.namespace);
        let request = Request::get(url).body(Vec::new()).map_err(|error| error.to_string())?;
        self.client.request_text(request).await.map_err(|error| error.to_string())
    }

    /// Ends the server of a pod on this port; a container that it was all of is started again. Does nothing while it is
    /// down.
    pub async fn end_server(&self, pod: &str, port: u16) {
        // A proxy that has nobody to ask waits for long.
        drop(timeout(Duration::from_secs(1), self.asked(&format!("pods/{pod}:{port}"), "exit?code=1")).await);
    }

    /// Merges `patch` into a pod.
    pub async fn patch_pod(&self, name: &str, patch: Value) {
        let patched = self.pods().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the pod is patched");
    }

    /// Keeps a pod that is deleted from being gone until [`Self::let_go`]. Its containers end all the same.
    pub async fn hold(&self, pod: &str) {
        self.patch_pod(pod, json!({"metadata": {"finalizers": ["e2e.mainstay.dev/hold"]}})).await;
    }

    /// Takes all finalizers off a pod.
    pub async fn let_go(&self, pod: &str) {
        self.patch_pod(pod, json!({"metadata": {"finalizers": null}})).await;
    }

    /// Lets a pod of [`pods::lingering`] end that is being deleted.
    pub async fn let_end(&self, pod: &str) {
        eventually(&format!("{pod} waits to be told that it may end"), async || {
            self.asked(&format!("pods/{pod}:{}", pods::END), "hostname").await
        })
        .await;
        self.end_server(pod, pods::END).await;
    }

    /// Writes the status of a pod whose kubelet does not, by a strategic merge.
    pub async fn patch_pod_status(&self, name: &str, status: Value) {
        let patch = Patch::Strategic(json!({"status": status}));
        let patched = self.pods().patch_status(name, &PatchParams::default(), &patch).await;
        patched.expect("the pod's status is patched");
    }

    /// Makes a pod whose kubelet does not report ready, or not ready.
    pub async fn set_ready(&self, pod: &str, ready: bool) {
        self.patch_pod_status(pod, ready_status(ready)).await;
    }

    /// Makes all pods of this version ready that are not, as kubelets would; does nothing about those that go
    /// meanwhile.
    pub async fn make_ready(&self, group: &Group, of: &str) {
        for pod in group.pods().await {
            if version(&pod) == of && is_active(&pod) && !is_ready(&pod) {
                let patch = Patch::Strategic(json!({"status": ready_status(true)}));
                let patched =
                    self.pods().patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
                match patched {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    patched => drop(patched.expect("the pod's status is patched")),
                }
            }
        }
    }

    /// Makes pods of this version ready as they come, until the group says that all of its pods are of it.
    pub async fn drive(&self, group: &Group, to: &str) -> ReplicaGroupStatus {
        eventually(&format!("{} comes to version {to}", group.name()), async || {
            self.make_ready(group, to).await;
            let object = group.get().await;
            let status = object.status.unwrap_or_default();
            let answers = Some(status.observed_generation) == object.metadata.generation;
            let came = answers && status.updated_replicas == status.replicas && status.rollout.is_none();
            came.then_some(()).ok_or_else(|| format!("{status:?}"))
        })
        .await;
        group.completes(to).await
    }

    /// Fails a pod, as a kubelet that evicts it.
    pub async fn fail(&self, pod: &str) {
        let status = json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"});
        self.patch_pod_status(pod, status).await;
    }
}

/// What a kubelet says of a pod that runs.
fn ready_status(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    // A kubelet sets Ready after ContainersReady, and so does a fake one.
    let conditions = ["Ready", "ContainersReady"]
        .map(|kind| json!({"type": kind, "status": status, "lastTransitionTime": now}));
    json!({"phase": "Running", "conditions": conditions})
}

/// Deletes a namespace, and lets pods go that the test was still holding, or a hook: nothing is made anew in a namespace
/// that goes.
async fn leave(client: Client, namespace: &str) -> kube::Result<()> {
    Api::<Namespace>::all(client.clone()).delete(namespace, &DeleteParams::default()).await?;
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    for pod in pods.list(&ListParams::default()).await? {
        if !pod.finalizers().is_empty() {
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            // It may be gone by now.
            drop(pods.patch(&pod.name_any(), &PatchParams::default(), &free).await);
        }
    }
    Ok(())
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if thread::panicking() {
            let seen = self
                .kubectl("get replicagroups,endpointpools,configrollouts,services,endpointslices,pods,events --output=wide");
            eprintln!("namespace {} when the test failed:\n{}{}", self.namespace, seen.stdout, seen.stderr);
        }
        let namespace = self.namespace.clone();
        at_the_end(&format!("namespace {namespace} is deleted"), async move |client| {
            leave(client, &namespace).await
        });
    }
}
