//! Own certificates, limits, draining, and metrics that are what the README says.
//!
//! Not here: clients that are too slow; those are tested on the listener itself, where a minute can be made short.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tests::device::Device;
use tests::http::{self, Answer};
use tests::image::digest;
use tests::process::Outcome;
use tests::program;
use tests::seed::{Organisation, Seed};
use tests::wait::{self, PATIENCE};

/// A CA, and its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key is made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let file = dir.join(format!("{name}.pem"));
        let certificate = params.self_signed(&key).expect("the CA signs itself");
        fs::write(&file, certificate.pem()).expect("a file is written");
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Signs a certificate for this machine, and replaces the files `tls.pem` and `tls.key` in `dir`.
    fn issue(&self, dir: &Path) {
        let key = KeyPair::generate().expect("a key is made");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address can stand in a certificate");
        let certificate = params.signed_by(&key, &self.issuer).expect("the CA signs");
        replace(dir, "tls.pem", &certificate.pem());
        replace(dir, "tls.key", &key.serialize_pem());
    }
}

fn replace(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join("new"), text).expect("a file is written");
    fs::rename(dir.join("new"), dir.join(name)).expect("it takes the place of the old one");
}

/// The status with which a new TLS connection is answered; none if the certificate is not of this CA.
fn curl(authority: &Authority, url: &str, more: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"]).arg(&authority.file).args(more).arg(url);
    let done = Outcome::of(&mut command);
    // 60: the peer's certificate cannot be verified.
    assert!(matches!(done.code, Some(0 | 60)), "{done:?}");
    (done.code == Some(0)).then_some(done.stdout)
}

#[test]
fn own_tls_files_are_shown_and_what_replaces_them_too_and_what_is_broken_is_not() {
    if !program::is_there("curl") {
        return;
    }
    let mut seed = Seed::init();
    let dir = seed.scratch("tls");
    fs::create_dir(&dir).unwrap();
    let [one, two] = ["one", "two"].map(|name| Authority::new(&dir, name));
    one.issue(&dir);
    let (certificate, key) = (dir.join("tls.pem").display().to_string(), dir.join("tls.key").display().to_string());
    seed.run(&["--tls-certificate-file", &certificate, "--tls-key-file", &key]);
    let url = format!("{}/v2/", seed.ready["url"].as_str().unwrap());
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    for version in [&["--tlsv1.3"][..], &["--tlsv1.2", "--tls-max", "1.2"]] {
        assert_eq!(curl(&one, &url, version).as_deref(), Some("401"), "{version:?}");
    }
    assert_eq!(curl(&two, &url, &[]), None);

    two.issue(&dir);
    wait::until("the new certificate to be shown", || curl(&two, &url, &[]).as_deref() == Some("401"));
    assert_eq!(curl(&one, &url, &[]), None);

    replace(&dir, "tls.key", "no key");
    wait::until("the broken key to be refused", || !seed.log.events("certificate_refused").is_empty());
    let refused = &seed.log.events("certificate_refused")[0];
    assert!(refused["level"] == "ERROR" && refused["error"].as_str().unwrap().contains("tls.key"), "{refused}");
    assert_eq!(curl(&two, &url, &[]).as_deref(), Some("401"), "the old one stays");
    let expires = seed.metric("hedgerow_seed_certificate_expires_seconds{listener=\"registry\"}");
    assert!(expires > 4_000_000_000, "{expires}: rcgen's certificates end in the year 4096");

    one.issue(&dir);
    Outcome::of(Command::new("kill").args(["-HUP", &seed.process().id().to_string()])).succeeded();
    wait::until("the mended files to be shown", || curl(&one, &url, &[]).as_deref() == Some("401"));
    assert!(seed.stop().success());
}

fn init(arguments: &[&str], home: &Path) -> Outcome {
    let mut command = program::hedgerow();
    command.args(["seed", "init", "--org", "acme", "--json", "--data"]).arg(home.join("data")).arg("--keys").arg(home.join("keys"));
    Outcome::of(command.args(arguments))
}

#[test]
fn a_seed_is_made_with_own_tls_files_or_refused_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "one");
    authority.issue(home.path());
    let (certificate, key) = (home.path().join("tls.pem").display().to_string(), home.path().join("tls.key").display().to_string());
    let ports = ["--listen", "127.0.0.1:0", "--device-listen", "127.0.0.1:0"];
    let with = |more: &[&str]| init(&[&ports, more].concat(), home.path());

    assert!(with(&["--tls-certificate-file", &certificate]).failed().contains("tls_key_file"));
    assert!(with(&["--tls-certificate-file", &key, "--tls-key-file", &key]).failed().contains("tls.key holds no certificate"));
    assert!(with(&["--host", "https://seed.example"]).failed().contains("--host"));
    let shared = init(&["--listen", "127.0.0.1:5999", "--device-listen", "127.0.0.1:5999"], home.path()).failed();
    assert!(shared.contains("--listen") && shared.contains("--device-listen") && shared.contains("5999"), "{shared}");
    assert!(!home.path().join("data/seed.toml").exists());

    let made = with(&["--tls-certificate-file", &certificate, "--tls-key-file", &key]).json();
    assert!(made["url"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{made}");
    assert_eq!(made["ca_file"], "", "the certificate is not of the seed's CA: {made}");
}

/// A seed with these lines in the table `[limits]`.
fn limited(lines: &str) -> Seed {
    let mut seed = Seed::init();
    let file = seed.data().join("seed.toml");
    let settings = fs::read_to_string(&file).expect("seed init wrote it");
    fs::write(&file, format!("{settings}\n[limits]\n{lines}\n")).expect("it can be changed");
    seed.run(&[]);
    seed
}

fn ask(seed: &Seed, org: &Organisation, method: &str, path: &str, body: &[u8]) -> Answer {
    let authorization = format!("Bearer {}", org.access_key);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    http::send(method, &format!("{}{path}", seed.url()), &headers, body)
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_back_and_the_others_are_served() {
    let seed = limited("requests_per_second_per_key = 1\nrequests_burst = 20");
    let (acme, other) = (seed.org(), seed.create_org("other"));
    let too_often =
        |path: &str| wait::eventually("429", || Some(ask(&seed, &acme, "GET", path, &[])).filter(|answer| answer.status == 429));
    for (path, code) in [("/v2/", "/errors/0/code"), ("/api/v1/trust", "/code")] {
        let answer = too_often(path);
        let seconds: u64 = answer.header("retry-after").expect("it says when").parse().unwrap();
        assert!((1..=20).contains(&seconds), "{seconds}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let code = body.pointer(code).and_then(Value::as_str).unwrap_or_else(|| panic!("{body}"));
        assert!(["TOOMANYREQUESTS", "too_many_requests"].contains(&code), "{body}");
    }
    assert_eq!(ask(&seed, &other, "GET", "/v2/", &[]).status, 200);
    assert_eq!(http::get(&format!("{}/v2/", seed.url()), &[]).status, 401);
    assert!(seed.metric("hedgerow_seed_limit_refusals_total{limit=\"requests\"}") >= 2);
}

#[test]
fn what_is_larger_than_its_limit_is_413_and_a_key_has_so_many_uploads_and_no_more() {
    let seed = limited("blob_bytes_max = 1000\nuploads_per_key_max = 2");
    let acme = seed.org();
    let push = |bytes: usize| {
        let blob = vec![7; bytes];
        ask(&seed, &acme, "POST", &format!("/v2/acme/web/blobs/uploads/?digest={}", digest(&blob)), &blob)
    };
    assert_eq!(push(1000).status, 201);
    let refused = push(1001);
    assert!(
        refused.status == 413 && refused.text().contains("SIZE_INVALID") && refused.text().contains("1000 bytes"),
        "{}",
        refused.text()
    );
    let manifest = vec![b' '; (4 << 20) + 1];
    assert_eq!(ask(&seed, &acme, "PUT", "/v2/acme/web/manifests/large", &manifest).status, 413);

    let start = || ask(&seed, &acme, "POST", "/v2/acme/web/blobs/uploads/", &[]);
    assert_eq!([start().status, start().status], [202, 202]);
    let refused = start();
    assert!(refused.status == 429 && refused.text().contains("TOOMANYREQUESTS"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(seed.metric("hedgerow_seed_uploads"), 2);
    for limit in ["uploads", "blob_bytes", "manifest_bytes"] {
        assert_eq!(seed.metric(&format!("hedgerow_seed_limit_refusals_total{{limit=\"{limit}\"}}")), 1, "{limit}");
    }
}

#[test]
fn a_limit_that_cannot_be_kept_is_refused_by_its_name() {
    let seed = Seed::init();
    let file = seed.data().join("seed.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{settings}\n[limits]\nmanifest_bytes_max = 1000\n")).unwrap();
    let refused = Outcome::of(&mut seed.run_command(&[])).failed();
    assert!(refused.contains("limits.manifest_bytes_max"), "{refused}");
}

#[test]
fn a_seed_that_is_told_to_stop_ends_the_push_that_is_under_way_and_says_that_it_is_not_ready() {
    let mut seed = Seed::start();
    let metrics = seed.ready["metrics_url"].as_str().unwrap().to_owned();
    let ready = || http::get(&metrics.replace("/metrics", "/readyz"), &[]);
    assert_eq!(ready().status, 200);
    let blob = vec![3; 200_000];
    let mut push = TcpStream::connect(seed.host()).unwrap();
    push.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /v2/acme/web/blobs/uploads/?digest={} HTTP/1.1\r\nHost: seed\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        digest(&blob),
        seed.org().access_key,
        blob.len()
    );
    push.write_all(head.as_bytes()).unwrap();
    push.write_all(&blob[..100_000]).unwrap();
    wait::until("the first half to arrive", || seed.metric("hedgerow_seed_registry_received_bytes_total") > 100_000);

    seed.process().terminate();
    wait::until("the seed to say that it drains", || ready().status == 503);
    wait::until("new connections to be refused", || TcpStream::connect(seed.host()).is_err());
    push.write_all(&blob[100_000..]).unwrap();
    let mut answer = String::new();
    push.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("connection: close"), "{answer}");
    assert!(seed.process().wait().success());
}

#[test]
fn mistakes_in_a_request_of_the_control_api_are_answered_as_json() {
    let seed = Seed::start();
    for (method, path, body, status, code) in [
        ("POST", "/api/v1/orgs/acme/tokens", "{", 400, "bad_body"),
        ("POST", "/api/v1/orgs/acme/tokens", r#"{"lifetime_seconds":"long"}"#, 422, "bad_body"),
        ("GET", "/api/v1/orgs/UPPER/apps/web/versions", "", 400, "bad_path"),
        ("GET", "/api/v1/nothing", "", 404, "no_route"),
        ("DELETE", "/api/v1/trust", "", 405, "no_method"),
    ] {
        let answer = ask(&seed, &seed.org(), method, path, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["code"], code, "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }
}

/// Names, labels and kinds of metrics in the README's tables of `who`, as the rows say them.
fn documented(who: &str) -> BTreeSet<(String, String)> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("there is a README");
    let prefix = format!("| `hedgerow_{who}_");
    let rows = readme.lines().filter(|line| line.starts_with(&prefix));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let mut cell = || cells.next().expect("a row has three cells");
        (cell().trim_matches('`').to_owned(), cell().to_owned())
    })
    .collect()
}

/// The same from the endpoint: each `# TYPE` line, with the labels of the samples that follow it.
fn offered(url: &str) -> BTreeSet<(String, String)> {
    let text = http::get(url, &[]).text();
    let mut metrics = BTreeSet::new();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, kind) in kinds {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = text.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{name} has no sample:\n{text}"));
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels: Vec<&str> =
            labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).filter(|label| *label != "le").collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        metrics.insert((format!("{name}{labels}"), kind.to_owned()));
    }
    metrics
}

#[test]
fn the_metrics_of_seed_and_device_are_those_in_the_readme() {
    let mut seed = Seed::init();
    let settings = fs::read_to_string(seed.data().join("seed.toml")).unwrap();
    fs::write(seed.data().join("seed.toml"), format!("{settings}\n[[webhooks]]\nurl = \"http://127.0.0.1:1\"\n")).unwrap();
    seed.run(&[]);
    let device = Device::start(&seed, "kiosk");
    assert_eq!(offered(seed.ready["metrics_url"].as_str().unwrap()), documented("seed"));
    assert_eq!(offered(device.ready["metrics_url"].as_str().unwrap()), documented("device"));
}
