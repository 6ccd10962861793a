//! Applications: registration, the driver's lease, and the end.

use super::limits::{APPS_ENDED_KEPT, APPS_LIVE_MAX, validate_app};
use super::placement::unit_of;
use super::tenants::unknown_tenant;
use super::workers::to_worker;
use super::{Action, App, Cluster, EndedApp, Life, Note, Peer, SessionId};
use offshoot_proto::cluster::{AppSpec, AppState, FromClient, ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber};
use std::sync::Arc;
use std::time::Duration;

struct Registration {
    session: SessionId,
    tenant: String,
    key: u128,
    spec: Box<AppSpec>,
    signing_request: Vec<u8>,
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn on_client_message(
        &mut self,
        session: SessionId,
        tenant: String,
        message: FromClient,
        out: &mut Vec<Action>,
    ) {
        let registered = match self.sessions.get(&session) {
            Some(Peer::Driver(id)) => Some(*id),
            _ => None,
        };
        if let Some(app) = registered.and_then(|id| self.apps.get_mut(&id)) {
            app.heard = self.now;
        }
        if registered.is_none() && self.shares.rules(&tenant).is_none() {
            return self.refuse_client(session, unknown_tenant(&tenant), out);
        }
        let mut answer = |message| out.push(Action::ToClient { session, message });
        match (message, registered) {
            (FromClient::ListWorkers, _) => answer(ToClient::Workers(self.worker_rows())),
            (FromClient::ListApps, _) => answer(ToClient::Apps(self.app_rows(&tenant))),
            (FromClient::Heartbeat, Some(_)) => answer(ToClient::Heartbeat),
            (FromClient::Heartbeat, None) => self.rejected += 1,
            (FromClient::Target { executors }, Some(id)) => {
                if let Some(app) = self.apps.get_mut(&id) {
                    app.wanted = Some(executors);
                }
                self.refresh(id);
                self.place(out);
            }
            (FromClient::Release { executors }, Some(app)) => self.on_release(app, executors, out),
            (FromClient::Explained { query, stages }, Some(app)) => {
                self.on_explained(app, query, stages, out)
            }
            (FromClient::Target { .. } | FromClient::Release { .. }, None)
            | (FromClient::Explained { .. } | FromClient::Drained { .. }, None) => {
                self.rejected += 1
            }
            (FromClient::Explain(app), _) => self.on_explain(session, &tenant, app, out),
            (FromClient::Drain { worker, within_millis }, _) => {
                let within = Duration::from_millis(within_millis);
                self.on_drain(session, &tenant, (worker, within), out)
            }
            (FromClient::Drained { worker }, Some(app)) => self.on_drained(app, &worker, out),
            (FromClient::Tenants(order), _) => self.on_tenant_order(session, &tenant, order, out),
            (FromClient::Finished { succeeded }, Some(app)) => {
                let states = [AppState::Failed, AppState::Finished];
                self.end_app(app, states[usize::from(succeeded)], out);
                self.close(session, out);
                self.place(out);
            }
            (FromClient::Finished { .. }, None) => {
                let reason = "finished: no application is registered on this connection";
                self.refuse_client(session, reason.to_owned(), out);
            }
            (FromClient::Register { .. }, Some(app)) => {
                let reason = format!("register: this connection is that of {app} already");
                self.end_app(app, AppState::Failed, out);
                self.refuse_client(session, reason, out);
                self.place(out);
            }
            (FromClient::Register { idempotency_key, app, signing_request }, None) => {
                let registration = Registration {
                    session,
                    tenant,
                    key: idempotency_key,
                    spec: app,
                    signing_request,
                };
                if let Err(reason) = self.on_register_app(registration, out) {
                    self.refuse_client(session, reason, out);
                }
            }
        }
    }

    fn on_register_app(
        &mut self,
        registration: Registration,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        let name = (registration.tenant.clone(), registration.key);
        if let Some(id) = self.keys.get(&name).copied() {
            return self.on_register_again(id, registration, out);
        }
        validate_app(&registration.spec, &self.policy).map_err(|error| error.to_string())?;
        self.admit(&registration.tenant)?;
        if self.apps.len() >= APPS_LIVE_MAX {
            return Err(format!(
                "{} applications are registered, which is the limit; try again when one has ended",
                self.apps.len()
            ));
        }
        let id = self.next_app;
        self.next_app.0 += 1;
        self.keys.insert(name, id);
        self.sessions.insert(registration.session, Peer::Driver(id));
        let tenant = registration.tenant;
        let note = Note::AppRegistered { app: id, tenant: tenant.clone() };
        self.shares.add_app(id, &tenant, unit_of(&registration.spec));
        let app = App {
            tenant,
            key: registration.key,
            wanted: registration.spec.request.executors_wanted,
            hungry: None,
            spec: Arc::from(registration.spec),
            submitted: self.now,
            session: Some(registration.session),
            heard: self.now,
            next_executor: ExecutorNumber(0),
            touched: Default::default(),
            failures: 0,
            waiting: Default::default(),
            unreported: Vec::new(),
        };
        out.push(Action::Certify {
            session: registration.session,
            app: id,
            signing_request: registration.signing_request,
            wants_module: !self.modules.contains(&app.spec.module),
        });
        out.push(Action::Note(note));
        self.apps.insert(id, app);
        self.hear_of_drains(id, out);
        self.lease(self.leases.driver);
        self.refresh(id);
        self.place(out);
        Ok(())
    }

    /// The same key again: a driver that lost its connection, or never had the answer.
    fn on_register_again(
        &mut self,
        id: AppId,
        registration: Registration,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        let session = registration.session;
        let app = self.apps.get_mut(&id);
        let app = app.ok_or_else(|| format!("{id}, registered with this key, has ended"))?;
        if *app.spec != *registration.spec {
            return Err(format!("the key of {id} was used for another application"));
        }
        let old = app.session.replace(session);
        app.heard = self.now;
        app.waiting = Default::default();
        let unreported = std::mem::take(&mut app.unreported);
        let wants_module = !self.modules.contains(&app.spec.module);
        if let Some(old) = old {
            self.close(old, out);
        }
        self.sessions.insert(session, Peer::Driver(id));
        out.push(Action::Certify {
            session,
            app: id,
            signing_request: registration.signing_request,
            wants_module,
        });
        for (executor, reason) in unreported {
            let message = ToClient::ExecutorGone { executor, reason };
            out.push(Action::ToClient { session, message });
        }
        let listening = self.executors_of(id).filter_map(|(id, _)| self.info(id));
        for info in listening {
            let message = ToClient::ExecutorAdded(info);
            out.push(Action::ToClient { session, message });
        }
        if self.give_back.list(id).next().is_some() {
            self.tell_give_back(id, out);
        }
        self.tell_draining(id, out);
        self.refresh(id);
        self.place(out);
        Ok(())
    }

    pub(super) fn on_certificate_refused(
        &mut self,
        session: SessionId,
        app: AppId,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        if self.sessions.get(&session) == Some(&Peer::Driver(app)) {
            self.end_app(app, AppState::Failed, out);
        }
        self.refuse_client(session, reason, out);
        self.place(out);
    }

    pub(super) fn lose_driver(&mut self, id: AppId, out: &mut Vec<Action>) {
        let session = self.apps.get(&id).and_then(|app| app.session);
        self.end_app(id, AppState::Lost, out);
        if let Some(session) = session {
            let seconds = self.leases.driver.as_secs_f64();
            let reason = format!("{id} is lost: nothing heard from its driver for {seconds} s");
            self.refuse_client(session, reason, out);
        }
    }

    /// Ends an application: its executors are told to stop, its files are forgotten. Its session
    /// is no longer that of a driver; the caller says the last word on it.
    pub(super) fn end_app(&mut self, id: AppId, state: AppState, out: &mut Vec<Action>) {
        let Some(app) = self.apps.remove(&id) else {
            return;
        };
        if let Some(session) = app.session {
            self.sessions.remove(&session);
        }
        out.push(Action::Note(Note::AppEnded { app: id, state }));
        self.shares.remove_app(id);
        let executors: Vec<_> = self.executors_of(id).map(|(executor, _)| executor).collect();
        for executor in executors {
            self.give_back.forget(executor);
            self.stop(executor, out);
        }
        for worker in app.touched.iter() {
            self.forget(worker, id, out);
        }
        self.strays.retain(|_, apps| {
            apps.remove(&id);
            !apps.is_empty()
        });
        self.leave_where_empty(out);
        self.ended.push_back(EndedApp {
            id,
            tenant: app.tenant,
            key: app.key,
            name: app.spec.name.clone(),
            submitted: app.submitted,
            state,
        });
        if self.ended.len() > APPS_ENDED_KEPT
            && let Some(oldest) = self.ended.pop_front()
        {
            self.keys.remove(&(oldest.tenant, oldest.key));
        }
    }

    pub(super) fn stop(&mut self, id: ExecutorId, out: &mut Vec<Action>) {
        let Some(executor) = self.executors.get_mut(&id) else {
            return;
        };
        if executor.life == Life::Stopping {
            return;
        }
        executor.life = Life::Stopping;
        let executor = executor.clone();
        self.count_stopping(id, &executor);
        self.refresh(id.app);
        let worker = self.workers.get(executor.worker);
        if let Some(session) = worker.and_then(|worker| worker.session()) {
            to_worker(session, ToWorker::Kill(id), out);
        }
    }

    pub(super) fn refuse_client(
        &mut self,
        session: SessionId,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        let message = ToClient::Refused { reason };
        out.push(Action::ToClient { session, message });
        self.close(session, out);
    }
}
