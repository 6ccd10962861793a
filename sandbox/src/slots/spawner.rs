//! The spawner: a process that keeps a socket to its owner and makes slots, from one thread.
//!
//! It is started before its owner locks itself down, and it alone may start programs afterwards.
//! The parent-death signal fires when the *thread* that spawned ends, so this one never does.

use crate::link::{Decoder, LinkError, encode, receive_some, send_some};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The descriptor that spawners and slots find their socket at.
pub(super) const SOCKET_DESCRIPTOR: i32 = 3;

/// To the spawner. One descriptor: the slot's end of its socket pair.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartSlot {
    /// Chosen by the owner.
    pub(super) id: u64,
    /// For the list of processes.
    pub(super) name: String,
}

/// From the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SpawnerEvent {
    /// It runs. One descriptor: a handle to kill it with.
    Started { id: u64 },
    /// It could not be started.
    Failed { id: u64, reason: String },
    /// It has ended.
    Ended { id: u64, how: String },
}

/// Starts this program again as `arguments`, with `socket` at descriptor 3 and nothing else but
/// standard error; killed when the calling thread ends.
pub(super) fn start_self(arguments: &[&str], socket: OwnedFd) -> io::Result<std::process::Child> {
    let source = socket.as_raw_fd();
    let parent = std::process::id();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("offshoot").args(arguments).env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    // SAFETY: only async-signal-safe calls; `source` stays open in `socket` until after the fork.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                return Err(io::Error::other("the parent has ended"));
            }
            let result = if source == SOCKET_DESCRIPTOR {
                libc::fcntl(source, libc::F_SETFD, 0)
            } else {
                libc::dup2(source, SOCKET_DESCRIPTOR)
            };
            // A terminal's Ctrl-C is for the owner, which ends its slots in order.
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            if result < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        });
    }
    command.spawn()
}

/// Takes the socket that the parent left at descriptor 3. To be called once, first thing.
pub(super) fn inherited_socket() -> OwnedFd {
    // SAFETY: this process was started by `start_self`, which put the socket there.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET_DESCRIPTOR) };
    let _ = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
    socket
}

struct Spawner {
    socket: OwnedFd,
    decoder: Decoder,
    slots: BTreeMap<u64, OwnedFd>,
}

/// What the spawner process runs, until its owner closes the socket.
pub fn spawner_main() -> Result<(), LinkError> {
    let socket = inherited_socket();
    let mut spawner = Spawner {
        socket,
        decoder: Decoder::default(),
        slots: BTreeMap::new(),
    };
    loop {
        match spawner.step() {
            Ok(()) => {}
            Err(LinkError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

// === impl Spawner ===

impl Spawner {
    fn step(&mut self) -> Result<(), LinkError> {
        let (readable, ended) = self.wait()?;
        for id in ended {
            if let Some(pidfd) = self.slots.remove(&id) {
                let how = exit_status(&pidfd);
                self.tell(&SpawnerEvent::Ended { id, how }, vec![])?;
            }
        }
        if readable {
            receive_some(self.socket.as_fd(), &mut self.decoder, RecvFlags::empty())?;
            while let Some((request, mut descriptors)) = self.decoder.next::<StartSlot>()? {
                let socket = descriptors.pop();
                self.start(request, socket)?;
            }
        }
        Ok(())
    }

    /// Waits for a request or the end of a slot.
    fn wait(&self) -> Result<(bool, Vec<u64>), LinkError> {
        let mut watched = vec![PollFd::new(&self.socket, PollFlags::IN)];
        watched.extend(
            self.slots
                .values()
                .map(|pidfd| PollFd::new(pidfd, PollFlags::IN)),
        );
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ids = self.slots.keys().zip(&watched[1..]);
        Ok((
            ready(&watched[0]),
            ids.filter(|(_, fd)| ready(fd)).map(|(id, _)| *id).collect(),
        ))
    }

    fn start(&mut self, request: StartSlot, socket: Option<OwnedFd>) -> Result<(), LinkError> {
        let StartSlot { id, name } = request;
        let started = socket
            .ok_or_else(|| io::Error::other("no socket came with the request"))
            .and_then(|socket| start_self(&["slot", &name], socket))
            .and_then(|child| {
                let pid = rustix::process::Pid::from_child(&child);
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                let copy = pidfd.try_clone()?;
                Ok((pidfd, copy))
            });
        match started {
            Ok((pidfd, copy)) => {
                self.slots.insert(id, pidfd);
                self.tell(&SpawnerEvent::Started { id }, vec![copy])
            }
            Err(error) => {
                let reason = format!("starting a slot process: {error}");
                self.tell(&SpawnerEvent::Failed { id, reason }, vec![])
            }
        }
    }

    fn tell(&self, event: &SpawnerEvent, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        let frame = encode(event, descriptors.len())?;
        let mut sent = 0;
        while sent < frame.len() {
            let descriptors = if sent == 0 {
                descriptors.as_slice()
            } else {
                &[]
            };
            let rest = &frame[sent..];
            sent += send_some(self.socket.as_fd(), rest, descriptors, SendFlags::empty())?;
        }
        Ok(())
    }
}

fn exit_status(pidfd: &OwnedFd) -> String {
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("the slot process ended with exit status {code}"),
            (_, Some(signal)) => format!("the slot process was ended by signal {signal}"),
            _ => "the slot process ended".to_owned(),
        },
        _ => "the slot process ended".to_owned(),
    }
}
