//! HTTP/1.1 over a plain socket, one request a connection, and metrics.
//!
//! | module | holds |
//! |---|---|
//! | [`connection`] | one connection by hand, for what no good client sends and for servers that may go away |
//!
//! Not here: TLS.

pub mod connection;

use std::io::{Read, Write as _};
use std::net::TcpStream;

use crate::wait::PATIENCE;

/// A head longer than this is none.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    head: String,
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Incoming {
    /// The status.
    pub status: u16,
    /// Where the body comes from.
    pub body: TcpStream,
    head: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// All values of a header, in order; one line may hold several, separated by commas.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        values(&self.head, name).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What a client can tell two answers apart by: everything but the date and the request's id.
    pub fn shape(&self) -> (u16, Vec<String>, String) {
        let differs = |line: &str| ["date:", "x-request-id:"].iter().any(|name| line.to_ascii_lowercase().starts_with(name));
        let mut headers: Vec<String> = self.head.lines().skip(1).filter(|line| !differs(line)).map(str::to_owned).collect();
        headers.sort();
        (self.status, headers, self.text())
    }
}

/// Asks for `url`.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    send("GET", url, headers, &[])
}

/// Sends a request and reads the whole answer.
///
/// # Panics
/// When nobody answers, or the answer breaks off.
#[track_caller]
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    whole(method, begin(method, url, headers, body))
}

/// Sends a request whose body has no length, piece by piece, and reads the whole answer.
///
/// # Panics
/// When nobody answers, or the answer breaks off.
#[track_caller]
pub fn stream(method: &str, url: &str, headers: &[(&str, &str)], pieces: &[&[u8]]) -> Answer {
    let (authority, path) = split(url);
    let mut body = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    whole(method, exchange(method, (authority, authority, path), headers, "Transfer-Encoding: chunked", &body))
}

#[track_caller]
fn whole(method: &str, incoming: Incoming) -> Answer {
    let Incoming { status, body: mut socket, head } = incoming;
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    assert!(header(&head, "transfer-encoding").is_none(), "this client does not read chunks: {head}");
    let mut content = Vec::new();
    if method == "HEAD" {
        socket.read_to_end(&mut content).unwrap_or_else(|error| panic!("the connection stays open: {error}: {head}"));
        assert!(content.is_empty(), "an answer to HEAD with a body: {head}");
    } else if status != 304 {
        content.resize(length, 0);
        socket.read_exact(&mut content).unwrap_or_else(|error| panic!("the answer broke off: {error}: {head}"));
    }
    Answer { status, body: content, head }
}

/// Sends a request and reads the head of the answer.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn begin(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Incoming {
    let (authority, path) = split(url);
    begin_as(method, authority, authority, path, headers, body)
}

/// Asks the server at `url` for `path` by another name of its host.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn send_as(method: &str, url: &str, host: &str, path: &str) -> Answer {
    whole(method, begin_as(method, split(url).0, host, path, &[], &[]))
}

#[track_caller]
fn begin_as(method: &str, authority: &str, host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Incoming {
    exchange(method, (authority, host, path), headers, &format!("Content-Length: {}", body.len()), body)
}

#[track_caller]
fn exchange(method: &str, target: (&str, &str, &str), headers: &[(&str, &str)], framing: &str, body: &[u8]) -> Incoming {
    let (authority, host, path) = target;
    let url = format!("{authority}{path}");
    let mut socket = TcpStream::connect(authority).unwrap_or_else(|error| panic!("{method} {url}: nobody listens: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a time is set");
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{framing}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    // A server may answer and close before it has read everything.
    let sent = socket.write_all(request.as_bytes()).and_then(|()| socket.write_all(body));
    let head = read_head(&mut socket).unwrap_or_else(|error| panic!("{method} {url}: no answer: {error} (sent: {sent:?})"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Incoming { status: status.unwrap_or_else(|| panic!("{method} {url}: not HTTP: {head}")), body: socket, head }
}

/// The value of a counter or gauge at `url`.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn metric(url: &str, name: &str) -> u64 {
    let text = get(url, &[]).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{url} has no {name}:\n{text}")).trim().parse().expect("a metric is a number")
}

fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not a plain HTTP URL: {url}"));
    rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash))
}

/// Reads a head, and nothing of what comes after it.
fn read_head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut window = [0; 4096];
    while head.len() < HEAD_BYTES_MAX {
        let (read, seen) = (head.len(), socket.peek(&mut window)?);
        head.extend_from_slice(&window[..seen]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            head.truncate(end + 4);
        }
        socket.read_exact(&mut window[..(head.len() - read).max(1)])?;
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&head).trim_end().to_owned())
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    values(head, wanted).next()
}

fn values<'a>(head: &'a str, wanted: &str) -> impl Iterator<Item = &'a str> {
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}
