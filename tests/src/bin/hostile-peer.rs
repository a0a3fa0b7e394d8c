//! `hostile-peer`: a device that its organisation enrolled and that does not mean well, for the lab (`cargo tools lab`).
//!
//! It shows the device's certificate, greets its peers, says of every blob that it holds all of it, and then sends wrong bytes
//! (`liar`) or none (`withholder`). The shipped binary has no such mode, so this one has words of its own for the frames of
//! `hedgerow-blob/1` that it needs; of the product it uses the endpoint and the identity.
//!
//! Not here: when it runs, and what its peers must make of it; `cargo tools lab` knows.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use node::device::identity::Identity;
use node::device::state::DeviceDir;
use node::transport::quic;
use quinn::{Connection, Endpoint, RecvStream, SendStream};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The name in every device's certificate.
const DEVICE_DNS_NAME: &str = node::transport::identity::DEVICE_DNS_NAME;
/// Before a peer that could not be called is called again.
const CALL_AGAIN: Duration = Duration::from_millis(500);
/// The longest frame of a peer that is read.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes of a unit.
const UNIT_BYTES: usize = 64 << 10;

/// The version of the wire that its peers speak.
const WIRE_VERSION: u8 = 2;
/// Places of messages in the wire's list of them.
const HELLO: u8 = 0;
const INTEREST: u8 = 2;
const HOLDING: u8 = 3;
/// The answer to a request: the bytes follow.
const SENDING: u8 = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Liar,
    Withholder,
}

struct Arguments {
    data: PathBuf,
    listen: SocketAddr,
    mode: Mode,
    peers: Vec<SocketAddr>,
}

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut parsed = Self { data: PathBuf::new(), listen: SocketAddr::from(([0, 0, 0, 0], 0)), mode: Mode::Liar, peers: Vec::new() };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            match (word.as_str(), value.as_str()) {
                ("--data", _) => parsed.data = value.into(),
                ("--listen", _) => parsed.listen = value.parse()?,
                ("--peer", _) => parsed.peers.push(value.parse()?),
                ("--mode", "liar") => parsed.mode = Mode::Liar,
                ("--mode", "withholder") => parsed.mode = Mode::Withholder,
                _ => return Err(format!("{word} {value} is unknown; there are --data, --listen, --peer, --mode liar|withholder").into()),
            }
        }
        Ok(parsed)
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let root = std::fs::read(arguments.data.join("root.json"))?;
        let identity = Identity::open(&DeviceDir::new(&arguments.data), &root, None)?;
        let endpoint = quic::open(&identity.credentials, arguments.listen)?;
        println!("ready");
        for peer in &arguments.peers {
            tokio::spawn(call(endpoint.clone(), *peer, arguments.mode));
        }
        let port = endpoint.local_addr()?.port();
        while let Some(incoming) = endpoint.accept().await {
            let mode = arguments.mode;
            tokio::spawn(async move {
                let connection = incoming.await?;
                let control = connection.accept_bi().await?;
                deceive(connection, control, port, mode).await
            });
        }
        Ok(())
    })
}

/// Calls a peer for ever: one that has banned this node hangs up.
async fn call(endpoint: Endpoint, peer: SocketAddr, mode: Mode) {
    loop {
        let deceived = async {
            let connection = endpoint.connect(peer, DEVICE_DNS_NAME)?.await?;
            let control = connection.open_bi().await?;
            deceive(connection, control, endpoint.local_addr()?.port(), mode).await
        };
        let outcome: Outcome = deceived.await;
        eprintln!("{peer}: {outcome:?}");
        tokio::time::sleep(CALL_AGAIN).await;
    }
}

/// Greets, and says of every blob that somebody is interested in that all of it is here.
async fn deceive(connection: Connection, (mut send, mut receive): (SendStream, RecvStream), port: u16, mode: Mode) -> Outcome {
    let mut hello = vec![HELLO, WIRE_VERSION];
    put_number(&mut hello, u32::from(port));
    write_frame(&mut send, &hello).await?;
    read_frame(&mut receive).await?;
    let requests = tokio::spawn(answer_requests(connection.clone(), mode));
    let talked = async {
        loop {
            let frame = read_frame(&mut receive).await?;
            if let [INTEREST, blob @ ..] = frame.as_slice() {
                write_frame(&mut send, &holding_all(blob)).await?;
            }
        }
    };
    let outcome: Outcome = talked.await;
    requests.abort();
    connection.close(0u8.into(), b"bye");
    outcome
}

/// The message that all pieces of `blob` are held: one range that is longer than any blob.
fn holding_all(blob: &[u8]) -> Vec<u8> {
    let is_wanted = 0;
    let ranges = 1;
    let mut message = [&[HOLDING], blob, &[is_wanted, ranges, 0]].concat();
    put_number(&mut message, u32::MAX);
    message
}

async fn answer_requests(connection: Connection, mode: Mode) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let Some(units) = read_frame(&mut receive).await.ok().as_deref().and_then(requested_units) else { return };
            if write_frame(&mut send, &[SENDING]).await.is_err() {
                return;
            }
            if mode == Mode::Withholder {
                // The stream stays open, and nothing comes.
                return std::future::pending().await;
            }
            for _ in 0..units {
                if send.write_all(&[0x11; UNIT_BYTES]).await.is_err() {
                    return;
                }
            }
            let _ = send.finish();
        });
    }
}

/// How many units a request asks for: its last number, after the blob and the first unit.
fn requested_units(frame: &[u8]) -> Option<u32> {
    let (length, rest) = frame.split_first()?;
    let (_, rest) = take_number(rest.get(usize::from(*length)..)?)?;
    Some(take_number(rest)?.0)
}

/// Numbers travel in groups of seven bits, the lowest first.
fn put_number(into: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let groups = bytes[..length].iter().rev();
    let number = groups.fold(0_u32, |number, byte| number.wrapping_shl(7) | u32::from(byte & 0x7f));
    Some((number, &bytes[length..]))
}

async fn write_frame(stream: &mut SendStream, body: &[u8]) -> Outcome {
    stream.write_all(&u32::try_from(body.len())?.to_be_bytes()).await?;
    Ok(stream.write_all(body).await?)
}

async fn read_frame(stream: &mut RecvStream) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > FRAME_BYTES_MAX {
        return Err(format!("a frame of {length} bytes").into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for number in [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            bytes.push(7);
            assert_eq!(take_number(&bytes), Some((number, &[7][..])));
        }
        assert_eq!(take_number(&[0x80, 0x80]), None);
    }

    #[test]
    fn a_request_tells_how_many_units_it_wants() {
        let request = [&[32][..], &[9; 32], &[0x80, 0x02, 16]].concat();
        assert_eq!(requested_units(&request), Some(16));
        assert_eq!(requested_units(&request[..20]), None);
    }
}
