use hickory_resolver::proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        RData, Record,
        rdata::{A, AAAA, CNAME},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::*;

/// The code and the records of an answer, or silence.
type Answers = fn(&Query) -> Option<(ResponseCode, Vec<Record>)>;

fn respond(answers: Answers, request: &[u8]) -> Option<Message> {
    let request = Message::from_vec(request).unwrap();
    let query = request.queries[0].clone();
    let (code, records) = answers(&query)?;
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.response_code = code;
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    response.add_query(query).add_answers(records);
    Some(response)
}

/// A resolver that asks a server of this test's own, which serves UDP, and TCP for what is longer than 512 bytes.
async fn resolver(answers: Answers) -> Resolver {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // The port may be in use with TCP.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 4096];
        loop {
            let (length, client) = udp.recv_from(&mut request).await.unwrap();
            let Some(response) = respond(answers, &request[..length]) else { continue };
            let mut bytes = response.to_vec().unwrap();
            if bytes.len() > 512 {
                bytes = response.truncate().to_vec().unwrap();
            }
            udp.send_to(&bytes, client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            while let Ok(length) = stream.read_u16().await {
                let mut request = vec![0; length.into()];
                stream.read_exact(&mut request).await.unwrap();
                let Some(response) = respond(answers, &request) else { continue };
                let bytes = response.to_vec().unwrap();
                stream.write_u16(bytes.len() as u16).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    Resolver::with_servers(&[address]).unwrap()
}

fn v4(query: &Query, ttl: u32, last: u8) -> Record {
    Record::from_rdata(query.name().clone(), ttl, RData::A(A::new(10, 0, 0, last)))
}

fn v6(query: &Query, ttl: u32, last: u16) -> Record {
    Record::from_rdata(query.name().clone(), ttl, RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, last)))
}

fn found(records: Vec<Record>) -> Option<(ResponseCode, Vec<Record>)> {
    Some((ResponseCode::NoError, records))
}

fn failed(code: ResponseCode) -> Option<(ResponseCode, Vec<Record>)> {
    Some((code, Vec::new()))
}

fn texts(answer: &Answer) -> Vec<String> {
    answer.addresses.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn both_families_are_asked_and_the_lowest_ttl_holds() {
    let resolver = resolver(|query| match query.query_type() {
        RecordType::A => found(vec![v4(query, 60, 2), v4(query, 40, 1), v4(query, 60, 2)]),
        _ => found(vec![v6(query, 50, 1)]),
    })
    .await;
    let answer = resolver.look_up("shop.example.com").await.unwrap();
    assert_eq!(texts(&answer), ["10.0.0.1", "10.0.0.2", "fd00::1"]);
    assert_eq!(answer.valid_for, Duration::from_secs(40));
    assert_eq!(answer.unanswered, None);
}

#[tokio::test]
async fn the_ttl_of_an_alias_counts() {
    let resolver = resolver(|query| match query.query_type() {
        RecordType::A => {
            let target = Name::from_ascii("real.example.com.").unwrap();
            let alias = Record::from_rdata(query.name().clone(), 5, RData::CNAME(CNAME(target.clone())));
            found(vec![alias, Record::from_rdata(target, 300, RData::A(A::new(10, 0, 0, 1)))])
        }
        _ => found(Vec::new()),
    })
    .await;
    let answer = resolver.look_up("shop.example.com").await.unwrap();
    assert_eq!(texts(&answer), ["10.0.0.1"]);
    assert_eq!(answer.valid_for, Duration::from_secs(5));
}

#[tokio::test]
async fn a_name_is_asked_as_given_and_never_with_a_search_path() {
    let resolver = resolver(|query| match query.name().to_string().as_str() {
        "shop." => found(vec![v4(query, 60, 1)]),
        other => panic!("{other} was asked for"),
    })
    .await;
    for name in ["shop", "shop."] {
        assert_eq!(texts(&resolver.look_up(name).await.unwrap()), ["10.0.0.1"]);
    }
}

#[tokio::test]
async fn every_look_up_asks_anew() {
    use std::sync::atomic::{AtomicU8, Ordering};
    static ASKED: AtomicU8 = AtomicU8::new(0);
    let resolver = resolver(|query| match query.query_type() {
        RecordType::A => found(vec![v4(query, 3600, ASKED.fetch_add(1, Ordering::Relaxed))]),
        _ => failed(ResponseCode::NoError),
    })
    .await;
    assert_eq!(texts(&resolver.look_up("shop.example.com").await.unwrap()), ["10.0.0.0"]);
    assert_eq!(texts(&resolver.look_up("shop.example.com").await.unwrap()), ["10.0.0.1"]);
}

#[tokio::test]
async fn an_answer_too_long_for_udp_is_asked_for_over_tcp() {
    let resolver = resolver(|query| match query.query_type() {
        RecordType::A => found((1..=200).map(|last| v4(query, 60, last)).collect()),
        _ => found(Vec::new()),
    })
    .await;
    let answer = resolver.look_up("shop.example.com").await.unwrap();
    assert_eq!(answer.addresses.len(), 200);
}

#[tokio::test]
async fn errors_tell_what_dns_said() {
    let table: [(Answers, ResolveError); 3] = [
        (|_| failed(ResponseCode::NXDomain), ResolveError::NoSuchName),
        (|_| failed(ResponseCode::NoError), ResolveError::NoAddresses),
        (
            |query| match query.query_type() {
                RecordType::A => failed(ResponseCode::ServFail),
                _ => failed(ResponseCode::NoError),
            },
            ResolveError::Server("the server answered Server Failure".to_owned()),
        ),
    ];
    for (answers, error) in table {
        assert_eq!(resolver(answers).await.look_up("shop.example.com").await, Err(error));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_a_timeout() {
    let resolver = resolver(|_| None).await;
    let began = tokio::time::Instant::now();
    assert_eq!(resolver.look_up("shop.example.com").await, Err(ResolveError::TimedOut));
    assert!(began.elapsed() <= LOOK_UP_TIMEOUT + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_no_name_is_not_asked_for() {
    let resolver = resolver(|query| panic!("{query} was asked for")).await;
    for name in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(200)] {
        assert_eq!(resolver.look_up(name).await, Err(ResolveError::BadName), "{name:?}");
    }
}

#[tokio::test]
async fn a_resolver_needs_a_server() {
    assert!(matches!(Resolver::with_servers(&[]), Err(ResolveError::Server(_))));
}

#[test]
fn a_look_up_can_move_between_threads() {
    fn sendable<'a>(resolver: &'a Resolver) -> impl Send + 'a {
        resolver.look_up("shop.example.com")
    }
    let _ = sendable;
}

fn records(addresses: &[&str], seconds: u64) -> Result<Records, ResolveError> {
    Ok((addresses.iter().map(|address| address.parse().unwrap()).collect(), Duration::from_secs(seconds)))
}

#[test]
fn one_family_is_enough_and_says_what_is_not_known_of_the_other() {
    use ResolveError::{NoAddresses, NoSuchName, TimedOut};
    let v4 = || records(&["10.0.0.1"], 300);
    let v6 = || records(&["fd00::1"], 300);
    let table = [
        (v4(), Err(NoAddresses), None, 300),
        (v4(), Err(NoSuchName), None, 300),
        (v4(), Err(TimedOut), Some(Family::V6), 30),
        (Err(NoAddresses), v6(), None, 300),
        (Err(TimedOut), v6(), Some(Family::V4), 30),
    ];
    for (v4, v6, unanswered, seconds) in table {
        let answer = combine(v4, v6).unwrap();
        assert_eq!(answer.addresses.len(), 1);
        assert_eq!((answer.unanswered, answer.valid_for.as_secs()), (unanswered, seconds), "{answer:?}");
    }
}

#[test]
fn a_name_is_empty_only_when_both_families_are() {
    use ResolveError::{NoAddresses, NoSuchName, TimedOut};
    let table = [
        (NoAddresses, NoAddresses, NoAddresses),
        (NoSuchName, NoSuchName, NoSuchName),
        (NoAddresses, TimedOut, TimedOut),
        (TimedOut, NoSuchName, TimedOut),
        (TimedOut, TimedOut, TimedOut),
    ];
    for (v4, v6, error) in table {
        assert_eq!(combine(Err(v4), Err(v6)), Err(error));
    }
}

#[test]
fn an_answer_holds_from_a_second_to_an_hour() {
    for (ttl, seconds) in [(0, 1), (1, 1), (3600, 3600), (86_400, 3600)] {
        let answer = combine(records(&["10.0.0.1"], ttl), Err(ResolveError::NoAddresses)).unwrap();
        assert_eq!(answer.valid_for.as_secs(), seconds);
    }
}

#[test]
fn no_more_than_a_thousand_addresses_are_kept() {
    let many = |first: u8| {
        (0..600_u16).map(move |n| IpAddr::from([first, 0, (n >> 8) as u8, n as u8])).rev().collect::<Vec<_>>()
    };
    let answer = combine(Ok((many(11), SOME)), Ok((many(10), SOME))).unwrap();
    assert_eq!(answer.addresses.len(), 1000);
    assert!(answer.addresses.is_sorted());
    assert_eq!(answer.addresses[0], IpAddr::from([10, 0, 0, 0]));
}

const SOME: Duration = Duration::from_secs(60);
