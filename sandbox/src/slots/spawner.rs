//! The spawner: a process that keeps a socket to its owner and makes slots, from one thread.
//!
//! It is started before its owner locks itself down, and it alone may start programs afterwards.
//! The parent-death signal fires when the *thread* that spawned ends, so this one never does.

use crate::child::{inherited_socket, start_self};
use crate::link::{Decoder, LinkError, encode, receive_some, send_some};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

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

struct Spawner {
    socket: OwnedFd,
    decoder: Decoder,
    slots: BTreeMap<u64, OwnedFd>,
}

/// What the spawner process runs, until its owner closes the socket.
pub fn spawner_main() -> Result<(), LinkError> {
    let socket = inherited_socket();
    let mut spawner = Spawner { socket, decoder: Decoder::default(), slots: BTreeMap::new() };
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
            while let Some((request, mut descriptors)) = self.decoder.next_frame::<StartSlot>()? {
                let socket = descriptors.pop();
                self.start(request, socket)?;
            }
        }
        Ok(())
    }

    /// Waits for a request or the end of a slot.
    fn wait(&self) -> Result<(bool, Vec<u64>), LinkError> {
        let mut watched = vec![PollFd::new(&self.socket, PollFlags::IN)];
        watched.extend(self.slots.values().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ids = self.slots.keys().zip(&watched[1..]);
        Ok((ready(&watched[0]), ids.filter(|(_, fd)| ready(fd)).map(|(id, _)| *id).collect()))
    }

    fn start(&mut self, request: StartSlot, socket: Option<OwnedFd>) -> Result<(), LinkError> {
        let StartSlot { id, name } = request;
        let started = socket
            .ok_or_else(|| io::Error::other("no socket came with the request"))
            .and_then(|socket| start_self(&["slot", &name], &[], socket))
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
            let descriptors = if sent == 0 { descriptors.as_slice() } else { &[] };
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
