//! Executors as processes: this program again, with a socket pair to its worker.

use super::{ExecutorReport, ExecutorStart, Launch, Launched};
use offshoot_sandbox::child::{AsyncLink, Ending, start_self};
use offshoot_sandbox::compile::Artifact;
use offshoot_sandbox::link::LinkError;
use offshoot_sandbox::slots::PortFuture;
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

/// The one variable that an executor inherits.
const LOG_VARIABLE: &str = "RUST_LOG";

/// Starts `/proc/self/exe executor APP/N`. The processes are killed when the thread that launched
/// them ends, so a worker's runtime lives on one thread for as long as the worker.
#[derive(Clone, Debug)]
pub struct ProcessLaunch {
    log: OsString,
}

/// An executor process.
struct LaunchedProcess {
    /// None once it has been told to stop, or has nothing more to say.
    link: Option<AsyncLink>,
    child: Child,
    ending: Ending,
    last_words: Option<String>,
}

// === impl ProcessLaunch ===

impl ProcessLaunch {
    /// Executors log as this process does: as `RUST_LOG` says, or at `level`.
    pub fn from_environment(level: &str) -> Self {
        Self { log: std::env::var_os(LOG_VARIABLE).unwrap_or_else(|| level.into()) }
    }

    fn start(&self, start: &ExecutorStart, artifact: Artifact) -> io::Result<LaunchedProcess> {
        let (ours, theirs) = UnixStream::pair()?;
        let name = start.launch.executor.to_string();
        let environment = [(LOG_VARIABLE, self.log.clone())];
        let child = start_self(&["executor", &name], &environment, theirs.into())?;
        LaunchedProcess::new(child, ours, start, artifact)
    }
}

impl Launch for ProcessLaunch {
    fn launch(
        &self,
        start: ExecutorStart,
        artifact: Artifact,
    ) -> PortFuture<'_, io::Result<Box<dyn Launched>>> {
        Box::pin(async move {
            let launched = self.start(&start, artifact)?;
            Ok(Box::new(launched) as Box<dyn Launched>)
        })
    }
}

// === impl LaunchedProcess ===

impl LaunchedProcess {
    fn new(
        mut child: Child,
        socket: UnixStream,
        start: &ExecutorStart,
        artifact: Artifact,
    ) -> io::Result<Self> {
        let prepared = prepare(&child, socket, start, artifact);
        match prepared {
            Ok((link, ending)) => Ok(Self { link: Some(link), child, ending, last_words: None }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    async fn wait(&mut self) -> String {
        loop {
            tokio::select! {
                biased;
                report = next_report(&mut self.link) => self.note(report),
                _ = self.ending.reached() => break,
            }
        }
        // What it said last may have come together with its end.
        while self.link.is_some() {
            let report = next_report(&mut self.link).await;
            self.note(report);
        }
        match (self.last_words.take(), self.child.wait()) {
            (Some(words), _) => words,
            (None, Ok(status)) => describe(status),
            (None, Err(error)) => format!("the executor process ended ({error})"),
        }
    }

    fn note(&mut self, report: Option<ExecutorReport>) {
        if let Some(ExecutorReport::Failed { reason }) = report {
            self.last_words = Some(reason);
        }
    }
}

impl Launched for LaunchedProcess {
    fn ready(&mut self) -> PortFuture<'_, Result<SocketAddr, String>> {
        Box::pin(async move {
            if self.link.is_none() {
                return Err(self.wait().await);
            }
            match next_report(&mut self.link).await {
                Some(ExecutorReport::Ready { address }) => Ok(address),
                Some(ExecutorReport::Failed { reason }) => Err(reason),
                None => Err(format!("{} before it listened", self.wait().await)),
            }
        })
    }

    fn stop(&mut self) {
        self.link = None;
    }

    fn kill(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
    }

    fn ended(&mut self) -> PortFuture<'_, String> {
        Box::pin(self.wait())
    }
}

impl Drop for LaunchedProcess {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The next report; `None` when the link ends with this. Without a link this waits for ever.
async fn next_report(link: &mut Option<AsyncLink>) -> Option<ExecutorReport> {
    let Some(open) = link else {
        return pending().await;
    };
    match open.receive::<ExecutorReport>().await {
        Ok((report, _)) => Some(report),
        Err(_) => {
            *link = None;
            None
        }
    }
}

/// Sends the order on its way and gets hold of the process's end.
fn prepare(
    child: &Child,
    socket: UnixStream,
    start: &ExecutorStart,
    artifact: Artifact,
) -> io::Result<(AsyncLink, Ending)> {
    let ending = Ending::of(child)?;
    let mut link = AsyncLink::new(socket)?;
    let descriptors = vec![artifact.code.into(), artifact.description.into()];
    match link.send(start, descriptors) {
        // A process that is gone already is told by its end.
        Ok(()) | Err(LinkError::Closed) => Ok((link, ending)),
        Err(LinkError::Io(error)) => Err(error),
        Err(other) => Err(io::Error::other(other)),
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "the executor process ended".to_owned(),
        (Some(code), _) => format!("the executor process ended with exit status {code}"),
        (None, Some(signal)) => format!("the executor process was ended by signal {signal}"),
        (None, None) => format!("the executor process ended ({status})"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::launch::test_support::{artifact, start};
    use std::process::{Command, Stdio};
    use std::time::Duration;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A process that does nothing, and the other end of what would be its channel.
    fn launched() -> (LaunchedProcess, AsyncLink) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut sleep = Command::new("sleep");
        let child = sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let launched = LaunchedProcess::new(child, ours, &start(), artifact()).unwrap();
        (launched, AsyncLink::new(theirs).unwrap())
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        timeout(PATIENCE, future).await.unwrap()
    }

    /// Takes the order as an executor does, and answers it.
    async fn answer(link: &mut AsyncLink, report: ExecutorReport) {
        let (order, descriptors) = link.receive::<ExecutorStart>().await.unwrap();
        assert_eq!((order, descriptors.len()), (start(), 2));
        link.send(&report, vec![]).unwrap();
    }

    #[tokio::test]
    async fn an_executor_is_ordered_listens_stops_and_ends() {
        let (mut launched, mut link) = launched();
        let address = "127.0.0.1:4000".parse().unwrap();
        let answered = answer(&mut link, ExecutorReport::Ready { address });
        let (ready, ()) = soon(async { tokio::join!(launched.ready(), answered) }).await;
        assert_eq!(ready, Ok(address));
        launched.stop();
        soon(link.receive::<()>()).await.unwrap_err();
        launched.kill();
        let how = soon(launched.ended()).await;
        assert_eq!(how, "the executor process was ended by signal 9");
    }

    #[tokio::test]
    async fn the_last_words_of_an_executor_say_how_it_ended() {
        let (mut launched, mut link) = launched();
        let reason = "its driver was silent for 4 s".to_owned();
        let pid = rustix::process::Pid::from_child(&launched.child);
        let last = async move {
            answer(&mut link, ExecutorReport::Failed { reason }).await;
            drop(link);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        let (how, ()) = soon(async { tokio::join!(launched.ended(), last) }).await;
        assert_eq!(how, "its driver was silent for 4 s");
    }

    #[tokio::test]
    async fn an_executor_that_ends_before_it_listens_is_not_ready() {
        let (mut launched, link) = launched();
        launched.kill();
        drop(link);
        let error = soon(launched.ready()).await.unwrap_err();
        let expected = "the executor process was ended by signal 9 before it listened";
        assert_eq!(error, expected);
    }

    #[tokio::test]
    async fn dropping_an_executor_leaves_no_process() {
        let (launched, _link) = launched();
        let pid = rustix::process::Pid::from_child(&launched.child);
        drop(launched);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
