//! One connection: bytes pass in both directions until one side ends it, or a fault meets it.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

use super::mood::{Fault, State};

/// Passes bytes on between the two, as the state says.
pub(super) async fn relay(mut client: TcpStream, mut server: TcpStream, mut state: watch::Receiver<State>) {
    let then = state.borrow().clone();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let fault = tokio::select! {
        biased;
        fault = first_fault(state.clone(), &then) => fault,
        _ = async { tokio::try_join!(pump(from_client, to_server, &state), pump(from_server, to_client, &state)) } => return,
    };
    match fault {
        Some(Fault::Silent) => {
            let mut swallowed = [0; 4096];
            let cut = state.wait_for(|state| state.fault_since(&then) == Some(Fault::Reset));
            tokio::select! {
                // Whoever closes it is not answered either.
                () = async {
                    while matches!(client.read(&mut swallowed).await, Ok(1..)) {}
                    std::future::pending().await
                } => {}
                _ = cut => {}
            }
        }
        Some(Fault::Reset) => {}
        None => return,
    }
    // Without what is still to be sent: the client sees a reset, no end.
    drop(client.set_zero_linger());
}

/// Waits until something is wrong with the connection; `None` when the proxy has ended.
async fn first_fault(mut state: watch::Receiver<State>, then: &State) -> Option<Fault> {
    let mut found = None;
    let wait = state.wait_for(|state| {
        found = state.fault_since(then);
        found.is_some()
    });
    drop(wait.await);
    found
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Receiver<State>,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        let delay = state.borrow().delay();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, time::Duration};

    use tokio::{
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::*;
    use crate::proxy::{Mood, Proxy};

    const SOON: Duration = Duration::from_secs(10);
    const NOT_SOON: Duration = Duration::from_millis(300);

    /// A proxy to a server that sends back what it gets.
    async fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Proxy::bytes(&address.to_string()).await.expect("a free port")
    }

    async fn open(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.expect("it listens")
    }

    /// Sends a byte and waits for it to come back.
    async fn echo(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(&[7]).await?;
        stream.read_u8().await
    }

    async fn answers(stream: &mut TcpStream) {
        assert_eq!(timeout(SOON, echo(stream)).await.expect("an answer in time").expect("an answer"), 7);
    }

    #[tokio::test]
    async fn bytes_and_the_end_pass_through_an_honest_proxy() {
        let proxy = start().await;
        let mut stream = open(&proxy).await;
        answers(&mut stream).await;
        stream.shutdown().await.expect("it is open");
        let mut rest = Vec::new();
        timeout(SOON, stream.read_to_end(&mut rest)).await.expect("in time").expect("an end");
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn a_silent_proxy_takes_bytes_and_keeps_connections_and_new_ones_work_afterwards() {
        let proxy = start().await;
        let mut before = open(&proxy).await;
        answers(&mut before).await;
        proxy.set(Mood::Silent);
        let mut meanwhile = open(&proxy).await;
        for stream in [&mut before, &mut meanwhile] {
            assert!(timeout(NOT_SOON, echo(stream)).await.is_err(), "it says something");
        }
        proxy.set(Mood::Honest);
        answers(&mut open(&proxy).await).await;
        assert!(timeout(NOT_SOON, echo(&mut before)).await.is_err(), "it says something again");
    }

    #[tokio::test]
    async fn silence_that_is_over_at_once_still_meets_the_connections_that_there_were() {
        let proxy = start().await;
        let mut before = open(&proxy).await;
        answers(&mut before).await;
        proxy.set(Mood::Silent);
        proxy.set(Mood::Honest);
        assert!(timeout(NOT_SOON, echo(&mut before)).await.is_err(), "it says something");
        answers(&mut open(&proxy).await).await;
    }

    #[tokio::test]
    async fn a_delay_is_that_of_both_directions() {
        let proxy = start().await;
        let mut stream = open(&proxy).await;
        answers(&mut stream).await;
        proxy.set(Mood::Delay(Duration::from_millis(150)));
        let begun = Instant::now();
        answers(&mut stream).await;
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        proxy.set(Mood::Honest);
        answers(&mut stream).await;
    }

    #[tokio::test]
    async fn connections_are_cut_by_a_reset_also_silent_ones() {
        let proxy = start().await;
        let mut silent = open(&proxy).await;
        answers(&mut silent).await;
        proxy.set(Mood::Silent);
        proxy.set(Mood::Honest);
        let mut open_one = open(&proxy).await;
        answers(&mut open_one).await;
        proxy.set(Mood::Reset);
        let mut meanwhile = open(&proxy).await;
        for stream in [&mut open_one, &mut silent, &mut meanwhile] {
            let cut = timeout(SOON, stream.read_u8()).await.expect("it is cut");
            assert_eq!(cut.expect_err("no byte").kind(), ErrorKind::ConnectionReset);
        }
        proxy.set(Mood::Honest);
        answers(&mut open(&proxy).await).await;
    }
}
