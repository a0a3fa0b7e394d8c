//! What reports of devices cost a seed: each is signed, with a counter above the one before, and kept.
//!
//! One device's reports come one after the other, each in a write of its own; those of a fleet share writes, and cost less.
//!
//! Not here: what a report means; see `protocol::rollout`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::json;

use super::super::client::Endpoint;
use super::super::figures::float;
use super::super::load::block_on;
use super::super::process::Process;

const PATH: &str = "/api/v1/device/report";
const TYPE: &str = "application/vnd.hedgerow.device-report+json";

/// A device that reports.
pub(super) struct Reporter {
    key: KeyPair,
    device: String,
    counter: u64,
}

impl Reporter {
    /// The device that was enrolled in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let key = KeyPair::from_pem(&std::fs::read_to_string(dir.join("device.key"))?).context("the device's key")?;
        let device: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("device.json"))?)?;
        let device = device.get("device").and_then(serde_json::Value::as_str).context("device.json names no device")?.to_owned();
        Ok(Self { key, device, counter: 0 })
    }

    /// The next report in its envelope (DSSE v1).
    fn next(&mut self) -> Result<String> {
        self.counter += 1;
        let app = json!({ "version": 1, "rollout": "r-1", "state": "healthy", "running": 1 });
        let report = json!({ "counter": self.counter, "apps": { "web": app } });
        let payload = json!({ "format": 1, "org": super::ORG, "device": self.device, "report": report }).to_string();
        let signed = format!("DSSEv1 {} {TYPE} {} {payload}", TYPE.len(), payload.len());
        let signature = STANDARD.encode(self.key.sign(signed.as_bytes())?);
        let signatures = json!([{ "keyid": STANDARD.encode(self.key.subject_public_key_info()), "sig": signature }]);
        Ok(json!({ "payloadType": TYPE, "payload": STANDARD.encode(payload), "signatures": signatures }).to_string())
    }

    /// Processor time of the seed for one report, in seconds, over `time`.
    pub(super) fn cost(&mut self, process: &Process, endpoint: &Endpoint, time: Duration) -> Result<f64> {
        block_on(async {
            let mut connection = endpoint.connect().await?;
            let (mut reports, before, end) = (0, process.cpu_seconds()?, Instant::now() + time);
            while Instant::now() < end {
                let body = self.next()?;
                let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
                connection.send((endpoint.head("POST", PATH, &head) + &body).as_bytes()).await?;
                connection.answer().await?.expect(204, "a report")?;
                reports += 1;
            }
            Ok((process.cpu_seconds()? - before) / float(reports))
        })
    }
}
