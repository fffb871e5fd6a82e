//! What the API server says it has written on request: a source that no controller has a hand in.

use crate::{
    error::{Context, Result},
    meter::{Requests, label},
};
use http::Request;
use kube::Client;

/// Resources that are written by those who keep the pods, and by nobody else but the bench. Who has sent a
/// request is not told, so events are left out, which the scheduler writes as well.
const RESOURCES: [&str; 5] = ["controllerrevisions", "deployments", "pods", "replicagroups", "replicasets"];
/// Subresources of pods that the scheduler and the nodes write.
const NOT_THEIRS: [&str; 2] = ["binding", "status"];
/// A server-side apply is named apart from other patches.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// Writes carried out so far, by verb and resource: `POST pods/eviction`.
pub(crate) async fn writes(client: &Client) -> Result<Requests> {
    let request = Request::get("/metrics").body(Vec::new()).expect("a valid request");
    let metrics = client.request_text(request).await.when("read the API server's metrics")?;
    Ok(count(&metrics))
}

fn count(metrics: &str) -> Requests {
    let mut writes = Requests::new();
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let Some((labels, value)) = line.rsplit_once(' ') else { continue };
        let label = |name| label(labels, name).unwrap_or_default();
        let (verb, resource, subresource) = (label("verb"), label("resource"), label("subresource"));
        // A fake node often sends its DELETE of an ended pod a second time, when there is none any more; so what
        // was refused is left out.
        let is_theirs = label("code").starts_with('2')
            && RESOURCES.contains(&resource)
            && WRITES.contains(&verb)
            && !(resource == "pods" && NOT_THEIRS.contains(&subresource));
        let (true, Ok(value)) = (is_theirs, value.parse::<f64>()) else { continue };
        let slash = if subresource.is_empty() { "" } else { "/" };
        *writes.entry(format!("{verb} {resource}{slash}{subresource}")).or_default() += value as u64;
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_of_those_who_keep_pods_are_counted_and_only_when_carried_out() {
        let line = |code: &str, resource: &str, subresource: &str, verb: &str, value: &str| {
            format!(
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"\",\
                 resource=\"{resource}\",scope=\"resource\",subresource=\"{subresource}\",version=\"v1\",\
                 verb=\"{verb}\"}} {value}"
            )
        };
        let metrics = [
            "# TYPE apiserver_request_total counter".to_owned(),
            line("201", "pods", "", "POST", "1e+03"),
            line("403", "pods", "", "POST", "2"),
            line("201", "pods", "binding", "POST", "1000"),
            line("200", "pods", "status", "PATCH", "1000"),
            line("201", "pods", "eviction", "POST", "7"),
            line("200", "pods", "", "LIST", "5"),
            line("200", "deployments", "status", "PUT", "3"),
            line("200", "replicagroups", "status", "APPLY", "4"),
            line("200", "leases", "", "PUT", "900"),
            line("201", "events", "", "POST", "25"),
        ];
        let expected = [
            ("POST pods", 1000),
            ("POST pods/eviction", 7),
            ("PUT deployments/status", 3),
            ("APPLY replicagroups/status", 4),
        ];
        assert_eq!(count(&metrics.join("\n")), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }
}
