//! Parts of a real file over real sockets: one by one, through hyper, and when something goes wrong in between.

use std::io::Write as _;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::response::Response;
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::transport::meter::Meter;

const FILE_BYTES: usize = 5_000_000;

/// No two parts of it are the same.
static CONTENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..1_250_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect());

fn file() -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&CONTENT).unwrap();
    Arc::new(file)
}

async fn pair() -> (FileSocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (FileSocket::new(listener.accept().await.unwrap().0), client)
}

async fn write(socket: &mut FileSocket, bufs: &[&[u8]]) -> io::Result<usize> {
    let bufs: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
    socket.write_vectored(&bufs).await
}

#[tokio::test]
async fn bytes_and_parts_arrive_in_their_order_whatever_the_socket_takes() {
    let (mut socket, mut client) = pair().await;
    let file = file();
    let read = tokio::spawn(async move {
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.map(|_| read)
    });
    let mut expected = Vec::new();
    for round in 0..3 * PARTS_MAX {
        let (one, other) = (round * 1000, 4_000_000 - round);
        let bytes = PART_BYTES_MAX - round;
        let mut left = vec![Bytes::from_static(b"head")];
        for offset in [one, other] {
            left.push(socket.handover().stand_in(&file, offset as u64, bytes.min(FILE_BYTES - offset)).unwrap());
        }
        left.push(Bytes::from_static(b"tail"));
        expected.extend([b"head", &CONTENT[one..one + bytes], &CONTENT[other..FILE_BYTES.min(other + bytes)], b"tail"].concat());
        while !left.is_empty() {
            let bufs: Vec<&[u8]> = left.iter().map(|buf| &buf[..]).collect();
            let mut written = write(&mut socket, &bufs).await.unwrap();
            left.retain_mut(|buf| {
                let sent = written.min(buf.len());
                drop(buf.split_to(sent));
                written -= sent;
                !buf.is_empty()
            });
        }
    }
    drop(socket);
    assert!(read.await.unwrap().unwrap() == expected);
}

/// What becomes of two stand-ins on their way.
type Spoil = fn([Bytes; 2]) -> Vec<Bytes>;

#[tokio::test]
async fn a_stand_in_that_was_copied_dropped_repeated_or_moved_is_refused() {
    let file = file();
    let hand_over = |socket: &FileSocket| [0, 1000].map(|offset| socket.handover().stand_in(&file, offset, 1000).unwrap());
    let spoilt: [Spoil; 7] = [
        |[one, other]| vec![Bytes::copy_from_slice(&one), other],
        |[one, other]| vec![one, Bytes::copy_from_slice(&other)],
        |[_, other]| vec![other],
        |[one, _]| vec![one],
        |[one, other]| vec![one.clone(), one, other],
        |[one, other]| vec![other, one],
        |[one, other]| vec![one.slice(..999), other],
    ];
    for (number, spoil) in spoilt.into_iter().enumerate() {
        let (mut socket, mut client) = pair().await;
        let bufs = spoil(hand_over(&socket));
        let bufs: Vec<&[u8]> = std::iter::once(&b"head"[..]).chain(bufs.iter().map(|buf| &buf[..])).collect();
        assert_eq!(write(&mut socket, &bufs).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{number}");
        drop(socket);
        assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0, "{number}");
    }
    let (socket, (mut other, _client)) = (pair().await.0, pair().await);
    let [of_another_connection, _] = hand_over(&socket);
    assert_eq!(write(&mut other, &[&of_another_connection]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_file_that_ends_early_is_an_error() {
    let (mut socket, _client) = pair().await;
    let part = socket.handover().stand_in(&file(), FILE_BYTES as u64 - 10, 20).unwrap();
    assert_eq!(write(&mut socket, &[&part]).await.unwrap(), 10);
    assert_eq!(write(&mut socket, &[&part[10..]]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_is_too_much_is_not_taken() {
    let (socket, file) = (pair().await.0, file());
    assert!(socket.handover().stand_in(&file, 0, PART_BYTES_MAX + 1).is_none());
    for _ in 0..PARTS_MAX {
        socket.handover().stand_in(&file, 0, 1).unwrap();
    }
    assert!(socket.handover().stand_in(&file, 0, 1).is_none());
}

/// A listener that answers `/OFFSET/BYTES` with a part of the file, and `/copied` with one that went through other hands.
async fn serve() -> (std::net::SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let file = file();
    let other = Arc::clone(&file);
    let range = |Path((offset, bytes)): Path<(usize, usize)>, request: Request| async move { part(&file, offset, bytes, &request) };
    let copied = |request: Request| async move {
        let body = part(&other, 0, FILE_BYTES, &request).into_body().into_data_stream();
        Body::from_stream(body.map(|bytes| bytes.map(|bytes| Bytes::copy_from_slice(&bytes))))
    };
    let router = Router::new().route("/{offset}/{bytes}", get(range)).route("/copied", get(copied));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(crate::listener::serve(listener, None, Meter::new(None), router, stopped));
    (address, stop)
}

/// Parts of different sizes, with read bytes between them.
fn part(file: &Arc<File>, offset: usize, bytes: usize, request: &Request) -> Response {
    let handover = request.extensions().get::<Handover>().cloned();
    let file = Arc::clone(file);
    let parts = stream::unfold(offset, move |at| {
        let left = (offset + bytes - at).min(70_000 + at % 1000);
        let stand_in = handover.as_ref().filter(|_| at % 3 > 0).and_then(|handover| handover.stand_in(&file, at as u64, left));
        let next = stand_in.unwrap_or_else(|| CONTENT[at..at + left].to_vec().into());
        async move { (left > 0).then_some((Ok::<_, io::Error>(next), at + left)) }
    });
    Response::builder().header("content-length", bytes).body(Body::from_stream(parts)).unwrap()
}

#[tokio::test]
async fn pipelined_answers_are_whole_and_in_order() {
    let (address, _stop) = serve().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let ranges: Vec<(usize, usize)> = (0..40).map(|n| (n * 100_001, 1 + n * 7_777 % 300_000)).collect();
    for (offset, bytes) in &ranges {
        client.write_all(format!("GET /{offset}/{bytes} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    }
    for (offset, bytes) in ranges {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"));
        let mut body = vec![0; bytes];
        client.read_exact(&mut body).await.unwrap();
        assert!(body == CONTENT[offset..offset + bytes], "{offset} {bytes}");
    }
}

#[tokio::test]
async fn a_download_that_is_given_up_harms_no_other() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (address, _stop) = serve().await;
    for read in [1, 100_000, 1_000_000] {
        let mut gone = TcpStream::connect(address).await.unwrap();
        gone.write_all(format!("GET /0/{FILE_BYTES} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        gone.read_exact(&mut vec![0; read]).await.unwrap();
        let whole = reqwest::get(format!("http://{address}/1/4000000"));
        drop(gone);
        assert!(whole.await.unwrap().bytes().await.unwrap() == CONTENT[1..4_000_001]);
    }
}

#[tokio::test]
async fn a_body_that_was_copied_on_its_way_breaks_the_connection_before_a_byte_of_it() {
    let (address, _stop) = serve().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /copied HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(answer.len() < 70_000 + 1000, "{}", answer.len());
    assert!(!answer.windows(64).any(|bytes| bytes == [0; 64]));
}

#[tokio::test]
async fn http_2_hands_nothing_over() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (address, _stop) = serve().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("http://{address}/7/3000000")).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == CONTENT[7..3_000_007]);
}
