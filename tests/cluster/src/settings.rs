//! What a cluster was brought up with.

use crate::{
    component::{BASE, PROMETHEUS, kwok_name, zone_name},
    error::{Context, Result},
    layout::Layout,
};
use serde::{Deserialize, Serialize};
use std::{fs, path::PathBuf};

/// What a cluster was brought up with; written when `up` has finished.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Folder of the built programs.
    pub(crate) cache: PathBuf,
    /// Zones with a kwok of their own.
    pub(crate) zones: usize,
    /// Whether Prometheus belongs to it.
    pub(crate) prometheus: bool,
}

impl Settings {
    /// The settings of the cluster at `layout`; none when no `up` has finished there.
    pub(crate) fn read(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&fs::read(layout.settings()).ok()?).ok()
    }

    /// Writes them, when `up` has finished.
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        let bytes = serde_json::to_vec(self).expect("settings are plain data");
        let part = layout.settings().with_extension("part");
        fs::write(&part, bytes)
            .and_then(|()| fs::rename(&part, layout.settings()))
            .context(|| format!("cannot write {}", layout.settings().display()))
    }

    /// Names of the components that should run.
    pub(crate) fn components(&self) -> Vec<String> {
        let base = BASE.iter().map(|(name, _)| (*name).to_owned());
        let zones = (0..self.zones).map(|zone| kwok_name(&zone_name(zone)));
        let prometheus = PROMETHEUS.iter().filter(|_| self.prometheus).map(|(name, _)| (*name).to_owned());
        base.chain(zones).chain(prometheus).collect()
    }
}
