//! Plans of the pods of one group.

use std::{sync::LazyLock, time::Duration};

use arbitrary::{Result, Unstructured};
use jiff::Timestamp;
use mainstay_replication::plan::{
    Cause, Claim, Ending, Gate, Hook, InPlace, Lost, Node, NodePreference, Phase, Plan, Pod, Policy,
    Replacement, Share, Strategy, Trouble, Volumes, plan,
};

use crate::input::{NOW, duration, maybe, number, one_of, some, time};

pub(crate) const REVISIONS: [&str; 3] = ["a", "b", "c"];
const MOST_PODS: usize = 12;
const MOST_REPLICAS: usize = 12;
/// No group takes longer to come to rest when all goes well.
const MOST_ROUNDS: usize = 300;

static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..8192_u32).map(|pod| format!("{:08x}", pod.wrapping_mul(2_654_435_761))).collect());

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a usual time")
}

/// A pod of one of the revisions, in any state.
fn pod(u: &mut Unstructured<'_>, name: &'static str) -> Result<Pod<'static>> {
    use Claim::{Foreign, Mine, MineUnmatched, OrphanHooked, OrphanMatching, OrphanRefused};
    use Phase::{Failed, Pending, Running, Succeeded, Unknown};
    let cause = [Cause::Gated, Cause::Unschedulable, Cause::Image, Cause::Config];
    Ok(Pod {
        name,
        uid: name,
        claim: one_of(
            u,
            &[Mine, Mine, Mine, Mine, MineUnmatched, OrphanMatching, OrphanRefused, OrphanHooked, Foreign],
        )?,
        node: maybe(u, node)?,
        phase: one_of(u, &[Running, Running, Running, Pending, Unknown, Succeeded, Failed])?,
        terminating: u.ratio(1, 8)?,
        ready_since: maybe(u, time)?,
        created: time(u)?,
        ended_at: maybe(u, time)?,
        deletion_cost: number(u)?,
        restarts: number(u)?,
        sidecar_restarts: number(u)?,
        fully_labeled: u.arbitrary()?,
        revision: one_of(u, &["a", "a", "b", "c", ""])?,
        crashes: number(u)?,
        blocker: maybe(u, |u| Ok(Trouble { cause: one_of(u, &cause)?, lasts: duration(u)? }))?,
        gate: maybe(u, |u| one_of(u, &[Gate::Unset, Gate::Closed, Gate::Open]))?,
        changing: u.ratio(1, 8)?,
        in_place: maybe(u, |u| Ok(InPlace { still_ready: u.ratio(1, 2)? }))?,
        hook: if u.ratio(1, 4)? { Some(Hook { held: u.arbitrary()?, since: maybe(u, time)? }) } else { None },
    })
}

fn node(u: &mut Unstructured<'_>) -> Result<Node<'static>> {
    let name = one_of(u, &["n1", "n2", "n3", "n4"])?;
    let zone = maybe(u, |u| one_of(u, &["a", "b"]))?;
    let rack = maybe(u, |u| one_of(u, &["r1", "r2"]))?;
    Ok(Node {
        name,
        domains: [zone, rack, None, None],
        pods: u.int_in_range(0..=30)?,
        leaving: u.ratio(1, 6)?,
    })
}

/// The pods of a group.
pub(crate) fn pods(u: &mut Unstructured<'_>) -> Result<Vec<Pod<'static>>> {
    let mut names = NAMES.iter();
    some(u, MOST_PODS, |u| pod(u, names.next().expect("there are enough names")))
}

pub(crate) fn strategy(u: &mut Unstructured<'_>) -> Result<Strategy> {
    Ok(match u.int_in_range(0..=5)? {
        0 => Strategy::Recreate,
        1 => Strategy::OnDelete,
        _ => {
            let (surge, unavailable) = (u.int_in_range(0..=4)?, u.int_in_range(0..=4)?);
            Strategy::Rolling {
                surge,
                unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
            }
        }
    })
}

fn policy(u: &mut Unstructured<'_>, pods: &[Pod<'_>]) -> Result<Policy> {
    let strategy = strategy(u)?;
    // Several revisions are wanted side by side in a rolling update alone.
    let most = if matches!(strategy, Strategy::Rolling { .. }) { REVISIONS.len() } else { 1 };
    let revisions = u.int_in_range(0..=most)?;
    let shares = REVISIONS[..revisions].iter().map(|revision| {
        Ok(Share { revision: (*revision).into(), replicas: u.int_in_range(0..=MOST_REPLICAS / 3)? })
    });
    let shares: Vec<_> = shares.collect::<Result<_>>()?;
    let replicas = match shares.as_slice() {
        [] => u.int_in_range(0..=MOST_REPLICAS)?,
        shares => shares.iter().map(|share| share.replicas).sum(),
    };
    let lives = |pod: &&Pod<'_>| pod.claim == Claim::Mine && !pod.phase.is_terminal();
    let living = pods.iter().filter(lives).count();
    let free = u.int_in_range(0..=3)?;
    let endings = [Ending::GarbageCollected, Ending::DrainFirst, Ending::OrphanPods];
    Ok(Policy {
        replicas,
        min_ready: one_of(u, &[0, 0, 30, 600])?.seconds(),
        replacement: one_of(u, &[Replacement::WhenTerminating, Replacement::WhenTerminated])?,
        prefer: one_of(u, &[NodePreference::CrowdedNode, NodePreference::EmptiestNode])?,
        replace_named: u.arbitrary()?,
        lost: some(u, 3, |u| {
            let (one, other) = (time(u)?, time(u)?);
            Ok(Lost {
                revision: one_of(u, &REVISIONS)?.into(),
                created: one.min(other),
                gone: one.max(other),
            })
        })?,
        pods_to_delete: some(u, 3, |u| one_of(u, &[0, 1, 5, 9]))?
            .iter()
            .map(|&pod| NAMES[pod].clone())
            .collect(),
        ending: if u.ratio(1, 10)? { Some(one_of(u, &endings)?) } else { None },
        strategy,
        keep: maybe(u, |u| {
            Ok(Share { revision: one_of(u, &REVISIONS)?.into(), replicas: u.int_in_range(0..=replicas)? })
        })?
        .filter(|_| !shares.is_empty()),
        shares,
        volumes: maybe(u, |u| {
            Ok(Volumes { total: living + free, free, reuse: u.arbitrary()?, discard: u.arbitrary()? })
        })?,
        hook_timeout: duration(u)?,
        budgets: u.arbitrary()?,
    })
}

trait Seconds {
    fn seconds(self) -> Duration;
}

impl Seconds for u64 {
    fn seconds(self) -> Duration {
        Duration::from_secs(self)
    }
}

fn is_active(pod: &Pod<'_>) -> bool {
    matches!(pod.claim, Claim::Mine | Claim::OrphanMatching) && !pod.terminating && !pod.phase.is_terminal()
}

/// What holds of every plan.
pub(crate) fn holds(policy: &Policy, pods: &[Pod<'_>], plan: &Plan, now: Timestamp) {
    let mut deleted: Vec<_> = plan.delete.iter().map(|victim| victim.pod).collect();
    let Plan { adopt, adopt_again, release, open, cancel, time_out, .. } = plan;
    let lists = [adopt, adopt_again, release, &deleted, open, cancel, time_out];
    assert!(lists.into_iter().flatten().all(|&pod| pod < pods.len()), "a pod that is not there: {plan:?}");
    let is_ending = policy.ending.is_some();
    let may_go = |&pod: &usize| is_active(&pods[pod]) || is_ending && pods[pod].claim == Claim::Mine;
    assert!(deleted.iter().all(may_go), "a pod is deleted that is not the group's, or has ended: {plan:?}");
    deleted.sort_unstable();
    let all = deleted.len();
    deleted.dedup();
    assert_eq!(deleted.len(), all, "a pod is deleted twice: {plan:?}");
    let is_orphan = |&pod: &usize| pods[pod].claim == Claim::OrphanMatching && is_active(&pods[pod]);
    assert!(plan.adopt.iter().all(is_orphan), "a pod is adopted that has an owner, or ends: {plan:?}");
    let is_refused = |&pod: &usize| pods[pod].claim == Claim::OrphanRefused && !pods[pod].terminating;
    assert!(plan.adopt_again.iter().all(is_refused) && (adopt_again.is_empty() || !is_ending), "{plan:?}");
    assert!(!plan.release.iter().any(|&pod| pods[pod].claim == Claim::Foreign), "{plan:?}");
    assert!(!plan.cancel.iter().any(|pod| deleted.binary_search(pod).is_ok()), "kept and deleted: {plan:?}");
    assert!(plan.recheck_in != Some(Duration::ZERO), "planned again at once: {plan:?}");
    if is_ending {
        assert!(plan.create.is_empty() && plan.adopt.is_empty(), "a group that goes makes pods: {plan:?}");
        return;
    }
    let counts = plan.counts;
    assert_eq!(counts.active, pods.iter().filter(|pod| is_active(pod)).count());
    assert!(counts.available <= counts.ready && counts.ready <= counts.active, "{plan:?}");
    let surge = policy.strategy.surge();
    let most = policy.replicas.saturating_add(surge);
    let after =
        (counts.active + plan.creations()).checked_sub(all).expect("no more are deleted than there are");
    assert!(after <= most.max(counts.active), "{after} pods, and at most {most}: {plan:?}");
    // A rollout may take some, and the way to another revision by Recreate all of them.
    let fewer = match policy.strategy {
        _ if policy.shares.is_empty() => 0,
        Strategy::Rolling { unavailable, .. } => unavailable,
        Strategy::Recreate => policy.replicas,
        Strategy::OnDelete => 0,
    };
    let least = policy.replicas.saturating_sub(fewer);
    assert!(after >= counts.active.min(least), "fewer than there should be: {plan:?}");
    let living = counts.active + counts.terminating;
    let strict = policy.replacement == Replacement::WhenTerminated;
    assert!(!strict || plan.create.is_empty() || living + plan.creations() <= most, "{plan:?}");
    if let Some(Volumes { total, free, reuse, discard }) = policy.volumes {
        assert!(plan.discard <= free && (discard || plan.discard == 0), "{plan:?}");
        let made = plan.creations().saturating_sub(free);
        assert!(!reuse || made == 0 || total + made <= most, "{made} more sets of claims: {plan:?}");
    }
    let several = policy.shares.len() > 1 || policy.keep.is_some();
    if let (Strategy::Rolling { unavailable, .. }, true) = (policy.strategy, several) {
        let floor = policy.replicas.saturating_sub(unavailable);
        let gone = plan.delete.iter().filter(|victim| is_available(&pods[victim.pod], policy, now)).count();
        let left = counts.available - gone;
        assert!(left >= floor.min(counts.available), "{left} available, at least {floor}: {plan:?}");
    }
}

fn is_available(pod: &Pod<'_>, policy: &Policy, now: Timestamp) -> bool {
    let drained = pod.hook.is_some_and(|hook| hook.since.is_some() && !hook.held);
    // As the API says it: ready now, and for long enough.
    let since = pod.ready_since.filter(|_| !drained);
    since.is_some_and(|since| {
        policy.min_ready.is_zero() || since.checked_add(policy.min_ready).is_ok_and(|at| at <= now)
    })
}

/// A group whose plans are carried out, and whose pods do well.
struct World {
    policy: Policy,
    pods: Vec<Pod<'static>>,
    made: usize,
    now: Timestamp,
}

impl World {
    /// Carries a plan out, and lets an hour go by in which all goes well.
    fn live(&mut self, plan: &Plan) {
        let pods = &mut self.pods;
        plan.adopt.iter().chain(&plan.adopt_again).for_each(|&pod| pods[pod].claim = Claim::Mine);
        if let Some(volumes) = &mut self.policy.volumes {
            volumes.total += plan.adopt.len() + plan.adopt_again.len();
        }
        for &pod in &plan.release {
            (pods[pod].claim, pods[pod].hook) = (Claim::Foreign, None);
        }
        plan.open.iter().for_each(|&pod| pods[pod].gate = Some(Gate::Open));
        plan.cancel.iter().for_each(|&pod| pods[pod].hook = Some(Hook { held: true, since: None }));
        plan.time_out.iter().for_each(|&pod| pods[pod].hook = None);
        for victim in &plan.delete {
            let pod = &mut pods[victim.pod];
            match pod.hook {
                Some(Hook { held: true, since: None }) => {
                    pod.hook = Some(Hook { held: true, since: Some(self.now) });
                }
                Some(Hook { held: true, .. }) => {}
                _ => pod.terminating = true,
            }
        }
        if let Some(volumes) = &mut self.policy.volumes {
            volumes.total -= plan.discard;
            volumes.free -= plan.discard;
        }
        for creation in &plan.create {
            for _ in 0..creation.count {
                self.make(&creation.revision);
            }
        }
        self.pass();
    }

    fn make(&mut self, revision: &str) {
        let name = &NAMES[MOST_PODS + self.made];
        self.made += 1;
        let revision = REVISIONS.into_iter().find(|known| *known == revision).unwrap_or_default();
        let created = self.now;
        self.pods.push(Pod {
            name,
            uid: name,
            claim: Claim::Mine,
            node: None,
            phase: Phase::Pending,
            terminating: false,
            ready_since: None,
            created,
            ended_at: None,
            deletion_cost: 0,
            restarts: 0,
            sidecar_restarts: 0,
            fully_labeled: true,
            revision,
            crashes: 0,
            blocker: None,
            gate: None,
            changing: false,
            in_place: None,
            hook: None,
        });
        if let Some(volumes) = &mut self.policy.volumes {
            if volumes.reuse && volumes.free > 0 {
                volumes.free -= 1;
            } else {
                volumes.total += 1;
            }
        }
    }

    fn pass(&mut self) {
        self.now = self.now.checked_add(Duration::from_secs(3600)).expect("not so many hours");
        let before = self.pods.len();
        let is_gone = |pod: &Pod<'_>| pod.terminating && pod.claim == Claim::Mine;
        let freed = self.pods.iter().filter(|pod| is_gone(pod) && !pod.phase.is_terminal()).count();
        self.pods.retain(|pod| !is_gone(pod));
        assert!(self.pods.len() + freed <= before);
        if let Some(volumes) = &mut self.policy.volumes {
            volumes.free += freed;
        }
        for pod in self.pods.iter_mut().filter(|pod| pod.claim == Claim::Mine) {
            if let Some(Hook { held, since: Some(_) }) = &mut pod.hook {
                *held = false;
            }
            if !pod.phase.is_terminal() {
                (pod.phase, pod.changing) = (Phase::Running, false);
                pod.ready_since = Some(pod.ready_since.map_or(pod.created, |since| since.min(self.now)));
                pod.ready_since = pod.ready_since.map(|since| since.min(self.now));
            }
        }
    }
}

/// Plans, and lets what is planned happen until nothing more is.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let pods = pods(u)?;
    let policy = policy(u, &pods)?;
    let mut world = World { policy, pods, made: 0, now: now() };
    let mut quiet = 0;
    for _ in 0..MOST_ROUNDS {
        let plan = plan(&world.policy, &world.pods, world.now);
        holds(&world.policy, &world.pods, &plan, world.now);
        quiet = if plan.is_empty() { quiet + 1 } else { 0 };
        // After a day nothing of what failed before counts, nor is a time of another machine in the future.
        if quiet > 30 {
            ended(&world.policy, &world.pods, &plan);
            return Ok(());
        }
        world.live(&plan);
    }
    panic!("not at rest: {:?} of {:?}", plan(&world.policy, &world.pods, world.now), world.pods);
}

/// What a group is like that is at rest.
fn ended(policy: &Policy, pods: &[Pod<'_>], plan: &Plan) {
    if policy.ending.is_some() {
        return;
    }
    let of = |revision: Option<&str>| {
        let is_of =
            |pod: &&Pod<'_>| is_active(pod) && revision.is_none_or(|revision| pod.revision == revision);
        pods.iter().filter(is_of).count()
    };
    if policy.keep.is_none() {
        assert_eq!(of(None), policy.replicas, "{plan:?} of {policy:?} and {pods:?}");
    }
    if policy.keep.is_none() && policy.strategy != Strategy::OnDelete {
        for share in &policy.shares {
            assert_eq!(
                of(Some(&share.revision)),
                share.replicas,
                "{share:?}: {plan:?} of {policy:?} and {pods:?}"
            );
        }
    }
}
