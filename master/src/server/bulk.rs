//! Data connections: modules come from tenants and go to workers, a stream each.

use super::Server;
use super::core::Input;
use crate::cluster::Event;
use crate::modules::{ModuleError, PIECE_BYTES};
use bytes::Bytes;
use offshoot_net::{
    CloseCode, Connection, FrameReceiver, FrameSender, FrameStream, Role, RoleKind, StreamError,
};
use offshoot_proto::cluster::{ModuleReply, ModuleRequest};
use offshoot_proto::id::ModuleHash;
use offshoot_proto::limits::HANDSHAKE_DEADLINE;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long one module may take: 32 MiB at 1 Mbit/s.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(300);

/// Why a stream ended early.
#[derive(Debug, Error)]
enum TransferError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error("permission denied: role {role} may not upload modules")]
    MayNotPut { role: RoleKind },
}

/// Serves the streams that the peer opens until it closes the connection.
pub(super) async fn run(server: &Arc<Server>, connection: Connection, expiry: Duration) {
    let mut streams = JoinSet::new();
    let mut expired = std::pin::pin!(sleep(expiry));
    loop {
        tokio::select! {
            biased;
            () = &mut expired => {
                let reason = "your certificate has expired; dial again with a renewed one";
                return connection.close(CloseCode::Revoked, reason);
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            stream = connection.accept() => match stream {
                Ok(stream) => {
                    streams.spawn(serve(server.clone(), stream, connection.peer().clone()));
                }
                Err(_) => return,
            },
        }
    }
}

async fn serve(server: Arc<Server>, mut stream: FrameStream, peer: Role) {
    let request = timeout(HANDSHAKE_DEADLINE, stream.receiver.recv::<ModuleRequest>()).await;
    let done = match request {
        Ok(Ok(Some(request))) => {
            let transfer = transfer(&server, &mut stream, &peer, request);
            timeout(TRANSFER_DEADLINE, transfer).await
        }
        Ok(Ok(None)) => Ok(Ok(())),
        Ok(Err(error)) => Ok(Err(error.into())),
        Err(elapsed) => Err(elapsed),
    };
    match done {
        Ok(Ok(()) | Err(TransferError::Stream(StreamError::Closed(_)))) => {}
        Ok(Err(error)) => server.complaints.warn(format_args!("{peer}: {error}")),
        Err(_) => {
            stream.sender.abandon(CloseCode::Protocol);
            stream.receiver.stop(CloseCode::Protocol);
            server.complaints.warn(format_args!("{peer}: too slow with a module"));
        }
    }
}

/// Does what is asked. A refusal is sent to the peer and returned.
async fn transfer(
    server: &Server,
    stream: &mut FrameStream,
    peer: &Role,
    request: ModuleRequest,
) -> Result<(), TransferError> {
    let FrameStream { sender, receiver } = stream;
    let done = match request {
        ModuleRequest::Put { hash, length } => match peer {
            Role::Tenant(_) => put(server, sender, receiver, hash, length).await,
            other => Err(TransferError::MayNotPut { role: other.kind() }),
        },
        ModuleRequest::Get { hash } => get(server, sender, hash).await,
    };
    let refusal = match &done {
        Ok(()) => None,
        Err(TransferError::Stream(error)) => return Err(error.clone().into()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = refusal {
        receiver.stop(CloseCode::Refused);
        sender.send(&ModuleReply::Refused { reason }).await?;
    }
    sender.finish().await?;
    sender.acknowledged().await?;
    done
}

async fn put(
    server: &Server,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
    hash: ModuleHash,
    length: u64,
) -> Result<(), TransferError> {
    if let Some(length) = server.modules.length(hash) {
        receiver.stop(CloseCode::Done);
        return Ok(sender.send(&ModuleReply::Ok { length }).await?);
    }
    let mut upload = server.modules.upload(hash, length)?;
    while let Some(chunk) = receiver.recv_chunk(PIECE_BYTES).await? {
        upload.write(&chunk)?;
    }
    upload.finish()?;
    let stored = Input::Event(Event::ModuleStored { hash });
    // The core is gone only when the master stops.
    let _ = server.inputs.send(stored).await;
    Ok(sender.send(&ModuleReply::Ok { length }).await?)
}

async fn get(
    server: &Server,
    sender: &mut FrameSender,
    hash: ModuleHash,
) -> Result<(), TransferError> {
    let (mut file, length) = server.modules.open_module(hash)?;
    sender.send(&ModuleReply::Ok { length }).await?;
    let mut left = length;
    while left > 0 {
        let piece = match read_piece(&mut file, left) {
            Ok(piece) => piece,
            Err(error) => {
                // Half of it is on its way: only the stream's end can say so.
                sender.abandon(CloseCode::Busy);
                tracing::error!("cannot read module {hash}: {error}");
                return Err(StreamError::NotOpen.into());
            }
        };
        left -= piece.len() as u64;
        sender.send_chunk(piece).await?;
    }
    Ok(())
}

fn read_piece(file: &mut File, left: u64) -> std::io::Result<Bytes> {
    let bytes = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = vec![0; bytes];
    file.read_exact(&mut piece)?;
    Ok(piece.into())
}
