//! The whole path: push → sign → roll out → share → pull back byte for byte, also without the seed.
//!
//! Not here: what goes wrong on it; see the other modules.

use tests::client::Skopeo;
use tests::device::Device;
use tests::http;
use tests::image::{Image, Layer, Layout, blob_in, blobs_in, digest};
use tests::program;
use tests::seed::Seed;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Two platforms; amd64 has a layer without a hash list of more than one unit, one with, and a large one.
fn two_platforms(seed: &Seed) -> Layout {
    let (small, middle, large) = (Layer::random(1, 1_000), Layer::random(2, 1_500_000), Layer::random(3, 20 << 20));
    let other = Layer::random(4, 700_000);
    Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&small, &middle, &large]), ("arm64", &[&small, &other])])
}

#[test]
fn what_skopeo_pushed_is_pulled_from_a_device_byte_for_byte_also_when_the_seed_is_gone() {
    if !program::is_there("skopeo") {
        return;
    }
    let mut seed = Seed::start();
    let layout = two_platforms(&seed);
    let credentials = format!("anyone:{}", seed.org().access_key);
    Skopeo::push(&layout.path, "1.0", &format!("{}/acme/web:1.0", seed.host()), Some(&credentials)).succeeded();
    let published = seed.run_operator(&["app", "publish", "acme/web:1.0", "--json"]).json();
    assert_eq!((&published["version"], &published["digest"]), (&1.into(), &layout.digest.as_str().into()), "{published}");

    let (one, two) = (Device::start(&seed, "one"), Device::start(&seed, "two"));
    let mut arm = Device::enrol_for(&seed, &seed.org(), "arm", "linux-arm64");
    arm.run(&[]);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 3);

    let [amd64, arm64] = layout.images.as_slice() else { panic!("two images were made") };
    for (device, own, other) in [(&one, amd64, arm64), (&two, amd64, arm64), (&arm, arm64, amd64)] {
        holds_its_own_platform_alone(device, &layout, own, other);
    }
    pulls_back(&seed, &two, &layout, amd64, "1.0");
    pulls_back(&seed, &two, &layout, amd64, "v1");

    assert!(seed.stop().success());
    pulls_back(&seed, &one, &layout, amd64, "1.0");
}

fn holds_its_own_platform_alone(device: &Device, layout: &Layout, own: &Image, other: &Image) {
    let held = blobs_in(&device.data());
    for blob in own.blobs() {
        assert_eq!(device.blob(&blob), layout.blob(&blob), "{} of {}", blob, device.name);
    }
    let foreign: Vec<_> = other.blobs().into_iter().filter(|blob| !own.blobs().contains(blob)).collect();
    assert!(!foreign.is_empty() && foreign.iter().all(|blob| !held.contains(blob)), "{} holds blobs of another platform", device.name);
    let partial: Vec<_> = std::fs::read_dir(device.data().join("partial")).expect("the device has run").collect();
    assert!(partial.is_empty(), "{} left partial blobs: {partial:?}", device.name);
    for blob in &held {
        assert_eq!(*blob, digest(&device.blob(blob)), "a file has another name than its content");
    }

    let ask = |reference: &str| http::get(&format!("{}/v2/acme/web/manifests/{reference}", device.endpoint_url()), &[("Accept", MANIFEST)]);
    for reference in ["1.0", "v1", &own.manifest] {
        let answer = ask(reference);
        assert_eq!((answer.status, &answer.body), (200, &layout.blob(&own.manifest)), "{reference} on {}", device.name);
        assert_eq!(answer.header("docker-content-digest"), Some(own.manifest.as_str()));
    }
    assert_eq!(ask(&layout.digest).body, layout.blob(&layout.digest), "the index is served by its digest");
    for reference in ["2.0", "v2", &other.manifest] {
        assert_eq!(ask(reference).status, 404, "{reference} on {}", device.name);
    }
    let foreign = http::get(&format!("{}/v2/acme/web/blobs/{}", device.endpoint_url(), other.config), &[]);
    assert_eq!(foreign.status, 404, "a blob of another platform on {}", device.name);
}

fn pulls_back(seed: &Seed, device: &Device, layout: &Layout, image: &Image, tag: &str) {
    let back = seed.scratch(&format!("back-{}-{tag}", device.name));
    Skopeo::pull(&format!("{}/acme/web:{tag}", device.endpoint()), &back, tag, None).succeeded();
    assert_eq!(blobs_in(&back), image.blobs());
    for blob in image.blobs() {
        assert_eq!(blob_in(&back, &blob), layout.blob(&blob), "{blob} from {}", device.name);
    }
}
