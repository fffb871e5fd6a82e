//! Issues tokens: a handle first, then a token that is bound to it, then the Secret that has it.
//!
//! A crash between any two leaves a handle without a token in a Secret, which is used for the next one or deleted. The
//! Secret is written with the version that it was seen in, so that no other process's token is written over.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1,
    },
};
use kube::{
    Api,
    api::{Patch, PostParams},
};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    names,
    request::{ObjectPath, find, in_time, send},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApplyError, Done, MAX_NAME, Writer, path};
use crate::{
    names::{
        ACCOUNT, EXPIRES, HANDLE, HANDLE_UID, ISSUED, MADE_FOR, OUTPUT, PART, POLICY, PREVIOUS,
        PREVIOUS_UNTIL, REVOKE,
    },
    plan::{Action, Origin, OutputView, Part, Token, Why},
};

/// For how long the authority that was read is used.
const AUTHORITY_AGE: Duration = Duration::from_secs(60);

/// A token that was issued. It is never printed.
struct Issued {
    token: String,
    /// The UID of its account.
    account: String,
    issued: Timestamp,
    expires: Timestamp,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) async fn issue(&self, namespace: &ObjectKey, action: &Action) -> Result<Done, ApplyError> {
        let Action::Issue { policy, output, token, made_for, standing, handle, why } = action else {
            return Ok(Done::Stale);
        };
        let failed = |operation, source| ApplyError { operation, what: format!("token {output}"), source };
        // No watch shows the Secret of somebody else: a token that cannot be written anywhere is not issued.
        let secret = path(Part::Token, &ObjectKey::new(&namespace.name, output));
        if standing.is_none()
            && find(&self.client, &secret).await.map_err(|error| failed("look for", error))?.is_some()
        {
            self.is_taken(namespace, output);
            return Ok(Done::Stale);
        }
        let authority =
            self.authority().await.map_err(|error| failed("read the certificate authority for", error))?;
        let (handle, uid) = match handle {
            Some((name, uid)) => (name.to_string(), uid.to_string()),
            None => match self.make_handle(namespace, policy, output).await? {
                Some(made) => made,
                None => return Ok(Done::Stale),
            },
        };
        let issued =
            self.request(namespace, token, &handle, &uid).await.map_err(|error| failed("issue", error))?;
        let body = Output {
            namespace,
            policy,
            name: output,
            token,
            made_for,
            handle: (handle.as_str(), uid.as_str()),
            why: *why,
        };
        let body = body.write(&issued, &authority, standing.as_deref());
        match standing {
            None => self.create_secret(Part::Token, namespace, output, &body).await,
            Some(standing) => match self.renew(namespace, output, standing, &body).await {
                Err(refusal) if standing.origin == Origin::Made => {
                    self.make_anew(Part::Token, namespace, (output, &standing.uid), body, refusal).await
                }
                renewed => renewed,
            },
        }
    }

    async fn make_handle(
        &self,
        namespace: &ObjectKey,
        policy: &str,
        output: &str,
    ) -> Result<Option<(String, String)>, ApplyError> {
        let name = names::generated(&format!("{output}-handle"), MAX_NAME);
        let body = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {POLICY: policy, PART: "handle"},
                "annotations": {OUTPUT: output},
            },
            "immutable": true,
        });
        let Some(uid) = self.create(Part::Handle, namespace, &body).await? else { return Ok(None) };
        let mut unbound = self.unbound.lock();
        unbound.entry(Arc::clone(&namespace.name)).or_default().insert(uid.as_str().into());
        Ok(Some((name, uid)))
    }

    /// Asks for a token that is bound to the handle.
    async fn request(
        &self,
        namespace: &ObjectKey,
        token: &Token,
        handle: &str,
        uid: &str,
    ) -> Result<Issued, RequestError> {
        let spec = TokenRequestSpec {
            audiences: Some(token.audiences.clone()),
            expiration_seconds: i64::try_from(token.ttl.as_secs()).ok(),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: Some(handle.to_owned()),
                uid: Some(uid.to_owned()),
            }),
        };
        let body =
            json!(TokenRequest { spec: Some(spec), ..TokenRequest::default() }).to_string().into_bytes();
        let account = ObjectPath::of::<v1::ServiceAccount>(&ObjectKey::new(&namespace.name, &token.account));
        let request = account.kind.create_subresource("token", &token.account, &PostParams::default(), body);
        // What an answer that cannot be read says may be a token: kube's own `create_token_request` would log it.
        let answer = send::<TokenRequest>(&self.client, request).await;
        if answer.as_ref().err().is_none_or(|error| error.is_ambiguous())
            && let Some(unbound) = self.unbound.lock().get_mut(&namespace.name)
        {
            unbound.remove(uid);
        }
        let status = answer.map_err(RequestError::without_content)?.status.unwrap_or_default();
        let said = status.token.zip(status.expiration_timestamp);
        let Some((Claims { iat, kubernetes }, token, expires)) =
            said.and_then(|(token, ends)| Some((claims(&token)?, token, ends.0)))
        else {
            return Err(RequestError::NoAnswer("the token does not name its account".to_owned()));
        };
        let issued = Timestamp::from_second(iat).unwrap_or_else(|_| self.server_clock.now());
        self.server_clock.set(issued);
        Ok(Issued { token, account: kubernetes.serviceaccount.uid, issued, expires })
    }

    /// The authority that clients of the API server trust. The cluster puts the same into every namespace, into a new one
    /// not at once: it is read where it is for certain, since this process has got it from there.
    async fn authority(&self) -> Result<Arc<str>, RequestError> {
        // Held while it is read: of many that ask at once, one reads.
        let mut known = self.authority.lock().await;
        if let Some((text, read)) = &*known
            && read.elapsed() < AUTHORITY_AGE
        {
            return Ok(Arc::clone(text));
        }
        let maps = Api::<v1::ConfigMap>::namespaced(self.client.clone(), &self.home);
        let map = in_time(maps.get("kube-root-ca.crt")).await?;
        let text = map.data.unwrap_or_default().remove("ca.crt").filter(|text| !text.is_empty());
        let Some(text) = text.map(Arc::<str>::from) else {
            let message = format!("ConfigMap {}/kube-root-ca.crt has no value for ca.crt", self.home);
            return Err(RequestError::NotFound(message));
        };
        *known = Some((Arc::clone(&text), Instant::now()));
        Ok(text)
    }

    /// Writes a token into the Secret that there is, at the version that was seen. Labels, annotations and owners that others
    /// have given it stay; keys of others do not.
    async fn renew(
        &self,
        namespace: &ObjectKey,
        name: &str,
        standing: &OutputView,
        body: &Value,
    ) -> Result<Done, ApplyError> {
        let mut patch = json!({"metadata": body["metadata"], "data": body["data"]});
        let absent = |map: &Value, key: &str| map.get(key).is_none();
        for key in [REVOKE, PREVIOUS, PREVIOUS_UNTIL] {
            if absent(&patch["metadata"]["annotations"], key) {
                patch["metadata"]["annotations"][key] = Value::Null;
            }
        }
        for key in standing.written.keys().iter().map(|key| &**key).chain(["kubeconfig"]) {
            if absent(&patch["data"], key) {
                patch["data"][key] = Value::Null;
            }
        }
        self.patch(Part::Token, namespace, name, Patch::Merge(&patch)).await
    }
}

/// A Secret with a token that is about to be written.
struct Output<'a> {
    namespace: &'a ObjectKey,
    policy: &'a str,
    name: &'a str,
    token: &'a Token,
    made_for: &'a str,
    /// Its handle: name and UID.
    handle: (&'a str, &'a str),
    why: Why,
}

impl Output<'_> {
    fn write(&self, issued: &Issued, authority: &str, standing: Option<&OutputView>) -> Value {
        let bytes = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "labels": {POLICY: self.policy, PART: "token"},
                "annotations": {
                    MADE_FOR: self.made_for,
                    ACCOUNT: issued.account,
                    HANDLE: self.handle.0,
                    HANDLE_UID: self.handle.1,
                    ISSUED: issued.issued.to_string(),
                    EXPIRES: issued.expires.to_string(),
                },
            },
            "type": "Opaque",
            "data": {
                "token": bytes(&issued.token),
                "ca.crt": bytes(authority),
                "namespace": bytes(&self.namespace.name),
            },
        });
        if let Some(server) = &self.token.server {
            let config = self.kubeconfig(server, authority, &issued.token);
            body["data"]["kubeconfig"] = bytes(&config.to_string());
        }
        if let Some(standing) = standing {
            body["metadata"]["uid"] = json!(standing.uid);
            body["metadata"]["resourceVersion"] = json!(standing.version);
            // A token that was revoked has no overlap: its handle is gone.
            if self.why != Why::Revoked {
                let until = issued.issued.checked_add(self.token.overlap).unwrap_or(issued.issued);
                body["metadata"]["annotations"][PREVIOUS] = json!(&*standing.handle);
                body["metadata"]["annotations"][PREVIOUS_UNTIL] = json!(until.to_string());
            }
        }
        body
    }

    /// JSON, which is YAML as well.
    fn kubeconfig(&self, server: &str, authority: &str, token: &str) -> Value {
        let account = &*self.token.account;
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": {
                "server": server, "certificate-authority-data": ByteString(authority.as_bytes().to_vec()),
            }}],
            "users": [{"name": account, "user": {"token": token}}],
            "contexts": [{"name": account, "context": {
                "cluster": "cluster", "user": account, "namespace": self.namespace.name,
            }}],
            "current-context": account,
        })
    }
}

/// What a token says: when it was issued (RFC 7519, 4.1.6), and for which account (Kubernetes,
/// pkg/serviceaccount/claims.go).
#[derive(Deserialize)]
struct Claims {
    iat: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
}

#[derive(Deserialize)]
struct KubernetesClaims {
    serviceaccount: AccountClaim,
}

#[derive(Deserialize)]
struct AccountClaim {
    uid: String,
}

/// Reads a token. Nothing is verified: it has come from its issuer.
fn claims(token: &str) -> Option<Claims> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Written;

    #[test]
    fn a_token_says_when_it_was_issued_and_for_whom() {
        let payload =
            json!({"iat": 1_700_000_000, "kubernetes.io": {"serviceaccount": {"uid": "u"}}, "x": "??>"});
        let payload = BASE64_URL_SAFE_NO_PAD.encode(payload.to_string());
        let read = claims(&format!("h.{payload}.s")).unwrap();
        assert_eq!((read.iat, &*read.kubernetes.serviceaccount.uid), (1_700_000_000, "u"));
        assert!(claims("no token").is_none());
    }

    #[test]
    fn the_handle_before_is_named_unless_it_was_revoked_and_a_token_is_never_printed() {
        let token = Token {
            account: "bot".into(),
            audiences: vec![],
            ttl: Duration::from_secs(600),
            overlap: Duration::from_secs(60),
            server: Some("https://kubernetes.default.svc".into()),
        };
        let time = |second| Timestamp::from_second(second).unwrap();
        let issued =
            Issued { token: "the-token".into(), account: "a".into(), issued: time(100), expires: time(700) };
        assert!(!format!("{issued:?}").contains("the-token"));
        let standing = OutputView {
            uid: "u".into(),
            origin: Origin::Made,
            version: "7".into(),
            policy: "ci".into(),
            made_for: "".into(),
            account: "a".into(),
            written: Written::Unknown,
            handle: "h1".into(),
            handle_uid: None,
            issued: time(0),
            expires: time(600),
            previous: None,
            revoked: false,
        };
        let namespace = ObjectKey::new("", "ns");
        for (why, previous) in [(Why::Renewal, json!("h1")), (Why::Revoked, json!(null))] {
            let output = Output {
                namespace: &namespace,
                policy: "ci",
                name: "bot-token",
                token: &token,
                made_for: "w",
                handle: ("h2", "u2"),
                why,
            };
            let body = output.write(&issued, "ca", Some(&standing));
            let annotations = &body["metadata"]["annotations"];
            assert_eq!((&annotations[HANDLE], &annotations[PREVIOUS]), (&json!("h2"), &previous));
            assert_eq!(body["metadata"]["resourceVersion"], "7");
            let ByteString(config) = serde_json::from_value(body["data"]["kubeconfig"].clone()).unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            assert_eq!(config["users"][0]["user"]["token"], "the-token");
        }
    }
}
