//! The application's place in a cluster: the link to the master, and what executors are dialled
//! from.

use crate::allocation::Allocation;
use crate::master_link::{self, Identity, MasterLink};
use crate::{Config, DriverError, Ports};
use offshoot_net::{Accepts, Credential, Endpoint, Network};
use offshoot_proto::cluster::{AppSpec, FromClient, ResourceRequest};
use offshoot_proto::settings::Settings;
use std::net::SocketAddr;
use std::sync::Arc;

/// What there is only with a cluster.
pub(super) struct ClusterSide {
    pub(super) network: Arc<dyn Network>,
    pub(super) master: MasterLink,
    /// For executors. Links to older ones keep the endpoint that they were dialled with.
    pub(super) endpoint: Arc<Endpoint>,
}

pub(super) async fn join_cluster(
    config: &Config,
    ports: &Ports,
) -> Result<Option<ClusterSide>, DriverError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let app = AppSpec {
        name: config.name.clone(),
        module: config.hash,
        arguments: config.arguments.clone(),
        grants: config.grants.clone(),
        settings: config.settings.clone(),
        request: ResourceRequest {
            executors_wanted: Allocation::initial(&config.settings),
            ..config.request
        },
        store: config.store.clone(),
    };
    let master_address = cluster.master;
    let module = config.module.clone();
    let master = master_link::register(&*ports.network, cluster, app, module).await?;
    let network = ports.network.clone();
    let endpoint = executor_endpoint(&*network, master_address, master.credential.clone()).await?;
    Ok(Some(ClusterSide { network, master, endpoint }))
}

/// Binds what executors are dialled from.
async fn executor_endpoint(
    network: &dyn Network,
    master: SocketAddr,
    credential: Credential,
) -> Result<Arc<Endpoint>, DriverError> {
    let address = master_link::any_address(master);
    let endpoint = Endpoint::bind(network, address, credential, Accepts::Nothing).await;
    endpoint.map(Arc::new).map_err(|error| DriverError::Local(error.to_string()))
}

// === impl ClusterSide ===

impl ClusterSide {
    /// Takes the id that the master gives now; executors of another one are lost in time.
    pub(super) async fn become_known_as(&mut self, identity: Identity) -> Result<(), DriverError> {
        let Identity { app, credential } = identity;
        if app != self.master.app {
            tracing::info!(was = %self.master.app, now = %app, "the master does not know the past");
            self.endpoint =
                executor_endpoint(&*self.network, self.master.address, credential).await?;
            self.master.app = app;
        }
        Ok(())
    }
}

/// Asks the master how many cores the application has been granted, or may be.
pub(super) fn ask_cores(cluster: &ClusterSide, settings: &Settings) {
    cluster.master.send(match settings.allocation.enabled {
        true => FromClient::ListWorkers,
        false => FromClient::ListApps,
    });
}
