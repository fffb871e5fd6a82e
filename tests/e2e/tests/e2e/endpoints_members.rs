//! Members that need a consent, a look-up or a gate, and those that are out of bounds.

use kube::api::{Patch, PatchParams};
use mainstay_cluster::{API_SERVICE_ADDRESS, HOST_ADDRESS};
use mainstay_e2e::{Authority, Component::Endpoints, Scenario, USED, eventually, is_local, pods, pool, run};
use serde_json::{Value, json};

/// A set of the pods `app: web` of another namespace.
fn of_namespace(namespace: &str) -> Value {
    json!({"name": "other", "namespace": namespace, "podSelector": {"matchLabels": {"app": "web"}}})
}

#[tokio::test]
async fn pods_of_another_namespace_need_its_grant() {
    let here = Scenario::start("here", &[Endpoints]).await;
    let there = here.beside("there").await;
    let address = there.server("a", "web").await;
    let web = here.create(&pool("web").set(of_namespace(&there.namespace))).await;
    let by_address =
        here.create(&pool("by-address").addresses("outside", std::slice::from_ref(&address))).await;
    let sentence = web.says("MembersAccepted", false, "NotGranted").await;
    assert!(sentence.contains(&format!("EndpointGrant in namespace {}", there.namespace)), "{sentence}");
    by_address.says("MembersAccepted", false, "NotGranted").await;
    assert!(web.event("MembersRefused").await.contains("EndpointGrant"));
    let grant = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointGrant", "metadata": {"name": "grant"},
        "spec": {"from": [{"namespace": here.namespace}]},
    });
    there.kubectl_create(&grant, &[]).succeeded();
    web.has(&[(&address, USED)]).await;
    by_address.has(&[(&address, USED)]).await;
    web.says("MembersAccepted", true, "AllAccepted").await;
    there.kubectl("delete endpointgrant grant").succeeded();
    web.says("MembersAccepted", false, "NotGranted").await;
    web.has(&[]).await;
}

#[tokio::test]
async fn a_grant_is_for_the_pods_and_pools_that_it_names() {
    let here = Scenario::start("pools", &[Endpoints]).await;
    let there = here.beside("pods").await;
    let address = there.server("a", "web").await;
    let other = there.server("b", "web").await;
    there.kubectl("label pod a share=yes").succeeded();
    let grant = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointGrant", "metadata": {"name": "grant"},
        "spec": {
            "from": [{"namespace": here.namespace, "pool": "named"}, {"namespace": there.namespace}],
            "podSelector": {"matchLabels": {"share": "yes"}},
        },
    });
    there.kubectl_create(&grant, &[]).succeeded();
    let named = here.create(&pool("named").set(of_namespace(&there.namespace))).await;
    let unnamed = here.create(&pool("unnamed").set(of_namespace(&there.namespace))).await;
    named.has(&[(&address, USED)]).await;
    let status = named.until("refuses the other pod", |status| status.members.refused == 1).await;
    assert_eq!((status.out[0].address.as_str(), status.out[0].name.as_deref()), (other.as_str(), Some("b")));
    unnamed.until("refuses both", |status| (status.members.refused, status.members.total) == (2, 0)).await;
    unnamed.says("Ready", false, "NoMembers").await;
    there.kubectl("label pod b share=yes").succeeded();
    named.has(&[(&address, USED), (&other, USED)]).await;
}

#[tokio::test]
async fn addresses_out_of_bounds_are_left_out() {
    let scenario = Scenario::start("bounds", &[Endpoints]).await;
    let mut wrong = vec!["127.0.0.1".to_owned(), "169.254.169.254".to_owned()];
    if is_local() {
        wrong.extend([HOST_ADDRESS.to_owned(), API_SERVICE_ADDRESS.to_owned()]);
    }
    let all = [wrong.as_slice(), &["192.0.2.1".to_owned()]].concat();
    let web = scenario.create(&pool("web").addresses("outside", &all)).await;
    web.has(&[("192.0.2.1", USED)]).await;
    web.says("MembersAccepted", false, "RangeForbidden").await;
    let status = web.until("lists them", |status| status.out.len() == wrong.len()).await;
    for (out, address) in status.out.iter().zip(&wrong) {
        assert_eq!((&out.address, out.reason.as_str()), (address, "RangeForbidden"));
    }
}

#[tokio::test]
async fn dns_names_are_followed_and_an_unknown_one_is_told() {
    let scenario = Scenario::start("names", &[Endpoints]).await;
    let first = scenario.server("a", "db").await;
    let headless = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 8080}]},
    });
    scenario.kubectl_create(&headless, &[]).succeeded();
    let name = |service: &str| format!("{service}.{}.svc.cluster.local", scenario.namespace);
    let names = |names: &[String]| json!({"name": "names", "dnsNames": names});
    let web = scenario.create(&pool("web").set(names(&[name("db")]))).await;
    web.has(&[(&first, USED)]).await;
    let second = scenario.server("b", "db").await;
    web.has(&[(&first, USED), (&second, USED)]).await;

    let both = [name("db"), name("missing")];
    web.patch(json!({"spec": {"members": [names(&both)]}})).await;
    let sentence = web.says("MembersAccepted", false, "LookupFailed").await;
    assert!(sentence.contains(&format!("{} could not be looked up", both[1])), "{sentence}");
    web.has(&[(&first, USED), (&second, USED)]).await;
}

#[tokio::test]
async fn a_pod_with_the_gate_is_ready_when_it_has_passed_its_check() {
    let scenario = Scenario::start("gate", &[Endpoints]).await;
    let draft = pool("web").pods("web", 0).checked();
    let web = scenario.create(&draft).await;
    let mut spec = pods::judged();
    spec["readinessGates"] = json!([{"conditionType": "mainstay.dev/endpoint-ready"}]);
    // A check that asks about a service that the server does not know fails.
    let strange = json!({"spec": {"check": {"grpc": {"service": "unknown"}}}});
    web.patch(strange).await;
    scenario.orphan("a", "web", spec).await;
    let address = eventually("the containers are ready and the pod is not", async || {
        let pod = scenario.pods().get("a").await.map_err(|error| error.to_string())?;
        let status = pod.status.unwrap_or_default();
        let is_true = |kind: &str| {
            let mut conditions = status.conditions.iter().flatten();
            conditions.any(|condition| condition.type_ == kind && condition.status == "True")
        };
        let waits = is_true("ContainersReady") && !is_true("Ready");
        status.pod_ip.clone().filter(|_| waits).ok_or_else(|| format!("{:?}", status.conditions))
    })
    .await;
    web.until("has asked it in vain", |status| status.members.not_ready == 1 && status.members.in_use == 0)
        .await;
    web.patch(json!({"spec": {"check": {"grpc": null}}})).await;
    scenario.kubectl("wait --for=condition=Ready pod/a --timeout=60s").succeeded();
    web.has(&[(&address, USED)]).await;
}

#[tokio::test]
async fn certificates_are_verified() {
    let scenario = Scenario::start("tls", &[Endpoints]).await;
    let authority = Authority::new("web.example.com");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": authority.certificate, "tls.key": authority.key},
    });
    run("kubectl", &["create", "--filename=-", "--namespace", &scenario.namespace], &secret.to_string())
        .succeeded();
    let mut spec = pods::judged();
    let web = &mut spec["containers"][0];
    web["args"] = json!([
        "netexec",
        "--http-port=8080",
        "--tls-cert-file=/tls/tls.crt",
        "--tls-private-key-file=/tls/tls.key"
    ]);
    web["volumeMounts"] = json!([{"name": "tls", "mountPath": "/tls"}]);
    spec["volumes"] = json!([{"name": "tls", "secret": {"secretName": "tls"}}]);
    scenario.orphan("a", "web", spec).await;
    let tls = |name: &str, authority: &str| json!({"serverName": name, "caBundle": authority});
    let stranger = Authority::new("web.example.com");
    let check = json!({"type": "HTTP", "intervalSeconds": 1, "edgeIntervalSeconds": 1, "timeoutSeconds": 1});
    let draft = pool("web").pods("web", 0).with("spec.check", check).with("spec.panicThreshold", 0);
    for (name, tls, passes) in [
        ("right", tls("web.example.com", &authority.root), true),
        ("wrong-name", tls("other.example.com", &authority.root), false),
        ("wrong-root", tls("web.example.com", &stranger.root), false),
    ] {
        let draft = draft.clone().with("metadata.name", name).with("spec.serviceRef.name", name);
        let checked = scenario.create(&draft.with("spec.check.tls", tls)).await;
        let expected = i32::from(passes);
        checked
            .until("has judged", |status| {
                status.members.in_use == expected && status.members.failing == 1 - expected
            })
            .await;
    }
}

#[tokio::test]
async fn wrong_pools_are_refused_with_the_field() {
    let scenario = Scenario::start("wrong", &[Endpoints]).await;
    let valid = || pool("web").pods("web", 0);
    let set = |set: Value| pool("web").set(set);
    for (what, draft, expected) in [
        ("no members", pool("web"), ["spec.members", "at least 1"]),
        ("a member of no kind", set(json!({"name": "x"})), ["spec.members[0]", "exactly one of podSelector"]),
        (
            "a member of two kinds",
            set(json!({"name": "x", "dnsNames": ["a.example"], "addresses": [{"ip": "192.0.2.1"}]})),
            ["spec.members[0]", "exactly one of podSelector"],
        ),
        (
            "an empty selector",
            set(json!({"name": "x", "podSelector": {}})),
            ["spec.members[0].podSelector", "must not be empty"],
        ),
        (
            "a name as an address",
            set(json!({"name": "x", "addresses": [{"ip": "db.example"}]})),
            ["spec.members[0].addresses[0].ip", "write names into dnsNames"],
        ),
        (
            "a named port of an address",
            set(json!({"name": "x", "addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": "http"}]})),
            ["spec.members[0].ports", "as numbers"],
        ),
        (
            "a namespace of addresses",
            set(json!({"name": "x", "namespace": "y", "dnsNames": ["a.b"]})),
            ["spec.members[0].namespace", "needs podSelector"],
        ),
        ("two sets of one name", valid().pods("web", 1), ["spec.members", "Duplicate"]),
        ("a tier too many", valid().pods("y", 16), ["spec.members[1].tier", "15"]),
        ("a check of no kind", valid().with("spec.check", json!({})), ["spec.check.type", "Required"]),
        (
            "a time-out beyond the interval",
            valid().with("spec.check", json!({"type": "TCP", "timeoutSeconds": 11})),
            ["spec.check.timeoutSeconds", "not be more than"],
        ),
        (
            "TLS of TCP",
            valid().with("spec.check", json!({"type": "TCP", "tls": {}})),
            ["spec.check.tls", "HTTP or GRPC"],
        ),
        (
            "a status that is none",
            valid().with("spec.check", json!({"type": "HTTP", "http": {"expectedStatuses": ["2xx"]}})),
            ["spec.check.http.expectedStatuses[0]", "Invalid value"],
        ),
        (
            "a range of statuses that ends before it begins",
            valid().with(
                "spec.check",
                json!({"type": "HTTP", "http": {"expectedStatuses": ["200", "399-200"]}}),
            ),
            ["spec.check.http.expectedStatuses[1]", "must not end before it begins"],
        ),
        (
            "certificates that are none",
            valid().with("spec.check", json!({"type": "HTTP", "tls": {"caBundle": "YWJj"}})),
            ["spec.check.tls.caBundle", "BEGIN CERTIFICATE"],
        ),
        (
            "an address as a name",
            set(json!({"name": "x", "dnsNames": ["db.example", "192.0.2.1"]})),
            ["spec.members[0].dnsNames[1]", "write it into addresses"],
        ),
        (
            "an address twice",
            set(json!({"name": "x", "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "zone": "a"}]})),
            ["spec.members[0].addresses[1]", "Duplicate value"],
        ),
        (
            "a return below the failover",
            valid().with("spec.failover", json!({"belowPercent": 80})),
            ["spec.failover.returnPercent", "must not be less"],
        ),
        (
            "a Service with a selector",
            valid().with("spec.serviceRef.create.spec.selector", json!({"app": "web"})),
            ["spec.serviceRef.create.spec.selector", "must not be set"],
        ),
        ("a mistyped field", valid().with("spec.drain", 5), ["spec.drain", "unknown field"]),
        (
            "a name too long for a label",
            valid().with("metadata.name", "a".repeat(64)),
            ["metadata.name", "63"],
        ),
    ] {
        let refused = scenario.refusal(draft.object()).await;
        for text in expected {
            assert!(refused.contains(text), "{what}: {text:?} is not in {refused}");
        }
    }
    scenario.create(&valid()).await;
    let other = Patch::Merge(json!({"spec": {"serviceRef": {"name": "other"}}}));
    let pools = scenario.api::<mainstay_crds::EndpointPool>();
    let refused = pools.patch("web", &PatchParams::default(), &other).await.unwrap_err().to_string();
    assert!(refused.contains("spec.serviceRef.name is immutable"), "{refused}");
}
