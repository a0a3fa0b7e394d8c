//! `hedgerow fleet …`: devices of an organisation, over the seed.
//!
//! | module | holds |
//! |---|---|
//! | [`devices`] | `list`, `show`, `label`, `pin`, `unpin` |
//! | [`group`] | `group …` |
//! | [`sites`] | `sites` |
//! | [`tokens`] | `tokens …` |
//!
//! Not here: this machine as a device; see [`super::device`].

pub mod devices;
pub mod group;
pub mod sites;
pub mod tokens;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use protocol::digest::Digest;
use protocol::label::Label;
use protocol::name::{DeviceId, OrgName};
use serde_json::json;

use super::Output;
use super::operator::{Operator, SeedApi};
use crate::api::{DeviceRevoked, NewToken, RevokeDevice, SeedTrust, TOKENS_MAX, TokenMade};
use crate::device::enroll::Token;
use crate::store::meta::token_id;
use crate::trust::source::ROOT_BYTES_MAX;
use crate::trust::{MetadataSource as _, OperatorKeys, newest_root};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token that enrols a device: one, several with --uses, or many tokens at once with --count.
    Token(NewTokenArgs),
    /// Tokens that can still enrol a device: list them, or take one back.
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// List devices, with their labels and what they run.
    List(devices::List),
    /// Show all that is known of a device.
    Show(devices::Show),
    /// Give a device labels (KEY=VALUE) or take them away (KEY-).
    Label(devices::LabelArgs),
    /// Give a device a version of an app, whatever its group gets.
    Pin(devices::Pin),
    /// Let a device follow its group again.
    Unpin(devices::Unpin),
    /// List sites: devices that meet on a LAN, and how often each site fetched a version over its WAN.
    Sites(sites::Sites),
    /// Groups of devices.
    #[command(subcommand)]
    Group(group::Command),
    /// Revoke the key of a device, for ever: the seed refuses it at once, its peers at their next poll.
    Revoke(Revoke),
}

/// `fleet token`.
#[derive(Debug, Args)]
pub struct NewTokenArgs {
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    /// Where the organisation's keys are: the token carries the hash of its root, so that no seed can give a device another.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS", required_unless_present = "managed_keys")]
    keys: Option<PathBuf>,
    /// The seed keeps the organisation's keys (`org create --managed-keys`): take the root that it names.
    #[arg(long)]
    managed_keys: bool,
    /// How long the token can be used, in seconds; at most 30 days.
    #[arg(long, value_name = "N", default_value_t = 86_400)]
    lifetime_seconds: u64,
    /// A label of each device that enrols with one of them. Can be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// How many devices each token enrols, at most 10000: for a factory line that gives every device the same token.
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How many tokens are made, at most 1000, all or none: for a factory line that gives every device its own.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// The only device that the token enrols, by its name.
    #[arg(long, value_name = "ID", conflicts_with_all = ["uses", "count"])]
    device: Option<DeviceId>,
    /// That device may be enrolled already: its old key is revoked, and the new one takes its place.
    #[arg(long, requires = "device")]
    replace: bool,
    #[command(flatten)]
    operator: Operator,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = TokenFormat::Text)]
    output: TokenFormat,
    /// The same as --output json.
    #[arg(long)]
    json: bool,
}

/// How tokens are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenFormat {
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
    /// A line of names, then one line a token: token, expiry.
    Csv,
}

/// `fleet revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The device.
    device: DeviceId,
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    /// Why; kept with the record.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Token(token) => token.run().await,
            Self::Tokens(command) => command.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Label(label) => label.run().await,
            Self::Pin(pin) => pin.run().await,
            Self::Unpin(unpin) => unpin.run().await,
            Self::Sites(sites) => sites.run().await,
            Self::Group(command) => command.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl NewTokenArgs {
    async fn run(self) -> anyhow::Result<()> {
        let count = self.count.unwrap_or(1);
        anyhow::ensure!((1..=TOKENS_MAX).contains(&count), "--count is 1 to {TOKENS_MAX}, not {count}; call the command more than once");
        let api = self.operator.connect()?;
        let root = self.root(&api).await?;
        let trust: SeedTrust = api.get("/api/v1/trust").await?;
        let secrets = (0..count).map(|_| secret()).collect::<anyhow::Result<Vec<_>>>()?;
        let new = NewToken {
            secrets_sha256: secrets.iter().map(|secret| Token::secret_sha256(secret)).collect(),
            lifetime_seconds: self.lifetime_seconds,
            labels: self.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
            uses: self.uses,
            device: self.device.clone(),
            replaces: self.replace,
        };
        let made: TokenMade = api.post(&format!("/api/v1/orgs/{}/tokens", self.org), &new).await?;
        let expires = jiff::Timestamp::from_second(i64::try_from(made.expires.as_unix_seconds())?)?;
        let token = |secret| {
            let SeedTrust { device_url, ca_sha256, .. } = trust.clone();
            Token { device_url, ca_sha256, root_sha256: Digest::sha256(&root), secret }.encode()
        };
        let ids: Vec<String> = new.secrets_sha256.iter().map(token_id).collect();
        let tokens = secrets.into_iter().map(token).collect::<anyhow::Result<Vec<_>>>()?;
        self.print(&tokens, &ids, expires)
    }

    /// The root that a device gets when it enrols: the newest that follows the one beside the keys, where it is kept then. With
    /// managed keys it is the seed that says where this begins.
    async fn root(&self, api: &SeedApi) -> anyhow::Result<Vec<u8>> {
        let source = api.metadata_of(&self.org);
        let unbelieved = "a root of the organisation on the seed cannot be had or is not believed";
        let Some(keys) = self.keys.as_ref().filter(|_| !self.managed_keys) else {
            let first = source.metadata("1.root.json", ROOT_BYTES_MAX).await?.context("the seed has no root of this organisation")?;
            return newest_root(&self.org, &first, &source).await.context(unbelieved);
        };
        let keys = OperatorKeys::load(keys, &self.org)?;
        let kept = keys.trusted_root()?;
        let newest = newest_root(&self.org, &kept, &source).await.context(unbelieved)?;
        if newest != kept {
            keys.store_trusted_root(&newest)?;
        }
        Ok(newest)
    }

    fn print(&self, tokens: &[String], ids: &[String], expires: jiff::Timestamp) -> anyhow::Result<()> {
        let first = tokens.first().context("one token is the least")?;
        if self.output == TokenFormat::Csv {
            let mut lines = "token,expires".to_owned();
            for token in tokens {
                write!(lines, "\n{token},{expires}")?;
            }
            return Output::text().print(&(), || lines);
        }
        let is_json = self.json || self.output == TokenFormat::Json;
        let output = if is_json { Output::json() } else { Output::text() };
        let result = match self.count {
            None => json!({"token": first, "id": ids.first(), "expires": expires}),
            Some(_) => json!({"tokens": tokens, "ids": ids, "expires": expires}),
        };
        output.print(&result, || {
            let devices = match (&self.device, self.uses) {
                (Some(device), _) if self.replace => format!("{device}, in place of its old key"),
                (Some(device), _) => device.to_string(),
                (None, 1) => "one device".to_owned(),
                (None, uses) => format!("{uses} devices"),
            };
            let each = if tokens.len() == 1 { "It" } else { "Each" };
            format!("{}\n\n{each} enrols {devices}, until {expires}:\n  hedgerow device enroll --token TOKEN --data DIR", tokens.join("\n"))
        })
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let path = format!("/api/v1/orgs/{}/devices/{}/revoke", self.org, self.device);
        let revoked: DeviceRevoked = api.post(&path, &RevokeDevice { reason: self.reason }).await?;
        self.output.print(&revoked, || {
            let DeviceRevoked { device, key_sha256, left_out, .. } = &revoked;
            let more = match left_out {
                0 => String::new(),
                _ => format!("\n\n{left_out} keys that were revoked before have no room on the list, so that peers accept them: replace the CA."),
            };
            let again = format!("hedgerow fleet token --org {} --device {device} --replace", self.org);
            format!(
                "{device} is revoked: the seed refuses its key {key_sha256} from now on, its peers from their next poll on.\n\nA device with that \
                 name comes back with a new key alone, and a token of:\n  {again}{more}"
            )
        })
    }
}

fn secret() -> anyhow::Result<String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    Ok(hex::encode(secret))
}
