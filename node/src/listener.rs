//! HTTP servers: accept, TLS if configured, serve, and drain when told to stop.
//!
//! | module | holds |
//! |---|---|
//! | `pace` | the least rate at which bodies and answers must move, and idle connections |
//! | `linger` | bodies of requests that were answered before they had come |
//! | [`handover`] | parts of files that the kernel sends itself |
//!
//! Draining: new connections are refused; connections without a request are closed, the others with the answer to theirs
//! (`connection: close`, or GOAWAY); what is still under way after [`DRAIN_TIME`] is cut off.
//!
//! Not here: routes.

pub mod handover;
mod linger;
mod pace;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::Version;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::descriptors;
use crate::transport::admission::{Admission, Anchors};
use crate::transport::identity::DeviceLeaf;
use crate::transport::meter::{Meter, Metered, Patience};
use handover::{FileSocket, Handover};
use linger::{Bounds, Lingering};
use pace::{Activity, Answer, Pace, Paced, Verdict, Watch};

/// A client has this long to finish its TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The head of a request has this long to arrive (HTTP/1.1). It may have 100 headers, which is hyper's limit, and
/// [`BUFFER_BYTES`]; what is more gets 431.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// The most bytes of the headers of one request (HTTP/2), as its client is told; what is more gets 431.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Requests under way on one connection (HTTP/2): far more than any client of a registry sends.
const STREAMS_MAX: u32 = 200;
/// A connection whose first byte does not come within the one time, after it was accepted and again after its handshake, or
/// that stands still for the other, is closed: uploads and the slowest pulls move a byte much more often, and a device whose
/// connection was closed between two polls connects anew.
const PATIENCE: Patience = Patience { first: Duration::from_secs(10), between: Duration::from_secs(60) };
/// Bytes of a connection (HTTP/1.1) that wait to be parsed or sent, and so the longest head of a request: few system calls
/// for a large body, and still in the cache of one core when its turn comes.
const BUFFER_BYTES: usize = 128 << 10;
/// A body that is waited for, and a connection whose client does not read its answers, must move 60 KiB a minute. That is
/// 1 KiB/s: thirty uploads at once over a link of 2 Mbit/s have 8 KiB/s each. A connection without a request (HTTP/2, where
/// pings keep it open) has ten minutes.
const PACE: Pace = Pace { window: Duration::from_secs(60), bytes_least: 60 << 10, idle_max: Duration::from_secs(600) };
/// What is still read of a body whose request was answered before. A gigabit link has 1 MiB under way in 8 ms, and clients that
/// listen while they send stop then; five seconds are for the others, and for links with a long way.
const LINGER: Bounds = Bounds { bytes_max: 16 << 20, time_max: Duration::from_secs(5) };
/// Open connections of one listener, if there are descriptors for them; each costs some tens of KiB.
const CONNECTIONS_MAX: u32 = 4096;
/// Requests that are under way when the process is told to stop have this long to end.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);
/// After accepting fails, for example because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a listener bears with its clients.
#[derive(Clone, Copy, Debug)]
struct Times {
    patience: Patience,
    pace: Pace,
    linger: Bounds,
    drain: Duration,
}

const TIMES: Times = Times { patience: PATIENCE, pace: PACE, linger: LINGER, drain: DRAIN_TIME };

/// Who is on the other end, as an extension of each request.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate says, on a listener that asks for one.
    pub device: Option<DeviceLeaf>,
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
    let connections = Connections { times: TIMES, acceptor: tls.map(TlsAcceptor::from), admission: None, meter, router, stop };
    connections.serve(listener).await;
}

/// Serves `router` to devices as [`serve`] does; a connection whose device would not be let in any more, because its key is
/// revoked or its authority removed, is closed at once.
pub async fn serve_devices(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    admission: Arc<Admission>,
    meter: Meter,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    let connections = Connections { times: TIMES, acceptor: Some(TlsAcceptor::from(tls)), admission: Some(admission), meter, router, stop };
    connections.serve(listener).await;
}

/// What every connection of one listener has in common.
#[derive(Clone)]
struct Connections {
    times: Times,
    acceptor: Option<TlsAcceptor>,
    admission: Option<Arc<Admission>>,
    meter: Meter,
    router: Router,
    stop: watch::Receiver<bool>,
}

impl Connections {
    async fn serve(mut self, listener: TcpListener) {
        let most = descriptors::connections(CONNECTIONS_MAX);
        let places = Arc::new(Semaphore::new(most as usize));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.stop.wait_for(|stop| *stop) => break,
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
                self.meter.count_refused();
                tracing::warn!(%address, "too many connections; one was closed");
                continue;
            };
            let connections = self.clone();
            tokio::spawn(async move {
                let _place = place;
                connections.connect(socket, address).await;
            });
        }
        drop(listener);
        if tokio::time::timeout(self.times.drain, places.acquire_many(most)).await.is_err() {
            tracing::warn!(seconds = self.times.drain.as_secs(), "requests were still under way when the time to drain was over");
        }
    }

    async fn connect(mut self, socket: TcpStream, address: SocketAddr) {
        let _ = socket.set_nodelay(true);
        let Some(acceptor) = self.acceptor.clone() else {
            let socket = FileSocket::new(socket);
            // A meter with a rate parts what is written together.
            let handover = (!self.meter.has_rate()).then(|| socket.handover());
            let (socket, watch) = self.metered(socket);
            return self.serve_requests(socket, Client { address, device: None }, handover, watch, None).await;
        };
        let (socket, watch) = self.metered(socket);
        let trusted = self.admission.clone().map(|admission| {
            let anchors = admission.anchors();
            (admission, anchors)
        });
        let handshake = tokio::select! {
            handshake = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(socket)) => handshake,
            _ = self.stop.wait_for(|stop| *stop) => return,
        };
        match handshake {
            Ok(Ok(mut stream)) => {
                let (socket, session) = stream.get_mut();
                // A request that came along with the end of the handshake was the first byte.
                if session.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() == 0) {
                    socket.be_patient(self.times.patience);
                }
                let device = device_of(&stream);
                self.serve_requests(stream, Client { address, device }, None, watch, trusted).await;
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        }
    }

    fn metered<S>(&self, socket: S) -> (Metered<S>, Watch) {
        let mut socket = Metered::new(socket, self.meter.clone());
        socket.be_patient(self.times.patience);
        let watch = Watch::new(self.times.pace, Activity::default(), socket.bytes_moved());
        (socket, watch)
    }

    async fn serve_requests(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: Client,
        handover: Option<Handover>,
        mut watch: Watch,
        trusted: Option<(Arc<Admission>, Arc<Anchors>)>,
    ) {
        let address = client.address;
        let device = client.device.clone();
        let mut excluded = pin!(async move {
            match (trusted, &device) {
                (Some((admission, anchors)), Some(leaf)) => admission.exclusion_of(leaf, anchors).await,
                _ => std::future::pending().await,
            }
        });
        let (router, meter, times, activity) = (self.router.clone(), self.meter.clone(), self.times, watch.activity.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(client.clone());
            if let Some(handover) = handover.as_ref().filter(|_| matches!(request.version(), Version::HTTP_10 | Version::HTTP_11)) {
                request.extensions_mut().insert(handover.clone());
            }
            let (head, body) = request.into_parts();
            let body = Lingering::new(Paced::new(body, times.pace, meter.clone()), &head.headers, times.linger);
            let request = hyper::Request::from_parts(head, Body::new(body));
            let mut under_way = activity.begin();
            let answer = tower_service::Service::call(&mut router.clone(), request);
            async move {
                let answer: Result<axum::response::Response, std::convert::Infallible> = answer.await;
                under_way.answered();
                answer.map(|answer| answer.map(|body| Answer::new(body, under_way)))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER_BYTES);
        builder.http2().timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES_MAX).max_concurrent_streams(STREAMS_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%address, %error, "a connection ended with an error");
                    }
                    return;
                }
                verdict = watch.next() => match verdict {
                    Verdict::TooSlow => {
                        self.meter.count_too_slow();
                        tracing::debug!(%address, "a client did not read its answers fast enough; its connection was closed");
                        return;
                    }
                    Verdict::Idle if stopping => return,
                    Verdict::Idle => {
                        stopping = true;
                        connection.as_mut().graceful_shutdown();
                    }
                },
                reason = excluded.as_mut() => {
                    tracing::warn!(event = "connection_closed", %address, reason, "the device would not be let in any more; its connection was closed");
                    return;
                }
                _ = self.stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn device_of(stream: &tokio_rustls::server::TlsStream<Metered<TcpStream>>) -> Option<DeviceLeaf> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    DeviceLeaf::from_certificate(leaf).ok()
}

#[cfg(test)]
mod tests;
