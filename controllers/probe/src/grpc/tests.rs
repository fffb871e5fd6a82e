use ::http::Response;
use h2::{RecvStream, server::SendResponse};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    check::Kind,
    testing::{Authority, run, serve},
    tls::Tls,
};

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// What a server answers to a call about the service of that name.
type Answer = fn(&str, SendResponse<Bytes>);

fn head(status: u16, content_type: &str) -> Response<()> {
    Response::builder().status(status).header(CONTENT_TYPE, content_type).body(()).unwrap()
}

fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))])
}

/// An answer as a gRPC server gives it: head, one message, trailers.
fn complete(mut respond: SendResponse<Bytes>, message: &'static [u8], status: &'static str) {
    let mut body = respond.send_response(head(200, "application/grpc"), false).unwrap();
    body.send_data(Bytes::from_static(message), false).unwrap();
    body.send_trailers(trailers(status)).unwrap();
}

/// An answer of headers alone.
fn trailers_only(mut respond: SendResponse<Bytes>, status: &'static str) {
    let mut head = head(200, "application/grpc");
    head.headers_mut().extend(trailers(status));
    respond.send_response(head, true).unwrap();
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, answer: Answer) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(respond_to(request, respond, answer));
    }
}

async fn respond_to(request: Request<RecvStream>, respond: SendResponse<Bytes>, answer: Answer) {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()[CONTENT_TYPE], "application/grpc");
    assert_eq!(request.headers()[TE], "trailers");
    let mut body = request.into_body();
    let mut frame = Vec::new();
    while let Some(chunk) = body.data().await {
        frame.extend_from_slice(&chunk.unwrap());
    }
    let message = frame.split_off(5);
    assert_eq!(frame, [&[0][..], &(message.len() as u32).to_be_bytes()].concat());
    let service = message.get(2..).unwrap_or_default();
    assert!(message.is_empty() || message[..2] == [0x0a, service.len() as u8]);
    answer(std::str::from_utf8(service).unwrap(), respond);
}

async fn server(answer: Answer) -> SocketAddr {
    serve(move |stream| speak(stream, answer)).await
}

fn check(service: &str) -> Kind {
    Kind::Grpc(Grpc { service: service.to_owned(), authority: None, tls: None })
}

#[tokio::test]
async fn the_health_service_answers_for_the_server_and_for_each_service() {
    let target = server(|service, respond| match service {
        "" | "shop.Cart" => complete(respond, SERVING, "0"),
        "shop.Stock" => complete(respond, &[0, 0, 0, 0, 2, 0x08, 2], "0"),
        _ => trailers_only(respond, "5"),
    })
    .await;
    assert_eq!(run(check(""), target).await, Ok(()));
    assert_eq!(run(check("shop.Cart"), target).await, Ok(()));
    assert_eq!(run(check("shop.Stock"), target).await, Err(Failure::NotServing("NOT_SERVING")));
    assert_eq!(run(check("shop.None"), target).await, Err(Failure::GrpcStatus(5)));
}

#[tokio::test]
async fn every_other_answer_has_a_name() {
    let table: [(Answer, Failure); 13] = [
        (|_, respond| trailers_only(respond, "12"), Failure::GrpcStatus(12)),
        (|_, respond| complete(respond, &[0, 0, 0, 0, 0], "0"), Failure::NotServing("UNKNOWN")),
        (|_, respond| complete(respond, &[0, 0, 0, 0, 2, 8, 3], "0"), Failure::NotServing("SERVICE_UNKNOWN")),
        (|_, respond| complete(respond, &[0, 0, 0, 0, 2, 8, 9], "0"), Failure::NotServing("UNKNOWN")),
        // The status of the call counts even when a message came before it.
        (|_, respond| complete(respond, SERVING, "14"), Failure::GrpcStatus(14)),
        (|_, respond| complete(respond, SERVING, "fine"), Failure::NotGrpc),
        (|_, respond| complete(respond, &[1, 0, 0, 0, 2, 8, 1], "0"), Failure::NotGrpc),
        (|_, respond| complete(respond, &[0; 2000], "0"), Failure::NotGrpc),
        (|_, respond| trailers_only(respond, "0"), Failure::NotGrpc),
        (
            |_, mut respond| {
                let mut body = respond.send_response(head(200, "application/grpc"), false).unwrap();
                body.send_data(Bytes::from_static(SERVING), true).unwrap();
            },
            Failure::NotGrpc,
        ),
        (
            |_, mut respond| drop(respond.send_response(head(200, "text/html"), true).unwrap()),
            Failure::NotGrpc,
        ),
        (
            |_, mut respond| drop(respond.send_response(head(503, "text/html"), true).unwrap()),
            Failure::Status(503),
        ),
        (|_, mut respond| respond.send_reset(h2::Reason::REFUSED_STREAM), Failure::Closed),
    ];
    for (index, (answer, failure)) in table.into_iter().enumerate() {
        assert_eq!(run(check(""), server(answer).await).await, Err(failure), "answer {index}");
    }
}

#[tokio::test]
async fn a_message_without_end_is_given_up() {
    let target = server(|_, mut respond| {
        let mut body = respond.send_response(head(200, "application/grpc"), false).unwrap();
        body.send_data(Bytes::from_static(&[0; 60_000]), false).unwrap();
        // Held open for as long as the test runs.
        std::mem::forget(body);
    })
    .await;
    assert_eq!(run(check(""), target).await, Err(Failure::NotGrpc));
}

#[tokio::test]
async fn a_server_of_http_1_is_no_grpc_server() {
    let target = serve(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // Not closed before the client has gone.
        while stream.readable().await.is_ok() && !matches!(stream.try_read(&mut [0; 64]), Ok(0)) {}
    })
    .await;
    assert_eq!(run(check(""), target).await, Err(Failure::NotGrpc));
}

#[tokio::test]
async fn a_call_through_tls_negotiates_http_2() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("shop.example.com", "h2");
    let target = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            speak(stream, |_, respond| complete(respond, SERVING, "0")).await;
        }
    })
    .await;
    let tls = Some(Tls::new(Some("shop.example.com"), Some(&authority.pem), true).unwrap());
    let call = Grpc { service: String::new(), authority: Some("shop.example.com".to_owned()), tls };
    assert_eq!(run(Kind::Grpc(call), target).await, Ok(()));
}

#[test]
fn the_length_of_a_long_service_name_takes_two_bytes() {
    let frame = message(&"s".repeat(300));
    assert_eq!(frame[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    assert_eq!(frame.len(), 5 + 303);
}

#[test]
fn only_a_whole_and_well_formed_frame_is_read() {
    let table: [(&[u8], Option<u64>); 13] = [
        (SERVING, Some(1)),
        (&[0, 0, 0, 0, 0], Some(0)),
        // The last value of a field counts.
        (&[0, 0, 0, 0, 4, 8, 1, 8, 2], Some(2)),
        // Unknown fields of each wire type: number, fixed 64, bytes, fixed 32.
        (&[0, 0, 0, 0, 4, 0x10, 7, 8, 1], Some(1)),
        (&[0, 0, 0, 0, 11, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1], Some(1)),
        (&[0, 0, 0, 0, 5, 0x12, 1, 0xff, 8, 1], Some(1)),
        (&[0, 0, 0, 0, 7, 0x15, 0, 0, 0, 0, 8, 1], Some(1)),
        (&[], None),
        (&[0, 0, 0, 0], None),
        (&[0, 0, 0, 0, 3, 8, 1], None),
        (&[0, 0, 0, 0, 1, 8, 1], None),
        (&[0, 0, 0, 0, 2, 0x12, 9], None),
        (&[0, 0, 0, 0, 1, 0x0b], None),
    ];
    for (frame, status) in table {
        assert_eq!(serving_status(frame), status, "{frame:?}");
    }
}

/// One field of a message as protobuf encodes it, other than field 1.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |tag: u8, length| {
        prop::collection::vec(any::<u8>(), length).prop_map(move |value| [&[tag][..], &value].concat())
    };
    prop_oneof![
        (0..0x80_u8).prop_map(|value| vec![0x10, value]),
        (0x80..=0xff_u8, 0..0x80_u8).prop_map(|(low, high)| vec![0x10, low, high]),
        bytes(0x19, 8),
        bytes(0x25, 4),
        prop::collection::vec(any::<u8>(), 0..0x80).prop_map(|value| [
            &[0x2a, value.len() as u8][..],
            &value
        ]
        .concat()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(frame in prop::collection::vec(any::<u8>(), 0..64)) {
        let whole = frame.len() >= 5
            && frame[0] == 0
            && u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize == frame.len() - 5;
        prop_assert!(whole || serving_status(&frame).is_none());
    }

    #[test]
    fn any_message_in_a_frame_is_read_or_refused(message in prop::collection::vec(any::<u8>(), 0..64)) {
        let frame = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
        let with_status = [&[0, 0, 0, 0, message.len() as u8 + 2][..], &message, &[8, 1]].concat();
        // A status behind a well-formed message is the one that counts.
        if serving_status(&frame).is_some() {
            prop_assert_eq!(serving_status(&with_status), Some(1));
        }
    }

    #[test]
    fn the_status_is_found_between_any_unknown_fields(
        before in prop::collection::vec(unknown_field(), 0..4),
        status in 0..4_u8,
        after in prop::collection::vec(unknown_field(), 0..4),
    ) {
        let message = [before.concat(), vec![8, status], after.concat()].concat();
        let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        prop_assert_eq!(serving_status(&frame), Some(u64::from(status)));
    }
}
