//! The local cluster, where the tests run on it.

use std::{env, sync::LazyLock};

use mainstay_cluster::Cluster;

/// The local cluster, when it is the one that KUBECONFIG names.
static LOCAL: LazyLock<Option<Cluster>> = LazyLock::new(|| {
    let cluster = Cluster::open().ok()?;
    (env::var_os("KUBECONFIG")? == cluster.kubeconfig()).then_some(cluster)
});

/// Whether the tests run on the local cluster of `tests/cluster`.
pub fn is_local() -> bool {
    LOCAL.is_some()
}

/// The local cluster, where the tests run on it.
pub fn local() -> Option<&'static Cluster> {
    LOCAL.as_ref()
}
