//! The documents of a simulated rollout: version 1 and 2 of one app, for one group that every device is in. Unsigned: the
//! feature `simulated` accepts them.
//!
//! Not here: who is told of them, and when.

use std::collections::BTreeMap;

use protocol::digest::Digest;
use protocol::name::{AppName, DeviceId, GroupName, OrgName, Platform};
use protocol::rollout::machine::Rollout;
use protocol::statement::assignment::{self, AcceptedAssignment, Assignment};
use protocol::statement::desired::{self, AcceptedDesiredState, Before, Counter, DesiredApp, DesiredState};
use protocol::statement::version::{self, AcceptedStatement, Descriptor, Image, StatedBlob, VersionStatement};
use protocol::time::WallTime;

const EXPIRES: WallTime = WallTime::from_unix_seconds(u64::MAX / 2);

pub(super) fn org() -> Option<OrgName> {
    "acme".parse().ok()
}

pub(super) fn app() -> Option<AppName> {
    "web".parse().ok()
}

pub(super) fn platform() -> Option<Platform> {
    "linux-amd64".parse().ok()
}

pub(super) fn statement(version: u64) -> Option<AcceptedStatement> {
    let name = |part: &str| Digest::sha256(format!("{part} of version {version}").as_bytes());
    let manifest = Descriptor { media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(), digest: name("manifest"), size: 1 };
    let layer =
        StatedBlob { media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(), digest: name("layer"), size: 1, hash_list: None };
    let image = Image { repository: "acme/web".parse().ok()?, tag: "1".parse().ok()?, index: None, manifest, blobs: vec![layer] };
    let (org, app, platform) = (org()?, app()?, platform()?);
    Some(AcceptedStatement::simulated(VersionStatement { format: version::FORMAT, org, app, version, platform, images: vec![image] }))
}

pub(super) fn desired(rollout: &Rollout, counter: u64, statements: &[AcceptedStatement; 2], now: WallTime) -> Option<AcceptedDesiredState> {
    let names = |version: usize| Some(BTreeMap::from([(platform()?, statements[version - 1].digest())]));
    let before = rollout.tells_before().then(|| Some(Before { version: 1, statements: names(1)? })).flatten();
    let app_state =
        DesiredApp { version: 2, rollout: rollout.id.clone(), statements: names(2)?, activation: rollout.activation(now), before };
    Some(AcceptedDesiredState::simulated(DesiredState {
        format: desired::FORMAT,
        org: org()?,
        group: GroupName::all(),
        counter: Counter { epoch: 1, n: counter },
        expires: EXPIRES,
        apps: BTreeMap::from([(app()?, app_state)]),
    }))
}

/// What assigns a device to the group of all.
pub(super) fn assignment(device: &DeviceId) -> Option<AcceptedAssignment> {
    Some(AcceptedAssignment::simulated(Assignment {
        format: assignment::FORMAT,
        org: org()?,
        device: device.clone(),
        counter: Counter { epoch: 1, n: 1 },
        expires: EXPIRES,
        otherwise: GroupName::all(),
        apps: BTreeMap::new(),
    }))
}
