use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::*;
use crate::{
    check::{Check, Kind},
    testing::{SHORT, read_head, run, serve},
};

fn check(expected: RangeInclusive<u16>) -> Http {
    Http { path: "/healthz?full=1".to_owned(), host: None, expected: vec![expected], tls: None }
}

/// Answers each request with these bytes, and hangs up.
async fn answers(bytes: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| async move {
        read_head(&mut stream).await;
        // A client that has seen enough may be gone already.
        let _ = stream.write_all(bytes).await;
    })
    .await
}

#[tokio::test]
async fn a_status_passes_when_any_range_holds_it() {
    let ok = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let missing = answers(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let ranges = |expected: &[RangeInclusive<u16>]| {
        Kind::Http(Http { expected: expected.to_vec(), ..check(200..=200) })
    };
    assert_eq!(run(ranges(&[200..=200]), ok).await, Ok(()));
    assert_eq!(run(ranges(&[100..=199, 200..=399]), ok).await, Ok(()));
    assert_eq!(run(ranges(&[201..=399]), ok).await, Err(Failure::Status(200)));
    assert_eq!(run(ranges(&[]), ok).await, Err(Failure::Status(200)));
    assert_eq!(run(ranges(&[200..=399]), missing).await, Err(Failure::Status(404)));
    assert_eq!(run(ranges(&[404..=404]), missing).await, Ok(()));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = answers(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(run(Kind::Http(check(302..=302)), target).await, Ok(()));
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let target =
        answers(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(run(Kind::Http(check(200..=200)), target).await, Ok(()));
}

#[tokio::test]
async fn the_request_names_host_client_and_that_it_is_the_only_one() {
    let (seen, mut heads) = mpsc::unbounded_channel();
    let target = serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            seen.send(read_head(&mut stream).await).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let own = target.to_string();
    for (host, expected) in [(None, own.as_str()), (Some("shop.example.com".to_owned()), "shop.example.com")]
    {
        assert_eq!(run(Kind::Http(Http { host, ..check(204..=204) }), target).await, Ok(()));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            heads.recv().await.unwrap(),
            format!(
                "GET /healthz?full=1 HTTP/1.1\r\nhost: {expected}\r\nuser-agent: mainstay-probe/{version}\r\n\
                 connection: close\r\n\r\n"
            )
        );
    }
}

#[tokio::test]
async fn an_endless_body_is_not_read_and_the_connection_is_closed() {
    let (seen, mut ends) = mpsc::unbounded_channel();
    let target = serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            seen.send(()).unwrap();
        }
    })
    .await;
    assert_eq!(run(Kind::Http(check(200..=200)), target).await, Ok(()));
    ends.recv().await.expect("the server notices that the client is gone");
}

#[tokio::test]
async fn a_head_that_trickles_in_forever_runs_out_of_time() {
    let target = serve(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await;
    let outcome = Check { kind: Kind::Http(check(200..=200)), timeout: SHORT }.run(target).await;
    assert_eq!(outcome.result, Err(Failure::TimedOut));
}

#[tokio::test]
async fn what_is_no_http_is_told_apart_from_an_answer_that_breaks_off() {
    let table: [(&[u8], _); 5] = [
        (b"SSH-2.0-OpenSSH_9.9\r\n", Failure::NotHttp),
        (b"HTTP/1.1 banana\r\n\r\n", Failure::NotHttp),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Failure::NotHttp),
        (b"HTTP/1.1 200 OK\r\nconten", Failure::Closed),
        (b"", Failure::Closed),
    ];
    for (bytes, failure) in table {
        let target = answers(bytes).await;
        assert_eq!(run(Kind::Http(check(200..=200)), target).await, Err(failure), "{bytes:?}");
    }
}

#[tokio::test]
async fn an_endless_head_is_given_up() {
    let target = serve(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\na: ").await.unwrap();
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    })
    .await;
    assert_eq!(run(Kind::Http(check(200..=200)), target).await, Err(Failure::NotHttp));
}
