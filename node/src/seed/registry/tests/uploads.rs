//! Uploads that the disk fails.
//!
//! Not here: a disk that is full, which takes one; see the acceptance tests.

use protocol::hash_list::HashListBuilder;

use super::*;

#[tokio::test]
async fn a_push_that_fails_when_its_blob_is_whole_can_be_ended_again() {
    let world = World::start().await;
    let content = content(200_000);
    let wanted = Digest::sha256(&content);
    let mut builder = HashListBuilder::new();
    builder.update(&content);
    let list = Digest::sha256(&builder.finish(wanted).unwrap().to_bytes());
    // A folder where the hash list belongs: it cannot be stored.
    std::fs::create_dir(world.blobs.path(&list)).unwrap();
    let started = send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await;
    let upload = header_of(&started, "location").to_owned();
    let target = format!("{upload}?digest={wanted}");
    assert_eq!(send(world.ask("PUT", &target).body(content.clone())).await.status(), 500);
    assert_eq!(send(world.ask("HEAD", &format!("/v2/acme/web/blobs/{wanted}"))).await.status(), 404);
    let status = send(world.ask("GET", &upload)).await;
    assert_eq!((status.status().as_u16(), header_of(&status, "range")), (204, "0-199999"));
    assert_eq!(code(send(world.ask("PATCH", &upload).body("more")).await).await, refused(400, "BLOB_UPLOAD_INVALID"));
    std::fs::remove_dir(world.blobs.path(&list)).unwrap();
    assert_eq!(send(world.ask("PUT", &target)).await.status(), 201);
    assert!(send(world.ask("GET", &format!("/v2/acme/web/blobs/{wanted}"))).await.bytes().await.unwrap() == content);
    assert_eq!(code(send(world.ask("GET", &upload)).await).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn an_upload_whose_bytes_are_lost_is_not_said_to_go_on() {
    let world = World::start().await;
    for method in ["PATCH", "PUT"] {
        let started = send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await;
        let upload = header_of(&started, "location").to_owned();
        let folder = world.blobs.upload_path("");
        std::fs::remove_dir(&folder).unwrap();
        let content = content(600_000);
        let target = format!("{upload}?digest={}", Digest::sha256(&content));
        assert_eq!(send(world.ask(method, &target).body(content)).await.status(), 500);
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(code(send(world.ask("GET", &upload)).await).await, refused(404, "BLOB_UPLOAD_UNKNOWN"), "{method}");
    }
}
