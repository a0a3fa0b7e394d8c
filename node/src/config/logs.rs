//! Settings of a seed's access log and audit log, `[logs]` in `seed.toml`, and of its webhooks, `[[webhooks]]`.
//!
//! Not here: what is logged and sent; see `seed::recorder`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use protocol::repository::RepositoryPattern;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, Serializer};

/// A file of the audit log is ended at this size, in bytes: large enough to be few, small enough to be read and moved.
const AUDIT_FILE_BYTES: u64 = 64 << 20;
/// Full files of the audit log that are kept beside the current one: 1 GiB, some two million writes.
const AUDIT_FILES_KEPT: usize = 16;
/// The smallest file of the audit log, in bytes: a line has at most some KiB.
const AUDIT_FILE_BYTES_MIN: u64 = 64 << 10;

/// A receiver of webhooks has this long to answer, in milliseconds.
const WEBHOOK_TIMEOUT_MS: u64 = 5_000;
/// The first wait after a failure, in milliseconds; doubled with each further one.
const WEBHOOK_BACKOFF_MS: u64 = 1_000;
/// The most events that wait for one receiver, some 4 MiB.
const WEBHOOK_QUEUE_EVENTS: usize = 4096;
/// The most receivers.
const WEBHOOKS_MAX: usize = 16;

/// `[logs]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsFile {
    /// Where the access log goes: `off`, `stderr` or a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// How its lines look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_format: Option<AccessFormat>,
    /// Size at which a file of the audit log is ended, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "protocol::byte_size::deserialize_some")]
    pub audit_file_bytes: Option<u64>,
    /// Full files of the audit log that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_files_kept: Option<usize>,
}

impl LogsFile {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How lines of the access log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// As web servers write it.
    Combined,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessSink {
    /// Beside the log.
    Stderr,
    /// To the end of a file, which is opened anew on SIGHUP.
    File(PathBuf),
}

/// Checked settings of the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsConfig {
    /// Where the access log goes, if anywhere.
    pub access: Option<AccessSink>,
    /// How its lines look.
    pub access_format: AccessFormat,
    /// Size at which a file of the audit log is ended, in bytes.
    pub audit_file_bytes: u64,
    /// Full files of the audit log that are kept beside the current one.
    pub audit_files_kept: usize,
}

impl LogsConfig {
    /// Checks settings; `access` is what the command line says.
    ///
    /// # Errors
    /// When a value does not fit.
    pub fn check(file: LogsFile, access: Option<String>) -> anyhow::Result<Self> {
        let audit_file_bytes = file.audit_file_bytes.unwrap_or(AUDIT_FILE_BYTES);
        ensure!(audit_file_bytes >= AUDIT_FILE_BYTES_MIN, "audit_file_bytes must be at least {AUDIT_FILE_BYTES_MIN}");
        let access = match access.or(file.access).as_deref() {
            None | Some("off") => None,
            Some("stderr") => Some(AccessSink::Stderr),
            Some("") => bail!("access in [logs] must be off, stderr or a file"),
            Some(path) => Some(AccessSink::File(std::path::absolute(path).context("the file of the access log")?)),
        };
        Ok(Self {
            access,
            access_format: file.access_format.unwrap_or_default(),
            audit_file_bytes,
            audit_files_kept: file.audit_files_kept.unwrap_or(AUDIT_FILES_KEPT),
        })
    }

    /// The settings in force, as a file would say them.
    pub fn to_file(&self) -> LogsFile {
        let access = match &self.access {
            None => "off".to_owned(),
            Some(AccessSink::Stderr) => "stderr".to_owned(),
            Some(AccessSink::File(path)) => path.display().to_string(),
        };
        LogsFile {
            access: Some(access),
            access_format: Some(self.access_format),
            audit_file_bytes: Some(self.audit_file_bytes),
            audit_files_kept: Some(self.audit_files_kept),
        }
    }
}

/// Text that is read from a file, and neither written nor shown again.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Hidden(String);

const MASK: &str = "***";

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What webhooks can tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A blob or manifest was pushed.
    Push,
    /// A blob was made part of another repository.
    Mount,
    /// A blob, manifest or tag was deleted.
    Delete,
    /// A blob or manifest was pulled: of these there are very many.
    Pull,
}

/// One of `[[webhooks]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookFile {
    /// Where events are posted to.
    pub url: String,
    /// Headers that are sent along; their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Hidden>,
    /// Which events.
    #[serde(default = "default_events")]
    pub events: Vec<EventKind>,
    /// Of which repositories: `org/name`, `org/*` or `org/path/*`; none for all.
    #[serde(default)]
    pub repositories: Vec<RepositoryPattern>,
    /// The CA of the receiver's certificate; default: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long the receiver may take to answer, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The first wait after a failure, in milliseconds.
    #[serde(default = "default_backoff_ms")]
    pub backoff_ms: u64,
    /// The most events that wait.
    #[serde(default = "default_queue_events")]
    pub queue_events: usize,
}

fn default_events() -> Vec<EventKind> {
    vec![EventKind::Push, EventKind::Mount, EventKind::Delete]
}

const fn default_timeout_ms() -> u64 {
    WEBHOOK_TIMEOUT_MS
}

const fn default_backoff_ms() -> u64 {
    WEBHOOK_BACKOFF_MS
}

const fn default_queue_events() -> usize {
    WEBHOOK_QUEUE_EVENTS
}

/// Checked settings of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// As the file says it.
    pub file: WebhookFile,
    /// Where events are posted to.
    pub url: Url,
    /// What is sent along, marked as sensitive.
    pub headers: HeaderMap,
}

impl WebhookConfig {
    /// Checks the settings of all webhooks.
    ///
    /// # Errors
    /// When a value does not fit.
    pub fn check_all(files: Vec<WebhookFile>) -> anyhow::Result<Vec<Self>> {
        ensure!(files.len() <= WEBHOOKS_MAX, "there can be at most {WEBHOOKS_MAX} [[webhooks]]");
        files.into_iter().enumerate().map(|(n, file)| Self::check(file).with_context(|| format!("[[webhooks]] number {}", n + 1))).collect()
    }

    fn check(file: WebhookFile) -> anyhow::Result<Self> {
        let url = Url::parse(&file.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.context("url must start with http:// or https://")?;
        ensure!(url.username().is_empty() && url.password().is_none(), "put credentials into headers, not into the url");
        ensure!(!file.events.is_empty(), "events is empty; name some of push, mount, delete, pull, or leave it out");
        for (name, value, least) in [("timeout_ms", file.timeout_ms, 1), ("backoff_ms", file.backoff_ms, 1)] {
            ensure!(value >= least, "{name} must be at least {least}");
        }
        ensure!((1..=1 << 20).contains(&file.queue_events), "queue_events must be from 1 to {}", 1 << 20);
        let mut headers = HeaderMap::new();
        for (name, value) in &file.headers {
            let name = HeaderName::from_str(name).with_context(|| format!("{name:?} is no name of a header"))?;
            let mut value =
                HeaderValue::from_str(&value.0).with_context(|| format!("the value of {name} has characters that no header may have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { file, url, headers })
    }

    /// How long the receiver may take to answer.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.file.timeout_ms)
    }

    /// The first wait after a failure.
    pub const fn backoff(&self) -> Duration {
        Duration::from_millis(self.file.backoff_ms)
    }

    /// What logs and figures call it: scheme, host and port, because paths of webhooks are often secrets.
    pub fn name(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The settings in force, as a file would say them, without secrets.
    pub fn to_file(&self) -> WebhookFile {
        let mut shown = self.url.clone();
        if shown.query().is_some() {
            shown.set_query(Some(MASK));
        }
        WebhookFile { url: shown.to_string(), ..self.file.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(toml: &str) -> anyhow::Result<WebhookConfig> {
        WebhookConfig::check(toml::from_str(toml)?)
    }

    #[test]
    fn what_is_shown_of_a_webhook_has_no_secrets() {
        let config = webhook("url = \"https://ci.example/hook?token=s3cret\"\nheaders = { Authorization = \"Bearer s3cret\" }").unwrap();
        let shown = toml::to_string(&config.to_file()).unwrap();
        assert!(shown.contains("https://ci.example/hook?***") && shown.contains("Authorization = \"***\""), "{shown}");
        assert!(!shown.contains("s3cret") && !format!("{:?}", config.headers).contains("s3cret"));
        assert_eq!(config.headers["authorization"], "Bearer s3cret");
        assert_eq!(config.name(), "https://ci.example");
    }

    #[test]
    fn a_webhook_that_cannot_work_is_refused() {
        for (wrong, why) in [
            ("url = \"ftp://ci.example\"", "http"),
            ("url = \"https://me:pw@ci.example\"", "headers"),
            ("url = \"http://ci.example\"\nevents = []", "events"),
            ("url = \"http://ci.example\"\nevents = [\"pushes\"]", "pushes"),
            ("url = \"http://ci.example\"\nretries = 3", "retries"),
            ("url = \"http://ci.example\"\ntimeout_ms = 0", "timeout_ms"),
            ("url = \"http://ci.example\"\nheaders = { \"a b\" = \"c\" }", "a b"),
            ("url = \"http://ci.example\"\nheaders = { a = \"s3cret\\nx\" }", "value of a"),
        ] {
            let error = format!("{:#}", webhook(wrong).unwrap_err());
            assert!(error.contains(why) && !error.contains("s3cret"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_access_log_is_off_and_the_audit_log_keeps_a_gibibyte_by_default() {
        let config = LogsConfig::check(LogsFile::default(), None).unwrap();
        assert_eq!(config.access, None);
        assert!(config.audit_file_bytes * config.audit_files_kept as u64 >= 1 << 30);
        let file = LogsFile { access: Some("access.log".into()), ..LogsFile::default() };
        let named = LogsConfig::check(file.clone(), None).unwrap().access;
        assert!(matches!(named, Some(AccessSink::File(path)) if path.is_absolute()));
        assert_eq!(LogsConfig::check(file.clone(), Some("stderr".into())).unwrap().access, Some(AccessSink::Stderr));
        assert_eq!(LogsConfig::check(file, Some("off".into())).unwrap().access, None);
    }
}
