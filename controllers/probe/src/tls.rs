//! TLS of a check. The certificate is always verified: a check that takes any certificate would call an
//! address healthy that no client can use.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::failure::Failure;

/// The machine's roots, read once: they take about 100 KiB, and are the same for every check.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// How a check speaks TLS: made once for each definition of a check, and cheap to clone.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

/// Why a [`Tls`] cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No bundle was given, and this machine has no roots either.
    #[error("the controller's image contains no root certificates; set tls.caBundle of the check")]
    NoRoots,
    /// The bundle is PEM text without a certificate, or no PEM text.
    #[error("the CA bundle contains no certificate; add at least one in PEM form (BEGIN CERTIFICATE)")]
    NoCertificates,
    /// The certificate of this number in the bundle, counted from 1, cannot be read.
    #[error("certificate {0} of the CA bundle cannot be read; write each in PEM form, X.509 version 3")]
    BadCertificate(usize),
    /// Neither a DNS name nor an IP address.
    #[error("server name {0:?} is neither a DNS name nor an IP address; correct or remove it")]
    BadServerName(String),
}

impl Tls {
    /// - `server_name`: sent to the server and sought in its certificate. `None`: the certificate must name the
    ///   IP address that is checked.
    /// - `ca_bundle`: the roots to trust, in PEM form, and no others. `None`: the machine's roots, which are
    ///   read once a process.
    /// - `alpn_h2`: offers HTTP/2 and nothing else, as gRPC needs; otherwise HTTP/1.1 and nothing else.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(server_name: Option<&str>, ca_bundle: Option<&str>, alpn_h2: bool) -> Result<Self, TlsError> {
        let server_name = server_name
            .map(|name| {
                ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadServerName(name.to_owned()))
            })
            .transpose()?;
        let roots = match ca_bundle {
            Some(bundle) => Arc::new(roots(bundle)?),
            None if SYSTEM_ROOTS.is_empty() => return Err(TlsError::NoRoots),
            None => Arc::clone(&SYSTEM_ROOTS),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring serves TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if alpn_h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        // A resumed session does not show its certificate again, so one that has expired since would still pass.
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        address: IpAddr,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = self.server_name.clone().unwrap_or_else(|| ServerName::from(address));
        self.connector.connect(name, stream).await.map_err(Failure::from_io)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn roots(bundle: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(bundle.as_bytes()).enumerate() {
        let bad = TlsError::BadCertificate(index + 1);
        let certificate = certificate.map_err(|_| bad.clone())?;
        roots.add(certificate).map_err(|_| bad)?;
    }
    if roots.is_empty() { Err(TlsError::NoCertificates) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
