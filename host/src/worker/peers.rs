//! Who may connect to a worker: executors, for blocks, and the drivers of applications that have
//! executors here, which only want to know whether the worker is alive.

use super::shell::Shared;
use offshoot_net::{CloseCode, Connection, Incoming, Role};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::AppId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Serves one peer until it leaves or its certificate ends.
pub(super) async fn serve(shared: Arc<Shared>, incoming: Incoming) {
    let runs_here = |app: AppId| shared.apps().contains(&app);
    let connection = incoming.handshake(|role, purpose| authorise(role, purpose, runs_here));
    let connection = match connection.await {
        Ok(connection) => connection,
        Err(error) => return shared.complaints.warn(format_args!("{error}")),
    };
    let left = connection
        .peer_not_after()
        .duration_since(shared.ports.clock.now())
        .unwrap_or(Duration::ZERO);
    if timeout(left, attend(&shared, &connection)).await.is_err() {
        let reason = "your certificate has expired; dial again with a renewed one";
        connection.close(CloseCode::Revoked, reason);
    }
}

/// Whether a peer may have a connection; the error is what it is told. It does not tell an
/// application that is not here from one that does not exist.
fn authorise(
    role: &Role,
    purpose: Purpose,
    runs_here: impl Fn(AppId) -> bool,
) -> Result<(), String> {
    match (role, purpose) {
        // What it may read is decided for each request.
        (Role::Executor(_), Purpose::Data) => Ok(()),
        (Role::Driver(app), Purpose::Control) if runs_here(*app) => Ok(()),
        (Role::Driver(app), Purpose::Control) => Err(format!("{app} does not run on this worker")),
        (other, _) => {
            let kind = other.kind();
            Err(format!("permission denied: role {kind} may not do that on a worker"))
        }
    }
}

async fn attend(shared: &Shared, connection: &Connection) {
    match (connection.peer(), connection.purpose()) {
        (Role::Executor(executor), Purpose::Data) => {
            shared.blocks.serve(connection, executor.app).await;
        }
        // That the connection stands is all that is said.
        _ => {
            connection.closed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::test_support::executor;
    use offshoot_proto::id::WorkerId;

    #[test]
    fn only_executors_get_data_and_only_drivers_of_running_applications_a_sign_of_life() {
        use Purpose::{Control, Data};
        let here = |app| app == AppId(1);
        let allowed = |role: &Role, purpose| authorise(role, purpose, here).is_ok();
        assert!(allowed(&Role::Executor(executor(2, 0)), Data));
        assert!(allowed(&Role::Driver(AppId(1)), Control));
        for (role, purpose) in [
            (Role::Executor(executor(1, 0)), Control),
            (Role::Driver(AppId(2)), Control),
            (Role::Driver(AppId(1)), Data),
            (Role::Tenant("ada".to_owned()), Control),
            (Role::Tenant("ada".to_owned()), Data),
            (Role::Worker(WorkerId("w2".to_owned())), Data),
            (Role::Master, Control),
        ] {
            assert!(!allowed(&role, purpose), "{role} {purpose:?}");
        }
    }
}
