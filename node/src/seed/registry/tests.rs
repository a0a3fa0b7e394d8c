//! The registry over a real socket, request by request as the clients in the field send them.

mod access;
mod uploads;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use protocol::hash_list::HashList;
use protocol::name::OrgName;
use protocol::time::WallTime;
use reqwest::{Client, RequestBuilder, Response as Answer};
use serde_json::Value;

use super::*;
use crate::store::embedded::EmbeddedStore;
use crate::store::meta::{BlobLink, KeyStore as _, RepositoryStore as _, Scope};
use auth::generate_key;
use auth::token::TokenSigner;
use protocol::digest::Digest;
use protocol::oci::route::Reference;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ALL: [Scope; 3] = [Scope::Pull, Scope::Push, Scope::Delete];

/// A registry that listens, with the organisations acme and other.
struct World {
    _dir: tempfile::TempDir,
    address: std::net::SocketAddr,
    store: Arc<EmbeddedStore>,
    blobs: BlobStore,
    client: Client,
    acme: String,
    other: String,
}

impl World {
    async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let blobs = BlobStore::open(dir.path()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate::new(TokenSigner::random(), false, None));
        let router = router(RegistryState::new(store.clone(), blobs.clone(), gate, Arc::default()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let [acme, other] = [add_org(&store, "acme", &ALL).await, add_org(&store, "other", &ALL).await];
        Self { _dir: dir, address, store, blobs, client: Client::new(), acme, other }
    }

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        self.ask_as(&self.acme, method, path)
    }

    fn ask_as(&self, key: &str, method: &str, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(method.parse().unwrap(), url).basic_auth("anyone", Some(key))
    }

    async fn push(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        assert_eq!(send(self.ask("POST", &path).body(content.to_vec())).await.status(), 201);
        digest
    }

    async fn put_manifest(&self, path: &str, manifest: &Value) -> Answer {
        send(self.ask("PUT", path).header("content-type", OCI).body(manifest.to_string())).await
    }
}

async fn add_org(store: &EmbeddedStore, org: &str, scopes: &[Scope]) -> String {
    let org: OrgName = org.parse().unwrap();
    let (key, record) = generate_key(&org, scopes.to_vec()).unwrap();
    store.create_org(&org, record, vec![]).await.unwrap();
    key
}

async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    assert_eq!(header_of(&answer, "docker-distribution-api-version"), "registry/2.0");
    answer
}

fn header_of<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn code(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn takes_a_streamed_upload_as_docker_sends_it() {
    let world = World::start().await;
    let content = content(1_000_000);
    let digest = Digest::sha256(&content);
    let started = send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await;
    assert_eq!((started.status().as_u16(), header_of(&started, "range")), (202, "0-0"));
    let location = header_of(&started, "location").to_owned();
    let empty = send(world.ask("PATCH", &location).body("")).await;
    assert_eq!((empty.status().as_u16(), header_of(&empty, "range")), (202, "0-0"));
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = content.chunks(70_000).map(|chunk| Ok(chunk.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let patched = send(world.ask("PATCH", &location).body(streamed)).await;
    assert_eq!((patched.status().as_u16(), header_of(&patched, "range")), (202, "0-999999"));
    let ended = send(world.ask("PUT", &format!("{location}?digest={digest}"))).await;
    assert_eq!((ended.status().as_u16(), header_of(&ended, "docker-content-digest")), (201, digest.to_string().as_str()));
    let blob = header_of(&ended, "location").to_owned();
    let head = send(world.ask("HEAD", &blob)).await;
    assert_eq!((head.status().as_u16(), header_of(&head, "content-length")), (200, "1000000"));
    let got = send(world.ask("GET", &blob)).await;
    assert_eq!(header_of(&got, "docker-content-digest"), digest.to_string());
    assert!(got.bytes().await.unwrap() == content);
    let list = world.store.hash_list(&digest).await.unwrap().unwrap();
    let bytes = world.blobs.read(&list.digest, 1 << 20).await.unwrap().unwrap();
    assert_eq!(HashList::parse(&bytes, digest, 1_000_000).unwrap().geometry().units(), 16);
    assert_eq!(world.store.org_blob(&"acme".parse().unwrap(), &list.digest).await.unwrap(), Some(list.size));
    assert_eq!(code(send(world.ask("PATCH", &location).body("x")).await).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn takes_whole_blobs_of_either_algorithm_and_refuses_wrong_ones() {
    let world = World::start().await;
    for content in [content(0), content(100_000)] {
        for digest in [Digest::sha256(&content), Digest::sha512(&content)] {
            let start = || world.ask("POST", "/v2/acme/web/blobs/uploads/");
            let location = header_of(&send(start()).await, "location").to_owned();
            let put = send(world.ask("PUT", &format!("{location}?digest={digest}")).body(content.clone())).await;
            assert_eq!((put.status().as_u16(), header_of(&put, "docker-content-digest")), (201, digest.to_string().as_str()));
            let got = send(world.ask("GET", &format!("/v2/acme/web/blobs/{digest}"))).await;
            assert!(got.bytes().await.unwrap() == content);
        }
    }
    let wrong = Digest::sha256(b"wrong");
    for wanted in [wrong.to_string(), "sha256:baddigeststring".into(), "md5:00".into()] {
        let posted = send(world.ask("POST", &format!("/v2/acme/web/blobs/uploads/?digest={wanted}")).body("x")).await;
        assert_eq!(code(posted).await, refused(400, "DIGEST_INVALID"), "{wanted}");
    }
    let location = header_of(&send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await, "location").to_owned();
    assert_eq!(code(send(world.ask("PUT", &location)).await).await, refused(400, "DIGEST_INVALID"));
    assert_eq!(code(send(world.ask("PUT", &format!("{location}?digest={wrong}")).body("x")).await).await, refused(400, "DIGEST_INVALID"));
    assert_eq!(send(world.ask("HEAD", &format!("/v2/acme/web/blobs/{wrong}"))).await.status(), 404);
}

#[tokio::test]
async fn takes_chunks_in_order_and_goes_on_after_a_wrong_one() {
    let world = World::start().await;
    let digest = Digest::sha256(b"hedgerow");
    let location = header_of(&send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await, "location").to_owned();
    let chunk =
        |method: &str, path: &str, range: &str, body: &'static str| world.ask(method, path).header("content-range", range).body(body);
    let first = send(chunk("PATCH", &location, "0-4", "hedge")).await;
    assert_eq!((first.status().as_u16(), header_of(&first, "range")), (202, "0-4"));
    let early = send(chunk("PATCH", &location, "6-7", "ow")).await;
    assert_eq!((header_of(&early, "range"), header_of(&early, "location")), ("0-4", location.as_str()));
    assert_eq!(code(early).await, refused(416, "BLOB_UPLOAD_INVALID"));
    assert_eq!(send(chunk("PATCH", &location, "0-4", "hedge")).await.status(), 416);
    assert_eq!(code(send(chunk("PATCH", &location, "5-9", "row")).await).await, refused(400, "SIZE_INVALID"));
    assert_eq!(code(send(chunk("PATCH", &location, "bytes 5-7", "row")).await).await, refused(400, "BLOB_UPLOAD_INVALID"));
    let status = send(world.ask("GET", &location)).await;
    assert_eq!((status.status().as_u16(), header_of(&status, "range")), (204, "0-4"));
    let end = format!("{location}?digest={digest}");
    assert_eq!(send(chunk("PUT", &end, "6-7", "ow")).await.status(), 416);
    assert_eq!(send(chunk("PUT", &end, "5-7", "row")).await.status(), 201);
}

#[tokio::test]
async fn an_upload_can_be_given_up() {
    let world = World::start().await;
    let location = header_of(&send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await, "location").to_owned();
    let elsewhere = location.replace("acme/web", "acme/api");
    assert_eq!(send(world.ask("DELETE", &elsewhere)).await.status(), 404);
    assert_eq!(send(world.ask("DELETE", &location)).await.status(), 204);
    assert_eq!(code(send(world.ask("GET", &location)).await).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn what_announces_more_than_may_come_is_refused_before_it_comes() {
    let world = World::start().await;
    let location = header_of(&send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await, "location").to_owned();
    for (method, path) in [("PATCH", location.as_str()), ("PUT", "/v2/acme/web/manifests/large")] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 999999999999999\r\n\r\n",
            world.acme
        );
        let mut connection = tokio::net::TcpStream::connect(world.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut connection, head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut connection, &mut status).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 413", "{method}");
    }
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on() {
    let world = World::start().await;
    let location = header_of(&send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await, "location").to_owned();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 300000\r\n\r\n", world.acme);
    let content = content(300_000);
    let mut connection = tokio::net::TcpStream::connect(world.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection, &[head.as_bytes(), &content[..200_000]].concat()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    drop(connection);
    let mut received = String::new();
    for _ in 0..50 {
        received = header_of(&send(world.ask("GET", &location)).await, "range").to_owned();
        if received != "0-0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(received, "0-199999");
    let rest = world.ask("PATCH", &location).header("content-range", "200000-299999").body(content[200_000..].to_vec());
    assert_eq!(send(rest).await.status(), 202);
    let digest = Digest::sha256(&content);
    assert_eq!(send(world.ask("PUT", &format!("{location}?digest={digest}"))).await.status(), 201);
}

#[tokio::test]
async fn sends_parts_of_blobs() {
    let world = World::start().await;
    let content = content(3000);
    let path = format!("/v2/acme/web/blobs/{}", world.push("acme/web", &content).await);
    let part = |range: &'static str| send(world.ask("GET", &path).header("range", range));
    let answer = part("bytes=500-1499").await;
    assert_eq!((answer.status().as_u16(), header_of(&answer, "content-range")), (206, "bytes 500-1499/3000"));
    assert_eq!(header_of(&answer, "content-length"), "1000");
    assert!(answer.bytes().await.unwrap() == content[500..1500]);
    assert!(part("bytes=-500").await.bytes().await.unwrap() == content[2500..]);
    let beyond = part("bytes=5000-10000").await;
    assert_eq!((beyond.status().as_u16(), header_of(&beyond, "content-range")), (416, "bytes */3000"));
    assert_eq!(part("bytes=500-0").await.status(), 416);
    assert_eq!(part("bytes=0-1,4-5").await.status(), 200);
    let etag = header_of(&send(world.ask("HEAD", &path)).await, "etag").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        for range in ["bytes=0-0", "bytes=5000-"] {
            let answer = send(world.ask("GET", &path).header("if-none-match", &known).header("range", range)).await;
            assert_eq!((answer.status().as_u16(), header_of(&answer, "etag")), (304, etag.as_str()), "{known} {range}");
        }
    }
    let both = world.ask("GET", &path).header("if-none-match", "\"x\"").header("if-none-match", &etag);
    assert_eq!(send(both).await.status(), 304);
    assert_eq!(send(world.ask("GET", &path).header("if-none-match", "\"x\"")).await.status(), 200);
    assert_eq!(send(world.ask("GET", &path).header("if-range", &etag).header("range", "bytes=0-0")).await.status(), 206);
    assert_eq!(send(world.ask("GET", &path).header("if-range", "\"x\"").header("range", "bytes=0-0")).await.status(), 200);
    assert_eq!(send(world.ask("HEAD", &path).header("range", "bytes=5000-")).await.status(), 200);
}

#[tokio::test]
async fn sends_parts_of_a_blob_of_more_than_4_gib() {
    const SIZE: u64 = 5 << 30;
    let world = World::start().await;
    // A file with a hole stands for the blob: what is sent was hashed when it came, not now.
    let blob = Digest::sha256(b"a large blob");
    let file = std::fs::File::create(world.blobs.path(&blob)).unwrap();
    file.set_len(SIZE).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"hedgerow", (4 << 30) - 5).unwrap();
    let link = BlobLink { size: SIZE, used: WallTime::from_unix_seconds(0) };
    world.store.link_blob(&"acme/web".parse().unwrap(), &blob, link).await.unwrap();
    let path = format!("/v2/acme/web/blobs/{blob}");
    assert_eq!(header_of(&send(world.ask("HEAD", &path)).await, "content-length"), SIZE.to_string());
    for (range, sent, bytes) in [
        ("bytes=4294967291-4294967298", "bytes 4294967291-4294967298/5368709120", b"hedgerow".as_slice()),
        ("bytes=5368709118-", "bytes 5368709118-5368709119/5368709120", &[0, 0]),
        ("bytes=5368709118-99999999999", "bytes 5368709118-5368709119/5368709120", &[0, 0]),
        ("bytes=-1", "bytes 5368709119-5368709119/5368709120", &[0]),
    ] {
        let answer = send(world.ask("GET", &path).header("range", range)).await;
        assert_eq!((answer.status().as_u16(), header_of(&answer, "content-range")), (206, sent), "{range}");
        assert_eq!(answer.bytes().await.unwrap(), bytes, "{range}");
    }
    let beyond = send(world.ask("GET", &path).header("range", "bytes=5368709120-")).await;
    assert_eq!((beyond.status().as_u16(), header_of(&beyond, "content-range")), (416, "bytes */5368709120"));
}

#[tokio::test]
async fn keeps_manifests_byte_by_byte() {
    let world = World::start().await;
    let config = world.push("acme/web", b"{}").await;
    let text = format!("{{ \"config\":{{\"mediaType\":\"a/c\",\"digest\":\"{config}\",\"size\":2}},\n\"layers\":[] }}");
    let digest = Digest::sha256(text.as_bytes());
    let put = world.ask("PUT", "/v2/acme/web/manifests/1").header("content-type", format!("{OCI}; charset=utf-8")).body(text.clone());
    let put = send(put).await;
    assert_eq!((put.status().as_u16(), header_of(&put, "docker-content-digest")), (201, digest.to_string().as_str()));
    for reference in ["1".to_owned(), digest.to_string()] {
        let path = format!("/v2/acme/web/manifests/{reference}");
        let head = send(world.ask("HEAD", &path)).await;
        assert_eq!((header_of(&head, "content-type"), header_of(&head, "content-length")), (OCI, text.len().to_string().as_str()));
        let got = send(world.ask("GET", &path).header("range", "bytes=0-0")).await;
        assert_eq!(header_of(&got, "docker-content-digest"), digest.to_string());
        assert_eq!(got.text().await.unwrap(), text);
    }
    let by_sha512 = format!("/v2/acme/web/manifests/{}?tag=a&tag=b", Digest::sha512(text.as_bytes()));
    let put = send(world.ask("PUT", &by_sha512).header("content-type", OCI).body(text.clone())).await;
    assert_eq!(put.headers().get_all("oci-tag").iter().collect::<Vec<_>>(), ["a", "b"]);
    let got = send(world.ask("GET", "/v2/acme/web/manifests/a")).await;
    assert_eq!(header_of(&got, "docker-content-digest"), Digest::sha512(text.as_bytes()).to_string());
    let wrong = format!("/v2/acme/web/manifests/{}", Digest::sha256(b"wrong"));
    assert_eq!(code(send(world.ask("PUT", &wrong).header("content-type", OCI).body(text)).await).await, refused(400, "DIGEST_INVALID"));
}

#[tokio::test]
async fn refuses_manifests_of_what_is_not_there() {
    let world = World::start().await;
    let layer = world.push("acme/web", b"layer").await;
    let image = |digest: &Digest, size: u64| serde_json::json!({ "layers": [{ "mediaType": "a/l", "digest": digest, "size": size }] });
    let path = "/v2/acme/web/manifests/1";
    let missing = world.put_manifest(path, &image(&Digest::sha256(b"missing"), 5)).await;
    assert_eq!(code(missing).await, refused(400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(code(world.put_manifest("/v2/acme/api/manifests/1", &image(&layer, 5)).await).await, refused(400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(code(world.put_manifest(path, &image(&layer, 6)).await).await, refused(400, "MANIFEST_INVALID"));
    assert_eq!(code(world.put_manifest("/v2/acme/web/manifests/.x", &image(&layer, 5)).await).await, refused(400, "MANIFEST_INVALID"));
    let image = image(&layer, 5);
    assert_eq!(world.put_manifest(path, &image).await.status(), 201);
    let index =
        |digest: Digest| serde_json::json!({ "mediaType": INDEX, "manifests": [{ "digest": digest, "size": image.to_string().len() }] });
    let put = |index: Value| send(world.ask("PUT", path).header("content-type", INDEX).body(index.to_string()));
    assert_eq!(put(index(Digest::sha256(image.to_string().as_bytes()))).await.status(), 201);
    assert_eq!(code(put(index(Digest::sha256(b"x"))).await).await, refused(400, "MANIFEST_BLOB_UNKNOWN"));
    let annotations = |size: usize| serde_json::json!({ "annotations": { "a": "x".repeat(size) } });
    assert_eq!(world.put_manifest("/v2/acme/web/manifests/big", &annotations(4_000_000)).await.status(), 201);
    assert_eq!(code(world.put_manifest("/v2/acme/web/manifests/big", &annotations(4 << 20)).await).await, refused(413, "SIZE_INVALID"));
}

#[tokio::test]
async fn lists_referrers_and_never_says_404() {
    let world = World::start().await;
    let subject = Digest::sha256(b"subject that is not here yet");
    let path = format!("/v2/acme/web/referrers/{subject}");
    let listed = async |answer: Answer| answer.json::<Value>().await.unwrap()["manifests"].clone();
    assert_eq!(listed(send(world.ask("GET", &path)).await).await, serde_json::json!([]));
    for kind in ["a/one", "a/two"] {
        let referrer =
            serde_json::json!({ "artifactType": kind, "subject": { "digest": subject, "size": 1 }, "annotations": { "k": "v" } });
        let put = world.put_manifest(&format!("/v2/acme/web/manifests/{}", kind.replace('/', "-")), &referrer).await;
        assert_eq!((put.status().as_u16(), header_of(&put, "oci-subject")), (201, subject.to_string().as_str()));
    }
    let all = send(world.ask("GET", &path)).await;
    assert_eq!((header_of(&all, "content-type"), header_of(&all, "oci-filters-applied")), (INDEX, ""));
    assert_eq!(listed(all).await.as_array().unwrap().len(), 2);
    let filtered = send(world.ask("GET", &format!("{path}?artifactType=a%2Ftwo"))).await;
    assert_eq!(header_of(&filtered, "oci-filters-applied"), "artifactType");
    let filtered = listed(filtered).await;
    assert_eq!((filtered[0]["artifactType"].as_str(), filtered[0]["annotations"]["k"].as_str()), (Some("a/two"), Some("v")));
    assert_eq!(code(send(world.ask("GET", "/v2/acme/web/referrers/latest")).await).await, refused(400, "DIGEST_INVALID"));
}

#[tokio::test]
async fn deletes_tags_manifests_and_blobs() {
    let world = World::start().await;
    let blob = world.push("acme/web", b"blob").await;
    let manifest = serde_json::json!({ "layers": [] });
    let digest = Digest::sha256(manifest.to_string().as_bytes());
    for tag in ["1", "2"] {
        world.put_manifest(&format!("/v2/acme/web/manifests/{tag}"), &manifest).await;
    }
    let ask = |method: &'static str, rest: String| send(world.ask(method, &format!("/v2/acme/web/{rest}")));
    assert_eq!(ask("DELETE", "manifests/1".into()).await.status(), 202);
    assert_eq!(code(ask("GET", "manifests/1".into()).await).await, refused(404, "MANIFEST_UNKNOWN"));
    assert_eq!(ask("DELETE", format!("manifests/{digest}")).await.status(), 202);
    assert_eq!(ask("GET", "manifests/2".into()).await.status(), 404);
    assert_eq!(code(ask("DELETE", format!("manifests/{digest}")).await).await, refused(404, "MANIFEST_UNKNOWN"));
    assert_eq!(ask("DELETE", format!("blobs/{blob}")).await.status(), 202);
    assert_eq!(code(ask("GET", format!("blobs/{blob}")).await).await, refused(404, "BLOB_UNKNOWN"));
    assert_eq!(ask("DELETE", format!("blobs/{blob}")).await.status(), 404);
    assert_eq!(code(ask("DELETE", "tags/list".into()).await).await, refused(405, "UNSUPPORTED"));
}

#[tokio::test]
async fn lists_tags_in_pages() {
    let world = World::start().await;
    for tag in ["b", "a", "C"] {
        world.put_manifest(&format!("/v2/acme/web/manifests/{tag}"), &serde_json::json!({})).await;
    }
    let page = async |query: &str| {
        let answer = send(world.ask("GET", &format!("/v2/acme/web/tags/list{query}"))).await;
        let link = header_of(&answer, "link").to_owned();
        (answer.json::<Value>().await.unwrap()["tags"].clone(), link)
    };
    let next = "</v2/acme/web/tags/list?n=2&last=a>; rel=\"next\"";
    assert_eq!(page("").await, (serde_json::json!(["C", "a", "b"]), String::new()));
    assert_eq!(page("?n=2").await, (serde_json::json!(["C", "a"]), next.into()));
    assert_eq!(page("?n=2&last=a").await, (serde_json::json!(["b"]), String::new()));
    assert_eq!(page("?last=C").await.0, serde_json::json!(["a", "b"]));
    assert_eq!(page("?n=0").await, (serde_json::json!([]), String::new()));
    assert_eq!(send(world.ask("GET", "/v2/acme/web/tags/list?n=x")).await.status(), 400);
    assert_eq!(code(send(world.ask("GET", "/v2/acme/api/tags/list")).await).await, refused(404, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn an_immutable_tag_is_denied_another_digest_and_says_why() {
    let world = World::start().await;
    let settings = serde_json::from_str(r#"{"immutable":["*"]}"#).unwrap();
    let pattern = "acme/*".parse().unwrap();
    world.store.put_repository_settings(&"acme".parse().unwrap(), &pattern, Some(settings)).await.unwrap();
    let (one, two) = (serde_json::json!({}), serde_json::json!({ "annotations": { "a": "b" } }));
    for _ in 0..2 {
        assert_eq!(world.put_manifest("/v2/acme/web/manifests/1", &one).await.status(), 201);
    }
    let digest = Digest::sha256(two.to_string().as_bytes());
    for path in ["1".to_owned(), format!("{digest}?tag=1"), format!("{digest}?tag=2&tag=1")] {
        let answer = world.put_manifest(&format!("/v2/acme/web/manifests/{path}"), &two).await;
        assert_eq!(answer.status(), 403, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errors"][0]["code"], "DENIED");
        assert!(body["errors"][0]["message"].as_str().unwrap().contains("hedgerow repo set acme/web --immutable off"), "{body}");
    }
    let first = Digest::sha256(one.to_string().as_bytes());
    for reference in ["1".to_owned(), first.to_string()] {
        let path = format!("/v2/acme/web/manifests/{reference}");
        assert_eq!(code(send(world.ask("DELETE", &path)).await).await, refused(403, "DENIED"));
        assert_eq!(send(world.ask("GET", &path)).await.text().await.unwrap(), "{}");
    }
    for content in [&one, &two] {
        let path = format!("/v2/acme/web/manifests/sha256-{}.sig", first.hex());
        assert_eq!(world.put_manifest(&path, content).await.status(), 201);
    }
}

#[tokio::test]
async fn what_an_immutable_tag_leads_to_cannot_be_deleted_and_everything_else_can() {
    let world = World::start().await;
    let settings = serde_json::from_str(r#"{"immutable":["v*"]}"#).unwrap();
    world.store.put_repository_settings(&"acme".parse().unwrap(), &"acme/*".parse().unwrap(), Some(settings)).await.unwrap();
    let [kept, free] = [world.push("acme/web", b"kept").await, world.push("acme/web", b"free").await];
    let [kept_image, free_image] =
        [kept, free].map(|layer| serde_json::json!({ "layers": [{ "mediaType": "a/l", "digest": layer, "size": 4 }] }));
    let [kept_digest, free_digest] = [&kept_image, &free_image].map(|image| Digest::sha256(image.to_string().as_bytes()));
    let index = serde_json::json!({ "manifests": [{ "digest": kept_digest, "size": kept_image.to_string().len() }] });
    for (reference, manifest) in [(kept_digest.to_string(), &kept_image), ("latest".into(), &free_image), ("v1".into(), &index)] {
        assert_eq!(world.put_manifest(&format!("/v2/acme/web/manifests/{reference}"), manifest).await.status(), 201);
    }
    for path in [format!("blobs/{kept}"), format!("manifests/{kept_digest}")] {
        let answer = send(world.ask("DELETE", &format!("/v2/acme/web/{path}"))).await;
        assert_eq!(answer.status(), 403, "{path}");
        let body = answer.text().await.unwrap();
        assert!(body.contains("tag v1 of acme/web is immutable") && body.contains("cannot be deleted"), "{body}");
    }
    for path in [format!("blobs/{free}"), format!("manifests/{free_digest}")] {
        assert_eq!(send(world.ask("DELETE", &format!("/v2/acme/web/{path}"))).await.status(), 202, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_an_image_in_and_out() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_layout(&dir.path().join("in"));
    let image = format!("docker://{}/acme/web:1", world.address);
    let (source, target) = (format!("oci:{}:1", dir.path().join("in").display()), format!("oci:{}:1", dir.path().join("out").display()));
    let credentials = format!("KEY:{}", world.acme);
    skopeo(["copy", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds", &credentials, &source, &image]).await;
    skopeo(["copy", "--preserve-digests", "--src-tls-verify=false", "--src-creds", &credentials, &image, &target]).await;
    let got = std::fs::read(dir.path().join("out/blobs/sha256").join(Digest::sha256(&manifest).hex())).unwrap();
    assert!(got == manifest);
    let listed = skopeo(["inspect", "--tls-verify=false", "--creds", &credentials, &image, "--format", "{{.Digest}} {{.RepoTags}}"]).await;
    assert_eq!(listed.trim(), format!("{} [1]", Digest::sha256(&manifest)));
    skopeo(["delete", "--tls-verify=false", "--creds", &credentials, &image]).await;
    assert_eq!(send(world.ask("GET", "/v2/acme/web/manifests/1")).await.status(), 404);
}

async fn skopeo<const N: usize>(arguments: [&str; N]) -> String {
    let arguments = arguments.map(ToOwned::to_owned);
    let output = tokio::task::spawn_blocking(move || Command::new("skopeo").args(arguments).output()).await.unwrap();
    let output = output.expect("this test needs skopeo; install it, for example with apt-get install skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes an OCI layout with one image and gives its manifest.
fn write_layout(dir: &Path) -> Vec<u8> {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        std::fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let layer = content(3_000_000);
    let diff = Digest::sha256(&layer);
    let config = serde_json::json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [diff] } });
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers = [put("application/vnd.oci.image.layer.v1.tar", &layer)];
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI, "config": config, "layers": layers }).to_string().into_bytes();
    let mut named = put(OCI, &manifest);
    named["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "1" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [named] });
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest
}

#[tokio::test]
async fn what_a_push_looked_at_and_did_not_send_again_is_left_alone_by_garbage_collection() {
    let world = World::start().await;
    let image = |digest: &Digest, size: u64| serde_json::json!({ "layers": [{ "mediaType": "a/l", "digest": digest, "size": size }] });
    let (layer, unseen) = (world.push("acme/web", b"layer").await, world.push("acme/web", b"other").await);
    let old_image = image(&unseen, 5);
    let old_manifest = Digest::sha256(old_image.to_string().as_bytes());
    assert_eq!(world.put_manifest(&format!("/v2/acme/web/manifests/{old_manifest}"), &old_image).await.status(), 201);
    let repository = "acme/web".parse().unwrap();
    let old = WallTime::from_unix_seconds(1_000_000_000);
    for blob in [&layer, &unseen] {
        world.store.link_blob(&repository, blob, BlobLink { size: 5, used: old }).await.unwrap();
    }
    let by_digest = Reference::Digest(old_manifest);
    let record = world.store.manifest(&repository, &by_digest).await.unwrap().unwrap();
    let record = crate::store::meta::ManifestRecord { pushed: old, ..Arc::unwrap_or_clone(record) };
    world.store.put_manifest(&repository, record, BTreeMap::new(), vec![], &[]).await.unwrap();
    let used = || async { world.store.repository_blob(&repository, &layer).await.unwrap().map(|link| link.used) };

    let path = format!("/v2/acme/web/blobs/{layer}");
    assert_eq!(send(world.ask("GET", &path)).await.status(), 200);
    assert_eq!(used().await, Some(old), "reading keeps nothing");
    assert_eq!(send(world.ask("HEAD", &path)).await.status(), 200);
    assert!(used().await > Some(old));

    let options = crate::store::garbage::Options { dry_run: false, lease: true, accept_clock: false };
    let collect = || crate::store::garbage::collect(&*world.store, &world.blobs, options, wall_time());
    let report = collect().await.unwrap();
    assert_eq!((report.manifests, report.blobs), (1, 1), "only what was not looked at goes");
    assert_eq!(send(world.ask("HEAD", &format!("/v2/acme/web/manifests/{old_manifest}"))).await.status(), 404);
    assert_eq!(send(world.ask("HEAD", &format!("/v2/acme/web/blobs/{unseen}"))).await.status(), 404);
    let late = world.put_manifest("/v2/acme/web/manifests/1", &image(&unseen, 5)).await;
    assert_eq!(code(late).await, refused(400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(world.put_manifest("/v2/acme/web/manifests/1", &image(&layer, 5)).await.status(), 201);
}
