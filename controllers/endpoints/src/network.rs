//! Where checks and lookups go: the host's network, or in tests one that is not there.

use std::{net::SocketAddr, sync::Arc};

use futures::future::{BoxFuture, FutureExt, ready};
use mainstay_probe::{Answer, Check, Outcome, ResolveError, Resolver};

/// Makes one check of one address.
pub type Ask = Box<dyn Fn(Arc<Check>, SocketAddr) -> BoxFuture<'static, Outcome> + Send + Sync>;
/// Looks up one name.
pub type LookUp = Box<dyn Fn(String) -> BoxFuture<'static, Result<Answer, ResolveError>> + Send + Sync>;

/// How addresses are checked, and names looked up.
pub struct Network {
    /// Makes one check.
    pub check: Ask,
    /// Looks up one name.
    pub look_up: LookUp,
}

impl Network {
    /// The network of the host, with the resolver that it is configured with; without one, each lookup fails with its error.
    pub fn of_host() -> Self {
        let check = |check: Arc<Check>, address| async move { check.run(address).await }.boxed();
        let resolver = Resolver::from_system().map(Arc::new);
        let look_up = move |name: String| match resolver.clone() {
            Ok(resolver) => async move { resolver.look_up(&name).await }.boxed(),
            Err(error) => ready(Err(error)).boxed(),
        };
        Self { check: Box::new(check), look_up: Box::new(look_up) }
    }
}
