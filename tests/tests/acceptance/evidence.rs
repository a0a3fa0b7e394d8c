//! Signatures that others can check, and signatures of others that are asked for: the evidence beside each version, and
//! cosign's signatures of images.
//!
//! Not here: what counts as a signature, vector by vector; see `protocol::cosign`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::image::{Layer, Layout, digest};
use tests::process::Outcome;
use tests::program;
use tests::registry::Registry;
use tests::seed::Seed;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// An image for two platforms, at tag `1.0`.
fn image(seed: &Seed, number: u64) -> Layout {
    let (one, two) = (Layer::random(2 * number, 3000), Layer::random(2 * number + 1, 3000));
    Layout::write(&seed.scratch(&format!("image-{number}")), "1.0", &[("amd64", &[&one]), ("arm64", &[&two])])
}

/// What DSSE signs (DSSE v1, "Signature Definition").
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).as_bytes(), payload].concat()
}

fn openssl(arguments: &[&str], files: &[(&str, &Path)]) -> Outcome {
    let mut command = Command::new("openssl");
    command.args(arguments);
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    Outcome::of(&mut command).succeeded()
}

/// What a manifest's only layer holds.
fn only_layer(registry: &Registry, manifest: &str) -> (Value, Vec<u8>) {
    let manifest = registry.ask("GET", &format!("/v2/acme/web/manifests/{manifest}")).header("Accept", MANIFEST).gives(200).json();
    let layers = manifest["layers"].as_array().expect("a manifest has layers");
    assert_eq!(layers.len(), 1, "{manifest}");
    let blob = layers[0]["digest"].as_str().expect("a layer has a digest").to_owned();
    let content = registry.ask("GET", &format!("/v2/acme/web/blobs/{blob}")).gives(200);
    let bytes = content.json().to_string().into_bytes();
    (manifest, bytes)
}

#[test]
fn the_evidence_of_a_version_is_found_beside_its_image_and_openssl_checks_it_with_the_apps_key() {
    if !program::is_there("openssl") {
        return;
    }
    let seed = Seed::start();
    let layout = image(&seed, 1);
    seed.publish("acme/web", &layout);
    let registry = Registry::new(&seed, &seed.org());
    let path = format!("/v2/acme/web/referrers/{}?artifactType={}", layout.digest, tests::http::escaped(IN_TOTO));
    let listed = registry.ask("GET", &path).gives(200).json();
    let listed = listed["manifests"].as_array().expect("an index has manifests");
    assert_eq!(listed.len(), 2, "one for each platform: {listed:?}");
    let shown = seed.run_operator(&["app", "show", "acme/web", "--version", "1", "--json"]).json();
    for found in listed {
        let annotations = &found["annotations"];
        assert_eq!((&annotations["predicateType"], &annotations["urn:hedgerow:app"]), (&"urn:hedgerow:version:v1".into(), &"web".into()));
        let artifact = found["digest"].as_str().expect("a descriptor has a digest");
        let named = shown["evidence"].as_array().unwrap().iter().find(|named| named["digest"] == artifact).expect("app show names it");
        assert_eq!((&named["subject"], &named["platform"]), (&layout.digest.as_str().into(), &annotations["urn:hedgerow:platform"]));

        let (manifest, envelope) = only_layer(&registry, artifact);
        assert_eq!((&manifest["artifactType"], &manifest["subject"]["digest"]), (&IN_TOTO.into(), &layout.digest.as_str().into()));
        let envelope: Value = serde_json::from_slice(&envelope).unwrap();
        assert_eq!(envelope["payloadType"], IN_TOTO);
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let (signed, signature) = (seed.scratch("pae.bin"), seed.scratch("pae.sig"));
        fs::write(&signed, encoding(IN_TOTO, &payload)).unwrap();
        fs::write(&signature, STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap()).unwrap();
        let key = seed.keys().join("acme/app.pub");
        openssl(&["pkeyutl", "-verify", "-pubin", "-rawin"], &[("-inkey", &key), ("-in", &signed), ("-sigfile", &signature)]);

        let statement: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(statement["subject"][0]["digest"]["sha256"], layout.digest.trim_start_matches("sha256:"));
        let (predicate, platform) = (&statement["predicate"], named["platform"].as_str().unwrap());
        assert_eq!((&predicate["version"], &predicate["statement"]["name"]), (&1.into(), &format!("web/1/{platform}.json").into()));
        let sha256 = predicate["statement"]["digest"]["sha256"].as_str().unwrap();
        registry.ask("GET", &format!("/tuf/acme/targets/web/1/{sha256}.{platform}.json")).gives(200);
    }
}

/// A key pair as `cosign generate-key-pair` makes it, unsealed: the files of the private and the public half.
fn key_pair(seed: &Seed, name: &str) -> (PathBuf, PathBuf) {
    let (private, public) = (seed.scratch(&format!("{name}.key")), seed.scratch(&format!("{name}.pub")));
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], &[("-out", &private)]);
    openssl(&["ec", "-pubout"], &[("-in", &private), ("-out", &public)]);
    (private, public)
}

fn sign(seed: &Seed, key: &Path, message: &[u8]) -> String {
    let (input, output) = (seed.scratch("message.bin"), seed.scratch("message.sig"));
    fs::write(&input, message).expect("the scratch folder can be written");
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-sign"]).arg(key).arg("-out").arg(&output).arg(&input);
    Outcome::of(&mut command).succeeded();
    STANDARD.encode(fs::read(&output).expect("openssl wrote it"))
}

fn push(registry: &Registry, media_type: &str, bytes: &[u8]) -> Value {
    registry.ask("POST", &format!("/v2/acme/web/blobs/uploads/?digest={}", digest(bytes))).octets(bytes).gives(201);
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// Pushes a manifest with these layers to `reference`, or to its digest.
fn push_manifest(registry: &Registry, reference: Option<&str>, layers: &[Value], more: &Value) {
    let config = push(registry, EMPTY, b"{}");
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    for (field, value) in more.as_object().into_iter().flatten() {
        manifest[field] = value.clone();
    }
    let bytes = manifest.to_string().into_bytes();
    let reference = reference.map_or_else(|| digest(&bytes), str::to_owned);
    registry.ask("PUT", &format!("/v2/acme/web/manifests/{reference}")).body(MANIFEST, &bytes).gives(201);
}

/// A layer as `cosign sign --key` makes it.
fn simple_signing(seed: &Seed, registry: &Registry, key: &Path, image: &str) -> Value {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": format!("{}/acme/web", seed.host())},
            "image": {"docker-manifest-digest": image},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = payload.to_string().into_bytes();
    let mut layer = push(registry, SIMPLE_SIGNING, &payload);
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": sign(seed, key, &payload)});
    layer
}

#[test]
fn an_image_becomes_a_version_only_with_a_cosign_signature_where_its_organisation_asks_for_one() {
    if !program::is_there("openssl") {
        return;
    }
    let seed = Seed::start();
    let registry = Registry::new(&seed, &seed.org());
    let ((key, public), (stranger, _)) = (key_pair(&seed, "cosign"), key_pair(&seed, "stranger"));
    let set = seed.run_operator(&["repo", "set", "acme/*", "--signed-by", public.to_str().unwrap(), "--json"]).json();
    assert_eq!(set["settings"]["signed_by"][0], fs::read_to_string(&public).unwrap(), "{set}");
    let wrong = seed.run_operator(&["repo", "set", "acme/*", "--signed-by", key.to_str().unwrap()]).failed();
    assert!(wrong.contains("cosign public-key"), "a private key is no policy: {wrong}");
    let publish = || seed.run_operator(&["app", "publish", "acme/web:1.0", "--json"]);

    let one = image(&seed, 1);
    let tag = format!("{}.sig", one.digest.replace(':', "-"));
    seed.push(&seed.org(), "acme/web", &one);
    let refused = publish().failed();
    for part in [one.digest.as_str(), &tag, "acme/*", "there is none", "cosign sign --key"] {
        assert!(refused.contains(part), "{part} is missing: {refused}");
    }
    let by_stranger = simple_signing(&seed, &registry, &stranger, &one.digest);
    push_manifest(&registry, Some(&tag), std::slice::from_ref(&by_stranger), &json!({}));
    let refused = publish().failed();
    assert!(refused.contains("not of a key that the policy names"), "{refused}");
    let of_platform = simple_signing(&seed, &registry, &key, &digest(b"another image"));
    push_manifest(&registry, Some(&tag), &[by_stranger.clone(), of_platform], &json!({}));
    let refused = publish().failed();
    assert!(refused.contains("another image"), "{refused}");
    let right = simple_signing(&seed, &registry, &key, &one.digest);
    push_manifest(&registry, Some(&tag), &[by_stranger, right], &json!({}));
    assert_eq!(publish().json()["version"], 1, "the tag form");

    let two = image(&seed, 2);
    seed.push(&seed.org(), "acme/web", &two);
    publish().failed();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": two.digest.trim_start_matches("sha256:")}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    });
    let statement = statement.to_string().into_bytes();
    let envelope = json!({
        "payload": STANDARD.encode(&statement), "payloadType": IN_TOTO,
        "signatures": [{"sig": sign(&seed, &key, &encoding(IN_TOTO, &statement))}],
    });
    let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": envelope});
    let layer = push(&registry, BUNDLE, bundle.to_string().as_bytes());
    let subject = |layout: &Layout| json!({"mediaType": INDEX, "digest": layout.digest, "size": layout.blob(&layout.digest).len()});
    push_manifest(&registry, None, &[layer], &json!({"artifactType": BUNDLE, "subject": subject(&two)}));
    assert_eq!(publish().json()["version"], 2, "a bundle that refers to the image");

    let three = image(&seed, 3);
    seed.push(&seed.org(), "acme/web", &three);
    let layer = simple_signing(&seed, &registry, &key, &three.digest);
    let more = json!({"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json", "subject": subject(&three)});
    push_manifest(&registry, None, &[layer], &more);
    assert_eq!(publish().json()["version"], 3, "a payload that refers to the image");

    let four = image(&seed, 4);
    seed.push(&seed.org(), "acme/web", &four);
    publish().failed();
    seed.run_operator(&["repo", "set", "acme/web", "--signed-by", "off"]).succeeded();
    assert_eq!(publish().json()["version"], 4, "the closest pattern decides");
}
