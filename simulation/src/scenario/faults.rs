//! What goes wrong at every site of a run.
//!
//! Not here: deaths of single devices; see [`super::Kill`].

use clap::Args;
use serde::Deserialize;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident: $type:ty = $flag:literal in $unit:literal,)*) => {
        /// What goes wrong at every site; nothing does unless it was chosen.
        #[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[command(next_help_heading = "Faults at every site")]
        pub struct Faults {
            $($(#[$doc])* #[arg(long, value_name = $unit)] pub $fault: Option<$type>,)*
        }

        impl Faults {
            /// These faults, and those of `others` where nothing was chosen.
            #[must_use]
            pub fn or(self, others: Self) -> Self {
                Self { $($fault: self.$fault.or(others.$fault),)* }
            }

            /// The flags that choose these faults.
            pub(crate) fn flags(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
                [$(($flag, self.$fault.map(|value| value.to_string())),)*].into_iter().filter_map(|(flag, value)| Some((flag, value?)))
            }
        }
    };
}

faults! {
    /// Devices, of a hundred, that are slow: the first ones of the site
    slow_percent: u32 = "slow-percent" in "N",
    /// LAN capacity of a slow device, in Mbit/s [default: a tenth of the others']
    slow_mbit: u64 = "slow-mbit" in "MBIT",
    /// Devices that hold the blob from the start and send wrong bytes: the last ones of the site
    liars: u32 = "liars" in "N",
    /// Devices that say they hold the blob and never send: those before the liars
    withholders: u32 = "withholders" in "N",
    /// Devices that start late: those before the withholders
    late: u32 = "late" in "N",
    /// When late devices start [default: 5000]
    late_ms: u64 = "late-ms" in "MS",
    /// When a device that fetches over the WAN is killed
    kill_owner_ms: u64 = "kill-owner-ms" in "MS",
    /// When every second device is killed
    kill_half_ms: u64 = "kill-half-ms" in "MS",
    /// Devices, of a hundred, that are switched off once, at a random moment, and on again with what they stored
    churn_percent: u64 = "churn-percent" in "N",
    /// How long they are off [default: 5000]
    churn_off_ms: u64 = "churn-off-ms" in "MS",
    /// Within this time after their start [default: 30000]
    churn_within_ms: u64 = "churn-within-ms" in "MS",
    /// Sites, of a hundred, that have no WAN at first
    offline_percent: u64 = "offline-percent" in "N",
    /// Until when [default: 30000]
    offline_until_ms: u64 = "offline-until-ms" in "MS",
    /// When a site falls apart in two halves that reach the seed, but not each other: devices with even and with odd indices
    partition_ms: u64 = "partition-ms" in "MS",
    /// How long it stays apart; requests across are lost, messages come late [default: 5000]
    partition_for_ms: u64 = "partition-for-ms" in "MS",
    /// When the WAN is cut
    wan_cut_ms: u64 = "wan-cut-ms" in "MS",
    /// How long it stays cut [default: 5000]
    wan_cut_for_ms: u64 = "wan-cut-for-ms" in "MS",
}

/// What a device is to its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It wants the blob.
    Honest,
    /// It wants the blob, but starts late.
    Late,
    /// It holds the blob and never sends.
    Withholder,
    /// It holds the blob and sends wrong bytes.
    Liar,
}

impl Role {
    /// Whether it wants the blob and is to be complete in the end.
    pub(crate) const fn receives(self) -> bool {
        matches!(self, Self::Honest | Self::Late)
    }
}

impl Faults {
    /// The role of the device with `index` at a site of `devices`.
    pub(crate) fn role(&self, index: u32, devices: u32) -> Role {
        let from_last = devices - 1 - index;
        let (liars, withholders) = (self.liars.unwrap_or(0), self.withholders.unwrap_or(0));
        if from_last < liars {
            Role::Liar
        } else if from_last < liars + withholders {
            Role::Withholder
        } else if from_last < liars + withholders + self.late.unwrap_or(0) {
            Role::Late
        } else {
            Role::Honest
        }
    }

    /// When late devices start.
    pub(crate) fn late_ms(&self) -> u64 {
        self.late_ms.unwrap_or(5000)
    }

    /// How long a site stays apart, if it falls apart.
    pub(crate) fn partition_for_ms(&self) -> u64 {
        self.partition_for_ms.unwrap_or(5000)
    }

    /// How long the WAN stays cut, if it is.
    pub(crate) fn wan_cut_for_ms(&self) -> u64 {
        self.wan_cut_for_ms.unwrap_or(5000)
    }

    /// How long a device that is switched off stays so.
    pub(crate) fn churn_off_ms(&self) -> u64 {
        self.churn_off_ms.unwrap_or(5000)
    }

    /// The time within which devices are switched off.
    pub(crate) fn churn_within_ms(&self) -> u64 {
        self.churn_within_ms.unwrap_or(30_000)
    }

    /// Until when a site that is offline at first has no WAN.
    pub(crate) fn offline_until_ms(&self) -> u64 {
        self.offline_until_ms.unwrap_or(30_000)
    }

    /// Devices that want the blob, of `devices` at a site.
    pub(crate) fn receivers(&self, devices: u32) -> u32 {
        devices.saturating_sub(self.liars.unwrap_or(0) + self.withholders.unwrap_or(0))
    }

    /// How many of `devices` at a site are slow.
    pub(crate) fn slow(&self, devices: u32) -> u32 {
        (devices * self.slow_percent.unwrap_or(0)).div_ceil(100)
    }

    /// The capacity of the device with `index`, where others have `lan_mbit`.
    pub(crate) fn lan_mbit(&self, index: u32, devices: u32, lan_mbit: u64) -> u64 {
        if index < self.slow(devices) { self.slow_mbit.unwrap_or((lan_mbit / 10).max(1)) } else { lan_mbit }
    }
}
