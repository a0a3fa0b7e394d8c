//! What goes over a connection: a server's second address, which passes everything on and counts what clients send.
//!
//! Not here: what the bytes mean; over TLS nobody in between can tell.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Another port at a server's address. It is gone when dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Wire {
    /// Listens beside the server at `host`, an IP address with a port, so that the server's certificate fits.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn to(host: &str) -> Self {
        let server: SocketAddr = host.parse().unwrap_or_else(|error| panic!("{host} is no address: {error}"));
        let listener = TcpListener::bind((server.ip(), 0)).expect("a port can be listened on");
        let address = listener.local_addr().expect("a listener has an address");
        let wire = Self { address, sent: Arc::default(), ended: Arc::default() };
        let (sent, ended) = (wire.sent.clone(), wire.ended.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client whose server is gone sees its connection close.
                let _ = join(client, server, &sent);
            }
        });
        wire
    }

    /// Its address, as container tools want it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many bytes clients sent to the server while `action` ran.
    pub fn sent_during(&self, action: impl FnOnce()) -> u64 {
        let before = self.sent.load(Ordering::Relaxed);
        action();
        self.sent.load(Ordering::Relaxed) - before
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The listener looks at the flag when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(client: TcpStream, server: SocketAddr, sent: &Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (from_client, to_client) = (client.try_clone()?, client);
    let (from_server, to_server) = (server.try_clone()?, server);
    let sent = sent.clone();
    thread::spawn(move || pass_on(from_client, to_server, &sent));
    thread::spawn(move || pass_on(from_server, to_client, &AtomicU64::new(0)));
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
