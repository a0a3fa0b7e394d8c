//! Signed documents on their way between devices: asked for by naming what one has, answered with what is newer. Each is
//! alone on a stream of its own.
//!
//! Not here: what is believed of them; the signatures say.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::request_response;
use protocol::gossip::message::{Documents, Heads, Message};
use protocol::name::GroupName;
use protocol::statement::desired::OnlineKey;
use protocol::statement::receipt::PollReceipt;

/// The name of this exchange in libp2p.
pub(super) const DOCUMENTS_PROTOCOL: StreamProtocol = StreamProtocol::new("/hedgerow/documents/2");
/// From question to answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The documents in force on this device, for its neighbours.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Their counters.
    pub heads: Heads,
    /// The desired states, as signed.
    pub states: BTreeMap<GroupName, String>,
    /// The list of revoked keys, as signed, if it came in this run.
    pub revocations: Option<String>,
    /// The organisation's timestamp that came with the newest answer of the seed in this run.
    pub timestamp: Option<String>,
    /// The receipt of this device's last poll for its site in this run.
    pub polled: Option<PollReceipt>,
    /// Whose receipts of others count.
    pub online: Option<OnlineKey>,
}

impl Shared {
    /// What a device with `heads` does not have.
    pub fn newer_than(&self, heads: &Heads) -> Documents {
        let is_newer = |group: &GroupName| heads.states.get(group).is_some_and(|theirs| self.heads.states.get(group) > Some(theirs));
        let states: Vec<String> = self.states.iter().filter(|(group, _)| is_newer(group)).map(|(_, envelope)| envelope.clone()).collect();
        let revocations = self.revocations.clone().filter(|_| heads.revocations < self.heads.revocations);
        let timestamp = self.timestamp.clone().filter(|_| heads.timestamp < self.heads.timestamp);
        Documents { states, revocations, timestamp }
    }
}

/// Writes and reads them.
#[derive(Clone, Copy, Debug, Default)]
pub struct DocumentsCodec;

impl request_response::Codec for DocumentsCodec {
    type Protocol = StreamProtocol;
    type Request = Heads;
    type Response = Documents;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Heads> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Documents> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T, request: Heads) -> io::Result<()> {
        write(io, &request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Documents,
    ) -> io::Result<()> {
        write(io, &response).await
    }
}

async fn read<M: Message>(io: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<M> {
    let mut bytes = Vec::new();
    io.take(M::BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await?;
    M::decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a neighbour sent what is no message"))
}

async fn write(io: &mut (impl AsyncWrite + Unpin + Send), message: &(impl Message + Sync)) -> io::Result<()> {
    let bytes = message.encode().ok_or_else(|| io::Error::other("a message larger than anybody reads"))?;
    io.write_all(&bytes).await?;
    io.close().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::statement::desired::Counter;

    #[test]
    fn only_what_is_newer_and_wanted_is_handed_over() {
        let heads = |n| Heads {
            states: [("all".parse().unwrap(), Counter { epoch: 1, n })].into(),
            revocations: (n > 1).then_some(Counter { epoch: 1, n }),
            timestamp: Some(n),
        };
        let states = [("all".parse().unwrap(), "signed".to_owned()), ("other".parse().unwrap(), "else".to_owned())].into();
        let text = |text: &str| Some(text.to_owned());
        let shared = Shared { heads: heads(2), states, revocations: text("revoked"), timestamp: text("time"), ..Shared::default() };
        let newer = shared.newer_than(&heads(1));
        let states = vec!["signed".to_owned()];
        assert_eq!(newer, Documents { states, revocations: text("revoked"), timestamp: text("time") });
        assert_eq!(shared.newer_than(&heads(2)), Documents::default());
    }
}
