//! `hedgerow fleet sites`.
//!
//! Not here: which devices are one site; see [`protocol::site::members`].

use clap::Args;
use protocol::name::OrgName;

use crate::api::{SitePage, SiteShown};
use crate::cli::Output;
use crate::cli::operator::Operator;

/// `fleet sites`.
#[derive(Debug, Args)]
pub struct Sites {
    /// The organisation.
    #[arg(long)]
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

impl Sites {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let mut found = SitePage { sites: Vec::new(), next: None };
        loop {
            let query: Vec<(&str, String)> = found.next.take().map(|last| ("last", last.to_string())).into_iter().collect();
            let page: SitePage = api.get_with(&format!("/api/v1/orgs/{}/sites", self.org), &query).await?;
            found.sites.extend(page.sites);
            found.next = page.next;
            if found.next.is_none() {
                break;
            }
        }
        self.output.print(&found, || match found.sites.is_empty() {
            true => "no site; devices are known here once they have polled since the seed was started".to_owned(),
            false => found.sites.iter().map(describe).collect::<Vec<_>>().join("\n"),
        })
    }
}

fn describe(site: &SiteShown) -> String {
    let addresses: Vec<String> = site.addresses.iter().map(ToString::to_string).collect();
    let name = site.site.as_ref().map_or_else(|| "site".to_owned(), |name| name.escape_debug().to_string());
    let mut lines = vec![format!("{name} behind {}: {} devices", addresses.join(", "), site.devices.len())];
    for device in &site.devices {
        let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("  {:<24}{:<40}{} s ago", device.device, addresses.join(" "), device.seen_seconds));
    }
    for said in &site.versions {
        let (wan, lan, copies) = (said.wan_bytes, said.lan_bytes, said.wan_copies);
        lines.push(format!(
            "  {} v{}: {copies:.3} copies over the WAN on {} devices ({wan} B from the seed, {lan} B from peers)",
            said.app, said.version, said.devices
        ));
    }
    lines.join("\n")
}
