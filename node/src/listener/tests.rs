//! A listener on a real socket, with clients that are slow, silent or late.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// Long against what a test takes, so that only what a test sets happens.
const LONG: Times = Times {
    patience: Patience { first: Duration::from_secs(30), between: Duration::from_secs(30) },
    pace: Pace { window: Duration::from_secs(30), bytes_least: 1, idle_max: Duration::from_secs(30) },
    linger: Bounds { bytes_max: 64 << 20, time_max: Duration::from_secs(30) },
    drain: Duration::from_secs(30),
};

const REFUSED: &str = "POST /refused HTTP/1.1\r\nhost: localhost\r\n";

struct World {
    address: SocketAddr,
    meter: Meter,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

impl World {
    async fn start(times: Times) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let meter = Meter::new(None);
        let endless =
            || async { Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 64 << 10])))) };
        let whole =
            |request: Request| async { request.into_body().collect().await.map(|_| "whole").map_err(|_| StatusCode::REQUEST_TIMEOUT) };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/endless", get(endless))
            .route("/whole", post(whole))
            .route("/refused", post(|| async { StatusCode::FORBIDDEN }));
        let connections = Connections { times, acceptor: None, admission: None, meter: meter.clone(), router, stop: stopped };
        let served = tokio::spawn(connections.serve(listener));
        Self { address, meter, stop, served }
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }
}

/// Everything that comes until the server closes the connection.
async fn to_the_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the connection was left open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_silent_connection_is_closed_before_and_after_a_request() {
    let patience = Patience { first: MILLIS(50), between: MILLIS(300) };
    let world = World::start(Times { patience, ..LONG }).await;
    for request in ["", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = world.connect(request).await;
        assert_eq!(to_the_end(&mut client).await.ends_with("here"), request.starts_with("GET"));
    }
}

#[tokio::test]
async fn a_body_that_drips_is_given_up_and_one_that_keeps_the_pace_is_not() {
    let pace = Pace { window: MILLIS(400), bytes_least: 64, ..LONG.pace };
    let world = World::start(Times { pace, ..LONG }).await;
    for (bytes, status, too_slow) in [(1, "408", 1), (64, "200", 1)] {
        let head = "POST /whole HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 640\r\n\r\n";
        let client = world.connect(head).await;
        let (mut read, mut write) = client.into_split();
        let drip = tokio::spawn(async move {
            for _ in 0..640 / bytes {
                if write.write_all(&vec![0; bytes]).await.is_err() {
                    return;
                }
                tokio::time::sleep(MILLIS(80)).await;
            }
        });
        let mut answer = [0; 12];
        tokio::time::timeout(Duration::from_secs(10), read.read_exact(&mut answer)).await.expect("there is an answer").unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
        assert_eq!(world.meter.too_slow(), too_slow);
        drip.abort();
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_over_http_1_and_2() {
    let pace = Pace { window: MILLIS(200), bytes_least: 100, ..LONG.pace };
    let world = World::start(Times { pace, ..LONG }).await;
    let mut client = world.connect("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    closes(&world, 1).await;
    drop(client.read_u8().await);

    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("http://{}/endless", world.address)).send().await.unwrap();
    closes(&world, 2).await;
    drop(answer);
}

async fn closes(world: &World, too_slow: u64) {
    for _ in 0..1000 {
        if world.meter.too_slow() == too_slow && world.meter.open() == 0 {
            return;
        }
        tokio::time::sleep(MILLIS(10)).await;
    }
    panic!("{} were too slow, {} are open", world.meter.too_slow(), world.meter.open());
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed_although_its_pings_are_answered() {
    let pace = Pace { window: MILLIS(100), idle_max: MILLIS(200), ..LONG.pace };
    let world = World::start(Times { pace, ..LONG }).await;
    let mut client = world.connect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    for _ in 0..1000 {
        if client.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.is_err() {
            return;
        }
        tokio::time::sleep(MILLIS(10)).await;
    }
    panic!("the connection is open for ever");
}

#[tokio::test]
async fn a_head_with_too_many_or_too_large_headers_is_431() {
    let world = World::start(LONG).await;
    let many = "x: y\r\n".repeat(100);
    let large = format!("x: {}\r\n", "y".repeat(200_000));
    for headers in [many, large] {
        let mut client = TcpStream::connect(world.address).await.unwrap();
        let (mut read, mut write) = client.split();
        let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        let mut answer = [0; 12];
        let (_, read) = tokio::join!(write.write_all(request.as_bytes()), read.read_exact(&mut answer));
        read.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}

#[tokio::test]
async fn draining_lets_a_request_end_and_closes_its_connection_and_refuses_new_ones() {
    let world = World::start(LONG).await;
    let requests = ["GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "POST /whole HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nbo"];
    let mut idle = world.connect(requests[0]).await;
    idle.read_exact(&mut [0; 12]).await.unwrap();
    let mut busy = world.connect(requests[1]).await;
    while world.meter.read() < requests.concat().len() as u64 {
        tokio::time::sleep(MILLIS(5)).await;
    }
    world.stop.send(true).unwrap();
    to_the_end(&mut idle).await;
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::time::sleep(MILLIS(5)).await;
    }
    assert!(!world.served.is_finished());
    busy.write_all(b"dy").await.unwrap();
    let answer = to_the_end(&mut busy).await;
    assert!(answer.contains("connection: close") && answer.ends_with("whole"), "{answer}");
    world.served.await.unwrap();
}

#[tokio::test]
async fn draining_does_not_wait_for_ever() {
    let world = World::start(Times { drain: MILLIS(100), ..LONG }).await;
    let _busy = world.connect("POST /whole HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nbo").await;
    while world.meter.open() < 1 {
        tokio::time::sleep(MILLIS(5)).await;
    }
    world.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(10), world.served).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_request_that_is_refused_before_its_body_has_come_gets_its_answer_and_the_next_one_too() {
    let world = World::start(LONG).await;
    let body = vec![0; 8 << 20];
    let mut client = world.connect(&format!("{REFUSED}content-length: {}\r\n\r\n", body.len())).await;
    client.write_all(&body).await.expect("the body is taken");
    client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let answers = to_the_end(&mut client).await;
    assert!(answers.starts_with("HTTP/1.1 403") && answers.ends_with("here"), "{answers}");
}

#[tokio::test]
async fn of_a_refused_body_no_more_is_read_than_the_bounds_say() {
    for linger in [Bounds { bytes_max: 1 << 20, ..LONG.linger }, Bounds { time_max: MILLIS(100), ..LONG.linger }] {
        let world = World::start(Times { linger, ..LONG }).await;
        let mut client = world.connect(&format!("{REFUSED}content-length: {}\r\n\r\n", 1_u64 << 40)).await;
        let sending = async {
            while client.write_all(&[0; 64 << 10]).await.is_ok() {
                tokio::time::sleep(MILLIS(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), sending).await.expect("the connection is closed");
        assert!(world.meter.read() < 32 << 20, "{} B were read", world.meter.read());
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_not_asked_when_it_is_refused() {
    let world = World::start(LONG).await;
    let mut client = world.connect(&format!("{REFUSED}expect: 100-continue\r\ncontent-length: 9\r\n\r\n")).await;
    let answer = to_the_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}
