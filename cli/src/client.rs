//! One question to the master, for commands that list something.

use crate::failure::Failure;
use crate::parse;
use clap::Args;
use offshoot_net::{Accepts, ConnectError, Endpoint, RoleKind, UdpNetwork};
use offshoot_proto::cluster::{FromClient, ToClient};
use offshoot_proto::hello::Purpose;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How to reach a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArguments {
    /// The master.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::address)]
    pub(crate) master: Option<SocketAddr>,
    /// The file that says who you are.
    #[arg(long, value_name = "FILE")]
    pub(crate) credential: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The master is not there, or went away meanwhile. Asking again later may help.
    Absent(String),
    /// Asking again does not help.
    Failed(Failure),
}

// === impl Unanswered ===

impl Unanswered {
    fn absent(why: impl ToString) -> Self {
        Self::Absent(why.to_string())
    }
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ConnectError> for Unanswered {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { .. } => Self::absent(error),
            _ => Self::Failed(Failure::cluster(error)),
        }
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Absent(why) => Self::cluster(why),
            Unanswered::Failed(failure) => failure,
        }
    }
}

/// Asks the master, and waits for its answer.
pub(crate) fn ask(cluster: &ClusterArguments, question: &FromClient) -> Result<ToClient, Failure> {
    Ok(try_ask(cluster, question)?)
}

/// The same for who asks again where that may help.
pub(crate) fn try_ask(
    cluster: &ClusterArguments,
    question: &FromClient,
) -> Result<ToClient, Unanswered> {
    let master = cluster.master.ok_or_else(|| {
        Failure::usage(
            "which cluster? add --master ADDR:PORT, set OFFSHOOT_MASTER, or write [client] master \
             in offshoot.toml",
        )
    })?;
    let credential = parse::credential(cluster.credential.as_deref())?;
    crate::runtime()?.block_on(async {
        let any: SocketAddr = match master {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::bind(&UdpNetwork, any, credential, Accepts::Nothing);
        let endpoint = endpoint.await.map_err(Failure::local)?;
        let connected = endpoint.connect(master, RoleKind::Master, Purpose::Control).await;
        let mut connection = connected?;
        let mut stream = connection.take_control().expect("a control connection has its stream");
        stream.sender.send(question).await.map_err(Unanswered::absent)?;
        loop {
            match stream.receiver.recv::<ToClient>().await.map_err(Unanswered::absent)? {
                Some(ToClient::Heartbeat) => {}
                Some(ToClient::Refused { reason }) => return Err(Failure::cluster(reason).into()),
                Some(answer) => {
                    // Nothing is left to be said that would be worth waiting for.
                    let closing = endpoint.close("done");
                    let _ = tokio::time::timeout(Duration::from_millis(5), closing).await;
                    return Ok(answer);
                }
                None => return Err(Unanswered::absent("the master closed the connection")),
            }
        }
    })
}
