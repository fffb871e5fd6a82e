//! Checks as a reconcile asks for them.

use std::{future::ready, net::SocketAddr};

use futures::FutureExt;
use mainstay_probe::{Check, Failure, Outcome};
use mainstay_runtime::solo::Beat;
use tokio_util::sync::CancellationToken;

use super::*;

/// Has all checks answered so, by the port, and notes who is asked.
pub(super) fn answers(
    endpoints: &mut Arc<Endpoints>,
    passes: impl Fn(u16) -> bool + Send + Sync + 'static,
) -> Arc<Mutex<Vec<SocketAddr>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let ask = move |_: Arc<Check>, address: SocketAddr| {
        log.lock().push(address);
        let result = if passes(address.port()) { Ok(()) } else { Err(Failure::Refused) };
        ready(Outcome { took: Duration::ZERO, result }).boxed()
    };
    let checker = Checker::new(ask, 4, CheckMetrics::new(&Registry::new()), endpoints.clock, |_| {});
    Arc::get_mut(endpoints).unwrap().checker = Arc::new(checker);
    asked
}

/// Makes the checks that are due within three seconds.
pub(super) async fn check(endpoints: &Endpoints) {
    let (beat, shutdown) = (Beat::new("checks"), CancellationToken::new());
    let checking = endpoints.checker.run(&beat, shutdown);
    tokio::time::timeout(Duration::from_secs(3), checking).await.unwrap_err();
}
