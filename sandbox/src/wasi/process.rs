//! Arguments, environment, clocks, randomness, waiting; and what does not exist: signals, sockets.

use super::clock::{Clock, ClockId, STEP_NANOS};
use super::errno::Errno;
use super::linker::{Call, PIECE_BYTES};
use super::stat::path_stat;
use super::table::Descriptor;
use super::{Strings, WasiHost};
use std::sync::Arc;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// Subscriptions of one `poll_oneoff`.
const SUBSCRIPTIONS_MAX: u32 = 1024;

const CLOCK_ABSOLUTE: u16 = 1;
const HANGUP: u16 = 1;

/// What one subscription waits for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Clock { remaining_nanos: u64 },
    Read { fd: u32 },
    Write { fd: u32 },
}

/// One subscription.
struct Subscription {
    userdata: u64,
    tag: u8,
    wait: Result<Wait, Errno>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
struct Readiness {
    bytes: u64,
    flags: u16,
}

impl<T: WasiHost> Call<'_, T> {
    pub(super) fn args_get(&mut self, pointers: u32, bytes: u32) -> Result<(), Errno> {
        let settings = Arc::clone(&self.wasi().settings);
        self.write_strings(&settings.arguments, pointers, bytes)
    }

    pub(super) fn args_sizes_get(&mut self, count: u32, size: u32) -> Result<(), Errno> {
        let settings = Arc::clone(&self.wasi().settings);
        self.write_sizes(&settings.arguments, count, size)
    }

    pub(super) fn environ_get(&mut self, pointers: u32, bytes: u32) -> Result<(), Errno> {
        let settings = Arc::clone(&self.wasi().settings);
        self.write_strings(&settings.environment, pointers, bytes)
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, size: u32) -> Result<(), Errno> {
        let settings = Arc::clone(&self.wasi().settings);
        self.write_sizes(&settings.environment, count, size)
    }

    fn write_strings(&mut self, strings: &Strings, out: u32, bytes: u32) -> Result<(), Errno> {
        self.memory.check_array(out, strings.starts.len() as u32, 4)?;
        self.write_long(bytes, &strings.bytes)?;
        for (start, place) in strings.starts.iter().zip((out..).step_by(4)) {
            self.host.may_write()?;
            self.memory.write_u32(place, bytes + start)?;
        }
        Ok(())
    }

    fn write_sizes(&mut self, strings: &Strings, count: u32, size: u32) -> Result<(), Errno> {
        self.memory.write_u32(count, strings.starts.len() as u32)?;
        self.memory.write_u32(size, strings.bytes.len() as u32)
    }

    pub(super) fn clock_res_get(&mut self, clock: u32, out: u32) -> Result<(), Errno> {
        ClockId::try_from(clock)?;
        self.memory.write_u64(out, STEP_NANOS)
    }

    pub(super) fn clock_time_get(
        &mut self,
        clock: u32,
        _precision: u64,
        out: u32,
    ) -> Result<(), Errno> {
        let now = self.wasi().clock.now(ClockId::try_from(clock)?);
        self.memory.write_u64(out, now)
    }

    pub(super) fn random_get(&mut self, pointer: u32, length: u32) -> Result<(), Errno> {
        let range = self.memory.range(pointer, length)?;
        for start in range.clone().step_by(PIECE_BYTES) {
            self.host.may_write()?;
            let piece = start..range.end.min(start + PIECE_BYTES);
            self.host.wasi().random.fill(self.memory.slice_mut(piece))?;
        }
        Ok(())
    }

    /// One guest has its slot to itself: there is nothing to give way to.
    pub(super) fn sched_yield(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    pub(super) fn proc_raise(&mut self, _signal: u32) -> Result<(), Errno> {
        Err(Errno::NOTSUP)
    }

    pub(super) fn sock_accept(&mut self, fd: u32, _flags: u32, _out: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(super) fn sock_recv(
        &mut self,
        fd: u32,
        _buffers: u32,
        _count: u32,
        _flags: u32,
        _out: u32,
        _out_flags: u32,
    ) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(super) fn sock_send(
        &mut self,
        fd: u32,
        _buffers: u32,
        _count: u32,
        _flags: u32,
        _out: u32,
    ) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(super) fn sock_shutdown(&mut self, fd: u32, _how: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    fn no_socket(&mut self, fd: u32) -> Result<(), Errno> {
        self.wasi().descriptor(fd)?;
        Err(Errno::NOTSOCK)
    }

    /// Descriptors are always ready, so that only a guest which waits for nothing but clocks
    /// sleeps, until the earliest; and one whose clocks stand does not sleep at all.
    pub(super) fn poll_oneoff(
        &mut self,
        subscriptions: u32,
        events: u32,
        count: u32,
        out: u32,
    ) -> Result<(), Errno> {
        if !(1..=SUBSCRIPTIONS_MAX).contains(&count) {
            return Err(Errno::INVAL);
        }
        self.memory.check_array(subscriptions, count, SUBSCRIPTION_BYTES)?;
        self.memory.check_array(events, count, EVENT_BYTES)?;
        self.memory.write_u32(out, 0)?;
        let subscriptions = (0..count)
            .map(|index| self.subscription(subscriptions + index * SUBSCRIPTION_BYTES))
            .collect::<Result<Vec<_>, _>>()?;
        let earliest = subscriptions.iter().map(Subscription::remaining_nanos).min();
        let slept = earliest.unwrap_or(0);
        self.wasi().clock.sleep(slept);
        let due = subscriptions.iter().filter(|one| one.remaining_nanos() <= slept);
        let mut ready = 0;
        for subscription in due {
            let event = self.event(subscription);
            self.memory.write(events + ready * EVENT_BYTES, &event)?;
            ready += 1;
        }
        self.memory.write_u32(out, ready)
    }

    fn subscription(&mut self, pointer: u32) -> Result<Subscription, Errno> {
        let raw: [u8; SUBSCRIPTION_BYTES as usize] = self.memory.read(pointer)?;
        let tag = raw[8];
        let number = little_endian_u64(&raw[16..20]) as u32;
        let wait = match tag {
            0 => clock_wait(&self.wasi().clock, number, &raw),
            1 => Ok(Wait::Read { fd: number }),
            2 => Ok(Wait::Write { fd: number }),
            _ => return Err(Errno::INVAL),
        };
        Ok(Subscription { userdata: little_endian_u64(&raw[..8]), tag, wait })
    }

    fn event(&mut self, subscription: &Subscription) -> [u8; EVENT_BYTES as usize] {
        let readiness = subscription.wait.and_then(|wait| self.readiness(wait));
        let errno = readiness.err().map_or(0, Errno::raw);
        let Readiness { bytes, flags } = readiness.unwrap_or_default();
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&subscription.userdata.to_le_bytes());
        event[8..10].copy_from_slice(&errno.to_le_bytes());
        event[10] = subscription.tag;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        event[24..26].copy_from_slice(&flags.to_le_bytes());
        event
    }

    fn readiness(&mut self, wait: Wait) -> Result<Readiness, Errno> {
        let (fd, reads) = match wait {
            Wait::Clock { .. } => return Ok(Readiness::default()),
            Wait::Read { fd } => (fd, true),
            Wait::Write { fd } => (fd, false),
        };
        match self.wasi().descriptor(fd)? {
            Descriptor::Stream(0) if reads => Ok(Readiness { bytes: 0, flags: HANGUP }),
            Descriptor::Stream(1 | 2) if !reads => Ok(Readiness::default()),
            Descriptor::File(file) if reads => {
                let length = path_stat(&rustix::fs::fstat(&file.descriptor)?).length;
                Ok(Readiness { bytes: length.saturating_sub(file.offset), flags: 0 })
            }
            Descriptor::File(_) => Ok(Readiness::default()),
            _ => Err(Errno::BADF),
        }
    }
}

// === impl Subscription ===

impl Subscription {
    /// How long to wait for it; what is no clock is ready now, be it with an error.
    fn remaining_nanos(&self) -> u64 {
        match self.wait {
            Ok(Wait::Clock { remaining_nanos }) => remaining_nanos,
            _ => 0,
        }
    }
}

/// A clock that stands never gets nearer to its time: all that are waited for are equally far.
fn clock_wait(clock: &Clock, id: u32, raw: &[u8]) -> Result<Wait, Errno> {
    let now = clock.now(ClockId::try_from(id)?);
    let timeout = little_endian_u64(&raw[24..32]);
    let absolute = match little_endian_u64(&raw[40..42]) as u16 {
        0 => false,
        CLOCK_ABSOLUTE => true,
        _ => return Err(Errno::INVAL),
    };
    let remaining_nanos = if absolute { timeout.saturating_sub(now) } else { timeout };
    Ok(Wait::Clock { remaining_nanos })
}

/// At most eight bytes.
fn little_endian_u64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
