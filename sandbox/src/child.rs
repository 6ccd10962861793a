//! Child processes of this program, and the socket pair between parent and child.
//!
//! A child is this program again with other arguments. It gets one end of a socket pair, and what
//! it needs comes over that: nothing is inherited by accident.

use crate::link::{Decoder, LinkError, encode, receive_some, send_some};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The descriptor that children find their socket at.
const SOCKET_DESCRIPTOR: i32 = 3;

/// The asynchronous half of a socket pair: frames to send and frames that have come.
#[derive(Debug)]
pub struct AsyncLink {
    socket: tokio::net::UnixStream,
    decoder: Decoder,
    outgoing: VecDeque<(Vec<u8>, usize, Vec<OwnedFd>)>,
}

/// The moment at which a child process ends.
#[derive(Debug)]
pub struct Ending(AsyncFd<OwnedFd>);

/// Starts this program again as `arguments`, with `socket` at descriptor 3, standard error, the
/// given environment and nothing else; killed when the calling *thread* ends.
pub fn start_self(
    arguments: &[&str],
    environment: &[(&str, OsString)],
    socket: OwnedFd,
) -> io::Result<Child> {
    let source = socket.as_raw_fd();
    let parent = std::process::id();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("offshoot").args(arguments).env_clear();
    command.envs(environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    // SAFETY: only async-signal-safe calls; `source` stays open in `socket` until after the fork.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                // There is nobody whom an error could reach.
                libc::_exit(1);
            }
            let result = if source == SOCKET_DESCRIPTOR {
                libc::fcntl(source, libc::F_SETFD, 0)
            } else {
                libc::dup2(source, SOCKET_DESCRIPTOR)
            };
            // A terminal's Ctrl-C is for the owner, which ends its slots in order.
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    command.spawn()
}

/// Takes the socket that the parent left at descriptor 3. To be called once, first thing.
pub fn inherited_socket() -> OwnedFd {
    // SAFETY: this process was started by `start_self`, which put the socket there.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET_DESCRIPTOR) };
    let _ = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
    socket
}

// === impl AsyncLink ===

impl AsyncLink {
    /// Takes one end of a socket pair. Must be called in a tokio runtime.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(socket)?;
        Ok(Self { socket, decoder: Decoder::default(), outgoing: VecDeque::new() })
    }

    /// Sends a frame, or queues what the socket does not take; [`AsyncLink::receive`] goes on with
    /// it.
    pub fn send<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), LinkError> {
        self.queue(message, descriptors)?;
        self.flush()
    }

    /// Queues a frame: those without descriptors go out with the one before them.
    pub fn queue<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), LinkError> {
        let mut frame = encode(message, descriptors.len())?;
        match self.outgoing.back_mut() {
            Some((last, _, _)) if descriptors.is_empty() => last.append(&mut frame),
            _ => self.outgoing.push_back((frame, 0, descriptors)),
        }
        Ok(())
    }

    /// Sends as much as the socket takes.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        while let Some((frame, sent, descriptors)) = self.outgoing.front_mut() {
            let beside = if *sent == 0 { descriptors.as_slice() } else { &[] };
            let result = self.socket.try_io(Interest::WRITABLE, || {
                send_some(self.socket.as_fd(), &frame[*sent..], beside, SendFlags::DONTWAIT)
            });
            match result {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(LinkError::Closed),
            }
            if *sent == frame.len() {
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }

    /// The next frame; also what drives queued sends. Cancelling it loses nothing.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), LinkError> {
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(message);
            }
            let interest = if self.outgoing.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = self.socket.ready(interest).await?;
            if ready.is_readable() || ready.is_read_closed() {
                self.fill()?;
            }
            self.flush()?;
        }
    }

    /// Reads what is there.
    fn fill(&mut self) -> Result<(), LinkError> {
        let decoder = &mut self.decoder;
        let mut outcome = Ok(());
        let result = self.socket.try_io(Interest::READABLE, || {
            match receive_some(self.socket.as_fd(), decoder, RecvFlags::DONTWAIT) {
                Err(LinkError::Io(error)) => Err(error),
                other => {
                    outcome = other;
                    Ok(())
                }
            }
        });
        match result {
            Ok(()) => outcome,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

// === impl Ending ===

impl Ending {
    /// That of `child`, which must not have been waited for. Must be called in a tokio runtime.
    pub fn of(child: &Child) -> io::Result<Self> {
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        // SAFETY: the `AsyncFd` owns the descriptor and nothing else has it: it stays open, and the
        // same, until the `AsyncFd` is dropped.
        Ok(Self(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? }))
    }

    /// Waits until the child has ended; then waiting for its status does not block. Cancelling it
    /// loses nothing.
    pub async fn reached(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}
