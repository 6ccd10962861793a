//! Slots in place: the real slot code on a thread that runs only while the simulation waits.
//!
//! ```text
//!   simulation  ── send ──┐ blocks            ┌── takes what was said ──► receive
//!   slot thread           └─► runs the guest ─┘ waits for input, or has ended
//! ```
//!
//! One of both runs at any time, so whatever a slot does takes no virtual time and comes out the
//! same again. What a slot takes from the machine it has from the seed here: chance and time of
//! `main`, and how long a task ran (its report comes so much later).

use offshoot_proto::frame;
use offshoot_proto::link::{FromSlot, HEADER_BYTES, Request, SlotReport, ToSlot};
use offshoot_sandbox::link::{FixedWorld, Link, LinkError, encode};
use offshoot_sandbox::run_slot;
use offshoot_sandbox::slots::{PortFuture, SlotConnection, Slots};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long tasks take, in virtual time: so long that faults happen while they run.
const TASK_MILLIS: Range<u64> = 100..1_500;

/// What time it is for guests, since 1970.
const GUEST_TIME: Duration = Duration::from_secs(1_800_000_000);

/// Makes slots that run in place.
#[derive(Debug)]
pub(crate) struct InPlaceSlots {
    chance: Arc<Mutex<StdRng>>,
}

type Frame<T> = (T, Vec<OwnedFd>);

/// One slot, seen by its owner.
struct InPlaceSlot {
    turns: Arc<Turns>,
    thread: Option<JoinHandle<()>>,
    chance: Arc<Mutex<StdRng>>,
    /// Frames for the owner, and when they come.
    inbox: VecDeque<(Instant, Frame<FromSlot>)>,
    /// Reports of a batch that goes on. How a slot cuts a batch depends on real time.
    held: Vec<SlotReport>,
    due: Instant,
}

/// Whose turn it is.
struct Turns {
    table: Mutex<Table>,
    changed: Condvar,
}

struct Table {
    turn: Turn,
    /// The owner has let go of the slot.
    closed: bool,
    to_slot: VecDeque<Frame<Vec<u8>>>,
    from_slot: VecDeque<Frame<FromSlot>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Slot,
    Owner,
    /// The slot has ended; how, for a person.
    Ended(String),
    /// The slot's own code has a fault.
    Panicked,
}

/// The slot's end.
struct TurnLink {
    turns: Arc<Turns>,
    world: FixedWorld,
}

// === impl InPlaceSlots ===

impl InPlaceSlots {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let chance = StdRng::seed_from_u64(seed ^ 0x5107_5107);
        Arc::new(Self { chance: Arc::new(Mutex::new(chance)) })
    }

    fn run(&self, name: String) -> io::Result<InPlaceSlot> {
        let turns = Arc::new(Turns {
            table: Mutex::new(Table {
                turn: Turn::Slot,
                closed: false,
                to_slot: VecDeque::new(),
                from_slot: VecDeque::new(),
            }),
            changed: Condvar::new(),
        });
        let seed = self.chance.lock().expect("no holder of the lock panics").random();
        let realtime_nanos = GUEST_TIME.as_nanos() as u64;
        let world = FixedWorld { seed, realtime_nanos };
        let link = Box::new(TurnLink { turns: turns.clone(), world });
        let ending = turns.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            ending.pass(match catch_unwind(AssertUnwindSafe(|| run_slot(link))) {
                Ok(Ok(())) => Turn::Ended("the slot ended".to_owned()),
                Ok(Err(error)) => Turn::Ended(format!("the slot failed: {error}")),
                Err(_) => Turn::Panicked,
            });
        })?;
        drop(turns.wait_for_owner());
        Ok(InPlaceSlot {
            turns,
            thread: Some(thread),
            chance: self.chance.clone(),
            inbox: VecDeque::new(),
            held: Vec::new(),
            due: Instant::now(),
        })
    }
}

impl Slots for InPlaceSlots {
    fn start(&self, name: String) -> PortFuture<'_, io::Result<Box<dyn SlotConnection>>> {
        Box::pin(async move { Ok(Box::new(self.run(name)?) as Box<dyn SlotConnection>) })
    }
}

// === impl Turns ===

impl Turns {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of the lock panics")
    }

    /// Ends the slot's turn.
    fn pass(&self, turn: Turn) {
        self.table().turn = turn;
        self.changed.notify_all();
    }

    /// Waits until the slot waits or has ended.
    fn wait_for_owner(&self) -> MutexGuard<'_, Table> {
        let running = |table: &mut Table| table.turn == Turn::Slot;
        let table = self.changed.wait_while(self.table(), running);
        let table = table.expect("no holder of the lock panics");
        if table.turn == Turn::Panicked && !thread::panicking() {
            drop(table);
            // A panic of the simulation's own thread fails the seed.
            panic!("a slot has panicked");
        }
        table
    }
}

// === impl TurnLink ===

impl Link for TurnLink {
    fn send_frame(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        let message = frame::from_bytes(&frame[HEADER_BYTES..])?;
        let mut table = self.turns.table();
        if table.closed {
            return Err(LinkError::Closed);
        }
        table.from_slot.push_back((message, descriptors));
        Ok(())
    }

    fn receive_frame(&mut self) -> Result<Frame<Vec<u8>>, LinkError> {
        let mut table = self.turns.table();
        loop {
            if table.closed {
                return Err(LinkError::Closed);
            }
            if let Some(frame) = table.to_slot.pop_front() {
                return Ok(frame);
            }
            table.turn = Turn::Owner;
            self.turns.changed.notify_all();
            let waiting = |table: &mut Table| table.turn != Turn::Slot;
            let woken = self.turns.changed.wait_while(table, waiting);
            table = woken.expect("no holder of the lock panics");
        }
    }

    fn world(&self) -> Option<FixedWorld> {
        Some(self.world)
    }
}

// === impl InPlaceSlot ===

impl InPlaceSlot {
    /// Takes what the slot has said in its turn.
    fn take(&mut self, said: VecDeque<Frame<FromSlot>>) {
        self.due = self.due.max(Instant::now());
        let mut asks = false;
        for (message, descriptors) in said {
            asks = false;
            match message {
                FromSlot::Reports(reports) => {
                    self.held.extend(reports);
                    continue;
                }
                // It belongs to a task after those that have reported.
                FromSlot::ResultPiece(_) => self.deliver_reports(),
                FromSlot::Request(ref request) => {
                    asks = !matches!(
                        request,
                        Request::CloseShuffle { .. }
                            | Request::CloseInput { .. }
                            | Request::GiveBackMemory
                            | Request::MapBlock { .. }
                    );
                }
                _ => {}
            }
            self.deliver((message, descriptors));
        }
        if !asks {
            self.deliver_reports();
        }
    }

    fn deliver_reports(&mut self) {
        let mut reports = std::mem::take(&mut self.held);
        if reports.is_empty() {
            return;
        }
        for report in &mut reports {
            let time = Duration::from_millis(self.chance().random_range(TASK_MILLIS));
            report.report.run_nanos = time.as_nanos() as u64;
            self.due += time;
        }
        self.deliver((FromSlot::Reports(reports), vec![]));
    }

    fn deliver(&mut self, frame: Frame<FromSlot>) {
        self.inbox.push_back((self.due, frame));
    }

    fn chance(&self) -> MutexGuard<'_, StdRng> {
        self.chance.lock().expect("no holder of the lock panics")
    }
}

impl SlotConnection for InPlaceSlot {
    fn send(&mut self, message: &ToSlot, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        let mut frame = encode(message, descriptors.len())?;
        let payload = frame.split_off(HEADER_BYTES);
        let mut table = self.turns.table();
        if table.turn != Turn::Owner {
            return Err(LinkError::Closed);
        }
        table.to_slot.push_back((payload, descriptors));
        table.turn = Turn::Slot;
        drop(table);
        self.turns.changed.notify_all();
        let mut table = self.turns.wait_for_owner();
        let said = std::mem::take(&mut table.from_slot);
        drop(table);
        self.take(said);
        Ok(())
    }

    fn receive(&mut self) -> PortFuture<'_, Result<Frame<FromSlot>, LinkError>> {
        Box::pin(async move {
            match self.inbox.front() {
                Some((due, _)) => sleep_until(*due).await,
                None if self.turns.table().turn == Turn::Owner => pending().await,
                None => return Err(LinkError::Closed),
            }
            let (_, frame) = self.inbox.pop_front().expect("seen above");
            Ok(frame)
        })
    }

    fn kill(&mut self) {
        let mut table = self.turns.table();
        table.closed = true;
        if table.turn == Turn::Owner {
            table.turn = Turn::Slot;
        }
        drop(table);
        self.turns.changed.notify_all();
        drop(self.turns.wait_for_owner());
        self.inbox.clear();
    }

    fn ended(&mut self) -> PortFuture<'_, String> {
        let how = match &self.turns.table().turn {
            Turn::Ended(how) => Some(how.clone()),
            _ => None,
        };
        Box::pin(async move {
            match how {
                Some(how) => how,
                None => pending().await,
            }
        })
    }
}

impl Drop for InPlaceSlot {
    fn drop(&mut self) {
        self.kill();
        if let Some(thread) = self.thread.take() {
            // What it ended with has been noted by itself.
            let _ = thread.join();
        }
    }
}
