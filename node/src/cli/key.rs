//! `hedgerow key …`: access keys of an organisation.
//!
//! Not here: the keys that sign versions; see [`super::org`] and [`crate::trust`].

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use protocol::name::OrgName;
use protocol::time::WallTime;
use serde_json::{Value, json};

use super::Output;
use super::operator::Operator;
use crate::api::{KeyListed, KeyMade, NewKey};
use crate::clock::wall_time;
use crate::store::meta::Scope;

const SECONDS_PER_DAY: u64 = 86_400;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an access key, for example one for CI that only pushes.
    Create(Create),
    /// List the access keys, without their secrets.
    List(List),
    /// Revoke an access key: it is refused from the next request on.
    Revoke(Revoke),
}

/// `key create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The organisation that the key acts for.
    #[arg(long)]
    org: OrgName,
    /// What the key may do: pull, push, delete, publish, admin, separated by commas; and seed, which creates organisations
    /// and is given by a key that has it.
    #[arg(long = "scope", value_name = "SCOPES", value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// What the key is for, as `key list` shows it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// From when on the key is refused: in so many days, as 90d, or from the beginning of a day in UTC, as 2027-01-31.
    /// Default: never.
    #[arg(long, value_name = "DAYSd|DATE")]
    expires: Option<Expiry>,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `key list`.
#[derive(Debug, Args)]
pub struct List {
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `key revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The key's public part, as `key list` shows it.
    id: String,
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// When a key expires, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    InDays(u32),
    On(WallTime),
}

impl std::str::FromStr for Expiry {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse().ok()) {
            return Ok(Self::InDays(days));
        }
        let date: Date =
            text.parse().ok().context("write it as a number of days, for example 90d, or as a date, for example 2027-01-31")?;
        let seconds = date.to_zoned(TimeZone::UTC)?.timestamp().as_second();
        Ok(Self::On(WallTime::from_unix_seconds(u64::try_from(seconds).context("the date is before 1970")?)))
    }
}

impl Expiry {
    const fn after(self, now: WallTime) -> WallTime {
        match self {
            Self::InDays(days) => now.plus_seconds(days as u64 * SECONDS_PER_DAY),
            Self::On(time) => time,
        }
    }
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let expires = self.expires.map(|expiry| expiry.after(wall_time()));
        let new = NewKey { scopes: self.scopes, label: self.label, expires };
        if new.scopes.contains(&Scope::Push) && !new.scopes.contains(&Scope::Pull) {
            tracing::warn!("most clients ask whether a blob is there before they push it, which needs pull; make the key with pull,push");
        }
        let made: KeyMade = self.operator.connect()?.post(&path(&self.org), &new).await?;
        let mut result = shown(&made.key)?;
        result["access_key"] = json!(made.access_key);
        let until = until(&made.key)?;
        self.output.print(&result, || {
            let (id, org) = (&made.key.id, &made.key.org);
            format!(
                "access key {}\n\nIt is not shown again. It acts for {org} {until}; to revoke it:\n  hedgerow key revoke {id} --org {org}",
                made.access_key
            )
        })
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let keys: Vec<KeyListed> = self.operator.connect()?.get(&path(&self.org)).await?;
        let shown: Vec<Value> = keys.iter().map(shown).collect::<anyhow::Result<_>>()?;
        let lines: Vec<String> = keys.iter().map(line).collect::<anyhow::Result<_>>()?;
        self.output.print(&json!({ "keys": shown }), || lines.join("\n"))
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        self.operator.connect()?.delete(&format!("{}/{}", path(&self.org), self.id)).await?;
        self.output.print(&json!({ "id": self.id, "org": self.org }), || format!("access key {} of {} is revoked", self.id, self.org))
    }
}

fn path(org: &OrgName) -> String {
    format!("/api/v1/orgs/{org}/keys")
}

fn shown(key: &KeyListed) -> anyhow::Result<Value> {
    let mut shown = serde_json::to_value(key)?;
    shown["created"] = json!(timestamp(key.created)?);
    shown["expires"] = json!(key.expires.map(timestamp).transpose()?);
    Ok(shown)
}

fn line(key: &KeyListed) -> anyhow::Result<String> {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    Ok(format!("{}  {}  {}  {}", key.id, scopes.join(","), until(key)?, key.label).trim_end().to_owned())
}

fn until(key: &KeyListed) -> anyhow::Result<String> {
    Ok(key.expires.map(timestamp).transpose()?.map_or_else(|| "until it is revoked".to_owned(), |time| format!("until {time}")))
}

fn timestamp(time: WallTime) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_second(i64::try_from(time.as_unix_seconds())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_expires_in_days_or_on_a_date() {
        let now = WallTime::from_unix_seconds(1_000);
        let after = |text: &str| text.parse::<Expiry>().unwrap().after(now).as_unix_seconds();
        assert_eq!((after("90d"), after("2027-01-31")), (1_000 + 90 * 86_400, 1_801_353_600));
        for wrong in ["", "d", "90", "-1d", "1.5d", "31.01.2027", "2027-02-30", "1969-12-31", "90 d"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
    }
}
