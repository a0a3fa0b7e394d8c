//! An HTTP/1.1 client for measuring: one connection, one request at a time, and as little work as possible.
//!
//! Not here: what is asked for, and how often; see `load`.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::records::Records;

/// Bytes read at once: what the fastest of the servers sends at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The name that all certificates of the bench are for.
pub(super) const HOST: &str = "localhost";

/// Where a server answers, and how it wants to be asked.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsConnector>,
    /// The value of `Authorization`, for a server that checks it.
    pub(super) authorization: Option<String>,
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) link: Option<String>,
    pub(super) etag: Option<String>,
    length: u64,
    chunked: bool,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<Records>>),
}

/// An open connection.
pub(super) struct Connection {
    socket: Socket,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Endpoint {
    /// The head of a request; `more` are further header lines, each with its line end.
    pub(super) fn head(&self, method: &str, path: &str, more: &str) -> String {
        let authorization = self.authorization.as_ref().map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
        format!("{method} {path} HTTP/1.1\r\nhost: {HOST}:{}\r\n{authorization}{more}\r\n", self.address.port())
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let socket = TcpStream::connect(self.address).await.with_context(|| format!("cannot connect to {}", self.address))?;
        socket.set_nodelay(true)?;
        let socket = match &self.tls {
            None => Socket::Plain(socket),
            Some(tls) => {
                let stream = tls.connect(ServerName::try_from(HOST)?, Records::new(socket)).await;
                Socket::Tls(Box::new(stream.context("the TLS handshake failed")?))
            }
        };
        Ok(Connection { socket, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 })
    }
}

impl Answer {
    /// Fails unless the status is `wanted`.
    pub(super) fn expect(self, wanted: u16, what: &str) -> Result<Self> {
        if self.status != wanted {
            bail!("{what} was answered with {} instead of {wanted}", self.status);
        }
        Ok(self)
    }

    fn parse(head: &str) -> Result<Self> {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("an answer without a status")?;
        let mut answer = Self { status, ..Self::default() };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                answer.length = value.parse().context("an answer with an unreadable length")?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                answer.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("location") {
                answer.location = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("etag") {
                answer.etag = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("link") {
                answer.link = Some(value.to_owned());
            }
        }
        Ok(answer)
    }
}

impl Connection {
    /// Sends bytes of a request.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(bytes).await,
            Socket::Tls(stream) => stream.write_all(bytes).await,
        }
        .context("a request could not be sent")
    }

    /// Waits until what was sent has left this program.
    pub(super) async fn flush(&mut self) -> Result<()> {
        match &mut self.socket {
            Socket::Plain(_) => Ok(()),
            Socket::Tls(stream) => stream.flush().await.context("a request could not be sent"),
        }
    }

    /// Reads the head of the next answer.
    pub(super) async fn answer(&mut self) -> Result<Answer> {
        self.flush().await?;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(bytes) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let answer = Answer::parse(std::str::from_utf8(&unread[..bytes])?)?;
                self.start += bytes + 4;
                return Ok(answer);
            }
            self.more().await?;
        }
    }

    /// Reads the content of an answer to something else than HEAD and forgets it; how many bytes it had.
    pub(super) async fn skip_content(&mut self, answer: &Answer) -> Result<u64> {
        if answer.chunked {
            return Ok(self.content(answer).await?.len() as u64);
        }
        let mut left = answer.length;
        while left > 0 {
            if self.start == self.end {
                match &self.socket {
                    Socket::Plain(socket) => left -= forget(socket, &mut self.buffer, left).await?,
                    Socket::Tls(_) => self.more().await?,
                }
                continue;
            }
            let bytes = ((self.end - self.start) as u64).min(left);
            self.start += usize::try_from(bytes)?;
            left -= bytes;
        }
        Ok(answer.length)
    }

    /// Lets the kernel drop the content of the last answer of this connection; how many bytes it had.
    pub(super) async fn forget_content(mut self, answer: &Answer) -> Result<u64> {
        let arrived = (self.end - self.start) as u64;
        match self.socket {
            Socket::Tls(stream) if !answer.chunked && arrived <= answer.length => {
                let (socket, mut session) = stream.into_inner();
                let decrypted = session.process_new_packets().context("an unreadable record")?.plaintext_bytes_to_read() as u64;
                let left = answer.length.checked_sub(arrived + decrypted).context("more came than the answer said")?;
                socket.forget(left, &mut self.buffer).await?;
                Ok(answer.length)
            }
            _ => self.skip_content(answer).await,
        }
    }

    /// Reads the content of an answer to something else than HEAD.
    pub(super) async fn content(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        if !answer.chunked {
            self.take(answer.length, &mut content).await?;
            return Ok(content);
        }
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                self.take(1, &mut line).await?;
            }
            let bytes = u64::from_str_radix(std::str::from_utf8(&line)?.trim(), 16).context("an unreadable chunk")?;
            self.take(bytes, &mut content).await?;
            self.take(2, &mut Vec::new()).await?;
            if bytes == 0 {
                return Ok(content);
            }
        }
    }

    async fn take(&mut self, mut bytes: u64, into: &mut Vec<u8>) -> Result<()> {
        while bytes > 0 {
            if self.start == self.end {
                self.more().await?;
            }
            let part = usize::try_from(((self.end - self.start) as u64).min(bytes))?;
            into.extend_from_slice(&self.buffer[self.start..self.start + part]);
            self.start += part;
            bytes -= part as u64;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let free = &mut self.buffer[self.end..];
        let read = match &mut self.socket {
            Socket::Plain(socket) => socket.read(free).await,
            Socket::Tls(stream) => one_record(stream, free).await,
        };
        self.end += arrived(read)?;
        Ok(())
    }
}

/// Reads what one record holds, and nothing of the next.
async fn one_record(stream: &mut TlsStream<Records>, into: &mut [u8]) -> std::io::Result<usize> {
    let content = stream.fill_buf().await?;
    let bytes = content.len().min(into.len());
    into[..bytes].copy_from_slice(&content[..bytes]);
    stream.consume(bytes);
    Ok(bytes)
}

/// Lets the kernel drop at most `wanted` bytes that have arrived, without copying them: to copy them would cost as much as to
/// send them, and the client is not what is measured.
pub(super) async fn forget(socket: &TcpStream, buffer: &mut [u8], wanted: u64) -> Result<u64> {
    let bytes = buffer.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
    let forgotten = socket.async_io(Interest::READABLE, || {
        let (_, dropped) = recv(socket, &mut buffer[..bytes], RecvFlags::TRUNC)?;
        Ok(dropped)
    });
    Ok(arrived(forgotten.await)? as u64)
}

fn arrived(read: std::io::Result<usize>) -> Result<usize> {
    match read.context("an answer broke off")? {
        0 => bail!("the server closed the connection before it had answered"),
        bytes => Ok(bytes),
    }
}
