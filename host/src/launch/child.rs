//! The executor's side of its launch: takes the order, runs it, reports, and ends with its worker.

use super::{ExecutorReport, ExecutorStart};
use offshoot_sandbox::child::{AsyncLink, inherited_socket};
use offshoot_sandbox::link::LinkError;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// How long an executor may take to end once its worker has told it to, or is gone. The worker
/// kills it a little later.
const END_DEADLINE: Duration = Duration::from_secs(3);

/// Why an executor process ended otherwise than it should.
#[derive(Debug, Error)]
pub enum ExecutorMainError {
    /// No runtime, or no socket.
    #[error("an executor cannot start: {0}")]
    Start(#[from] io::Error),
    /// The worker's order did not come.
    #[error("the worker's order did not come: {0}")]
    Order(#[from] LinkError),
    /// The order came without the module.
    #[error("the worker's order came with {found} descriptors, 2 are needed")]
    Descriptors {
        /// How many came.
        found: usize,
    },
    /// The executor failed; the worker has been told.
    #[error("{0}")]
    Run(String),
    /// The executor did not end when it had to.
    #[error("the executor did not end within {} s", END_DEADLINE.as_secs())]
    Stuck,
}

/// What a process runs that [`ProcessLaunch`](super::ProcessLaunch) has started, first thing.
///
/// `run` gets the order, compiled code and its description, whom to tell where the executor
/// listens, and what resolves (with a value or an error) when it has to end. It is called in a
/// single-threaded runtime, before this process has any other thread.
pub fn executor_main<F, E>(
    run: impl FnOnce(
        ExecutorStart,
        OwnedFd,
        OwnedFd,
        oneshot::Sender<SocketAddr>,
        oneshot::Receiver<()>,
    ) -> F,
) -> Result<(), ExecutorMainError>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let socket = UnixStream::from(inherited_socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(attend(socket, run))
}

async fn attend<F, E>(
    socket: UnixStream,
    run: impl FnOnce(
        ExecutorStart,
        OwnedFd,
        OwnedFd,
        oneshot::Sender<SocketAddr>,
        oneshot::Receiver<()>,
    ) -> F,
) -> Result<(), ExecutorMainError>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut link = AsyncLink::new(socket)?;
    let (start, descriptors) = match link.receive::<ExecutorStart>().await {
        Ok(order) => order,
        // The application ended, or its worker did, before this process was up.
        Err(LinkError::Closed) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let found = descriptors.len();
    let Ok([code, description]) = <[OwnedFd; 2]>::try_from(descriptors) else {
        return Err(ExecutorMainError::Descriptors { found });
    };
    let (ready, mut listens) = oneshot::channel();
    let (stop, shutdown) = oneshot::channel();
    let (mut stop, mut told) = (Some(stop), false);
    let mut running = pin!(run(start, code, description, ready, shutdown));
    let mut deadline = pin!(sleep(Duration::MAX));
    loop {
        tokio::select! {
            biased;
            address = &mut listens, if !told => {
                told = true;
                if let Ok(address) = address {
                    // A worker that is gone is noticed below.
                    let _ = link.send(&ExecutorReport::Ready { address }, vec![]);
                }
            }
            ended = &mut running => return ended.map_err(|error| {
                let reason = error.to_string();
                let _ = link.send(&ExecutorReport::Failed { reason: reason.clone() }, vec![]);
                ExecutorMainError::Run(reason)
            }),
            // The worker says nothing more: whatever comes is the end of the channel.
            _ = link.receive::<()>(), if stop.is_some() => {
                stop = None;
                deadline.set(sleep(END_DEADLINE));
            }
            () = &mut deadline, if stop.is_none() => return Err(ExecutorMainError::Stuck),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::launch::test_support::start;
    use offshoot_sandbox::link::{self, SocketLink};
    use std::fs::File;
    use std::future::pending;
    use std::io::Read;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn file(text: &str) -> OwnedFd {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, text).unwrap();
        File::open(path).unwrap().into()
    }

    fn text(file: OwnedFd) -> String {
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        text
    }

    fn address() -> SocketAddr {
        "127.0.0.1:4000".parse().unwrap()
    }

    /// Both ends of a channel on which the worker has sent its order.
    fn ordered(descriptors: Vec<OwnedFd>) -> (AsyncLink, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut blocking = SocketLink::new(ours.try_clone().unwrap());
        link::send(&mut blocking, &start(), descriptors).unwrap();
        (AsyncLink::new(ours).unwrap(), theirs)
    }

    async fn report(link: &mut AsyncLink) -> ExecutorReport {
        timeout(PATIENCE, link.receive()).await.unwrap().unwrap().0
    }

    #[tokio::test]
    async fn an_executor_gets_its_order_reports_and_ends_with_its_worker() {
        let (mut link, theirs) = ordered(vec![file("code"), file("description")]);
        let child = attend(theirs, |order, code, description, ready, shutdown| async {
            assert_eq!((order, text(code)), (start(), "code".to_owned()));
            assert_eq!(text(description), "description");
            ready.send(address()).unwrap();
            let _ = shutdown.await;
            Ok::<(), String>(())
        });
        let worker = async {
            let address = address();
            assert_eq!(report(&mut link).await, ExecutorReport::Ready { address });
            drop(link);
        };
        let (ended, ()) = tokio::join!(timeout(PATIENCE, child), worker);
        ended.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_failure_is_told_to_the_worker() {
        let (mut link, theirs) = ordered(vec![file(""), file("")]);
        let child = attend(theirs, |_, _, _, _, _| async { Err("no port is free") });
        let (ended, told) = tokio::join!(child, report(&mut link));
        let reason = "no port is free".to_owned();
        assert_eq!(told, ExecutorReport::Failed { reason });
        assert!(matches!(ended, Err(ExecutorMainError::Run(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_executor_that_does_not_stop_is_ended() {
        let (link, theirs) = ordered(vec![file(""), file("")]);
        drop(link);
        let ended = attend(theirs, |_, _, _, _, _| pending::<Result<(), String>>());
        assert!(matches!(ended.await, Err(ExecutorMainError::Stuck)));
    }

    #[tokio::test]
    async fn an_executor_that_is_not_wanted_any_more_ends_without_a_word() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let ended = attend(theirs, |_, _, _, _, _| pending::<Result<(), String>>());
        timeout(PATIENCE, ended).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_order_without_a_module_is_refused() {
        let (_link, theirs) = ordered(vec![file("")]);
        let ended = attend(theirs, |_, _, _, _, _| async { Ok::<(), String>(()) }).await;
        let found = ended.unwrap_err();
        assert!(matches!(found, ExecutorMainError::Descriptors { found: 1 }));
    }
}
