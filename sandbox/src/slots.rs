//! Slots as their owner sees them: started on request, spoken to in frames, killed at any time.
//!
//! ```text
//!   owner ──socket pair──► spawner (keeps nothing else) ──fork, exec──► slot
//!     └──────────────────────── socket pair of its own ────────────────┘
//! ```
//!
//! [`Slots`] is a port: processes here, the same slot code in place under simulation.

mod process;
mod spawner;

use crate::link::LinkError;
use offshoot_proto::link::{FromSlot, ToSlot};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

pub use process::{ProcessSlots, slot_main};
pub use spawner::spawner_main;

/// A future of a port.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes slots.
pub trait Slots: Send + Sync {
    /// Starts a slot; `name` is what it is called in a list of processes.
    fn start(&self, name: String) -> PortFuture<'_, io::Result<Box<dyn SlotConnection>>>;
}

/// One slot. Dropping it ends the slot.
pub trait SlotConnection: Send {
    /// Sends a frame, or queues it while the slot does not read.
    fn send(&mut self, message: &ToSlot, descriptors: Vec<OwnedFd>) -> Result<(), LinkError>;

    /// Queues a frame until [`SlotConnection::flush`]: those of one occasion go out together.
    fn queue(&mut self, message: &ToSlot, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        self.send(message, descriptors)
    }

    /// Sends what is queued.
    fn flush(&mut self) -> Result<(), LinkError> {
        Ok(())
    }

    /// The next frame of the slot; also what drives queued sends. Cancelling it loses nothing.
    fn receive(&mut self) -> PortFuture<'_, Result<(FromSlot, Vec<OwnedFd>), LinkError>>;

    /// Ends the slot at once, whatever it does.
    fn kill(&mut self);

    /// Waits until the slot has ended; how it did, for a person.
    fn ended(&mut self) -> PortFuture<'_, String>;
}
