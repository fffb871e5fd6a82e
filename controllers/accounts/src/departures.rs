//! When the objects in namespaces that are no longer selected are removed, as it is written down in the status of policies.
//!
//! A process that begins to lead reads it from the API server: what its watches have shown while another process led may be
//! hours old.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
};
use mainstay_crds::{AccountPolicy, LeavingNamespace};
use mainstay_runtime::{failure::RequestError, request::in_time};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// When the objects in a namespace are removed, by the UID of the policy and by namespace.
pub(crate) type Departures = BTreeMap<(Arc<str>, Arc<str>), Timestamp>;

/// How often the API server is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Replaces what is known by what the last leader has written down. Returns whether it did: not when `shutdown` comes first.
pub(crate) async fn recall(
    client: &Client,
    departures: &Mutex<Departures>,
    shutdown: &CancellationToken,
) -> bool {
    while !shutdown.is_cancelled() {
        match written(client).await {
            Ok(written) => {
                *departures.lock() = written;
                return true;
            }
            Err(error) => tracing::warn!(
                %error,
                "it is not known yet when namespaces that are no longer selected lose their objects, so nothing is done"
            ),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    false
}

/// What is written down of all policies. What a policy wants need not be readable for it.
async fn written(client: &Client) -> Result<Departures, RequestError> {
    let policies: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::erase::<AccountPolicy>(&()));
    let listed = in_time(policies.list(&ListParams::default())).await?;
    let mut written = Departures::new();
    for policy in listed.items {
        let Some(uid) = policy.metadata.uid.as_deref().map(Arc::<str>::from) else { continue };
        let leaving = policy.data.pointer("/status/leaving").and_then(serde_json::Value::as_array);
        let leaving =
            leaving.into_iter().flatten().filter_map(|left| LeavingNamespace::deserialize(left).ok());
        written.extend(leaving.map(|left| ((Arc::clone(&uid), left.name.into()), left.at.0)));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_goes_on_from_what_the_last_one_wrote_down_and_from_nothing_else() {
        let unreadable: Value = json!({"namespaceSelector": 1});
        let policy = |uid: &str, spec: Value, leaving: Value| json!({"metadata": {"name": uid, "uid": uid}, "spec": spec, "status": {"leaving": leaving}});
        let items = json!([
            policy(
                "a",
                json!({"namespaceSelector": {}}),
                json!([{"name": "later", "at": at(60).to_string()}, {}])
            ),
            policy("b", unreadable, json!([{"name": "ns", "at": at(70).to_string()}])),
        ]);
        let list = json!({"metadata": {}, "items": items});
        let answers = Arc::new(Mutex::new(vec![(200, list), (503, json!({"code": 503, "message": "no"}))]));
        let server = tower::service_fn(move |_: Request<Body>| {
            let (code, answer) = answers.lock().pop().unwrap();
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            std::future::ready(Ok::<_, std::io::Error>(answer.unwrap()))
        });
        // Another process has led since this was seen, and a policy of the name was there before.
        let stale = [(("a".into(), "back".into()), at(10)), (("old".into(), "ns".into()), at(10))];
        let (client, departures) = (Client::new(server, "ns"), Mutex::new(Departures::from(stale)));
        assert!(recall(&client, &departures, &CancellationToken::new()).await, "it asks again");
        let expected = [(("a".into(), "later".into()), at(60)), (("b".into(), "ns".into()), at(70))];
        assert_eq!(*departures.lock(), Departures::from(expected));

        let ends = CancellationToken::new();
        ends.cancel();
        assert!(!recall(&client, &departures, &ends).await);
    }
}
