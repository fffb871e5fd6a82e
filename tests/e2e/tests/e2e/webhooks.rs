//! Webhooks while their replicas come and go, and controllers without their certificate.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config, ResourceExt, api::PostParams};
use mainstay_crds::AccountPolicy;
use mainstay_e2e::{
    Away,
    Component::{Accounts, ConfigRollout},
    Controller, NAMESPACE, Scenario, account_policy, config_rollout, deployment, eventually, kubectl, reader,
    rolled_out,
};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

/// So many ask at the same time.
const CLIENTS: usize = 3;
/// Between two objects of one client: the connections of some are in use, and those of others at rest.
const PAUSES: [Duration; CLIENTS] =
    [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(2)];

/// Objects that are written by dry runs, for each of which the API server asks a webhook, until this is ended.
struct Writes {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<usize, String>>>,
}

impl Writes {
    /// Writes an object of this kind again and again. Nobody tries again what was refused.
    async fn of<K>(api: impl Fn(Client) -> Api<K>, object: &K) -> Self
    where
        K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for pause in PAUSES {
            let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
            config.default_retry = false;
            let (api, object) = (api(Client::try_from(config).expect("a client")), object.clone());
            let stop = Arc::clone(&stop);
            clients.push(tokio::spawn(async move {
                let params = PostParams { dry_run: true, ..PostParams::default() };
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    api.create(&params, &object)
                        .await
                        .map_err(|error| format!("refused after {count} were admitted: {error}"))?;
                    count += 1;
                    sleep(pause).await;
                }
                Ok(count)
            }));
        }
        Self { stop, clients }
    }

    /// Ends them, none of which may have been refused. Returns how many there were.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for client in self.clients {
            count += client.await.expect("it ends").unwrap_or_else(|refused| panic!("{refused}"));
        }
        count
    }
}

/// Exchanges all replicas, and waits until those before are gone.
async fn exchange(controller: &Controller) {
    let names =
        async || controller.all_pods().await.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>();
    let before = names().await;
    let deployment = controller.name();
    let restarted = tokio::task::spawn_blocking(move || {
        kubectl(&format!("rollout restart deployment/{deployment} --namespace={NAMESPACE}")).succeeded();
        rolled_out(&deployment).succeeded();
    });
    restarted.await.expect("it is rolled out");
    eventually("the replicas before are gone", async || {
        let now = names().await;
        now.is_disjoint(&before).then_some(()).ok_or_else(|| format!("{now:?}, before {before:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_object_is_refused_while_the_replicas_are_exchanged() {
    let scenario = Scenario::alone("exchanged", &[ConfigRollout, Accounts]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
    scenario.create(&config_rollout("web")).await.completes(1).await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"generateName": "asked-", "annotations": {"revision.mainstay.dev/web": "1"}},
        "spec": mainstay_e2e::pods::gated(),
    }))
    .expect("a pod");
    let policy: AccountPolicy =
        serde_json::from_value(account_policy(&scenario).object().clone()).expect("a policy");

    let namespace = scenario.namespace.clone();
    let pods = Writes::of(|client| Api::namespaced(client, &namespace), &pod).await;
    let policies = Writes::of(Api::all, &policy).await;
    let (rollouts, accounts) = (scenario.config_controller(), scenario.accounts_controller());
    tokio::join!(exchange(&rollouts), exchange(&accounts));
    let counts = (pods.end().await, policies.end().await);
    assert!(counts.0 > 30 && counts.1 > 30, "too few were written to tell: {counts:?}");
}

#[tokio::test]
async fn without_a_certificate_the_controller_leads_and_says_why_it_is_not_ready() {
    let scenario = Scenario::alone("uncertified", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(1).await;
    let before = scenario.token("bot-token", "").await;

    let controller = scenario.accounts_controller();
    let scale = |replicas| {
        kubectl(&format!(
            "scale deployment/{} --namespace={NAMESPACE} --replicas={replicas}",
            controller.name()
        ))
        .succeeded()
    };
    // A replica that has a certificate would put it back.
    scale(0);
    let all = "pods --selector=app.kubernetes.io/component=accounts --for=delete --timeout=90s";
    kubectl(&format!("wait {all} --namespace={NAMESPACE}")).succeeded();
    // Its own account may write Secrets anyhow; but without knowing whom the API server trusts it makes no certificate.
    let away = Away::take("clusterrolebinding mainstay-accounts-webhook");
    kubectl(&format!("delete secret mainstay-accounts-webhook --namespace={NAMESPACE}")).succeeded();
    scale(2);
    let leader = controller.leader().await;
    scenario.kubectl("delete secret bot-token").succeeded();
    scenario.token("bot-token", &before).await;
    eventually("it says that the certificate is missing", async || {
        let said = controller.get(&leader, 8081, "readyz").await;
        let why = said.map_or_else(|error| error.to_string(), |ready| format!("it is ready: {ready}"));
        let words = format!("the certificate of the Secret {NAMESPACE}/mainstay-accounts-webhook");
        why.contains(&words).then_some(()).ok_or(why)
    })
    .await;

    drop(away);
    rolled_out(&controller.name()).succeeded();
}
