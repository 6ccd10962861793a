//! A door between a driver and an executor on one machine, for what needs no copy: the memory file
//! of the driver's first snapshot.
//!
//! ```text
//!   executor: listens at an abstract name, tells the driver name and secret over QUIC
//!   driver:   connects; where that fails the two are on different machines, or in different
//!             network namespaces, and the pages go over QUIC
//!             secret, description and descriptor ──► executor
//! ```
//!
//! The file stays one for driver and executors: neither time nor memory depends on its size. It is
//! sealed against becoming shorter, and against new writers, before it is passed.

use crate::child::AsyncLink;
use crate::link::{Link, LinkError, SocketLink, encode};
use offshoot_proto::executor::Door;
use offshoot_proto::snapshot::SnapshotHeader;
use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

/// How long either side may take over one snapshot; a driver that waits does nothing else.
const PATIENCE: Duration = Duration::from_millis(200);

/// The seals without which a file is not taken.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::FUTURE_WRITE);

/// What comes through the door, with one descriptor.
#[derive(Serialize, Deserialize)]
struct Passed {
    secret: [u8; 16],
    header: SnapshotHeader,
}

/// The executor's side.
#[derive(Debug)]
pub struct DoorListener {
    listener: tokio::net::UnixListener,
    door: Door,
}

/// Passes a snapshot whose pages are all in `file`, at their own offsets.
pub fn pass(door: &Door, header: &SnapshotHeader, file: OwnedFd) -> Result<(), LinkError> {
    let socket = UnixStream::connect_addr(&address(door)?)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let passed = Passed { secret: door.secret, header: header.clone() };
    SocketLink::new(socket).send_frame(encode(&passed, 1)?, vec![file])
}

// === impl DoorListener ===

impl DoorListener {
    /// A door with a new name and a new secret. Must be called in a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let mut door = Door { name: [0; 16], secret: [0; 16] };
        for bytes in [&mut door.name, &mut door.secret] {
            getrandom(bytes, GetRandomFlags::empty()).map_err(io::Error::from)?;
        }
        let listener = UnixListener::bind_addr(&address(&door)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: tokio::net::UnixListener::from_std(listener)?, door })
    }

    /// What the driver must know.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// The next snapshot that somebody who knows the secret passes. Others are not answered.
    pub async fn next(&self) -> io::Result<(SnapshotHeader, File)> {
        loop {
            let (socket, _) = self.listener.accept().await?;
            match tokio::time::timeout(PATIENCE, self.receive(socket.into_std()?)).await {
                Ok(Ok(passed)) => return Ok(passed),
                Ok(Err(error)) => tracing::warn!(%error, "a snapshot was not taken"),
                Err(_) => tracing::warn!("who opened the door said nothing"),
            }
        }
    }

    async fn receive(&self, socket: UnixStream) -> Result<(SnapshotHeader, File), LinkError> {
        let refused = |reason| LinkError::Io(io::Error::new(io::ErrorKind::InvalidData, reason));
        let mut link = AsyncLink::new(socket)?;
        let (Passed { secret, header }, descriptors) = link.receive::<Passed>().await?;
        if !same(&secret, &self.door.secret) {
            return Err(refused("who passed it does not know the secret"));
        }
        let [file] = <[OwnedFd; 1]>::try_from(descriptors)
            .map_err(|_| refused("it has not one descriptor"))?;
        let file = File::from(file);
        // What is no memory file has no seals.
        let seals = fcntl_get_seals(&file).map_err(io::Error::from)?;
        if !seals.contains(SEALS) {
            return Err(refused("its file is not sealed"));
        }
        if !header.is_well_formed() || file.metadata()?.len() < header.memory_bytes {
            return Err(refused("its file is not what its description says"));
        }
        Ok((header, file))
    }
}

fn address(door: &Door) -> io::Result<SocketAddr> {
    let mut name = String::from("offshoot-");
    for byte in door.name {
        name.push_str(&format!("{byte:02x}"));
    }
    SocketAddr::from_abstract_name(name)
}

/// Takes as long whatever differs.
fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
    a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::memory_file;
    use offshoot_proto::id::SnapshotId;
    use rustix::fs::fcntl_add_seals;
    use std::os::unix::fs::FileExt;

    fn header(memory_bytes: u64) -> SnapshotHeader {
        SnapshotHeader {
            id: SnapshotId(1),
            memory_bytes,
            globals: vec![],
            realtime_nanos: 1,
            monotonic_nanos: 1,
            seed: 1,
            first_free_descriptor: 3,
            runs: vec![],
        }
    }

    fn file(length: u64, seals: SealFlags) -> OwnedFd {
        let file = File::from(memory_file("test").unwrap());
        file.set_len(length).unwrap();
        file.write_all_at(b"here", 0).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file.into()
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn a_sealed_file_comes_through() {
        run(async {
            let listener = DoorListener::open().unwrap();
            pass(listener.door(), &header(65_536), file(65_536, SEALS)).unwrap();
            let (taken, file) = listener.next().await.unwrap();
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!((taken, &bytes), (header(65_536), b"here"));
        });
    }

    #[test]
    fn what_may_not_come_through_does_not_hold_up_what_may() {
        run(async {
            let listener = DoorListener::open().unwrap();
            let door = listener.door().clone();
            let stranger = Door { secret: [0; 16], ..door.clone() };
            pass(&stranger, &header(65_536), file(65_536, SEALS)).unwrap();
            pass(&door, &header(65_536), file(65_536, SealFlags::SHRINK)).unwrap();
            pass(&door, &header(65_536), file(65_535, SEALS)).unwrap();
            pass(&door, &header(1), File::open("/dev/null").unwrap().into()).unwrap();
            drop(UnixStream::connect_addr(&address(&door).unwrap()).unwrap());
            pass(&door, &header(0), file(131_072, SEALS)).unwrap();
            pass(&door, &header(131_072), file(131_072, SEALS)).unwrap();
            let mut taken = listener.next().await.unwrap().0;
            if taken.memory_bytes == 0 {
                taken = listener.next().await.unwrap().0;
            }
            assert_eq!(taken, header(131_072));
        });
    }

    #[test]
    fn a_door_of_another_machine_is_not_there() {
        let door = Door { name: [7; 16], secret: [7; 16] };
        let error = pass(&door, &header(1), file(1, SEALS)).unwrap_err();
        assert!(matches!(error, LinkError::Io(_)), "{error}");
    }
}
