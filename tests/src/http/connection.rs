//! One connection by hand: for what no good client sends, and for servers that may go away at any moment.
//!
//! Not here: requests that must be answered; see [`super::send`].

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use super::{Answer, header, read_head, split};
use crate::wait::PATIENCE;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    socket: BufReader<TcpStream>,
}

/// The body of a request.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Its length is said first.
    Whole(&'a [u8]),
    /// It comes in chunks of [`CHUNK_BYTES`], and only the last says that it ends.
    Streamed(&'a [u8]),
}

/// A chunk of a streamed body, in bytes.
pub const CHUNK_BYTES: usize = 40_000;

impl Connection {
    /// Connects to the server of `url`.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(url: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(split(url).0)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: BufReader::new(socket) })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the server takes no more.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.get_mut().write_all(bytes)
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn end(&mut self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }

    /// The next answer, to a request that was not HEAD.
    ///
    /// # Errors
    /// When none comes, it breaks off, or it is not HTTP.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let head = read_head(&mut self.socket)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.clone()))?;
        let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body)?;
        Ok(Answer { status, body, head })
    }

    /// All that still comes until the server closes the connection.
    ///
    /// # Errors
    /// When it does not close it, or resets it.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// Sends a request that is not HEAD, and reads its whole answer. A server that answers before it has read everything counts
/// as one that answered.
///
/// # Errors
/// When there is no whole answer.
pub fn attempt(method: &str, url: &str, headers: &[(&str, &str)], body: Body<'_>) -> io::Result<Answer> {
    let (authority, path) = split(url);
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    match body {
        Body::Whole(bytes) => request.push_str(&format!("Content-Length: {}\r\n\r\n", bytes.len())),
        Body::Streamed(_) => request.push_str("Transfer-Encoding: chunked\r\n\r\n"),
    }
    let mut connection = Connection::open(url)?;
    connection.send(request.as_bytes())?;
    let sent = match body {
        Body::Whole(bytes) => connection.send(bytes),
        Body::Streamed(bytes) => send_chunks(&mut connection, bytes),
    };
    connection.answer().map_err(|error| sent.err().unwrap_or(error))
}

fn send_chunks(connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.chunks(CHUNK_BYTES) {
        connection.send(format!("{:x}\r\n", chunk.len()).as_bytes())?;
        connection.send(chunk)?;
        connection.send(b"\r\n")?;
    }
    connection.send(b"0\r\n\r\n")
}
