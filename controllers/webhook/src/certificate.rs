//! Makes the certificate of a server, with an authority that signs nothing else and whose key is not kept.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use thiserror::Error;

/// For how long a certificate is valid.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// After which part of that a new one is made.
const RENEWED_AFTER: Duration = Duration::from_secs(60 * 24 * 3600);
/// From this long before now it is valid, for servers whose clock is behind.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The certificate.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
    /// The authority that has signed it.
    pub(crate) authority: String,
    /// When a new one is to be made.
    pub(crate) renew_at: Timestamp,
}

/// A certificate could not be made.
#[derive(Debug, Error)]
#[error("could not create a certificate: {0}")]
pub(crate) struct CertificateError(#[from] rcgen::Error);

/// Makes a certificate for these names.
pub(crate) fn make(names: Vec<String>, now: Timestamp) -> Result<Made, CertificateError> {
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    let day = |time: Timestamp| {
        let date = time.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    let valid = |params: &mut CertificateParams| {
        params.not_before = day(now.checked_sub(SKEW).unwrap_or(now));
        params.not_after = day(now.checked_add(LIFE).unwrap_or(now));
    };
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, format!("mainstay webhooks {now}"));
    valid(&mut authority);
    let authority_key = KeyPair::generate()?;
    let signed = authority.self_signed(&authority_key)?;

    let mut server = CertificateParams::new(names)?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut server);
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(Made {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        authority: signed.pem(),
        renew_at: now.checked_add(RENEWED_AFTER).unwrap_or(now),
    })
}
