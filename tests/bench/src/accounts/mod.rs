//! AccountPolicy beside kube-controller-manager's service account controller: many namespaces appear at once, and each is
//! to get its account. Mainstay gives a right and a token besides; upstream gives the account `default` alone.

mod eyes;
mod report;
mod settings;
mod turn;

pub(crate) use settings::Options;

use crate::{
    bed::Bed,
    error::{Context, Result},
    names::{LIFTED, MANAGER},
    run,
    side::Side,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use mainstay_crds::AccountPolicy;
use report::Measured;
use serde_json::json;
use settings::{IN_FLIGHT, LABEL, POLICY, SIDES};

/// The controllers of kube-controller-manager that do this.
const UPSTREAM: [&str; 1] = ["serviceaccount-controller"];

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run_and_clear("accounts", &options.common, measure, remove, report::section).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    remove(bed).await?;
    let stage = options.common.stage(bed, "accounts", &UPSTREAM).await?;
    (measured.namespaces, measured.settled_seconds) = (options.namespaces, options.settled_seconds);
    for round in 0..options.common.rounds {
        for side in Side::order(&SIDES, round, options.common.limited_rounds) {
            let row = turn::measure(&stage, side, round, options).await?;
            stage.bed.progress.say(&row);
            measured.rows.push(row);
            remove(stage.bed).await?;
        }
    }
    Ok(())
}

/// Removes what a turn has made. A policy that its controller did not let go of is let go of here.
async fn remove(bed: &Bed) -> Result<()> {
    let policies: Api<AccountPolicy> = Api::all(bed.client.clone());
    // Where there is none, or no such kind, there is nothing to do.
    if policies.delete(POLICY, &DeleteParams::default()).await.is_ok() {
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        drop(policies.patch(POLICY, &PatchParams::default(), &free).await);
    }
    let api: Api<Namespace> = Api::all(bed.client.clone());
    let list = async || api.list_metadata(&ListParams::default().labels(LABEL)).await.when("list namespaces");
    let left = list().await?.items;
    if left.is_empty() {
        return Ok(());
    }
    // At default limits a thousand namespaces take it three quarters of an hour.
    let flags = [&LIFTED[..], &["--concurrent-namespace-syncs=50"]].concat();
    bed.stop_alone().await?;
    bed.restart(MANAGER, &flags).await?;
    let delete = async |name: String| {
        api.delete(&name, &DeleteParams::default()).await.map(drop).when("delete a namespace")
    };
    let names = left.iter().map(ResourceExt::name_any);
    stream::iter(names.map(delete)).buffer_unordered(IN_FLIGHT).try_collect::<Vec<()>>().await?;
    bed.until("the namespaces to be gone", async || Ok(list().await?.items.is_empty())).await
}
