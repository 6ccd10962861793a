//! Slots as processes: the owner's asynchronous half of spawner and link.

use super::spawner::{SpawnerEvent, StartSlot};
use super::{PortFuture, SlotConnection, Slots};
use crate::child::{AsyncLink, inherited_socket, start_self};
use crate::link::{LinkError, SocketLink};
use offshoot_proto::link::{FromSlot, SlotRole, SlotStart, ToSlot};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, pidfd_send_signal, setrlimit};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// Slots made by a spawner process. Must be created before its owner starts threads or locks
/// itself down; used from within a tokio runtime.
#[derive(Debug)]
pub struct ProcessSlots {
    socket: Mutex<Option<UnixStream>>,
    requests: Mutex<Option<mpsc::UnboundedSender<Request>>>,
    _spawner: Spawner,
}

/// The spawner process; it ends when its socket closes.
#[derive(Debug)]
struct Spawner(Child);

#[derive(Debug)]
struct Request {
    name: String,
    socket: OwnedFd,
    started: oneshot::Sender<io::Result<OwnedFd>>,
    ended: oneshot::Sender<String>,
}

struct ProcessSlot {
    link: AsyncLink,
    pidfd: OwnedFd,
    ended: Option<oneshot::Receiver<String>>,
}

// === impl ProcessSlots ===

impl ProcessSlots {
    /// Starts the spawner. `owner` is shown in a list of processes.
    pub fn new(owner: &str) -> io::Result<Arc<Self>> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = start_self(&["spawner", owner], &[], theirs.into())?;
        Ok(Arc::new(Self {
            socket: Mutex::new(Some(ours)),
            requests: Mutex::new(None),
            _spawner: Spawner(child),
        }))
    }

    /// The way to the task that talks to the spawner, started with the first slot.
    fn requests(&self) -> io::Result<mpsc::UnboundedSender<Request>> {
        let mut requests = self.requests.lock().expect("no holder of the lock panics");
        if let Some(sender) = &*requests {
            return Ok(sender.clone());
        }
        let socket = self.socket.lock().expect("no holder of the lock panics").take();
        let socket = socket.ok_or_else(|| io::Error::other("the spawner has ended"))?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(talk(AsyncLink::new(socket)?, receiver));
        Ok(requests.insert(sender).clone())
    }
}

impl Slots for ProcessSlots {
    fn start(&self, name: String) -> PortFuture<'_, io::Result<Box<dyn SlotConnection>>> {
        Box::pin(async move {
            let (ours, theirs) = UnixStream::pair()?;
            let (started, starting) = oneshot::channel();
            let (ended, ending) = oneshot::channel();
            let request = Request { name, socket: theirs.into(), started, ended };
            let gone = || io::Error::other("the spawner has ended");
            self.requests()?.send(request).map_err(|_| gone())?;
            let pidfd = starting.await.map_err(|_| gone())??;
            let slot = ProcessSlot { link: AsyncLink::new(ours)?, pidfd, ended: Some(ending) };
            Ok(Box::new(slot) as Box<dyn SlotConnection>)
        })
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // Its children die with it: nothing of this owner is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes requests to the spawner and its events to those who wait for them.
async fn talk(mut link: AsyncLink, mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut waiting = BTreeMap::new();
    let mut running = BTreeMap::new();
    let mut next_id = 0;
    loop {
        tokio::select! {
            biased;
            event = link.receive::<SpawnerEvent>() => {
                let Ok((event, mut descriptors)) = event else { return };
                match event {
                    SpawnerEvent::Started { id } => {
                        if let Some(started) = waiting.remove(&id) {
                            let pidfd = descriptors.pop();
                            let started: oneshot::Sender<io::Result<OwnedFd>> = started;
                            let missing = || io::Error::other("no handle came with the slot");
                            let _ = started.send(pidfd.ok_or_else(missing));
                        }
                    }
                    SpawnerEvent::Failed { id, reason } => {
                        if let Some(started) = waiting.remove(&id) {
                            let _ = started.send(Err(io::Error::other(reason)));
                        }
                        running.remove(&id);
                    }
                    SpawnerEvent::Ended { id, how } => {
                        let ended: Option<oneshot::Sender<String>> = running.remove(&id);
                        if let Some(ended) = ended {
                            let _ = ended.send(how);
                        }
                    }
                }
            }
            request = requests.recv() => {
                let Some(Request { name, socket, started, ended }) = request else { return };
                let id = next_id;
                next_id += 1;
                waiting.insert(id, started);
                running.insert(id, ended);
                if link.send(&StartSlot { id, name }, vec![socket]).is_err() {
                    return;
                }
            }
        }
    }
}

// === impl ProcessSlot ===

impl SlotConnection for ProcessSlot {
    fn send(&mut self, message: &ToSlot, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        self.link.send(message, descriptors)
    }

    fn queue(&mut self, message: &ToSlot, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        self.link.queue(message, descriptors)
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        self.link.flush()
    }

    fn receive(&mut self) -> PortFuture<'_, Result<(FromSlot, Vec<OwnedFd>), LinkError>> {
        Box::pin(self.link.receive())
    }

    fn kill(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn ended(&mut self) -> PortFuture<'_, String> {
        Box::pin(async move {
            let unknown = || "the slot process ended".to_owned();
            match self.ended.take() {
                Some(ending) => ending.await.unwrap_or_else(|_| unknown()),
                None => unknown(),
            }
        })
    }
}

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a slot process runs: a slot on the socket that its spawner left at descriptor 3.
pub fn slot_main() -> Result<(), crate::slot::SlotError> {
    let socket = UnixStream::from(inherited_socket());
    crate::slot::run_confined(Box::new(SocketLink::new(socket)), limit_files)
}

/// A slot counts what its task writes and says so in words; should it not, the kernel still lets no
/// file grow beyond the same limit. A driver's files are its memory and what was granted to it.
fn limit_files(start: &SlotStart) -> io::Result<()> {
    // SAFETY: no handler is installed. Ignored, so that a write fails with EFBIG.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    if start.role == SlotRole::Driver {
        return Ok(());
    }
    let maximum = getrlimit(Resource::Fsize).maximum.unwrap_or(u64::MAX);
    let limit = Some(maximum.min(start.disk_bytes_max));
    Ok(setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit })?)
}
