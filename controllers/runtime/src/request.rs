//! Requests that are given up in time and answered with no more than is read.

use std::{future::Future, time::Duration};

use http::Request;
use kube::{Client, Resource};
use serde::{Deserialize, de::DeserializeOwned};

use crate::failure::RequestError;

/// Asks the server to answer with the metadata alone, as the value of the header `Accept`.
pub const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// A request that is not answered in this time is given up; its outcome is then not known. Twice the server's
/// own limit for most of its work would hold a pass up for longer than a leader may go unrenewed.
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

/// Sends a request that was written by hand, and gives it up when it is not answered in time.
///
/// # Errors
/// As [`in_time`], and when the request could not even be written down.
pub async fn send<T: DeserializeOwned>(
    client: &Client,
    request: http::Result<Request<Vec<u8>>>,
) -> Result<T, RequestError> {
    in_time(client.request(request.map_err(malformed)?)).await
}

/// The path of an object of a namespace, or of all of them where the name is empty.
pub fn path<K: Resource<DynamicType = ()>>(namespace: &str, name: &str) -> String {
    let all = K::url_path(&(), Some(namespace));
    if name.is_empty() { all } else { format!("{all}/{name}") }
}

/// A request that could not even be written down.
pub fn malformed(error: http::Error) -> RequestError {
    RequestError::Invalid(error.to_string())
}

/// The answer to a write for which the metadata alone was asked.
#[derive(Debug, Deserialize)]
pub struct Written {
    /// What the write gate waits for.
    pub metadata: WrittenMetadata,
}

/// The part of an object's metadata that tells its versions apart.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenMetadata {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
}
