//! `offshoot explain`: the master's words at once, the driver's when it answers.

use super::rows::ADMIN;
use super::{Action, Cluster, Life, SessionId};
use offshoot_proto::cluster::{AppState, ToClient};
use offshoot_proto::explain::{Explanation, MissingExecutors, StageWaits};
use offshoot_proto::id::AppId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a driver may take to answer. Then the master answers without it.
const ANSWER: Duration = Duration::from_secs(2);

/// Questions that wait for drivers at once.
const QUESTIONS_MAX: usize = 64;

/// Questions that wait for a driver.
#[derive(Debug, Default)]
pub(super) struct Questions {
    next: u64,
    open: BTreeMap<u64, Question>,
}

#[derive(Debug)]
struct Question {
    asker: SessionId,
    app: AppId,
    due: Duration,
}

// === impl Questions ===

impl Questions {
    pub(super) fn due(&self) -> Option<Duration> {
        self.open.values().map(|question| question.due).min()
    }

    /// An asker is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.open.retain(|_, question| question.asker != session);
    }
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn on_explain(
        &mut self,
        asker: SessionId,
        tenant: &str,
        id: AppId,
        out: &mut Vec<Action>,
    ) {
        let owner = self.owner_of(id).filter(|owner| tenant == ADMIN || *owner == tenant);
        if owner.is_none() {
            let reason = format!("there is no application {id}, or it is not yours to see");
            return self.refuse_client(asker, reason, out);
        }
        let driver = self.apps.get(&id).and_then(|app| app.session);
        let Some(driver) = driver.filter(|_| self.questions.open.len() < QUESTIONS_MAX) else {
            return self.explain(asker, id, None, out);
        };
        let query = self.questions.next;
        self.questions.next += 1;
        let question = Question { asker, app: id, due: self.now + ANSWER };
        self.questions.open.insert(query, question);
        out.push(Action::ToClient { session: driver, message: ToClient::Explain { query } });
    }

    pub(super) fn on_explained(
        &mut self,
        app: AppId,
        query: u64,
        stages: StageWaits,
        out: &mut Vec<Action>,
    ) {
        // A question to another driver stays open: it is not this one's to answer.
        let asked = self.questions.open.get(&query).is_some_and(|question| question.app == app);
        let question = if asked { self.questions.open.remove(&query) } else { None };
        match question {
            Some(question) => self.explain(question.asker, app, Some(stages), out),
            None => self.rejected += 1,
        }
    }

    /// Answers what drivers have not answered in time.
    pub(super) fn answer_late(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let late = self.questions.open.iter().filter(|(_, question)| question.due <= now);
        for query in late.map(|(query, _)| *query).collect::<Vec<_>>() {
            if let Some(question) = self.questions.open.remove(&query) {
                self.explain(question.asker, question.app, None, out);
            }
        }
    }

    fn explain(
        &self,
        asker: SessionId,
        id: AppId,
        stages: Option<StageWaits>,
        out: &mut Vec<Action>,
    ) {
        let explanation = self.explanation(id, stages);
        let message = match explanation {
            Some(explanation) => ToClient::Explanation(Box::new(explanation)),
            None => ToClient::Refused { reason: format!("{id} is forgotten") },
        };
        out.push(Action::ToClient { session: asker, message });
    }

    fn explanation(&self, id: AppId, stages: Option<StageWaits>) -> Option<Explanation> {
        let Some(app) = self.apps.get(&id) else {
            let ended = self.ended.iter().find(|app| app.id == id)?;
            return Some(Explanation {
                app: id,
                name: ended.name.clone(),
                tenant: ended.tenant.clone(),
                state: ended.state,
                running: 0,
                launching: 0,
                wanted: None,
                missing: None,
                stages,
            });
        };
        let count = |wanted: fn(&Life) -> bool| {
            let executors = self.executors_of(id).filter(|(_, it)| wanted(&it.life));
            u32::try_from(executors.count()).unwrap_or(u32::MAX)
        };
        let running = count(|life| matches!(life, Life::Running { .. }));
        let launching = count(|life| *life == Life::Launching);
        let missing = self.is_short(id, app).then(|| MissingExecutors {
            executors: app.wanted.map(|wanted| wanted.saturating_sub(running + launching)),
            reason: self.wait_reason(id, app),
        });
        let live = running + launching > 0;
        Some(Explanation {
            app: id,
            name: app.spec.name.clone(),
            tenant: app.tenant.clone(),
            state: if live { AppState::Running } else { AppState::Waiting },
            running,
            launching,
            wanted: app.wanted,
            missing,
            stages,
        })
    }

    fn owner_of(&self, id: AppId) -> Option<&str> {
        let live = self.apps.get(&id).map(|app| app.tenant.as_str());
        let ended = || self.ended.iter().find(|app| app.id == id);
        live.or_else(|| ended().map(|app| app.tenant.as_str()))
    }
}
