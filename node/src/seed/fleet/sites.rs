//! The sites of an organisation, for its operators: who polled with whom, and what the devices say of the bytes they fetched.
//!
//! Not here: which devices are one site, and what a copy is; [`protocol::site::members`] decides.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use protocol::name::{AppName, DeviceId, OrgName};
use protocol::site::members::{self, Copies, Member};
use protocol::site::places::Seen;
use protocol::time::Instant;

use super::super::Seed;
use super::super::api::Refused;
use crate::api::{Page, SiteDevice, SitePage, SiteShown, SiteVersion};
use crate::store::meta::MetaError;

/// Sites of a page at most.
const PAGE: usize = 200;

impl Seed {
    /// A page of the organisation's sites.
    ///
    /// # Errors
    /// When the query does not fit, or the store fails.
    pub async fn list_sites(&self, org: &OrgName, page: Page) -> Result<SitePage, Refused> {
        let bad = |error: &dyn std::error::Error| Refused::new(StatusCode::BAD_REQUEST, "bad_device", format!("last: {error}"));
        let last: Option<DeviceId> = page.last.map(|last| last.parse()).transpose().map_err(|error| bad(&error))?;
        let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
        let (known, now) = self.sites.devices(org);
        let members: Vec<Member<'_>> =
            known.iter().map(|(device, seen)| Member { device, site: seen.site.as_deref(), others: &seen.others }).collect();
        let found = members::sites(&members);
        let mut after = found.iter().filter(|site| last.as_ref().is_none_or(|last| site.first() > Some(last)));
        let mut sites = Vec::new();
        for site in after.by_ref().take(limit) {
            sites.push(self.shown_site(org, site, (&known, now)).await?);
        }
        let end = sites.last().and_then(|site: &SiteShown| site.devices.first());
        let next = end.filter(|_| after.next().is_some()).map(|first| first.device.clone());
        Ok(SitePage { sites, next })
    }

    async fn shown_site(
        &self,
        org: &OrgName,
        site: &BTreeSet<DeviceId>,
        (known, now): (&BTreeMap<DeviceId, Seen>, Instant),
    ) -> Result<SiteShown, MetaError> {
        let mut shown = SiteShown { site: None, addresses: BTreeSet::new(), devices: Vec::new(), versions: Vec::new() };
        let mut copies: BTreeMap<(AppName, u64), Copies> = BTreeMap::new();
        for (device, seen) in site.iter().filter_map(|device| known.get_key_value(device)) {
            shown.site = shown.site.or_else(|| seen.site.clone());
            shown.addresses.insert(seen.from);
            let seen_seconds = now.since(seen.at).as_secs();
            shown.devices.push(SiteDevice { device: device.clone(), addresses: seen.addresses.clone(), seen_seconds });
            let report = self.store.report(org, device).await?;
            for (app, said) in report.into_iter().flat_map(|kept| kept.report.apps) {
                if let Some(fetched) = said.fetched {
                    copies.entry((app, said.version)).or_default().add(fetched);
                }
            }
        }
        let versions = copies.into_iter().filter_map(|((app, version), copies)| {
            let (fetched, wan_copies) = (copies.fetched, copies.wan_copies()?);
            let (wan_bytes, lan_bytes) = (fetched.wan_bytes, fetched.lan_bytes);
            Some(SiteVersion { app, version, devices: copies.devices, wan_bytes, lan_bytes, wan_copies })
        });
        shown.versions = versions.collect();
        Ok(shown)
    }
}
