use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::testing::{AMPLE, SHORT, run, serve};

fn http(path: &str, host: Option<&str>) -> Kind {
    let host = host.map(str::to_owned);
    Kind::Http(Http { path: path.to_owned(), host, expected: vec![200..=299], tls: None })
}

fn grpc(authority: Option<&str>) -> Kind {
    Kind::Grpc(Grpc { service: String::new(), authority: authority.map(str::to_owned), tls: None })
}

/// A port on which nothing listens.
async fn unused() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test]
async fn an_address_that_accepts_passes_and_is_reset() {
    let (seen, mut ends) = mpsc::unbounded_channel();
    let target = serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            let end = stream.read(&mut [0; 1]).await.map_err(|error| error.kind());
            seen.send(end).unwrap();
        }
    })
    .await;
    assert_eq!(run(Kind::Tcp, target).await, Ok(()));
    assert_eq!(ends.recv().await, Some(Err(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn every_kind_names_a_port_that_refuses() {
    for kind in [Kind::Tcp, http("/", None), grpc(None)] {
        assert_eq!(run(kind, unused().await).await, Err(Failure::Refused));
    }
}

#[tokio::test]
async fn an_address_that_does_not_accept_runs_out_of_time() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let target = listener.local_addr().unwrap();
    // Nobody accepts, so the queue of the listener fills up, after which the kernel lets clients wait.
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(SHORT, TcpStream::connect(target)).await {
        queued.push(stream.unwrap());
    }
    let outcome = Check { kind: Kind::Tcp, timeout: SHORT }.run(target).await;
    assert_eq!(outcome.result, Err(Failure::TimedOut));
    assert!(outcome.took >= SHORT, "{outcome:?}");
}

#[tokio::test]
async fn an_address_that_accepts_and_is_silent_runs_out_of_time() {
    let target = serve(|stream| async {
        let _open = stream;
        std::future::pending().await
    })
    .await;
    for kind in [http("/", None), grpc(None)] {
        let outcome = Check { kind, timeout: SHORT }.run(target).await;
        assert_eq!(outcome.result, Err(Failure::TimedOut));
    }
}

#[tokio::test]
async fn an_address_that_hangs_up_at_once_has_closed() {
    let target = serve(|stream| async { drop(stream) }).await;
    for kind in [http("/", None), grpc(None)] {
        assert_eq!(run(kind, target).await, Err(Failure::Closed));
    }
}

#[tokio::test]
async fn a_check_that_cannot_be_sent_names_its_part_before_and_at_a_run() {
    let table = [
        (http("healthz", None), "path"),
        (http("", None), "path"),
        (http("/a b", None), "path"),
        (http("/", Some("a\nb")), "host"),
        (grpc(Some("a b")), "authority"),
        (grpc(Some("")), "authority"),
    ];
    for (kind, part) in table {
        let check = Check { kind, timeout: AMPLE };
        assert_eq!(check.kind.validate(), Err(Failure::Unsendable(part)), "{check:?}");
        assert_eq!(check.run(unused().await).await.result, Err(Failure::Unsendable(part)), "{check:?}");
    }
    for kind in [Kind::Tcp, http("/healthz?full=1", Some("example.com")), grpc(Some("example.com:80"))] {
        assert_eq!(kind.validate(), Ok(()));
    }
}

#[test]
fn a_run_can_move_between_threads() {
    fn sendable(_: impl Send) {}
    let check = Check { kind: Kind::Tcp, timeout: AMPLE };
    sendable(check.run(([127, 0, 0, 1], 1).into()));
}
