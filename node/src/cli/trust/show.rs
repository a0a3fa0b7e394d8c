//! What is in force: roles, keys, thresholds, expiries, floors, and the freeze window.
//!
//! Not here: changing it; see [`super::ceremony`].

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::Ceremony;
use super::ceremony::Session;
use crate::clock::wall_time;
use crate::trust::client::RoleInForce;
use crate::trust::proposal::short;

/// `trust show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    ceremony: Ceremony,
}

/// `trust expire-soon`.
#[derive(Debug, Args)]
pub struct ExpireSoon {
    #[command(flatten)]
    ceremony: Ceremony,
    /// How soon, in days.
    #[arg(long, value_name = "N", default_value_t = 60)]
    days: u64,
}

/// A role as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    role: String,
    version: u64,
    expires: String,
    threshold: usize,
    keys: Vec<ShownKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownKey {
    keyid: String,
    /// Its name, if it is on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    here: Option<String>,
}

impl Session {
    async fn roles(&mut self) -> anyhow::Result<Vec<RoleInForce>> {
        self.apps(None).await?;
        Ok(self.view.roles_in_force()?)
    }

    fn shown(&self, role: &RoleInForce) -> Shown {
        let keys = role.keyids.iter().map(|keyid| ShownKey { keyid: keyid.clone(), here: self.keys.name_of(keyid).map(str::to_owned) });
        Shown {
            role: role.name.clone(),
            version: role.version,
            expires: role.expires.to_string(),
            threshold: role.threshold,
            keys: keys.collect(),
            floor: role.floor,
        }
    }
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut session = self.ceremony.open().await?;
        let roles = session.roles().await?;
        let shown: Vec<Shown> = roles.iter().map(|role| session.shown(role)).collect();
        let freeze = roles.iter().filter(|role| !role.is_online).map(|role| role.expires).min();
        let freeze = freeze.map(|expires| expires.to_string());
        let (epoch, grants) = (session.view.online_key().epoch, session.view.allows_grants());
        let result = json!({ "org": session.org, "epoch": epoch, "grants": grants, "roles": shown, "freeze_until": freeze });
        session.output.print(&result, || {
            let mut lines: Vec<String> = shown.iter().map(describe).collect();
            lines.push(format!("epoch {epoch}; grants {}", if grants { "count" } else { "do not count" }));
            if let Some(freeze) = freeze {
                lines.push(format!(
                    "a seed that is taken over could hold devices at what they have until {freeze}, when the first role expires that it \
                     cannot renew; it can make them run nothing that these keys did not sign"
                ));
            }
            lines.join("\n")
        })
    }
}

impl ExpireSoon {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut session = self.ceremony.open().await?;
        let roles = session.roles().await?;
        let until = wall_time().plus_seconds(self.days.saturating_mul(86_400)).as_unix_seconds();
        let soon = |role: &&RoleInForce| !role.is_online && u64::try_from(role.expires.as_second()).is_ok_and(|expires| expires <= until);
        let soon: Vec<Shown> = roles.iter().filter(soon).map(|role| session.shown(role)).collect();
        session.output.print(&json!({ "org": session.org, "expire_soon": soon }), || {
            let lines: Vec<String> = soon.iter().map(|role| format!("{} expires at {}", role.role, role.expires)).collect();
            if lines.is_empty() { format!("nothing expires within {} days", self.days) } else { lines.join("\n") }
        })?;
        if soon.is_empty() {
            return Ok(());
        }
        anyhow::bail!(
            "{} roles expire within {} days; sign them anew with `hedgerow trust renew {} ROLE`",
            soon.len(),
            self.days,
            session.org
        )
    }
}

fn describe(role: &Shown) -> String {
    let key =
        |key: &ShownKey| key.here.as_ref().map_or_else(|| short(&key.keyid).to_owned(), |name| format!("{} ({name})", short(&key.keyid)));
    let keys: Vec<String> = role.keys.iter().map(key).collect();
    let floor = role.floor.filter(|floor| *floor > 0).map(|floor| format!("; no version below {floor}")).unwrap_or_default();
    format!("{:<20} version {:<4} until {}  {} of {}{floor}", role.role, role.version, role.expires, role.threshold, keys.join(", "))
}
