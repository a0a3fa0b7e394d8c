//! A receiver of webhooks: takes every event.
//!
//! Not here: receivers that fail; the crate `node` tests those.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

/// Listens until the test process ends.
#[derive(Clone, Debug)]
pub struct Receiver {
    address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    /// Starts it.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let receiver = Self { address: listener.local_addr().expect("a listener has an address"), events: Arc::default() };
        let events = receiver.events.clone();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                while let Some(body) = take_request(&socket) {
                    let envelope: Value = serde_json::from_slice(&body).expect("an envelope is JSON");
                    let sent = envelope["events"].as_array().cloned().unwrap_or_default();
                    events.lock().unwrap_or_else(PoisonError::into_inner).extend(sent);
                    let _ = (&socket).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        receiver
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// The events that it got, in order.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn take_request(socket: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
