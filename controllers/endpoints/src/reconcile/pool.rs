//! What is remembered of a pool between reconciles.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_crds::EndpointPool;
use mainstay_runtime::{index::ObjectKey, outcome::Failure};

use crate::{
    checker::Target,
    choose::Use,
    observe::Member,
    plan,
    settings::{Settings, SettingsError},
    watched::{Conditions, EndpointKey},
};

/// The key of the pool's Service.
pub(super) fn service_key(pool: &EndpointPool) -> ObjectKey {
    ObjectKey::new(&pool.namespace().unwrap_or_default(), &pool.spec.service_ref.name)
}

/// A spec as it was read, and at which generation.
type Spec = (Option<i64>, Result<Arc<Settings>, SettingsError>);

/// What is remembered of a pool between reconciles.
#[derive(Debug, Default)]
pub struct Remembered {
    settings: Option<Spec>,
    /// The last that could be read.
    usable: Option<Arc<Settings>>,
    /// What endpoints said before they were lowered because their pods do not serve, while no spec could be followed.
    pub(super) lowered: HashMap<EndpointKey, Conditions>,
    /// What the last plan left; `None` before the first one.
    pub(super) plan: Option<plan::Memory>,
    /// When the readiness of each pod whose fate was decided had last changed, when the slices were last written.
    written: Option<HashMap<Target, Timestamp>>,
    /// What the pool cannot be used for, as it was announced.
    announced: Option<Failure>,
}

impl Remembered {
    /// The pool's settings, read once a generation.
    pub(super) fn settings(&mut self, pool: &EndpointPool) -> Result<Arc<Settings>, SettingsError> {
        let generation = pool.metadata.generation;
        if let Some((read, settings)) = &self.settings
            && *read == generation
        {
            return settings.clone();
        }
        let read = Settings::read(pool);
        let settings = read.map(|settings| Arc::new(keep_definition(settings, self.usable.as_deref())));
        if let Ok(settings) = &settings {
            self.usable = Some(Arc::clone(settings));
            self.lowered.clear();
        }
        self.settings = Some((generation, settings.clone()));
        settings
    }

    /// The last settings that could be read; `None` where this process has read none.
    pub(super) fn usable(&self) -> Option<Arc<Settings>> {
        self.usable.clone()
    }

    /// Whether this process has planned the pool before.
    pub(super) fn is_known(&self) -> bool {
        self.plan.is_some()
    }

    /// Forgets who was used: the pool has no endpoints.
    pub(super) fn restart(&mut self) {
        self.plan = Some(plan::Memory::default());
        self.written = None;
    }

    /// Whether a pod's readiness has changed since the slices were last written.
    pub(super) fn is_new(&self, target: &Target, changed: Timestamp) -> bool {
        self.written.as_ref().is_some_and(|written| written.get(target) != Some(&changed))
    }

    /// Notes that the slices say how these members are used.
    pub(super) fn note(&mut self, members: &[Member], uses: &[Use]) {
        let decided = members.iter().zip(uses).filter(|(_, used)| **used != Use::Unchecked);
        let stamps = decided
            .filter_map(|(member, _)| Some((member.target.clone(), member.pod.as_ref()?.ready_changed?)));
        self.written = Some(stamps.collect());
    }

    /// Whether a failure is another one than was announced last.
    pub(super) fn is_news(&mut self, failure: &Failure) -> bool {
        self.announced.replace(failure.clone()).as_ref() != Some(failure)
    }
}

/// A check that is asked as before keeps its definition, so that what is under way counts.
fn keep_definition(mut settings: Settings, before: Option<&Settings>) -> Settings {
    if let (Some(check), Some(before)) =
        (&mut settings.check, before.and_then(|before| before.check.as_ref()))
        && check.spec == before.spec
    {
        check.definition = Arc::clone(&before.definition);
    }
    settings
}
