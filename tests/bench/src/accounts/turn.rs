//! One turn: who gives the accounts is started, and the namespaces appear.

use super::{
    eyes::{Eyes, Gift, Times},
    settings::{IN_FLIGHT, LABEL, Options, POLICY},
};
use crate::{
    bed::Bed,
    error::{Context, Error, Result},
    meter::{added, writes},
    names::{LIFTED, MANAGER},
    pods::object,
    side::{Running, Side, Stage},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::PostParams};
use mainstay_crds::AccountPolicy;
use serde::Serialize;
use serde_json::json;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// How long all may take. As shipped upstream needs 50 s for a thousand.
const LIMIT: Duration = Duration::from_secs(400);
/// Status and counters follow.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// What a turn has shown.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub side: Side,
    /// From the answer to the namespace's creation to the event of its account, in seconds, sorted.
    pub account: Vec<f64>,
    /// The same to everything that it gets, which with upstream is its account.
    pub all: Vec<f64>,
    /// How long the creation of all namespaces took, in seconds.
    pub creation: f64,
    /// From the first creation to the last namespace that has everything, in seconds.
    pub total: f64,
    /// CPU time of the controller, in seconds.
    pub cpu: f64,
    /// Of the controller, in bytes.
    pub peak: u64,
    /// Requests of Mainstay that change something, in the time afterwards, but for its Lease.
    pub settled_writes: Option<u64>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::statistics::percentile;
        write!(
            f,
            "{}: account p50 {:.2} s, p99 {:.2} s; everything p50 {:.2} s, p99 {:.2} s; {:.1} s for all; CPU {:.2} s; \
             {:.1} MB",
            self.side.title(),
            percentile(&self.account, 0.5),
            percentile(&self.account, 0.99),
            percentile(&self.all, 0.5),
            percentile(&self.all, 0.99),
            self.total,
            self.cpu,
            self.peak as f64 / 1e6
        )
    }
}

pub(super) async fn measure(stage: &Stage<'_>, side: Side, round: u32, options: &Options) -> Result<Row> {
    let bed = stage.bed;
    let running = stage.start(side).await?;
    let meter = running.meter.clone().expect("each of these sides has a meter");
    let gifts: &[(Gift, &str)] = if side == Side::Mainstay {
        // As beside upstream's controller alone: what the rest does with new namespaces costs both the same.
        bed.restart(MANAGER, &LIFTED).await?;
        make_policy(bed).await?;
        &[(Gift::Account, "bench"), (Gift::Binding, "bench"), (Gift::Token, "bench-token")]
    } else {
        &[(Gift::Account, "default")]
    };
    let eyes = Eyes::open(bed, gifts).await?;
    bed.quiet(&[&meter]).await?;
    let (cpu, start) = (meter.cpu()?, Instant::now());
    let made = make_namespaces(bed, side, round, options.namespaces).await?;
    let creation = start.elapsed().as_secs_f64();
    let all_have = async || {
        while !made.iter().all(|(name, _)| eyes.of(name).all.is_some()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(LIMIT, all_have()).await.is_err() {
        let have = made.iter().filter(|(name, _)| eyes.of(name).all.is_some()).count();
        let what = "all namespaces to have everything".into();
        return Err(Error::Late { what, seen: format!("{have} of {} have", made.len()), limit: LIMIT });
    }
    let seen: Vec<_> = made.iter().map(|(name, made)| (*made, eyes.of(name))).collect();
    let since = |pick: fn(&Times) -> Option<Instant>| {
        let times =
            seen.iter().filter_map(|(made, seen)| Some(pick(seen)?.duration_since(*made).as_secs_f64()));
        let mut times: Vec<_> = times.collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let last = seen.iter().filter_map(|(_, seen)| seen.all).max().unwrap_or(start);
    Ok(Row {
        side,
        account: since(|seen| seen.account),
        all: since(|seen| seen.all),
        creation,
        total: last.duration_since(start).as_secs_f64(),
        cpu: meter.cpu()? - cpu,
        settled_writes: settled(bed, side, &running, options).await?,
        peak: meter.usage()?.peak_resident_bytes,
    })
}

async fn make_policy(bed: &Bed) -> Result<()> {
    let policies: Api<AccountPolicy> = Api::all(bed.client.clone());
    let policy = object(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "AccountPolicy", "metadata": {"name": POLICY},
        "spec": {
            "namespaceSelector": {"matchLabels": {LABEL: "yes"}},
            "serviceAccounts": [{"name": "bench"}],
            "roleBindings": [{
                "name": "bench", "roleRef": {"kind": "ClusterRole", "name": "view"}, "serviceAccounts": ["bench"],
            }],
            "tokens": [{"name": "bench-token", "serviceAccount": "bench"}],
        },
    }))?;
    policies.create(&PostParams::default(), &policy).await.when("create the policy")?;
    bed.until("the policy to be taken up", async || {
        let status = policies.get(POLICY).await.when("read the policy")?.status.unwrap_or_default();
        Ok(status.observed_generation > 0)
    })
    .await
}

/// The names of the namespaces, and when the API server had answered.
async fn make_namespaces(bed: &Bed, side: Side, round: u32, count: usize) -> Result<Vec<(String, Instant)>> {
    let api: Api<Namespace> = Api::all(bed.client.clone());
    let make = async |number: usize| {
        let name = format!("mainstay-bench-{}-{round}-{number}", side.name());
        let namespace = object(json!({"metadata": {"name": name, "labels": {LABEL: "yes"}}}))?;
        api.create(&PostParams::default(), &namespace).await.when("create a namespace")?;
        Ok::<_, Error>((name, Instant::now()))
    };
    stream::iter((0..count).map(make)).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// How often Mainstay writes when all is as it should be.
async fn settled(bed: &Bed, side: Side, running: &Running, options: &Options) -> Result<Option<u64>> {
    let Some(controller) = running.controller.as_ref().filter(|_| side == Side::Mainstay) else {
        return Ok(None);
    };
    let policies: Api<AccountPolicy> = Api::all(bed.client.clone());
    bed.until("the policy to say that all namespaces are ready", async || {
        let status = policies.get(POLICY).await.when("read the policy")?.status.unwrap_or_default();
        Ok(usize::try_from(status.namespaces.ready) == Ok(options.namespaces))
    })
    .await?;
    tokio::time::sleep(AFTERWARDS).await;
    let before = controller.meter.requests().await?;
    tokio::time::sleep(Duration::from_secs(options.settled_seconds)).await;
    let mut sent = added(&before, &controller.meter.requests().await?);
    // The Lease is kept with PUT.
    if sent.remove("PUT").is_none() {
        return Err(Error::Refused("the controller has not renewed its Lease".into()));
    }
    Ok(Some(writes(&sent)))
}
