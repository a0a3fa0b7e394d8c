//! HTTP servers: accept, TLS if configured, serve, and drain when told to stop.
//!
//! Not here: routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::transport::identity::DeviceIdentity;
use crate::transport::meter::{Meter, Metered, Patience};

/// A client has this long to finish its TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The head of a request has this long to arrive (HTTP/1.1).
const HEAD_TIME: Duration = Duration::from_secs(60);
/// A connection whose first byte does not come within the one time, after it was accepted and again after its handshake, or
/// that stands still for the other, is closed: uploads and the slowest pulls move a byte much more often, and a device whose
/// connection was closed between two polls connects anew.
const PATIENCE: Patience = Patience { first: Duration::from_secs(10), between: Duration::from_secs(60) };
/// Bytes of a connection (HTTP/1.1) that wait to be parsed or sent, and so the longest head of a request: few system calls
/// for a large body, and still in the cache of one core when its turn comes.
const BUFFER_BYTES: usize = 128 << 10;
/// Open connections of one listener; each costs some tens of KiB.
const CONNECTIONS_MAX: usize = 4096;
/// Requests that are under way when the process is told to stop have this long to end.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);
/// After accepting fails, for example because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is on the other end, as an extension of each request.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// The device that its certificate names, on a listener that asks for one.
    pub device: Option<DeviceIdentity>,
}

/// Takes an address to listen on.
///
/// # Errors
/// When it is taken or not ours, with the flag that chooses another.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let hint = "is another process using it? choose another with";
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; {hint} {flag}"))
}

/// Serves `router` until `stop` says so, then lets requests that are under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    meter: Meter,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    serve_with(PATIENCE, listener, tls, meter, router, stop).await;
}

async fn serve_with(
    patience: Patience,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    meter: Meter,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%address, "too many connections; one was closed");
            continue;
        };
        let (acceptor, meter, router, watcher) = (acceptor.clone(), meter.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let _ = socket.set_nodelay(true);
            let mut socket = Metered::new(socket, meter);
            socket.be_patient(patience);
            match acceptor {
                None => serve_connection(socket, Client { address, device: None }, router, watcher).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(socket)).await {
                    Ok(Ok(mut stream)) => {
                        let (socket, session) = stream.get_mut();
                        // A request that came along with the end of the handshake was the first byte.
                        if session.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() == 0) {
                            socket.be_patient(patience);
                        }
                        let device = device_of(&stream);
                        serve_connection(stream, Client { address, device }, router, watcher).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
                },
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = DRAIN_TIME.as_secs(), "requests were still under way when the time to drain was over");
    }
}

fn device_of(stream: &tokio_rustls::server::TlsStream<Metered<TcpStream>>) -> Option<DeviceIdentity> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    DeviceIdentity::from_certificate(leaf).ok()
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(client.clone());
        let router = router.clone();
        async move {
            let request: Request = request.map(axum::body::Body::new);
            tower_service::Service::call(&mut router.clone(), request).await
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER_BYTES);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error = %error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_silent_connection_is_closed_before_and_after_a_request() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let patience = Patience { first: Duration::from_millis(50), between: Duration::from_millis(300) };
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        tokio::spawn(serve_with(patience, listener, None, Meter::new(None), router, stopped));
        for request in ["", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "{request:?} left the connection open");
            assert_eq!(answer.ends_with(b"here"), request.starts_with("GET"));
        }
    }
}
