//! The registry under test: requests, and what must hold of every answer.
//!
//! Not here: which requests make a case.

use serde_json::Value;

use crate::http::{Answer, Client, Incoming};
use crate::seed::{Organisation, Seed};

/// Error codes of the distribution specification, and the one that registries use for their own failures.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNKNOWN",
    "UNSUPPORTED",
];

/// A registry, and what a client of it sends to be let in.
#[derive(Clone, Debug)]
pub struct Registry {
    url: String,
    authorization: Option<String>,
    client: Client,
}

/// A request that was not sent yet.
#[derive(Debug)]
pub struct Request {
    client: Client,
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Whole(Vec<u8>),
    Streamed(Vec<u8>),
}

/// An answer, with the request that it is to.
#[derive(Debug)]
pub struct Reply {
    request: String,
    answer: Answer,
}

impl Registry {
    /// That of a seed, asked with a key of an organisation.
    pub fn new(seed: &Seed, org: &Organisation) -> Self {
        let authorization = Some(format!("Bearer {}", org.access_key));
        Self { url: seed.url().to_owned(), authorization, client: seed.client() }
    }

    /// The same registry, asked without credentials.
    pub fn anonymous(&self) -> Self {
        Self { authorization: None, ..self.clone() }
    }

    /// The same registry, asked with this value of `Authorization`.
    pub fn authorized_by(&self, authorization: impl Into<String>) -> Self {
        Self { authorization: Some(authorization.into()), ..self.clone() }
    }

    /// A request to a path, or to a `Location` that the registry gave.
    pub fn ask(&self, method: &'static str, target: &str) -> Request {
        let url = if target.starts_with('/') { format!("{}{target}", self.url) } else { target.to_owned() };
        let headers = self.authorization.iter().map(|value| ("Authorization", value.clone())).collect();
        Request { client: self.client.clone(), method, url, headers, body: Body::Whole(Vec::new()) }
    }
}

impl Request {
    /// The same request with another header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same request from somebody without a key.
    pub fn anonymous(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != "Authorization");
        self
    }

    /// The same request with a body of this media type.
    pub fn body(self, media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self { body: Body::Whole(bytes.to_vec()), ..self.header("Content-Type", media_type) }
    }

    /// The same request with a body of bytes.
    pub fn octets(self, bytes: &[u8]) -> Self {
        self.body("application/octet-stream", bytes)
    }

    /// The same request with a body of bytes whose length is not said.
    pub fn streamed(self, bytes: &[u8]) -> Self {
        Self { body: Body::Streamed(bytes.to_vec()), ..self.header("Content-Type", "application/octet-stream") }
    }

    /// Sends it. Whatever a client did wrong is answered with an error that it can read.
    ///
    /// # Panics
    /// When nobody answers, or an error has no error code.
    #[track_caller]
    pub fn answer(self) -> Reply {
        let Self { client, method, url, headers, body } = self;
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = match body {
            Body::Whole(bytes) => client.send(method, &url, &headers, &bytes),
            Body::Streamed(bytes) => client.stream(method, &url, &headers, &bytes.chunks(bytes.len() / 3 + 1).collect::<Vec<_>>()),
        };
        let reply = Reply { request: format!("{method} {url}"), answer };
        if reply.answer.status >= 400 && method != "HEAD" {
            let code = reply.code();
            assert!(CODES.contains(&code.as_str()), "{}: {code:?} is no error code: {}", reply.request, reply.answer.text());
        }
        reply
    }

    /// Sends it, and reads no more than the head of the answer.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn begin(self) -> Incoming {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let Body::Whole(bytes) = &self.body else { panic!("{} {}: a stream is sent to its end", self.method, self.url) };
        self.client.begin(self.method, &self.url, &headers, bytes)
    }

    /// Sends it; the answer must have this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn gives(self, status: u16) -> Reply {
        let reply = self.answer();
        assert_eq!(reply.answer.status, status, "the status of {}: {}", reply.request, reply.text());
        reply
    }

    /// Sends it; the answer must be this error.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Reply {
        let reply = self.gives(status);
        assert_eq!(reply.code(), code, "the error of {}: {}", reply.request, reply.text());
        reply
    }
}

impl Reply {
    /// The status.
    pub const fn status(&self) -> u16 {
        self.answer.status
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// All values of a header that is a list.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.answer.headers(name).into_iter().flat_map(|line| line.split(',')).map(str::trim).collect()
    }

    /// Checks a header.
    ///
    /// # Panics
    /// When it is missing or different.
    #[track_caller]
    pub fn with(self, name: &str, value: impl Into<String>) -> Self {
        assert_eq!(self.header(name).map(str::to_owned), Some(value.into()), "the header {name} of the answer to {}", self.request);
        self
    }

    /// Checks how many bytes the answer says that it has.
    #[track_caller]
    pub fn with_length(self, bytes: usize) -> Self {
        self.with("Content-Length", bytes.to_string())
    }

    /// Checks that a header is not there.
    ///
    /// # Panics
    /// When it is.
    #[track_caller]
    pub fn without(self, name: &str) -> Self {
        assert_eq!(self.header(name), None, "the header {name} of the answer to {}", self.request);
        self
    }

    /// Checks the body, byte by byte, and its length.
    ///
    /// # Panics
    /// When it is different.
    #[track_caller]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let found = &self.answer.body;
        assert!(
            found == bytes,
            "the body of the answer to {} has {} bytes and not the {} expected",
            self.request,
            found.len(),
            bytes.len()
        );
        self.with_length(bytes.len())
    }

    /// Where the answer leads; every one that has to lead somewhere must say so.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn location(&self) -> String {
        self.header("Location").unwrap_or_else(|| panic!("{}: no Location", self.request)).to_owned()
    }

    /// The path of the next page, if the answer says that there is one.
    ///
    /// # Panics
    /// When it says so in a way that clients do not read.
    #[track_caller]
    pub fn next(&self) -> Option<String> {
        let link = self.header("Link")?;
        let path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        Some(path.unwrap_or_else(|| panic!("{}: the Link is {link}", self.request)).to_owned())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.answer.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.request, self.text()))
    }

    fn text(&self) -> String {
        self.answer.text().chars().take(500).collect()
    }

    #[track_caller]
    fn code(&self) -> String {
        let body = self.json();
        let (code, message) = (&body["errors"][0]["code"], &body["errors"][0]["message"]);
        assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{}: the error says nothing: {body}", self.request);
        let is_json = self.header("Content-Type").is_some_and(|media_type| media_type.starts_with("application/json"));
        assert!(is_json, "{}: the error is not said to be JSON", self.request);
        code.as_str().unwrap_or_else(|| panic!("{}: no error code: {body}", self.request)).to_owned()
    }
}
