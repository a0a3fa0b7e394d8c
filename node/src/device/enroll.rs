//! How a device gets its identity: it makes its key, and shows a one-time token that also tells it which CA and which root
//! to trust, so that a hostile seed cannot give it its own.
//!
//! Not here: who may make tokens; see `seed::enrolment`.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::digest::Digest;
use protocol::name::{DeviceId, Platform};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::seed_client::{bounded, checked};
use super::state::{DeviceDir, Enrolment};
use crate::api::{BODY_BYTES_MAX, EnrolRequest, Enrolled};
use crate::clock::{built_after, wall_time};
use crate::files;
use crate::store::lock::DataLock;
use crate::transport::ca::{certificate_request, single_certificate};
use crate::transport::device_key::{DeviceKey, KEY_FILE, KeyType};
use crate::transport::identity::DeviceIdentity;
use crate::transport::pkcs11::KeyPlace;
use crate::transport::tls;
use crate::trust::last_root;

const TOKEN_PREFIX: &str = "hgt1_";

/// What an operator hands to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Where the device connects.
    pub device_url: String,
    /// SHA-256 of the device CA's certificate.
    pub ca_sha256: Digest,
    /// SHA-256 of the organisation's root metadata.
    pub root_sha256: Digest,
    /// The one-time secret, hex.
    pub secret: String,
}

impl Token {
    /// The token as text.
    ///
    /// # Errors
    /// Never for the types it is made of.
    pub fn encode(&self) -> anyhow::Result<String> {
        Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?)))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When the text is none, or names a seed that does not speak HTTPS.
    pub fn decode(text: &str) -> anyhow::Result<Self> {
        let broken = "this is not an enrolment token; copy all of what `hedgerow fleet token` printed";
        let encoded = text.trim().strip_prefix(TOKEN_PREFIX).context(broken)?;
        let token: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).context(broken)?).context(broken)?;
        if !token.device_url.starts_with("https://") {
            bail!("the token names the seed {:?}, which is no https:// address; do not use this token", token.device_url);
        }
        Ok(token)
    }

    /// The hash under which the seed knows the secret.
    pub fn secret_sha256(secret: &str) -> Digest {
        Digest::sha256(secret.as_bytes())
    }
}

/// The platform of the machine that this program was built for.
///
/// # Errors
/// When it has no name in the OCI image specification.
pub fn own_platform() -> anyhow::Result<Platform> {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        "riscv64" => ("riscv64", None),
        other => (other, None),
    };
    Ok(Platform::new(std::env::consts::OS, architecture, variant)?)
}

/// Where a device's key is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file of the data directory, of this kind.
    File(KeyType),
    /// In a PKCS#11 module.
    Module(KeyPlace),
}

impl KeySource {
    fn find_or_make(&self, dir: &DeviceDir) -> anyhow::Result<DeviceKey> {
        let path = dir.join(KEY_FILE);
        match self {
            Self::Module(place) => place.find_or_make(),
            Self::File(_) if path.exists() => DeviceKey::load(&path),
            Self::File(kind) => DeviceKey::create(&path, *kind),
        }
    }

    fn place(self) -> Option<KeyPlace> {
        match self {
            Self::File(_) => None,
            Self::Module(place) => Some(place),
        }
    }
}

/// Enrols a device into `dir` and says who it is.
///
/// The key is made first and kept, so that an enrolment that broke off is repeated with the same key.
///
/// # Errors
/// When the token is refused, the seed or its answer does not fit the token, or a device is enrolled here already.
pub async fn enroll(
    dir: &Path,
    token: &str,
    device: Option<DeviceId>,
    platform: Platform,
    key_source: KeySource,
) -> anyhow::Result<Enrolment> {
    let token = Token::decode(token)?;
    files::create_private_dir(dir)?;
    let _lock = DataLock::acquire(dir, "device enrolment")?;
    let kept = DeviceDir::new(dir);
    if kept.is_enrolled() {
        bail!("a device is enrolled in {} already; use another --data, or remove that folder to enrol anew", dir.display());
    }
    let key = key_source.find_or_make(&kept)?;
    let device = match device {
        Some(device) => device,
        None => format!("d-{}", hex::encode(&key.node_id().0[..6])).parse()?,
    };
    let request = EnrolRequest {
        secret: token.secret.clone(),
        device,
        platform: platform.clone(),
        request: certificate_request(&key)?,
        root_sha256: Some(token.root_sha256),
    };
    let enrolled = ask(&token, &request).await?;
    let root = check(&token, &key, &enrolled)?;
    let enrolment = Enrolment {
        format: 0,
        org: enrolled.org,
        device: enrolled.device,
        platform,
        device_url: token.device_url,
        key: key_source.place(),
    };
    kept.keep_enrolment(enrolment, &enrolled.certificate, &enrolled.authority, &root)?;
    kept.enrolment()
}

async fn ask(token: &Token, request: &EnrolRequest) -> anyhow::Result<Enrolled> {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::enrolling_client(token.ca_sha256)?)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(std::time::Duration::from_secs(10))
        .timeout(std::time::Duration::from_secs(60))
        .build()?;
    let url = format!("{}/enroll", token.device_url.trim_end_matches('/'));
    let response = http.post(&url).json(request).send().await;
    let response = response.map_err(|error| {
        let error = anyhow::Error::new(error);
        let advice = unreachable(&token.device_url, &format!("{error:?}"), wall_time());
        error.context(advice)
    })?;
    let body = bounded(checked(response).await?, BODY_BYTES_MAX).await?;
    serde_json::from_slice(&body).context("the seed's answer to the enrolment cannot be read")
}

/// Why the seed could not be asked, as far as this machine can tell: a clock that lost its battery makes every certificate one
/// of the future.
fn unreachable(device_url: &str, error: &str, now: WallTime) -> String {
    let too_early = error.contains(&rustls::CertificateError::NotValidYet.to_string()) || error.contains("NotValidYet");
    if now < built_after() || too_early {
        return format!("the clock of this machine says {now}, which is before the seed's certificate was made; set it, then enrol again");
    }
    format!("the seed at {device_url} cannot be reached")
}

/// The seed is trusted with nothing that the token or the key can prove. The newest root: the one that the token names, or the
/// last that follows it, if the token is older.
fn check(token: &Token, key: &DeviceKey, enrolled: &Enrolled) -> anyhow::Result<String> {
    if Digest::sha256(&single_certificate(&enrolled.authority)?) != token.ca_sha256 {
        bail!("the seed sent another CA certificate than the token names; do not use this seed");
    }
    if Digest::sha256(enrolled.root.as_bytes()) != token.root_sha256 {
        bail!("the seed sent another root of trust than the token names; do not use this seed");
    }
    let root = last_root(&enrolled.org, enrolled.root.as_bytes(), &enrolled.later_roots);
    let root = root.context("the seed sent roots of trust that do not follow the one that the token names; do not use this seed")?;
    let identity = DeviceIdentity::from_certificate(&single_certificate(&enrolled.certificate)?)?;
    if identity.node != key.node_id() || identity.org != enrolled.org || identity.device != enrolled.device {
        bail!("the seed sent a certificate for another device or key");
    }
    String::from_utf8(root).context("the root of trust is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_is_named_as_the_reason() {
        let early = rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidYet).to_string();
        let now = built_after().plus_seconds(1);
        for (error, now) in [(early.as_str(), now), ("connection refused", WallTime::from_unix_seconds(5))] {
            let advice = unreachable("https://seed.example", error, now);
            assert!(advice.contains("clock") && advice.contains("set it"), "{advice}");
        }
        assert!(unreachable("https://seed.example", "connection refused", now).contains("cannot be reached"));
    }

    #[test]
    fn reads_its_own_tokens_and_refuses_others() {
        let token = Token {
            device_url: "https://seed.example:7443".into(),
            ca_sha256: Digest::sha256(b"ca"),
            root_sha256: Digest::sha256(b"root"),
            secret: "00ff".into(),
        };
        assert_eq!(Token::decode(&format!(" {}\n", token.encode().unwrap())).unwrap(), token);
        let plain = Token { device_url: "http://seed.example:7443".into(), ..token };
        assert!(Token::decode(&plain.encode().unwrap()).unwrap_err().to_string().contains("https://"));
        for wrong in ["", "hgt1_", "hgt1_AAAA", "nonsense"] {
            assert!(Token::decode(wrong).unwrap_err().to_string().contains("not an enrolment token"));
        }
    }
}
