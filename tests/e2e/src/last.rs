//! What is done when a test has ended in any way.

use std::thread;

use kube::Client;
use tokio::runtime::Builder;

/// Does `work` from a `drop`, where nothing can be awaited, and says so where it fails.
pub(crate) fn at_the_end(what: &str, work: impl AsyncFnOnce(Client) -> kube::Result<()> + Send + 'static) {
    let ended = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime is made");
        // A connection belongs to the runtime that made it, and that of the test stands still here.
        runtime.block_on(async { work(Client::try_default().await?).await })
    });
    match ended.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("not done at the end: {what}: {error}"),
        Err(_) => eprintln!("not done at the end: {what}"),
    }
}
