//! Which endpoints a pool's slices are to hold.

use std::time::Duration;

use mainstay_runtime::labels::LabelPool;
use serde_json::{Value, json};

use super::*;
use crate::{
    choose::{Failover, Policy, SlowStart},
    observe::{Awaited, Kept, Member},
    watched::{Family, Pod, Port, Target as PodTarget, WatchedService},
};

mod draining;
mod less;
mod names;

const NOW: Moment = Duration::from_secs(100);

fn policy() -> Policy {
    let failover = Failover { below: 50, back_above: 70, back_after: Duration::from_secs(30) };
    Policy { panic_below: 1, max_ejected: 100, failover, slow_start: None }
}

fn service(spec: Value) -> Service {
    let object = json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec});
    serde_json::from_value::<WatchedService>(object).unwrap().into()
}

fn v4() -> Service {
    service(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"]}))
}

fn ports() -> Arc<[Port]> {
    [Port { name: String::new(), port: 80, protocol: "TCP".into(), app_protocol: None }].into()
}

fn outside(tier: u8, address: &str) -> Member {
    let address = address.parse().unwrap();
    let endpoint = Endpoint {
        address,
        conditions: Conditions::default(),
        hostname: None,
        node: None,
        zone: Some("zone-a".into()),
        target: None,
        hint_zone: None,
        hint_node: None,
    };
    let target = Target { set: "set".into(), address, pod: None };
    Member {
        target,
        tier,
        pod: None,
        name: None,
        ports: ports(),
        is_reachable: true,
        check_port: Some(80),
        endpoint,
    }
}

fn pod(name: &str, address: &str, ready: bool, terminating: bool) -> Member {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "status": {
            "phase": "Running", "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]
        }
    });
    if terminating {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let pod = Pod::slim(serde_json::from_value(object).unwrap(), &mut LabelPool::default());
    let mut member = outside(0, address);
    let key = &pod.header.key;
    member.endpoint.target =
        Some(PodTarget { namespace: "ns".into(), name: Arc::clone(&key.name), uid: name.into() });
    Member { pod: Some(Arc::new(pod)), ..member }
}

/// A slice without notes.
fn slice(endpoints: Vec<Endpoint>) -> Arc<Slice> {
    noted_slice(endpoints, &Noted::default())
}

/// What a former plan has written.
fn noted_slice(endpoints: Vec<Endpoint>, noted: &Noted) -> Arc<Slice> {
    let group = Group { family: Family::V4, ports: ports() };
    let notes: BTreeMap<_, _> =
        noted.text(&group, &endpoints, &BTreeMap::new()).map(|text| (NOTES, text)).into_iter().collect();
    let metadata = json!({"name": "web-a", "namespace": "ns", "annotations": notes});
    let object = json!({"metadata": metadata, "addressType": "IPv4", "ports": []});
    let slice = serde_json::from_value::<crate::watched::WatchedSlice>(object).unwrap();
    Arc::new(Slice { endpoints, group, ..slice.into() })
}

/// The slice of IPv4 that a plan asks for.
fn written(plan: &Plan) -> Arc<Slice> {
    noted_slice(plan.wanted.values().flatten().cloned().collect(), &plan.noted)
}

struct Case {
    service: Service,
    members: Vec<Member>,
    awaited: Vec<Awaited>,
    kept: Vec<Kept>,
    exchanged: Vec<Kept>,
    states: Option<HashMap<Target, State>>,
    slices: Vec<Arc<Slice>>,
    drain: Duration,
    slow_start: Option<SlowStart>,
    memory: Memory,
    runs: bool,
}

impl Case {
    fn of(members: Vec<Member>) -> Self {
        Self {
            service: v4(),
            members,
            awaited: vec![],
            kept: vec![],
            exchanged: vec![],
            states: None,
            slices: vec![],
            drain: Duration::ZERO,
            slow_start: None,
            memory: Memory::default(),
            runs: true,
        }
    }

    fn checked(mut self, verdicts: &[Verdict]) -> Self {
        let states = self.members.iter().zip(verdicts);
        let state = |verdict: &Verdict| State { verdict: *verdict, since: Duration::ZERO, failure: None };
        self.states = Some(states.map(|(member, verdict)| (member.target.clone(), state(verdict))).collect());
        self
    }

    fn plan(&self, now: Moment) -> Plan {
        let runs = self.runs;
        let input = Input {
            service: &self.service,
            members: &self.members,
            awaited: &self.awaited,
            kept: &self.kept,
            exchanged: &self.exchanged,
            has_names: false,
            states: self.states.as_ref(),
            slices: &self.slices,
            standing: &Standing::of(&self.slices),
            policy: &Policy { slow_start: self.slow_start.clone(), ..policy() },
            drain: self.drain,
            memory: &self.memory,
            may_drain: &|_| runs,
        };
        plan(&input, now)
    }

    /// The conditions of each endpoint of IPv4, by address: ready, serving, terminating.
    fn conditions(&self, now: Moment) -> Vec<(String, [bool; 3])> {
        let wanted = self.plan(now).wanted;
        let endpoints =
            wanted.into_iter().filter(|(group, _)| group.family == Family::V4).flat_map(|group| group.1);
        let mut all: Vec<_> = endpoints
            .map(|endpoint| {
                let Conditions { ready, serving, terminating } = endpoint.conditions;
                (endpoint.address.to_string(), [ready, serving, terminating])
            })
            .collect();
        all.sort();
        all
    }
}

fn expect(conditions: &[(&str, [bool; 3])]) -> Vec<(String, [bool; 3])> {
    conditions.iter().map(|(address, conditions)| ((*address).to_owned(), *conditions)).collect()
}

#[test]
fn conditions_are_upstreams_for_pods_that_are_not_checked() {
    let case = Case::of(vec![
        pod("a", "10.0.0.1", true, false),
        pod("b", "10.0.0.2", false, false),
        pod("c", "10.0.0.3", true, true),
        pod("d", "10.0.0.4", false, true),
    ]);
    let expected = expect(&[
        ("10.0.0.1", [true, true, false]),
        ("10.0.0.2", [false, false, false]),
        ("10.0.0.3", [false, true, true]),
        ("10.0.0.4", [false, false, true]),
    ]);
    assert_eq!(case.conditions(NOW), expected);
}

#[test]
fn a_set_that_is_renamed_takes_nobody_out_of_use() {
    let slow = SlowStart { percent: 25, period: Duration::from_secs(60) };
    let mut case = Case::of((1..=8).map(|host| outside(0, &format!("10.0.0.{host}"))).collect());
    case.slow_start = Some(slow);
    case.memory = case.plan(NOW).memory;
    // If all were, they would be taken for a pool that starts.
    case.members.iter_mut().take(6).for_each(|member| member.target.set = "renamed".into());
    let plan = case.plan(NOW + Duration::from_secs(600));
    assert_eq!(plan.choice.uses, [Use::InUse; 8]);
}

#[test]
fn publish_not_ready_addresses_makes_every_pod_ready() {
    let mut case = Case::of(vec![pod("a", "10.0.0.1", false, false), pod("b", "10.0.0.2", true, true)]);
    case.service = service(json!({"ipFamilies": ["IPv4"], "publishNotReadyAddresses": true}));
    let expected = expect(&[("10.0.0.1", [true, false, false]), ("10.0.0.2", [true, true, true])]);
    assert_eq!(case.conditions(NOW), expected);
}

#[test]
fn who_fails_the_check_is_not_serving_and_who_was_not_asked_yet_has_no_endpoint() {
    let members = vec![outside(0, "10.0.0.1"), outside(0, "10.0.0.2"), outside(0, "10.0.0.3")];
    let case = Case::of(members).checked(&[Verdict::Passing, Verdict::Failing, Verdict::Unknown]);
    let expected = expect(&[("10.0.0.1", [true, true, false]), ("10.0.0.2", [false, false, false])]);
    assert_eq!(case.conditions(NOW), expected);
}

#[test]
fn a_standby_serves_and_is_not_ready() {
    let case = Case::of(vec![outside(0, "10.0.0.1"), outside(1, "10.0.0.2")]);
    let expected = expect(&[("10.0.0.1", [true, true, false]), ("10.0.0.2", [false, true, false])]);
    assert_eq!(case.conditions(NOW), expected);
}

#[test]
fn in_panic_members_that_fail_are_ready_and_do_not_serve() {
    let case = Case::of(vec![outside(0, "10.0.0.1"), pod("b", "10.0.0.2", false, false)])
        .checked(&[Verdict::Failing, Verdict::Failing]);
    assert!(case.plan(NOW).choice.panic);
    let expected = expect(&[("10.0.0.1", [true, false, false]), ("10.0.0.2", [false, false, false])]);
    assert_eq!(case.conditions(NOW), expected, "panic does not override readiness");
}

#[test]
fn a_new_leader_takes_the_verdicts_from_the_slices() {
    let members = || {
        let outside = [outside(0, "10.0.0.1"), outside(0, "10.0.0.2"), outside(1, "10.0.0.3")];
        let pods = [pod("a", "10.0.0.4", true, false), pod("b", "10.0.0.5", false, false)];
        [outside.to_vec(), pods.to_vec()].concat()
    };
    use Verdict::{Failing, Passing, Unknown};
    let before = Case::of(members()).checked(&[Passing, Failing, Passing, Failing, Unknown]).plan(NOW);
    let standing = Standing::of(&[written(&before)]);
    let verdicts: Vec<_> = members().iter().map(|member| standing.verdict(member)).collect();
    assert_eq!(verdicts, [Some(Passing), Some(Failing), Some(Passing), Some(Failing), None]);
    let became_ready = pod("b", "10.0.0.5", true, false);
    assert_eq!(standing.verdict(&became_ready), None, "it was not ready, which says nothing of its check");
}

#[test]
fn a_pod_that_becomes_ready_again_is_asked_anew_and_keeps_its_place_meanwhile() {
    let not_ready = pod("a", "10.0.0.1", false, false);
    let slices = vec![slice(Case::of(vec![not_ready]).plan(NOW).wanted.into_values().flatten().collect())];
    let ready = pod("a", "10.0.0.1", true, false);
    assert_eq!(Standing::of(&slices).verdict(&ready), None);
    let mut case = Case::of(vec![ready, pod("b", "10.0.0.2", true, false)]);
    case = case.checked(&[Verdict::Unknown, Verdict::Unknown]);
    case.slices = slices;
    let expected = expect(&[("10.0.0.1", [false, false, false])]);
    assert_eq!(case.conditions(NOW), expected, "a new one has no place to keep");
}

#[test]
fn another_port_of_the_service_changes_no_verdict() {
    let member = outside(0, "10.0.0.1");
    let slices = [written(&Case::of(vec![member.clone()]).plan(NOW))];
    let port = Port { name: "web".into(), ..ports()[0].clone() };
    let renamed = Member { ports: [port].into(), ..member };
    assert_eq!(Standing::of(&slices).verdict(&renamed), Some(Verdict::Passing));
}

#[test]
fn slices_note_where_addresses_come_from_and_what_fails() {
    let named = Member { name: Some("db.example".into()), ..outside(0, "10.0.0.1") };
    let case = Case::of(vec![named, outside(0, "10.0.0.2"), pod("a", "10.0.0.3", true, false)]);
    let plan = case.checked(&[Verdict::Passing, Verdict::Failing, Verdict::Failing]).plan(NOW);
    let slice = written(&plan);
    let text = r#"{"names":{"set":{"db.example":["10.0.0.1"]}},"tiers":{"set":0},"failing":["10.0.0.2","10.0.0.3"]}"#;
    assert_eq!(slice.annotations[NOTES], text);
    assert!(slices(&plan, std::slice::from_ref(&slice), 100, |_| true).is_empty());
    let stripped = Slice { annotations: BTreeMap::new(), notes: None, ..Arc::into_inner(slice).unwrap() };
    assert_eq!(slices(&plan, &[Arc::new(stripped)], 100, |_| true).update.len(), 1, "it is put right");
}

#[test]
fn no_slice_has_more_notes_than_it_may_have() {
    let of = |count: usize, length: usize| {
        let member = |index: usize| {
            let name = format!("{index:0length$}").into();
            Member { name: Some(name), ..outside(0, &format!("10.1.{}.{}", index / 250, index % 250)) }
        };
        let members: Vec<_> = (0..count).map(member).collect();
        let verdicts = vec![Verdict::Failing; count];
        Case::of(members).checked(&verdicts).plan(NOW)
    };
    let text = |plan: &Plan, others: usize| {
        let group = Group { family: Family::V4, ports: ports() };
        let others = BTreeMap::from([("a".to_owned(), "b".repeat(others))]);
        let text = plan.noted.text(&group, &plan.wanted[&group], &others);
        text.map(|text| (text.contains("names"), text.contains("failing"), text.len()))
    };
    assert!(matches!(text(&of(1000, 50), 0), Some((true, true, _))));
    assert!(matches!(text(&of(1000, 105), 0), Some((true, false, ..=131_072))), "the names count more");
    assert_eq!(text(&of(1000, 250), 0), None, "without names it would say that there are none");
    assert!(matches!(text(&of(10, 50), 200_000), Some((true, true, _))));
    assert_eq!(text(&of(10, 50), 262_000), None, "others leave no room");
    let plan = of(1000, 250);
    let slice = written(&plan);
    assert!(slice.notes.is_none());
    assert!(slices(&plan, &[slice], 1000, |_| true).is_empty(), "what cannot be noted is not tried for ever");
}

#[test]
fn a_family_without_endpoints_has_an_empty_slice() {
    let mut case = Case::of(vec![outside(0, "10.0.0.1")]);
    case.service = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let wanted = case.plan(NOW).wanted;
    let placeholder = Group { family: Family::V6, ports: Arc::default() };
    assert_eq!((wanted.len(), wanted.get(&placeholder).map(Vec::len)), (2, Some(0)));
}

#[test]
fn hints_are_given_for_ready_endpoints_where_the_service_asks_for_them() {
    let hints = |distribution: &str| {
        let mut member = outside(0, "10.0.0.1");
        member.endpoint.node = Some("node-1".into());
        let mut case = Case::of(vec![member, outside(1, "10.0.0.2")]);
        case.service = service(json!({"ipFamilies": ["IPv4"], "trafficDistribution": distribution}));
        let endpoints: Vec<_> = case.plan(NOW).wanted.into_values().flatten().collect();
        assert_eq!((&endpoints[1].hint_zone, &endpoints[1].hint_node), (&None, &None), "a standby has none");
        (
            endpoints[0].hint_zone.as_deref().map(str::to_owned),
            endpoints[0].hint_node.as_deref().map(str::to_owned),
        )
    };
    let (zone, node) = (Some("zone-a".to_owned()), Some("node-1".to_owned()));
    assert_eq!(hints(""), (None, None));
    assert_eq!(hints("PreferClose"), (zone.clone(), None));
    assert_eq!(hints("PreferSameZone"), (zone.clone(), None));
    assert_eq!(hints("PreferSameNode"), (zone, node));
}

#[test]
fn slices_that_hold_what_is_wanted_are_left_alone_unless_they_are_outdated() {
    let plan = Case::of(vec![outside(0, "10.0.0.1")]).plan(NOW);
    let existing = vec![written(&plan)];
    assert!(slices(&plan, &existing, 100, |_| true).is_empty());
    assert_eq!(slices(&plan, &existing, 100, |_| false).update.len(), 1);
}

#[test]
fn a_slice_without_ports_is_left_as_the_server_returns_it_and_one_being_deleted_is_replaced() {
    let read = |deleted: Value| {
        let metadata = json!({"name": "web-a", "namespace": "ns", "deletionTimestamp": deleted});
        let object = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": null, "ports": null});
        let slice = serde_json::from_value::<crate::watched::WatchedSlice>(object).unwrap();
        slices(&Case::of(vec![]).plan(NOW), &[Arc::new(slice.into())], 100, |_| true)
    };
    assert!(read(Value::Null).is_empty());
    let plan = read(json!("2026-01-01T00:00:00Z"));
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (1, 0, 0));
}
