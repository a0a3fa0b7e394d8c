//! HTTP/2, which every Go client may choose over TLS, as curl speaks it.
//!
//! Not here: what is asked for; the other modules ask by HTTP/1.1.

use std::fs;
use std::process::{Command, Stdio};

use tests::image::{digest, noise};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;

/// Bytes of a blob: far more than a connection's and a stream's first windows.
const BLOB_BYTES: usize = 24 << 20;

/// curl by HTTP/2 only, with a key: the headers and the status that it got stand in its output.
fn curl(seed: &Seed, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--http2", "--dump-header", "-", "--header", &format!("Authorization: Bearer {}", seed.org().access_key)]);
    command.arg("--cacert").arg(seed.ca_file().expect("this seed speaks TLS")).args(arguments);
    command
}

#[track_caller]
fn location(said: &str) -> String {
    let location = said.lines().find_map(|line| line.strip_prefix("location: "));
    location.unwrap_or_else(|| panic!("no Location: {said}")).trim().to_owned()
}

/// Quirk 32: a PATCH whose length nobody knows goes up as a stream, also when it is much larger than any window, without
/// `Expect`; a whole PUT too; both come down again, whole and from a byte on.
#[test]
fn blobs_go_up_and_down_in_streams_of_http2() {
    if !program::is_there("curl") {
        return;
    }
    let seed = Seed::start_with_tls();
    let bytes = noise(1, BLOB_BYTES);
    let (blob, file, back) = (digest(&bytes), seed.scratch("blob"), seed.scratch("back").display().to_string());
    fs::write(&file, &bytes).unwrap();
    let (uploads, file) = (format!("{}/v2/acme/web/blobs/uploads/", seed.url()), file.display().to_string());
    let answered = |arguments: &[&str], status: &str| {
        let said = Outcome::of(&mut curl(&seed, arguments)).succeeded().stdout;
        assert!(said.starts_with(&format!("HTTP/2 {status}")), "{arguments:?}: {said}");
        said
    };

    let started = location(&answered(&["--request", "POST", &uploads], "202"));
    let mut streaming = curl(&seed, &["--request", "PATCH", "--upload-file", "-", &format!("{}{started}", seed.url())]);
    let output = streaming.stdin(Stdio::from(fs::File::open(&file).unwrap())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("HTTP/2 202") && said.contains(&format!("range: 0-{}", BLOB_BYTES - 1)), "{said}");
    let end = format!("{}{}?digest={blob}", seed.url(), location(&said));
    answered(&["--request", "PUT", &end], "201");

    let started = location(&answered(&["--request", "POST", &format!("{}/v2/acme/mobile/blobs/uploads/", seed.url())], "202"));
    answered(&["--upload-file", &file, &format!("{}{started}?digest={blob}", seed.url())], "201");

    for app in ["web", "mobile"] {
        let url = format!("{}/v2/acme/{app}/blobs/{blob}", seed.url());
        answered(&["--output", &back, &url], "200");
        assert!(fs::read(&back).unwrap() == bytes, "{app}: other bytes came back");
        answered(&["--range", &format!("{}-", BLOB_BYTES - 1000), "--output", &back, &url], "206");
        assert!(fs::read(&back).unwrap() == bytes[BLOB_BYTES - 1000..], "{app}: another part came back");
    }
}
