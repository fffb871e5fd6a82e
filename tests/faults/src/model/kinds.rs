//! The kinds that the server stores. A kind is one line of [`ROWS`].

use std::fmt;

use serde_json::Value;

/// What the server knows of a kind.
#[derive(Debug)]
pub struct Row {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The version that is served.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether its status is a subresource: neither written with the object, nor the object with it.
    pub status: bool,
    /// Whether the server counts the generations of its objects.
    pub counted: bool,
}

const fn row(
    (group, version): (&'static str, &'static str),
    (kind, plural): (&'static str, &'static str),
    namespaced: bool,
    (status, counted): (bool, bool),
) -> Row {
    Row { group, version, kind, plural, namespaced, status, counted }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
const OURS: (&str, &str) = ("mainstay.dev", "v1alpha1");
/// A remediation and its template, as a user's own controller has them.
const REPAIR: (&str, &str) = ("repair.example.com", "v1");
/// Without a status, and without a generation.
const PLAIN: (bool, bool) = (false, false);
/// With a status, but without a generation.
const OLD: (bool, bool) = (true, false);
/// With a status and a generation.
const FULL: (bool, bool) = (true, true);

/// Every kind that the server stores.
pub static ROWS: &[Row] = &[
    row(CORE, ("Namespace", "namespaces"), false, OLD),
    row(CORE, ("Node", "nodes"), false, OLD),
    row(CORE, ("PersistentVolume", "persistentvolumes"), false, OLD),
    row(CORE, ("Pod", "pods"), true, FULL),
    row(CORE, ("Service", "services"), true, OLD),
    row(CORE, ("ConfigMap", "configmaps"), true, PLAIN),
    row(CORE, ("Secret", "secrets"), true, PLAIN),
    row(CORE, ("ServiceAccount", "serviceaccounts"), true, PLAIN),
    row(CORE, ("PersistentVolumeClaim", "persistentvolumeclaims"), true, OLD),
    row(CORE, ("ResourceQuota", "resourcequotas"), true, OLD),
    row(CORE, ("Event", "events"), true, PLAIN),
    row(("events.k8s.io", "v1"), ("Event", "events"), true, PLAIN),
    row(("coordination.k8s.io", "v1"), ("Lease", "leases"), true, PLAIN),
    row(("discovery.k8s.io", "v1"), ("EndpointSlice", "endpointslices"), true, (false, true)),
    row(("policy", "v1"), ("PodDisruptionBudget", "poddisruptionbudgets"), true, FULL),
    row(("storage.k8s.io", "v1"), ("VolumeAttachment", "volumeattachments"), false, OLD),
    row(APPS, ("ControllerRevision", "controllerrevisions"), true, PLAIN),
    row(APPS, ("Deployment", "deployments"), true, FULL),
    row(APPS, ("ReplicaSet", "replicasets"), true, FULL),
    row(APPS, ("StatefulSet", "statefulsets"), true, FULL),
    row(APPS, ("DaemonSet", "daemonsets"), true, FULL),
    row(RBAC, ("Role", "roles"), true, PLAIN),
    row(RBAC, ("RoleBinding", "rolebindings"), true, PLAIN),
    row(RBAC, ("ClusterRole", "clusterroles"), false, PLAIN),
    row(RBAC, ("ClusterRoleBinding", "clusterrolebindings"), false, PLAIN),
    row(OURS, ("ReplicaGroup", "replicagroups"), true, FULL),
    row(OURS, ("EndpointPool", "endpointpools"), true, FULL),
    row(OURS, ("EndpointGrant", "endpointgrants"), true, (false, true)),
    row(OURS, ("NodeHealthPolicy", "nodehealthpolicies"), false, FULL),
    row(OURS, ("ConfigRollout", "configrollouts"), true, FULL),
    row(OURS, ("AccountPolicy", "accountpolicies"), false, FULL),
    row(REPAIR, ("Repair", "repairs"), true, FULL),
    row(REPAIR, ("RepairTemplate", "repairtemplates"), true, (false, true)),
];

/// A kind that the server stores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub(super) usize);

impl Kind {
    /// The kind under this group and plural name, if the server stores it.
    pub fn find(group: &str, plural: &str) -> Option<Self> {
        ROWS.iter().position(|row| row.group == group && row.plural == plural).map(Self)
    }

    /// The kind of an object, by its `apiVersion` and `kind`.
    ///
    /// # Panics
    /// When the server stores no such kind.
    pub fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let is_meant = |row: &Row| (row.group, row.version, row.kind) == (group, version, kind);
        let place = ROWS.iter().position(is_meant);
        Self(place.unwrap_or_else(|| panic!("{api_version} {kind} is no row of model/kinds.rs")))
    }

    /// The kind of an object that may be of none.
    pub(super) fn of_object(object: &Value) -> Option<Self> {
        let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        let (group, _) = version.split_once('/').unwrap_or(("", version));
        ROWS.iter().position(|row| row.group == group && row.kind == kind).map(Self)
    }

    /// The kind of this plural name, that no two groups share but for events.
    ///
    /// # Panics
    /// When the server stores no such kind.
    pub fn named(plural: &str) -> Self {
        let place = ROWS.iter().position(|row| row.plural == plural);
        Self(place.unwrap_or_else(|| panic!("{plural} is no row of model/kinds.rs")))
    }

    /// What the server knows of it.
    pub fn row(self) -> &'static Row {
        &ROWS[self.0]
    }

    /// Whether a CustomResourceDefinition makes it.
    pub fn is_custom(self) -> bool {
        [OURS.0, REPAIR.0].contains(&self.row().group)
    }

    /// Whether its objects are replaced also by one that names no version.
    pub fn is_replaced_unseen(self) -> bool {
        !self.is_custom()
            && !["leases", "poddisruptionbudgets", "volumeattachments"].contains(&self.row().plural)
    }

    /// Whether a deletion answers with the object that is gone; with a `Status` for other kinds.
    pub fn is_shown_gone(self) -> bool {
        let shown = [
            "namespaces",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "resourcequotas",
            "serviceaccounts",
            "services",
            "volumeattachments",
        ];
        shown.contains(&self.row().plural)
    }

    /// Whether field selectors may name this field.
    pub fn selects_by(self, field: &str) -> bool {
        let own: &[&str] = match self.row().plural {
            "namespaces" => &["status.phase"],
            "nodes" => &["spec.unschedulable"],
            "pods" => &[
                "spec.hostNetwork",
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "status.nominatedNodeName",
                "status.phase",
                "status.podIP",
            ],
            "secrets" => &["type"],
            "services" => &["spec.clusterIP", "spec.type"],
            "events" => &[
                "involvedObject.kind",
                "involvedObject.name",
                "involvedObject.namespace",
                "involvedObject.uid",
                "reason",
                "type",
            ],
            _ => &[],
        };
        field == "metadata.name"
            || field == "metadata.namespace" && self.row().namespaced
            || own.contains(&field)
    }

    /// `apiVersion` of its objects.
    pub fn api_version(self) -> String {
        let Row { group, version, .. } = self.row();
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().plural)
    }
}
