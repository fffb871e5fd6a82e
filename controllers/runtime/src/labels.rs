//! Labels, stored once for all objects that have the same.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Labels, shared by the objects that have the same.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Lets pods of one template share their labels: they are stored once, and a reconcile that has evaluated them for one
/// pod knows the result for the others by their address.
#[derive(Debug, Default)]
pub struct LabelPool {
    known: HashSet<Labels>,
    /// At this size labels that no pod has any more are let go.
    full: usize,
}

impl LabelPool {
    /// The shared copy of `labels`.
    pub fn share(&mut self, labels: BTreeMap<String, String>) -> Labels {
        if let Some(known) = self.known.get(&labels) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.full {
            self.known.retain(|labels| Arc::strong_count(labels) > 1);
            self.full = (2 * self.known.len()).max(64);
        }
        let labels = Arc::new(labels);
        self.known.insert(Arc::clone(&labels));
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_are_shared_and_unused_ones_let_go() {
        let mut pool = LabelPool::default();
        let labels = |value: usize| BTreeMap::from([("app".to_owned(), value.to_string())]);
        let first = pool.share(labels(0));
        assert!(Arc::ptr_eq(&first, &pool.share(labels(0))));
        for value in 1..1000 {
            pool.share(labels(value));
        }
        assert!(pool.known.len() <= 64, "{} kept", pool.known.len());
        assert!(Arc::ptr_eq(&first, &pool.share(labels(0))), "labels in use are kept");
    }
}
