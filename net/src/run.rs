//! Where a role's loop runs.

use std::future::Future;
use std::panic::resume_unwind;
use tokio::task::JoinSet;

/// Runs a loop as a task. The runtime runs a task right after what woke it; the future that it
/// blocks on waits for a look at the system's events first, which costs a round trip two calls of
/// the kernel on either side. Dropping this future drops the loop.
pub async fn run_as_task<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> T {
    let mut tasks = JoinSet::new();
    tasks.spawn(run);
    match tasks.join_next().await {
        Some(Ok(value)) => value,
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Only a runtime that is shutting down does this, and it polls nobody again.
            Err(_) => std::future::pending().await,
        },
        None => unreachable!("the one task was spawned above"),
    }
}
