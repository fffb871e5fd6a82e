use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    check::Kind,
    http::Http,
    testing::{Authority, read_head, run, serve},
};

/// An HTTPS server that answers with 200.
async fn https(authority: &Authority, name: &str) -> SocketAddr {
    let acceptor = authority.acceptor(name, "http/1.1");
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await
}

async fn ask(tls: Tls, target: SocketAddr) -> Result<(), Failure> {
    let check = Http { path: "/".to_owned(), host: None, expected: vec![200..=200], tls: Some(tls) };
    run(Kind::Http(check), target).await
}

/// The words of the TLS failure that this must be.
fn words(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Tls(words)) => words,
        other => panic!("not a TLS failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_for_the_name_from_the_bundle_passes() {
    let authority = Authority::new();
    let target = https(&authority, "shop.example.com").await;
    let tls = Tls::new(Some("shop.example.com"), Some(&authority.pem), false).unwrap();
    assert_eq!(ask(tls.clone(), target).await, Ok(()));
    assert_eq!(ask(tls, target).await, Ok(()), "a second run of one check");
}

#[tokio::test]
async fn without_a_name_the_certificate_must_hold_the_address() {
    let authority = Authority::new();
    let tls = Tls::new(None, Some(&authority.pem), false).unwrap();
    assert_eq!(ask(tls.clone(), https(&authority, "127.0.0.1").await).await, Ok(()));
    let refused = words(ask(tls, https(&authority, "127.0.0.2").await).await);
    assert!(refused.contains("not valid for the name"), "{refused}");
    assert!(
        !refused.contains("127.0.0.2"),
        "what the certificate is for is not for the author of a check: {refused}"
    );
}

#[tokio::test]
async fn any_certificate_of_a_bundle_is_trusted_and_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let target = https(&authority, "shop.example.com").await;
    let ask_with =
        |bundle: String| ask(Tls::new(Some("shop.example.com"), Some(&bundle), false).unwrap(), target);
    assert_eq!(ask_with(format!("{}\n# the next\n{}", other.pem, authority.pem)).await, Ok(()));
    // Both authorities have the same name.
    let refused = words(ask_with(other.pem).await);
    assert!(refused.contains("not signed by the key of the trusted issuer"), "{refused}");
}

#[tokio::test]
async fn a_certificate_for_another_name_does_not_pass() {
    let authority = Authority::new();
    let target = https(&authority, "shop.example.com").await;
    let refused =
        words(ask(Tls::new(Some("other.example.com"), Some(&authority.pem), false).unwrap(), target).await);
    assert!(refused.contains("not valid for the name") && !refused.contains("shop"), "{refused}");
}

#[tokio::test]
async fn a_server_without_tls_does_not_pass() {
    let target = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let authority = Authority::new();
    words(ask(Tls::new(None, Some(&authority.pem), false).unwrap(), target).await);
}

#[tokio::test]
async fn a_server_of_another_protocol_does_not_pass() {
    let authority = Authority::new();
    let target = https(&authority, "shop.example.com").await;
    words(ask(Tls::new(Some("shop.example.com"), Some(&authority.pem), true).unwrap(), target).await);
}

#[test]
fn a_definition_that_cannot_work_says_what_to_correct() {
    let good = Authority::new().pem;
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let torn = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let table = [
        (Some("a b"), good.clone(), TlsError::BadServerName("a b".to_owned())),
        (None, String::new(), TlsError::NoCertificates),
        (None, "no PEM".to_owned(), TlsError::NoCertificates),
        (None, key.to_owned(), TlsError::NoCertificates),
        (None, bad.to_owned(), TlsError::BadCertificate(1)),
        (None, format!("{good}{bad}"), TlsError::BadCertificate(2)),
        (None, format!("{good}{torn}"), TlsError::BadCertificate(2)),
    ];
    for (name, bundle, error) in table {
        assert_eq!(Tls::new(name, Some(&bundle), false).err(), Some(error), "{name:?} {bundle}");
    }
}
