//! The link between a slot and its owner: frames with descriptors over a socket pair.
//!
//! [`Decoder`] and [`encode`] are the format; [`Link`] is what a slot blocks on. The owner's
//! asynchronous half is in [`crate::slots`].

use offshoot_proto::frame::{self, FrameError};
use offshoot_proto::limits::{LINK_DESCRIPTORS_MAX, LINK_FRAME_BYTES_MAX};
use offshoot_proto::link::HEADER_BYTES;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// How much is read from a socket at a time.
const READ_BYTES: usize = 64 << 10;

/// A buffer that had to grow over this for one frame is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Queued frames of so many bytes wait no longer.
const QUEUED_BYTES_MAX: usize = 64 << 10;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side is gone.
    #[error("the link is closed")]
    Closed,
    /// The other side sent what is not a frame.
    #[error("on the link: {0}")]
    Frame(#[from] FrameError),
    /// More descriptors than a frame may have, or fewer than it announced.
    #[error("a frame of the link announced {announced} descriptors and had {present}")]
    Descriptors {
        /// Announced in the header.
        announced: usize,
        /// Received by then.
        present: usize,
    },
    /// The system's word.
    #[error("on the link: {0}")]
    Io(#[from] io::Error),
}

/// What a slot talks to: a socket in a process of its own, a queue in a simulation.
pub trait Link: Send + Sync {
    /// Sends one frame with descriptors.
    fn send_frame(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<(), LinkError>;

    /// Takes a frame that may wait for the next one that is sent.
    fn queue_frame(&mut self, frame: Vec<u8>) -> Result<(), LinkError> {
        self.send_frame(frame, vec![])
    }

    /// Blocks for the next frame's payload and descriptors.
    fn receive_frame(&mut self) -> Result<(Vec<u8>, Vec<OwnedFd>), LinkError>;

    /// Chance and time for `main` and its snapshots. None for the system's; a simulation, whose
    /// runs must come out the same again, has its own.
    fn world(&self) -> Option<FixedWorld> {
        None
    }
}

/// Chance and time that are the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWorld {
    /// Random bytes come from a generator with this seed.
    pub seed: u64,
    /// Nanoseconds since 1970, at which every clock stands.
    pub realtime_nanos: u64,
}

/// The blocking half of a socket pair.
#[derive(Debug)]
pub struct SocketLink {
    socket: UnixStream,
    decoder: Decoder,
    /// Frames that wait for the next one.
    queued: Vec<u8>,
}

/// Cuts a byte stream into frames and hands each its descriptors.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// `bytes[start..end]` has been received and not been read.
    start: usize,
    end: usize,
    descriptors: VecDeque<OwnedFd>,
}

/// Where a frame's payload lies in the buffer, and its descriptors.
type RawFrame = (std::ops::Range<usize>, Vec<OwnedFd>);

/// Header and payload of a message that comes with `descriptors` descriptors.
pub fn encode<T: Serialize>(message: &T, descriptors: usize) -> Result<Vec<u8>, LinkError> {
    if descriptors > LINK_DESCRIPTORS_MAX {
        return Err(LinkError::Descriptors { announced: descriptors, present: descriptors });
    }
    let mut payload = Vec::with_capacity(64);
    frame::append(message, LINK_FRAME_BYTES_MAX, &mut payload)?;
    payload.splice(4..4, (descriptors as u32).to_le_bytes());
    Ok(payload)
}

/// Sends a message on any link.
pub fn send<T: Serialize>(
    link: &mut dyn Link,
    message: &T,
    descriptors: Vec<OwnedFd>,
) -> Result<(), LinkError> {
    let frame = encode(message, descriptors.len())?;
    link.send_frame(frame, descriptors)
}

/// Sends a message with the next one: nobody needs it before.
pub fn queue<T: Serialize>(link: &mut dyn Link, message: &T) -> Result<(), LinkError> {
    link.queue_frame(encode(message, 0)?)
}

/// Receives a message from any link.
pub fn receive<T: DeserializeOwned>(link: &mut dyn Link) -> Result<(T, Vec<OwnedFd>), LinkError> {
    let (payload, descriptors) = link.receive_frame()?;
    Ok((frame::from_bytes(&payload)?, descriptors))
}

/// Writes some of `bytes`, with all of `descriptors` beside the first byte.
pub(crate) fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[OwnedFd],
    flags: SendFlags,
) -> io::Result<usize> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LINK_DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many descriptors for one frame"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL)?)
}

/// Reads what is there into `decoder`; `Closed` at the end.
pub(crate) fn receive_some(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<(), LinkError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LINK_DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let room = decoder.room();
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(room)],
        &mut control,
        flags | RecvFlags::CMSG_CLOEXEC,
    );
    let count = message.map_err(io::Error::from)?.bytes;
    decoder.end += count;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            decoder.descriptors.extend(descriptors);
        }
    }
    if count == 0 { Err(LinkError::Closed) } else { Ok(()) }
}

// === impl Decoder ===

impl Decoder {
    /// Room for what comes next, behind what is there; cleared once and not for each read.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == 0 && self.bytes.len() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        if self.bytes.len() < self.end + READ_BYTES {
            self.bytes.resize(self.end + self.end.max(READ_BYTES), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// The next whole frame, if it is there.
    pub fn next_frame<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
        let Some((range, descriptors)) = self.next_range()? else {
            return Ok(None);
        };
        let value = frame::from_bytes(&self.bytes[range])?;
        Ok(Some((value, descriptors)))
    }

    fn next_range(&mut self) -> Result<Option<RawFrame>, LinkError> {
        let bytes = &self.bytes[self.start..self.end];
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *header;
        let length = frame::payload_length([a, b, c, d], LINK_FRAME_BYTES_MAX)?;
        if rest.len() < length {
            return Ok(None);
        }
        let announced = u32::from_le_bytes([e, f, g, h]) as usize;
        let present = self.descriptors.len();
        if announced > LINK_DESCRIPTORS_MAX || announced > present {
            return Err(LinkError::Descriptors { announced, present });
        }
        let start = self.start + HEADER_BYTES;
        self.start = start + length;
        Ok(Some((start..start + length, self.descriptors.drain(..announced).collect())))
    }
}

// === impl SocketLink ===

impl SocketLink {
    /// Takes one end of a socket pair.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, decoder: Decoder::default(), queued: Vec::new() }
    }
}

impl Link for SocketLink {
    fn send_frame(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        let mut frame = frame;
        if !self.queued.is_empty() {
            self.queued.append(&mut frame);
            frame = std::mem::take(&mut self.queued);
        }
        let mut sent = 0;
        while sent < frame.len() {
            let descriptors = if sent == 0 { descriptors.as_slice() } else { &[] };
            match send_some(self.socket.as_fd(), &frame[sent..], descriptors, SendFlags::empty()) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(LinkError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn queue_frame(&mut self, mut frame: Vec<u8>) -> Result<(), LinkError> {
        self.queued.append(&mut frame);
        if self.queued.len() < QUEUED_BYTES_MAX {
            return Ok(());
        }
        self.send_frame(Vec::new(), vec![])
    }

    fn receive_frame(&mut self) -> Result<(Vec<u8>, Vec<OwnedFd>), LinkError> {
        loop {
            if let Some((range, descriptors)) = self.decoder.next_range()? {
                return Ok((self.decoder.bytes[range].to_vec(), descriptors));
            }
            match receive_some(self.socket.as_fd(), &mut self.decoder, RecvFlags::empty()) {
                Ok(()) => {}
                Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};

    fn pair() -> (SocketLink, SocketLink) {
        let (a, b) = UnixStream::pair().unwrap();
        (SocketLink::new(a), SocketLink::new(b))
    }

    #[test]
    fn frames_arrive_with_their_descriptors() {
        let (mut a, mut b) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"x").unwrap();
        send(&mut a, &"first", vec![]).unwrap();
        send(&mut a, &"second", vec![file.into()]).unwrap();
        send(&mut a, &vec![7u8; 100], vec![]).unwrap();
        assert_eq!(receive::<String>(&mut b).unwrap().0, "first");
        let (text, mut descriptors) = receive::<String>(&mut b).unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("second", 1));
        let mut file = std::fs::File::from(descriptors.remove(0));
        std::io::Seek::rewind(&mut file).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "x");
        assert_eq!(receive::<Vec<u8>>(&mut b).unwrap().0, [7; 100]);
        drop(a);
        assert!(matches!(receive::<String>(&mut b), Err(LinkError::Closed)));
    }

    #[test]
    fn an_announced_descriptor_that_is_missing_is_an_error() {
        let (mut a, mut b) = pair();
        let mut frame = encode(&"x", 0).unwrap();
        frame[4] = 1;
        a.send_frame(frame, vec![]).unwrap();
        let error = receive::<String>(&mut b).unwrap_err();
        assert!(matches!(error, LinkError::Descriptors { announced: 1, present: 0 }));
    }

    #[test]
    fn an_oversize_length_is_refused_before_it_is_read() {
        let (mut a, mut b) = pair();
        a.send_frame(vec![0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0], vec![]).unwrap();
        let error = receive::<String>(&mut b).unwrap_err();
        assert!(matches!(error, LinkError::Frame(FrameError::TooLarge { .. })));
    }
}
