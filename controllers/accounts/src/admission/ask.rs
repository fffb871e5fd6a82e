//! Access reviews of the API server. Equal ones for one policy are sent once, and their number at a time is limited for all
//! policies together: every client that reaches the webhook's port can cause them, so what that costs is bounded.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{
        NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
    },
};
use kube::{Api, Client, api::PostParams};
use mainstay_runtime::{failure::RequestError, request::in_time};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Concurrent access reviews for one policy.
const OF_ONE: usize = 16;
/// Concurrent access reviews of the process.
pub(super) const OF_ALL: usize = 32;

/// A question to the authorizer.
pub(super) enum Question {
    /// About objects.
    Resource(Box<ResourceAttributes>),
    /// About a path of the API server.
    Url(NonResourceAttributes),
}

/// Asks the API server.
pub(super) struct Authorizer {
    client: Client,
    places: Semaphore,
}

impl Authorizer {
    /// Asks through this client.
    pub(super) fn new(client: Client) -> Self {
        Self { client, places: Semaphore::new(OF_ALL) }
    }

    /// Access reviews for this user.
    pub(super) fn of<'a>(&'a self, user: &'a UserInfo) -> Person<'a> {
        Person { authorizer: self, user, answers: Mutex::default() }
    }

    async fn ask(&self, spec: SubjectAccessReviewSpec) -> Result<bool, RequestError> {
        let _place = self.places.acquire().await.expect("it is never closed");
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = in_time(reviews.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// A user, and the answers so far.
pub(super) struct Person<'a> {
    authorizer: &'a Authorizer,
    user: &'a UserInfo,
    /// By the question, as JSON.
    answers: Mutex<BTreeMap<String, bool>>,
}

impl Person<'_> {
    /// Whether they may do this.
    pub(super) async fn may(&self, question: Question) -> Result<bool, RequestError> {
        self.may_all([question]).await
    }

    /// Whether they may do all of this.
    pub(super) async fn may_all(
        &self,
        questions: impl IntoIterator<Item = Question>,
    ) -> Result<bool, RequestError> {
        let asked = questions.into_iter().map(|question| {
            let spec = self.spec(question);
            (serde_json::to_string(&spec).expect("attributes are JSON"), spec)
        });
        let mut open: BTreeMap<_, _> = asked.collect();
        for (question, allowed) in &*self.answers.lock() {
            if open.remove(question).is_some() && !allowed {
                return Ok(false);
            }
        }
        let answers: Vec<_> = open.into_iter().map(|(question, spec)| self.ask(question, spec)).collect();
        let mut answers = stream::iter(answers).buffer_unordered(OF_ONE);
        while let Some(answer) = answers.next().await {
            if !answer? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn ask(&self, question: String, spec: SubjectAccessReviewSpec) -> Result<bool, RequestError> {
        let allowed = self.authorizer.ask(spec).await?;
        self.answers.lock().insert(question, allowed);
        Ok(allowed)
    }

    fn spec(&self, question: Question) -> SubjectAccessReviewSpec {
        let (resource_attributes, non_resource_attributes) = match question {
            Question::Resource(attributes) => (Some(*attributes), None),
            Question::Url(attributes) => (None, Some(attributes)),
        };
        SubjectAccessReviewSpec {
            user: self.user.username.clone(),
            uid: self.user.uid.clone(),
            groups: self.user.groups.clone(),
            extra: self.user.extra.clone(),
            resource_attributes,
            non_resource_attributes,
        }
    }
}
