//! HTTP/1.1, one request a connection, plain or over TLS, and metrics. Every byte of a request's head is the caller's.
//!
//! | module | holds |
//! |---|---|
//! | [`connection`] | one plain connection by hand, for what no good client sends and for servers that may go away |
//!
//! Not here: HTTP/2, redirects, content encodings.

pub mod connection;

use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::wait::PATIENCE;

/// A head longer than this is none.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Somebody who asks: by plain HTTP, or over TLS, trusting one CA.
#[derive(Clone, Debug, Default)]
pub struct Client {
    tls: Option<Arc<ClientConfig>>,
}

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
    pub body: BufReader<Box<dyn Transport>>,
    head: String,
}

/// A socket, or TLS on one.
pub trait Transport: Read + Write + Debug + Send {}

impl<T: Read + Write + Debug + Send> Transport for T {}

impl Incoming {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
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

impl Client {
    /// Somebody who trusts the CA whose certificate is in the PEM file `ca`, and nobody else.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn trusting(ca: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(ca).unwrap_or_else(|error| panic!("{}: {error}", ca.display()));
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a CA's certificate can be trusted");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Some(Arc::new(config)) }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When nobody answers, or the answer breaks off.
    #[track_caller]
    pub fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        whole(method, self.begin(method, url, headers, body))
    }

    /// Sends a request whose body has no length, piece by piece, and reads the whole answer.
    ///
    /// # Panics
    /// When nobody answers, or the answer breaks off.
    #[track_caller]
    pub fn stream(&self, method: &str, url: &str, headers: &[(&str, &str)], pieces: &[&[u8]]) -> Answer {
        let mut body = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        whole(method, self.exchange(method, url, None, headers, "Transfer-Encoding: chunked", &body))
    }

    /// Sends a request and reads the head of the answer.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn begin(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Incoming {
        self.exchange(method, url, None, headers, &format!("Content-Length: {}", body.len()), body)
    }

    #[track_caller]
    fn exchange(&self, method: &str, url: &str, host: Option<&str>, headers: &[(&str, &str)], framing: &str, body: &[u8]) -> Incoming {
        let (authority, path) = split(url);
        let connection = self.connect(url).unwrap_or_else(|error| panic!("{method} {url}: nobody listens: {error}"));
        let mut connection = BufReader::new(connection);
        let host = host.unwrap_or(authority);
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{framing}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let socket = connection.get_mut();
        // A server may answer and close before it has read everything.
        let sent = socket.write_all(request.as_bytes()).and_then(|()| socket.write_all(body)).and_then(|()| socket.flush());
        let head = read_head(&mut connection).unwrap_or_else(|error| panic!("{method} {url}: no answer: {error} (sent: {sent:?})"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Incoming { status: status.unwrap_or_else(|| panic!("{method} {url}: not HTTP: {head}")), body: connection, head }
    }

    fn connect(&self, url: &str) -> io::Result<Box<dyn Transport>> {
        let authority = split(url).0;
        let socket = TcpStream::connect(authority)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        if url.starts_with("http:") {
            return Ok(Box::new(socket));
        }
        let config = self.tls.clone().ok_or_else(|| io::Error::other("it wants TLS, and this client trusts no CA"))?;
        let name = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned();
        let connection = ClientConnection::new(config, ServerName::try_from(name).map_err(io::Error::other)?).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, Heard { socket, is_deaf: false })))
    }
}

/// A socket that can be read after its other end has closed: rustls sends what it still has before it reads, and would else
/// never get to an answer that came early.
#[derive(Debug)]
struct Heard {
    socket: TcpStream,
    is_deaf: bool,
}

impl Read for Heard {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read(bytes)
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.write(bytes) {
            Err(error) if self.is_deaf || matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.is_deaf = true;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_deaf { Ok(()) } else { self.socket.flush() }
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

/// Sends a request by plain HTTP and reads the whole answer.
///
/// # Panics
/// When nobody answers, or the answer breaks off.
#[track_caller]
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    Client::default().send(method, url, headers, body)
}

/// Sends a request by plain HTTP and reads the head of the answer.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn begin(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Incoming {
    Client::default().begin(method, url, headers, body)
}

/// Asks the server at `url` for `path` by another name of its host.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn send_as(method: &str, url: &str, host: &str, path: &str) -> Answer {
    whole(method, Client::default().exchange(method, &format!("{url}{path}"), Some(host), &[], "Content-Length: 0", &[]))
}

/// Text as a part of a URL: everything but letters, digits and `-._~` is escaped (RFC 3986 §2.3).
pub fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[track_caller]
fn whole(method: &str, incoming: Incoming) -> Answer {
    let Incoming { status, mut body, head } = incoming;
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    assert!(header(&head, "transfer-encoding").is_none(), "this client does not read chunks: {head}");
    let mut content = Vec::new();
    if method == "HEAD" {
        body.read_to_end(&mut content).unwrap_or_else(|error| panic!("the connection stays open: {error}: {head}"));
        assert!(content.is_empty(), "an answer to HEAD with a body: {head}");
    } else if status != 304 {
        content.resize(length, 0);
        body.read_exact(&mut content).unwrap_or_else(|error| panic!("the answer broke off: {error}: {head}"));
    }
    Answer { status, body: content, head }
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
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_else(|| panic!("not a URL of HTTP: {url}"));
    rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash))
}

/// Reads a head, and nothing of what comes after it.
fn read_head(connection: &mut impl BufRead) -> io::Result<String> {
    let mut head = Vec::new();
    let mut lines = connection.take(HEAD_BYTES_MAX);
    while !head.ends_with(b"\r\n\r\n") {
        if lines.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
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
