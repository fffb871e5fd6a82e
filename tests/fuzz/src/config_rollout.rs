//! Plans of one rollout of configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arbitrary::{Result, Unstructured};
use jiff::Timestamp;
use mainstay_config_rollout::{
    plan::{
        ABORTED, Changed, Evidence, FOREIGN, Failed, Finding, Input, Number, Observed, Order, PauseSettings,
        Pins, Plan, Problem, Rollout, Settings, Snapshot, SourceKey, SourceVersion, StageSettings, State,
        Taken, TargetKey, TargetState, TargetView, Uses, plan,
    },
    watched::{Blocked, Fingerprint, Progress},
};
use mainstay_crds::{SourceKind, TargetKind};

use crate::input::{NOW, duration, maybe, name, number, one_of, some, time};

const SOURCES: [&str; 2] = ["one", "two"];
const TARGETS: [&str; 4] = ["a", "b", "c", "d"];
const STAGES: [&str; 3] = ["first", "second", "third"];

fn source(name: &str) -> SourceKey {
    SourceKey { kind: SourceKind::ConfigMap, name: name.into() }
}

fn target(name: &str) -> TargetKey {
    TargetKey { kind: TargetKind::Deployment, name: name.into() }
}

/// The number of a revision: few, and sometimes one that somebody has made up.
fn revision(u: &mut Unstructured<'_>) -> Result<Number> {
    if u.ratio(1, 40)? { one_of(u, &[1 << 62, i64::MAX.unsigned_abs()]) } else { u.int_in_range(0..=4) }
}

fn version(u: &mut Unstructured<'_>) -> Result<SourceVersion> {
    Ok(SourceVersion { uid: "u".into(), version: one_of(u, &["1", "2", "3"])?.into() })
}

fn uses(u: &mut Unstructured<'_>) -> Result<Uses> {
    Ok(Uses { all: u.arbitrary()?, keys: BTreeMap::new(), required: u.arbitrary()? })
}

fn stage(u: &mut Unstructured<'_>, of: &str) -> Result<StageSettings> {
    Ok(StageSettings {
        name: of.into(),
        max_parallel: one_of(u, &[1, 1, 2, usize::MAX])?,
        soak: duration(u)?,
        deadline: duration(u)?.max(Duration::from_secs(1)),
        more_restarts: number(u)?.max(0),
        probed: u.ratio(1, 4)?,
        allow_empty: u.arbitrary()?,
        pause: maybe(u, |u| {
            let time = PauseSettings::For(duration(u)?);
            one_of(u, &[time, PauseSettings::Continue])
        })?,
    })
}

fn settings(u: &mut Unstructured<'_>) -> Result<Settings> {
    let stages = u.int_in_range(1..=STAGES.len())?;
    let order =
        |u: &mut Unstructured<'_>| maybe(u, |u| Ok(Order { value: name(u, &["x", "y"])?, of: revision(u)? }));
    Ok(Settings {
        stages: STAGES[..stages].iter().map(|of| stage(u, of)).collect::<Result<_>>()?,
        rolls_back: u.arbitrary()?,
        restarts_only: u.ratio(1, 4)?,
        holds_incomplete: u.arbitrary()?,
        debounce: duration(u)?,
        min_interval: duration(u)?,
        paused: u.ratio(1, 6)?,
        history: u.int_in_range(0..=3)?,
        goes_on: maybe(u, |u| {
            Ok(Order { value: name(u, &["x", "y"])?, of: (revision(u)?, name(u, &STAGES)?) })
        })?,
        retry: order(u)?,
        abort: order(u)?,
    })
}

fn progress(u: &mut Unstructured<'_>) -> Result<Progress> {
    let blocked = [Blocked::Paused, Blocked::OnDelete, Blocked::Partition, Blocked::Step];
    Ok(Progress {
        observed: u.ratio(7, 8)?,
        wanted: number(u)?,
        current: number(u)?,
        updated: number(u)?,
        available: number(u)?,
        over_quota: u.ratio(1, 8)?,
        given_up: maybe(u, |u| Ok((time(u)?, "it makes no progress".into())))?,
        blocked: if u.ratio(1, 6)? { Some(one_of(u, &blocked)?) } else { None },
        outdated: None,
    })
}

fn view(u: &mut Unstructured<'_>, of: &str, stages: usize) -> Result<TargetView> {
    let mut pins = Pins::default();
    for of in SOURCES {
        if u.ratio(3, 4)? {
            let pins = pins.0.entry(source(of)).or_default();
            pins.insert(if u.ratio(1, 16)? { FOREIGN } else { revision(u)? });
        }
    }
    Ok(TargetView {
        key: target(of),
        uid: one_of(u, &["u", "u", "v"])?.into(),
        stage: u.int_in_range(0..=stages - 1)?,
        generation: i64::from(number(u)?),
        pins,
        template: Fingerprint { whole: u.int_in_range(0..=2)?, rest: u.int_in_range(0..=1)? },
        progress: progress(u)?,
    })
}

fn observed(u: &mut Unstructured<'_>, stages: usize) -> Result<Observed> {
    let mut observed = Observed::default();
    for of in SOURCES {
        let key = source(of);
        if u.ratio(7, 8)? {
            observed.sources.insert(key.clone(), version(u)?);
        } else {
            observed.missing_sources.push(key.clone());
        }
        if u.ratio(7, 8)? {
            observed.uses.insert(key.clone(), uses(u)?);
        }
        for _ in 0..u.int_in_range(0..=3)? {
            let number = revision(u)?.max(1);
            let object = Snapshot { name: format!("{of}-{number}").into(), uid: "s".into(), of: version(u)? };
            observed.snapshots.entry(key.clone()).or_default().insert(number, object);
        }
    }
    for of in TARGETS {
        match u.int_in_range(0..=9)? {
            0 => observed.missing_targets.push((target(of), u.int_in_range(0..=stages - 1)?)),
            1 => observed.unreadable_targets.push((target(of), u.int_in_range(0..=stages - 1)?)),
            2 => {}
            _ => observed.targets.push(view(u, of, stages)?),
        }
        let probe = maybe(u, |u| Ok(if u.arbitrary()? { Ok(()) } else { Err("503".to_owned()) }))?;
        let evidence = Evidence { restarts: number(u)?, ready: number(u)?, unscheduled: number(u)?, probe };
        if u.arbitrary()? {
            observed.evidence.insert(target(of), evidence);
        }
    }
    observed.targets.sort_by_key(|target| target.stage);
    Ok(observed)
}

/// As a status may say it, which may be another version's.
fn state(u: &mut Unstructured<'_>) -> Result<State> {
    let mut state = State {
        newest: revision(u)?,
        stable: maybe(u, revision)?,
        failed: maybe(u, |u| {
            let failed = Failed { reason: ABORTED, target: String::new(), message: "by hand".into() };
            Ok((revision(u)?, failed))
        })?,
        rollout: maybe(u, |u| {
            Ok(Rollout {
                to: revision(u)?,
                back: u.arbitrary()?,
                started: time(u)?,
                stage: u.int_in_range(0..=4)?,
                passed: maybe(u, time)?,
            })
        })?,
        last: maybe(u, time)?,
        targets: BTreeMap::new(),
        taken: Taken { retry: maybe(u, |u| name(u, &["x", "y"]))?, ..Taken::default() },
    };
    for of in TARGETS {
        if u.ratio(3, 4)? {
            let remembered = TargetState {
                uid: one_of(u, &["u", "u", "v"])?.into(),
                given: revision(u)?,
                seen: u.arbitrary()?,
                changed: maybe(u, time)?,
                available: maybe(u, time)?,
                broken: maybe(u, time)?,
                unavailable_before: maybe(u, number)?,
                passed: u.arbitrary()?,
                held: u.ratio(1, 4)?,
                restarts_before: number(u)?,
                restarted: maybe(u, time)?,
                reverts: number(u)?,
                reverted: maybe(u, time)?,
                reverted_from: revision(u)?,
                conflict: maybe(u, |u| Ok((i64::from(number(u)?), "another has it".into())))?,
                template: None,
            };
            state.targets.insert(target(of), remembered);
        }
    }
    // A status is written as a whole: none says of a revision that it was later than the newest.
    let failed = state.failed.as_ref().map(|(number, _)| *number);
    let to = state.rollout.as_ref().map(|rollout| rollout.to);
    state.newest = [state.stable, failed, to].into_iter().flatten().fold(state.newest, Number::max);
    Ok(state)
}

/// Plans, gives the targets what is planned, and plans again.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let settings = settings(u)?;
    let mut observed = observed(u, settings.stages.len())?;
    let mut state = state(u)?;
    let mut findings = BTreeMap::new();
    for of in SOURCES {
        if u.arbitrary()? {
            let version = observed.sources.get(&source(of)).cloned();
            let uses = observed.uses.get(&source(of)).cloned().unwrap_or_default();
            let problem = maybe(u, |_| Ok(Problem::KeyMissing(vec!["key".into()])))?.filter(|_| of == "two");
            let equals = some(u, 2, revision)?.into_iter().collect();
            let finding = version.map(|version| Finding { version, uses, equals, problem });
            findings.extend(finding.map(|finding| (source(of), finding)));
        }
    }
    let now = Timestamp::from_second(NOW).unwrap_or_default();
    let past = |u: &mut Unstructured<'_>| time(u).map(|time| time.min(now));
    let changed = maybe(u, |u| {
        let (one, other) = (past(u)?, past(u)?);
        Ok(Changed { first: one.min(other), last: one.max(other) })
    })?;
    let slots = one_of(u, &[0, 1, 2, usize::MAX])?;
    let held: BTreeSet<_> = some(u, 2, |u| Ok(target(one_of(u, &TARGETS)?)))?.into_iter().collect();
    let unknown: BTreeSet<_> = some(u, 1, |u| Ok(target(one_of(u, &TARGETS)?)))?.into_iter().collect();
    // Each plan moves some targets; that must come to an end at one moment.
    let mut news = 0;
    for round in 0.. {
        let input = Input {
            observed: &observed,
            settings: &settings,
            findings: &findings,
            state: &state,
            changed,
            slots,
            held: &held,
            unknown: &unknown,
            now,
        };
        let planned = plan(&input);
        holds(&input, &planned);
        news += planned.news.len();
        let is_settled = planned.moves.is_empty() && planned.state == state;
        if is_settled {
            assert!(planned.news.is_empty(), "told again and again: {planned:?}");
            return Ok(());
        }
        assert!(round < 20 && news < 100, "never settled: {planned:?}\nof {observed:?}\nwith {settings:?}");
        state = planned.state.clone();
        carry_out(&mut observed, &planned);
    }
    Ok(())
}

fn carry_out(observed: &mut Observed, plan: &Plan) {
    for (key, number) in &plan.moves {
        let place =
            observed.targets.iter().position(|target| target.key == *key).expect("a target that is there");
        let pins = observed.targets[place].pins.clone();
        for source in pins.0.keys() {
            let object = observed.object(source, *number);
            let pins = &mut observed.targets[place].pins;
            pins.0.insert(source.clone(), [object].into());
        }
    }
}

fn holds(input: &Input<'_>, plan: &Plan) {
    let Input { observed, settings, state: before, .. } = input;
    let mut moved: BTreeSet<&TargetKey> = BTreeSet::new();
    for (key, number) in &plan.moves {
        assert!(moved.insert(key), "moved twice: {plan:?}");
        assert!(!input.held.contains(key), "moved although it waits: {plan:?}");
        let view = observed.targets.iter().find(|target| target.key == *key);
        let view = view.unwrap_or_else(|| panic!("a target that is not there: {plan:?}"));
        assert!(!observed.is_at(view, *number), "moved to where it is: {plan:?}");
        let remembered = &plan.state.targets[key];
        assert!(!remembered.is_stopped(view), "moved against another manager: {plan:?}");
        // Whatever is in progress, pods that name the sources would read what nobody has tested.
        let rollout = plan.state.rollout.as_ref();
        let failed = plan.state.failed.as_ref().map(|(number, _)| *number);
        let kept = failed.filter(|_| rollout.is_none() && !settings.rolls_back);
        let is_set_back = [plan.state.stable, kept].contains(&Some(*number))
            && view.pins.0.values().flatten().any(|pin| *pin == 0);
        assert!(is_set_back || rollout.is_some(), "moved without a rollout: {plan:?}");
        let goes_on = rollout.is_some_and(|rollout| !settings.paused || rollout.back);
        assert!(is_set_back || goes_on, "moved while paused: {plan:?}");
    }
    let failed = plan.state.failed.as_ref().map(|(number, _)| *number);
    let newly = plan.state.stable != before.stable;
    assert!(
        !newly || failed.is_none() || plan.state.stable != failed,
        "a failed revision is current: {plan:?}"
    );
    assert!(plan.state.newest >= before.newest, "{plan:?}");
    let names: BTreeSet<_> = observed.targets.iter().map(|target| &target.key).collect();
    let unreadable: BTreeSet<_> = observed.unreadable_targets.iter().map(|(key, _)| key).collect();
    let known = |key: &&TargetKey| names.contains(key) || unreadable.contains(key);
    assert!(plan.state.targets.keys().all(|key| known(&key)), "remembered although it is gone: {plan:?}");
}
