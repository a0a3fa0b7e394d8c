//! What the roles that people sign bind a device to, beyond the versions that they list: floors that never go down by an older
//! role, and the moment at which the first of them expires.
//!
//! Not here: which role decides; see [`protocol::statement::floor`].

use protocol::name::AppName;
use protocol::statement::floor::RoleFloor;
use protocol::time::WallTime;
use sigstore_tuf::Targets;

use super::super::metadata;
use super::super::refused::TrustRefused;
use super::VerifiedRepository;

/// The largest file that keeps a floor: a few identities of keys.
const FLOOR_BYTES_MAX: usize = 64 << 10;

impl VerifiedRepository {
    /// When the first of the roles expires that people sign and that `apps` depend on, of those that this machine has.
    pub fn roles_expire(&self, apps: &[&AppName]) -> Option<WallTime> {
        let targets = self.updater.trusted().targets_role("targets")?.expires;
        let apps = apps.iter().filter_map(|app| {
            let loaded = self.updater.trusted().targets_role(&metadata::role_name(app)).map(|role| role.expires);
            loaded.or_else(|| self.kept_app_role(app).ok().map(|role| role.expires))
        });
        let first = apps.chain([targets, self.updater.root().expires]).min()?;
        Some(WallTime::from_unix_seconds(u64::try_from(first.as_second()).unwrap_or(0)))
    }

    /// The least version of `app` that may be started, as the newest role that this machine has says it; 0 if it says none.
    ///
    /// # Errors
    /// When there is no role of the app here, or it does not verify.
    pub fn floor(&self, app: &AppName) -> Result<u64, TrustRefused> {
        Ok(self.terms(app)?.0)
    }

    /// The same, and when that role expires.
    ///
    /// # Errors
    /// Likewise.
    pub fn terms(&self, app: &AppName) -> Result<(u64, WallTime), TrustRefused> {
        let name = metadata::role_name(app);
        let terms = |role: &Targets, targets: &Targets| Ok((self.decisive_floor(app, role, targets)?.floor, expiry(role)));
        match (self.updater.trusted().targets_role(&name), self.targets()) {
            (Some(role), Some(targets)) => terms(role, targets),
            _ => {
                let (root, role) = (self.updater.root(), self.kept_app_role(app)?);
                let targets = self.updater.kept_role("targets", &root.keys, root.role("targets"))?;
                terms(&role, &targets)
            }
        }
    }

    /// What decides about the floor of `app`, with its verified `role` and the `targets` that delegate it.
    fn decisive_floor(&self, app: &AppName, role: &Targets, targets: &Targets) -> Result<RoleFloor, TrustRefused> {
        let name = metadata::role_name(app);
        let delegated = targets.delegations.iter().flat_map(|delegations| &delegations.roles).find(|found| found.name == name);
        let keyids = delegated.map(|role| role.keyids.iter().cloned().collect()).unwrap_or_default();
        let found = RoleFloor { version: role.version, floor: metadata::floor(&name, role)?, keyids };
        Ok(RoleFloor::after(self.held_floor(app), found))
    }

    fn held_floor(&self, app: &AppName) -> Option<RoleFloor> {
        serde_json::from_slice(&self.updater.cache().load(&held_floor_file(app), FLOOR_BYTES_MAX)?).ok()
    }

    /// Keeps what decides about the floor of `app`, whose role is loaded.
    pub(super) async fn hold_floor(&self, app: &AppName) -> Result<(), TrustRefused> {
        let role = self.updater.trusted().targets_role(&metadata::role_name(app));
        let (Some(role), Some(targets)) = (role, self.targets()) else { return Ok(()) };
        let decisive = self.decisive_floor(app, role, targets)?;
        if self.held_floor(app).as_ref() == Some(&decisive) {
            return Ok(());
        }
        let name = held_floor_file(app);
        let malformed = |error: serde_json::Error| TrustRefused::Malformed { file: name.clone(), detail: error.to_string() };
        let bytes = serde_json::to_vec(&decisive).map_err(malformed)?;
        self.updater.cache().store(&name, &bytes).await
    }
}

fn expiry(role: &Targets) -> WallTime {
    WallTime::from_unix_seconds(u64::try_from(role.expires.as_second()).unwrap_or(0))
}

/// Where it is kept what decides about the floor of an app.
fn held_floor_file(app: &AppName) -> String {
    format!("floors/{app}.json")
}
