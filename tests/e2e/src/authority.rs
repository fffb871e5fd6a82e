//! Certificates for servers of the tests.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A root, and a certificate that it has signed, as PEM.
pub struct Authority {
    /// The root's certificate.
    pub root: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

impl Authority {
    /// A new root with a certificate for a server of this name.
    ///
    /// # Panics
    /// When `name` is no DNS name.
    pub fn new(name: &str) -> Self {
        let made = "keys and certificates are made";
        let root_key = KeyPair::generate().expect(made);
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_certificate = root.self_signed(&root_key).expect(made);
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().expect(made);
        let server = CertificateParams::new([name.to_owned()]).expect("it is the name of a server");
        let certificate = server.signed_by(&key, &issuer).expect(made);
        Self { root: root_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
