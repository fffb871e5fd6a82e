//! What the webhook's Secret keeps, and whether it is whole: whether who trusts its authority believes who shows its
//! certificate, now and under the name by which the webhook is asked.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use thiserror::Error;
use tokio_rustls::rustls::{
    CertificateError, Error as TlsError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::parse_x509_certificate;

/// The annotation of the Secret that says when a new certificate is to be made.
pub(crate) const RENEW_AT: &str = "mainstay.dev/renew-at";

/// What a Secret keeps; empty where it has nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The certificate and its key.
    pub(crate) pair: (ByteString, ByteString),
    /// Who is to be trusted.
    pub(crate) authority: ByteString,
    /// When a new one is to be made; `None` where nothing says so.
    pub(crate) renew_at: Option<Timestamp>,
}

/// A certificate that can be shown.
pub(crate) struct Certified {
    /// The certificate with its key.
    pub(crate) key: CertifiedKey,
    /// For which time it is valid.
    pub(crate) validity: Validity,
}

/// For which time a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Why what a Secret keeps is not whole. Says nothing of what it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Flaw {
    /// There is no certificate.
    #[error("tls.crt has no certificate that can be read")]
    NoCertificate,
    /// There is no key.
    #[error("tls.key has no key that can be read")]
    NoKey,
    /// The key belongs to another certificate.
    #[error("tls.key is not the key of tls.crt")]
    OtherKey,
    /// There is no certificate authority.
    #[error("ca.crt has no certificate that can be read")]
    NoAuthority,
    /// The certificate was signed by another authority.
    #[error("ca.crt has not signed tls.crt")]
    OtherAuthority,
    /// The certificate is for another name.
    #[error("tls.crt is not valid for the name of the webhook's Service")]
    OtherName,
    /// The certificate is of the past or of the future.
    #[error("tls.crt has expired, or is not valid yet")]
    OtherTime,
    /// The certificate is for something else.
    #[error("tls.crt is not a server certificate")]
    OtherUse,
}

impl Kept {
    /// What is in `secret`.
    pub(crate) fn read(secret: &Secret) -> Self {
        let value = |key| secret.data.as_ref().and_then(|data| data.get(key).cloned()).unwrap_or_default();
        let annotations = secret.metadata.annotations.as_ref();
        Self {
            pair: (value("tls.crt"), value("tls.key")),
            authority: value("ca.crt"),
            renew_at: annotations.and_then(|all| all.get(RENEW_AT)?.parse().ok()),
        }
    }

    /// What can be shown, whoever believes it.
    pub(crate) fn certified(&self) -> Result<Certified, Flaw> {
        let (certificate, key) = &self.pair;
        let chain = certificates(certificate).ok_or(Flaw::NoCertificate)?;
        let validity = chain.first().and_then(validity).ok_or(Flaw::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(&key.0).map_err(|_| Flaw::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = key.map_err(|error| match error {
            TlsError::InconsistentKeys(_) => Flaw::OtherKey,
            TlsError::InvalidCertificate(_) => Flaw::NoCertificate,
            _ => Flaw::NoKey,
        })?;
        Ok(Certified { key, validity })
    }

    /// What can be shown and is believed under the name `host` at the time `now`.
    pub(crate) fn whole(&self, host: &str, now: Timestamp) -> Result<Certified, Flaw> {
        let certified = self.certified()?;
        let roots = roots(&self.authority).ok_or(Flaw::NoAuthority)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|_| Flaw::NoAuthority)?;
        let host = ServerName::try_from(host).map_err(|_| Flaw::OtherName)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
        let (server, between) = certified.key.cert.split_first().ok_or(Flaw::NoCertificate)?;
        verifier.verify_server_cert(server, between, &host, &[], now).map_err(|error| flaw(&error))?;
        Ok(certified)
    }
}

/// Whoever is trusted by `pem`; `None` when there is none, or one cannot be read.
pub(crate) fn roots(pem: &ByteString) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    certificates(pem)?.into_iter().all(|authority| roots.add(authority).is_ok()).then_some(roots)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    let validity = certificate.validity();
    Some(Validity { not_before: time(validity.not_before)?, not_after: time(validity.not_after)? })
}

/// All certificates of `pem`; `None` when there are none, or one cannot be read.
fn certificates(pem: &ByteString) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.0).collect();
    all.ok().filter(|all| !all.is_empty())
}

fn flaw(error: &TlsError) -> Flaw {
    let TlsError::InvalidCertificate(error) = error else { return Flaw::OtherUse };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Flaw::OtherAuthority,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Flaw::OtherName
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Flaw::OtherTime,
        CertificateError::BadEncoding => Flaw::NoCertificate,
        _ => Flaw::OtherUse,
    }
}
