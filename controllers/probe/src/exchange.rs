//! What HTTP and gRPC checks share.

use std::{future::Future, pin::pin};

/// How this client names itself to HTTP and gRPC servers.
pub(crate) const USER_AGENT: &str = concat!("mainstay-probe/", env!("CARGO_PKG_VERSION"));

/// No more than this of an answer's head is held, in bytes; a longer one does not pass.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// Drives `connection` until `exchange`, which goes through it, has ended. When the connection ends first, it is
/// dropped, which ends the exchange with whatever had arrived for it.
pub(crate) async fn drive<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        _ = connection => {}
    }
    exchange.await
}
