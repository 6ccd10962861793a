//! The connection to the master: dialling, registering, heartbeats, loss.

use super::{Action, Life, Link, Node, Note, SessionId};
use offshoot_proto::cluster::FromWorker;
use offshoot_proto::id::Epoch;
use std::time::Duration;

/// Doublings of the pause that are counted: more are over any longest pause.
const DOUBLINGS_MAX: u32 = 16;

// === impl Node ===

impl Node {
    pub(super) fn on_connected(
        &mut self,
        now: Duration,
        session: SessionId,
        out: &mut Vec<Action>,
    ) {
        if self.link != (Link::Connecting { session }) {
            return;
        }
        let until = now + self.timing.master_lease;
        self.link = Link::Registering { session, until };
        self.tell(FromWorker::Register(self.info()), out);
    }

    pub(super) fn on_disconnected(
        &mut self,
        now: Duration,
        session: SessionId,
        reason: String,
        hopeless: bool,
        out: &mut Vec<Action>,
    ) {
        if self.session() != Some(session) {
            return;
        }
        if hopeless && self.is_unknown() {
            return self.fail(reason, out);
        }
        self.pause(now, reason, out);
    }

    pub(super) fn on_registered(&mut self, now: Duration, epoch: Epoch, out: &mut Vec<Action>) {
        let Link::Registering { session, .. } = self.link else {
            let reason = "the master accepted a registration that it was not asked for";
            return self.lose(now, reason.to_owned(), out);
        };
        if let Some(seen) = self.epoch.filter(|seen| epoch < *seen) {
            let reason = format!("its epoch is {epoch}, and a master of epoch {seen} was here");
            return self.lose(now, reason, out);
        }
        self.failures = 0;
        self.link = Link::Registered {
            session,
            until: now + self.timing.master_lease,
            beat_at: now + self.timing.heartbeat,
        };
        let executors = self.executors.len();
        out.push(Action::Note(Note::Registered { epoch, executors }));
        // What an earlier life of this worker left: none of its executors has survived.
        if self.epoch.replace(epoch).is_none() {
            out.push(Action::Sweep);
        }
    }

    /// The registration or a renewal is refused. The master closes the connection after this.
    pub(super) fn on_refused(&mut self, now: Duration, reason: String, out: &mut Vec<Action>) {
        if matches!(self.link, Link::Registered { .. }) {
            return out.push(Action::Note(Note::RenewalRefused { reason }));
        }
        let reason = format!("the master refused this worker: {reason}");
        if self.is_unknown() {
            out.push(Action::Disconnect);
            self.fail(reason, out);
        } else {
            self.lose(now, reason, out);
        }
    }

    /// Extends the master's lease.
    pub(super) fn hear(&mut self, now: Duration) {
        if let Link::Registered { until, .. } = &mut self.link {
            *until = now + self.timing.master_lease;
        }
    }

    pub(super) fn link_timeout(&self) -> Option<Duration> {
        match self.link {
            Link::Pausing { until } => (self.life == Life::Serving).then_some(until),
            Link::Connecting { .. } => None,
            Link::Registering { until, .. } => Some(until),
            Link::Registered { until, beat_at, .. } => Some(until.min(beat_at).min(self.renew_at)),
        }
    }

    pub(super) fn on_link_timeout(&mut self, now: Duration, out: &mut Vec<Action>) {
        match self.link {
            Link::Pausing { until } if until <= now && self.life == Life::Serving => {
                self.sessions += 1;
                let session = SessionId(self.sessions);
                self.link = Link::Connecting { session };
                out.push(Action::Connect { session });
            }
            Link::Registering { until, .. } | Link::Registered { until, .. } if until <= now => {
                let seconds = self.timing.master_lease.as_secs_f64();
                self.lose(now, format!("nothing heard from it for {seconds} s"), out);
            }
            Link::Registered { session, until, beat_at } => {
                if beat_at <= now {
                    let beat_at = now + self.timing.heartbeat;
                    self.link = Link::Registered { session, until, beat_at };
                    self.tell(FromWorker::Heartbeat, out);
                }
                if self.renew_at <= now {
                    self.renew_at = now + self.timing.renewal_retry;
                    out.push(Action::Renew);
                }
            }
            Link::Pausing { .. } | Link::Connecting { .. } | Link::Registering { .. } => {}
        }
    }

    /// The connection that counts, if there is one or is to be one.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self.link {
            Link::Pausing { .. } => None,
            Link::Connecting { session }
            | Link::Registering { session, .. }
            | Link::Registered { session, .. } => Some(session),
        }
    }

    /// Gives up a connection that is still there.
    pub(super) fn lose(&mut self, now: Duration, reason: String, out: &mut Vec<Action>) {
        out.push(Action::Disconnect);
        self.pause(now, reason, out);
    }

    fn pause(&mut self, now: Duration, reason: String, out: &mut Vec<Action>) {
        let pause = self.timing.pause_min * (1 << self.failures.min(DOUBLINGS_MAX));
        let retry_in = self.jitter.spread(pause.min(self.timing.pause_max));
        self.failures = self.failures.saturating_add(1);
        self.link = Link::Pausing { until: now + retry_in };
        let executors = self.executors.len();
        out.push(Action::Note(Note::MasterLost { reason, retry_in, executors }));
    }

    /// Whether no master has ever accepted this worker: then a refusal is an operator's mistake.
    fn is_unknown(&self) -> bool {
        self.epoch.is_none()
    }

    fn fail(&mut self, reason: String, out: &mut Vec<Action>) {
        self.life = Life::Over;
        out.push(Action::Exit { error: Some(reason) });
    }
}
