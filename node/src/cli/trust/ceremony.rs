//! Changes of who may sign: made here, written to a file for others to sign, or put in force at once.
//!
//! Not here: what is in force; see [`super::show`].

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use ed25519_dalek::VerifyingKey;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName};
use serde_json::json;

use super::{Ceremony, Role};
use crate::api::SeedTrust;
use crate::cli::Output;
use crate::cli::operator::{Operator, SeedApi};
use crate::clock::wall_time;
use crate::files::{self, Access};
use crate::trust::authorities::named_authorities;
use crate::trust::change::{KeysWanted, RootWanted, prepare_apps, prepare_root, prepare_targets};
use crate::trust::operator_keys::{APP_KEY, ROOT_KEY, TARGETS_KEY, read_public};
use crate::trust::proposal::{Change, PROPOSAL_BYTES_MAX, Proposal};
use crate::trust::{OperatorKeys, Refreshed, TrustChange, TrustRefused, VerifiedRepository, passphrase};

/// `trust rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    ceremony: Ceremony,
    /// root, targets or app (the key of this machine that has the role's name), or online: the key that the seed has now. With it
    /// timestamps, snapshots and all counters start anew: for a seed that was taken over, after `seed new-online-key`.
    role: Role,
    /// With online: the keys that were revoked so far are accepted again, unless the seed revokes them anew. For a seed that was
    /// taken over and revoked devices; after a restored backup devices go on to refuse them.
    #[arg(long)]
    forget_revocations: bool,
    /// Write the change to this file, for others to sign, instead of putting it in force.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `trust add-key`.
#[derive(Debug, Args)]
pub struct AddKey {
    #[command(flatten)]
    ceremony: Ceremony,
    /// root, targets, app (every app) or app:NAME.
    role: Role,
    /// The public key, PEM: the file NAME.pub beside the private key.
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// How many keys of the role must sign from now on; default: as many as before.
    #[arg(long, value_name = "N")]
    threshold: Option<usize>,
    /// Write the change to this file, for others to sign, instead of putting it in force.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `trust remove-key`.
#[derive(Debug, Args)]
pub struct RemoveKey {
    #[command(flatten)]
    ceremony: Ceremony,
    /// root, targets, app (every app) or app:NAME.
    role: Role,
    /// The key's identity, or its beginning, as `trust show` prints it.
    #[arg(long, value_name = "KEYID")]
    key: String,
    /// How many keys of the role must sign from now on; default: as many as before.
    #[arg(long, value_name = "N")]
    threshold: Option<usize>,
    /// Write the change to this file, for others to sign, instead of putting it in force.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `trust renew`.
#[derive(Debug, Args)]
pub struct Renew {
    #[command(flatten)]
    ceremony: Ceremony,
    /// root, targets, app (every app) or app:NAME.
    role: Role,
    /// With app:NAME: the least version that devices may start from now on.
    #[arg(long, value_name = "N")]
    floor: Option<u64>,
    /// Let the floor go down: devices may start versions again that were ruled out.
    #[arg(long, requires = "floor")]
    lower_floor: bool,
    /// Write the change to this file, for others to sign, instead of putting it in force.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Whether grants count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Grants {
    /// They do, where a device cannot ask the seed.
    Allow,
    /// They do not.
    Refuse,
}

/// `trust set`.
#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    ceremony: Ceremony,
    /// Let timestamps, snapshots, the counters of desired states and the floor of the devices' clocks start anew: after a restored
    /// backup, or when the seed's clock was ahead. A seed that was taken over needs a new key besides: `trust rotate ORG online`.
    #[arg(long)]
    raise_epoch: bool,
    /// Whether grants of the app keys count.
    #[arg(long, value_enum)]
    grants: Option<Grants>,
    /// A certificate authority that devices trust from now on, by its SHA-256 as `hedgerow seed ca show` prints it on the seed;
    /// repeatable. Those that are not named are trusted no more.
    #[arg(long = "authority", value_name = "SHA256")]
    authorities: Vec<Digest>,
    /// Write the change to this file, for others to sign, instead of putting it in force.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `trust sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// The proposal, as a command with --out wrote it; the signatures are added to it.
    file: PathBuf,
    /// Where the organisation's keys and root are.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
    /// Sign although a floor goes down: devices may start versions again that were ruled out.
    #[arg(long)]
    lower_floor: bool,
    /// Say what would be signed, and sign nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// `trust publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// The proposal.
    file: PathBuf,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// A ceremony at work: the keys here, and what is in force.
pub(super) struct Session {
    pub(super) org: OrgName,
    pub(super) keys: OperatorKeys,
    pub(super) api: SeedApi,
    pub(super) view: VerifiedRepository,
    pub(super) output: Output,
}

impl Ceremony {
    /// Refreshes what is in force. What has expired is looked at too, because it is here that it is renewed.
    pub(super) async fn open(self) -> anyhow::Result<Session> {
        let unbelieved = "the organisation's metadata on the seed cannot be had or is not believed";
        let (session, refused) = self.look().await?;
        refused.map_or(Ok(session), |refused| Err(refused).context(unbelieved))
    }

    /// The same for a root with which everything online begins anew: what the seed has may be older than what this machine saw.
    pub(super) async fn open_to_begin_anew(self) -> anyhow::Result<Session> {
        let (session, refused) = self.look().await?;
        let Some(refused) = refused else { return Ok(session) };
        tracing::warn!(%refused, "the seed has other metadata than this machine saw, as after a restored backup; looking at it anew");
        let scratch = session.keys.dir().join("trust-anew");
        let removed = std::fs::remove_dir_all(&scratch);
        ensure!(removed.is_ok() || !scratch.exists(), "{} cannot be removed", scratch.display());
        let mut view = VerifiedRepository::open(&scratch, &session.org, session.view.root())?;
        let looked = view.refresh(wall_time(), &session.api.metadata_of(&session.org), None).await;
        expired_or(looked).map_or(Ok(()), Err).context("the organisation's metadata on the seed is not believed")?;
        Ok(Session { view, ..session })
    }

    /// Refreshes, and says what was refused besides what has expired.
    async fn look(self) -> anyhow::Result<(Session, Option<TrustRefused>)> {
        let Self { org, keys, operator, output } = self;
        let (api, keys) = (operator.connect()?, OperatorKeys::load(&keys, &org)?);
        let mut view = VerifiedRepository::open(&keys.dir().join("trust"), &org, &keys.trusted_root()?)?;
        let refused = expired_or(view.refresh(wall_time(), &api.metadata_of(&org), None).await);
        warn_of_expiry(&view);
        Ok((Session { org, keys, api, view, output }, refused))
    }
}

/// What was refused. What has expired is not: it is looked at too, because it is here that it is renewed.
fn expired_or(looked: Result<Refreshed, TrustRefused>) -> Option<TrustRefused> {
    match looked.err()? {
        error @ TrustRefused::Expired { .. } => {
            tracing::warn!(%error, "something has expired");
            None
        }
        refused => Some(refused),
    }
}

impl Session {
    /// Loads the roles of `wanted`, or of every app.
    pub(super) async fn apps(&mut self, wanted: Option<AppName>) -> anyhow::Result<Vec<AppName>> {
        let apps = wanted.map_or_else(|| self.view.apps(), |app| vec![app]);
        for app in &apps {
            self.view.published(app, &self.api.metadata_of(&self.org)).await?;
        }
        Ok(apps)
    }

    async fn change_keys(&mut self, role: Role, wanted: &KeysWanted) -> anyhow::Result<TrustChange> {
        let (view, keys, now, root) = (&self.view, &self.keys, wall_time(), RootWanted::default());
        Ok(match role {
            Role::Root => prepare_root(view, keys, Some(("root", wanted)), &root, now)?,
            Role::Targets => prepare_root(view, keys, Some(("targets", wanted)), &root, now)?,
            Role::Apps(app) => {
                let apps = self.apps(app).await?;
                prepare_apps(&self.view, &self.keys, &apps, wanted, None, now)?
            }
            Role::Online => bail!("the online key is the seed's; `hedgerow trust rotate {} online` takes the one it has now", self.org),
        })
    }

    /// The key `name` by a new one. If an earlier attempt made the new one already, it is that one: the step was not put in
    /// force then, and the old key still signs.
    fn replaced(&mut self, role: &Role, name: &str) -> anyhow::Result<KeysWanted> {
        let in_force: Vec<String> =
            self.view.roles_in_force()?.into_iter().filter(|found| role.covers(&found.name)).flat_map(|found| found.keyids).collect();
        let current = self.keys.keyid(name)?;
        if in_force.is_empty() || in_force.contains(&current) {
            let add = vec![self.keys.replace(name, passphrase::for_new()?.as_deref())?];
            return Ok(KeysWanted { add, remove: vec![current], threshold: None });
        }
        let retired = in_force.into_iter().find(|keyid| self.keys.name_of(keyid).is_some_and(|found| found.starts_with("retired/")));
        let old = retired
            .with_context(|| format!("neither the key {name} nor one that it replaced may sign; `hedgerow trust show` lists who may"))?;
        Ok(KeysWanted { add: vec![self.keys.public(name)?], remove: vec![old], threshold: None })
    }

    /// The certificates with these fingerprints, of those that the seed offers and those that the root names already.
    async fn authorities(&self, wanted: &[Digest]) -> anyhow::Result<Vec<String>> {
        let offered: SeedTrust = self.api.get("/api/v1/trust").await?;
        let decoded = offered.authorities.iter().filter_map(|authority| STANDARD.decode(authority).ok());
        let named = named_authorities(self.view.root())?.unwrap_or_default();
        let known: Vec<Vec<u8>> = decoded.chain(named.iter().map(|certificate| certificate.to_vec())).collect();
        let find = |wanted: &Digest| {
            let found = known.iter().find(|certificate| Digest::sha256(certificate) == *wanted);
            let known = || known.iter().map(|known| Digest::sha256(known).to_string()).collect::<Vec<_>>().join(", ");
            found
                .map(|certificate| STANDARD.encode(certificate))
                .with_context(|| format!("neither the seed nor the root has the authority {wanted}; they have {}", known()))
        };
        wanted.iter().map(find).collect()
    }

    /// Writes the change to `out`, or puts it in force if enough people have signed.
    async fn finish(self, change: TrustChange, out: Option<PathBuf>, lower_floor: bool) -> anyhow::Result<()> {
        let change = TrustChange { lower_floor, ..change };
        let proposal = Proposal::new(&self.view, &self.api.metadata_of(&self.org), Change::Trust(change)).await?;
        let read = proposal.read(&self.keys.trusted_root()?)?;
        if !read.lowered.is_empty() && !lower_floor {
            bail!("{}; if that is wanted, say --lower-floor", read.lowered.join("; "));
        }
        let missing = proposal.missing(&read)?;
        let text = read.words.join("\n");
        if let Some(out) = out {
            files::replace(&out, proposal.to_text().as_bytes(), Access::Public)?;
            let written = json!({ "org": self.org, "file": out, "changes": read.words, "missing": missing });
            return self.output.print(&written, || {
                format!("{text}\nwritten to {}; signatures still missing:\n{}", out.display(), describe_missing(&missing))
            });
        }
        if !missing.is_empty() {
            bail!(
                "signatures are missing: {}; write the change to a file with --out FILE, and let the others `trust sign` it",
                missing.join("; ")
            );
        }
        put_in_force(&self.api, &proposal).await?;
        let done = json!({ "org": self.org, "changes": read.words });
        self.output.print(&done, || format!("{text}\nin force"))
    }
}

impl Rotate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self { ceremony, role, forget_revocations, out } = self;
        ensure!(!forget_revocations || role == Role::Online, "--forget-revocations goes with the role online");
        if role == Role::Online {
            let session = ceremony.open_to_begin_anew().await?;
            let trust: SeedTrust = session.api.get("/api/v1/trust").await?;
            let online = hex::decode(&trust.online_key).ok().and_then(|raw| VerifyingKey::try_from(raw.as_slice()).ok());
            let online = Some(online.context("the seed's online key cannot be read")?);
            let wanted = RootWanted { online, raise_epoch: true, forget_revocations, ..RootWanted::default() };
            let change = prepare_root(&session.view, &session.keys, None, &wanted, wall_time())?;
            return session.finish(change, out, false).await;
        }
        let mut session = ceremony.open().await?;
        let name = match &role {
            Role::Root => ROOT_KEY,
            Role::Targets => TARGETS_KEY,
            Role::Apps(None) => APP_KEY,
            Role::Apps(Some(_)) | Role::Online => {
                bail!("the key of this machine signs for every app: rotate app, or add and remove keys of one")
            }
        };
        // Loaded before the key is replaced: what cannot be signed for must not leave a new key behind.
        let apps = if role == Role::Apps(None) { session.apps(None).await? } else { Vec::new() };
        let wanted = session.replaced(&role, name)?;
        if role == Role::Apps(None) && apps.is_empty() {
            return session.output.print(&json!({ "org": session.org, "changes": [] }), || {
                "the key is new; no app was published with the old one".to_owned()
            });
        }
        let change = session.change_keys(role, &wanted).await?;
        session.finish(change, out, false).await
    }
}

impl AddKey {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut session = self.ceremony.open().await?;
        let wanted = KeysWanted { add: vec![read_public(&self.public)?], remove: Vec::new(), threshold: self.threshold };
        let change = session.change_keys(self.role, &wanted).await?;
        session.finish(change, self.out, false).await
    }
}

impl RemoveKey {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut session = self.ceremony.open().await?;
        let wanted = KeysWanted { add: Vec::new(), remove: vec![self.key], threshold: self.threshold };
        let change = session.change_keys(self.role, &wanted).await?;
        session.finish(change, self.out, false).await
    }
}

impl Renew {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut session = self.ceremony.open().await?;
        ensure!(self.floor.is_none() || matches!(self.role, Role::Apps(Some(_))), "--floor goes with the role app:NAME");
        let now = wall_time();
        let change = match self.role {
            Role::Root => prepare_root(&session.view, &session.keys, None, &RootWanted::default(), now)?,
            Role::Targets => prepare_targets(&session.view, &session.keys, now)?,
            Role::Apps(app) => {
                let apps = session.apps(app).await?;
                prepare_apps(&session.view, &session.keys, &apps, &KeysWanted::default(), self.floor, now)?
            }
            Role::Online => bail!("the seed renews what it signs by itself"),
        };
        session.finish(change, self.out, self.lower_floor).await
    }
}

impl Set {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let says_nothing = !self.raise_epoch && self.grants.is_none() && self.authorities.is_empty();
        ensure!(!says_nothing, "say what to change: --raise-epoch, --grants, --authority");
        let session = if self.raise_epoch { self.ceremony.open_to_begin_anew().await? } else { self.ceremony.open().await? };
        let grants = self.grants.map(|grants| grants == Grants::Allow);
        let authorities = if self.authorities.is_empty() { None } else { Some(session.authorities(&self.authorities).await?) };
        let wanted = RootWanted { raise_epoch: self.raise_epoch, grants, authorities, ..RootWanted::default() };
        let change = prepare_root(&session.view, &session.keys, None, &wanted, wall_time())?;
        session.finish(change, self.out, false).await
    }
}

impl Sign {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut proposal = Proposal::parse(&files::read_small(&self.file, PROPOSAL_BYTES_MAX)?)?;
        let keys = OperatorKeys::load(&self.keys, &proposal.org)?;
        let anchor = keys.trusted_root().context("this machine does not have the organisation's root; copy root.json from another")?;
        let read = proposal.read(&anchor)?;
        if !read.lowered.is_empty() && !self.lower_floor {
            bail!("{}; if that is wanted, say --lower-floor", read.lowered.join("; "));
        }
        let added = if self.dry_run { 0 } else { proposal.sign(&read, &keys)? };
        if added > 0 {
            files::replace(&self.file, proposal.to_text().as_bytes(), Access::Public)?;
        }
        let missing = proposal.missing(&read)?;
        let signed = json!({ "org": proposal.org, "changes": read.words, "signatures_added": added, "missing": missing });
        self.output.print(&signed, || {
            let words = read.words.join("\n");
            format!("{words}\n{added} signatures added; still missing:\n{}", describe_missing(&missing))
        })
    }
}

impl Publish {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let proposal = Proposal::parse(&files::read_small(&self.file, PROPOSAL_BYTES_MAX)?)?;
        put_in_force(&self.operator.connect()?, &proposal).await?;
        self.output.print(&json!({ "org": proposal.org }), || format!("{}: in force", proposal.org))
    }
}

/// Hands a proposal to the seed, which checks it as a device would.
async fn put_in_force(api: &SeedApi, proposal: &Proposal) -> anyhow::Result<()> {
    match &proposal.change {
        Change::Version(publication) => {
            let _: crate::api::Published = api.post(&format!("/api/v1/orgs/{}/versions", proposal.org), publication).await?;
        }
        Change::Trust(change) => api.put_trust(&proposal.org, change).await?,
    }
    Ok(())
}

/// Says which roles people have to sign anew soon.
fn warn_of_expiry(view: &VerifiedRepository) {
    for role in view.expiring(wall_time()) {
        tracing::warn!(role = role.name, expires = %role.expires, "sign it anew with `hedgerow trust renew`, or devices stop trusting it");
    }
}

fn describe_missing(missing: &[String]) -> String {
    if missing.is_empty() { "none: `hedgerow trust publish FILE` puts it in force".to_owned() } else { missing.join("\n") }
}
