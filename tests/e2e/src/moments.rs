//! A record of pods, seen as what there was at each moment.

use std::{collections::BTreeMap, fmt::Debug, ops::RangeInclusive};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{
    pods::{has_ended, is_active, is_ready},
    record::Recorder,
    rollout::{Counts, version},
};

/// The pods at one moment, counted by the version of their template.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Those that have not ended, on their way out or not.
    pub present: Counts,
    /// Those that have neither ended nor begun to terminate.
    pub active: Counts,
    /// Those of the active that are ready.
    pub available: Counts,
}

impl Moment {
    fn of<'a>(pods: impl Iterator<Item = &'a Pod>) -> Self {
        let mut moment = Self::default();
        for pod in pods {
            let count = |counts: &mut Counts| *counts.entry(version(pod).into()).or_default() += 1;
            if !has_ended(pod) {
                count(&mut moment.present);
            }
            if is_active(pod) {
                count(&mut moment.active);
                if is_ready(pod) {
                    count(&mut moment.available);
                }
            }
        }
        moment
    }

    /// How many active pods there are of all versions.
    pub fn all_active(&self) -> usize {
        self.active.values().sum()
    }

    /// How many available pods there are of all versions.
    pub fn all_available(&self) -> usize {
        self.available.values().sum()
    }

    /// How many active pods there are of this version.
    pub fn active_of(&self, version: &str) -> usize {
        self.active.get(version).copied().unwrap_or_default()
    }
}

impl Recorder<Pod> {
    /// What there was after each change to a pod, from the start of the record.
    pub fn moments(&self) -> Vec<Moment> {
        let listed = self.listed();
        self.read(|states| {
            let (mut pods, mut moments) = (BTreeMap::new(), Vec::new());
            for (number, (pod, gone)) in states.iter().enumerate() {
                if *gone {
                    pods.remove(&pod.uid());
                } else {
                    pods.insert(pod.uid(), pod);
                }
                // Until all that were listed are in, what there is has never been.
                if number + 1 >= listed {
                    moments.push(Moment::of(pods.values().copied()));
                }
            }
            moments
        })
    }

    /// Asserts that at every moment so far the number of available and that of active pods lay within this range.
    ///
    /// # Panics
    /// With the first moment at which one did not.
    pub async fn stays_within(&self, bounds: RangeInclusive<usize>) {
        let (least, most) = bounds.into_inner();
        self.always(&format!("at least {least} available, at most {most} active"), |moment| {
            moment.all_available() >= least && moment.all_active() <= most
        })
        .await;
    }

    /// Asserts that `holds` held at every moment so far.
    ///
    /// # Panics
    /// With the first moment at which it did not.
    pub async fn always(&self, what: &str, holds: impl Fn(&Moment) -> bool) {
        self.catch_up().await;
        let moments = self.moments();
        assert!(!moments.is_empty(), "the record is empty");
        let broken = moments.iter().position(|moment| !holds(moment));
        let context = |number: usize| moments[number.saturating_sub(1)..=number].to_vec();
        assert!(
            broken.is_none(),
            "not always: {what}; change {broken:?} of {}, with the one before: {:?}",
            moments.len(),
            broken.map(context)
        );
    }
}
