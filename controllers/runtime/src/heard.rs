//! When a watch last delivered an event.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::time::Instant;

/// By resource and selector, when a watch of it was started or delivered an event. Each is restarted regularly
/// ([`crate::watch`]), so that a running watch is never silent for longer, even on a quiet cluster. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Heard {
    last: Arc<Mutex<BTreeMap<(String, String), Instant>>>,
    ages: GaugeVec,
}

impl Heard {
    /// Registers `watch_last_event_age_seconds`, which is computed when it is scraped.
    pub(crate) fn new(registry: &Registry) -> Self {
        let help = "Seconds since a watch of this resource was started or delivered an event; watches are restarted \
                    every 40 s.";
        let ages = GaugeVec::new(Opts::new("watch_last_event_age_seconds", help), &["resource", "selector"]);
        let heard = Self { last: Arc::default(), ages: ages.expect("a valid name and labels") };
        registry.register(Box::new(heard.clone())).expect("each series is registered once");
        heard
    }

    /// Notes it of the watch of `resource` with this selector. One of a single object is left out: it ends with what it is for,
    /// and no object's name is a label.
    pub(crate) fn note(&self, resource: &str, selector: &str) {
        if selector.starts_with("metadata.name=") {
            return;
        }
        self.last.lock().insert((resource.to_owned(), selector.to_owned()), Instant::now());
    }
}

impl Collector for Heard {
    fn desc(&self) -> Vec<&Desc> {
        self.ages.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for ((resource, selector), last) in &*self.last.lock() {
            self.ages
                .with_label_values(&[resource.as_str(), selector.as_str()])
                .set(last.elapsed().as_secs_f64());
        }
        self.ages.collect()
    }
}
