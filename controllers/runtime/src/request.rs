//! Requests with a timeout, whose answers are reduced to what is used.

use std::{fmt::Display, future::Future, time::Duration};

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client, Resource,
    api::{GetParams, ListParams},
    core::ObjectList,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{failure::RequestError, key::ObjectKey};

/// A request that is not answered in this time is ended; its outcome is then not known. Twice the server's own limit
/// for most of its work would delay a reconcile for longer than a leader may go without renewal.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Gives a request up that is not answered in time.
///
/// # Errors
/// What the server said, or [`RequestError::NoAnswer`].
pub async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RequestError> {
    within(LIMIT, request).await
}

/// Gives a request up that is not answered in this time.
///
/// # Errors
/// As [`in_time`].
pub async fn within<T>(
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, RequestError> {
    let answer = tokio::time::timeout(limit, request).await;
    answer.map_err(|_| RequestError::timed_out(limit))?.map_err(Into::into)
}

/// How many objects a page of [`paged`] has.
const PAGE: u32 = 250;

/// Lists objects page by page, and keeps of each what `keep` makes of it. However many there are, and however many reconciles
/// ask at the same time, each holds no more than a page of whole objects.
///
/// # Errors
/// As [`in_time`], of the page that failed.
pub async fn paged<K: Clone, T, F>(
    mut params: ListParams,
    list: impl Fn(ListParams) -> F,
    mut keep: impl FnMut(K) -> Option<T>,
) -> Result<Vec<T>, RequestError>
where
    F: Future<Output = kube::Result<ObjectList<K>>>,
{
    params.limit = Some(PAGE);
    let mut kept = Vec::new();
    loop {
        let page = in_time(list(params.clone())).await?;
        kept.extend(page.items.into_iter().filter_map(&mut keep));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(kept);
        }
    }
}

/// Sends a request, and gives it up when it is not answered in time. An answer that cannot be read is not logged, as
/// kube's own `Client::request` does with the whole text: it may be a Secret.
///
/// # Errors
/// As [`in_time`], and when the request could not even be written down.
pub async fn send<T: DeserializeOwned>(
    client: &Client,
    request: Result<Request<Vec<u8>>, impl Display>,
) -> Result<T, RequestError> {
    let request = request.map_err(|error| RequestError::Invalid(error.to_string()))?;
    let answer = in_time(client.request_text(request)).await?;
    serde_json::from_str(&answer).map_err(|error| kube::Error::SerdeError(error).into())
}

/// Reads of an object what `T` keeps of it, if there is one.
///
/// # Errors
/// As [`send`].
pub async fn read<T: DeserializeOwned>(
    client: &Client,
    object: &ObjectPath,
) -> Result<Option<T>, RequestError> {
    found(send(client, object.kind.get(&object.key.name, &GetParams::default())).await)
}

/// Reads the metadata of an object, `managedFields` included, if there is one.
///
/// # Errors
/// As [`send`].
pub async fn find(client: &Client, object: &ObjectPath) -> Result<Option<ObjectMeta>, RequestError> {
    #[derive(Deserialize)]
    struct Found {
        metadata: ObjectMeta,
    }
    let request = object.kind.get_metadata(&object.key.name, &GetParams::default());
    Ok(found(send::<Found>(client, request).await)?.map(|found| found.metadata))
}

fn found<T>(answer: Result<T, RequestError>) -> Result<Option<T>, RequestError> {
    match answer {
        Err(RequestError::NotFound(_)) => Ok(None),
        answer => answer.map(Some),
    }
}

/// Where an object is.
#[derive(Debug, Clone)]
pub struct ObjectPath {
    /// Makes requests about objects of its kind and namespace.
    pub kind: kube::core::Request,
    /// Its name within the kind.
    pub key: ObjectKey,
}

impl ObjectPath {
    /// The path of the object of the kind `K` under this key.
    pub fn of<K: Resource<DynamicType = ()>>(key: &ObjectKey) -> Self {
        Self::of_kind::<K>(&(), key)
    }

    /// As [`ObjectPath::of`], of a kind that is known only at run time.
    pub fn of_kind<K: Resource>(kind: &K::DynamicType, key: &ObjectKey) -> Self {
        let namespace = Some(&*key.namespace).filter(|namespace| !namespace.is_empty());
        Self { kind: kube::core::Request::new(K::url_path(kind, namespace)), key: key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        api::{ObjectMeta, PartialObjectMeta},
        core::{ListMeta, TypeMeta},
    };

    use super::*;

    type Listed = PartialObjectMeta<ConfigMap>;

    fn object(number: usize) -> Listed {
        let metadata = ObjectMeta { name: Some(number.to_string()), ..ObjectMeta::default() };
        Listed { metadata, ..Listed::default() }
    }

    /// As many objects as a page may have, of seven in all.
    fn page(params: &ListParams) -> ObjectList<Listed> {
        const EACH: usize = 3;
        assert_eq!(params.limit, Some(PAGE));
        let from = params.continue_token.as_ref().map_or(0, |token| token.parse().expect("a token of ours"));
        let next = Some(from + EACH).filter(|next| *next < 7);
        let metadata = ListMeta { continue_: next.map(|next| next.to_string()), ..ListMeta::default() };
        ObjectList {
            types: TypeMeta::default(),
            metadata,
            items: (from..7.min(from + EACH)).map(object).collect(),
        }
    }

    #[tokio::test]
    async fn all_pages_are_asked_for_and_of_each_object_is_kept_what_is_wanted() {
        let list = |params: ListParams| async move { Ok(page(&params)) };
        let but_one = |object: Listed| object.metadata.name.filter(|name| name != "3");
        let kept = paged(ListParams::default(), list, but_one).await.expect("the list is answered");
        assert_eq!(kept, ["0", "1", "2", "4", "5", "6"]);
    }

    #[tokio::test]
    async fn a_page_that_is_refused_leaves_nothing_half_known() {
        let list = |params: ListParams| async move {
            if params.continue_token.is_some() {
                Err(kube::Error::LinesCodecMaxLineLengthExceeded)
            } else {
                Ok(page(&params))
            }
        };
        assert!(paged(ListParams::default(), list, |object: Listed| object.metadata.name).await.is_err());
    }
}
