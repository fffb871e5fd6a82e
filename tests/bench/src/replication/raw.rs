//! The raw limit: a client that does nothing but make pods, as fast as the server takes them.
//!
//! It sends the request that mainstay-replication sends, with the same body and the same short answer, through
//! the same library, as the same ServiceAccount, and has as many under way at a time as proved fastest on this
//! machine. As a controller does, it opens its connections within its turn.

use super::kind::owner_kind;
use crate::{
    bed::Bed,
    credentials::Account,
    error::{Context, Result},
    names::NAMESPACE,
    observer::Observer,
    owner::{IMAGE, owner, template},
    side::Side,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, header};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
};
use serde::{Serialize, de::IgnoredAny};
use serde_json::json;
use std::time::{Duration, Instant};

/// Numbers of requests under way that are tried: up and down again, as the first trials find a cold server.
const IN_FLIGHT: [usize; 10] = [8, 16, 32, 64, 128, 128, 64, 32, 16, 8];
/// More pods than this make a trial no better.
const MOST_PODS: usize = 1000;
const LIMIT: Duration = Duration::from_secs(300);
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// Stands in the body where a pod's name belongs.
const NAME: &str = "@name";

/// What a number of requests under way brought.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    /// Requests under way at a time.
    pub in_flight: usize,
    /// Pods a second.
    pub rate: f64,
}

/// The pods of one round.
pub(super) struct Pods {
    client: Client,
    body: String,
    names: Vec<String>,
    in_flight: usize,
}

impl Pods {
    /// Makes the owner of `count` pods, but no pod yet.
    pub(super) async fn prepare(
        bed: &Bed,
        account: &Account,
        round: &str,
        count: usize,
        in_flight: usize,
    ) -> Result<Self> {
        let kind = owner_kind(Side::Bare);
        let owners: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), NAMESPACE, &kind);
        let owner = serde_json::from_value(owner(&kind, round, 0)).expect("an object has a name");
        let owner = owners.create(&PostParams::default(), &owner).await.when("create the owner")?;
        let mut body = template(round, IMAGE);
        body["apiVersion"] = "v1".into();
        body["kind"] = "Pod".into();
        body["metadata"]["name"] = NAME.into();
        body["metadata"]["ownerReferences"] = json!([{
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "name": round,
            "uid": owner.metadata.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }]);
        let names = (0..count).map(|index| format!("{round}-{index:05}")).collect();
        Ok(Self { client: account.client().await?, body: body.to_string(), names, in_flight })
    }

    /// Creates all of them.
    pub(super) async fn create(&self) -> Result<()> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?fieldManager=mainstay-bench");
        self.each(|name| Request::post(&path).header(header::ACCEPT, METADATA_ONLY).body(self.named(name)))
            .await
    }

    /// Deletes all of them.
    pub(super) async fn delete(&self) -> Result<()> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"}).to_string();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/");
        self.each(|name| Request::delete(format!("{path}{name}")).body(options.clone().into_bytes())).await
    }

    fn named(&self, name: &str) -> Vec<u8> {
        self.body.replacen(NAME, name, 1).into_bytes()
    }

    async fn each(&self, request: impl Fn(&str) -> http::Result<Request<Vec<u8>>>) -> Result<()> {
        let send = |name: &String| {
            let mut request = request(name).expect("a valid request");
            let json = header::HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
            self.client.request::<IgnoredAny>(request)
        };
        let answers = stream::iter(self.names.iter().map(send)).buffer_unordered(self.in_flight);
        answers.try_for_each(async |_| Ok(())).await.when("create or delete a pod")
    }
}

/// Tries the numbers of requests under way and returns the one that makes most pods a second.
pub(super) async fn best_in_flight(
    bed: &Bed,
    account: &Account,
    pods: usize,
    trials: &mut Vec<Trial>,
) -> Result<usize> {
    let pods = pods.min(MOST_PODS);
    for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        let round = format!("trial-{index}");
        let observer = Observer::start(&bed.client, NAMESPACE, &round, None).await?;
        let group = Pods::prepare(bed, account, &round, pods, in_flight).await?;
        bed.quiet(&[]).await?;
        let start = Instant::now();
        group.create().await?;
        let end = observer.wait("all pods to exist", LIMIT, |seen| seen.live >= pods).await?;
        let rate = pods as f64 / (end - start).as_secs_f64();
        bed.progress
            .say(format_args!("bare client, {in_flight} requests under way: {rate:.0} pods a second"));
        trials.push(Trial { in_flight, rate });
        group.delete().await?;
        observer.wait("all pods to be gone", LIMIT, |seen| seen.exist == 0).await?;
    }
    let best = trials.iter().max_by(|a, b| a.rate.total_cmp(&b.rate));
    Ok(best.map_or(IN_FLIGHT[0], |best| best.in_flight))
}
