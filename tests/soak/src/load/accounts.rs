//! Namespaces that come and go, each with an account, its rights and a token.

use std::{collections::VecDeque, time::Duration};

use k8s_openapi::api::{
    core::v1::{Namespace, Secret, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use mainstay_e2e::{Accounts, account_policy, secret_value, who};
use serde_json::json;

use crate::world::{World, insist};

const PAUSE: Duration = Duration::from_secs(6);
/// This many namespaces are there at the same time.
const AT_ONCE: usize = 5;

/// The policy, and the namespaces that there should be.
pub(crate) struct Tenants {
    policy: Accounts,
    there: VecDeque<String>,
}

impl Tenants {
    pub(crate) async fn make(world: &World) -> Self {
        Self {
            policy: account_policy(&world.scenario).create(&world.scenario.client).await,
            there: VecDeque::new(),
        }
    }

    /// Creates a namespace, and deletes the oldest.
    pub(crate) async fn load(&mut self, world: &World) {
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let mut step = 0;
        while world.next_step(PAUSE).await {
            step += 1;
            let name = format!("{}-{step}", world.scenario.namespace);
            let labels = json!({"e2e": world.scenario.namespace});
            let namespace = Patch::Apply(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
            }));
            insist(async || namespaces.patch(&name, &PatchParams::apply("soak"), &namespace).await).await;
            self.there.push_back(name);
            if self.there.len() > AT_ONCE {
                let oldest = self.there.pop_front().unwrap_or_default();
                insist(async || match namespaces.delete(&oldest, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
                    deleted => deleted.map(drop),
                })
                .await;
            }
        }
    }

    /// Each namespace has its account, its binding and a token that is valid, and the policy says so.
    pub(crate) async fn check(&self, world: &World) -> Result<(), String> {
        for namespace in &self.there {
            let missing = |error: kube::Error| format!("{namespace}: {error}");
            let client = || world.client.clone();
            Api::<ServiceAccount>::namespaced(client(), namespace).get("bot").await.map_err(missing)?;
            Api::<RoleBinding>::namespaced(client(), namespace).get("bot").await.map_err(missing)?;
            let secrets: Api<Secret> = Api::namespaced(client(), namespace);
            let token = secret_value(&secrets.get("bot-token").await.map_err(missing)?, "token");
            let answer = who(&token).await;
            if answer != Ok(format!("system:serviceaccount:{namespace}:bot")) {
                return Err(format!("{namespace}: whoever comes with the token is {answer:?}"));
            }
        }
        let status = self.policy.get().await.status.unwrap_or_default();
        let count = i32::try_from(self.there.len()).unwrap_or(i32::MAX);
        let all = status.namespaces.total == count && status.namespaces.ready == count;
        all.then_some(()).ok_or_else(|| format!("{count} namespaces are there: {:?}", status.namespaces))
    }
}
