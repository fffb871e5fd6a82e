//! Names of objects.

use std::sync::Arc;

use kube::{Resource, runtime::reflector::ObjectRef};

/// The name of an object within its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`; of one that has not come from the API server some parts may be empty.
    pub fn of(object: &impl Resource) -> Self {
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        Self { namespace: text(&object.meta().namespace), name: text(&object.meta().name) }
    }

    /// The reference by which a kube-runtime store knows the object.
    pub fn reference<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        let object = ObjectRef::new(&self.name);
        if self.namespace.is_empty() { object } else { object.within(&self.namespace) }
    }
}

/// `metadata.uid`; none for an object that has not come from an API server.
pub(crate) type Uid = Option<Arc<str>>;

/// The UID of `object`.
pub(crate) fn uid(object: &impl Resource) -> Uid {
    object.meta().uid.as_deref().map(Into::into)
}

impl<K: Resource> From<&ObjectRef<K>> for ObjectKey {
    fn from(object: &ObjectRef<K>) -> Self {
        Self::new(object.namespace.as_deref().unwrap_or_default(), &object.name)
    }
}
